//! The edges to the modules that judge, print and play: one function each, so that the commands do not depend on how
//! those are called.

use std::io;

pub(super) use crate::{
    classify::{
        assess,
        explain::{
            exit_codes as explain_exit_codes, index as explain_index, page as explain_page, suggest as explain_suggest,
        },
    },
    lab::Lab as Guard,
    report::{Format, Style, write as write_report},
};
use crate::{
    plan::Plan,
    scenario::{self, Scenario},
};

/// Why a scenario does not run.
#[derive(Debug)]
pub(super) enum LabError {
    /// The scenario file is wrong; the message names file, line and column.
    Scenario(String),
    /// The lab does not start.
    Start(io::Error),
}

/// Starts the lab of a scenario, built-in or read from `toml`, and gives the plan that walks it. The lab runs as long
/// as the guard lives.
pub(super) fn lab_plan(name: &str, toml: Option<&str>) -> Result<(Guard, Plan), LabError> {
    let toml = toml
        .or_else(|| scenario::find(name).map(|built_in| built_in.toml))
        .ok_or_else(|| LabError::Scenario(format!("there is no scenario `{name}`")))?;
    let scenario = Scenario::parse(name, toml).map_err(|e| LabError::Scenario(e.to_string()))?;
    let lab = Guard::start(&scenario.lab).map_err(LabError::Start)?;
    let plan = scenario.plan(lab.network());
    Ok((lab, plan))
}

/// The names of the built-in scenarios, in alphabetical order.
pub(super) fn scenario_names() -> Vec<&'static str> {
    scenario::builtins().map(|built_in| built_in.name).collect()
}
