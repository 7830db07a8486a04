//! Carries out one scenario: starts the lab, walks the probes one after the other, judges, compares.

use std::{
    future::Future,
    iter::Sum,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    Scenario,
    compare::{self, Difference, Run},
    probe::Reality,
};
use crate::{
    azure::{flows, nsg::Compiled},
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
    /// In which round of repetitions, from 1.
    pub round: u32,
    /// Whether it came out as expected.
    pub result: TestResult,
    /// Its probes, as far as they were carried out.
    pub runs: Vec<Run>,
    /// What the lab's parties saw.
    pub log: Vec<Event>,
    /// What crossed the lab's proxy.
    pub carried: Carried,
    /// How long it took.
    pub elapsed: Duration,
    /// The seed, if anything was drawn.
    pub seed: Option<u64>,
}

/// Whether a scenario came out as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestResult {
    /// It did.
    Passed,
    /// It did not.
    Failed(Vec<Difference>),
    /// It could not be carried out here, and why.
    NotRun(String),
}

/// What crossed the lab's proxy, by its own log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Tunnels opened.
    pub tunnels: u64,
    /// Bytes from clients to origins.
    pub up: u64,
    /// Bytes from origins to clients.
    pub down: u64,
}

impl Carried {
    fn of(log: &[Event]) -> Self {
        let tunnels = log.iter().filter_map(|event| match event {
            Event::Tunnel { up, down, .. } => Some(Self { tunnels: 1, up: *up, down: *down }),
            _ => None,
        });
        tunnels.sum()
    }
}

impl Sum for Carried {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            tunnels: a.tunnels + b.tunnels,
            up: a.up + b.up,
            down: a.down + b.down,
        })
    }
}

impl Outcome {
    pub(super) fn not_run(scenario: Arc<Scenario>, reason: String) -> Self {
        Self {
            scenario,
            round: 1,
            result: TestResult::NotRun(reason),
            runs: Vec::new(),
            log: Vec::new(),
            carried: Carried::default(),
            elapsed: Duration::ZERO,
            seed: None,
        }
    }

    /// Frees what only replaying would need.
    pub(super) fn forget_observations(&mut self) {
        self.log = Vec::new();
        self.runs.iter_mut().for_each(|run| run.record.observations = Vec::new());
    }
}

/// Carries a scenario out. After an interrupt it is not run, whatever was seen so far.
pub async fn run(scenario: Arc<Scenario>, setting: &Setting, interrupt: impl Future<Output = ()>) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome::not_run(scenario, String::new());
    outcome.result = match perform(&mut outcome, setting, interrupt).await {
        Ok(differences) if differences.is_empty() => TestResult::Passed,
        Ok(differences) => TestResult::Failed(differences),
        Err(reason) => TestResult::NotRun(reason),
    };
    outcome.elapsed = started.elapsed();
    outcome
}

/// The error says why the scenario could not be carried out.
async fn perform(
    outcome: &mut Outcome,
    setting: &Setting,
    interrupt: impl Future<Output = ()>,
) -> Result<Vec<Difference>, String> {
    let scenario = outcome.scenario.clone();
    let mut interrupt = std::pin::pin!(interrupt);
    let Stage { lab, plans, policies, seed } = Stage::set(&scenario, setting)?;
    outcome.seed = seed;
    for ((spec, plan), policy) in scenario.probes.iter().zip(plans).zip(policies) {
        let mut record = probe::run(plan, &Progress::default(), &mut interrupt)
            .await
            .map_err(|e| format!("nothing can be measured: {e}"))?;
        record.context.security = policy.map(|policy| flows::judge(&record, &policy).into());
        let interrupted = record.context.interrupted;
        let assessment = classify::assess(&record);
        outcome.runs.push(Run { probe: spec.name.clone(), record, assessment });
        if interrupted {
            return Err("interrupted".into());
        }
    }
    outcome.log = lab.as_ref().map(Lab::log).unwrap_or_default();
    outcome.carried = Carried::of(&outcome.log);
    Ok(compare::differences(&scenario, &outcome.runs, lab.as_ref().map(|_| outcome.log.as_slice())))
}

/// The parties in place, and the plans that meet them.
struct Stage {
    lab: Option<Lab>,
    plans: Vec<Plan>,
    /// What the files of each probe say.
    policies: Vec<Option<Compiled>>,
    seed: Option<u64>,
}

impl Stage {
    /// The error says why the scenario cannot run here.
    fn set(scenario: &Scenario, setting: &Setting) -> Result<Self, String> {
        let Some(spec) = scenario.lab.as_ref().filter(|_| !setting.no_lab) else {
            let plans = scenario.plans_of_reality(&setting.reality)?;
            return Ok(Self { lab: None, plans, policies: scenario.policies(false)?, seed: None });
        };
        let mut spec = spec.clone();
        spec.seed = setting.seed.or(spec.seed);
        let drawn = spec.faults.iter().any(|fault| fault.when.ratio.is_some());
        let seed = drawn.then(|| spec.seed());
        let lab = Lab::start(&spec).map_err(|e| format!("the lab does not start: {e}"))?;
        let plans = scenario.plans(lab.network());
        Ok(Self { plans, policies: scenario.policies(true)?, seed, lab: Some(lab) })
    }
}
