//! The command line: one file per command, and none of them measures, judges or prints a report itself.
//!
//! A command turns options into a [`crate::plan::Plan`] (`options`, `config`, `request`), lets the engine walk it, and
//! hands record and assessment to the reporters (`output`). How the other modules are called stands in `wiring` alone.

mod args;
mod bench;
mod check;
mod config;
mod discovery;
mod estate;
mod exit;
mod explain;
mod generate;
mod interrupt;
mod lab;
mod nearest;
mod network;
mod nsg;
mod options;
mod output;
mod progress;
mod proxy;
mod replay;
mod request;
mod scenario;
mod scenarios;
mod secrets;
mod targets;
mod text;
mod triage;
mod values;

use std::{env, ffi::OsString, fmt::Write, process::ExitCode};

use args::{Cli, Command};
use clap::{Parser, error::ErrorKind};
use exit::Stop;

use crate::model::Redactor;

/// Runs the program with the arguments of this process and gives its exit code: 0 clear, 1 blocked, 2 wrong usage or
/// input, 3 inconclusive, 130 interrupted.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let redactor = secrets::of_arguments(&arguments[arguments.len().min(1)..]);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(e) if e.kind() == ErrorKind::InvalidUtf8 => return ExitCode::from(explain_encoding(&arguments, &redactor)),
        Err(e) => return ExitCode::from(explain_usage(&e, &redactor)),
    };
    let result = match cli.command {
        Command::Check(args) => check::run(*args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Scenario(command) => scenario::run(command),
        Command::Lab(args) => lab::run(&args),
        Command::Nsg(args) => nsg::run(&args),
        Command::Triage(args) => triage::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { command } => generate::man(command.as_deref()),
    };
    ExitCode::from(result.unwrap_or_else(|stop| {
        let mut message = stop.to_string();
        redactor.scrub(&mut message);
        output::say(&format!("error: {message}"));
        if matches!(stop, Stop::Usage(_)) {
            output::say("\nFor more information, try '--help'.");
        }
        stop.code()
    }))
}

/// Says which argument is no text; the parser of the command line does not tell.
fn explain_encoding(arguments: &[OsString], redactor: &Redactor) -> u8 {
    let mut message = String::from("an argument is not UTF-8 text");
    for (place, argument) in arguments.iter().enumerate().filter(|(_, argument)| argument.to_str().is_none()) {
        let mut shown = argument.to_string_lossy().into_owned();
        redactor.scrub(&mut shown);
        let _ = write!(message, "\n  argument {place}: {shown}");
        let before = arguments[..place].last().and_then(|before| before.to_str());
        if let Some(flag) = before.filter(|before| before.starts_with('-') && !before.contains('=')) {
            let _ = write!(message, ", the value of {flag}");
        }
    }
    output::say(&format!("error: {message}\n\nFor more information, try '--help'."));
    exit::USAGE
}

/// Prints what the parser of the command line has to say: help and version to standard output, errors to standard
/// error, where an argument that it repeats may hold a password.
fn explain_usage(error: &clap::Error, redactor: &Redactor) -> u8 {
    if !error.use_stderr() {
        // A reader that has gone away has seen enough.
        let _ = error.print();
        return exit::CLEAR;
    }
    let mut message = error.render().to_string();
    redactor.scrub(&mut message);
    output::say(message.trim_end());
    exit::USAGE
}
