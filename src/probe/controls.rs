//! Which extra probe would tell the causes of a failure apart. Choosing a question is not judging the answer: that is
//! left to the classifier.

use crate::{
    model::{Control, Evidence, FailureKind, IcmpFamily, Leg, Route, Step, Target},
    plan::Plan,
};

/// A name that no storage rule mentions (RFC 2606), for the question whether the server name decides.
const OTHER_NAME: &str = "www.example.com";

/// The default send size of IPv4 (RFC 9293 section 3.7.1): it passes every path.
const SMALL_MSS: u32 = 536;

/// The control worth running after this walk, if any.
pub(super) fn after(plan: &Plan, target: usize, route: Route, steps: &[Step]) -> Option<Control> {
    let step = steps.last()?;
    let failure = step.failure.as_ref()?;
    let target = &plan.targets[target];
    match (&step.evidence, step.leg) {
        (Evidence::Handshake(tls), Leg::Origin) if tls.bytes_read == 0 && tls.bytes_sent > 0 => match failure.kind {
            FailureKind::Reset | FailureKind::Closed => {
                target.host.name().map(|_| Control::OtherServerName { sni: OTHER_NAME.into() })
            }
            FailureKind::TimedOut if route == Route::Direct => Some(Control::SmallSegments { mss: SMALL_MSS }),
            _ => None,
        },
        (Evidence::Tunnel(tunnel), Leg::Proxy) => match failure.kind {
            FailureKind::Status if tunnel.reply.as_ref().is_some_and(|reply| reply.status == 403) => {
                (!planned_on_another_port(plan, target) && target.port != super::walk::OTHER_PORT)
                    .then_some(Control::OtherPort)
            }
            FailureKind::Closed | FailureKind::Reset | FailureKind::TimedOut if tunnel.bytes_read == 0 => {
                Some(Control::OtherProxyScheme)
            }
            FailureKind::NotHttp => Some(Control::OtherProxyScheme),
            _ => None,
        },
        (Evidence::Handshake(_), Leg::Proxy) => match failure.kind {
            FailureKind::NotTls | FailureKind::Closed | FailureKind::Reset | FailureKind::TimedOut => {
                Some(Control::OtherProxyScheme)
            }
            _ => None,
        },
        _ => None,
    }
}

/// What a walk tells about the way to the address that it dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connects {
    /// A connection stood.
    Yes,
    /// The network, or the peer, gave none.
    No,
    /// The walk did not get so far as to tell: this machine, or the end of the run, stopped it.
    Unknown,
}

/// Whether the walk found a way to the address.
pub(super) fn connects(steps: &[Step]) -> Connects {
    let Some((Step { evidence: Evidence::Connect(connect), failure, .. }, _)) = steps.split_first() else {
        return Connects::Unknown;
    };
    let from_network = connect.icmp.is_some_and(|icmp| {
        icmp.family != IcmpFamily::Local
            && icmp.sender.is_some()
            && icmp.sender != connect.local.map(|local| local.ip())
    });
    match failure.as_ref().map(|failure| failure.kind) {
        None => Connects::Yes,
        Some(FailureKind::TimedOut | FailureKind::Refused) => Connects::No,
        Some(_) if from_network => Connects::No,
        Some(_) => Connects::Unknown,
    }
}

fn planned_on_another_port(plan: &Plan, target: &Target) -> bool {
    plan.targets.iter().any(|other| other.host == target.host && other.port != target.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectEvidence, Failure, IcmpError};

    #[test]
    fn only_the_network_and_the_peer_are_worth_a_trace() {
        let icmp = |family, sender: &str| Some(IcmpError { family, kind: 3, code: 1, sender: sender.parse().ok() });
        let (router, own) = (icmp(IcmpFamily::V4, "10.0.0.1"), icmp(IcmpFamily::V4, "10.0.0.4"));
        for (kind, icmp, expected) in [
            (None, None, Connects::Yes),
            (Some(FailureKind::TimedOut), None, Connects::No),
            (Some(FailureKind::Refused), None, Connects::No),
            (Some(FailureKind::HostUnreachable), router, Connects::No),
            (Some(FailureKind::PermissionDenied), router, Connects::No),
            (Some(FailureKind::HostUnreachable), own, Connects::Unknown),
            (Some(FailureKind::HostUnreachable), None, Connects::Unknown),
            (Some(FailureKind::HostUnreachable), icmp(IcmpFamily::Local, ""), Connects::Unknown),
            (Some(FailureKind::FileDescriptors), None, Connects::Unknown),
            (Some(FailureKind::Cancelled), None, Connects::Unknown),
        ] {
            let evidence = Evidence::Connect(ConnectEvidence {
                peer: "192.0.2.1:443".parse().unwrap(),
                dialled: None,
                local: Some("10.0.0.4:40000".parse().unwrap()),
                tcp: None,
                icmp,
                path: Vec::new(),
            });
            let failure = kind.map(|kind| Failure::new(kind, "x"));
            let step = Step { leg: Leg::Origin, start_us: 0, elapsed_us: 1, evidence, failure };
            assert_eq!(connects(&[step]), expected, "{kind:?} {icmp:?}");
        }
        assert_eq!(connects(&[]), Connects::Unknown);
    }
}
