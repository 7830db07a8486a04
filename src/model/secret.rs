//! Secrets, and how they are kept out of everything that leaves the process.

use std::fmt;

use base64::Engine as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, Serializer};

use super::Excerpt;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// A value that must never be printed, logged or serialised: `Debug`, `Display` and `Serialize` show a placeholder.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in. From here on only [`Secret::expose`] gives it back.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that puts it on the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// Removes known secrets, and what looks like one, from text that a peer sent.
///
/// A proxy's error page may echo the request with its credentials, or a URL with its signature. Every text that is
/// kept as evidence passes through here before it becomes part of an observation.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another disappears whole.
    needles: Vec<Secret>,
}

/// Below this length a secret is only removed where it stands alone as a word: removing every `a` would destroy the
/// evidence without hiding anything.
const MIN_SUBSTRING: usize = 4;

/// What most programs escape: all but the unreserved characters of RFC 3986.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Query parameters, without their `=`, whose value grants access wherever it appears (SAS: Azure Storage, "Create a
/// service SAS"; `code`: Azure Functions keys as portals echo them).
const SECRET_PARAMETERS: [&str; 3] = ["sig", "access_token", "password"];

impl Redactor {
    /// A redactor that knows no secret: it still removes signatures in URLs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret together with the forms in which peers echo it: percent-encoded, percent-decoded, HTML-escaped
    /// and base64.
    pub fn add(&mut self, secret: &Secret) {
        let plain = secret.expose();
        if plain.is_empty() {
            return;
        }
        let decoded = percent_decode_str(plain).decode_utf8_lossy().into_owned();
        for form in [plain, decoded.as_str()] {
            let html = form.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            for percent in [NON_ALPHANUMERIC, COMPONENT] {
                let encoded = utf8_percent_encode(form, percent).to_string();
                self.push(lower_case_escapes(&encoded));
                self.push(encoded.replace("%20", "+"));
                self.push(encoded);
            }
            self.push(form.to_owned());
            self.push(html.replace('"', "&quot;"));
            self.push(html.replace('"', "&quot;").replace('\'', "&#39;"));
            self.push(html.replace('"', "&#34;").replace('\'', "&#39;"));
            self.push(base64::engine::general_purpose::STANDARD.encode(form));
            self.push(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(form));
        }
        self.needles.sort_by_key(|needle| std::cmp::Reverse(needle.expose().len()));
    }

    /// Adds a user name and password as they travel in a Basic `Proxy-Authorization` header (RFC 7617).
    pub fn add_basic(&mut self, user: &str, password: &Secret) {
        self.add(password);
        self.add(&Secret::new(format!("{user}:{}", password.expose())));
    }

    /// Adds a form as it stands, and as an [`Excerpt`] shows it: what peers send is escaped before it is cleaned.
    fn push(&mut self, form: String) {
        let escaped = Excerpt::whole(form.as_bytes()).text;
        for form in [form, escaped] {
            if !self.needles.iter().any(|known| known.expose() == form) {
                self.needles.push(Secret::new(form));
            }
        }
    }

    /// The text without secrets; `None` when nothing had to be removed.
    #[must_use]
    pub fn clean(&self, text: &str) -> Option<String> {
        let mut out: Option<String> = None;
        for needle in &self.needles {
            let needle = needle.expose();
            let current = out.as_deref().unwrap_or(text);
            if let Some(cleaned) = remove(current, needle, needle.len() < MIN_SUBSTRING) {
                out = Some(cleaned);
            }
        }
        for name in SECRET_PARAMETERS {
            let current = out.as_deref().unwrap_or(text);
            if let Some(cleaned) = remove_parameter(current, name) {
                out = Some(cleaned);
            }
        }
        let current = out.as_deref().unwrap_or(text);
        if let Some(kept) = self.needles.iter().filter_map(|needle| without_cut_end(current, needle.expose())).min() {
            out = Some(format!("{}{REDACTED}", &current[..kept]));
        }
        out
    }

    /// Cleans a string in place.
    pub fn scrub(&self, text: &mut String) {
        if let Some(clean) = self.clean(text) {
            *text = clean;
        }
    }
}

/// Where the beginning of `needle` starts, when the text breaks off inside it, as an excerpt does at its limit.
fn without_cut_end(text: &str, needle: &str) -> Option<usize> {
    (MIN_SUBSTRING..needle.len())
        .rev()
        .filter_map(|length| needle.get(..length))
        .find(|prefix| text.ends_with(prefix))
        .map(|prefix| text.len() - prefix.len())
}

/// `%2F` as `%2f`: both are written.
fn lower_case_escapes(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        out.push('%');
        out.push_str(&digits.to_ascii_lowercase());
        out.push_str(rest);
    }
    out
}

