//! TLS with rustls: what was presented is recorded and judged later; a chain that does not verify does not stop the
//! read-only request, so that a block page behind it is seen.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io,
    mem::take,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_lc_rs::digest;
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
    version,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

#[cfg(feature = "bench")]
use super::sessions::Sessions;
use super::{
    failure,
    metered::{KEPT, Meter, Metered},
    recorder::Slot,
};
use crate::{
    model::{
        Certificate, Evidence, Excerpt, Failure, FailureKind, HandshakeEvidence, Host, TcpInfo, TrustAnchor,
        Verification,
    },
    plan::Trust,
};

/// Longer chains are cut for the record.
const MAX_CHAIN: usize = 10;
/// More names per certificate are cut for the record.
const MAX_NAMES: usize = 100;
/// Distinct certificates remembered in parsed form.
const MAX_CACHED: usize = 4096;

/// What a `ClientHello` is like, beside the name that is verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hello<'a> {
    /// The server name that is sent in place of the host's own.
    pub(crate) sni: Option<&'a str>,
    /// Which versions it offers.
    pub(crate) versions: Versions,
    /// Whether it is larger than a segment: it begins with a post-quantum key share, as today's browsers do, and offers
    /// protocols that nobody knows.
    pub(crate) large: bool,
}

/// Versions of TLS.
#[cfg_attr(not(feature = "conformance"), expect(dead_code, reason = "only cases for proxies choose"))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Versions {
    /// 1.3 and 1.2.
    #[default]
    All,
    /// 1.2 alone.
    Only12,
    /// 1.3 alone.
    Only13,
}

impl Versions {
    fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::All => vec![&version::TLS13, &version::TLS12],
            Self::Only12 => vec![&version::TLS12],
            Self::Only13 => vec![&version::TLS13],
        }
    }
}

/// Everything handshakes share.
#[derive(Debug)]
pub(super) struct Tls {
    judge: Arc<Judge>,
    template: ClientConfig,
    /// What resumes sessions, by the name that is verified; `None`: every handshake is a full one.
    #[cfg(feature = "bench")]
    resuming: Option<Mutex<HashMap<ServerName<'static>, Prepared>>>,
}

/// A handshake that can begin: its configuration, and who sees the chain.
type Prepared = (Arc<ClientConfig>, Arc<Witness>);

impl Tls {
    /// Loads the anchors. The second value has notes for the user about stores that could not be read.
    ///
    /// # Errors
    /// When the TLS library refuses an anchor that was given explicitly.
    pub(super) fn new(trust: &Trust) -> io::Result<(Self, Vec<String>)> {
        let provider = Arc::new(provider::default_provider());
        let mut notes = Vec::new();
        let mut stores = Vec::new();
        if trust.system {
            let found = rustls_native_certs::load_native_certs();
            let mut store = RootCertStore::empty();
            let (added, ignored) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                notes.push(
                    "the system's trust store is empty or unreadable: no certificate can be verified against it".into(),
                );
            } else if ignored > 0 || !found.errors.is_empty() {
                notes.push(format!("{ignored} entries of the system's trust store were not usable"));
            }
            stores.push((TrustAnchor::System, store));
        }
        for (kind, anchors) in [(TrustAnchor::Added, &trust.added), (TrustAnchor::Lab, &trust.lab)] {
            let mut store = RootCertStore::empty();
            for der in anchors {
                store.add(CertificateDer::from(der.clone())).map_err(io::Error::other)?;
            }
            stores.push((kind, store));
        }
        let mut verifiers = Vec::new();
        for (kind, store) in stores {
            if !store.is_empty() {
                let builder = WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone());
                verifiers.push((kind, builder.build().map_err(io::Error::other)?));
            }
        }
        let template = config(provider.clone(), Versions::All).map_err(io::Error::other)?;
        let tls = Self {
            judge: Arc::new(Judge { provider, verifiers, parsed: Mutex::default() }),
            template,
            #[cfg(feature = "bench")]
            resuming: None,
        };
        Ok((tls, notes))
    }

    /// The same, but handshakes resume sessions of earlier ones where the server lets them.
    #[cfg(feature = "bench")]
    pub(super) fn resuming(mut self) -> Self {
        self.template.resumption = Resumption::store(Arc::new(Sessions::default()));
        self.resuming = Some(Mutex::default());
        self
    }

    /// What a handshake with whoever should be `name` needs.
    fn prepare(&self, name: &ServerName<'static>, hello: Hello<'_>) -> Result<Prepared, TlsError> {
        #[cfg(feature = "bench")]
        if let Some(known) = self.resuming.as_ref().filter(|_| hello == Hello::default()) {
            // A session is resumed only by the very verifier that has seen its full handshake.
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(prepared) = known.get(name) {
                return Ok(prepared.clone());
            }
            let prepared = Witness::new(self, name.clone(), true).prepared(self.template.clone());
            known.insert(name.clone(), prepared.clone());
            return Ok(prepared);
        }
        Ok(Witness::new(self, name.clone(), false).prepared(self.config(hello)?))
    }

    fn config(&self, hello: Hello<'_>) -> Result<ClientConfig, TlsError> {
        if hello == (Hello { sni: hello.sni, ..Hello::default() }) {
            return Ok(self.template.clone());
        }
        let mut provider = CryptoProvider::clone(&self.judge.provider);
        if hello.large {
            // The first group is the one whose key share is sent.
            provider.kx_groups.insert(0, provider::kx_group::X25519MLKEM768);
        }
        let mut config = config(provider.into(), hello.versions)?;
        if hello.large {
            config.alpn_protocols = padding();
        }
        Ok(config)
    }
}

