//! Agent and extension on this machine: waagent.conf, the agent's service, and the snapshot method.

use super::{
    facts::{Consumer, Facts, storage_suffix},
    form, nsg, products, proxy, remedy, tls, windows,
};
use crate::{
    classify::codes,
    model::{Code, Form, Remedy},
};

const RESTART: &str = "sudo systemctl restart walinuxagent  # waagent on RHEL, SLES";

/// By the codes of the machine's configuration.
pub(super) fn config(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::CONFIG_PROXY_CONFLICT => {
            let mut agree = remedy(
                "Make all sources name the same proxy, or delete those that serve nobody",
                [
                    "grep -nE '^ *HttpProxy' /etc/waagent.conf; env | grep -i _proxy; grep -i _proxy /etc/environment",
                    "systemctl show walinuxagent waagent -p Environment",
                    RESTART,
                ],
            );
            agree.forms = vec![service_environment(f), windows::account_proxy(f)];
            vec![agree]
        }
        codes::CONFIG_PROXY_INVALID => {
            let [host, port] = proxy_keys(f);
            let mut keys = remedy(
                "Write host and port as two keys without spaces around `=` in /etc/waagent.conf, or comment both out",
                [host, port, format!("# then: {RESTART}")],
            );
            keys.note = "The agent then uses the proxy; the snapshot extension ignores it since July 2019.".into();
            keys.forms = vec![service_environment(f), windows::account_proxy(f)];
            vec![keys]
        }
        codes::CONFIG_AGENT_FILE_UNREADABLE_BY_EXTENSION => vec![remedy(
            "Put each comment's # into the first column of waagent.conf and remove the spaces around `=`; a proxy named \
             there comes into force with that",
            [
                "sudo cp -a /etc/waagent.conf /etc/waagent.conf.before",
                "sudo sed -i -E 's/^[[:space:]]+#/#/; s/^([A-Za-z.]+)[[:space:]]*=[[:space:]]*/\\1=/' /etc/waagent.conf",
                RESTART,
            ],
        )],
        codes::CONFIG_NO_PROXY_INCOMPLETE => {
            let mut exempt = remedy(
                "Exclude the platform addresses wherever the environment names a proxy, in both spellings",
                [
                    "no_proxy=168.63.129.16,169.254.169.254,localhost,127.0.0.1",
                    "NO_PROXY=168.63.129.16,169.254.169.254,localhost,127.0.0.1",
                ],
            );
            exempt.forms = vec![service_environment(f)];
            vec![exempt]
        }
        codes::CONFIG_PROXY_NEEDS_AUTH => proxy::no_login(f),
        _ => vec![remedy(
            "Remove the storage names from the hosts file and let DNS answer",
            [
                "grep -nE 'core\\.windows\\.net|storage\\.azure\\.net' /etc/hosts".to_owned(),
                format!("resolvectl query {}", f.host),
                "ipconfig /flushdns  # Windows, after editing C:\\Windows\\System32\\drivers\\etc\\hosts".to_owned(),
            ],
        )],
    }
}

/// By the codes of a consumer that goes another way than the probe.
pub(super) fn consumer(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::CONSUMER_IGNORES_PROXY => {
            // The current Linux extension always dials 443.
            let mut list = vec![host_takes_snapshot(f)];
            list.splice(0..0, nsg::open(&f.direct([443])));
            list.push(remedy(
                "As a stopgap, name host and port in one key and leave HttpProxy.Port out: the extension then uses \
                 the proxy and the agent goes direct, until an update ends it",
                [format!("HttpProxy.Host={}:{}", f.proxy_host, f.proxy_port)],
            ));
            list
        }
        codes::CONSUMER_USES_PROXY => {
            let mut remove = remedy(
                "Remove the proxy from waagent.conf, since the direct way works; or repair the proxy as the other \
                 findings say",
                ["sudo sed -i -E 's/^(HttpProxy\\.(Host|Port))/#\\1/' /etc/waagent.conf", RESTART],
            );
            remove.forms = vec![windows::no_account_proxy()];
            vec![remove]
        }
        codes::CONSUMER_DISTRUSTS_ANCHOR => vec![products::do_not_inspect(f), tls::trust_authority()],
        _ => vec![remedy(
            "Leave the unused ports out of the check; Windows machines may need 8443",
            [format!("snapreach check --ports 443 {}", f.host)],
        )],
    }
}

/// Sends the agent, and what reads its configuration, through the proxy.
pub(super) fn through_proxy(f: &Facts) -> Remedy {
    let [host, port] = proxy_keys(f);
    let mut through = remedy(
        "Give the agent an HTTP proxy that reaches storage, in /etc/waagent.conf without spaces around `=`",
        [host, port, format!("# then: {RESTART}")],
    );
    through.note = "It opens what the proxy lets through, by name. It cannot log in to a proxy, and the snapshot \
                    extension ignores the proxy since July 2019."
        .into();
    through.forms = vec![service_environment(f), windows::account_proxy(f)];
    through
}

/// The host path makes the guest's way to storage unimportant for the snapshot.
pub(super) fn host_takes_snapshot(f: &Facts) -> Remedy {
    let by_host = matches!(f.method.as_str(), "" | "firstHostThenGuest" | "onlyHost");
    let mut host = if by_host {
        remedy(
            "Keep the host path healthy: in the default method the host takes the snapshot and the guest's network plays \
             no part",
            [
                "sudo curl -m 5 --noproxy '*' 'http://168.63.129.16/?comp=versions'",
                "grep -n SnapshotMethod /etc/azure/vmbackup.conf",
            ],
        )
    } else {
        remedy(
            format!("Let the host take the snapshot, in place of the method {}", f.method),
            ["# /etc/azure/vmbackup.conf", "[SnapshotThread]", "SnapshotMethod=firstHostThenGuest"],
        )
    };
    let mut note = "This opens nothing and needs 168.63.129.16 on TCP 80 alone.".to_owned();
    if f.consumer == Consumer::IgnoresProxy && storage_suffix(&f.host).is_some() {
        note.push_str(
            " A proxy would not help the snapshot: with host and port set in waagent.conf the extension ignores it \
             since July 2019.",
        );
    }
    host.note = note;
    host.forms = vec![windows::snapshot_by_host()];
    host
}

/// The two keys that agent and extension read alike.
fn proxy_keys(f: &Facts) -> [String; 2] {
    [format!("HttpProxy.Host={}", f.proxy_host), format!("HttpProxy.Port={}", f.proxy_port)]
}

/// A drop-in for the agent's unit, which reads no other environment.
fn service_environment(f: &Facts) -> Form {
    form(
        "systemd",
        [
            "# /etc/systemd/system/walinuxagent.service.d/proxy.conf (waagent.service.d on RHEL, SLES)".to_owned(),
            "[Service]".to_owned(),
            format!("Environment=https_proxy={0} http_proxy={0}", f.proxy),
            "Environment=no_proxy=168.63.129.16,169.254.169.254".to_owned(),
            "# then: systemctl daemon-reload && systemctl restart walinuxagent".to_owned(),
        ],
    )
}
