//! Storage, and whose certificates it presents.

use std::{fs, ops::Range};

use super::{
    AZURITE, Estate, STORAGE, listens,
    pki::{Authority, Identity},
    scenario::assert_met,
};
use crate::programs::Program;

/// The days of a certificate's life, from today.
const VALID: Range<i64> = -30..150;

impl Estate {
    /// Azurite on 80 and 443, the latter also as 8443.
    pub(super) fn start_storage(&mut self) {
        let public = Authority::new("Microsoft Corporation", "Microsoft RSA Root Certificate Authority 2017");
        self.trust(&public);
        let identity = public.identity(names(), VALID);
        self.certify(&identity.chain, &identity.key);
        self.plain = Some(self.azurite(80, &[]));
        self.hosts.nft(
            STORAGE.role,
            "table inet ports {\n chain in {\n type nat hook prerouting priority -100\n tcp dport 8443 redirect to :443\n }\n}\n",
        );
        for (program, port) in [(&mut self.plain, 80), (&mut self.tls, 443)] {
            program.as_mut().unwrap().wait_until(|| listens(&self.hosts, &STORAGE, port));
        }
    }

    /// Azurite on one port. It finds no account in `GET /`, which it then answers as Azure answers it; when it takes accounts
    /// from host names it leaves that request to its HTTP library, which answers without a mark of storage.
    fn azurite(&self, port: u16, rest: &[&str]) -> Program {
        let mut command = self.command(&STORAGE, "node");
        command.arg(std::env::var_os(AZURITE).unwrap());
        command.args(["--blobHost", "::", "--blobPort", &port.to_string(), "--disableProductStyleUrl"]);
        command.args(["--inMemoryPersistence", "--disableTelemetry", "--silent"]);
        command.args(rest.iter().map(|argument| self.fill(argument))).current_dir(self.folder.path());
        Program::start(command, &self.folder.path().join(format!("azurite-{port}")))
    }

    /// Starts storage's TLS port anew with this certificate and key.
    fn certify(&mut self, certificate: &str, key: &str) {
        self.tls = None;
        fs::write(self.folder.path().join("storage.crt"), certificate).unwrap();
        fs::write(self.folder.path().join("storage.key"), key).unwrap();
        self.tls = Some(self.azurite(443, &["--cert", "DIR/storage.crt", "--key", "DIR/storage.key"]));
    }

    /// Makes this authority the only one in every host's trust store.
    fn trust(&self, authority: &Authority) {
        let file = self.folder.path().join("etc/ssl/certs/ca-certificates.crt");
        fs::write(file, &authority.certificate).unwrap();
    }
}

/// As many names as storage's own certificates have, so that one packet does not hold the server's part of a handshake.
fn names() -> impl Iterator<Item = String> {
    let zones = (1..50).map(|zone| format!("*.z{zone}.blob.storage.azure.net"));
    ["*.blob.core.windows.net".to_owned()].into_iter().chain(zones)
}

#[test]
fn certificates_in_place_of_storages_own() {
    let Some(mut estate) = Estate::new("ce") else { return };
    let public = Authority::new("Microsoft Corporation", "Microsoft RSA Root Certificate Authority 2017");
    let unknown = Authority::new("DigiCert Inc", "DigiCert Global Root G9");
    let company = Authority::new("Contoso Ltd", "Contoso Root CA");
    let mut unmet = Vec::new();
    let genuine = public.identity(names(), VALID);
    for (trusted, identity, scenario) in [
        (&public, Identity { chain: genuine.leaf.clone(), ..genuine }, "tls-incomplete-chain"),
        (&public, public.identity(names(), -400..-2), "tls-expired"),
        (&public, public.identity(names(), 2..300), "tls-not-yet-valid"),
        (&public, public.identity(["www.example.com".to_owned()], VALID), "tls-name-mismatch"),
        (&public, unknown.identity(names(), VALID), "tls-unknown-issuer"),
        (&public, company.identity(names(), VALID), "tls-intercepted"),
        (&company, company.identity(names(), VALID), "tls-intercepted-trusted"),
    ] {
        estate.trust(trusted);
        estate.certify(&identity.chain, &identity.key);
        estate.tls.as_mut().unwrap().wait_until(|| listens(&estate.hosts, &STORAGE, 443));
        unmet.extend(estate.unmet(scenario, &[]));
    }
    // The TLS port leads to the plain one.
    estate.hosts.nft(
        STORAGE.role,
        "flush ruleset\ntable inet ports {\n chain in {\n type nat hook prerouting priority -100\n tcp dport 443 redirect to :80\n }\n}\n",
    );
    unmet.extend(estate.unmet("tls-not-tls", &[]));
    assert_met(&unmet);
}
