//! The certificates of an estate.

use std::ops::Range;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// A root of the test's own, and the issuing authority below it.
pub(super) struct Authority {
    /// The root's certificate, PEM.
    pub(super) certificate: String,
    /// The root's key, PEM.
    pub(super) key: String,
    issuing: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a server presents, PEM.
pub(super) struct Identity {
    /// Its certificate, without that of the issuing authority.
    pub(super) leaf: String,
    /// Its certificate and the one that leads to the root.
    pub(super) chain: String,
    /// Its key.
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(organization: &str, name: &str) -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CountryName, "US");
            params.distinguished_name.push(DnType::OrganizationName, organization);
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params
        };
        let (root, root_key) = (params(name), KeyPair::generate().unwrap());
        let certificate = root.self_signed(&root_key).unwrap().pem();
        let key = root_key.serialize_pem();
        let (issuing, issuing_key) = (params(&format!("{name} Issuing 1")), KeyPair::generate().unwrap());
        let issued = issuing.signed_by(&issuing_key, &Issuer::new(root, root_key)).unwrap().pem();
        Self { certificate, key, issuing: issued, issuer: Issuer::new(issuing, issuing_key) }
    }

    /// A server's certificate for these names, valid from and to these days after today.
    pub(super) fn identity(&self, names: impl IntoIterator<Item = String>, days: Range<i64>) -> Identity {
        let mut params = CertificateParams::new(names.into_iter().collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::days(days.start);
        params.not_after = now + Duration::days(days.end);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { chain: format!("{leaf}{}", self.issuing), leaf, key: key.serialize_pem() }
    }
}
