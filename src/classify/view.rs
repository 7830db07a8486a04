//! One observation with what a rule needs to know about its target.

use std::net::IpAddr;

use crate::{
    azure,
    http::{Parsed, Reply, parse_head},
    model::{
        ConnectEvidence, Evidence, Excerpt, ExchangeEvidence, Expectation, Failure, FailureKind, HandshakeEvidence,
        IcmpFamily, Layer, Leg, Observation, RequestEvidence, ResolveEvidence, Route, Scheme, Step, Target, TcpInfo,
        TcpState, TunnelEvidence, Verification,
    },
};

/// An observation and the target that it probes.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) observation: &'a Observation,
    pub(super) target: Option<&'a Target>,
}

/// One step of an observation, with the rest in reach.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) view: View<'a>,
    pub(super) step: &'a Step,
}

impl<'a> View<'a> {
    pub(super) fn at(self, layer: Layer, leg: Leg) -> Option<At<'a>> {
        self.observation.step(layer, leg).map(|step| At { view: self, step })
    }

    pub(super) fn steps(self) -> impl DoubleEndedIterator<Item = At<'a>> {
        self.observation.steps.iter().map(move |step| At { view: self, step })
    }

    pub(super) fn last(self) -> Option<At<'a>> {
        self.steps().next_back()
    }

    /// The host that was probed or looked up.
    pub(super) fn host(self) -> &'a str {
        let subject: &'a str = &self.observation.subject;
        if self.observation.is_lookup() { subject } else { host_of(subject) }
    }

    /// Whether storage should answer.
    pub(super) fn expects_storage(self) -> bool {
        match self.target {
            Some(target) => target.expects == Expectation::Storage,
            None => azure::storage::is_storage_name(self.host()),
        }
    }

    /// Whether storage should answer under one of its own names.
    pub(super) fn is_storage_name(self) -> bool {
        let name = self.target.map_or(Some(self.host()), |target| target.host.name());
        self.expects_storage() && name.is_some_and(azure::storage::is_storage_name)
    }

    /// Whether the name was dialled at another address than its own (`--connect-to`), so without a lookup: a rehearsal with
    /// a stand-in for storage, whose authority stands for a public one.
    pub(super) fn is_rehearsed(self) -> bool {
        let named = self.target.is_some_and(|target| target.host.name().is_some());
        self.observation.route == Route::Direct && self.observation.parent.is_none() && named
    }

    pub(super) fn is_tunnelled(self) -> bool {
        self.observation.route == Route::Proxy
    }

    /// Whether the walk went without a failure as far as its target demands, every certificate on the way proved its
    /// owner, and the request, if there was one, was answered.
    pub(super) fn is_complete(self) -> bool {
        let Some(last) = self.last() else { return false };
        let asked = self.observation.host_service.map(|_| Scheme::Http);
        let scheme = self.target.map(|target| target.scheme).or(asked);
        let proved = |at: At<'_>| at.handshake().is_none_or(|h| h.verification == Some(Verification::Trusted));
        let far_enough = match last.step.layer() {
            Layer::Resolve => true,
            Layer::Request if last.exchange().is_some() => matches!(scheme, None | Some(Scheme::Tcp)),
            Layer::Request => {
                let tls = self.at(Layer::Handshake, Leg::Origin).is_some();
                self.reply().is_some() && scheme.is_none_or(|scheme| tls || !scheme.has_tls())
            }
            Layer::Handshake => {
                last.step.leg == Leg::Origin && matches!(scheme, None | Some(Scheme::Tls | Scheme::Tcp))
            }
            Layer::Tunnel => matches!(scheme, None | Some(Scheme::Tcp)),
            Layer::Connect => last.step.leg == Leg::Origin && matches!(scheme, None | Some(Scheme::Tcp)),
        };
        last.stopped_by().is_none() && far_enough && self.steps().all(proved)
    }

    /// The endpoint's reply to the request, if one came.
    pub(super) fn reply(self) -> Option<&'a Reply> {
        self.at(Layer::Request, Leg::Origin)?.request()?.reply.as_ref()
    }

    /// What an exchange with an origin of snapreach's own showed, if the walk came so far.
    pub(super) fn exchange(self) -> Option<&'a ExchangeEvidence> {
        self.at(Layer::Request, Leg::Origin)?.exchange()
    }

    /// From the start of the first step to the end of the last, in microseconds.
    pub(super) fn elapsed_us(self) -> u64 {
        let steps = &self.observation.steps;
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return 0 };
        last.start_us.saturating_add(last.elapsed_us).saturating_sub(first.start_us)
    }

    pub(super) fn ip(self) -> Option<IpAddr> {
        self.observation.address.map(|address| address.ip().to_canonical())
    }
}