/// Tells what a chain is worth.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    /// One verifier per kind of anchor, so that it is known which one made a chain trusted.
    verifiers: Vec<(TrustAnchor, Arc<WebPkiServerVerifier>)>,
    parsed: Mutex<HashMap<[u8; 32], Arc<Certificate>>>,
}

impl Judge {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> (Verification, Option<TrustAnchor>) {
        let mut worst = Verification::UnknownIssuer;
        for (anchor, verifier) in &self.verifiers {
            match verifier.verify_server_cert(leaf, intermediates, name, &[], now) {
                Ok(_) => return (Verification::Trusted, Some(*anchor)),
                Err(error) => {
                    let said = failure::verification(&error);
                    // Another store knows the issuer and objects to something else: that is the better reason.
                    if said != Verification::UnknownIssuer {
                        worst = said;
                    }
                }
            }
        }
        (worst, None)
    }

    fn certificate(&self, der: &CertificateDer<'_>) -> Option<Arc<Certificate>> {
        let sha256: [u8; 32] = digest::digest(&digest::SHA256, der).as_ref().try_into().ok()?;
        let parsed = || self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = parsed().get(&sha256) {
            return Some(known.clone());
        }
        let certificate = Arc::new(parse(der, &sha256)?);
        let mut cache = parsed();
        if cache.len() < MAX_CACHED {
            cache.insert(sha256, certificate.clone());
        }
        Some(certificate)
    }
}

/// What is the same in every handshake.
fn config(provider: Arc<CryptoProvider>, versions: Versions) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions.supported())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    // Every probe is a whole handshake, as the consumers make it.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// HTTP, and some hundred bytes of protocols that nobody speaks.
fn padding() -> Vec<Vec<u8>> {
    let unknown = (0..20).map(|n| format!("unknown-protocol-{n:02}").into_bytes());
    [b"http/1.1".to_vec()].into_iter().chain(unknown).collect()
}

/// Evidence of a handshake in the making.
#[derive(Debug)]
pub(super) struct Attempt {
    evidence: HandshakeEvidence,
    meter: Arc<Meter>,
    witness: Option<Arc<Witness>>,
    /// What was seen of the chain, when the witness is not this attempt's own.
    seen: Option<Seen>,
}

impl Attempt {
    pub(super) fn new() -> Self {
        Self { evidence: HandshakeEvidence::default(), meter: Arc::default(), witness: None, seen: None }
    }

    #[cfg(feature = "bench")]
    /// What passes during the handshake is counted here.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Begins a handshake with whoever should be `host`: its configuration, and the name that is sent.
    pub(super) fn begin(
        &mut self,
        tls: &Tls,
        host: &Host,
        hello: Hello<'_>,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), Failure> {
        let verified_name = server_name(host)?;
        let sent_name = match hello.sni {
            Some(sni) => server_name(&Host::Name(sni.into()))?,
            None => verified_name.clone(),
        };
        if let ServerName::DnsName(name) = &sent_name {
            self.evidence.sni = Some(name.as_ref().to_owned());
        }
        let (config, witness) = tls
            .prepare(&verified_name, hello)
            .map_err(|error| Failure::new(FailureKind::TlsIncompatible, error.to_string()))?;
        self.witness = Some(witness);
        Ok((config, sent_name))
    }

