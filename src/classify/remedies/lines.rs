//! Configuration lines of forward proxies, as Debian 12 ships them (squid 5.7, tinyproxy 1.11, haproxy 2.6, privoxy 3.0).

use std::collections::BTreeSet;

use super::facts::storage_suffix;

/// The same rule in the configuration of each product.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    pub(crate) squid: Vec<String>,
    pub(crate) tinyproxy: Vec<String>,
    pub(crate) haproxy: Vec<String>,
    pub(crate) privoxy: Vec<String>,
}

/// Lets CONNECT to these ports through, and to 443.
pub(crate) fn ports(ports: &[u16]) -> Lines {
    let mut squid: Vec<String> =
        ports.iter().filter(|&&p| p != 443).map(|p| format!("acl SSL_ports port {p}")).collect();
    squid.extend(
        ports.iter().filter(|&&p| p < 1025 && !matches!(p, 80 | 443)).map(|p| format!("acl Safe_ports port {p}")),
    );
    if squid.is_empty() {
        squid.push("acl SSL_ports port 443".into());
    }
    let mut allowed: BTreeSet<u16> = ports.iter().copied().collect();
    allowed.insert(443);
    let list = |before: &str, separator: &str| {
        allowed.iter().map(|port| format!("{before}{port}")).collect::<Vec<_>>().join(separator)
    };
    Lines {
        squid,
        tinyproxy: allowed.iter().map(|p| format!("ConnectPort {p}")).collect(),
        haproxy: vec![format!("http-request allow if METH_CONNECT {{ url_end {} }}", list(":", " "))],
        privoxy: vec![format!("{{ +limit-connect{{{}}} }}", list("", ","))],
    }
}

/// Lets names (suffixes, separated by spaces) through where a rule about names stops them.
pub(crate) fn names(names: &str) -> Lines {
    let mut privoxy = vec!["# user.action".to_owned(), "{ -block }".to_owned()];
    privoxy.extend(names.split(' ').map(str::to_owned));
    Lines {
        tinyproxy: vec!["# take what matches these names out of the file that `Filter` names".into()],
        privoxy,
        ..names_from_subnet(names)
    }
}

/// Lets names through for the subnet of the machines alone, where the product can tell, and the subnet as such elsewhere.
pub(crate) fn names_from_subnet(names: &str) -> Lines {
    let hosts: Vec<_> = names.split(' ').map(|name| format!("{name}:")).collect();
    Lines {
        squid: vec![
            "acl backup_src src VM_SUBNET".into(),
            format!("acl azure_dst dstdomain {names}"),
            "http_access allow CONNECT backup_src azure_dst".into(),
        ],
        haproxy: vec![format!(
            "http-request allow if METH_CONNECT {{ src VM_SUBNET }} {{ url_sub {} }}",
            hosts.join(" ")
        )],
        ..subnet()
    }
}

/// Lets the subnet of the machines in.
pub(crate) fn subnet() -> Lines {
    Lines {
        squid: vec!["acl backup_src src VM_SUBNET".into(), "http_access allow backup_src".into()],
        tinyproxy: vec!["Allow VM_SUBNET".into()],
        haproxy: vec!["http-request allow if { src VM_SUBNET }".into()],
        privoxy: vec!["permit-access VM_SUBNET".into()],
    }
}

/// Leaves TLS to these names alone in squid; stands before `ssl_bump bump all`.
pub(crate) fn splice(names: &str) -> [String; 3] {
    [format!("acl azure ssl::server_name {names}"), "ssl_bump peek step1".into(), "ssl_bump splice azure".into()]
}

/// Suffixes for `dstdomain` and `ssl::server_name`: the storage suffix of each host, else the host itself; without hosts
/// those of public Azure.
pub(crate) fn suffixes<'a>(hosts: impl Iterator<Item = &'a str>) -> String {
    let mut list: BTreeSet<String> =
        hosts.map(|host| storage_suffix(host).unwrap_or(host).to_owned()).take(3).collect();
    if list.is_empty() {
        list.insert(".blob.core.windows.net".into());
    }
    if list.contains(".blob.core.windows.net") {
        // Managed disks live under the second suffix.
        list.insert(".blob.storage.azure.net".into());
    }
    list.into_iter().collect::<Vec<_>>().join(" ")
}
