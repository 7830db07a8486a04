//! Option values: one parser each, shared by the command line and the configuration file.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use clap::{
    ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::{Deserialize, Serialize};

use crate::{
    bench::{Workload, gate::Metric},
    exchange::MAX_BYTES,
    model::Host,
};

/// What is wrong with a value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Invalid(String);

impl Invalid {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// A time budget from 1 ms to `MAX_SECONDS`, written `250ms`, `10s`, `2m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget<const MAX_SECONDS: u64>(pub(super) Duration);

/// For one layer: up to an hour.
pub(super) type LayerBudget = Budget<3600>;
/// For the whole run: up to a day.
pub(super) type Deadline = Budget<86_400>;

impl<const MAX_SECONDS: u64> From<Duration> for Budget<MAX_SECONDS> {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl<const MAX_SECONDS: u64> FromStr for Budget<MAX_SECONDS> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        duration(text)
            .filter(|d| !d.is_zero() && *d <= Duration::from_secs(MAX_SECONDS))
            .map(Self)
            .ok_or_else(|| Invalid(format!("write 250ms, 10s or 2m, from 1ms to {}h", MAX_SECONDS / 3600)))
    }
}

impl<const MAX_SECONDS: u64> fmt::Display for Budget<MAX_SECONDS> {
    /// In the largest unit that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(unit_ms)?))
}

/// Parses a whole number from `LOW` to `HIGH`.
pub(super) fn within<T: TryFrom<u64>, const LOW: u64, const HIGH: u64>(text: &str) -> Result<T, Invalid> {
    text.parse()
        .ok()
        .filter(|number| (LOW..=HIGH).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| Invalid::new(format!("write a whole number in {LOW}..={HIGH}")))
}

/// Parses a TCP port.
pub(super) fn port(text: &str) -> Result<u16, Invalid> {
    Some(text)
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|&port| port != 0)
        .ok_or_else(|| Invalid::new("a port is a number from 1 to 65535"))
}

/// The first label of a storage endpoint: an account's name, mostly 3 to 24 lower-case letters and digits (Azure
/// resource naming rules, `Microsoft.Storage/storageAccounts`), but also `md-…` of managed disks and `…-secondary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account(String);

impl FromStr for Account {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let edge = text.starts_with('-') || text.ends_with('-');
        if (1..=63).contains(&text.len()) && !edge && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "an account's name has lower-case letters, digits and inner hyphens only, such as `mystorageaccount` or `md-abc`",
            ))
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the origin listens: an address of this machine, at storage's ports or at one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen {
    pub(super) ip: IpAddr,
    pub(super) port: Option<u16>,
}

impl FromStr for Listen {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let with_port = || text.parse::<SocketAddr>().ok().filter(|at| at.port() != 0);
        bare(text)
            .map(|ip| Self { ip, port: None })
            .or_else(|| with_port().map(|at| Self { ip: at.ip(), port: Some(at.port()) }))
            .ok_or_else(|| Invalid::new("write an address of this machine, ADDR or ADDR:PORT"))
    }
}

/// An address with an optional port, IPv6 in brackets when a port follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoint<const DEFAULT_PORT: u16>(pub(super) SocketAddr);

impl<const DEFAULT_PORT: u16> FromStr for Endpoint<DEFAULT_PORT> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        bare(text)
            .map(|ip| SocketAddr::new(ip, DEFAULT_PORT))
            .or_else(|| text.parse().ok())
            .filter(|address| address.port() != 0)
            .map(Self)
            .ok_or_else(|| Invalid::new("write ADDR or ADDR:PORT, as 10.0.0.4, 10.0.0.4:5353 or [2001:db8::4]:53"))
    }
}

impl<const DEFAULT_PORT: u16> fmt::Display for Endpoint<DEFAULT_PORT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `HOST:PORT` as a proxy is asked for it: a name or an address, IPv6 in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// Name or address.
    pub(super) host: Host,
    /// Port.
    pub(super) port: u16,
}

