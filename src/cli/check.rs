//! `snapreach check`: probe, classify, predict.

use std::future::Future;

use super::{
    args::Check,
    config::{self, File},
    discovery::Discovered,
    estate,
    exit::{self, Stop},
    interrupt,
    options::Options,
    output::{self, Outputs},
    progress::{self, Bar},
    request, scenarios, values,
};
use crate::{
    azure::flows,
    classify,
    lab::Lab,
    model::Record,
    plan::{Plan, Proxy},
    probe::{self, Progress},
    report::{self, Format},
    scenario::Scenario,
};

/// Runs the command and gives its exit code.
///
/// # Errors
/// When the input cannot be used, or nothing can be measured.
pub(super) fn run(args: Check) -> Result<u8, Stop> {
    let Check { options: flags, config, print_config } = args;
    // A lab run is the same on every machine: what lies around on this one is left alone.
    let file = if flags.lab.is_some() && config.is_none() { File::default() } else { config::load(config.as_deref())? };
    let given = flags.or(file.options.clone());
    given.check_conflicts()?;
    if print_config {
        let options = given.with_defaults();
        // Values are proved before they are shown, but nothing needs to be named for it.
        request::check_values(&options)?;
        output::print(&config::render(&file, &options)?)?;
        return Ok(exit::CLEAR);
    }
    let verbose = given.verbose > 0;
    let note = |text: &str| output::say(&format!("note: {text}"));
    if let Some(path) = file.path.as_ref().filter(|_| verbose) {
        note(&format!("configuration from {}", path.display()));
    }
    // Before anything is asked, so that a file that cannot be used costs nobody a run.
    let files = estate::policy(&given)?;
    let (given, source) = source(given)?;
    let options = given.clone().with_defaults();
    let style = output::style(options.color, options.verbose);
    let inputs: Vec<_> = options
        .ca_file
        .iter()
        .chain(&options.windows_registry)
        .chain(&options.targets)
        .chain(&file.path)
        .chain(estate::paths(&options))
        .map(ToOwned::to_owned)
        .collect();
    let format = options.format.unwrap_or(Format::Text);
    let mut outputs = Outputs::open(format, style, &options.output, options.record.as_deref(), &inputs)?;
    outputs.only(&Format::OF_RECORDS, "a check has")?;

    let (guard, plan, files) = match source {
        Source::Network(plan) => (None, *plan, files),
        Source::Lab(scenario, found) => {
            let (guard, plan) = start_lab(&scenario, found.map(|found| *found), &given)?;
            let played = scenario.policies(true).map_err(Stop::usage)?.into_iter().next().flatten();
            (Some(guard), plan, files.or(played))
        }
    };
    if verbose {
        note(&summary(&plan));
    }
    let mut record = measure(plan, options.quiet, interrupt::listen())?;
    drop(guard);
    record.context.security = files.map(|files| flows::judge(&record, &files).into());
    let assessment = classify::assess(&record);
    let code = exit::code(&record, &assessment, options.strict);
    match outputs.write(&record, &assessment) {
        Ok(()) => Ok(code),
        // The verdict stands, also when it reached only some of its readers.
        Err(stop) => {
            output::say(&format!("error: {stop}"));
            Ok(exit::worst(code, stop.code()))
        }
    }
}

/// Who plays the other parties.
enum Source {
    Network(Box<Plan>),
    /// The lab, for the machine that a scenario describes or for one that was given.
    Lab(Box<Scenario>, Option<Box<Discovered>>),
}

/// Finds out what the machine tells, and gives the options completed with it.
///
/// # Errors
/// When the input cannot be used, or nothing is known to probe.
fn source(given: Options) -> Result<(Options, Source), Stop> {
    let Some(name) = &given.lab else {
        request::check_values(&given)?;
        let found = Discovered::of(&given)?;
        let given = found.fill(given);
        let plan = request::plan(&given.clone().with_defaults(), found)?;
        return Ok((given, Source::Network(Box::new(plan))));
    };
    let mut scenario = Box::new(scenarios::load(name)?);
    // A lab run is the same on every machine: it reads one only where one is given.
    if given.root.is_none() && given.imds.is_none() && given.windows_registry.is_empty() {
        return Ok((given, Source::Lab(scenario, None)));
    }
    let found = Discovered::of(&given)?;
    if let (Some(lab), Some(targets)) = (&mut scenario.lab, found.targets_to_play(&given)?) {
        lab.storage = targets.iter().map(|target| target.host.to_string()).collect();
        lab.storage.dedup();
    }
    Ok((found.fill(given), Source::Lab(scenario, Some(Box::new(found)))))
}

/// Runs the engine until it is done or interrupted.
fn measure(plan: Plan, quiet: bool, interrupt: impl Future<Output = ()>) -> Result<Record, Stop> {
    let cannot = |e: std::io::Error| Stop::CannotMeasure(format!("cannot measure: {e}"));
    let runtime = probe::runtime().map_err(cannot)?;
    let progress = Progress::default();
    let bar = Bar::new(quiet);
    let record = runtime.block_on(async {
        let mut run = std::pin::pin!(probe::run(plan, &progress, interrupt));
        let mut redraw = tokio::time::interval(progress::INTERVAL);
        loop {
            tokio::select! {
                record = &mut run => return record,
                _ = redraw.tick() => bar.show(&progress),
            }
        }
    });
    // A lookup that the system cannot cancel must not hold the report up.
    runtime.shutdown_background();
    record.map_err(cannot)
}

fn start_lab(scenario: &Scenario, found: Option<Discovered>, given: &Options) -> Result<(Lab, Plan), Stop> {
    let lab = Lab::start(scenarios::lab_of(scenario)?)
        .map_err(|e| Stop::CannotMeasure(format!("cannot start the lab: {e}")))?;
    // A report is about one probe: the first.
    let plan = match found {
        None => {
            let mut plan = scenario.plans(lab.network()).swap_remove(0);
            // Only what was asked for: the scenario's own values stand in for the defaults.
            request::complete(&mut plan, given)?;
            plan
        }
        Some(found) => {
            let mut plan = scenario.plans_on(&found.machine, lab.network()).swap_remove(0);
            request::play(&mut plan, given, found, lab.network().addresses.get("proxy").copied())?;
            request::complete(&mut plan, given)?;
            plan
        }
    };
    Ok((lab, plan))
}

/// One line on what will be done, without credentials.
fn summary(plan: &Plan) -> String {
    let routes: Vec<_> = plan.routes.iter().map(ToString::to_string).collect();
    let proxy = plan.proxy.as_ref().map_or_else(|| "no proxy".to_owned(), Proxy::url);
    format!(
        "{}, route {}, {proxy}, {}, deadline {}",
        report::plural(plan.targets.len(), "target"),
        routes.join(" and "),
        report::plural(plan.budgets.attempts, "attempt"),
        values::Deadline::from(plan.budgets.deadline)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_no_password() {
        let plan = Plan { proxy: Some("http://svc:TOPSECRET@p:1".parse().unwrap()), ..Plan::default() };
        let shown = summary(&plan);
        assert!(shown.contains("http://p:1") && !shown.contains("TOPSECRET"), "{shown}");
    }
}
