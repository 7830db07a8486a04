//! What must not appear in a message: the parser of the command line, and the one of TOML, repeat what they do not
//! understand, and that may be a URL with a password or a signature in the wrong place.

use std::ffi::OsString;

use crate::model::{Redactor, Secret};

/// A redactor for everything in these arguments that may be a secret.
pub(super) fn of_arguments(arguments: &[OsString]) -> Redactor {
    let mut redactor = Redactor::new();
    for argument in arguments {
        note(&mut redactor, &argument.to_string_lossy());
    }
    redactor
}

/// A redactor for everything in this TOML text that may be a secret.
pub(super) fn of_toml(text: &str) -> Redactor {
    let mut redactor = Redactor::new();
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',')) {
        note(&mut redactor, word);
    }
    // Words miss a password with a space or a quote in it; the values of a file that parses do not.
    for value in text.parse::<toml::Table>().iter().flat_map(toml::Table::values) {
        note_values(&mut redactor, value);
    }
    redactor
}

fn note_values(redactor: &mut Redactor, value: &toml::Value) {
    match value {
        toml::Value::String(text) => note(redactor, text),
        toml::Value::Array(values) => values.iter().for_each(|value| note_values(redactor, value)),
        toml::Value::Table(table) => table.values().for_each(|value| note_values(redactor, value)),
        _ => {}
    }
}

/// Adds user information and query of what may be a URL, also behind `--flag=`.
fn note(redactor: &mut Redactor, text: &str) {
    let mut add = |secret: &str| redactor.add(&Secret::new(secret));
    let text = match text.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') => value,
        _ => text,
    };
    let after_scheme = text.split_once("://").map(|(_, rest)| rest);
    if let Some((user_info, _)) = after_scheme.unwrap_or(text).rsplit_once('@') {
        match user_info.split_once(':') {
            Some((_, password)) => {
                add(user_info);
                add(password);
            }
            // Some proxies take a token as user name alone.
            None if after_scheme.is_some() => add(user_info),
            None => {}
        }
    }
    if let Some((_, query)) = text.split_once('?') {
        add(query);
        query.split('&').filter_map(|pair| pair.split_once("sig=")).for_each(|(_, signature)| add(signature));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_signatures_are_found_wherever_they_stand() {
        let arguments = [
            "--prxy=http://svc:TOP@SECRET@proxy:1",
            "svc:TOPSECRET@proxy:1",
            "http://TOPSECRET@proxy:1",
            "https://md-1.blob.core.windows.net/c/b?sv=1&sig=TOPSECRET",
        ];
        for argument in arguments {
            let redactor = of_arguments(&[OsString::from(argument)]);
            let clean = redactor.clean(&format!("unexpected argument '{argument}' found")).unwrap();
            assert!(!clean.contains("SECRET"), "{clean}");
            assert!(clean.contains("unexpected argument"), "{clean}");
        }
        assert_eq!(of_arguments(&["user@host.txt".into()]).clean("cannot read user@host.txt"), None);
    }

    #[test]
    fn toml_with_and_without_errors() {
        for text in ["attempts = \"http://svc:TOP SECRET@p:1\"", "proxy = http://svc:TOPSECRET@p:1"] {
            let clean = of_toml(text).clean(text).unwrap();
            assert!(!clean.contains("SECRET"), "{clean}");
        }
    }
}
