//! Builders for tests: records, walks and answers as the probe leaves them behind.

use std::sync::Arc;

use crate::{
    exchange::Exchange,
    http::{Parsed, Reply, parse_head},
    model::{
        Address, Alert, Certificate, ConnectEvidence, Control, Evidence, Excerpt, ExchangeEvidence, Failure,
        FailureKind, HandshakeEvidence, HostService, IcmpError, IcmpFamily, Leg, Observation, Record, RequestEvidence,
        ResolveEvidence, ResolverView, Route, Router, Step, Target, TcpInfo, TcpState, ToolInfo, TrustAnchor,
        TunnelEvidence, Verification,
    },
};

pub(crate) const NAME: &str = "acct.blob.core.windows.net";
pub(crate) const NOW: i64 = 1_795_357_000;

/// What the wire server says to `/?comp=versions`, shortened.
pub(crate) const VERSIONS: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Versions><Preferred><Version>2015-04-05</Version>\
    </Preferred><Supported><Version>2012-11-30</Version></Supported></Versions>";

/// An answer from its text: head, empty line, body.
pub(crate) fn reply(text: &str) -> Reply {
    let bytes = text.as_bytes();
    let Ok(Parsed::Complete(mut reply, length)) = parse_head(bytes, 0) else { panic!("not a head: {text}") };
    reply.body = Excerpt::new(&bytes[length..], 4096, (bytes.len() - length) as u64);
    *reply
}

pub(crate) fn gateway_reply(status: u16, proxy_status: &str) -> Reply {
    reply(&format!("HTTP/1.1 {status} x\r\nProxy-Status: {proxy_status}\r\n\r\n"))
}

/// An answer of storage.
pub(crate) fn storage_reply(status: u16, code: &str) -> Reply {
    reply(&format!(
        "HTTP/1.1 {status} x\r\nServer: Windows-Azure-Blob/1.0\r\nx-ms-request-id: 1\r\nx-ms-error-code: {code}\r\n\r\n"
    ))
}

pub(crate) fn certificate(issuer: &str) -> Certificate {
    Certificate {
        subject: format!("CN=*.blob.core.windows.net ({issuer})"),
        issuer: format!("O={issuer}, CN=Issuing CA"),
        issuer_organization: Some(issuer.into()),
        names: vec!["*.blob.core.windows.net".into()],
        not_before: NOW - 86_400,
        not_after: NOW + 86_400,
        sha256: format!("{issuer:0>64}"),
        sha1: String::new(),
        self_issued: false,
    }
}

/// Storage's chain, trusted.
pub(crate) fn trusted() -> HandshakeEvidence {
    HandshakeEvidence {
        sni: Some(NAME.into()),
        bytes_sent: 300,
        bytes_read: 4000,
        version: Some("TLSv1.3".into()),
        chain: vec![Arc::new(certificate("Microsoft Corporation")), Arc::new(certificate("DigiCert Inc"))],
        verification: Some(Verification::Trusted),
        anchor: Some(TrustAnchor::System),
        local_unix_time: Some(NOW),
        ..HandshakeEvidence::default()
    }
}

/// A chain of this issuer that verifies as `verification`.
pub(crate) fn chain(issuers: &[&str], verification: Verification) -> HandshakeEvidence {
    HandshakeEvidence {
        chain: issuers.iter().map(|issuer| Arc::new(certificate(issuer))).collect(),
        verification: Some(verification),
        anchor: None,
        ..trusted()
    }
}

pub(crate) fn alert(number: u8) -> HandshakeEvidence {
    HandshakeEvidence { bytes_read: 7, alert: Some(Alert { number, name: "x".into() }), ..HandshakeEvidence::default() }
}

pub(crate) fn request(reply: Reply) -> RequestEvidence {
    RequestEvidence {
        method: "GET".into(),
        path: "/".into(),
        request_sent: true,
        bytes_read: u64::from(reply.head_bytes),
        reply: Some(reply),
        local_unix_time: Some(NOW),
        ..RequestEvidence::default()
    }
}

pub(crate) fn tcp_info(state: TcpState, retransmitted: u32, in_flight: u32) -> TcpInfo {
    TcpInfo {
        state,
        rtt_us: 0,
        timeouts: 0,
        retransmitted,
        retransmitted_in_flight: in_flight,
        unacked: in_flight,
        snd_mss: 1460,
        bytes_acked: None,
    }
}

/// A walk in the making.
#[derive(Debug, Clone)]
pub(crate) struct Walk(pub(crate) Observation);

impl Walk {
    pub(crate) fn direct(subject: &str, ip: &str) -> Self {
        Self::new(subject, Route::Direct, ip)
    }

