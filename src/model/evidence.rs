//! What each layer leaves behind, success or not.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Excerpt, Layer, Redactor};
use crate::{exchange::Exchange, http::Reply};

/// The evidence of one step. Its variant is the step's layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "layer", content = "evidence", rename_all = "snake_case")]
pub enum Evidence {
    /// A name lookup.
    Resolve(Box<ResolveEvidence>),
    /// A TCP connect.
    Connect(ConnectEvidence),
    /// A CONNECT request to a proxy.
    Tunnel(Box<TunnelEvidence>),
    /// A TLS handshake.
    Handshake(Box<HandshakeEvidence>),
    /// One HTTP request.
    Request(Box<RequestEvidence>),
}

impl Evidence {
    /// The layer that this evidence belongs to.
    #[must_use]
    pub fn layer(&self) -> Layer {
        match self {
            Self::Resolve(_) => Layer::Resolve,
            Self::Connect(_) => Layer::Connect,
            Self::Tunnel(_) => Layer::Tunnel,
            Self::Handshake(_) => Layer::Handshake,
            Self::Request(_) => Layer::Request,
        }
    }

    /// Removes secrets that a peer echoed.
    pub fn scrub(&mut self, redactor: &Redactor) {
        match self {
            Self::Resolve(e) => {
                for ede in e.answers.iter_mut().flat_map(|answer| &mut answer.extended_errors) {
                    redactor.scrub(&mut ede.text);
                }
            }
            Self::Connect(_) => {}
            Self::Tunnel(e) => {
                if let Some(reply) = &mut e.reply {
                    reply.scrub(redactor);
                }
                for excerpt in [&mut e.early, &mut e.first_bytes].into_iter().flatten() {
                    excerpt.scrub(redactor);
                }
            }
            Self::Handshake(e) => {
                if let Some(excerpt) = &mut e.first_bytes {
                    excerpt.scrub(redactor);
                }
            }
            Self::Request(e) => {
                if let Some(reply) = &mut e.reply {
                    reply.scrub(redactor);
                }
                let came = e.exchange.as_mut().and_then(|exchange| exchange.came.as_mut());
                for excerpt in [e.first_bytes.as_mut(), came].into_iter().flatten() {
                    excerpt.scrub(redactor);
                }
            }
        }
    }
}

// ---- resolve

/// Who was asked for addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolverView {
    /// The system resolver (getaddrinfo): hosts file, nsswitch, search list; what the extension uses.
    System,
    /// One name server, asked directly.
    Server,
}

/// UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// UDP, the first try.
    Udp,
    /// TCP, after a truncated answer.
    Tcp,
}

/// A lookup of one name in one view: the A and AAAA questions together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveEvidence {
    /// Who was asked.
    pub view: ResolverView,
    /// The name server's address, for [`ResolverView::Server`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// The addresses found, in the order in which they will be tried, without duplicates.
    pub addresses: Vec<Address>,
    /// One entry per question asked of a name server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<DnsAnswer>,
    /// Addresses that the hosts file pins for this name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts_file: Vec<IpAddr>,
}

impl ResolveEvidence {
    /// Whether the addresses are those that the hosts file pins, so that no name server had a say.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        !self.addresses.is_empty() && self.addresses.iter().all(|address| self.hosts_file.contains(&address.ip))
    }
}

/// An address and how long it may be cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Time to live in seconds, where the view shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// What a name server said to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAnswer {
    /// `A` or `AAAA`.
    pub question: String,
    /// How the answer came.
    pub transport: Transport,
    /// From the first question byte to the answer, in microseconds, all tries included.
    pub elapsed_us: u64,
    /// Datagrams sent.
    pub tries: u8,
    /// The response code (RFC 6895), extended by EDNS; `None` when no usable answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<u16>,
    /// Extended DNS errors (RFC 8914).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_errors: Vec<ExtendedError>,
    /// The CNAME chain in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
    /// Number of addresses in the answer.
    pub addresses: u16,
}

/// An extended DNS error (RFC 8914).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedError {
    /// The info code.
    pub code: u16,
    /// The extra text, bounded.
    pub text: String,
}

