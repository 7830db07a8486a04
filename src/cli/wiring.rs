//! The edges to the modules that judge, print and play: one function each, so that the commands do not depend on how
//! those are called.

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    str::FromStr,
};

use crate::{
    model::{Assessment, Record, Status, Verdict},
    plan::Plan,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
    Jsonl,
    Markdown,
    Junit,
    Prometheus,
    Html,
}

impl Format {
    pub(super) const ALL: [Self; 7] =
        [Self::Text, Self::Json, Self::Jsonl, Self::Markdown, Self::Junit, Self::Prometheus, Self::Html];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Markdown => "markdown",
            Self::Junit => "junit",
            Self::Prometheus => "prometheus",
            Self::Html => "html",
        }
    }

    pub(super) fn from_extension(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "txt" => Self::Text,
            "json" => Self::Json,
            "jsonl" => Self::Jsonl,
            "md" => Self::Markdown,
            "xml" => Self::Junit,
            "prom" => Self::Prometheus,
            "html" => Self::Html,
            _ => return None,
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            "there is no such format; use text, json, jsonl, markdown, junit, prometheus or html".to_owned()
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) color: bool,
    pub(super) width: usize,
    pub(super) verbose: u8,
}

/// What a record means.
pub(super) fn assess(record: &Record) -> Assessment {
    let summary = format!("{} observations", record.observations.len());
    let verdict = Verdict { status: Status::Inconclusive, summary, exit_code: 3 };
    Assessment { verdict, predictions: Vec::new(), findings: Vec::new(), cells: Vec::new() }
}

/// Writes a report.
pub(super) fn write_report(
    format: Format,
    record: &Record,
    assessment: &Assessment,
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let _ = (record, style.color, style.width, style.verbose);
    writeln!(out, "{format}: {}", assessment.verdict.summary)
}

/// Keeps the lab running.
#[derive(Debug)]
pub(super) struct Guard(#[expect(dead_code)] Box<dyn std::any::Any>);

/// Why a scenario does not run.
#[derive(Debug)]
pub(super) enum LabError {
    /// The scenario file is wrong.
    Scenario(String),
    /// The lab does not start.
    Start(io::Error),
}

/// Starts the lab of a scenario, built-in or `toml`, and gives the plan that walks it.
pub(super) fn lab_plan(name: &str, toml: Option<&str>) -> Result<(Guard, Plan), LabError> {
    match toml {
        Some(_) => Err(LabError::Scenario("scenario files are not read yet".into())),
        None => Err(LabError::Start(io::Error::other(format!("the scenario {name} cannot run yet")))),
    }
}

/// The names of the built-in scenarios.
pub(super) fn scenario_names() -> Vec<&'static str> {
    vec!["healthy"]
}

/// The page of a finding code.
pub(super) fn explain_page(_code: &str, _color: bool, _width: usize) -> Option<String> {
    None
}

/// All finding codes.
pub(super) fn explain_index() -> String {
    String::new()
}

/// The exit codes.
pub(super) fn explain_exit_codes() -> String {
    String::new()
}

/// The code that was probably meant.
pub(super) fn explain_suggest(_code: &str) -> Option<&'static str> {
    None
}
