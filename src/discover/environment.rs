//! Proxy variables: of this process, and of login sessions (`/etc/environment`).

use super::Found;
use crate::plan::Proxy;

/// The file from which `pam_env` gives login sessions their variables.
pub const ENVIRONMENT_FILE: &str = "/etc/environment";

/// The variables that name a proxy, in order of precedence. The upper-case form of `http_proxy` is left out, as by
/// curl: a CGI server sets it from a request header.
const VARIABLES: [&str; 3] = ["https_proxy", "HTTPS_PROXY", "http_proxy"];

/// The proxies that the variables of a process name. An empty variable names none.
#[must_use]
pub fn environment(variables: &[(String, String)]) -> Vec<Found> {
    VARIABLES
        .iter()
        .filter_map(|&name| {
            let value = variables.iter().find(|(key, _)| key == name)?.1.trim();
            (!value.is_empty()).then(|| source(name.to_owned(), value, None))
        })
        .collect()
}

/// The exceptions (`no_proxy`, else `NO_PROXY`) that the variables of a process ask for.
#[must_use]
pub fn no_proxy(variables: &[(String, String)]) -> Option<String> {
    ["no_proxy", "NO_PROXY"].iter().find_map(|name| {
        let value = variables.iter().find(|(key, _)| key == name)?.1.trim();
        (!value.is_empty()).then(|| value.to_owned())
    })
}

/// The proxies that `/etc/environment` names: lines `KEY=value`, where quotes around the value, a leading `export ` and
/// comments are tolerated (`pam_env(8)`). It is not a shell script: nothing is expanded. The last line for a variable
/// wins.
#[must_use]
pub fn environment_file(origin: &str, text: &str) -> Vec<Found> {
    let assignments: Vec<_> =
        text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, assignment(line)?))).collect();
    VARIABLES
        .iter()
        .filter_map(|&name| {
            let &(line, (_, value)) = assignments.iter().rev().find(|(_, (key, _))| *key == name)?;
            (!value.is_empty()).then(|| source(format!("{origin} ({name})"), value, Some(line)))
        })
        .collect()
}

/// The key and value of a line, if it is an assignment.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            // What follows the closing quote is a comment or a mistake; a missing one ends with the line.
            return Some((key.trim(), rest.split(quote).next().unwrap_or_default().trim()));
        }
    }
    // A number sign inside a word belongs to the value.
    let end = value
        .char_indices()
        .find(|&(at, c)| c == '#' && value[..at].chars().next_back().is_none_or(char::is_whitespace))
        .map_or(value.len(), |(at, _)| at);
    Some((key.trim(), value[..end].trim()))
}

fn source(origin: String, value: &str, line: Option<usize>) -> Found {
    match value.parse::<Proxy>() {
        Ok(proxy) => Found::usable(origin, proxy),
        Err(e) => {
            // The error shows its input without credentials.
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            Found::unusable(origin, format!("{line}{e}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> Vec<(Option<String>, Option<String>)> {
        environment_file("file", text).into_iter().map(|f| (f.source.proxy, f.source.problem)).collect()
    }

    #[test]
    fn quotes_export_and_comments_are_tolerated() {
        for line in [
            "http_proxy=http://10.0.0.5:3128",
            "http_proxy=\"http://10.0.0.5:3128\"",
            "http_proxy='http://10.0.0.5:3128/' # the old one",
            "export http_proxy=http://10.0.0.5:3128 # the old one",
            "  http_proxy = http://10.0.0.5:3128\r",
            "http_proxy=http://10.0.0.4:1\nhttp_proxy=\"http://10.0.0.5:3128",
        ] {
            assert_eq!(file(line), [(Some("http://10.0.0.5:3128".into()), None)], "{line}");
        }
    }

    #[test]
    fn what_names_no_proxy_gives_none() {
        for line in ["", "# http_proxy=http://a:1", "PATH=/usr/bin", "http_proxy=", "http_proxy=\"\"", "http_proxy"] {
            assert_eq!(file(line), [], "{line}");
        }
    }

    #[test]
    fn problems_name_the_line_and_hide_the_password() {
        let found = file("PATH=/bin\nhttps_proxy=http://svc:TOPSECRET@proxy");
        let (None, Some(problem)) = &found[0] else { panic!("{found:?}") };
        assert!(problem.starts_with("line 2: ") && problem.contains("needs a port"), "{problem}");
        assert!(!problem.contains("TOPSECRET"), "{problem}");
    }

    #[test]
    fn lower_case_comes_first_and_every_variable_is_kept() {
        let variables: Vec<_> = [
            ("http_proxy", "http://c:3"),
            ("HTTPS_PROXY", "http://b:2"),
            ("https_proxy", "http://a:1"),
            ("HTTP_PROXY", "http://d:4"),
            ("NO_PROXY", "upper"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let origins: Vec<_> = environment(&variables).into_iter().map(|f| f.source.origin).collect();
        assert_eq!(origins, ["https_proxy", "HTTPS_PROXY", "http_proxy"]);
        assert_eq!(no_proxy(&variables).as_deref(), Some("upper"));
        assert_eq!(environment(&[("https_proxy".into(), " ".into())]), []);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "((export )?https?_proxy ?= ?[\"'#]?\\PC{0,20}\n?){0,4}") {
            let _ = environment_file("file", &text);
        }

        #[test]
        fn no_password_survives(password in "[A-Z]{8,20}", tail in "[ /:@a-z0-9]{0,12}") {
            let shown = format!("{:?}", file(&format!("http_proxy=http://svc:{password}@{tail}")));
            prop_assert!(!shown.contains(&password), "{}", shown);
        }
    }
}
