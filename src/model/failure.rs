//! Why a layer stopped, normalised once at the layer that met the error.

use serde::{Deserialize, Serialize};

/// The failure of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure, for the classifier.
    pub kind: FailureKind,
    /// The operating system's error number, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The error's own words, for people only: nothing decides on them.
    pub raw: String,
}

impl Failure {
    /// A failure without an error number.
    pub fn new(kind: FailureKind, raw: impl Into<String>) -> Self {
        Self { kind, errno: None, raw: raw.into() }
    }
}

/// What kind of failure, over all layers. The layer and leg of the step say where; its evidence says the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    // Any layer
    /// The layer's own budget ran out.
    TimedOut,
    /// The deadline of the whole run, or an interrupt, ended the step: nothing about the peer follows from it.
    Cancelled,
    /// The peer closed in order (FIN) before the layer was done.
    Closed,
    /// RST after the connection stood.
    Reset,
    /// An operating-system error without a kind of its own; `errno` has it.
    Io,

    // Connect
    /// ECONNREFUSED: RST to the SYN, or an ICMP port unreachable (the evidence tells).
    Refused,
    /// EHOSTUNREACH.
    HostUnreachable,
    /// ENETUNREACH.
    NetworkUnreachable,
    /// EACCES or EPERM: policy on this machine.
    PermissionDenied,
    /// EMFILE or ENFILE.
    FileDescriptors,
    /// EADDRNOTAVAIL or EADDRINUSE while binding or connecting without a free source port.
    SourcePorts,
    /// ENOBUFS or ENOMEM.
    Buffers,
    /// EAFNOSUPPORT.
    AddressFamily,
    /// ENETDOWN.
    NetworkDown,

    // Resolve
    /// The answer's rcode is not NOERROR; the evidence has it.
    ResponseCode,
    /// NOERROR without an address.
    NoData,
    /// getaddrinfo failed; `errno` has its EAI number.
    SystemResolver,
    /// ICMP or a reset came from the name server, or no route leads to it.
    ServerUnreachable,
    /// The answer does not decode or does not belong to the question.
    Malformed,

    // Tunnel, request
    /// A complete answer that does not open the tunnel; the evidence has the reply.
    Status,
    /// What came is not HTTP at all.
    NotHttp,
    /// It starts like HTTP but the head is malformed.
    BadHead,
    /// The head is longer than any legitimate one.
    HeadTooLarge,
    /// EOF inside the head.
    Truncated,

    // Request, as an exchange
    /// What arrived, on this side or at the origin, is not what was sent; the evidence says where.
    Differs,
    /// The origin was reached, and what was sent did not arrive there.
    Lost,
    /// What answers is no origin of snapreach's own; the evidence has its bytes.
    Foreign,

    // Handshake
    /// A fatal TLS alert came; the evidence has its number.
    Alert,
    /// The first bytes are no TLS record.
    NotTls,
    /// A TLS record does not decrypt: it is not the one that the holder of the keys sent (RFC 8446 section 5.2).
    Undecryptable,
    /// The peer broke the TLS protocol, or this side refused what it sent (too large, undecodable).
    TlsProtocol,
    /// No protocol version or cipher suite in common, found on this side.
    TlsIncompatible,
    /// The certificate's key or the signature over the handshake is unusable, so the session proves nothing.
    BadSignature,
    /// The host name cannot be used for TLS.
    InvalidName,
}
