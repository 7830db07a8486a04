//! From observations to findings: pure, total, deterministic.
//!
//! A [`Record`] goes through six stages, one file each: it is sorted into walks, lookups and controls (`case`); a
//! first-match table gives each walk and lookup its primary finding (`rules`, with `proxy_reply`, `origin_reply` and `host`
//! for what peers said); comparisons across observations sharpen or replace those (`compare`); remarks are added
//! (`remarks`); the whole is grouped into findings and put into words (`findings`, `text`), summed up (`verdict`), and what
//! the consumers would report is predicted (`predict`).

pub mod catalogue;
pub mod codes;
pub mod explain;
pub mod offline;

mod case;
mod compare;
mod findings;
mod host;
mod origin_reply;
mod predict;
mod proxy_reply;
mod remarks;
mod remedies;
mod rfc9209;
mod rules;
mod text;
mod verdict;
mod view;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use crate::model::{Assessment, Record};
#[cfg(any(feature = "conformance", feature = "bench"))]
use crate::{
    http::Reply,
    model::{Code, Observation},
};
#[cfg(feature = "conformance")]
pub(crate) use remedies::lines;
#[cfg(feature = "conformance")]
pub(crate) use rules::has_genuine_issuer;

/// Judges a record. The same observations give the same assessment, in whatever order they stand.
#[must_use]
pub fn assess(record: &Record) -> Assessment {
    assess_without(record, None)
}

/// What one observation by itself means; `None`: nothing is wrong with it. It is not compared with any other.
#[cfg(any(feature = "conformance", feature = "bench"))]
#[must_use]
pub(crate) fn alone(observation: &Observation) -> Option<Code> {
    rules::primary(view::View { observation, target: None }).map(|judged| judged.code)
}

/// The program that made an answer of a proxy, where its marks show.
#[cfg(feature = "conformance")]
#[must_use]
pub(crate) fn product(reply: &Reply) -> Option<&'static str> {
    proxy_reply::product(reply)
}

/// What an answer of a proxy's own means that is none to a CONNECT, or stood inside a tunnel.
#[cfg(any(feature = "conformance", feature = "bench"))]
#[must_use]
pub(crate) fn answer(reply: &Reply) -> Code {
    proxy_reply::judge(reply, false).code
}

/// Whether an answer is marked as a proxy's own, wherever it was read.
#[cfg(any(feature = "conformance", feature = "bench"))]
#[must_use]
pub(crate) fn is_proxys(reply: &Reply) -> bool {
    proxy_reply::is_marked(reply)
}

/// As [`assess`], without one of the comparisons: for the test that every comparison counts.
fn assess_without(record: &Record, skip: Option<&str>) -> Assessment {
    let mut case = case::Case::new(record);
    compare::apply(&mut case, skip);
    host::compare(&mut case);
    remarks::apply(&mut case);
    let tallies = case.tallies();
    let signs = findings::signs(&mut case);
    let cells = verdict::cells(&case, &signs, &tallies);
    let findings = findings::findings(&case, &signs, &tallies);
    let verdict = verdict::verdict(&case, &cells, &findings);
    let predictions = predict::predictions(&case);
    Assessment { verdict, predictions, findings, cells }
}