impl FromStr for Authority {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let form = || Invalid::new("write HOST:PORT, as acct.blob.core.windows.net:443 or [2001:db8::4]:443");
        let (host, digits) = split_host(text).ok_or_else(form)?;
        Ok(Self { host: host.parse().map_err(|_| form())?, port: port(digits)? })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host.authority(self.port))
    }
}

/// A host name, and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

impl FromStr for HostName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(Host::Name(name)) => Ok(Self(name.to_string())),
            _ => Err(Invalid::new("write a host name, as origin.example")),
        }
    }
}

/// `HOST[:PORT]`: a name or an address, IPv6 in brackets when a port follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Name or address.
    pub(super) host: Host,
    /// Port, where one is given.
    pub(super) port: Option<u16>,
}

impl FromStr for Place {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let form = || Invalid::new("write HOST or HOST:PORT, as 10.0.0.9, origin.example:443 or [2001:db8::4]:443");
        if let Ok(Authority { host, port }) = text.parse() {
            return Ok(Self { host, port: Some(port) });
        }
        let bare = text.parse::<IpAddr>().ok().map(Host::Ip);
        let host = bare.or_else(|| text.parse().ok()).ok_or_else(form)?;
        Ok(Self { host, port: None })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => f.write_str(&self.host.authority(port)),
            None => self.host.fmt(f),
        }
    }
}

/// A number of bytes up to [`MAX_BYTES`], written `64KiB`, `100MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => 64,
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1_u64.checked_shl(shift)?));
        bytes
            .filter(|bytes| (1..=MAX_BYTES).contains(bytes))
            .map(Self)
            .ok_or_else(|| Invalid::new("write 64KiB, 100MiB or 1GiB, which is the most"))
    }
}

/// Operations per second, written `2000/s` or `0.5/s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate(pub(super) f64);

impl FromStr for Rate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rate = text.strip_suffix("/s").unwrap_or(text).parse().ok();
        rate.filter(|rate| (0.001..=1e6).contains(rate))
            .map(Self)
            .ok_or_else(|| Invalid::new("write 2000/s or 0.5/s, from 0.001 to 1000000"))
    }
}

/// A share, written `5%` or `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share(pub(super) f64);

impl FromStr for Share {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent
            .filter(|percent| (0.0..=90.0).contains(percent))
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| Invalid::new("write 5% or 0.5%, from 0% to 90%"))
    }
}

/// A parser of the names of workloads.
pub(super) fn workload() -> impl TypedValueParser<Value = Workload> {
    named(Workload::ALL, Workload::name)
}

/// A parser of the names of gated figures.
pub(super) fn metric() -> impl TypedValueParser<Value = Metric> {
    named([Metric::Goodput, Metric::Rate, Metric::P50, Metric::P99, Metric::Cpu], Metric::name)
}

fn named<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.map(name)).map(move |text| {
        // The parser lets no other text through.
        all.into_iter().find(|one| name(*one) == text).unwrap_or(all[0])
    })
}

/// An address without a port, IPv6 in brackets or not.
fn bare(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .map_or_else(|| text.parse().ok(), |inner| inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

/// `HOST:PORT:ADDR:PORT`: dial an address for a name, as curl's `--connect-to` with a literal address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectTo {
    /// For this host; `None`: any.
    pub(super) host: Option<Host>,
    /// For this port; `None`: any.
    pub(super) port: Option<u16>,
    /// Dial here.
    pub(super) to: SocketAddr,
}

impl FromStr for ConnectTo {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let form = || {
            Invalid::new(
                "write HOST:PORT:ADDR:PORT with a literal ADDR, IPv6 in brackets; an empty HOST or PORT means any, as in ::10.0.0.4:443",
            )
        };
        let (host, rest) = split_host(text).ok_or_else(form)?;
        let (from_port, to) = rest.split_once(':').ok_or_else(form)?;
        Ok(Self {
            host: (!host.is_empty()).then(|| host.parse()).transpose().map_err(|_| form())?,
            port: (!from_port.is_empty()).then(|| port(from_port)).transpose()?,
            to: to.parse().ok().filter(|to: &SocketAddr| to.port() != 0).ok_or_else(form)?,
        })
    }
}