/// Replaces `needle` wherever it stands exactly so; `whole_word` restricts the match to places where no letter or digit
/// touches it.
fn remove(text: &str, needle: &str, whole_word: bool) -> Option<String> {
    let mut out = String::new();
    let mut rest = 0;
    let mut from = 0;
    while let Some(found) = text[from..].find(needle) {
        let start = from + found;
        let end = start + needle.len();
        let touches = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        if whole_word && (touches(text[..start].chars().next_back()) || touches(text[end..].chars().next())) {
            from = start + text[start..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        out.push_str(&text[rest..start]);
        out.push_str(REDACTED);
        rest = end;
        from = end;
    }
    if rest == 0 {
        return None;
    }
    out.push_str(&text[rest..]);
    Some(out)
}

/// Replaces the value of `name=` wherever it stands as a parameter, whoever wrote it. The `=` may be percent-encoded
/// and the separators may be HTML entities.
fn remove_parameter(text: &str, name: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut out = String::new();
    let mut rest = 0;
    let mut from = 0;
    while let Some(found) = lower[from..].find(name) {
        let start = from + found;
        let mut value = start + name.len();
        from = value;
        let boundary = lower[..start].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
            // `%26sig%3D`: the character before the name is the last digit of an escaped separator.
            || lower[..start].ends_with("%26")
            || lower[..start].ends_with("\\u0026")
            || lower[..start].ends_with("%3f");
        if !boundary {
            continue;
        }
        if lower[value..].starts_with('=') {
            value += 1;
        } else if lower[value..].starts_with("%3d") {
            value += 3;
        } else {
            continue;
        }
        let end = value
            + lower[value..]
                .find(|c: char| !(c.is_ascii_alphanumeric() || "%+/=-_.~".contains(c)))
                .unwrap_or(lower.len() - value);
        // An escaped ampersand ends the value inside an escaped URL.
        let end = lower[value..end].find("%26").map_or(end, |n| value + n);
        if end == value || text[value..].starts_with(REDACTED) {
            continue;
        }
        out.push_str(&text[rest..value]);
        out.push_str(REDACTED);
        rest = end;
        from = end;
    }
    if rest == 0 {
        return None;
    }
    out.push_str(&text[rest..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new("hunter22");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
    }

    #[test]
    fn credentials_disappear_in_every_form_in_which_a_page_echoes_them() {
        let mut redactor = Redactor::new();
        redactor.add_basic("svc", &Secret::new("p&ss w0rd<"));
        for text in [
            "Proxy-Authorization: Basic c3ZjOnAmc3MgdzByZDw=",
            "you said p&ss w0rd< to us",
            "you said p&amp;ss w0rd&lt; to us",
            "http://svc:p%26ss%20w0rd%3C@proxy/",
        ] {
            let clean = redactor.clean(text).unwrap_or_else(|| panic!("{text} was left alone"));
            assert!(clean.contains(REDACTED) && !clean.contains("w0rd"), "{clean}");
            assert!(!clean.contains("c3Zj"), "{clean}");
        }
    }

    #[test]
    fn what_an_excerpt_escapes_or_cuts_off_is_found_all_the_same() {
        let secret = "p\u{e4}ss\\w0rd-'9 z";
        let mut redactor = Redactor::new();
        redactor.add(&Secret::new(secret));
        for echo in [secret, "p%c3%a4ss%5cw0rd-%279%20z", "p%C3%A4ss%5Cw0rd-%279+z", "p\u{e4}ss\\w0rd-&#39;9 z"] {
            let page = format!("you are {echo}");
            for kept in [page.len(), page.len() - 3] {
                let mut excerpt = Excerpt::new(page.as_bytes(), kept, page.len() as u64);
                excerpt.scrub(&redactor);
                assert_eq!(excerpt.text, format!("you are {REDACTED}"), "{echo}");
            }
        }
        assert_eq!(redactor.clean("nothing here"), None);
    }

    #[test]
    fn signatures_disappear_though_nobody_announced_them() {
        let redactor = Redactor::new();
        for (text, clean) in [
            ("?sv=1&sig=aB%2Bc%3D&se=2", "?sv=1&sig=[redacted]&se=2"),
            ("?SIG=abc", "?SIG=[redacted]"),
            ("&amp;sig=abc&amp;se=1", "&amp;sig=[redacted]&amp;se=1"),
            (r"sv=1\u0026sig=abc\u0026se=2", r"sv=1\u0026sig=[redacted]\u0026se=2"),
            ("u%3Fsv%3D1%26sig%3Dabc%26se%3D2", "u%3Fsv%3D1%26sig%3D[redacted]%26se%3D2"),
        ] {
            assert_eq!(redactor.clean(text).as_deref(), Some(clean));
        }
        assert_eq!(redactor.clean("design=abc assigned=1"), None);
    }

    proptest! {
        #[test]
        fn no_secret_survives_wherever_it_stands(secret in "[a-zA-Z0-9+/=&<> ]{4,20}", before in "\\PC{0,20}", after in "\\PC{0,20}") {
            let mut redactor = Redactor::new();
            redactor.add(&Secret::new(secret.clone()));
            let clean = redactor.clean(&format!("{before}{secret}{after}"));
            prop_assert!(clean.is_some_and(|clean| !clean.contains(&secret)));
        }

        #[test]
        fn cleaning_never_panics(text in "\\PC*", secret in "\\PC{0,10}") {
            let mut redactor = Redactor::new();
            redactor.add(&Secret::new(secret));
            let _ = redactor.clean(&text);
        }
    }

    #[test]
    fn a_very_short_password_is_removed_as_a_word_only() {
        let mut redactor = Redactor::new();
        redactor.add(&Secret::new("ab"));
        assert_eq!(redactor.clean("ab cab ab.").as_deref(), Some("[redacted] cab [redacted]."));
    }
}
