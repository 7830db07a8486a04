//! The one integration binary.
#![cfg(feature = "cli")]

mod cli;
mod hostile;
mod namespaces;
mod readme;
mod real_proxies;
mod replies;
mod scenarios;
mod secrets;
mod support;
