//! The run itself.

use super::{facts::Facts, remedy};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::META_DEADLINE => vec![remedy(
            "Allow more time, or measure less",
            [
                format!("snapreach check --deadline 10m {}", f.target),
                format!("snapreach check --attempts 1 --connect-timeout 5s {}", f.target),
            ],
        )],
        codes::META_UNCLASSIFIED => vec![remedy(
            "Read the raw error in the evidence, and report the recorded run so that it gets a code",
            [format!("snapreach check -v --record failure.jsonl {}", f.target)],
        )],
        _ => vec![remedy("Take the reason away and repeat, if this part matters", ["snapreach check --print-config"])],
    }
}
