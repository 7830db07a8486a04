//! `snapreach check`: probe, classify, predict.

use std::{fs, future::Future, path::Path};

use super::{
    args::Check,
    config::{self, File},
    exit::{self, Stop},
    interrupt, nearest,
    options::Options,
    output::{self, Outputs},
    progress::{self, Bar},
    request, values,
};
use crate::{
    classify,
    lab::Lab,
    model::Record,
    plan::{Plan, Proxy},
    probe::{self, Progress},
    report::{self, Format},
    scenario::{self, Variables},
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
    let options = given.clone().with_defaults();
    if print_config {
        // Values are proved before they are shown, but nothing needs to be named for it.
        request::check_values(&options)?;
        output::print(&config::render(&file, &options)?)?;
        return Ok(exit::CLEAR);
    }
    let verbose = options.verbose > 0;
    let note = |text: &str| output::say(&format!("note: {text}"));
    if let Some(path) = file.path.as_ref().filter(|_| verbose) {
        note(&format!("configuration from {}", path.display()));
    }
    if options.host_endpoint.is_some() {
        note("--host-endpoint has no effect yet: the host channel is not probed");
    }
    let scenario = options.lab.as_deref().map(read_scenario).transpose()?;
    let plan = match scenario {
        Some(_) => None,
        None => Some(request::plan(&options)?),
    };
    let style = output::style(options.color, options.verbose);
    let inputs: Vec<_> =
        options.ca_file.iter().chain(&options.targets).chain(&file.path).map(ToOwned::to_owned).collect();
    let format = options.format.unwrap_or(Format::Text);
    let mut outputs = Outputs::open(format, style, &options.output, options.record.as_deref(), &inputs)?;

    let (guard, plan) = match (plan, scenario) {
        (Some(plan), _) => (None, plan),
        (None, scenario) => {
            let (guard, plan) = start_lab(&scenario.unwrap_or_default(), &given)?;
            (Some(guard), plan)
        }
    };
    if verbose {
        note(&summary(&plan));
    }
    let record = measure(plan, options.quiet, interrupt::listen())?;
    drop(guard);
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

/// A scenario by its built-in name, or the text of a file.
#[derive(Debug, Default)]
struct Scenario {
    name: String,
    toml: Option<String>,
}

fn read_scenario(name: &str) -> Result<Scenario, Stop> {
    if Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        let toml =
            fs::read_to_string(name).map_err(|e| Stop::usage(format!("cannot read the scenario {name}: {e}")))?;
        return Ok(Scenario { name: name.to_owned(), toml: Some(toml) });
    }
    let known: Vec<_> = scenario::builtins().map(|builtin| builtin.name).collect();
    if known.contains(&name) {
        return Ok(Scenario { name: name.to_owned(), toml: None });
    }
    let meant = nearest::of(name, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(Stop::usage(format!(
        "there is no scenario `{name}`{meant}\nThere are: {}; or give a .toml file.",
        known.join(", ")
    )))
}

fn start_lab(scenario: &Scenario, given: &Options) -> Result<(Lab, Plan), Stop> {
    let builtin = scenario::find(&scenario.name).map(|builtin| builtin.toml);
    let toml = scenario.toml.as_deref().or(builtin).unwrap_or_default();
    let variables = Variables::with_environment([]);
    let parsed = scenario::Scenario::parse(&scenario.name, toml, &variables).map_err(|e| Stop::usage(e.to_string()))?;
    let Some(spec) = &parsed.lab else {
        return Err(Stop::usage(format!("{} has no [lab] table: `snapreach scenario run` runs it", scenario.name)));
    };
    let lab = Lab::start(spec).map_err(|e| Stop::CannotMeasure(format!("cannot start the lab: {e}")))?;
    // A report is about one probe: the first.
    let mut plan = parsed.plans(lab.network()).swap_remove(0);
    // Only what was asked for: the scenario's own values stand in for the defaults.
    request::complete(&mut plan, given)?;
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
    fn an_unknown_scenario_names_the_nearest_and_all() {
        let error = read_scenario("healty").unwrap_err().to_string();
        assert!(error.contains("did you mean `healthy`?") && error.contains("There are: "), "{error}");
        assert!(read_scenario("healthy").unwrap().toml.is_none());
        assert!(read_scenario("/nonexistent/s.toml").unwrap_err().to_string().contains("/nonexistent/s.toml: "));
    }

    #[test]
    fn the_summary_shows_no_password() {
        let plan = Plan { proxy: Some("http://svc:TOPSECRET@p:1".parse().unwrap()), ..Plan::default() };
        let shown = summary(&plan);
        assert!(shown.contains("http://p:1") && !shown.contains("TOPSECRET"), "{shown}");
    }
}
