//! The error types of `Proxy-Status` (RFC 9209 section 2.3) and the finding that each becomes.

use crate::{
    classify::codes::{self as c},
    http::ProxyStatus,
    model::{Code, Hop},
};

/// One error type: its token, the finding, and between whom it happened.
pub(super) struct ErrorType {
    token: &'static str,
    code: Code,
    hop: Hop,
}

const fn row(token: &'static str, code: Code, hop: Hop) -> ErrorType {
    ErrorType { token, code, hop }
}

/// All 32 error types of the RFC, in its order.
pub(super) const ERROR_TYPES: [ErrorType; 32] = {
    use Hop::{Proxy, ProxyToOrigin as Beyond};
    [
        row("dns_timeout", c::DNS_TIMEOUT, Beyond),
        row("dns_error", c::DNS_RCODE, Beyond),
        row("destination_not_found", c::TCP_UNREACHABLE, Beyond),
        row("destination_unavailable", c::TCP_UNREACHABLE, Beyond),
        row("destination_ip_prohibited", c::PROXY_HOST_DENIED, Proxy),
        row("destination_ip_unroutable", c::TCP_UNREACHABLE, Beyond),
        row("connection_refused", c::TCP_REFUSED, Beyond),
        row("connection_terminated", c::TCP_RESET, Beyond),
        row("connection_timeout", c::TCP_CONNECT_TIMEOUT, Beyond),
        row("connection_read_timeout", c::PROXY_GATEWAY_ERROR, Beyond),
        row("connection_write_timeout", c::PROXY_GATEWAY_ERROR, Beyond),
        row("connection_limit_reached", c::PROXY_OVERLOADED, Beyond),
        row("tls_protocol_error", c::TLS_HANDSHAKE_FAILURE, Beyond),
        row("tls_certificate_error", c::TLS_BAD_CERTIFICATE, Beyond),
        row("tls_alert_received", c::TLS_ALERT, Beyond),
        row("http_request_error", c::PROXY_GATEWAY_ERROR, Proxy),
        row("http_request_denied", c::PROXY_REQUEST_DENIED, Proxy),
        row("http_response_incomplete", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_header_section_size", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_header_size", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_body_size", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_trailer_section_size", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_trailer_size", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_transfer_coding", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_content_coding", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_response_timeout", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_upgrade_failed", c::PROXY_GATEWAY_ERROR, Beyond),
        row("http_protocol_error", c::PROXY_GATEWAY_ERROR, Beyond),
        row("proxy_internal_response", c::PROXY_INTERNAL_ERROR, Proxy),
        row("proxy_internal_error", c::PROXY_INTERNAL_ERROR, Proxy),
        row("proxy_configuration_error", c::PROXY_INTERNAL_ERROR, Proxy),
        row("proxy_loop_detected", c::PROXY_LOOP, Proxy),
    ]
};

/// What the error of one member means; its parameters sharpen the two error types that have several causes. Tokens
/// outside the RFC are a gateway error that keeps the token as evidence.
pub(super) fn finding(member: &ProxyStatus) -> Option<(Code, Hop)> {
    let token = member.error.as_deref()?;
    let token = token.to_ascii_lowercase();
    let code = match token.as_str() {
        "dns_error" => member.rcode.as_deref().and_then(code_of_rcode),
        "tls_alert_received" => match member.alert_id {
            Some(40) => Some(c::TLS_HANDSHAKE_FAILURE),
            Some(70) => Some(c::TLS_PROTOCOL_VERSION),
            Some(116) => Some(c::TLS_CLIENT_CERT_REQUIRED),
            _ => None,
        },
        _ => None,
    };
    if let Some(code) = code {
        return Some((code, Hop::ProxyToOrigin));
    }
    let known = ERROR_TYPES.iter().find(|known| known.token == token);
    Some(known.map_or((c::PROXY_GATEWAY_ERROR, Hop::ProxyToOrigin), |known| (known.code, known.hop)))
}

fn code_of_rcode(rcode: &str) -> Option<Code> {
    match rcode.to_ascii_uppercase().as_str() {
        "NXDOMAIN" | "3" => Some(c::DNS_NXDOMAIN),
        "SERVFAIL" | "2" => Some(c::DNS_SERVFAIL),
        "REFUSED" | "5" => Some(c::DNS_REFUSED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::parse_proxy_status;

    fn of(header: &str) -> (Code, Hop) {
        finding(&parse_proxy_status([header])[0]).unwrap()
    }

    #[test]
    fn every_token_is_listed_once_and_leads_to_its_finding() {
        let tokens: BTreeSet<_> = ERROR_TYPES.iter().map(|row| row.token).collect();
        assert_eq!(tokens.len(), 32);
        for row in &ERROR_TYPES {
            assert_eq!(of(&format!("p; error={}", row.token)), (row.code, row.hop), "{}", row.token);
        }
    }

    #[test]
    fn parameters_sharpen_and_unknown_tokens_stay_a_gateway_error() {
        assert_eq!(of("p; error=dns_error; rcode=\"NXDOMAIN\"").0, c::DNS_NXDOMAIN);
        assert_eq!(of("p; error=dns_error; rcode=\"SERVFAIL\"").0, c::DNS_SERVFAIL);
        assert_eq!(of("p; error=dns_error; rcode=\"REFUSED\"").0, c::DNS_REFUSED);
        assert_eq!(of("p; error=dns_error; rcode=\"YXDOMAIN\"").0, c::DNS_RCODE);
        assert_eq!(of("p; error=DNS_Error; rcode=3").0, c::DNS_NXDOMAIN);
        assert_eq!(of("p; error=tls_alert_received; alert-id=40").0, c::TLS_HANDSHAKE_FAILURE);
        assert_eq!(of("p; error=tls_alert_received; alert-id=70").0, c::TLS_PROTOCOL_VERSION);
        assert_eq!(of("p; error=tls_alert_received; alert-id=116").0, c::TLS_CLIENT_CERT_REQUIRED);
        assert_eq!(of("p; error=quite_new"), (c::PROXY_GATEWAY_ERROR, Hop::ProxyToOrigin));
        assert_eq!(finding(&parse_proxy_status(["p"])[0]), None);
    }
}