/// The text before the first colon that is not inside brackets, and the text after it.
fn split_host(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('[') {
        let (host, rest) = text.split_at(text.find(']')? + 1);
        Some((host, rest.strip_prefix(':')?))
    } else {
        text.split_once(':')
    }
}

impl fmt::Display for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            host.fmt(f)?;
        }
        f.write_str(":")?;
        if let Some(port) = self.port {
            port.fmt(f)?;
        }
        write!(f, ":{}", self.to)
    }
}

/// An Azure cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub(super) enum Cloud {
    /// Azure.
    #[default]
    Public,
    /// Azure Government.
    UsGov,
    /// Azure operated by 21Vianet.
    China,
}

impl Cloud {
    /// What follows the account name in a blob endpoint (`az cloud show`, `suffixes.storageEndpoint`).
    pub(super) fn blob_suffix(self) -> &'static str {
        match self {
            Self::Public => "blob.core.windows.net",
            Self::UsGov => "blob.core.usgovcloudapi.net",
            Self::China => "blob.core.chinacloudapi.cn",
        }
    }
}

/// Which ways to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub(super) enum Routes {
    /// From this machine to the endpoint.
    Direct,
    /// Through the proxy.
    Proxy,
    /// Both, to compare them.
    Both,
}

/// Whose behaviour to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Consumer {
    /// The Linux snapshot extension, current build.
    VmsnapshotLinux,
    /// The Linux snapshot extension of 2019.
    #[serde(rename = "vmsnapshot-linux-2019")]
    #[value(name = "vmsnapshot-linux-2019")]
    VmsnapshotLinux2019,
    /// The Linux snapshot extension of 2018.
    #[serde(rename = "vmsnapshot-linux-2018")]
    #[value(name = "vmsnapshot-linux-2018")]
    VmsnapshotLinux2018,
    /// The Windows snapshot extension.
    VmsnapshotWindows,
    /// The Linux agent.
    Waagent,
    /// Nobody: probe only.
    None,
}

impl Consumer {
    /// The snapshot extension of this operating system.
    pub(super) fn of_this_system() -> Self {
        if cfg!(windows) { Self::VmsnapshotWindows } else { Self::VmsnapshotLinux }
    }
}

/// The extension's snapshot method (`takeSnapshotFrom`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[value(rename_all = "camelCase")]
pub(super) enum Method {
    /// The host takes it; the guest when the host cannot.
    #[default]
    FirstHostThenGuest,
    /// The guest alone.
    OnlyGuest,
    /// The guest takes it; the host when the guest cannot.
    FirstGuestThenHost,
    /// The host alone.
    OnlyHost,
}

/// Which disks are backed up, which decides the ports that their snapshots need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Disks {
    /// Managed disks: ports 443 and 8443.
    Managed,
    /// Unmanaged disks: port 443.
    Unmanaged,
    /// Unmanaged disks without encryption in transit: port 80 as well.
    Unencrypted,
}

/// Down to which level cases are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Depth {
    /// Only what backups need.
    Must,
    /// And what saves trouble.
    Should,
    /// All cases.
    #[default]
    All,
}

/// When to write colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Color {
    /// When standard output is a terminal and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The name of a value, as on the command line.
