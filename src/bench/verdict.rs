//! How a run ended: what its measurements and its comparison mean, unless it was none.

use std::time::Duration;

use super::{
    ArmInfo, Load, Measurement, Settings,
    gate::{Judgement, Outcome},
    report,
    run::{Status, Verdict},
};

/// A generator is late when more than one operation in a hundred begins this much after it was due, although a connection
/// was free.
const LATE: Duration = Duration::from_millis(1);

/// Of a run over these arms. `gate` is the comparison, if there is one.
#[must_use]
pub fn verdict(settings: &Settings, arms: &[ArmInfo], gate: Option<&Judgement>) -> Verdict {
    let saturated = arms.iter().find(|arm| is_saturated(settings, &arm.measurement));
    let status = match gate {
        _ if saturated.is_some() => Status::Inconclusive,
        None => alone(arms),
        Some(gate) => match gate.outcome {
            Outcome::Pass => Status::Pass,
            Outcome::Fail => Status::Fail,
            Outcome::Inconclusive => Status::Inconclusive,
        },
    };
    let exit_code = match status {
        Status::Measured | Status::Pass => 0,
        Status::Fail => 1,
        Status::Inconclusive => 3,
    };
    let summary = match (saturated, gate) {
        (Some(arm), _) => report::saturated(settings, &arm.measurement),
        (None, Some(gate)) => report::compared(gate),
        (None, None) => report::achieved(settings, arms),
    };
    Verdict { status, summary, exit_code }
}

/// Of a run that compares nothing.
fn alone(arms: &[ArmInfo]) -> Status {
    match arms.iter().find(|arm| arm.measurement.is_fruitless()) {
        None => Status::Measured,
        Some(arm) if arm.measurement.failed() > 0 => Status::Fail,
        Some(_) => Status::Inconclusive,
    }
}

/// Whether this side could not keep its times, so that its figures are its own and not the path's.
fn is_saturated(settings: &Settings, measured: &Measurement) -> bool {
    let late = measured.lateness.as_ref().and_then(|schedule| schedule.late.quantile(0.99));
    matches!(settings.load, Load::Open { .. }) && late.is_some_and(|late| late > LATE)
}
