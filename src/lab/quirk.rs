//! In what a forward proxy can be bad, beside failing altogether: things that products do, or did.

use std::time::Duration;

use serde::Deserialize;

use super::spec::duration;

/// One bad habit. Several add up; faults of the proxy and of its tunnels go before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    // -- CONNECT
    /// 400 to an IPv6 address in the request target.
    RefusesIpv6Literals,
    /// 400 to a name with its final dot.
    RefusesTrailingDots,
    /// Names in capitals are unknown to it.
    CaseSensitiveNames,
    /// 505 to HTTP/1.0.
    RefusesHttp10,
    /// 400 to a CONNECT whose `Host` is missing or differs from the request target.
    WantsHost,
    /// 403 to a request without `User-Agent`.
    WantsUserAgent,
    /// Ends the connection with each answer that is a refusal.
    ClosesAfterRefusal,
    /// The 200 to a CONNECT has `Content-Length: 0`.
    LengthWithEstablished,
    /// Takes a port that is none: what is beyond 16 bits is cut off, and what is no number, or is not there, counts
    /// as 443.
    TakesBadPorts,
    // -- login
    /// Passes `Proxy-Authorization` on to the origin of a plain request.
    ForwardsLogin,
    /// Lets in whoever sends a login, right or wrong.
    AnyLogin,
    /// 407 to everything, with this scheme alone.
    AsksFor(Scheme),
    // -- reasons
    /// Every refusal and every failure is a bare `502 Bad Gateway`.
    HidesReasons,
    // -- tunnels
    /// Keeps a tunnel open whose origin has reset it.
    KeepsAfterReset,
    /// Loses what the origin sent right before its end.
    LosesLastBytes,
    /// Gets rid of what one side sent before it takes anything from the other.
    OneWayAtATime,
    /// Cuts a tunnel whose client takes nothing for 200 ms.
    CutsSlowReaders,
    /// Cuts a tunnel of this age, busy or not.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Lifetime(Duration),
    /// Never serves anybody any more after so many tunnels.
    StopsAfterTunnels(usize),
    // -- TLS
    /// Cuts a tunnel to port 443 that does not begin with TLS.
    OnlyTls,
    /// Loses a `ClientHello` of more than 1,400 bytes.
    LosesLargeHellos,
    /// Resets a tunnel whose `ClientHello` has no server name.
    WantsSni,
    /// Ends TLS itself with a certificate of its own authority for whatever name is asked for, and passes what is inside
    /// on in the clear.
    MasksCertificates,
    // -- plain requests
    /// Drops the `x-ms-*` headers of requests.
    DropsRequestHeaders,
    /// Drops the `x-ms-*` headers of answers.
    DropsAnswerHeaders,
    /// Drops `Range` and `x-ms-range`.
    DropsRanges,
    /// Asks for the whole up to the range's end in place of the range.
    AltersRanges,
    /// Drops `Authorization`.
    DropsAuthorization,
    /// Decodes what is percent-encoded in the query.
    DecodesQueries,
    /// Sorts the parameters of the query, and writes percent-encodings in capitals.
    NormalisesQueries,
    /// Passes on what is meant for one connection alone.
    KeepsHopByHop,
    /// Passes on the client's `Host`, whatever the request target says.
    KeepsHost,
    /// Adds no `Via`.
    NoVia,
    /// Answers a GET again from its cache, whatever the request says about it.
    Caches,
    /// 405 to PUT.
    RefusesPut,
    /// 411 to PUT and POST without a length above zero.
    DemandsLength,
    /// Passes requests on without their bodies.
    LosesBodies,
    /// Waits for the body of a request that waits for `100 Continue`.
    SwallowsExpect,
    /// Passes on a request with both `Content-Length` and `Transfer-Encoding`.
    PassesAmbiguousBodies,
    // -- hostile clients
    /// Never serves anybody any more after this.
    DiesOf(Hostile),
}

/// A scheme of HTTP authentication that the agent cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// RFC 7616.
    Digest,
    /// Microsoft's, MS-NLMP.
    Ntlm,
    /// RFC 4559.
    Negotiate,
}

/// What a client may do to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Hostile {
    /// A head that is too large.
    HugeHead,
    /// Text that is no HTTP.
    Malformed,
    /// Bytes that are no text.
    Binary,
    /// A head that does not come in one piece.
    HalfRequest,
}

/// How many tunnels a proxy has at once, and what happens to more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MaxTunnels {
    /// So many.
    pub count: usize,
    /// What happens to more.
    pub beyond: Beyond,
}

/// What happens to a CONNECT for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// It stays unanswered.
    Silent,
    /// squid's 403.
    Refuse,
    /// 500.
    Error,
    /// 200, and nothing passes.
    Dead,
}
