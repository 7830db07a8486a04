//! Scenarios by the name that a user gives.

use std::{fs, path::Path};

use super::{exit::Stop, nearest};
use crate::scenario::{self, Scenario};

/// The built-in scenario of this name, or the one in this `.toml` file.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(super) fn load(name: &str) -> Result<Scenario, Stop> {
    let parse = |toml: &str| Scenario::parse(name, toml).map_err(|e| Stop::usage(e.to_string()));
    if Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        let toml =
            fs::read_to_string(name).map_err(|e| Stop::usage(format!("cannot read the scenario {name}: {e}")))?;
        return parse(&toml);
    }
    if let Some(built_in) = scenario::find(name) {
        return parse(built_in.toml);
    }
    let known: Vec<_> = scenario::builtins().map(|built_in| built_in.name).collect();
    let meant = nearest::of(name, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(Stop::usage(format!(
        "there is no scenario `{name}`{meant}\nThere are: {}; or give a .toml file.",
        known.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scenario_names_the_nearest_and_all() {
        let error = load("healty").unwrap_err().to_string();
        assert!(error.contains("did you mean `healthy`?") && error.contains("There are: "), "{error}");
        assert_eq!(load("healthy").unwrap().name, "healthy");
        assert!(load("/nonexistent/s.toml").unwrap_err().to_string().contains("/nonexistent/s.toml: "));
    }
}