    pub(crate) fn proxied(subject: &str) -> Self {
        let mut walk = Self::new(subject, Route::Proxy, "10.0.0.5");
        if let Some(address) = &mut walk.0.address {
            address.set_port(3128);
        }
        walk
    }

    fn new(subject: &str, route: Route, ip: &str) -> Self {
        let port = subject.rsplit(':').next().unwrap().parse().unwrap();
        Self(Observation {
            id: 0,
            parent: None,
            subject: subject.into(),
            route,
            attempt: 1,
            address: Some((ip.parse::<std::net::IpAddr>().unwrap(), port).into()),
            control: None,
            host_service: None,
            steps: Vec::new(),
        })
    }

    pub(crate) fn lookup(name: &str, view: ResolverView, addresses: &[&str], failure: Option<Failure>) -> Self {
        let evidence = ResolveEvidence {
            view,
            server: None,
            addresses: addresses.iter().map(|ip| Address { ip: ip.parse().unwrap(), ttl: None }).collect(),
            answers: Vec::new(),
            hosts_file: Vec::new(),
        };
        let mut walk = Self(Observation {
            id: 0,
            parent: None,
            subject: name.into(),
            route: Route::Direct,
            attempt: 1,
            address: None,
            control: None,
            host_service: None,
            steps: Vec::new(),
        });
        walk.push(Leg::Origin, Evidence::Resolve(Box::new(evidence)), failure, 1_000);
        walk
    }

    pub(crate) fn push(&mut self, leg: Leg, evidence: Evidence, failure: Option<Failure>, elapsed_us: u64) {
        let start_us = self.0.steps.last().map_or(0, |step| step.start_us + step.elapsed_us);
        self.0.steps.push(Step { leg, start_us, elapsed_us, evidence, failure });
    }

    fn dialled(&self) -> Leg {
        if self.0.route == Route::Proxy { Leg::Proxy } else { Leg::Origin }
    }

    pub(crate) fn connect_evidence(&self) -> ConnectEvidence {
        ConnectEvidence {
            peer: self.0.address.unwrap(),
            dialled: None,
            local: None,
            tcp: None,
            icmp: None,
            path: Vec::new(),
        }
    }

    pub(crate) fn connected(mut self) -> Self {
        let evidence = Evidence::Connect(self.connect_evidence());
        self.push(self.dialled(), evidence, None, 1_000);
        self
    }

    pub(crate) fn connect_fails(self, kind: FailureKind) -> Self {
        self.connect_fails_after(kind, 10_000_000, None, None)
    }

    pub(crate) fn connect_fails_after(
        mut self,
        kind: FailureKind,
        elapsed_us: u64,
        tcp: Option<TcpInfo>,
        icmp: Option<IcmpError>,
    ) -> Self {
        let evidence = Evidence::Connect(ConnectEvidence { tcp, icmp, ..self.connect_evidence() });
        self.push(self.dialled(), evidence, Some(Failure::new(kind, "x")), elapsed_us);
        self
    }

    pub(crate) fn tunnelled(mut self) -> Self {
        let evidence = TunnelEvidence {
            authority: self.0.subject.to_string(),
            request_sent: true,
            bytes_read: 39,
            reply: Some(reply("HTTP/1.1 200 Connection established\r\n\r\n")),
            ..TunnelEvidence::default()
        };
        self.push(Leg::Proxy, Evidence::Tunnel(Box::new(evidence)), None, 1_000);
        self
    }

    pub(crate) fn tunnel_refused(self, reply: Reply) -> Self {
        self.tunnel_fails(
            FailureKind::Status,
            TunnelEvidence { bytes_read: u64::from(reply.head_bytes), reply: Some(reply), ..TunnelEvidence::default() },
        )
    }

    pub(crate) fn tunnel_fails(mut self, kind: FailureKind, evidence: TunnelEvidence) -> Self {
        let evidence = TunnelEvidence { authority: self.0.subject.to_string(), request_sent: true, ..evidence };
        self.push(Leg::Proxy, Evidence::Tunnel(Box::new(evidence)), Some(Failure::new(kind, "x")), 1_000);
        self
    }

    pub(crate) fn tls(mut self, evidence: HandshakeEvidence) -> Self {
        self.push(Leg::Origin, Evidence::Handshake(Box::new(evidence)), None, 1_000);
        self
    }

    pub(crate) fn tls_fails(mut self, leg: Leg, kind: FailureKind, evidence: HandshakeEvidence) -> Self {
        self.push(leg, Evidence::Handshake(Box::new(evidence)), Some(Failure::new(kind, "x")), 1_000);
        self
    }

