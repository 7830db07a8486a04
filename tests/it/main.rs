//! The one integration binary.
#![cfg(feature = "cli")]

mod bench_command;
mod budgets;
mod cli;
mod conformance;
mod cuts;
mod discovery;
mod estate;
mod exchange;
mod golden;
mod host;
mod hostile;
mod interface;
mod lab_command;
mod limits;
mod namespaces;
mod netns;
mod nsg;
mod played;
mod predictions;
mod programs;
mod proxy_command;
mod readme;
mod real_proxies;
mod recipes;
mod replies;
mod resolvers;
mod rollout;
mod scenario_command;
mod scenarios;
mod secrets;
mod security;
mod support;
mod traces;
mod triage;
mod windows;