    /// The handshake is over, and this was agreed on.
    pub(super) fn agreed(&mut self, session: &CommonState) {
        self.evidence.version =
            session.protocol_version().and_then(|version| version.as_str()).map(|v| v.replace('_', "."));
        self.evidence.cipher_suite =
            session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).map(str::to_owned);
        let chain = session.peer_certificates().unwrap_or_default();
        self.seen = self.witness.as_ref().and_then(|witness| witness.remembered(chain));
    }

    /// The handshake has failed; bytes in plain where TLS should be are somebody's answer, and a little more of them is
    /// read from the stream, to see who speaks.
    pub(super) async fn failed(&mut self, error: &io::Error, stream: Metered<impl AsyncRead + Unpin>) -> Failure {
        self.evidence.alert = failure::alert(error);
        if self.meter.first_bytes().is_empty() {
            return failure::of_io(error);
        }
        drain(stream).await;
        Failure::new(FailureKind::NotTls, error.to_string())
    }
}

impl Slot for Attempt {
    fn finish(&mut self, _: Option<&Failure>, tcp: Option<TcpInfo>) -> Evidence {
        let evidence = &mut self.evidence;
        evidence.bytes_sent = self.meter.written();
        evidence.bytes_read = self.meter.read();
        if evidence.first_bytes.is_none() {
            let first = self.meter.first_bytes();
            evidence.first_bytes = (!first.is_empty()).then(|| Excerpt::new(&first, KEPT, evidence.bytes_read));
        }
        if let Some(witness) = &self.witness {
            evidence.client_certificate_requested = witness.certificate_requested.load(Relaxed);
        }
        if let Some(seen) = self.seen.take().or_else(|| self.witness.as_ref()?.take()) {
            evidence.chain = seen.chain;
            evidence.verification = Some(seen.verification);
            evidence.anchor = seen.anchor;
            evidence.local_unix_time = Some(seen.at);
        }
        evidence.tcp = tcp;
        Evidence::Handshake(Box::new(take(&mut self.evidence)))
    }
}

/// Shakes hands with whoever should be `host`.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    tls: &Arc<Tls>,
    stream: S,
    host: &Host,
    hello: Hello<'_>,
) -> Result<TlsStream<Metered<S>>, Failure> {
    let (config, name) = attempt.begin(tls, host, hello)?;
    let stream = Metered::new(stream, attempt.meter.clone());
    match TlsConnector::from(config).connect(name, stream).into_fallible().await {
        Ok(stream) => {
            attempt.agreed(stream.get_ref().1);
            Ok(stream)
        }
        Err((error, stream)) => Err(attempt.failed(&error, stream).await),
    }
}

