//! What answers in place of storage.

use super::{
    agent,
    facts::Facts,
    firewall,
    observe::{capture, curl, repeat, who_answers},
    products::{do_not_inspect, exempt_in_proxy, proxy_log},
    remedy, ways,
};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::HTTP_FIREWALL_DENIED => vec![firewall::allow_name(f), ways::around(f)],
        codes::HTTP_CAPTIVE_PORTAL | codes::HTTP_BLOCK_PAGE | codes::HTTP_REDIRECTED => {
            let mut list = vec![remedy(
                format!(
                    "Exempt {} and this machine's subnet from the filter or portal that answers, without inspection",
                    f.suffixes()
                ),
                [curl(f)],
            )];
            if f.tunnelled {
                list.push(exempt_in_proxy(
                    f,
                    "If the proxy is the filter, allow the backup targets above the rule that refuses",
                ));
            }
            list
        }
        codes::HTTP_WRONG_SPEAKER => vec![who_answers(f), do_not_inspect(f)],
        codes::HTTP_SLOW => vec![
            remedy(
                "Find the slow step",
                [format!(
                    "curl -so /dev/null https://{}/ -w 'dns %{{time_namelookup}} tcp %{{time_connect}} tls %{{time_appconnect}} all %{{time_total}}\\n'",
                    f.host
                )],
            ),
            agent::host_takes_snapshot(f),
        ],
        codes::HTTP_SILENT => vec![
            repeat(
                f,
                "--attempts 10 --timeout 60s",
                "Repeat with more time, and look at the service's health in the portal",
            ),
            capture(f),
        ],
        _ => {
            let mut list = vec![who_answers(f)];
            if f.tunnelled {
                list.push(proxy_log(f, "Read the proxy's log at that second"));
            }
            list.push(capture(f));
            list
        }
    }
}
