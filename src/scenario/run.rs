//! Carries out one scenario: starts the lab, walks the probes one after the other, judges, compares.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Scenario,
    compare::{self, Difference, Run},
    probe::Reality,
};
use crate::{
    classify,
    lab::{Event, Lab},
    plan::Plan,
    probe::{self, Progress},
};

/// How scenarios are to be carried out.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// Whether the `[lab]` and `[[fault]]` parts of files are left out, so that real parties answer.
    pub no_lab: bool,
    /// What the command line says about real parties.
    pub reality: Reality,
    /// The seed of all draws, in place of the files' own.
    pub seed: Option<u64>,
}

/// What came of a scenario.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// Whether it came out as expected.
    pub result: Result,
    /// Its probes, as far as they were carried out.
    pub runs: Vec<Run>,
    /// What the lab's parties saw.
    pub log: Vec<Event>,
    /// How long it took.
    pub elapsed: Duration,
    /// The seed, if anything was drawn.
    pub seed: Option<u64>,
}

/// Whether a scenario came out as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Result {
    /// It did.
    Passed,
    /// It did not.
    Failed(Vec<Difference>),
    /// It could not be carried out here, and why.
    NotRun(String),
}

/// Carries a scenario out. After an interrupt it is not run, whatever was seen so far.
///
/// # Errors
/// When the system gives no event queue or thread, or a trust store cannot be read: nothing can be measured at all.
pub async fn run(
    scenario: Arc<Scenario>,
    setting: &Setting,
    interrupt: impl Future<Output = ()>,
) -> io::Result<Outcome> {
    let started = Instant::now();
    let mut outcome = Outcome {
        result: Result::Passed,
        runs: Vec::new(),
        log: Vec::new(),
        elapsed: Duration::ZERO,
        seed: None,
        scenario,
    };
    let mut interrupt = std::pin::pin!(interrupt);
    let stage = match Stage::set(&outcome.scenario, setting) {
        Ok(stage) => stage,
        Err(reason) => {
            outcome.result = Result::NotRun(reason);
            return Ok(outcome);
        }
    };
    outcome.seed = stage.seed;
    for (spec, plan) in outcome.scenario.probes.iter().zip(stage.plans) {
        let progress = Progress::default();
        let record = probe::run(plan, &progress, &mut interrupt).await?;
        let interrupted = record.context.interrupted;
        let assessment = classify::assess(&record);
        outcome.runs.push(Run { probe: spec.name.clone(), record, assessment });
        if interrupted {
            outcome.result = Result::NotRun("interrupted".into());
            return Ok(outcome);
        }
    }
    outcome.log = stage.lab.as_ref().map(Lab::log).unwrap_or_default();
    let log = stage.lab.is_some().then_some(outcome.log.as_slice());
    let differences = compare::differences(&outcome.scenario, &outcome.runs, log);
    if !differences.is_empty() {
        outcome.result = Result::Failed(differences);
    }
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

/// The parties in place, and the plans that meet them.
struct Stage {
    lab: Option<Lab>,
    plans: Vec<Plan>,
    seed: Option<u64>,
}

impl Stage {
    /// The error says why the scenario cannot run here.
    fn set(scenario: &Scenario, setting: &Setting) -> std::result::Result<Self, String> {
        let Some(spec) = scenario.lab.as_ref().filter(|_| !setting.no_lab) else {
            let plans = scenario.plans_of_reality(&setting.reality)?;
            return Ok(Self { lab: None, plans, seed: None });
        };
        let mut spec = spec.clone();
        spec.seed = setting.seed.or(spec.seed);
        let drawn = spec.faults.iter().any(|fault| fault.when.ratio.is_some());
        let seed = drawn.then(|| spec.seed());
        let lab = Lab::start(&spec).map_err(|e| format!("the lab does not start: {e}"))?;
        let plans = scenario.plans(lab.network());
        Ok(Self { plans, seed, lab: Some(lab) })
    }
}