impl<'a> At<'a> {
    pub(super) fn failure(self) -> Option<&'a Failure> {
        self.step.failure.as_ref()
    }

    /// The failure, unless it only says that the answer to the request has an unwelcome status: then the answer speaks.
    pub(super) fn stopped_by(self) -> Option<&'a Failure> {
        let answered = self.request().is_some_and(|request| request.reply.is_some());
        self.failure().filter(|failure| !(answered && failure.kind == FailureKind::Status))
    }

    pub(super) fn errno(self) -> Option<i32> {
        self.failure()?.errno
    }

    pub(super) fn resolve(self) -> Option<&'a ResolveEvidence> {
        if let Evidence::Resolve(evidence) = &self.step.evidence { Some(evidence) } else { None }
    }

    pub(super) fn connect(self) -> Option<&'a ConnectEvidence> {
        if let Evidence::Connect(evidence) = &self.step.evidence { Some(evidence) } else { None }
    }

    pub(super) fn tunnel(self) -> Option<&'a TunnelEvidence> {
        if let Evidence::Tunnel(evidence) = &self.step.evidence { Some(evidence) } else { None }
    }

    pub(super) fn handshake(self) -> Option<&'a HandshakeEvidence> {
        if let Evidence::Handshake(evidence) = &self.step.evidence { Some(evidence) } else { None }
    }

    pub(super) fn request(self) -> Option<&'a RequestEvidence> {
        if let Evidence::Request(evidence) = &self.step.evidence { Some(evidence) } else { None }
    }

    pub(super) fn exchange(self) -> Option<&'a ExchangeEvidence> {
        self.request()?.exchange.as_deref()
    }

    pub(super) fn bytes_read(self) -> u64 {
        match &self.step.evidence {
            Evidence::Tunnel(evidence) => evidence.bytes_read,
            Evidence::Handshake(evidence) => evidence.bytes_read,
            Evidence::Request(evidence) => evidence.bytes_read,
            Evidence::Resolve(_) | Evidence::Connect(_) => 0,
        }
    }

    pub(super) fn tcp(self) -> Option<&'a TcpInfo> {
        match &self.step.evidence {
            Evidence::Connect(evidence) => evidence.tcp.as_ref(),
            Evidence::Tunnel(evidence) => evidence.tcp.as_ref(),
            Evidence::Handshake(evidence) => evidence.tcp.as_ref(),
            Evidence::Request(evidence) => evidence.tcp.as_ref(),
            Evidence::Resolve(_) => None,
        }
    }

    pub(super) fn first_bytes(self) -> Option<&'a Excerpt> {
        match &self.step.evidence {
            Evidence::Tunnel(evidence) => evidence.first_bytes.as_ref(),
            Evidence::Handshake(evidence) => evidence.first_bytes.as_ref(),
            Evidence::Request(evidence) => evidence.first_bytes.as_ref(),
            Evidence::Resolve(_) | Evidence::Connect(_) => None,
        }
    }

    /// The response code of the lookup: of its first question that was answered with one other than NOERROR.
    pub(super) fn rcode(self) -> Option<u16> {
        self.resolve()?.answers.iter().filter_map(|answer| answer.rcode).find(|&rcode| rcode != 0)
    }

    /// Whether an ICMP error from the network (not from this machine's own stack) came.
    pub(super) fn icmp_from_network(self) -> bool {
        self.connect().and_then(|c| c.icmp).is_some_and(|icmp| icmp.family != IcmpFamily::Local)
    }

    /// Whether this machine's own packet filter answered the SYN with an ICMP error. A host unreachable that comes late
    /// is no filter: nobody on the link answered for the address.
    pub(super) fn icmp_from_self(self) -> bool {
        const HOST_UNREACHABLE: (u8, u8) = (3, 1);
        const ADDRESS_UNREACHABLE: (u8, u8) = (1, 3);
        self.connect().is_some_and(|connect| {
            let (Some(icmp), Some(local)) = (connect.icmp, connect.local) else { return false };
            let unresolved = match icmp.family {
                IcmpFamily::V4 => (icmp.kind, icmp.code) == HOST_UNREACHABLE,
                IcmpFamily::V6 => (icmp.kind, icmp.code) == ADDRESS_UNREACHABLE,
                IcmpFamily::Local => return false,
            };
            icmp.sender == Some(local.ip()) && !(unresolved && self.step.elapsed_us > 500_000)
        })
    }

    /// Whether an ICMP error says that an administrator forbids it: codes 9, 10 and 13 of type 3 (RFC 1812 section
    /// 5.2.7.1), codes 1, 5 and 6 of `ICMPv6` type 1 (RFC 4443 section 3.1).
    pub(super) fn icmp_prohibited(self) -> bool {
        self.connect().and_then(|c| c.icmp).is_some_and(|icmp| match icmp.family {
            IcmpFamily::V4 => icmp.kind == 3 && matches!(icmp.code, 9 | 10 | 13),
            IcmpFamily::V6 => icmp.kind == 1 && matches!(icmp.code, 1 | 5 | 6),
            IcmpFamily::Local => false,
        })
    }

    /// Whether the kernel sent the SYN again but none of the repetitions left this machine.
    pub(super) fn syn_never_left(self) -> bool {
        self.tcp().is_some_and(|tcp| {
            tcp.state == TcpState::SynSent && tcp.retransmitted >= 1 && tcp.retransmitted_in_flight == 0
        })
    }

    /// Whether what this side sent was never acknowledged, although it was sent again.
    pub(super) fn is_unacknowledged(self) -> bool {
        self.tcp().is_some_and(|tcp| tcp.state != TcpState::SynSent && tcp.unacked > 0 && tcp.retransmitted > 0)
    }

    /// The first bytes as an HTTP answer, if they are one.
    pub(super) fn first_bytes_as_reply(self) -> Option<Reply> {
        as_reply(self.first_bytes()?)
    }
}

