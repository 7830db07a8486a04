//! Faults of a protocol: what a party says, or fails to say, in DNS, CONNECT, TLS and HTTP.

use std::time::Duration;

use serde::Deserialize;

use crate::lab::spec::duration;

// ---- DNS

/// What is wrong with a name server as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DnsFault {
    /// No question is answered.
    Silent,
    /// The port is closed: ICMP port unreachable.
    Closed,
    /// Answers that do not decode.
    Garbage,
    /// Answers with another id than the question's.
    WrongId,
    /// Over UDP every answer says that it is truncated.
    Truncated,
    /// Answers with this response code (RFC 6895) and no records.
    Rcode(u16),
}

impl DnsFault {
    /// Whether it concerns the server as such, and not one answer.
    pub(in crate::lab) fn is_whole_server(self) -> bool {
        matches!(self, Self::Closed | Self::Garbage)
    }
}

// ---- TLS

/// Which chain a TLS server presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// Leaf and issuing authority, under the lab's root.
    #[default]
    Healthy,
    /// The same, past its validity.
    Expired,
    /// The same, before its validity.
    NotYetValid,
    /// The same, for other names.
    WrongName,
    /// The same, for clients only.
    NotForServers,
    /// The same without the issuing authority's certificate.
    IncompleteChain,
    /// The same with so many names that the handshake takes many segments.
    Huge,
    /// Leaf of an issuer that storage might use, under a root that nobody trusts.
    UnknownIssuer,
    /// A certificate that signs itself.
    SelfSigned,
    /// Leaf of a company's inspection authority.
    Intercepted,
}

/// What happens instead of a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// A handshake, with this chain.
    Certificate(Certificate),
    /// A handshake that demands a client certificate.
    ClientCertificate,
    /// A fatal alert with this number (RFC 8446 section 6) instead of a `ServerHello`.
    Alert(u8),
    /// RST after the `ClientHello`.
    Reset,
    /// FIN after the `ClientHello`.
    Close,
    /// Nothing after the `ClientHello`.
    Mute,
    /// These plaintext bytes, then FIN.
    Plaintext(String),
    /// Bytes that look like a TLS record and decode to nothing.
    Garbage,
}

// ---- HTTP

/// What answers an HTTP request in place of healthy storage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Http {
    /// Storage, with one of its own errors.
    Storage(StorageError),
    /// A page that somebody else wrote.
    Page(Page),
    /// Any head and body.
    Reply(CustomReply),
    /// Storage's healthy answer, but so much later.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Slow(Duration),
    /// Storage's healthy answer; but from this request on the whole party stalls for so long: no connection of any client
    /// to any of its ports moves a byte. `when` counts requests for it.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Stall(Duration),
    /// These bytes, then FIN.
    Bytes(String),
    /// Nothing.
    Mute,
    /// FIN without a byte.
    Close,
    /// RST without a byte.
    Reset,
}

/// Storage's own errors that mean something for connectivity (Blob service error codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StorageError {
    /// 403 `AuthorizationFailure`: the account's network rules.
    AuthorizationFailure,
    /// 403 `AuthenticationFailed`: the signature.
    AuthenticationFailed,
    /// 400 `AccountRequiresHttps`.
    AccountRequiresHttps,
    /// 400 `TlsVersionNotPermitted`.
    TlsVersionNotPermitted,
    /// 503 `ServerBusy`.
    ServerBusy,
    /// 429 `TooManyRequests`.
    TooManyRequests,
    /// 500 `InternalError`.
    InternalError,
    /// 404 `ResourceNotFound`.
    ResourceNotFound,
    /// 409 `PublicAccessNotPermitted`.
    PublicAccessNotPermitted,
}

/// Pages that are not storage's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// Azure Firewall's 470 for HTTP without a matching rule.
    AzureFirewall,
    /// A redirect to a sign-in page.
    Portal,
    /// 511 `Network` Authentication Required (RFC 6585).
    NetworkAuthentication,
    /// A web filter's block page, 403.
    Block,
    /// A redirect to another site that is no sign-in page.
    Redirect,
    /// A web server's start page, 200.
    WebServer,
    /// nginx's 400.
    NginxBadRequest,
}

/// A head and body of the scenario's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CustomReply {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Header lines, `Name: value`. `Content-Length` is added.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

// ---- CONNECT

/// What a proxy answers instead of opening a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProxyReply {
    /// squid's 403 page with `X-Squid-Error: ERR_ACCESS_DENIED 0`: the same for port, host and client rules.
    SquidDenied,
    /// tinyproxy's `403 Access violation`: the port is not in `ConnectPort`.
    TinyproxyPort,
    /// tinyproxy's `403 Filtered`: the host is on its list.
    TinyproxyHost,
    /// tinyproxy's `403 Access denied`: the client is not in `Allow`.
    TinyproxyClient,
    /// A page that somebody else wrote.
    Page(Page),
    /// Any head and body.
    Reply(CustomReply),
    /// An error with `Proxy-Status` (RFC 9209).
    ProxyStatus(ProxyStatusReply),
    /// Nothing.
    Mute,
    /// FIN without a byte.
    Close,
    /// RST without a byte.
    Reset,
    /// These bytes, then silence.
    ThenSilence(String),
    /// These bytes, then FIN.
    Bytes(String),
    /// These bytes at once, before any request, as servers do that speak first.
    Banner(String),
    /// Header lines without end.
    EndlessHead,
    /// The alert that a TLS server sends to plaintext: the port speaks TLS.
    TlsAlert,
}

/// An error with `Proxy-Status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProxyStatusReply {
    /// Status code; default 502.
    #[serde(default = "bad_gateway")]
    pub status: u16,
    /// The error type (RFC 9209 section 2.3), any token.
    pub error: String,
    /// Further parameters, as they stand in the header: `; details="…"`.
    #[serde(default)]
    pub parameters: String,
    /// Seconds in `Retry-After`.
    #[serde(default)]
    pub retry_after: Option<u32>,
}

fn bad_gateway() -> u16 {
    502
}

/// How a tunnel fails after the 200.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tunnel {
    /// FIN at once.
    Close,
    /// FIN when the client has sent something.
    CloseAfterHello,
    /// RST when the client has sent something.
    Reset,
    /// What the client sends is read, and nothing comes back.
    Mute,
    /// These bytes stand right behind the 200.
    Early(String),
    /// These bytes answer the client's first ones, then FIN: an error page in the tunnel.
    Bytes(String),
    /// The proxy ends TLS itself, with its inspection authority.
    Intercept,
    /// A tunnel that is cut when no byte moved for this long.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Idle(Duration),
    /// A tunnel that ends altogether when one side half-closes it.
    HalfCloseKills,
    /// A tunnel that loses what came together with the CONNECT.
    EarlyLost,
}
