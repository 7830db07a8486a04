//! The certificates of an estate.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate authority of the test's own.
pub(super) struct Authority {
    /// Its certificate, PEM.
    pub(super) certificate: String,
    /// Its key, PEM.
    pub(super) key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a server presents, PEM.
pub(super) struct Identity {
    /// Its certificate.
    pub(super) certificate: String,
    /// Its key.
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(organization: &str, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CountryName, "US");
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(params, key) }
    }

    /// A server's certificate for these names.
    pub(super) fn identity(&self, names: impl IntoIterator<Item = String>) -> Identity {
        let mut params = CertificateParams::new(names.into_iter().collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}
