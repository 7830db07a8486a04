//! Which flows a run probed, and what the files given say about each of them.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use super::{
    nsg::{Compiled, Destination, Protocol, Question},
    storage,
};
use crate::model::{ConnectEvidence, Context, Evidence, FlowVerdict, Observation, Record, Route, Security, Target};

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
        let (Some(address), Some(connect)) = (observation.address, connect(observation)) else { continue };
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
            source: source(connect, context),
            region: region.filter(|region| !region.is_empty()),
            storage: observation.route == Route::Direct && storage.get(subject).copied().unwrap_or_default(),
        }));
    }
    policy.keep_apart(&mut flows);
    let files = policy.policy();
    Security { sources: files.sources().to_vec(), notes: files.notes().to_vec(), flows }
}

fn is_storage(target: &Target) -> bool {
    target.host.name().is_some_and(storage::is_storage_name)
}

/// The first connection of a walk, if it came so far.
fn connect(observation: &Observation) -> Option<&ConnectEvidence> {
    observation.steps.iter().find_map(|step| match &step.evidence {
        Evidence::Connect(connect) => Some(connect),
        _ => None,
    })
}

/// The machine's address as its virtual network knows it: where the connection came from, else what metadata says.
fn source(connect: &ConnectEvidence, context: &Context) -> Option<IpAddr> {
    // A connection over loopback went to a lab, or to a proxy on this machine.
    let own = connect.local.map(|local| local.ip().to_canonical());
    let own = own.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    own.or_else(|| context.discovery.as_ref()?.instance.as_ref()?.addresses.first().copied())
}

/// `host:port` of a proxy's URL.
fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        azure::nsg::Policy,
        classify::testing::{Walk, record},
        model::{Control, Decision, Discovery, FailureKind, Instance},
    };

    const RULES: &str = r#"[{"name": "Deny_All", "priority": 1000, "direction": "Outbound", "access": "Deny",
        "protocol": "*", "sourceAddressPrefix": "10.1.0.4", "sourcePortRange": "*", "destinationAddressPrefix": "*",
        "destinationPortRange": "*"}]"#;

    fn policy() -> Compiled {
        Compiled::new(Policy::read(&[("nsg.json", RULES.as_bytes())]).unwrap())
    }

    fn from(mut walk: Walk, local: &str) -> Walk {
        if let Some(Evidence::Connect(connect)) = walk.0.steps.first_mut().map(|step| &mut step.evidence) {
            connect.local = Some(local.parse().unwrap());
        }
        walk
    }

    #[test]
    fn each_address_that_was_dialled_is_one_flow() {
        let target = "acct.blob.core.windows.net:443";
        let silent = |ip: &str| from(Walk::direct(target, ip).connect_fails(FailureKind::TimedOut), "10.1.0.4:40000");
        let proxied = from(Walk::proxied(target).connected().tunnelled(), "10.1.0.4:40002");
        let control = silent("20.60.1.3").control(Control::SmallSegments { mss: 500 });
        let never = Walk::direct(target, "20.60.1.4");
        let host = Walk::to_host(80).connected();
        let walks = vec![
            silent("20.60.1.1"),
            silent("20.60.1.1"),
            silent("20.60.1.2"),
            proxied.clone(),
            proxied,
            control,
            never,
            host,
        ];
        let mut record = record(&["https://acct.blob.core.windows.net"], walks);
        record.context.proxy = Some("http://10.0.0.5:3128".into());
        record.context.region = Some("westeurope".into());
        let security = judge(&record, &policy());
        let flows: Vec<(&str, String, Decision)> = security
            .flows
            .iter()
            .map(|flow| (flow.subject.as_str(), flow.address.unwrap().to_string(), flow.decision))
            .collect();
        assert_eq!(
            flows,
            [
                (target, "20.60.1.1".to_owned(), Decision::Denied),
                (target, "20.60.1.2".to_owned(), Decision::Denied),
                ("10.0.0.5:3128", "10.0.0.5".to_owned(), Decision::Denied),
            ]
        );
        let rule = |at: usize| security.flows[at].suggestion.as_ref().unwrap();
        assert_eq!((rule(0).destination.as_str(), rule(2).destination.as_str()), ("Storage.WestEurope", "10.0.0.5"));
        assert_eq!(rule(0).priority, rule(1).priority, "one rule for both addresses");
        assert_ne!(rule(0).priority, rule(2).priority, "rules that go into the same group");
        assert_eq!(security.sources.len(), 1);
    }

    #[test]
    fn the_source_is_the_machines_address_in_its_network() {
        let walk = |local: &str| from(Walk::direct("10.9.0.1:443", "10.9.0.1").connected(), local);
        let decision = |local: &str, metadata: Option<&str>| {
            let mut record = record(&["tcp://10.9.0.1:443"], [walk(local)]);
            let addresses = metadata.map(|ip| ip.parse().unwrap()).into_iter().collect();
            let instance = Some(Instance { addresses, ..Instance::default() });
            record.context.discovery = Some(Discovery { instance, ..Discovery::default() }.into());
            judge(&record, &policy()).flows[0].decision
        };
        assert_eq!(decision("10.1.0.4:1", None), Decision::Denied);
        assert_eq!(decision("127.0.0.1:1", Some("10.1.0.4")), Decision::Denied);
        assert_eq!(decision("[::ffff:10.1.0.4]:1", Some("10.1.0.9")), Decision::Denied);
        assert_ne!(decision("10.1.0.9:1", Some("10.1.0.4")), Decision::Denied);
        assert_ne!(decision("127.0.0.1:1", None), Decision::Denied);
    }
}
