//! The hosts file: names that somebody pinned on this machine.

use std::{collections::HashMap, net::IpAddr};

use super::Machine;
use crate::plan::{HOSTS_FILE, Pinned};

/// The names that a machine's hosts file pins; none when it cannot be read, as for the resolver.
#[must_use]
pub fn pinned(machine: &Machine) -> HashMap<String, Pinned> {
    machine.text(HOSTS_FILE).ok().flatten().map(|text| hosts_file(&text)).unwrap_or_default()
}

/// Reads hosts(5) syntax: an address, then names, `#` comments. Lines that do not fit are skipped, as the resolver does.
#[must_use]
pub fn hosts_file(text: &str) -> HashMap<String, Pinned> {
    let mut names: HashMap<String, Pinned> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let pinned = names.entry(name).or_insert_with(|| Pinned { addresses: Vec::new(), line: index + 1 });
            if !pinned.addresses.contains(&ip) {
                pinned.addresses.push(ip);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_comments_and_rubbish() {
        let names = hosts_file(
            "127.0.0.1 localhost\n# 1.2.3.4 no\n10.0.0.4\tAcct.blob.core.windows.net. acct # pe\nrubbish x\n::1 localhost\n",
        );
        assert_eq!(
            names["acct.blob.core.windows.net"],
            Pinned { addresses: vec!["10.0.0.4".parse().unwrap()], line: 3 }
        );
        assert_eq!(names["localhost"].addresses.len(), 2);
        assert!(!names.contains_key("no") && !names.contains_key("x"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = hosts_file(&text);
        }
    }
}
