//! Which codes were expected, and which were found in their place.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::scenario::{Outcome, TestResult};

/// Code expected by code found, with the number of scenarios. `None` on one side: nothing was expected, or nothing found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confusion(BTreeMap<Pair, u32>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    /// Sorted so that what nobody expected stands last.
    unexpected: bool,
    expected: Option<String>,
    found: Option<String>,
}

/// One cell that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell<'a> {
    /// What was expected.
    pub expected: Option<&'a str>,
    /// What was found.
    pub found: Option<&'a str>,
    /// In how many scenarios.
    pub scenarios: u32,
}

impl Cell<'_> {
    /// Whether what was expected is what was found.
    #[must_use]
    pub fn is_diagonal(&self) -> bool {
        self.expected == self.found
    }
}

impl Confusion {
    /// Counts over all outcomes that were carried out.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut matrix = Self::default();
        for outcome in outcomes {
            let differences = match &outcome.result {
                TestResult::NotRun(_) => continue,
                TestResult::Passed => &[][..],
                TestResult::Failed(differences) => differences,
            };
            let missing: BTreeSet<&str> = differences.iter().filter_map(|d| d.code.as_deref()).collect();
            let unexpected: BTreeSet<&str> = differences.iter().filter_map(|d| d.found).collect();
            let wanted: BTreeSet<&str> =
                outcome.scenario.expect.findings.iter().map(|finding| finding.get_ref().code.as_str()).collect();
            for &code in &wanted {
                match (missing.contains(code), unexpected.is_empty()) {
                    (false, _) => matrix.add(Some(code), Some(code)),
                    (true, true) => matrix.add(Some(code), None),
                    (true, false) => unexpected.iter().for_each(|found| matrix.add(Some(code), Some(found))),
                }
            }
            if missing.is_empty() {
                for found in unexpected {
                    matrix.add(None, Some(found));
                }
            }
        }
        matrix
    }

    /// The cells that are not empty, by what was expected.
    pub fn cells(&self) -> impl Iterator<Item = Cell<'_>> {
        self.0.iter().map(|(pair, &scenarios)| Cell {
            expected: pair.expected.as_deref(),
            found: pair.found.as_deref(),
            scenarios,
        })
    }

    fn add(&mut self, expected: Option<&str>, found: Option<&str>) {
        let pair =
            Pair { unexpected: expected.is_none(), expected: expected.map(Into::into), found: found.map(Into::into) };
        *self.0.entry(pair).or_default() += 1;
    }
}
