//! Declarative scenarios: how the other parties behave, what to probe, and what must come out.
//!
//! A file has up to four parts: `[lab]` and `[[fault]]` say what the embedded lab plays, `[[probe]]` what to probe, and
//! `[expect]` what must come out. Without `[lab]` the probes meet whoever is really there.

mod builtin;
mod compare;
mod expect;
mod probe;
pub mod report;
mod run;
mod suite;
mod variables;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Spanned, de::DeTable};

use crate::{
    discover::Machine,
    lab::{Fault, LabSpec, MachineSpec, Network},
    plan::Plan,
};

pub use builtin::BuiltIn;
pub use compare::{Difference, Run, judgement, verdict};
pub use expect::{Expect, ExpectedFinding, ExpectedPrediction, ExpectedTime};
pub use probe::{FamilyName, ProbeSpec, Reality};
pub use run::{Carried, Outcome, Setting, TestResult, run};
pub use suite::{Course, play};
pub use variables::{Variables, is_name};

/// The scenarios that come with the program, in alphabetical order.
pub fn builtins() -> impl Iterator<Item = &'static BuiltIn> {
    builtin::ALL.iter()
}

/// The built-in scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    builtins().find(|built_in| built_in.name == name)
}

/// The JSON Schema (draft 2020-12) of scenario files.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

/// One scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name: the file's, without `.toml`.
    pub name: String,
    /// What it shows, in one sentence.
    pub about: String,
    /// What the lab plays; `None`: whoever is really there answers.
    pub lab: Option<LabSpec>,
    /// What to probe, one after the other.
    pub probes: Vec<ProbeSpec>,
    /// What must come out.
    pub expect: Expect,
    /// The folder of its file, to which paths in it are relative.
    folder: PathBuf,
}

/// A scenario file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "snapreach scenario")]
struct File {
    /// What it shows, in one sentence.
    about: String,
    /// The parties that the embedded lab plays. Without this table real parties answer.
    #[schemars(with = "Option<LabSpec>")]
    lab: Option<Spanned<LabSpec>>,
    /// How they deviate.
    #[serde(default)]
    #[schemars(with = "Vec<Fault>")]
    fault: Vec<Spanned<Fault>>,
    /// What to probe, one after the other.
    #[schemars(with = "Vec<ProbeSpec>")]
    probe: Vec<Spanned<ProbeSpec>>,
    /// What must come out.
    expect: Expect,
}

