//! The configuration of proxies, by product.

use super::{
    facts::{Facts, Product},
    lines::{self, Lines},
    remedy,
};
use crate::model::Remedy;

/// Lets CONNECT to these ports through.
pub(super) fn port_list(f: &Facts) -> Remedy {
    config(f, format!("Allow CONNECT to {} in the proxy", f.ports_in_words()), lines::ports(&f.ports()))
}

/// Lets the names through where a rule about names stops them.
pub(super) fn allow_names(f: &Facts, title: impl Into<String>) -> Remedy {
    config(f, title, lines::names(&f.suffixes()))
}

/// Lets the backup through for this machine's subnet, without a login and for these names only.
pub(super) fn exempt_in_proxy(f: &Facts, title: impl Into<String>) -> Remedy {
    config(f, title, lines::names_from_subnet(&f.suffixes()))
}

pub(super) fn client_allowed(f: &Facts) -> Remedy {
    config(f, "Add this machine's subnet to the proxy's access list", lines::subnet())
}

pub(super) fn do_not_inspect(f: &Facts) -> Remedy {
    let [names, peek, splice] = lines::splice(&f.suffixes());
    let squid = [names, peek, splice, "# before `ssl_bump bump all`; then: squid -k reconfigure".into()];
    let title = format!("Exempt {} from TLS inspection on the device that signs these certificates", f.suffixes());
    match f.product {
        Product::Squid => remedy(title, squid),
        _ => remedy(title, squid.map(|line| format!("# squid: {}", line.trim_start_matches("# ")))),
    }
}

pub(super) fn proxy_answers_sooner(f: &Facts) -> Option<Remedy> {
    let (title, lines): (_, Vec<&str>) = match f.product {
        Product::Squid => (
            "Make squid report a black hole after 10 s in place of 61 s; this repairs nothing by itself",
            vec!["connect_timeout 10 seconds", "# then: squid -k reconfigure"],
        ),
        Product::Haproxy => (
            "Give the proxy behind haproxy the time to say what is wrong; this repairs nothing by itself",
            vec!["timeout server 90s", "timeout tunnel 2h", "# then: systemctl reload haproxy"],
        ),
        _ => return None,
    };
    Some(remedy(title, lines))
}

pub(super) fn proxy_log(f: &Facts, title: &str) -> Remedy {
    let line = match f.product {
        Product::Squid => "sudo tail -f /var/log/squid/access.log /var/log/squid/cache.log",
        Product::Tinyproxy => "sudo journalctl -u tinyproxy -n 50; sudo tail /var/log/tinyproxy/tinyproxy.log",
        Product::Haproxy => "sudo journalctl -u haproxy -n 50; sudo tail /var/log/haproxy.log",
        Product::Privoxy => "sudo tail -n 50 /var/log/privoxy/logfile",
        Product::Cntlm => "sudo journalctl -u cntlm -n 50",
        Product::Other => "sudo journalctl -n 100 --no-pager | grep -iE 'squid|tinyproxy|haproxy|privoxy|cntlm'",
    };
    remedy(title, [line])
}

pub(super) fn capacity(f: &Facts) -> Remedy {
    let title = "Raise the proxy's limits for connections and open files";
    let unit = |name: &str| format!("# systemctl edit {name}: [Service] LimitNOFILE=65535; then restart {name}");
    match f.product {
        Product::Squid => remedy(title, ["max_filedescriptors 16384".to_owned(), unit("squid")]),
        Product::Tinyproxy => remedy(title, ["MaxClients 3000".to_owned(), unit("tinyproxy")]),
        Product::Privoxy => remedy(title, ["max-client-connections 3000".to_owned(), unit("privoxy")]),
        Product::Haproxy => remedy(title, ["maxconn 20000  # in global".to_owned(), unit("haproxy")]),
        Product::Cntlm => remedy(
            "Run several cntlm processes: one carries about 510 tunnels and no setting changes that",
            Vec::<String>::new(),
        ),
        Product::Other => remedy(
            title,
            ["# squid: max_filedescriptors 16384", "# tinyproxy: MaxClients 3000", "# systemd: LimitNOFILE=65535"],
        ),
    }
}

/// Configuration lines for the product that spoke, or for the usual ones as comments.
fn config(f: &Facts, title: impl Into<String>, lines: Lines) -> Remedy {
    let Lines { squid, tinyproxy, haproxy, privoxy } = lines;
    let then = |mut lines: Vec<String>, last: &str| {
        lines.push(last.to_owned());
        lines
    };
    let lines = match f.product {
        Product::Squid => then(squid, "# then: squid -k reconfigure"),
        Product::Tinyproxy => then(tinyproxy, "# then: systemctl restart tinyproxy"),
        Product::Haproxy => then(haproxy, "# above the rule that denies; then: systemctl reload haproxy"),
        Product::Privoxy => privoxy,
        Product::Cntlm | Product::Other => {
            let products = [("squid", squid), ("tinyproxy", tinyproxy), ("haproxy", haproxy), ("privoxy", privoxy)];
            let labelled = products.iter().flat_map(|(name, lines)| {
                lines.iter().map(move |line| format!("# {name}: {}", line.trim_start_matches("# ")))
            });
            labelled.collect()
        }
    };
    remedy(title, lines)
}
