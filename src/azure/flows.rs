//! Which flows a run probed, and what the files given say about each of them.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use super::{
    nsg::{Compiled, Destination, Protocol, Question},
    storage,
};
use crate::model::{Context, Evidence, FlowVerdict, Layer, Observation, Record, Route, Security, Target};

/// Judges every flow that the run probed: each address of a target on the direct route, and the proxy's on the other.
/// Their source is the machine's address, its region that of the context.
#[must_use]
pub fn judge(record: &Record, policy: &Compiled) -> Security {
    let context = &record.context;
    let instance = context.discovery.as_ref().and_then(|discovery| discovery.instance.as_ref());
    let region = context.region.as_deref().or(instance.map(|instance| instance.region.as_str()));
    let storage: HashMap<String, bool> =
        record.targets.iter().map(|target| (target.authority(), is_storage(target))).collect();
    let proxy = context.proxy.as_deref().map(authority);
    let mut seen = BTreeSet::new();
    let mut flows: Vec<FlowVerdict> = Vec::new();
    let probed = record.observations.iter().filter(|o| o.control.is_none() && o.host_service.is_none());
    for observation in probed {
        let (Some(address), Some(local)) = (observation.address, connected_from(observation)) else { continue };
        let subject = match observation.route {
            Route::Direct => &*observation.subject,
            Route::Proxy => proxy.unwrap_or_default(),
        };
        if !seen.insert((subject, address)) {
            continue;
        }
        flows.push(policy.judge(&Question {
            subject,
            destination: Destination::Address(address.ip()),
            port: address.port(),
            protocol: Protocol::Tcp,
            source: source(local, context),
            region: region.filter(|region| !region.is_empty()),
            storage: observation.route == Route::Direct && storage.get(subject).copied().unwrap_or_default(),
        }));
    }
    let files = policy.policy();
    Security { sources: files.sources().to_vec(), notes: files.notes().to_vec(), flows }
}

fn is_storage(target: &Target) -> bool {
    target.host.name().is_some_and(storage::is_storage_name)
}

/// From where a walk tried to connect, if it came so far.
fn connected_from(observation: &Observation) -> Option<Option<IpAddr>> {
    let step = observation.steps.iter().find(|step| step.layer() == Layer::Connect)?;
    match &step.evidence {
        Evidence::Connect(connect) => Some(connect.local.map(|local| local.ip().to_canonical())),
        _ => None,
    }
}

/// The machine's address as its virtual network knows it: where the connection came from, else what metadata says.
fn source(local: Option<IpAddr>, context: &Context) -> Option<IpAddr> {
    // A connection over loopback went to a lab, or to a proxy on this machine.
    let own = local.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    own.or_else(|| context.discovery.as_ref()?.instance.as_ref()?.addresses.first().copied())
}

/// `host:port` of a proxy's URL.
fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}
