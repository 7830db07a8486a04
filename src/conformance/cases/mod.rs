//! The catalogue: one file per group.

mod auth;
mod connect;
mod errors;
mod headers;
mod hostile;
mod limits;
mod tls;
mod tunnel;

use super::case::Case;

pub(super) use limits::Load;

/// Every case, group by group.
pub fn catalogue() -> impl Iterator<Item = &'static Case> {
    [
        connect::CASES,
        auth::CASES,
        errors::CASES,
        tunnel::CASES,
        tls::CASES,
        headers::CASES,
        limits::CASES,
        hostile::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::catalogue;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut seen = HashSet::new();
        for case in catalogue() {
            let (group, name) = case.id.split_once('/').expect("group/name");
            let plain = |text: &str| {
                text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            };
            assert!(plain(group) && plain(name) && !name.is_empty(), "{}", case.id);
            assert!(seen.insert(case.id), "{} stands twice", case.id);
            assert!(!case.title.ends_with('.') && !case.reference.is_empty(), "{}", case.id);
        }
    }
}
