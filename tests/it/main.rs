//! The one integration binary.

mod cli;
mod hostile;
mod namespaces;
mod real_proxies;
mod secrets;
mod support;