/// One link of a CNAME chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The name that is an alias, lower case, no trailing dot.
    pub name: String,
    /// What it stands for, lower case, no trailing dot.
    pub target: String,
    /// Time to live in seconds.
    pub ttl: u32,
}

// ---- connect

/// A TCP connect to one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectEvidence {
    /// The address as planned.
    pub peer: SocketAddr,
    /// The address really dialled, where `--connect-to` or the lab maps it to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialled: Option<SocketAddr>,
    /// This side's address, once the kernel chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The kernel's view at the end of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpInfo>,
    /// An ICMP error from the socket's error queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpError>,
    /// What answered on the way, nearest first; only a [`super::Control::Trace`] looks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Router>,
}

/// What came back for a SYN that may pass so many routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// The SYN's time to live, or hop limit: 1 reaches the first router.
    pub ttl: u8,
    /// Who answered; `None`: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// From the SYN to the answer, in microseconds; unknown where the SYN was repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// An ICMP error that is not the expected time exceeded: the SYN was rejected here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpError>,
    /// Whether the answer came from the peer's own address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reached: bool,
}

/// Selected fields of Linux's `TCP_INFO` (tcp(7)) at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Connection state.
    pub state: TcpState,
    /// Smoothed round-trip time in microseconds (0 before the first acknowledgement).
    pub rtt_us: u32,
    /// Consecutive retransmission timeouts in force (`tcpi_retransmits`): in `SYN_SENT`, the SYNs sent again.
    pub timeouts: u8,
    /// Segments retransmitted over the connection's life (`tcpi_total_retrans`).
    pub retransmitted: u32,
    /// Retransmitted segments that left this machine and are unacknowledged (`tcpi_retrans`).
    pub retransmitted_in_flight: u32,
    /// Segments sent and not acknowledged (`tcpi_unacked`).
    pub unacked: u32,
    /// Maximum segment size for sending, in bytes.
    pub snd_mss: u32,
    /// Bytes that the peer acknowledged, where the kernel tells (Linux 4.1 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_acked: Option<u64>,
}

/// TCP states (RFC 9293), as Linux numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names of the RFC
pub enum TcpState {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Closed,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    Unknown,
}

/// ICMP or `ICMPv6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IcmpFamily {
    /// ICMP (RFC 792).
    V4,
    /// `ICMPv6` (RFC 4443).
    V6,
    /// The error arose in this machine's own stack.
    Local,
}

/// An error from a socket's error queue (`IP_RECVERR`, ip(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpError {
    /// Which protocol, or this machine itself.
    pub family: IcmpFamily,
    /// ICMP type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<IpAddr>,
}

// ---- tunnel

/// A CONNECT request and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TunnelEvidence {
    /// The CONNECT target, `host:port`.
    pub authority: String,
    /// Whether `Proxy-Authorization: Basic` was sent.
    pub credentials_sent: bool,
    /// Whether the whole request was handed to the kernel.
    pub request_sent: bool,
    /// Bytes received during the step.
    pub bytes_read: u64,
    /// From the end of the request to the first answer byte, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// Interim (1xx) answers skipped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interim: u8,
    /// The answer, when its head was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Bytes that followed the head of a 2xx answer before this side sent anything into the tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<Excerpt>,
    /// Bytes for the tunnel that were sent together with the request, before the answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sent_along: u64,
    /// What came, when it is no complete HTTP head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bytes: Option<Excerpt>,
    /// The kernel's view of the connection when the step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpInfo>,
}

// ---- handshake

/// A TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HandshakeEvidence {
    /// The server name sent, unless the host is a literal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Bytes sent during the step.
    pub bytes_sent: u64,
    /// Bytes received during the step.
    pub bytes_read: u64,
    /// The first bytes received, when they are no TLS record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bytes: Option<Excerpt>,
    /// Negotiated version: `TLSv1.2` or `TLSv1.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Negotiated cipher suite, by its IANA name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<String>,
    /// The chain as presented, leaf first, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Arc<Certificate>>,
    /// What verification said; `None` when no certificate came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Which anchors made the chain trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<TrustAnchor>,
    /// The fatal alert received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// Whether the server asked for a client certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub client_certificate_requested: bool,
    /// This machine's clock when the chain was verified, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_unix_time: Option<i64>,
    /// The kernel's view of the connection when the step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpInfo>,
}

