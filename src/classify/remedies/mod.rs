//! What to do about a finding: the code says what happened, the hop who acts, the situation fills in the names.
//!
//! One file for each concern: `facts` puts the situation into the form that commands need, `ways` weighs how storage
//! comes within reach, `nsg`, `firewall`, `proxy`, `agent` and `windows` know the configuration of one thing each, and
//! the rest is one file for the codes of a layer.

mod agent;
mod dns;
mod facts;
mod firewall;
mod host;
mod http;
pub(crate) mod lines;
mod local;
mod meta;
mod network;
mod nsg;
mod observe;
mod products;
mod proxy;
mod rule;
mod storage;
mod tls;
mod transfer;
mod triage;
mod tunnel;
mod ways;
mod windows;

#[cfg(test)]
mod tests;

use facts::Facts;
pub(super) use nsg::add_rule;

use super::catalogue::Situation;
use crate::model::{Code, Form, Remedy};

/// More remedies than this help nobody.
const MOST: usize = 3;

/// What to do, best first, at most three. Facts that the situation knows are filled in; what it cannot know stands in
/// capitals (`RG`, `NSG`, `NIC`, `VM_SUBNET`, `BELOW_THE_DENY`) or, for the region, as `Storage.<region>`.
pub(super) fn remedies(code: Code, situation: &Situation<'_>) -> Vec<Remedy> {
    let facts = Facts::of(situation);
    let layer = code.0.split('.').next().unwrap_or_default();
    let mut list = match layer {
        "local" => local::remedies(code, &facts),
        "config" => agent::config(code, &facts),
        "dns" => dns::remedies(code, &facts),
        "tcp" | "path" => network::remedies(code, &facts),
        "proxy" => proxy::remedies(code, &facts),
        "tunnel" => tunnel::remedies(code, &facts),
        "tls" => tls::remedies(code, &facts),
        "http" => http::remedies(code, &facts),
        "storage" => storage::remedies(code, &facts),
        "host" => host::remedies(code, &facts),
        "consumer" => agent::consumer(code, &facts),
        "nsg" => nsg::remedies(code, &facts),
        "transfer" => transfer::remedies(code, &facts),
        "triage" => triage::remedies(code),
        _ => meta::remedies(code, &facts),
    };
    list.truncate(MOST);
    list
}

/// A remedy from a sentence and its lines.
fn remedy<S: Into<String>>(title: impl Into<String>, commands: impl IntoIterator<Item = S>) -> Remedy {
    Remedy { title: title.into(), commands: commands.into_iter().map(Into::into).collect(), ..Remedy::default() }
}

/// The lines of a remedy for another tool.
fn form<S: Into<String>>(tool: &str, commands: impl IntoIterator<Item = S>) -> Form {
    Form { tool: tool.to_owned(), commands: commands.into_iter().map(Into::into).collect() }
}