/// The kept bytes as an HTTP answer: head and the beginning of the body. A head that breaks off is read as far as it
/// goes.
pub(super) fn as_reply(excerpt: &Excerpt) -> Option<Reply> {
    let mut bytes = excerpt.to_bytes();
    if !bytes.get(..5).is_some_and(|magic| magic.eq_ignore_ascii_case(b"HTTP/")) {
        return None;
    }
    if let Ok(Parsed::Partial) = parse_head(&bytes, 0) {
        let end = bytes.iter().rposition(|&b| b == b'\n')?;
        bytes.truncate(end + 1);
        bytes.extend(b"\r\n");
    }
    match parse_head(&bytes, 0) {
        Ok(Parsed::Complete(mut reply, length)) => {
            let body = bytes.get(length..).unwrap_or_default();
            reply.body = Excerpt::whole(body);
            Some(*reply)
        }
        Ok(Parsed::Partial) | Err(_) => None,
    }
}

/// The host of `host:port`, without brackets.
pub(super) fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// `host` and `port` of `host:port`.
pub(super) fn split_authority(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_split_with_and_without_brackets() {
        assert_eq!(host_of("acct.blob.core.windows.net:443"), "acct.blob.core.windows.net");
        assert_eq!(host_of("[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(split_authority("[::1]:80"), Some(("[::1]", 80)));
        assert_eq!(split_authority("host"), None);
    }

    #[test]
    fn a_page_read_inside_a_tunnel_is_an_answer_even_when_cut() {
        let whole = as_reply(&Excerpt::whole(b"HTTP/1.1 500 x\r\nServer: squid\r\n\r\n<html>")).unwrap();
        assert_eq!((whole.status, whole.body.text.as_str()), (500, "<html>"));
        let cut = as_reply(&Excerpt::new(b"HTTP/1.1 403 Forbidden\r\nServer: squid\r\nVi", 64, 999)).unwrap();
        assert_eq!((cut.status, cut.header("server")), (403, Some("squid")));
        assert_eq!(as_reply(&Excerpt::whole(b"SSH-2.0-x\r\n")), None);
    }
}
