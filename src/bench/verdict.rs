//! How a run ended: what its measurements and its comparison mean, unless it was none.

use std::time::Duration;

use super::{
    ArmInfo, Load, Measurement, Settings,
    gate::Judgement,
    report,
    run::{Status, Verdict},
};

/// A generator is late when more than one operation in a hundred begins this much after it was due, although a connection
/// was free.
const LATE: Duration = Duration::from_millis(1);

/// Of a run over these arms. `gate` is the comparison, if there is one.
#[must_use]
pub fn verdict(settings: &Settings, arms: &[ArmInfo], gate: Option<&Judgement>) -> Verdict {
    let inconclusive = |summary: String| Verdict { status: Status::Inconclusive, summary, exit_code: 3 };
    if let Some(late) = arms.iter().find_map(|arm| saturation(settings, &arm.measurement)) {
        return inconclusive(late);
    }
    if arms.iter().any(|arm| arm.measurement.is_idle() && arm.measurement.failed() == 0) && gate.is_none() {
        return inconclusive(format!("{}: nothing was measured, as no operation ended in time", settings.workload));
    }
    report::verdict(settings, arms, gate)
}

/// Whether this side could not keep its times, so that its figures are its own and not the path's.
fn saturation(settings: &Settings, measured: &Measurement) -> Option<String> {
    let Load::Open { rate } = settings.load else { return None };
    let late = measured.lateness.as_ref()?.late.quantile(0.99)?;
    if late <= LATE {
        return None;
    }
    let cpu = measured.cpu;
    let steal = (cpu.steal_us * 100).checked_div(cpu.machine_us).unwrap_or(0);
    Some(format!(
        "generator saturated: one operation in a hundred began {late:.1?} late at {rate} per second; its busiest thread \
         used {} % of a processor, and {steal} % of the machine went to others (steal)",
        cpu.busiest_permille / 10,
    ))
}
