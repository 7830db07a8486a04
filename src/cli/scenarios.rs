//! Scenarios by the name that a user gives.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{exit::Stop, nearest};
use crate::{
    lab::LabSpec,
    report,
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

/// Reads the files, all files of the folders, and the built-in scenarios that are named (all of these if nothing is), as
/// far as their name contains one of `filter`.
///
/// # Errors
/// When nothing is left, or a file cannot be used: each of these is told, not only the first.
pub(super) fn read(paths: &[PathBuf], filter: &[String], variables: &Variables) -> Result<Vec<Arc<Scenario>>, Stop> {
    let mut sources = Vec::new();
    if paths.is_empty() {
        sources.extend(scenario::builtins().map(|built_in| Source::BuiltIn(built_in.name)));
    }
    for path in paths {
        sources.extend(expand(path)?);
    }
    let wanted = |source: &Source| filter.is_empty() || filter.iter().any(|text| source.name().contains(text.as_str()));
    let names: Vec<String> = sources.iter().map(Source::name).collect();
    sources.retain(wanted);
    if sources.is_empty() {
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let meant = filter.first().and_then(|text| nearest::of(text, &known));
        let meant = meant.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(Stop::usage(format!(
            "no name of {} matches --filter{meant}",
            report::plural(known.len(), "scenario")
        )));
    }
    let (mut scenarios, mut problems) = (Vec::new(), Vec::new());
    for source in &sources {
        match source.read(variables) {
            Ok(scenario) => scenarios.push(Arc::new(scenario)),
            Err(e) => problems.push(e.to_string()),
        }
    }
    if problems.is_empty() { Ok(scenarios) } else { Err(Stop::usage(problems.join("\n"))) }
}

/// Where a scenario comes from.
enum Source {
    File(PathBuf),
    BuiltIn(&'static str),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            Self::BuiltIn(name) => (*name).to_owned(),
        }
    }

    fn read(&self, variables: &Variables) -> Result<Scenario, ScenarioError> {
        match self {
            Self::File(path) => Scenario::read(path, variables),
            Self::BuiltIn(name) => {
                let toml = scenario::find(name).map_or("", |built_in| built_in.toml);
                Scenario::parse(name, toml, variables)
            }
        }
    }
}

/// The files that a path names: itself, those of a folder and its folders in alphabetical order, or a built-in scenario.
fn expand(path: &Path) -> Result<Vec<Source>, Stop> {
    let cannot = |e: &io::Error| Stop::usage(format!("cannot read {}: {e}", path.display()));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let mut files = Vec::new();
            collect(path, &mut files, MAX_DEPTH).map_err(|e| cannot(&e))?;
            if files.is_empty() {
                return Err(Stop::usage(format!("there is no scenario (*.toml) in the folder {}", path.display())));
            }
            Ok(files.into_iter().map(Source::File).collect())
        }
        Ok(_) => Ok(vec![Source::File(path.to_owned())]),
        Err(e) => {
            if let Some(built_in) = path.to_str().and_then(scenario::find) {
                return Ok(vec![Source::BuiltIn(built_in.name)]);
            }
            let known: Vec<_> = scenario::builtins().map(|built_in| built_in.name).collect();
            let near = path.to_str().and_then(|text| nearest::of(text, &known));
            let meant = near.map_or_else(String::new, |near| format!("; did you mean the built-in `{near}`?"));
            Err(Stop::usage(format!("cannot read {}: {e}{meant}", path.display())))
        }
    }
}

/// Deeper folders are not looked into: a link may lead back up.
const MAX_DEPTH: usize = 8;

fn collect(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if depth > 0 {
                collect(&path, files, depth - 1)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    Ok(())
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
