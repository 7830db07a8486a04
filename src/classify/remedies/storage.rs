//! What storage itself says.

use super::{
    facts::{Facts, storage_suffix},
    local::fix_clock,
    observe::{repeat, s_client},
    remedy, windows,
};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    let account = f.host.split('.').next().filter(|_| storage_suffix(&f.host).is_some()).unwrap_or("ACCOUNT");
    match code {
        codes::STORAGE_NETWORK_RULES => vec![
            remedy(
                "Allow this machine's subnet in the account's firewall; the subnet needs the service endpoint \
                 Microsoft.Storage",
                [format!("az storage account network-rule add -g RG --account-name {account} --subnet SUBNET_ID")],
            ),
            remedy(
                "Or allow the public address that storage sees; this does not work for machines in the account's own region",
                [format!(
                    "az storage account network-rule add -g RG --account-name {account} --ip-address PUBLIC_ADDRESS"
                )],
            ),
            remedy(
                "Let the Backup service itself in as a trusted Microsoft service; this does not admit the machine",
                [format!("az storage account update -g RG -n {account} --bypass AzureServices")],
            ),
        ],
        codes::STORAGE_HTTPS_REQUIRED => vec![remedy(
            "Use port 443 and leave port 80 out of the check: secure transfer is on, as it should be",
            [format!("snapreach check --ports 443,8443 {}", f.host)],
        )],
        codes::STORAGE_TLS_VERSION => vec![
            remedy(
                "Make the client, or the proxy that inspects, speak TLS 1.2 or newer",
                ["# squid: tls_outgoing_options min-version=1.2".to_owned(), s_client(f)],
            ),
            remedy(
                "Or lower what the account demands",
                [format!("az storage account update -g RG -n {account} --min-tls-version TLS1_2")],
            ),
            windows::strong_crypto(),
        ],
        codes::STORAGE_THROTTLED => vec![repeat(
            f,
            "--attempts 10 --concurrency 1",
            "Repeat later, and spread the backup schedules; the path is clear",
        )],
        codes::STORAGE_ERROR => vec![repeat(
            f,
            "--attempts 10",
            "Repeat, then open a ticket with the x-ms-request-id of the evidence if it stays",
        )],
        _ => vec![
            remedy("Make a new signature, a little back-dated in st, and quote the URL in the shell", ["date -u"]),
            fix_clock(),
        ],
    }
}
