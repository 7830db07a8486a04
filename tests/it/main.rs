//! The one integration binary.
#![cfg(feature = "cli")]

mod budgets;
mod cli;
mod cuts;
mod exchange;
mod hostile;
mod interface;
mod namespaces;
mod readme;
mod real_proxies;
mod replies;
mod resolvers;
mod scenarios;
mod secrets;
mod support;
mod traces;