    pub(crate) fn answered(mut self, reply: Reply) -> Self {
        self.push(Leg::Origin, Evidence::Request(Box::new(request(reply))), None, 1_000);
        self
    }

    pub(crate) fn request_fails(mut self, kind: FailureKind) -> Self {
        let evidence = RequestEvidence { request_sent: true, ..RequestEvidence::default() };
        self.push(Leg::Origin, Evidence::Request(Box::new(evidence)), Some(Failure::new(kind, "x")), 1_000);
        self
    }

    /// An exchange with an origin of snapreach's own, which answered something.
    pub(crate) fn exchanged(
        mut self,
        exchange: Exchange,
        kind: Option<FailureKind>,
        change: impl FnOnce(&mut ExchangeEvidence),
    ) -> Self {
        let mut evidence = ExchangeEvidence {
            exchange,
            origin_proved: true,
            bytes_sent: 600,
            half_closed: false,
            idle_us: None,
            received: None,
            sent_differs_at: None,
            came_differs_at: None,
            expected: None,
            came: None,
        };
        change(&mut evidence);
        let request = RequestEvidence {
            method: "EXCHANGE".into(),
            request_sent: true,
            bytes_read: 99,
            exchange: Some(Box::new(evidence)),
            ..RequestEvidence::default()
        };
        let failure = kind.map(|kind| Failure::new(kind, "x"));
        self.push(Leg::Origin, Evidence::Request(Box::new(request)), failure, 1_000);
        self
    }

    /// The rest of a walk that reaches storage over TLS.
    pub(crate) fn reaches_storage(self) -> Self {
        let walk = self.connected();
        let walk = if walk.0.route == Route::Proxy { walk.tunnelled() } else { walk };
        walk.tls(trusted()).answered(storage_reply(400, "InvalidQueryParameterValue"))
    }

    /// A trace to the address of this walk: `10.0.0.1` a router, nothing: silence, `=` the peer, `!10.0.0.1` a router that
    /// rejects the SYN.
    pub(crate) fn traced(mut self, hops: &[&str], kind: Option<FailureKind>) -> Self {
        let peer = self.0.address.unwrap().ip();
        let router = |(ttl, hop): (u8, &&str)| {
            let (reached, rejected) = (*hop == "=", hop.starts_with('!'));
            let ip = if reached { Some(peer) } else { hop.trim_start_matches('!').parse().ok() };
            let icmp = rejected.then_some(IcmpError { family: IcmpFamily::V4, kind: 3, code: 13, sender: ip });
            Router { ttl, ip, rtt_us: ip.map(|_| 500), icmp, reached }
        };
        let path: Vec<Router> = (1..).zip(hops).map(router).collect();
        let local = Some("10.1.0.4:40000".parse().unwrap());
        let icmp = path.last().and_then(|router| router.icmp);
        let evidence = ConnectEvidence { local, icmp, path, ..self.connect_evidence() };
        let failure = kind.map(|kind| Failure::new(kind, "x"));
        self.push(self.dialled(), Evidence::Connect(evidence), failure, 2_000_000);
        self.control(Control::Trace)
    }

    /// A walk to the wire server or the host plugin, by its port.
    pub(crate) fn to_host(port: u16) -> Self {
        let mut walk = Self::direct(&format!("168.63.129.16:{port}"), "168.63.129.16");
        walk.0.host_service = Some(if port == 80 { HostService::WireServer } else { HostService::HostPlugin });
        walk
    }

    /// A walk to instance metadata.
    pub(crate) fn to_metadata() -> Self {
        let mut walk = Self::direct("169.254.169.254:80", "169.254.169.254");
        walk.0.host_service = Some(HostService::InstanceMetadata);
        walk
    }

    pub(crate) fn control(mut self, control: Control) -> Self {
        self.0.control = Some(control);
        self
    }
}

/// A record of these walks; each authority among `targets` is an https storage target (http on port 80), unless it has a
/// scheme.
pub(crate) fn record(targets: &[&str], walks: impl IntoIterator<Item = Walk>) -> Record {
    let targets = targets.iter().flat_map(|target| Target::parse(target, &[443]).unwrap()).collect();
    let observations = walks.into_iter().zip(1..).map(|(walk, id)| Observation { id, ..walk.0 }).collect();
    Record {
        tool: ToolInfo::default(),
        started_at: "2026-11-22T14:00:00Z".into(),
        elapsed_ms: 1000,
        context: crate::model::Context { cloud: "public".into(), attempts: 3, ..Default::default() },
        targets,
        observations,
        not_run: Vec::new(),
    }
}
