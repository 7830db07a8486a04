//! TLS: inspection, filters by name, versions and trust.

use super::{
    MOST,
    facts::Facts,
    firewall,
    local::fix_clock,
    nsg::effective,
    observe::{from_proxy_host, s_client, smaller_packets, who_answers},
    products::{do_not_inspect, proxy_log},
    proxy, remedy, ways, windows,
};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    let answers = || who_answers(f);
    match code {
        codes::TLS_INTERCEPTED | codes::TLS_UNKNOWN_ISSUER => {
            let mut list = vec![do_not_inspect(f), trust_authority()];
            if code == codes::TLS_UNKNOWN_ISSUER {
                list.push(remedy(
                    "Renew this machine's trust store, if the issuer is DigiCert or Microsoft",
                    [
                        "sudo apt-get install --reinstall ca-certificates && sudo update-ca-certificates --fresh",
                        "sudo dnf reinstall ca-certificates && sudo update-ca-trust",
                    ],
                ));
            }
            list
        }
        codes::TLS_INCOMPLETE_CHAIN => vec![
            remedy(
                "Append the intermediate certificate on the server that answers, leaf first",
                ["cat leaf.pem intermediate.pem > chain.pem".to_owned(), s_client(f)],
            ),
            do_not_inspect(f),
        ],
        codes::TLS_EXPIRED | codes::TLS_NOT_YET_VALID => vec![fix_clock(), answers()],
        codes::TLS_PROTOCOL_VERSION | codes::TLS_HANDSHAKE_FAILURE => vec![
            remedy(
                "Test TLS 1.2 and 1.3 by themselves; storage speaks both, so the device that refuses stands in between",
                ["-tls1_2", "-tls1_3"].map(|version| s_client(f).replace("-showcerts", version)),
            ),
            do_not_inspect(f),
            windows::strong_crypto(),
        ],
        codes::TLS_RESET_AFTER_HELLO
        | codes::TLS_CLOSED_AFTER_HELLO
        | codes::TLS_SILENT_AFTER_HELLO
        | codes::TLS_ALERT => {
            if f.is_to_proxy() {
                return vec![
                    remedy(
                        "Find out whether the proxy port speaks TLS at all; if not, write http:// in its URL",
                        [s_client(f)],
                    ),
                    proxy_log(f, "Read the proxy's log at that second"),
                ];
            }
            let mut list = if f.tunnelled || f.is_on_proxy_host() {
                vec![
                    proxy_log(f, "Read the proxy's log at that second: it filters by name, or its own way out does"),
                    from_proxy_host(f),
                    do_not_inspect(f),
                ]
            } else {
                vec![
                    firewall::allow_name(f),
                    remedy(
                        "Confirm that the name decides: offer another name to the same address",
                        [format!("openssl s_client -connect {} -servername www.microsoft.com </dev/null", f.target)],
                    ),
                    ways::around(f),
                ]
            };
            if code == codes::TLS_SILENT_AFTER_HELLO {
                list.truncate(MOST - 1);
                list.push(smaller_packets(f));
            }
            list
        }
        codes::TLS_NOT_TLS if f.is_to_proxy() => proxy::remedies(codes::PROXY_EXPECTS_PLAINTEXT, f),
        codes::TLS_NOT_TLS if f.tunnelled => vec![
            from_proxy_host(f),
            proxy_log(f, "Find in the proxy's log where it led the tunnel: what answers there speaks no TLS"),
        ],
        codes::TLS_NAME_MISMATCH => vec![
            answers(),
            remedy(
                "Use the account's own name, never its privatelink name, and remove hosts file entries",
                ["grep -nE 'core\\.windows\\.net|storage\\.azure\\.net' /etc/hosts"],
            ),
        ],
        codes::TLS_CLIENT_CERT_REQUIRED if f.is_to_proxy() => vec![remedy(
            "Offer a proxy port without client certificates for this machine's subnet: agent and extension have none",
            [s_client(f)],
        )],
        _ => vec![answers(), effective(f)],
    }
}

pub(super) fn trust_authority() -> Remedy {
    remedy(
        "Install the inspecting authority in the system's trust store, if inspection must stay; other trust stores \
         (Java, a Python of its own) do not follow",
        [
            "cp company-ca.crt /usr/local/share/ca-certificates/ && update-ca-certificates  # Debian, Ubuntu",
            "cp company-ca.crt /etc/pki/ca-trust/source/anchors/ && update-ca-trust  # RHEL",
            "Import-Certificate -FilePath company-ca.cer -CertStoreLocation Cert:\\LocalMachine\\Root  # Windows",
        ],
    )
}
