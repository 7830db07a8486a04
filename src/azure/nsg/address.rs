//! Addresses as ranges of numbers: IPv6 as it is, IPv4 as the IPv6 address that maps it (RFC 4291, 2.5.5.2), so that
//! one table serves both.

use std::net::IpAddr;

/// `::ffff:0:0/96`, where IPv4 lives.
const IPV4: Range = Range { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };

/// Addresses that Azure's public services never have: private, shared, link-local, loopback, unique local.
const PRIVATE: [&str; 9] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1",
    "fc00::/7",
    "fe80::/10",
];

/// The number of an address.
pub(super) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The address of a number.
pub(super) fn address(number: u128) -> IpAddr {
    IpAddr::V6(number.into()).to_canonical()
}

/// Numbers from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Range {
    /// Reads `13.69.40.16/28`, `13.69.40.16`, `13.69.40.16-13.69.40.31`, and the same for IPv6. Bits beyond the length
    /// of a prefix are ignored, as Azure does.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((address, length)) = text.split_once('/') {
            let ip: IpAddr = address.parse().ok()?;
            let length: u32 = Some(length).filter(|l| l.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
            let host_bits = if ip.is_ipv4() { 32_u32 } else { 128 }.checked_sub(length)?;
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            let first = number(ip) & mask;
            return Some(Self { first, last: first | !mask });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let range = Self { first: number(first), last: number(last) };
        (first.is_ipv4() == last.is_ipv4() && range.first <= range.last).then_some(range)
    }

    /// The range without the place of IPv4 in it: `::/0` speaks of IPv6 alone.
    pub(super) fn pieces(self) -> impl Iterator<Item = Self> {
        let split = self.first < IPV4.first && self.last > IPV4.last;
        let before = Self { first: self.first, last: IPV4.first - 1 };
        let after = Self { first: IPV4.last + 1, last: self.last };
        let pieces = if split { [Some(before), Some(after)] } else { [Some(self), None] };
        pieces.into_iter().flatten()
    }

    /// How many addresses, less one.
    pub(super) fn span(&self) -> u128 {
        self.last - self.first
    }
}

/// Sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Ranges(Vec<Range>);

impl Ranges {
    pub(super) fn all() -> Self {
        Self(vec![Range { first: 0, last: u128::MAX }])
    }

    pub(super) fn private() -> Self {
        PRIVATE.into_iter().filter_map(Range::parse).collect()
    }

    /// Reads one prefix, address or range.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Range::parse(text).map(|range| range.pieces().collect())
    }

    /// Whether all of IPv4 is in it.
    pub(super) fn holds_ipv4(&self) -> bool {
        self.covers(&IPV4)
    }

    pub(super) fn as_slice(&self) -> &[Range] {
        &self.0
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|range| range.first <= number);
        after > 0 && self.0[after - 1].last >= number
    }

    /// Whether a whole range is in it.
    pub(super) fn covers(&self, range: &Range) -> bool {
        let after = self.0.partition_point(|own| own.first <= range.first);
        after > 0 && self.0[after - 1].last >= range.last
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }

    pub(super) fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(0);
        for range in &self.0 {
            if let Some(first) = next.filter(|&first| first < range.first) {
                gaps.push(Range { first, last: range.first - 1 });
            }
            next = range.last.checked_add(1);
        }
        gaps.extend(next.map(|first| Range { first, last: u128::MAX }));
        Self(gaps)
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        self.complement().union(other).complement()
    }
}

impl FromIterator<Range> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut sorted: Vec<Range> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<Range> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if last.last == u128::MAX || range.first <= last.last + 1 => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}
