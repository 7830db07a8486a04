//! The environment that systemd gives the agent: its unit, drop-ins and environment files (systemd.exec(5)).

use std::collections::BTreeMap;

use super::{Machine, environment};
use crate::model::DiscoverySource;

/// What distributions call the agent's unit.
const UNITS: [&str; 2] = ["walinuxagent.service", "waagent.service"];

/// Where units are looked for, the strongest first (systemd.unit(5)).
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// What the files of the agent's unit say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Units {
    /// The proxy variables that a start of the agent now would give it, each with the file that sets it.
    pub(super) variables: Vec<(String, String, String)>,
    /// The files that were there.
    pub(super) sources: Vec<DiscoverySource>,
}

/// Reads the agent's unit. Drop-ins of a name that no unit has change nothing, and are told as such.
pub(super) fn units(machine: &Machine) -> Units {
    let mut found = Units::default();
    let mut service = Service::default();
    for unit in UNITS {
        let main = FOLDERS.iter().map(|folder| format!("{folder}/{unit}")).find(|path| machine.has(path));
        if let Some(path) = &main {
            read(machine, path, &mut service, &mut found.sources);
        }
        for path in drop_ins(machine, unit) {
            if main.is_some() {
                read(machine, &path, &mut service, &mut found.sources);
            } else {
                found.sources.push(DiscoverySource {
                    origin: path,
                    gave: None,
                    problem: Some(format!("there is no unit {unit} on this machine, so this file has no effect")),
                });
            }
        }
    }
    let mut variables = service.variables;
    // Files are read when the service starts, and what they say wins.
    for (path, optional) in service.files {
        let problem = match machine.text(&path) {
            Ok(Some(text)) => {
                let own = environment::proxy_variables(environment_file(&text).iter().map(String::as_str));
                found.sources.push(DiscoverySource {
                    origin: path.clone(),
                    gave: environment::told(&own),
                    problem: None,
                });
                variables.extend(own.into_iter().map(|(name, value)| (name, (value, path.clone()))));
                continue;
            }
            Ok(None) if optional => continue,
            Ok(None) => "there is no such file, so the agent does not start".to_owned(),
            Err(e) => format!("cannot be read: {e}"),
        };
        found.sources.push(DiscoverySource { origin: path, gave: None, problem: Some(problem) });
    }
    found.variables = variables.into_iter().map(|(name, (value, path))| (name, value, path)).collect();
    found
}

/// What the lines of several files add up to.
#[derive(Debug, Default)]
struct Service {
    variables: BTreeMap<String, (String, String)>,
    /// Environment files, and whether each may be missing.
    files: Vec<(String, bool)>,
}

/// The drop-ins of a unit in the order in which they count. A name in a stronger folder replaces the same name elsewhere.
fn drop_ins(machine: &Machine, unit: &str) -> Vec<String> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        let folder = format!("{folder}/{unit}.d");
        let names = machine.names(&folder).unwrap_or_default();
        for name in names {
            if name.strip_suffix(".conf").is_none() {
                continue;
            }
            files.entry(name).or_insert_with_key(|name| format!("{folder}/{name}"));
        }
    }
    files.into_values().collect()
}

fn read(machine: &Machine, path: &str, service: &mut Service, sources: &mut Vec<DiscoverySource>) {
    let (gave, problem) = match machine.text(path) {
        Ok(None) => return,
        Ok(Some(text)) => apply(path, &text, service),
        Err(e) => (None, Some(format!("cannot be read: {e}"))),
    };
    sources.push(DiscoverySource { origin: path.to_owned(), gave, problem });
}

/// Applies the lines of one file, and tells what it gave and what of it does not count.
fn apply(path: &str, text: &str, service: &mut Service) -> (Option<String>, Option<String>) {
    let (mut own, mut problem) = (Vec::new(), None);
    let mut in_service = false;
    for (line, text) in logical_lines(text) {
        let text = text.trim();
        if let Some(section) = text.strip_prefix('[') {
            in_service = section.trim_end().strip_suffix(']') == Some("Service");
            continue;
        }
        let Some((key, value)) = text.split_once('=').filter(|_| in_service) else { continue };
        match (key.trim(), value.trim()) {
            ("Environment", "") => service.variables.clear(),
            ("EnvironmentFile", "") => service.files.clear(),
            ("Environment", value) => {
                for word in words(value) {
                    match expanded(&word) {
                        Some(word) => own.extend(environment::proxy_variables([word.as_str()])),
                        // The rest of the word may be a password.
                        None if environment::is_proxy_variable(&word) => {
                            problem.get_or_insert_with(|| {
                                format!(
                                    "line {line}: systemd takes the % for a specifier and may drop the variable; write %%"
                                )
                            });
                        }
                        None => {}
                    }
                }
            }
            ("UnsetEnvironment", value) => {
                for word in words(value) {
                    service.variables.remove(word.split('=').next().unwrap_or_default());
                }
            }
            ("EnvironmentFile", value) => {
                let (file, optional) = match value.strip_prefix('-') {
                    Some(file) => (file, true),
                    None => (value, false),
                };
                if file.starts_with('/') && !file.contains(['*', '?', '[', '%']) {
                    service.files.push((file.to_owned(), optional));
                } else {
                    problem.get_or_insert_with(|| {
                        format!("line {line}: this name of an environment file is not followed")
                    });
                }
            }
            _ => {}
        }
    }
    let gave = environment::told(&own);
    service.variables.extend(own.into_iter().map(|(name, value)| (name, (value, path.to_owned()))));
    (gave, problem)
}

