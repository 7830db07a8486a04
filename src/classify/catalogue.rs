//! One entry per finding code: the single source for `explain`, reports, documentation and tests.

use crate::model::{Code, Hop, Party, Remedy, Route, Severity};

/// What is always true of a code.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// A few words: what happened, without naming a target.
    pub title: &'static str,
    /// Its usual severity; a rule may lower it.
    pub severity: Severity,
    /// Whose doing it usually is; the hop may decide otherwise.
    pub party: Party,
    /// The page of `snapreach explain`, Markdown.
    pub page: &'static str,
}

/// What a remedy depends on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Between whom it happened.
    pub hop: Hop,
    /// Over which route.
    pub route: Option<Route>,
    /// `host:port` of the targets concerned, never empty for findings about targets.
    pub targets: &'a [String],
    /// The Azure region, where known.
    pub region: Option<&'a str>,
    /// The proxy as a URL without credentials, where one is in use.
    pub proxy: Option<&'a str>,
    /// The proxy product that spoke, where it can be told (`squid`, `tinyproxy`, `haproxy`, `nginx`, `privoxy`,
    /// `cntlm`, `ncat`, `pproxy`, `azure-firewall`).
    pub product: Option<&'a str>,
}

/// All entries, in the order of [`super::codes::ALL`].
#[must_use]
pub fn entries() -> &'static [Entry] {
    &[]
}

/// The entry of a code by its name.
#[must_use]
pub fn find(code: &str) -> Option<&'static Entry> {
    entries().iter().find(|entry| entry.code.0 == code)
}

/// What to do about a finding, best first.
#[must_use]
pub fn remedies(_code: Code, _situation: &Situation<'_>) -> Vec<Remedy> {
    Vec::new()
}
