//! `${NAME}` and `${NAME:-default}` in the strings of a scenario file.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use toml::de::{DeTable, DeValue};

/// Where the values of variables come from: those given by name first, then the environment of this process.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    given: BTreeMap<String, String>,
    environment: bool,
}

impl Variables {
    /// Values given by name, and for the others the environment.
    #[must_use]
    pub fn with_environment(given: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { given: given.into_iter().collect(), environment: true }
    }

    /// Values given by name alone.
    #[must_use]
    pub fn of(given: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { given: given.into_iter().collect(), environment: false }
    }

    fn value(&self, name: &str) -> Option<String> {
        let from_environment = || std::env::var(name).ok().filter(|_| self.environment);
        self.given.get(name).cloned().or_else(from_environment)
    }
}

/// Whether a name can stand in `${…}`: letters, digits and `_`, no digit first.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What was put in, to take it out of messages again: a value may be a password.
#[derive(Debug, Default)]
pub(super) struct Used(BTreeMap<String, String>);

impl Used {
    /// Replaces the values by the names of their variables.
    pub(super) fn hide(&self, message: &mut String) {
        let mut by_length: Vec<_> = self.0.iter().filter(|(_, value)| !value.is_empty()).collect();
        by_length.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (name, value) in by_length {
            *message = message.replace(value.as_str(), &format!("${{{name}}}"));
        }
    }
}

/// Puts values in place of all variables in a file's strings; keys and comments stay as they are.
///
/// # Errors
/// Where a variable stands that has no value, and what is wrong with it.
pub(super) fn expand(
    table: &mut DeTable<'_>,
    variables: &Variables,
    used: &mut Used,
) -> Result<(), (Range<usize>, String)> {
    for (_, value) in table.iter_mut() {
        let span = value.span();
        expand_value(value.get_mut(), span, variables, used)?;
    }
    Ok(())
}

fn expand_value(
    value: &mut DeValue<'_>,
    span: Range<usize>,
    variables: &Variables,
    used: &mut Used,
) -> Result<(), (Range<usize>, String)> {
    match value {
        DeValue::String(text) if text.contains("${") => {
            *text = Cow::Owned(replaced(text, variables, used).map_err(|message| (span, message))?);
            Ok(())
        }
        DeValue::Table(table) => expand(table, variables, used),
        DeValue::Array(items) => items.iter_mut().try_for_each(|item| {
            let span = item.span();
            expand_value(item.get_mut(), span, variables, used)
        }),
        _ => Ok(()),
    }
}

fn replaced(text: &str, variables: &Variables, used: &mut Used) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = inside.find('}').ok_or("`${` without `}`; a variable is written ${NAME} or ${NAME:-default}")?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        if !is_name(name) {
            return Err(format!("`{name}` is no name of a variable: letters, digits and _, no digit first"));
        }
        if let Some(value) = variables.value(name) {
            out.push_str(&value);
            used.0.insert(name.to_owned(), value);
        } else if let Some(default) = default {
            out.push_str(default);
        } else {
            return Err(format!(
                "the variable `{name}` has no value; give --var {name}=VALUE, set it in the environment, or write a \
                 default: ${{{name}:-VALUE}}"
            ));
        }
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        let pairs = [("HOST", "a.example"), ("EMPTY", ""), ("PW", "s3cret")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        replaced(text, &Variables::of(pairs), &mut Used::default())
    }

    #[test]
    fn values_defaults_and_neither() {
        assert_eq!(with("https://${HOST}:443/${EMPTY}x").unwrap(), "https://a.example:443/x");
        assert_eq!(with("${NOT_SET:-b:-c}${NONE:-}").unwrap(), "b:-c");
        assert_eq!(with("$HOST $ {HOST}").unwrap(), "$HOST $ {HOST}");
        for (bad, part) in [("${MISSING}", "--var MISSING=VALUE"), ("a ${HOST", "without `}`"), ("${1A}", "no name")] {
            let error = with(bad).unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }

    #[test]
    fn messages_show_names_and_not_values() {
        let mut used = Used::default();
        let variables = Variables::of([("PW".to_owned(), "s3cret".to_owned())]);
        replaced("http://u:${PW}@h", &variables, &mut used).unwrap();
        let mut message = "bad value `http://u:s3cret@h`".to_owned();
        used.hide(&mut message);
        assert_eq!(message, "bad value `http://u:${PW}@h`");
    }
}
