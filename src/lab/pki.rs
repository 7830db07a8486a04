//! The lab's certificate authorities, made at run time: one that stands for a public authority, one that nobody
//! trusts, and a company's own for inspection.

use std::{collections::HashMap, io, net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use time::{Duration, OffsetDateTime};

use super::fault::proto::Certificate;

/// Names of a genuine leaf: one wildcard per cloud, as storage's own.
const NAMES: [&str; 5] = [
    "*.blob.core.windows.net",
    "*.blob.core.usgovcloudapi.net",
    "*.blob.core.chinacloudapi.cn",
    "*.z27.blob.storage.azure.net",
    "*.store.core.windows.net",
];

/// Enough names for a certificate that takes dozens of full-size segments.
const HUGE: usize = 1500;

/// Makes server configurations; each kind of chain once.
pub(super) struct Pki {
    public: Authority,
    inspection: Authority,
    leaf_key: KeyPair,
    /// The names of a genuine leaf.
    names: Vec<String>,
    provider: Arc<rustls::crypto::CryptoProvider>,
    configs: HashMap<(Certificate, bool), Arc<ServerConfig>>,
}

/// A TLS server, and the certificate that it presents, DER.
pub(super) struct Identity {
    pub(super) server: Arc<ServerConfig>,
    pub(super) leaf: CertificateDer<'static>,
}

/// A root and the issuing authority below it.
struct Authority {
    root: CertificateDer<'static>,
    issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// `storage`: further names that a genuine leaf covers.
    pub(super) fn new(storage: &[String]) -> io::Result<Self> {
        Ok(Self {
            names: NAMES.into_iter().map(String::from).chain(storage.iter().cloned()).collect(),
            public: Authority::new(
                "Microsoft Corporation",
                "Microsoft RSA Root Certificate Authority 2017",
                "Microsoft Azure RSA TLS Issuing CA 03",
            )?,
            inspection: Authority::new("Contoso Ltd", "Contoso Root CA", "Contoso TLS Inspection CA")?,
            leaf_key: KeyPair::generate().map_err(io::Error::other)?,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            configs: HashMap::new(),
        })
    }

    /// The root that stands for a public one, DER.
    pub(super) fn public_root(&self) -> Vec<u8> {
        self.public.root.to_vec()
    }

    /// The root of the company's inspection authority, DER.
    pub(super) fn inspection_root(&self) -> Vec<u8> {
        self.inspection.root.to_vec()
    }

    /// A server that presents this chain, and may demand a client certificate. `addresses` are covered beside the names.
    pub(super) fn server(
        &mut self,
        certificate: Certificate,
        demand_client: bool,
        addresses: &[IpAddr],
    ) -> io::Result<Arc<ServerConfig>> {
        if let Some(config) = self.configs.get(&(certificate, demand_client)).filter(|_| addresses.is_empty()) {
            return Ok(config.clone());
        }
        let chain = self.chain(certificate, addresses)?;
        let builder = self.protocols()?;
        let config = if demand_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.public.root.clone()).map_err(io::Error::other)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), self.provider.clone())
                .build()
                .map_err(io::Error::other)?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let config = Arc::new(config.with_single_cert(chain, self.key()).map_err(io::Error::other)?);
        if addresses.is_empty() {
            self.configs.insert((certificate, demand_client), config.clone());
        }
        Ok(config)
    }

    /// What the origin of snapreach's own presents: a leaf of the public authority for this name and these addresses.
    pub(super) fn own(&self, name: &str, addresses: &[IpAddr]) -> io::Result<Identity> {
        let leaf = leaf_params([name], addresses)?;
        let leaf = leaf.signed_by(&self.leaf_key, &self.public.issuer).map_err(io::Error::other)?;
        self.identity(vec![leaf.der().clone(), self.public.issuing.clone()])
    }

    /// A certificate for this name that nobody may accept: it has expired, and signs itself.
    pub(super) fn bad(&self, name: &str) -> io::Result<Identity> {
        let mut leaf = leaf_params([name], &[])?;
        let now = OffsetDateTime::now_utc();
        (leaf.not_before, leaf.not_after) = (now - Duration::days(400), now - Duration::days(2));
        self.identity(vec![leaf.self_signed(&self.leaf_key).map_err(io::Error::other)?.der().clone()])
    }

    /// A certificate of the inspection authority for every name of storage's, and for these.
    pub(super) fn masking(&self, names: &[&str], addresses: &[IpAddr]) -> io::Result<Arc<ServerConfig>> {
        let names = self.names.iter().map(String::as_str).chain(names.iter().copied());
        let leaf = leaf_params(names, addresses)?;
        let leaf = leaf.signed_by(&self.leaf_key, &self.inspection.issuer).map_err(io::Error::other)?;
        Ok(self.identity(vec![leaf.der().clone(), self.inspection.issuing.clone()])?.server)
    }

    fn identity(&self, chain: Vec<CertificateDer<'static>>) -> io::Result<Identity> {
        let leaf = chain.first().cloned().ok_or_else(|| io::Error::other("a chain without a leaf"))?;
        let server =
            self.protocols()?.with_no_client_auth().with_single_cert(chain, self.key()).map_err(io::Error::other)?;
        Ok(Identity { server: Arc::new(server), leaf })
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()))
    }

    fn protocols(&self) -> io::Result<ConfigBuilder<ServerConfig, WantsVerifier>> {
        ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)
    }

    fn chain(&self, certificate: Certificate, addresses: &[IpAddr]) -> io::Result<Vec<CertificateDer<'static>>> {
        let now = OffsetDateTime::now_utc();
        let mut leaf = leaf_params(self.names.iter().cloned(), addresses)?;
        match certificate {
            Certificate::Expired => {
                leaf.not_before = now - Duration::days(400);
                leaf.not_after = now - Duration::days(2);
            }
            Certificate::NotYetValid => {
                leaf.not_before = now + Duration::days(2);
                leaf.not_after = now + Duration::days(300);
            }
            Certificate::WrongName => leaf = leaf_params(["www.example.com", "example.com"], &[])?,
            Certificate::NotForServers => leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            Certificate::Huge => {
                let many = (0..HUGE).map(|n| format!("*.z{n:04}.blob.storage.azure.net"));
                leaf = leaf_params(self.names.iter().cloned().chain(many), addresses)?;
            }
            _ => {}
        }
        let signed_by = |authority: &Authority| {
            leaf.signed_by(&self.leaf_key, &authority.issuer)
                .map(|leaf| vec![leaf.der().clone(), authority.issuing.clone()])
                .map_err(io::Error::other)
        };
        match certificate {
            Certificate::SelfSigned => {
                leaf.distinguished_name.remove(DnType::OrganizationName);
                Ok(vec![leaf.self_signed(&self.leaf_key).map_err(io::Error::other)?.der().clone()])
            }
            Certificate::Intercepted => signed_by(&self.inspection),
            Certificate::UnknownIssuer => signed_by(&Authority::new(
                "DigiCert Inc",
                "DigiCert Global Root G9",
                "DigiCert Global G9 TLS ECC SHA384 2026 CA1",
            )?),
            Certificate::IncompleteChain => {
                let mut chain = signed_by(&self.public)?;
                chain.truncate(1);
                Ok(chain)
            }
            _ => signed_by(&self.public),
        }
    }
}

impl Authority {
    fn new(organization: &str, root_name: &str, issuing_name: &str) -> io::Result<Self> {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.remove(DnType::CommonName);
            params.distinguished_name.push(DnType::CountryName, "US");
            params.distinguished_name.push(DnType::OrganizationName, organization);
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2045, 1, 1);
            params
        };
        let key = || KeyPair::generate().map_err(io::Error::other);
        let (root_params, root_key) = (params(root_name), key()?);
        let root = root_params.self_signed(&root_key).map_err(io::Error::other)?;
        let root_issuer = Issuer::new(root_params, root_key);
        let (issuing_params, issuing_key) = (params(issuing_name), key()?);
        let issuing = issuing_params.signed_by(&issuing_key, &root_issuer).map_err(io::Error::other)?;
        Ok(Self {
            root: root.der().clone(),
            issuing: issuing.der().clone(),
            issuer: Issuer::new(issuing_params, issuing_key),
        })
    }
}

fn leaf_params(
    names: impl IntoIterator<Item = impl Into<String>>,
    addresses: &[IpAddr],
) -> io::Result<CertificateParams> {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let common_name = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, "Microsoft Corporation");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(30);
    params.not_after = now + Duration::days(150);
    Ok(params)
}
