//! Exit codes, the same for every command, and the errors that lead to them.

use crate::model::{Assessment, Record, Status, Verdict};

/// Clear, or nothing to judge.
pub(super) const CLEAR: u8 = 0;
/// Blocked.
pub(super) const BLOCKED: u8 = 1;
/// Wrong usage, configuration or input file; nothing was probed.
pub(super) const USAGE: u8 = 2;
/// Could not measure, or cannot tell.
pub(super) const INCONCLUSIVE: u8 = 3;
/// Interrupted; what was measured so far is reported.
pub(super) const INTERRUPTED: u8 = 130;

/// Why a command ends without a judgement.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// The user's input cannot be used. The message says what is wrong, where, and what is allowed.
    #[error("{0}")]
    Usage(String),
    /// Nothing could be measured or written.
    #[error("{0}")]
    CannotMeasure(String),
}

impl Stop {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// The exit code.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::CannotMeasure(_) => INCONCLUSIVE,
        }
    }
}

/// The exit code of a judged record.
pub(super) fn code(record: &Record, assessment: &Assessment, strict: bool) -> u8 {
    of_verdict(&assessment.verdict, record.context.interrupted, strict)
}

/// The exit code of a verdict.
pub(super) fn of_verdict(verdict: &Verdict, interrupted: bool, strict: bool) -> u8 {
    if interrupted {
        INTERRUPTED
    } else if strict && verdict.status == Status::Degraded {
        BLOCKED
    } else {
        verdict.exit_code
    }
}

/// The worse of two exit codes: a proved failure before an unfinished or undecided measurement, and that before success.
pub(super) fn worst(a: u8, b: u8) -> u8 {
    let rank = |code: u8| match code {
        CLEAR => 0,
        INCONCLUSIVE => 1,
        INTERRUPTED => 2,
        BLOCKED => 3,
        _ => 4,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Context, ToolInfo};

    fn judged(status: Status, exit_code: u8, interrupted: bool, strict: bool) -> u8 {
        let record = Record {
            tool: ToolInfo::default(),
            started_at: String::new(),
            elapsed_ms: 0,
            context: Context { interrupted, ..Context::default() },
            targets: Vec::new(),
            observations: Vec::new(),
            not_run: Vec::new(),
        };
        let verdict = Verdict { status, summary: String::new(), exit_code };
        let assessment = Assessment { verdict, predictions: Vec::new(), findings: Vec::new(), cells: Vec::new() };
        code(&record, &assessment, strict)
    }

    #[test]
    fn the_verdict_decides_unless_strict_or_interrupted() {
        assert_eq!(judged(Status::Degraded, 0, false, false), CLEAR);
        assert_eq!(judged(Status::Degraded, 0, false, true), BLOCKED);
        assert_eq!(judged(Status::Clear, 0, false, true), CLEAR);
        assert_eq!(judged(Status::Inconclusive, 3, false, true), INCONCLUSIVE);
        assert_eq!(judged(Status::Blocked, 1, true, true), INTERRUPTED);
    }

    #[test]
    fn a_proved_failure_is_the_worst_of_several() {
        let codes = [CLEAR, INCONCLUSIVE, INTERRUPTED, BLOCKED];
        for (index, &worse) in codes.iter().enumerate() {
            for &better in &codes[..=index] {
                assert_eq!((worst(better, worse), worst(worse, better)), (worse, worse));
            }
        }
    }
}