/// Reads on until there is enough to see who speaks, or a moment has passed.
async fn drain(mut stream: Metered<impl AsyncRead + Unpin>) {
    let end = Instant::now() + Duration::from_millis(300);
    let mut scratch = [0; 1024];
    for _ in 0..KEPT / 64 {
        match timeout_at(end, stream.read(&mut scratch)).await {
            Ok(Ok(1..)) => {}
            _ => break,
        }
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Failure> {
    match host {
        Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|error| Failure::new(FailureKind::InvalidName, error.to_string())),
    }
}

/// Sees the chain and lets the handshake go on. The signature over the handshake is still checked: without it not even
/// the presented certificate would be proved.
#[derive(Debug)]
struct Witness {
    judge: Arc<Judge>,
    name: ServerName<'static>,
    seen: Mutex<Option<Seen>>,
    /// What was seen of each chain, by its digest, when many handshakes share this witness: one that resumes a session
    /// presents none.
    remembered: Option<Mutex<HashMap<[u8; 32], Seen>>>,
    certificate_requested: AtomicBool,
}

/// Of so many different chains of one server it is remembered what was seen of them.
const MAX_REMEMBERED: usize = 64;

#[derive(Debug, Clone)]
struct Seen {
    chain: Vec<Arc<Certificate>>,
    verification: Verification,
    anchor: Option<TrustAnchor>,
    at: i64,
}

impl Witness {
    fn new(tls: &Tls, name: ServerName<'static>, shared: bool) -> Self {
        Self {
            judge: tls.judge.clone(),
            name,
            seen: Mutex::default(),
            remembered: shared.then(Mutex::default),
            certificate_requested: AtomicBool::new(false),
        }
    }

    fn prepared(self, mut config: ClientConfig) -> Prepared {
        let witness = Arc::new(self);
        config.dangerous().set_certificate_verifier(witness.clone());
        config.client_auth_cert_resolver = witness.clone();
        (Arc::new(config), witness)
    }

    /// What was seen in the handshake, when it was the only one.
    fn take(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What was seen of a chain, now or earlier, when this witness is shared.
    fn remembered(&self, chain: &[CertificateDer<'_>]) -> Option<Seen> {
        let remembered = self.remembered.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(&digest_of(chain)?).cloned()
    }
}

fn digest_of<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Option<[u8; 32]> {
    let mut context = digest::Context::new(&digest::SHA256);
    chain.into_iter().for_each(|der| context.update(der));
    context.finish().as_ref().try_into().ok()
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let (verification, anchor) = self.judge.verify(leaf, intermediates, &self.name, now);
        let chain = [leaf]
            .into_iter()
            .chain(intermediates)
            .take(MAX_CHAIN)
            .filter_map(|der| self.judge.certificate(der))
            .collect();
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let seen = Seen { chain, verification, anchor, at };
        let Some(remembered) = &self.remembered else {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
            return Ok(ServerCertVerified::assertion());
        };
        let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.extend(digest_of([leaf].into_iter().chain(intermediates)).map(|digest| (digest, seen)));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.judge.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.judge.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certificate_requested.store(true, Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

fn parse(der: &[u8], sha256: &[u8]) -> Option<Certificate> {
    let (_, x509) = X509Certificate::from_der(der).ok()?;
    let names = x509.subject_alternative_name().ok().flatten().map_or_else(Vec::new, |extension| {
        extension.value.general_names.iter().take(MAX_NAMES).filter_map(name_of).collect()
    });
    Some(Certificate {
        subject: bounded(x509.subject().to_string()),
        issuer: bounded(x509.issuer().to_string()),
        issuer_organization: organization(x509.issuer()).map(bounded),
        names,
        not_before: x509.validity().not_before.timestamp(),
        not_after: x509.validity().not_after.timestamp(),
        sha256: hex(sha256, false),
        sha1: hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref(), true),
        self_issued: x509.subject() == x509.issuer(),
    })
}

fn organization(name: &X509Name<'_>) -> Option<String> {
    name.iter_organization().next()?.as_str().ok().map(str::to_owned)
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(bounded((*name).to_owned())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// A name from a certificate that anybody may have made: bounded, and free of control characters.
fn bounded(text: String) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.len() <= 256 && !text.contains(char::is_control) {
        text
    } else {
        text.chars().take(256).map(clean).collect()
    }
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = if upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") };
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example\u{7} Corp");
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[tokio::test]
    async fn a_large_hello_is_larger_than_a_segment() {
        let (tls, _) = Tls::new(&Trust { system: false, ..Trust::default() }).unwrap();
        let tls = Arc::new(tls);
        for (large, versions) in [(false, Versions::All), (true, Versions::All), (false, Versions::Only12)] {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let mut attempt = Attempt::new();
            let host = Host::Name("a.example".into());
            let hello = Hello { versions, large, ..Hello::default() };
            let mut head = [0; 5];
            tokio::select! {
                _ = handshake(&mut attempt, &tls, near, &host, hello) => panic!("nobody answers"),
                read = far.read_exact(&mut head) => assert_eq!(read.unwrap(), 5),
            }
            let length = 5 + u16::from_be_bytes([head[3], head[4]]);
            assert_eq!(length > 1460, large, "{length} {versions:?}");
        }
    }

    #[test]
    fn what_a_certificate_says_is_kept_without_control_characters() {
        let certificate = parse(&sample(), &[0xab, 0x01]).unwrap();
        assert_eq!(certificate.names, ["a.example", "127.0.0.1"]);
        assert_eq!(certificate.issuer_organization.as_deref(), Some("Example\u{fffd} Corp"));
        assert_eq!(certificate.sha256, "ab01");
        assert_eq!(certificate.sha1.len(), 40);
        assert!(certificate.self_issued);
    }

    proptest! {
        #[test]
        fn parsing_damaged_certificates_never_panics(damage in proptest::collection::vec((0_usize..600, any::<u8>()), 1..10), cut in 0_usize..600) {
            let mut der = sample();
            for (at, byte) in damage {
                let length = der.len();
                der[at % length] = byte;
            }
            der.truncate(der.len() - cut.min(der.len()) / 2);
            let _ = parse(&der, &[]);
        }
    }
}
