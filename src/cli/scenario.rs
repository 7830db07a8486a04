//! `snapreach scenario run | list | schema`.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

use super::{
    args::{Scenario as Command, ScenarioRun},
    exit::{self, Stop},
    interrupt,
    output::{self, Outputs},
    progress::SuiteBar,
    scenarios,
};
use crate::{
    plan::Proxy,
    probe,
    report::{self, Format, Style},
    scenario::{
        self, Course, Outcome, Reality, Setting, TestResult, Variables, is_name,
        report::{FORMATS, Suite, write, write_end, write_line},
    },
};

/// Runs the command and gives its exit code.
///
/// # Errors
/// When the input cannot be used, or nothing can be measured.
pub(super) fn run(command: Command) -> Result<u8, Stop> {
    match command {
        Command::Run(args) => run_suite(&args),
        Command::List { paths, filter } => list(&paths, &filter),
        Command::Schema => {
            output::print(&format!("{:#}\n", scenario::schema()))?;
            Ok(exit::CLEAR)
        }
    }
}

// ---- run

fn run_suite(args: &ScenarioRun) -> Result<u8, Stop> {
    let chosen = scenarios::read(&args.paths, &args.filter, &variables(args)?)?;
    let setting = Setting { no_lab: args.no_lab, reality: reality(args)?, seed: args.seed };
    let course =
        Course { jobs: args.jobs.unwrap_or(Course::default().jobs), repeat: args.repeat, fail_fast: args.fail_fast };
    let style = output::style(args.color, args.verbose);
    let format = args.format.unwrap_or(Format::Text);
    let mut outputs = Outputs::open(format, style, &args.output, None, &args.ca_file)?;
    outputs.only(&FORMATS, "scenarios have")?;
    if let Some(folder) = &args.record_dir {
        let names: HashSet<&str> = chosen.iter().map(|scenario| scenario.name.as_str()).collect();
        if names.len() < chosen.len() || args.repeat > 1 {
            return Err(Stop::usage(
                "--record-dir keeps one record for each name: leave --repeat out, and give no two files the same name",
            ));
        }
        fs::create_dir_all(folder).map_err(|e| Stop::usage(format!("cannot create {}: {e}", folder.display())))?;
    }

    let started_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let started = Instant::now();
    let stop = stop_on_interrupt();
    let bar = SuiteBar::new(args.quiet, chosen.len() * course.repeat as usize);
    // Text appears while the suite runs; the other formats need its end.
    let live = format == Format::Text;
    let mut problem = None;
    let outcomes = scenario::play(&chosen, &setting, course, &stop, |outcome| {
        bar.hidden(|| {
            if live && problem.is_none() {
                problem = output::to_stdout(|out| write_line(outcome, &style, out)).err();
            }
        });
        if let Some(folder) = &args.record_dir {
            problem = problem.take().or_else(|| keep(folder, outcome).err());
        }
        bar.advance(matches!(outcome.result, TestResult::Failed(_)));
    })
    .map_err(|e| Stop::CannotMeasure(format!("cannot run scenarios: {e}")))?;
    drop(bar);

    let suite = Suite { outcomes: &outcomes, started_at: &started_at, elapsed: started.elapsed() };
    let whole = |format, style: &Style, out: &mut dyn Write| write(format, &suite, style, out);
    let written = outputs.write_with(whole, |format, style, out| match format {
        // The lines are there already.
        Format::Text => write_end(&suite, style, out),
        other => whole(other, style, out),
    });
    let code = if *stop.borrow() { exit::INTERRUPTED } else { suite.exit_code() };
    match problem.map_or(written, Err) {
        Ok(()) => Ok(code),
        Err(stop) => {
            output::say(&format!("error: {stop}"));
            Ok(exit::worst(code, stop.code()))
        }
    }
}

fn variables(args: &ScenarioRun) -> Result<Variables, Stop> {
    let given = args.var.iter().map(|text| match text.expose().split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        // What was given may be a password in the wrong place, so it is not repeated.
        _ => Err(Stop::usage("--var is written NAME=VALUE; a name has letters, digits and _, no digit first")),
    });
    Ok(Variables::with_environment(given.collect::<Result<Vec<_>, _>>()?))
}

fn reality(args: &ScenarioRun) -> Result<Reality, Stop> {
    let parse =
        |text: &crate::model::Secret| text.expose().parse::<Proxy>().map_err(|e| Stop::usage(format!("--proxy: {e}")));
    let mut anchors = Vec::new();
    for path in &args.ca_file {
        anchors.extend(probe::read_anchors(path).map_err(Stop::usage)?);
    }
    Ok(Reality { proxy: args.proxy.as_ref().map(parse).transpose()?, anchors, no_system_roots: args.no_system_roots })
}

/// Turns true at the first signal.
fn stop_on_interrupt() -> watch::Receiver<bool> {
    let interrupt = interrupt::listen();
    let (send, stop) = watch::channel(false);
    // Lives as long as the program; without a thread the first Ctrl-C ends the program.
    let _ = std::thread::Builder::new().name("interrupt".into()).spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
            runtime.block_on(interrupt);
            // Nobody listens any more when the suite is done.
            let _ = send.send(true);
        }
    });
    stop
}

/// Keeps record and judgement: `record.jsonl` (of further probes `record-2.jsonl`, …) and `verdict.json`.
fn keep(folder: &Path, outcome: &Outcome) -> Result<(), Stop> {
    let folder = folder.join(&outcome.scenario.name);
    let write = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        let mut verdicts = Vec::new();
        for (run, number) in outcome.runs.iter().zip(1..) {
            let name = if number == 1 { "record.jsonl".to_owned() } else { format!("record-{number}.jsonl") };
            run.record.write(io::BufWriter::new(fs::File::create(folder.join(&name))?))?;
            verdicts.push(json!({ "record": name, "judgement": scenario::judgement(&run.assessment) }));
        }
        fs::write(folder.join("verdict.json"), format!("{:#}\n", json!(verdicts)))
    };
    write().map_err(|e| Stop::CannotMeasure(format!("cannot write {}: {e}", folder.display())))
}

// ---- list

fn list(paths: &[PathBuf], filter: &[String]) -> Result<u8, Stop> {
    let mut text = String::new();
    // What a scenario shows does not depend on its variables, but a file without their values cannot be read.
    for scenario in scenarios::read(paths, filter, &Variables::with_environment([]))? {
        let lab = if scenario.lab.is_some() { "lab " } else { "real" };
        let (name, about) = (report::harmless(&scenario.name), report::harmless(&scenario.about));
        let _ = writeln!(text, "{name:<34} {lab}  {about}");
    }
    output::print(&text)?;
    Ok(exit::CLEAR)
}
