//! Scenarios by the name that a user gives.

use std::path::Path;

use super::{exit::Stop, nearest};
use crate::{
    lab::LabSpec,
    scenario::{self, Scenario, ScenarioError, Variables},
};

/// The built-in scenario of this name, or the one in this `.toml` file.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(super) fn load(name: &str) -> Result<Scenario, Stop> {
    let variables = Variables::with_environment([]);
    let refused = |e: ScenarioError| Stop::usage(e.to_string());
    if Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return Scenario::read(Path::new(name), &variables).map_err(refused);
    }
    if let Some(built_in) = scenario::find(name) {
        return Scenario::parse(name, built_in.toml, &variables).map_err(refused);
    }
    let known: Vec<_> = scenario::builtins().map(|built_in| built_in.name).collect();
    let meant = nearest::of(name, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(Stop::usage(format!(
        "there is no scenario `{name}`{meant}\nThere are: {}; or give a .toml file.",
        known.join(", ")
    )))
}

/// What the lab plays in a scenario.
///
/// # Errors
/// When it is about real parties.
pub(super) fn lab_of(scenario: &Scenario) -> Result<&LabSpec, Stop> {
    scenario.lab.as_ref().ok_or_else(|| {
        Stop::usage(format!("the scenario {} has no [lab] table: `snapreach scenario run` runs it", scenario.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scenario_names_the_nearest_and_all() {
        let error = load("healty").unwrap_err().to_string();
        assert!(error.contains("did you mean `healthy`?") && error.contains("There are: "), "{error}");
        assert_eq!(load("healthy").unwrap().name, "healthy");
        let error = load("/nonexistent/s.toml").unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/s.toml:1:1: cannot read"), "{error}");
    }

    #[test]
    fn a_scenario_of_real_parties_has_no_lab() {
        let toml = "about = \"x\"\n[[probe]]\ntargets = [\"a.example\"]\n[expect]\nverdict = \"clear\"\n";
        let scenario = Scenario::parse("real", toml, &Variables::default()).unwrap();
        assert!(lab_of(&scenario).unwrap_err().to_string().contains("scenario run"));
    }
}
