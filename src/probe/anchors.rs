//! Trust anchors from files: certificates in PEM.

use std::{fs, path::Path};

use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The certificates of a PEM file, DER. Other PEM blocks in it are passed over.
///
/// # Errors
/// When the file cannot be read, holds no certificate, or one that does not decode.
pub fn read_anchors(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let error = |reason: String| format!("cannot use the CA file {}: {reason}", path.display());
    let bytes = fs::read(path).map_err(|e| error(e.to_string()))?;
    certificates(&bytes).map_err(error)
}

fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.is_empty() {
        return Err("it is empty; PEM certificates are needed (-----BEGIN CERTIFICATE-----)".into());
    }
    let mut all = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(bytes).enumerate() {
        let certificate = certificate.map_err(|e| format!("certificate {} is broken PEM: {e}", index + 1))?;
        match x509_parser::parse_x509_certificate(&certificate) {
            Ok(_) => all.push(certificate.to_vec()),
            Err(e) => return Err(format!("PEM block {} is no X.509 certificate: {e}", index + 1)),
        }
    }
    if !all.is_empty() {
        return Ok(all);
    }
    // 0x30 is the tag of a SEQUENCE, with which every DER certificate begins.
    let hint = if bytes[0] == 0x30 { "; for a DER file: openssl x509 -inform der -in FILE -out FILE.pem" } else { "" };
    Err(format!("no certificate in it; PEM certificates are needed (-----BEGIN CERTIFICATE-----){hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_found_among_other_blocks() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["ca.example".into()]).unwrap().self_signed(&key).unwrap();
        let pem = format!("a comment\n{}{}{}", key.serialize_pem(), certificate.pem(), certificate.pem());
        assert_eq!(certificates(pem.as_bytes()).unwrap(), vec![certificate.der().to_vec(); 2]);
    }

    #[test]
    fn what_holds_no_certificate_says_why() {
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b"hello", "no certificate in it"),
            (b"\x30\x82\x01", "-inform der"),
            (b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "broken PEM"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no X.509"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "broken PEM"),
        ] {
            let error = certificates(bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let error = read_anchors(Path::new("/nonexistent/ca.pem")).unwrap_err();
        assert!(error.contains("/nonexistent/ca.pem: "), "{error}");
    }
}