/// The lines of a unit with their numbers: a backslash at the end joins the next one, comments go (systemd.syntax(7)).
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let (line, continues) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut().filter(|_| open) {
            Some((_, joined)) => {
                joined.push(' ');
                joined.push_str(line);
            }
            None => lines.push((index + 1, line.to_owned())),
        }
        open = continues;
    }
    lines
}

/// The words of a value: separated by white space, quotes of both kinds around any part, C escapes.
fn words(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, '\\') => word.get_or_insert_default().extend(escaped(&mut chars)),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What stands behind a backslash.
fn escaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let number = |chars: &mut std::str::Chars<'_>, digits: usize, radix| {
        let text: String = chars.clone().take(digits).collect();
        let code = u32::from_str_radix(&text, radix).ok()?;
        chars.nth(digits - 1);
        char::from_u32(code)
    };
    Some(match chars.clone().next()? {
        '0'..='7' => return number(chars, 3, 8),
        c => {
            chars.next();
            match c {
                'x' => return number(chars, 2, 16),
                'u' => return number(chars, 4, 16),
                'U' => return number(chars, 8, 16),
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                's' => ' ',
                other => other,
            }
        }
    })
}

/// A word with its specifiers resolved; `None` where it has one that only systemd can resolve, or none at all.
fn expanded(word: &str) -> Option<String> {
    let without = word.replace("%%", "\0");
    (!without.contains('%')).then(|| without.replace('\0', "%"))
}

