//! Address ranges that mean something.

use std::net::IpAddr;

/// Whether the address is of private use: RFC 1918, RFC 6598 (shared), RFC 4193 (unique local) or link-local. Private
/// endpoints have such addresses.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether the address is reserved for documentation (RFC 5737, RFC 3849, RFC 9637) or benchmarks (RFC 2544): nobody
/// answers there, but filtering name servers like to hand such addresses out.
#[must_use]
pub fn is_documentation(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_documentation() || (a == 198 && (18..20).contains(&b))
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            (a == 0x2001 && b == 0x0db8) || (a == 0x3fff && b < 0x1000)
        }
    }
}

/// Whether no storage endpoint can have this address: loopback, unspecified, documentation, multicast or broadcast.
#[must_use]
pub fn is_sinkhole(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let this_network = matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.is_broadcast());
    this_network || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_documentation(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_end_where_the_rfcs_say() {
        for private in ["10.0.0.4", "172.31.255.255", "192.168.1.1", "100.64.0.1", "169.254.1.1", "fd00::4", "fe80::1"]
        {
            assert!(is_private(ip(private)) && !is_sinkhole(ip(private)), "{private}");
        }
        for public in ["172.32.0.1", "100.128.0.1", "20.60.1.1", "2603:1030::1", "198.20.0.1", "3fff:1000::1"] {
            assert!(!is_private(ip(public)) && !is_sinkhole(ip(public)), "{public}");
        }
        for sinkhole in [
            "0.0.0.0",
            "127.0.0.53",
            "::",
            "::1",
            "192.0.2.7",
            "198.51.100.1",
            "203.0.113.9",
            "198.18.0.1",
            "2001:db8::1",
        ] {
            assert!(is_sinkhole(ip(sinkhole)), "{sinkhole}");
        }
        assert!(is_private(ip("::ffff:10.0.0.4")), "a mapped address is the address it maps");
    }
}
