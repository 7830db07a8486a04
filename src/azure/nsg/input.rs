//! Files as text and as JSON, with the place of everything in them.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use serde_json::{Map, Value};

/// Bytes of one file that are read; the published service tags have about five million.
pub const MAX_BYTES: usize = 64 << 20;

/// Bytes of one file of rules or routes; a group has at most a few thousand rules.
const MAX_POLICY_BYTES: usize = 32 << 20;

/// What is wrong with a file, where, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{place}: {reason}")]
pub struct NsgError {
    file: String,
    place: Place,
    reason: String,
}

impl NsgError {
    pub(super) fn new(file: &str, place: Place, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place, reason: reason.into() }
    }

    /// An error of the JSON parser, whose message ends with the place.
    pub(super) fn json(file: &str, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        Self::new(file, Place::Line(line, column), reason)
    }
}

/// Where in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Whole,
    /// Line and column, from 1.
    Line(usize, usize),
    /// The way through a JSON document: `securityRules[2].priority`.
    Path(String),
}

impl Place {
    /// What follows these bytes of a file.
    pub(super) fn after(before: &[u8]) -> Self {
        let line = before.split(|&b| b == b'\n').count();
        let column = before.rsplit(|&b| b == b'\n').next().map_or(0, <[u8]>::len) + 1;
        Self::Line(line, column)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Line(line, column) => write!(f, ":{line}:{column}"),
            Self::Path(path) => write!(f, ": {path}"),
        }
    }
}

/// The text of a file: UTF-8 or, as a redirection in PowerShell writes it, UTF-16; with or without a byte order mark.
///
/// # Errors
/// When the file is too large, or no text.
pub(super) fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<Cow<'a, str>, NsgError> {
    if bytes.len() > MAX_BYTES {
        let reason = format!("the file has {} bytes, and at most {MAX_BYTES} are read", bytes.len());
        return Err(NsgError::new(file, Place::Whole, reason));
    }
    let (units, is_little) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, true),
        [0xfe, 0xff, rest @ ..] => (rest, false),
        _ => {
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            return std::str::from_utf8(text).map(Cow::Borrowed).map_err(|e| {
                NsgError::new(file, Place::after(&text[..e.valid_up_to()]), "this is no text: write UTF-8 or UTF-16")
            });
        }
    };
    let unit = |&pair: &[u8; 2]| if is_little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
    let units = units.as_chunks::<2>().0.iter().map(unit);
    char::decode_utf16(units)
        .collect::<Result<String, _>>()
        .map(Cow::Owned)
        .map_err(|_| NsgError::new(file, Place::Whole, "this is no text: a half of a UTF-16 pair stands alone"))
}

/// Reads a document of rules or routes.
///
/// # Errors
/// When it is too large or no JSON.
pub(super) fn json(file: &str, text: &str) -> Result<Value, NsgError> {
    if text.len() > MAX_POLICY_BYTES {
        let reason =
            format!("rules and routes of {} bytes are too many, at most {MAX_POLICY_BYTES} are read", text.len());
        return Err(NsgError::new(file, Place::Whole, reason));
    }
    serde_json::from_str(text).map_err(|e| NsgError::json(file, &e))
}

/// A value in a document, which knows the way to itself.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    file: &'a str,
    value: &'a Value,
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Top,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) fn top(file: &'a str, value: &'a Value) -> Self {
        Self { file, value, parent: None, step: Step::Top }
    }

    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn object(&self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// The member of this name, whatever its case; `null` counts as absent.
    pub(super) fn get(&'a self, key: &str) -> Option<At<'a>> {
        let object = self.object()?;
        let (name, value) =
            object.get_key_value(key).or_else(|| object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)))?;
        (!value.is_null()).then_some(At { file: self.file, value, parent: Some(self), step: Step::Key(name) })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.object().is_some_and(|o| o.iter().any(|(name, v)| name.eq_ignore_ascii_case(key) && !v.is_null()))
    }

    /// The elements of an array, or the values of an object; nothing for other values.
    pub(super) fn elements(&'a self) -> Box<dyn Iterator<Item = At<'a>> + 'a> {
        let child = |step, value| At { file: self.file, value, parent: Some(self), step };
        match self.value {
            Value::Array(items) => Box::new(items.iter().enumerate().map(move |(i, v)| child(Step::Index(i), v))),
            Value::Object(map) => Box::new(map.iter().map(move |(k, v)| child(Step::Key(k), v))),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// A string that is not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> NsgError {
        let path = self.path();
        let place = if path.is_empty() { Place::Whole } else { Place::Path(path) };
        NsgError::new(self.file, place, reason)
    }

    fn path(&self) -> String {
        let mut path = self.parent.map_or_else(String::new, At::path);
        match self.step {
            Step::Top => {}
            Step::Index(index) => {
                // Writing to a String cannot fail.
                let _ = write!(path, "[{index}]");
            }
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
        }
        path
    }
}

/// A part of a resource's identifier: the name after `…/networkSecurityGroups/`.
pub(super) fn part_of_id<'a>(id: &'a str, kind: &str) -> Option<&'a str> {
    let mut parts = id.split('/');
    parts.find(|part| part.eq_ignore_ascii_case(kind))?;
    parts.next().filter(|name| !name.is_empty())
}

/// A value as a message repeats it: cut where nobody would read on.
pub(super) fn shown(value: &Value) -> String {
    const MAX: usize = 60;
    let text = match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() > MAX { text.chars().take(MAX).chain(['…']).collect() } else { text }
}