/// A scenario file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ScenarioError {
    /// The file, or the scenario's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// As [`Scenario::parse`]; of a file that cannot be read the place is its first line.
    pub fn read(path: &Path, variables: &Variables) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(toml) => Self::parse(&file, &toml, variables),
            Err(e) => {
                Err(ScenarioError { file, line: 1, column: 1, message: format!("cannot read the scenario: {e}") })
            }
        }
    }

    /// Reads a scenario from its text. `name` is its file name; `.toml` and folders before it are cut off for
    /// [`Scenario::name`].
    ///
    /// # Errors
    /// Says where in the text, what is wrong and what is allowed there. Values of variables do not show.
    pub fn parse(name: &str, toml: &str, variables: &Variables) -> Result<Self, ScenarioError> {
        let mut used = variables::Used::default();
        let result = Self::build(name, toml, variables, &mut used);
        result.map_err(|(span, mut message)| {
            used.hide(&mut message);
            let (line, column) = position(toml, span.start);
            ScenarioError { file: name.to_owned(), line, column, message }
        })
    }

    fn build(
        name: &str,
        toml: &str,
        variables: &Variables,
        used: &mut variables::Used,
    ) -> Result<Self, (Range<usize>, String)> {
        let told = |e: toml::de::Error| (e.span().unwrap_or_default(), e.message().trim_end().to_owned());
        let mut table = DeTable::parse(toml).map_err(told)?;
        variables::expand(table.get_mut(), variables, used)?;
        let file = File::deserialize(toml::Deserializer::from(table)).map_err(told)?;

        let Some(first) = file.probe.first() else {
            return Err((0..0, "a scenario needs at least one [[probe]]".into()));
        };
        for fault in &file.fault {
            if file.lab.is_none() {
                let message = "faults are played by the lab: add a [lab] table, or leave them out";
                return Err((fault.span(), message.into()));
            }
            fault.get_ref().check().map_err(|message| (fault.span(), message))?;
        }
        for probe in &file.probe {
            probe.get_ref().check().map_err(|message| (probe.span(), message))?;
        }
        let place = first.span();
        let probes: Vec<_> = file.probe.into_iter().map(Spanned::into_inner).collect();
        file.expect.check(&probes)?;
        let lab = match file.lab {
            None => None,
            Some(lab) => {
                lab.get_ref().check().map_err(|message| (lab.span(), message))?;
                let faults = file.fault.into_iter().map(Spanned::into_inner).collect();
                Some(LabSpec { faults, ..lab.into_inner() })
            }
        };
        let path = Path::new(name);
        let scenario = Self {
            name: path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned()),
            about: file.about,
            lab,
            probes,
            expect: file.expect,
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
        };
        if scenario.lab.is_none() {
            scenario.anchors().map_err(|message| (place, message))?;
        }
        Ok(scenario)
    }

    /// The plans that probe a lab as the scenario wants it, in order.
    #[must_use]
    pub fn plans(&self, network: &Network) -> Vec<Plan> {
        let MachineSpec { files, environment, privileged } =
            self.lab.as_ref().map(|lab| lab.machine.clone()).unwrap_or_default();
        let mut plans = self.plans_on(&Machine::described(files, environment), network);
        for plan in &mut plans {
            plan.context.privileged = Some(privileged.unwrap_or(true));
        }
        plans
    }

    /// The same from another machine than the one that the scenario describes.
    #[must_use]
    pub fn plans_on(&self, machine: &Machine, network: &Network) -> Vec<Plan> {
        self.probes.iter().map(|probe| probe.plan_lab(&self.name, machine, network)).collect()
    }

    /// The plans that probe whoever is really there.
    ///
    /// # Errors
    /// Why that cannot be done here.
    fn plans_of_reality(&self, reality: &Reality) -> Result<Vec<Plan>, String> {
        let anchors = self.anchors()?;
        self.probes.iter().zip(anchors).map(|(probe, anchors)| probe.plan_reality(reality, anchors)).collect()
    }

    /// The trust anchors of each probe's own files.
    fn anchors(&self) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let of_probe = |probe: &ProbeSpec| {
            let files = probe.ca_file.iter().map(|file| crate::probe::read_anchors(&self.folder.join(file)));
            Ok(files.collect::<Result<Vec<_>, String>>()?.concat())
        };
        self.probes.iter().map(of_probe).collect()
    }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::classify::codes;

    fn parse(name: &str, toml: &str) -> Result<Scenario, ScenarioError> {
        Scenario::parse(name, toml, &Variables::default())
    }

    #[test]
    fn every_file_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let files: BTreeSet<String> = fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap().path())).collect();
        let embedded: Vec<&str> = builtins().map(|built_in| built_in.name).collect();
        assert_eq!(embedded, files.iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_file_is_named_after_what_it_shows() {
        for built_in in builtins() {
            let scenario = parse(built_in.name, built_in.toml).unwrap();
            assert_eq!(scenario.name, built_in.name);
            assert!(scenario.about.ends_with('.'), "{}: about is a sentence", built_in.name);
            let named = codes::ALL.iter().find(|code| code.0.replacen('.', "-", 1).replace('_', "-") == built_in.name);
            if let Some(code) = named {
                let expected = scenario.expect.findings.iter().any(|finding| finding.get_ref().code == code.0);
                assert!(expected, "{} must expect {code}", built_in.name);
            }
        }
    }

    #[test]
    fn every_lab_starts() {
        for built_in in builtins() {
            let scenario = parse(built_in.name, built_in.toml).unwrap();
            let lab = crate::lab::Lab::start(scenario.lab.as_ref().unwrap()).unwrap();
            assert!(scenario.plans(lab.network()).iter().all(|plan| !plan.targets.is_empty()), "{}", built_in.name);
        }
    }

    #[test]
    fn a_typo_points_at_its_line_and_says_what_is_allowed() {
        let good = find("healthy").unwrap().toml;
        let typo = good.replace("routes", "ruotes");
        let line = typo.lines().position(|line| line.starts_with("ruotes")).unwrap() + 1;
        let error = parse("scenarios/healthy.toml", &typo).unwrap_err();
        assert_eq!((error.line, error.column), (line, 1), "{error}");
        assert!(error.to_string().starts_with(&format!("scenarios/healthy.toml:{line}:1: ")), "{error}");
        assert!(error.message.contains("`ruotes`") && error.message.contains("`routes`"), "{error}");
    }

    /// A file of six lines, and what is wrong in those that follow.
    const HEAD: &str =
        "about = \"x\"\n[lab]\n[expect]\nverdict = \"blocked\"\n[[probe]]\ntargets = [\"https://a.example\"]\n";

    #[test]
    fn errors_have_a_place_and_name_what_is_allowed() {
        for (tail, line, part) in [
            ("[[fault]]\nat = \"origin\"\nconn = \"slient\"", 9, "`silent`"),
            ("[[fault]]\nat = \"orign\"", 8, "`origin`"),
            ("[[fault]]\nat = \"origin\"\ntls = { alert = 300 }", 9, "u8"),
            ("[[fault]]\nat = \"origin\"\nhttp = { slow = \"11\" }", 9, "250ms"),
            ("[[fault]]\nat = \"proxy\"\nreply = { proxy_status = { eror = \"x\" } }", 9, "`error`"),
            ("[[fault]]\nat = \"origin\"\nports = [1]", 7, "exactly one of"),
            ("[[fault]]\nat = \"dns\"\ntls = \"reset\"", 7, "takes `dns`"),
            ("[[probe]]\ntargets = [\"ftp://x\"]", 7, "probe.targets"),
            ("[[probe]]\ntargets = [\"https://x\"]\nproxy = \"p:1\"", 7, "http://HOST:PORT"),
            ("[[probe]]\ntargets = [\"https://x\"]\nattempts = 0", 7, "at least 1"),
            ("[[probe]]\ntargets = [\"https://${NOT_THERE}\"]", 8, "--var NOT_THERE=VALUE"),
            ("[[expect.findings]]\ncode = \"tls.expierd\"", 7, "tls.expired"),
            ("[[expect.findings]]\ncode = \"tls.expired\"\nhop = \"orign\"", 9, "`origin`"),
            ("[[expect.findings]]\ncode = \"tls.expired\"\nroute = \"proxy\"", 7, "no probe takes the route"),
            ("[[expect.findings]]\ncode = \"tls.expired\"\nfailed = 3\ntried = 2", 7, "3 of 2"),
            ("[[expect.findings]]\ncode = \"tls.expired\"\ntarget = \"b.example:443\"", 7, "no probe has the target"),
            ("[[expect.findings]]\ncode = \"tls.expired\"\nprobe = \"second\"", 7, "no probe has the name"),
            ("[[expect.times]]\nlayer = \"tunnel\"\nat_most = \"1s\"", 7, "no probe goes through a proxy"),
            ("[[expect.times]]\nlayer = \"connect\"\nat_most = \"1s\"\nat_least = \"2s\"", 7, "impossible"),
            ("[[expect.times]]\nlayer = \"connect\"", 7, "at_least"),
        ] {
            let error = parse("s.toml", &format!("{HEAD}{tail}\n")).unwrap_err();
            assert_eq!(error.line, line, "{tail}: {error}");
            assert!(error.message.contains(part), "{tail}: {error}");
        }
        for (from, to, line, part) in [
            ("\"blocked\"", "\"blokced\"", 4, "`blocked`"),
            ("\"blocked\"", "\"blocked\"\nexit_code = 0", 5, "exits 1"),
            ("\"blocked\"", "\"clear\"\nallowed = [\"a.b\"]", 5, "no finding code"),
            ("[lab]\n", "[[fault]]\nat = \"origin\"\nconn = \"reset\"\n", 2, "add a [lab] table"),
            (
                "\"blocked\"",
                "\"clear\"\nfindings = [{ code = \"tls.expired\", severity = \"error\" }]",
                5,
                "not `clear`",
            ),
        ] {
            let error = parse("s.toml", &HEAD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.line, line, "{to}: {error}");
            assert!(error.message.contains(part), "{to}: {error}");
        }
    }

    #[test]
    fn variables_stand_in_strings_and_do_not_leak() {
        let text = HEAD.replace("a.example", "${HOST}") + "proxy = \"http://svc:${PW}@proxy\"\n";
        let variables = Variables::of([("HOST".into(), "b.example".into()), ("PW".into(), "TOPSECRET".into())]);
        let error = Scenario::parse("s.toml", &text, &variables).unwrap_err().to_string();
        assert!(error.contains("needs a port") && !error.contains("TOPSECRET"), "{error}");
        let right = text.replace("@proxy", "@proxy:3128");
        let scenario = Scenario::parse("s.toml", &right, &variables).unwrap();
        assert_eq!(scenario.probes[0].targets, ["https://b.example"]);
    }

    #[test]
    fn the_schema_knows_every_part() {
        let text = schema().to_string();
        for part in ["\"about\"", "\"fault\"", "\"after_bytes\"", "\"mute_above_mss\"", "\"verdict\"", "\"at_most\""] {
            assert!(text.contains(part), "{part}");
        }
    }
}