/// The assignments `NAME=value` of an environment file: comments with `#` or `;`, a backslash at the end of a line joins the
/// next, quotes as in a shell, nothing is expanded.
fn environment_file(text: &str) -> Vec<String> {
    let mut assignments = Vec::new();
    for (_, line) in logical_lines(text) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let (mut plain, mut quote) = (String::new(), None);
        let mut chars = value.trim().chars();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                // Between single quotes a backslash is one.
                (None | Some('"'), '\\') => plain.extend(chars.next()),
                (_, c) => plain.push(c),
            }
        }
        assignments.push(format!("{}={plain}", name.trim()));
    }
    assignments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn machine(files: &[(&str, &str)]) -> Machine {
        Machine::described(files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect(), [])
    }

    fn variables(files: &[(&str, &str)]) -> Vec<(String, String)> {
        units(&machine(files)).variables.into_iter().map(|(name, value, _)| (name, value)).collect()
    }

    const UNIT: &str = "/usr/lib/systemd/system/walinuxagent.service";
    const PLAIN: (&str, &str) = (UNIT, "[Service]\nExecStart=/usr/sbin/waagent -daemon\n");

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        for (line, expected) in [
            ("A=1 B=2", vec!["A=1", "B=2"]),
            ("\"A=1 2\" 'B=3 4'", vec!["A=1 2", "B=3 4"]),
            ("A=\"1 2\"x", vec!["A=1 2x"]),
            (r#""A=\"q\"" B=a\sb C=\x41\102"#, vec!["A=\"q\"", "B=a b", "C=AB"]),
            ("\"\" ''", vec!["", ""]),
            ("\"open A=1", vec!["open A=1"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
        assert_eq!(expanded("a%%40b").as_deref(), Some("a%40b"));
        assert_eq!((expanded("a%40b"), expanded("%H"), expanded("%")), (None, None, None));
    }

    #[test]
    fn drop_ins_count_by_name_and_stronger_folders_replace() {
        let files = [
            PLAIN,
            (
                "/usr/lib/systemd/system/walinuxagent.service.d/50-x.conf",
                "[Service]\nEnvironment=https_proxy=http://weak:1\n",
            ),
            (
                "/etc/systemd/system/walinuxagent.service.d/50-x.conf",
                "[Service]\nEnvironment=https_proxy=http://strong:2\n",
            ),
            (
                "/etc/systemd/system/walinuxagent.service.d/10-a.conf",
                "[Service]\nEnvironment=https_proxy=http://early:3\n",
            ),
            ("/etc/systemd/system/walinuxagent.service.d/60-b.txt", "[Service]\nEnvironment=https_proxy=http://no:4\n"),
        ];
        assert_eq!(variables(&files), [("https_proxy".to_owned(), "http://strong:2".to_owned())]);
        let reset = (
            "/etc/systemd/system/walinuxagent.service.d/90-z.conf",
            "[Service]\nEnvironment=\nEnvironment=NO_PROXY=x\n",
        );
        assert_eq!(variables(&[&files[..], &[reset]].concat()), [("NO_PROXY".to_owned(), "x".to_owned())]);
        let unset =
            ("/etc/systemd/system/walinuxagent.service.d/90-z.conf", "[Service]\nUnsetEnvironment=https_proxy PATH\n");
        assert_eq!(variables(&[&files[..], &[unset]].concat()), []);
    }

    #[test]
    fn sections_comments_and_continued_lines() {
        let drop_in = "\
[Unit]
Environment=https_proxy=http://no:1
# [Service]
[Service]
; Environment=https_proxy=http://no:2
Environment=\"https_proxy=http://10.0.0.6:8080\" \\
# a comment between
   'no_proxy=localhost,10.0.0.0/8'
";
        let found = variables(&[PLAIN, ("/etc/systemd/system/walinuxagent.service.d/p.conf", drop_in)]);
        let expected = [("https_proxy", "http://10.0.0.6:8080"), ("no_proxy", "localhost,10.0.0.0/8")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn environment_files_win_and_missing_ones_are_told() {
        let unit = "[Service]\nEnvironment=https_proxy=http://unit:1\nEnvironmentFile=-/etc/default/a\n\
                    EnvironmentFile=/etc/default/b\nEnvironmentFile=-/etc/default/c\n";
        let file = "# note\nhttps_proxy=\"http://file:2\"\nPATH=/bin\nexport no_proxy=x\nNO_PROXY='a b' \n";
        let found = units(&machine(&[(UNIT, unit), ("/etc/default/a", file)]));
        let values: Vec<_> = found.variables.iter().map(|(name, value, path)| (&**name, &**value, &**path)).collect();
        assert_eq!(
            values,
            [("NO_PROXY", "a b", "/etc/default/a"), ("https_proxy", "http://file:2", "/etc/default/a")],
            "`export` is part of a name here"
        );
        let told: Vec<_> = found.sources.iter().map(|s| (s.origin.as_str(), s.problem.is_some())).collect();
        assert_eq!(told, [(UNIT, false), ("/etc/default/a", false), ("/etc/default/b", true)]);
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let drop_in =
            ("/etc/systemd/system/waagent.service.d/p.conf", "[Service]\nEnvironment=https_proxy=http://p:1\n");
        let found = units(&machine(&[PLAIN, drop_in]));
        assert_eq!(found.variables, []);
        assert!(found.sources[1].problem.as_ref().unwrap().contains("no unit waagent.service"), "{found:?}");

        let percent = (
            "/etc/systemd/system/walinuxagent.service.d/p.conf",
            "[Service]\nEnvironment=A=%h\nEnvironment=https_proxy=http://u:TOP%40SECRET@p:1\n",
        );
        let found = units(&machine(&[PLAIN, percent]));
        let problem = found.sources[1].problem.as_ref().unwrap();
        assert!(found.variables.is_empty() && problem.starts_with("line 3: ") && problem.contains("%%"), "{problem}");
        assert!(!format!("{:?}", found.sources).contains("SECRET"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "((\\[Service\\]|Environment(File)?)?=?[\"'\\\\%a-z0-9 =]{0,20}\\PC{0,8}\n?){0,5}") {
            let _ = units(&machine(&[(UNIT, &text), ("/a", &text)]));
            let _ = (words(&text), environment_file(&text));
        }

        #[test]
        fn plain_words_come_back(all in proptest::collection::vec("[a-z=:/.0-9]{1,12}", 0..5)) {
            prop_assert_eq!(words(&all.join("  ")), all.clone());
            let quoted: Vec<_> = all.iter().map(|word| format!("\"{word}\"")).collect();
            prop_assert_eq!(words(&quoted.join(" ")), all);
        }
    }
}
