//! The recipes for CI in `docs/ci.md`: their YAML can be read, their scripts do with each exit code what the page says,
//! and the program takes the command that they run.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use snapreach::{
    bench::Run,
    lab::{Lab, LabSpec},
};
use yaml_rust2::{Yaml, YamlLoader};

use crate::support::{program, skipped, snapreach};

/// Stands for the program: keeps what it is told, and ends as it is told.
const STUB: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" >arguments\necho report >bench/report.md\nexit \"$CODE\"\n";

/// The recipes by their headings.
fn recipes() -> BTreeMap<&'static str, Yaml> {
    let sections = include_str!("../../docs/ci.md").split("\n## ").skip(1);
    let recipe = |section: &'static str| {
        let (heading, rest) = section.split_once('\n').unwrap();
        let block = rest.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let [document] = YamlLoader::load_from_str(block).unwrap().try_into().unwrap();
        (heading, document)
    };
    sections.map(recipe).collect()
}

/// The scripts of a recipe: what stands under `run` or `script`, wherever that is.
fn scripts(yaml: &Yaml) -> Vec<String> {
    let lines = |value: &Yaml| match value {
        Yaml::Array(lines) => lines.iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n"),
        text => text.as_str().unwrap().to_owned(),
    };
    match yaml {
        Yaml::Hash(map) => {
            let under = |(key, value): (&Yaml, &Yaml)| match key.as_str() {
                Some("run" | "script") => vec![lines(value)],
                _ => scripts(value),
            };
            map.iter().flat_map(under).collect()
        }
        Yaml::Array(all) => all.iter().flat_map(scripts).collect(),
        _ => Vec::new(),
    }
}

/// The one script of a recipe that measures.
fn gate(recipe: &Yaml) -> String {
    let [gate] = scripts(recipe)
        .into_iter()
        .filter(|script| script.contains("snapreach bench"))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    gate
}

/// Runs a script as the system does, in a folder with a program that ends with this code.
fn run(bash: &Path, folder: &Path, system: &str, script: &str, code: i32) -> Output {
    let options: &[&str] = match system {
        "GitHub Actions" => &["-e"],
        "GitLab" => &["-e", "-o", "pipefail"],
        _ => &[],
    };
    let path = std::env::join_paths(
        std::iter::once(folder.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    // Whatever a recipe does before its script.
    fs::create_dir_all(folder.join("bench")).unwrap();
    Command::new(bash)
        .args(["--noprofile", "--norc"])
        .args(options)
        .args(["-c", script])
        .current_dir(folder)
        .env("PATH", path.unwrap())
        .envs([("TARGET", "the target"), ("PROXY", "http://old"), ("CANDIDATE", "http://new"), ("SLICE", "50ms")])
        .env("GITHUB_STEP_SUMMARY", folder.join("summary"))
        .env("CODE", code.to_string())
        .output()
        .unwrap()
}

#[test]
fn every_system_fails_on_a_proof_and_warns_where_it_cannot_be_told() {
    let Some(bash) = program("bash") else { return skipped("bash is not installed") };
    let folder = tempfile::tempdir().unwrap();
    let stub = folder.path().join("snapreach");
    fs::write(&stub, STUB).unwrap();
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    let recipes = recipes();
    assert_eq!(recipes.keys().copied().collect::<Vec<_>>(), ["Azure Pipelines", "GitHub Actions", "GitLab"]);
    for (&system, recipe) in &recipes {
        for code in [0, 1, 2, 3] {
            let output = run(&bash, folder.path(), system, &gate(recipe), code);
            let said = String::from_utf8(output.stdout).unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let warned = match system {
                "GitHub Actions" => said.contains("::warning "),
                "Azure Pipelines" => {
                    said.contains("##vso[task.logissue type=warning]")
                        && said.contains("##vso[task.complete result=SucceededWithIssues;]")
                }
                _ => recipe["proxy gate"]["allow_failure"]["exit_codes"][0].as_i64() == Some(code.into()),
            };
            assert_eq!(warned, code == 3, "{system}, {code}: {said}{stderr}");
            let ends = if code == 3 && system != "GitLab" { 0 } else { code };
            assert_eq!(output.status.code(), Some(ends), "{system}, {code}: {said}{stderr}");
        }
    }
    assert!(fs::read_to_string(folder.path().join("summary")).unwrap().starts_with("report\n"));
}

#[test]
fn the_program_takes_the_command_of_the_recipes() {
    let Some(bash) = program("bash") else { return skipped("bash is not installed") };
    let folder = tempfile::tempdir().unwrap();
    let stub = folder.path().join("snapreach");
    fs::write(&stub, STUB).unwrap();
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    let commands = recipes().into_iter().map(|(system, recipe)| {
        run(&bash, folder.path(), system, &gate(&recipe), 0);
        fs::read_to_string(folder.path().join("arguments")).unwrap()
    });
    let commands: Vec<String> = commands.collect();
    assert!(commands.iter().all(|command| *command == commands[0]), "{commands:#?}");

    let lab = Lab::start_watched(&LabSpec::default(), |_| ()).unwrap();
    let proxy = lab.network().proxy.as_ref().unwrap().url();
    let arguments = commands[0].lines().map(|argument| {
        let named = argument.replace("http://old", &proxy).replace("http://new", &proxy);
        named.replace("the target", "http://acct.blob.core.windows.net/snapreach-bulk/1000000")
    });
    let output = snapreach().args(arguments).current_dir(folder.path()).output().unwrap();
    // What a busy machine makes of such short slices is open; that it compared is not.
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    let report = |extension: &str| fs::read_to_string(folder.path().join("bench/report").with_extension(extension));
    let run = Run::read(&report("json").unwrap()).unwrap();
    let gate = run.gate.unwrap();
    assert!(gate.pairs.len() >= 15, "{:#?}", run.verdict);
    assert!((gate.question.margin - 0.1).abs() < f64::EPSILON);
    assert!(report("md").unwrap().starts_with('#') && report("html").unwrap().contains("<svg"));
}
