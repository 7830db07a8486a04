//! From observations to findings: pure, total, deterministic.

pub mod catalogue;
pub mod codes;
pub mod explain;
mod remedies;
