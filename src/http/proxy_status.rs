//! `Proxy-Status` (RFC 9209): the one header in which a proxy says by itself what went wrong.

use sfv::{BareItem, List, ListEntry, Parser};

/// One member of the list: what one proxy on the way says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyStatus {
    /// Which proxy speaks.
    pub proxy: String,
    /// The error type (RFC 9209 section 2.3), verbatim; unknown tokens survive.
    pub error: Option<String>,
    /// `details`, for people.
    pub details: Option<String>,
    /// `next-hop`: whom the proxy tried to reach.
    pub next_hop: Option<String>,
    /// `rcode` of a DNS error.
    pub rcode: Option<String>,
    /// `info-code` of a DNS error (RFC 8914).
    pub info_code: Option<i64>,
    /// `alert-id` of a TLS alert.
    pub alert_id: Option<i64>,
    /// `alert-message` of a TLS alert.
    pub alert_message: Option<String>,
    /// `received-status`: what the next hop answered.
    pub received_status: Option<i64>,
}

/// Parses all `Proxy-Status` header lines of one answer, the proxy closest to the origin first. What does not parse
/// as a structured field is ignored, as RFC 9651 demands.
pub fn parse_proxy_status<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<ProxyStatus> {
    let joined = values.into_iter().collect::<Vec<_>>().join(", ");
    let Ok(list) = Parser::new(&joined).parse::<List>() else {
        return Vec::new();
    };
    list.iter()
        .filter_map(|entry| {
            let ListEntry::Item(item) = entry else { return None };
            let text = |name: &str| item.params.get(name).map(text_of);
            let number = |name: &str| match item.params.get(name) {
                Some(BareItem::Integer(n)) => Some(i64::from(*n)),
                _ => None,
            };
            Some(ProxyStatus {
                proxy: text_of(&item.bare_item),
                error: text("error"),
                details: text("details"),
                next_hop: text("next-hop"),
                rcode: text("rcode"),
                info_code: number("info-code"),
                alert_id: number("alert-id"),
                alert_message: text("alert-message"),
                received_status: number("received-status"),
            })
        })
        .collect()
}

fn text_of(item: &BareItem) -> String {
    match item {
        BareItem::String(text) => text.as_str().to_owned(),
        BareItem::Token(text) => text.as_str().to_owned(),
        BareItem::Integer(n) => n.to_string(),
        BareItem::Boolean(b) => b.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_and_their_details_are_read() {
        let list = parse_proxy_status([
            r#"r34.example.net; error=dns_error; rcode="NXDOMAIN"; info-code=15; details="no such name""#,
            r#"ExampleCDN; error=tls_alert_received; alert-id=40; alert-message="handshake_failure""#,
        ]);
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].proxy, "r34.example.net");
        assert_eq!(list[0].error.as_deref(), Some("dns_error"));
        assert_eq!((list[0].rcode.as_deref(), list[0].info_code), (Some("NXDOMAIN"), Some(15)));
        assert_eq!(list[1].alert_id, Some(40));
    }

    #[test]
    fn unknown_tokens_survive_and_rubbish_is_ignored() {
        assert_eq!(parse_proxy_status(["p; error=quite_new"])[0].error.as_deref(), Some("quite_new"));
        assert_eq!(parse_proxy_status(["p; error=\"unclosed"]), []);
        assert_eq!(parse_proxy_status([]), []);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[ -~]{0,200}") {
            let _ = parse_proxy_status([text.as_str()]);
        }
    }
}