pub(super) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_range() {
        for (text, ms) in [("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse::<LayerBudget>().unwrap().0.as_millis(), ms);
            assert_eq!(text.parse::<LayerBudget>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0s", "10", "s", "-1s", "1.5s", "2h", "10 s", "10S", "99999999999999999999s"] {
            assert!(text.parse::<LayerBudget>().unwrap_err().to_string().contains("from 1ms to 1h"), "{text}");
        }
        assert!("24h".parse::<Deadline>().is_ok() && "25h".parse::<Deadline>().is_err());
    }

    #[test]
    fn accounts_follow_the_naming_rules() {
        for text in ["x", "abcdefghijklmnopqrstuvw1", "md-abc12", "acct-secondary"] {
            assert_eq!(text.parse::<Account>().unwrap().to_string(), text);
        }
        for text in ["", "-a", "a-", "Abc", "a.b", "a_b", "ä12", &"a".repeat(64)] {
            assert!(text.parse::<Account>().unwrap_err().to_string().contains("lower-case letters, digits"), "{text}");
        }
    }

    #[test]
    fn connect_to_with_brackets_and_wildcards() {
        let parse = |text: &str| text.parse::<ConnectTo>();
        let full = parse("[2001:db8::1]:443:[::1]:8443").unwrap();
        assert_eq!(full.host.unwrap().to_string(), "[2001:db8::1]");
        assert_eq!((full.port, full.to), (Some(443), "[::1]:8443".parse().unwrap()));
        let any = parse("::127.0.0.1:8080").unwrap();
        assert_eq!((any.host, any.port), (None, None));
        for text in ["", "a", "a:1", "a:1:b:2", "a:0:10.0.0.1:1", "a:1:10.0.0.1:0", "a:1:::1:1", "[::1:1:10.0.0.1:1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_proxy_is_asked_for_has_a_port_and_an_origin_may() {
        for text in ["acct.blob.core.windows.net:443", "10.0.0.4:8443", "[2001:db8::4]:443"] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), text);
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.9", "origin.example", "[2001:db8::4]"] {
            assert!(text.parse::<Authority>().unwrap_err().to_string().contains("HOST:PORT"), "{text}");
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", ":443", "a:0", "a:b", "a b:443"] {
            assert!(text.parse::<Authority>().is_err(), "{text}");
        }
        assert_eq!("2001:db8::4".parse::<Place>().unwrap().to_string(), "[2001:db8::4]");
    }

    #[test]
    fn sizes_have_a_unit_and_a_bound() {
        for (text, bytes) in [("64KiB", 65_536), ("100MiB", 100 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes);
        }
        for text in ["", "0KiB", "5", "1GB", "2GiB", "1TiB", "99999999999999999999KiB", "18014398509481985KiB"] {
            assert!(text.parse::<Size>().unwrap_err().to_string().contains("64KiB"), "{text}");
        }
    }

    #[test]
    fn endpoints_take_a_default_port() {
        let parse = |text: &str| text.parse::<Endpoint<53>>().map(|e| e.0.to_string());
        assert_eq!(parse("10.0.0.4").unwrap(), "10.0.0.4:53");
        assert_eq!(parse("10.0.0.4:5353").unwrap(), "10.0.0.4:5353");
        assert_eq!(parse("::1").unwrap(), "[::1]:53");
        assert_eq!(parse("[::1]").unwrap(), "[::1]:53");
        assert_eq!(parse("[::1]:5353").unwrap(), "[::1]:5353");
        for text in ["", "dns.example", "10.0.0.4:0", "10.0.0.4:", "[10.0.0.4]", "[::1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_on_the_command_line_and_in_files_agree() {
        fn check<T: ValueEnum + Serialize>() {
            for value in T::value_variants() {
                let json = serde_json::to_value(value).unwrap();
                assert_eq!(json.as_str().unwrap(), name(value));
            }
        }
        check::<Cloud>();
        check::<Routes>();
        check::<Consumer>();
        check::<Method>();
        check::<Color>();
        assert_eq!(name(&Method::FirstHostThenGuest), "firstHostThenGuest");
        assert_eq!(name(&Cloud::UsGov), "usgov");
    }

    proptest! {
        #[test]
        fn parsers_never_panic_and_what_they_print_they_read(text in "[\\[\\]:.0-9a-z]{0,30}|\\PC{0,20}") {
            let _ = (port(&text), text.parse::<Account>(), text.parse::<Size>(), text.parse::<HostName>());
            if let Ok(value) = text.parse::<Place>() {
                prop_assert_eq!(value.to_string().parse::<Place>().unwrap(), value);
            }
            if let Ok(value) = text.parse::<LayerBudget>() {
                prop_assert_eq!(value.to_string().parse::<LayerBudget>().unwrap(), value);
            }
            if let Ok(value) = text.parse::<Endpoint<53>>() {
                prop_assert_eq!(value.to_string().parse::<Endpoint<53>>().unwrap(), value);
            }
            if let Ok(value) = text.parse::<ConnectTo>() {
                prop_assert_eq!(value.to_string().parse::<ConnectTo>().unwrap(), value);
            }
        }
    }
}
