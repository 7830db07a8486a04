//! What is kept of a line: short, and without anything secret.

use crate::model::Redactor;

/// Characters of a piece of text that are kept.
const MAX_TEXT: usize = 400;

/// Bytes of a line that are looked at when a piece of it is kept: more than [`MAX_TEXT`], because queries vanish.
const MAX_LOOKED_AT: usize = 8 * 1024;

/// Headers whose value is a secret.
const SECRET_HEADERS: [&str; 4] =
    ["proxy-authorization", "authorization", "x-ms-copy-source-authorization", "set-cookie"];

/// The text without queries of URLs, user information, signatures and credentials, and not longer than anybody reads.
pub(super) fn kept(text: &str) -> String {
    let mut clean = without_queries(beginning(text, MAX_LOOKED_AT));
    Redactor::new().scrub(&mut clean);
    for header in SECRET_HEADERS {
        without_header(&mut clean, header);
    }
    let clean = clean.trim();
    match clean.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean.to_owned(),
    }
}

/// At most so many bytes of the text.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or_default()]
}

/// Host, lower case and without port, and path of a URL.
pub(super) fn host_and_path(url: &str) -> Option<(String, String)> {
    let (_, rest) = url.split_once("://")?;
    let rest = rest.split(['?', '#', ' ', '"', '\'']).next()?;
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit('@').next()?;
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    (!host.is_empty()).then(|| (kept(&host.to_ascii_lowercase()), kept(path)))
}

/// Drops what follows `?` in each URL, and what stands before `@`. A path can be a URL too: the extension logs both.
fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ',' | ')' | ']' | '}' | '`');
    let mut rest = text;
    while let Some(at) = rest.find(['?', '@']) {
        let (before, after) = rest.split_at(at);
        let word = before.rfind(ends).map_or(0, |end| end + before[end..].chars().next().map_or(1, char::len_utf8));
        let authority = before[word..].find("://").map(|scheme| word + scheme + 3);
        let end = after.find(ends).unwrap_or(after.len());
        match (authority, after[..end].rfind('@')) {
            // User information, in which a question mark may stand; a slash before one ends the authority.
            (Some(authority), Some(user)) if after.starts_with('@') || !before[authority..].contains('/') => {
                out.push_str(&before[..authority]);
                rest = &after[user + 1..];
            }
            _ if after.starts_with('@') => {
                out.push_str(before);
                out.push('@');
                rest = &after[1..];
            }
            _ => {
                out.push_str(before);
                // A question mark that ends a sentence is no query.
                if end == 1 {
                    out.push('?');
                }
                rest = &after[end..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Removes the value of a header, as Python prints it (`('Name', 'value')`, `'Name': 'value'`) or as HTTP has it.
fn without_header(text: &mut String, name: &str) {
    let lower = text.to_ascii_lowercase();
    let ends = |at: &usize| lower[at + name.len()..].starts_with([':', '\'', '"']);
    let Some(at) = lower.match_indices(name).map(|(at, _)| at).find(ends) else { return };
    // Whatever follows on the line may belong to it: a credential has spaces in it.
    text.truncate(at + name.len());
    text.push_str(": ");
    text.push_str(crate::model::REDACTED);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_lose_query_and_user() {
        for (text, clean) in [
            ("GET https://a.blob.x/c/d?sv=1&sig=abc -- failed", "GET https://a.blob.x/c/d -- failed"),
            ("http://svc:pw@10.0.0.5:3128/ refused", "http://10.0.0.5:3128/ refused"),
            ("url: /c/d?sig=TOP%2f, x", "url: /c/d, x"),
            (r"https://a.x/c?sv=1\u0026sig=abc next", "https://a.x/c next"),
            (r"sv=1\u0026sig=abc", r"sv=1\u0026sig=[redacted]"),
            ("http://svc:p?w@10.0.0.5:3128/ refused", "http://10.0.0.5:3128/ refused"),
            ("http://svc:p@w@10.0.0.5:3128/ refused", "http://10.0.0.5:3128/ refused"),
            ("https://a.x/c?mail=a@b x", "https://a.x/c x"),
            ("('Proxy-Authorization', 'Basic c3Zj'), ('a', 'b')", "('Proxy-Authorization: [redacted]"),
            ("<Code>AuthorizationFailure</Code>", "<Code>AuthorizationFailure</Code>"),
            ("why? because", "why? because"),
            ("mail ops@example.org", "mail ops@example.org"),
        ] {
            assert_eq!(kept(text), clean);
        }
        assert_eq!(kept(&"x".repeat(5000)).chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn urls_are_taken_apart() {
        let parts = host_and_path("https://MD-1.z2.blob.storage.azure.net:8443/a/abcd?sv=1&sig=x").unwrap();
        assert_eq!(parts, ("md-1.z2.blob.storage.azure.net".into(), "/a/abcd".into()));
        assert_eq!(host_and_path("None"), None);
        assert_eq!(host_and_path("https:///x"), None);
    }

    proptest! {
        #[test]
        fn no_signature_survives(before in "\\PC{0,40}", query in "[a-z0-9=&%]{0,20}", after in "\\PC{0,40}") {
            let clean = kept(&format!("{before}https://h/p?{query}&sig=TOPSECRET%3D{after}"));
            prop_assert!(!clean.contains("TOPSECRET"), "{clean}");
            prop_assert!(!clean.contains("sig=T"), "{clean}");
        }

        #[test]
        fn any_text_is_kept_short(text in any::<String>()) {
            prop_assert!(kept(&text).chars().count() <= MAX_TEXT + 1);
        }
    }
}
