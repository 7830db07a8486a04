//! The configuration file: the first one found, never merged with another.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{exit::Stop, options::Options, secrets};

/// Where a configuration is looked for when `--config` names none.
const PLACES: [&str; 2] = ["./snapreach.toml", "/etc/snapreach.toml"];

/// A configuration file and what it says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Which file; `None` when there is none.
    pub(super) path: Option<PathBuf>,
    /// What it says.
    pub(super) options: Options,
}

/// Reads the configuration: `explicit`, or else the first usual place that exists.
///
/// # Errors
/// When the file cannot be read or understood; the message names file, line, column and what is allowed.
pub(super) fn load(explicit: Option<&Path>) -> Result<File, Stop> {
    if let Some(path) = explicit {
        let text = fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
        return parse(path, &text);
    }
    for path in PLACES.map(Path::new) {
        match fs::read_to_string(path) {
            Ok(text) => return parse(path, &text),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(unreadable(path, &e)),
        }
    }
    Ok(File::default())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Stop {
    Stop::usage(format!("cannot read the configuration {}: {error}", path.display()))
}

fn parse(path: &Path, text: &str) -> Result<File, Stop> {
    match toml::from_str(text) {
        Ok(options) => Ok(File { path: Some(path.to_owned()), options }),
        Err(e) => Err(wrong(path, text, e.span().map_or(0, |span| span.start), e.message())),
    }
}

/// What is wrong at a byte of a TOML file, without what may be a secret in it.
pub(super) fn wrong(path: &Path, text: &str, at: usize, message: &str) -> Stop {
    let (line, column) = position(text, at);
    let mut message = message.to_owned();
    secrets::of_toml(text).scrub(&mut message);
    Stop::usage(format!("{}:{line}:{column}: {message}", path.display()))
}

/// Line and column, both from 1, of a byte offset; columns count characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

/// The effective configuration as TOML, without passwords and signatures.
///
/// # Errors
/// When a value has no form in TOML, which no parsed value has.
pub(super) fn render(file: &File, effective: &Options) -> Result<String, Stop> {
    let origin = match &file.path {
        Some(path) => format!("# From {} and the command line.", path.display()),
        None => format!("# From the command line; there is no configuration file ({}).", PLACES.join(", ")),
    };
    let body = toml::to_string_pretty(effective)
        .map_err(|e| Stop::CannotMeasure(format!("cannot print the configuration: {e}")))?;
    Ok(format!("{origin}\n{body}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(Path::new("snapreach.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        for (text, place, part) in [
            ("attempts = 3\nprots = [443]\n", "snapreach.toml:2:1: ", "`ports`"),
            ("timeout = \"10\"", "snapreach.toml:1:11: ", "250ms, 10s or 2m"),
            ("attempts = 0", "snapreach.toml:1:12: ", "1 to 100"),
            ("concurrency = 1000001", "snapreach.toml:1:15: ", "1 to 1000000"),
            ("ports = [80, 0]", "snapreach.toml:1:9: entry 2: ", "1 to 65535"),
            ("cloud = \"moon\"", "snapreach.toml:1:9: ", "`usgov`"),
            ("format = \"pdf\"", "snapreach.toml:1:10: ", "markdown"),
            ("account = [\"abc\", \"A\"]", "snapreach.toml:1:11: entry 2: ", "lower-case letters, digits"),
            (
                "target = [\n  \"https://h\",\n  \"ftp://h\",\n]",
                "snapreach.toml:1:10: entry 2: ",
                "https, http, tls or tcp",
            ),
            ("proxy = \"http://proxy\"", "snapreach.toml:1:9: ", "needs a port"),
            ("disk = [\"http://h/c/b\"]", "snapreach.toml:1:8: entry 1: ", "https://"),
            ("route = ", "snapreach.toml:1:9: ", ""),
            ("strict = \"yes\"", "snapreach.toml:1:10: ", "boolean"),
        ] {
            let message = error(text);
            assert!(message.starts_with(place) && message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn errors_hide_passwords_and_signatures() {
        for text in [
            "proxy = \"http://svc:TOPSECRET@proxy\"",
            "proxy = [\"http://svc:TOPSECRET@proxy:1\"]",
            "attempts = \"http://svc:TOP SECRET@proxy:1\"",
            "region = { a = \"https://h/?sig=TOPSECRET\" }",
            "disk = \"https://h/c/b?sig=TOPSECRET\"",
            "target = [\"ftp://h/?sig=TOPSECRET\"]",
            "proxy = http://svc:TOPSECRET@proxy:1",
            "\"http://svc:TOPSECRET@proxy:1\" = 1",
        ] {
            let message = error(text);
            assert!(!message.contains("SECRET"), "{text}: {message}");
        }
    }

    #[test]
    fn the_effective_configuration_reads_back_and_hides_secrets() {
        let options: Options = toml::from_str(
            "target = [\"https://h/c/b?sv=1&sig=TOPSECRET\"]\nproxy = \"http://svc:TOPSECRET@proxy:1\"\nports = [443]\n\
             connect_to = [\"::10.0.0.1:443\"]\nbind = \"::1\"\nmethod = \"onlyGuest\"",
        )
        .unwrap();
        let effective = options.clone().with_defaults();
        let shown = render(&File::default(), &effective).unwrap();
        assert!(!shown.contains("TOPSECRET") && shown.contains("svc:[redacted]@proxy:1"), "{shown}");
        for line in ["attempts = 3", "connect_timeout = \"10s\"", "deadline = \"1m\"", "cloud = \"public\""] {
            assert!(shown.contains(line), "{shown}");
        }
        let mut again: Options = toml::from_str(&shown).unwrap();
        again.target.clone_from(&effective.target);
        again.proxy.clone_from(&effective.proxy);
        assert_eq!(again, effective);
    }

    #[test]
    fn a_file_that_is_named_must_exist() {
        let message = load(Some(Path::new("/nonexistent/s.toml"))).unwrap_err().to_string();
        assert!(message.contains("/nonexistent/s.toml: "), "{message}");
    }
}
