//! A server of TLS, for the benches that need one.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::{Server, configuration, free_port, nginx};

/// nginx with TLS 1.3 and a chain of three, the way public endpoints have one; and the file of its root. Without tickets
/// every handshake is a full one, whatever a client does.
pub(crate) fn server(folder: &Path, tickets: bool) -> Option<(Server, String)> {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let (root_key, middle_key, leaf_key) =
        (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let root = authority("root").self_signed(&root_key).expect("a root");
    let root_params = authority("root");
    let root_issuer = Issuer::from_params(&root_params, &root_key);
    let middle = authority("middle").signed_by(&middle_key, &root_issuer).expect("an intermediate");
    let middle_params = authority("middle");
    let middle_issuer = Issuer::from_params(&middle_params, &middle_key);
    let leaf = CertificateParams::new(["*.bench.example".to_owned(), "127.0.0.1".to_owned()])
        .expect("parameters")
        .signed_by(&leaf_key, &middle_issuer)
        .expect("a leaf");
    let ca = configuration(folder, "ca.pem", &root.pem());
    configuration(folder, "chain.pem", &format!("{}{}", leaf.pem(), middle.pem()));
    configuration(folder, "key.pem", &leaf_key.serialize_pem());
    let port = free_port();
    let tickets = if tickets { "on" } else { "off" };
    let http = format!(
        "server {{ listen 127.0.0.1:{port} ssl backlog=4096; ssl_certificate DIR/chain.pem; \
         ssl_certificate_key DIR/key.pem; ssl_protocols TLSv1.3; ssl_session_tickets {tickets}; return 200 ok; }}"
    );
    Some((nginx(folder, port, &http)?, ca.display().to_string()))
}