/// One presented certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Subject, as an RFC 4514-like string.
    pub subject: String,
    /// Issuer, likewise.
    pub issuer: String,
    /// The organisation (O=) of the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_organization: Option<String>,
    /// Subject alternative names, DNS and IP, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Start of validity, seconds since 1970.
    pub not_before: i64,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of the DER, lower-case hex.
    pub sha256: String,
    /// SHA-1 of the DER, upper-case hex, as Azure's documents print thumbprints.
    pub sha1: String,
    /// Whether subject and issuer are the same.
    pub self_issued: bool,
}

/// The result of verifying the presented chain for the host, at this machine's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// The chain leads to an anchor, is valid now, and covers the name.
    Trusted,
    /// No anchor signs the chain.
    UnknownIssuer,
    /// Past the end of validity.
    Expired,
    /// Before the start of validity.
    NotYetValid,
    /// The leaf does not cover the name.
    NameMismatch,
    /// Revoked.
    Revoked,
    /// A signature in the chain is wrong, or its algorithm is not supported.
    BadSignature,
    /// Not for servers, or a constraint forbids it.
    NotPermitted,
    /// It does not decode.
    BadEncoding,
    /// Anything else.
    Other,
}

/// Where the anchor of a trusted chain comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustAnchor {
    /// The system's trust store.
    System,
    /// Given with `--ca-file`.
    Added,
    /// The lab's own authority, which stands for a public one.
    Lab,
}

/// A TLS alert (RFC 8446 section 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The description's number.
    pub number: u8,
    /// Its name in the RFC's spelling, `handshake_failure`.
    pub name: String,
}

// ---- request

/// One HTTP request and its answer, or one exchange with an origin of snapreach's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestEvidence {
    /// `GET` or `HEAD`; `EXCHANGE` for an exchange.
    pub method: String,
    /// The path, without query, except for the host channel's own question; empty for an exchange.
    pub path: String,
    /// Whether a shared access signature went along.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sas_sent: bool,
    /// `x-ms-client-request-id`, to find the request in storage's logs.
    pub client_request_id: String,
    /// Whether the whole request was handed to the kernel.
    pub request_sent: bool,
    /// Bytes received during the step.
    pub bytes_read: u64,
    /// From the end of the request to the first answer byte, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// The answer, when its head was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// What came, when it is no complete HTTP head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bytes: Option<Excerpt>,
    /// A TLS alert that came instead of the answer: with TLS 1.3 a server may object to the client only now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// This machine's clock when the answer came, seconds since 1970: compared with the answer's `Date`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_unix_time: Option<i64>,
    /// The kernel's view of the connection when the step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpInfo>,
    /// What an exchange showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Box<ExchangeEvidence>>,
}

/// An exchange with an origin of snapreach's own, of which both sides know every byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeEvidence {
    /// What was tried.
    pub exchange: Exchange,
    /// Whether such an origin answered: what came holds something that nobody else can know.
    pub origin_proved: bool,
    /// Bytes handed to the kernel, those sent together with the CONNECT included.
    pub bytes_sent: u64,
    /// Whether one side had half-closed when the step ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half_closed: bool,
    /// How long nothing passed, on purpose, in microseconds: as long as asked for, unless the connection ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_us: Option<u64>,
    /// So many bytes of the pattern arrived as they were sent, as the origin reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Offset of the first byte sent that arrived as another, from the first one of the exchange; `None` also when the
    /// origin could not make out the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_differs_at: Option<u64>,
    /// Offset of the first byte that came and is not the one that must come, from the first one of the exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_differs_at: Option<u64>,
    /// The bytes that must come there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Excerpt>,
    /// The bytes that came there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came: Option<Excerpt>,
}

fn is_zero<N: Default + PartialEq>(n: &N) -> bool {
    *n == N::default()
}
