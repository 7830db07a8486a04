//! The case suite for forward proxies: what a proxy does with CONNECT and with plain requests, seen from both sides, as
//! client and origin are both ours.
//!
//! A run surveys the doors of the origin, tries each [`Case`], and draws [`Judgement`]s from what was seen; nothing is
//! sent but to the proxy. Measuring and judging are two functions of each case, side by side in `cases/`; the judging one
//! is pure.

mod case;
mod cases;
mod compare;
pub mod fixes;
pub mod product;
mod profile;
pub mod report;
mod rig;
mod run;
mod validation;

pub use case::{Case, Figure, Judgement, Level, Outcome, Remedy, Turn, Unit};
pub use cases::catalogue;
pub use compare::{Change, Comparison, Difference};
pub use profile::{Profile, ProfileError, names};
pub use rig::Options;
pub use run::{Progress, Request, Run, Tried, locate, look_up, run};
pub use validation::{Context, Counts, Origin, Validation};
