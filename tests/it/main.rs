//! The one integration binary.
#![cfg(feature = "cli")]

mod budgets;
mod cli;
mod cuts;
mod exchange;
mod golden;
mod host;
mod hostile;
mod interface;
mod lab_command;
mod namespaces;
mod played;
mod readme;
mod real_proxies;
mod replies;
mod resolvers;
mod scenario_command;
mod scenarios;
mod secrets;
mod support;
mod traces;
