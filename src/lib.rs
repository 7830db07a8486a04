//! Find out who stands between an Azure VM and the storage its backup snapshots need.

pub mod azure;
pub mod classify;
pub mod discover;
pub mod http;
pub mod model;
pub mod plan;
pub mod report;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "lab")]
pub mod lab;
#[cfg(feature = "probe")]
pub mod probe;
#[cfg(feature = "scenario")]
pub mod scenario;
