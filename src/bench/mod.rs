//! How much a path carries, and whether it carries less than another.
//!
//! A [`Setup`] says what is done again and again, over which path and how fast; the [`engine`] does it for a while and
//! gives a [`Measurement`], which adds up exactly with others. Two paths are measured in turn ([`compare`]), slice by
//! slice, and the pure [`gate`] decides from the pairs whether the second is worse; what it rests on is in
//! [`statistics`]. [`report`] prints it.

mod baseline;
pub mod compare;
mod distribution;
pub mod engine;
pub mod gate;
mod measurement;
mod merge;
pub mod report;
mod run;
mod setup;
pub mod statistics;
mod verdict;

pub use baseline::against_baseline;
pub use distribution::Distribution;
pub use measurement::{Cpu, Failures, Lateness, Measurement, Part, Tcp, Tick, TickAt};
pub use merge::{MergeError, merge};
pub use run::{ArmInfo, Environment, ReadError, Run, Settings, Status, Verdict};
pub use setup::{Arm, Form, Load, Setup, Workload};
pub use verdict::verdict;
