//! What the answer to the request at the endpoint means: storage itself, or something that speaks in its place.

use super::view::{At, host_of};
use crate::{azure::storage, http::Reply};

/// The answer to the request, when one came.
pub(super) fn reply<'a>(at: &At<'a>) -> Option<&'a Reply> {
    at.request()?.reply.as_ref()
}

/// Whether storage answered with this status and one of these error codes (an empty list: any).
pub(super) fn storage_says(at: &At<'_>, status: u16, codes: &[&str]) -> bool {
    reply(at).is_some_and(|reply| {
        let code = storage::error_code(reply);
        reply.status == status
            && storage::is_storage_reply(reply)
            && (codes.is_empty() || code.is_some_and(|code| codes.contains(&code)))
    })
}

/// Whether storage's firewall or a disabled public endpoint turned the request away. The emulator uses the same code
/// for every request without a login.
pub(super) fn is_network_rule(at: &At<'_>) -> bool {
    storage_says(at, 403, &["AuthorizationFailure"]) && !reply(at).is_some_and(storage::is_emulator)
}

/// Whether storage turned a shared access signature away, for its signature, its time or its scope.
pub(super) fn is_signature_rejected(at: &At<'_>) -> bool {
    at.request().is_some_and(|request| request.sas_sent)
        && (storage_says(
            at,
            403,
            &[
                "AuthenticationFailed",
                "AuthorizationPermissionMismatch",
                "AuthorizationProtocolMismatch",
                "AuthorizationSourceIPMismatch",
                "AuthorizationServiceMismatch",
                "AuthorizationResourceTypeMismatch",
            ],
        ) || reply(at).is_some_and(|reply| {
            // An answer to HEAD has no body, and old API versions send no code header.
            reply.status == 403 && storage::is_storage_reply(reply) && storage::error_code(reply).is_none()
        }))
}

/// Whether somebody other than storage answered although storage should.
pub(super) fn is_stranger(at: &At<'_>) -> bool {
    at.view.expects_storage() && reply(at).is_some_and(|reply| !storage::is_storage_reply(reply))
}

/// Azure Firewall's refusal of plain HTTP: status 470, or its fixed text.
pub(super) fn is_firewall(reply: &Reply) -> bool {
    reply.status == 470 || reply.body.text.starts_with("Action: Deny. ")
}

/// A page that wants the user to log in or agree before it lets traffic through.
pub(super) fn is_portal(reply: &Reply) -> bool {
    const WORDS: [&str; 9] = [
        "captive",
        "hotspot",
        "portal",
        "login",
        "log in",
        "sign in",
        "terms of use",
        "wispaccessgatewayparam",
        "guest access",
    ];
    if reply.status == 511 {
        return true;
    }
    let location = reply.header("location").unwrap_or_default();
    match reply.status {
        300..400 => any_word(location, &WORDS),
        200..300 => any_word(&reply.body.text, &WORDS),
        _ => false,
    }
}

/// A page of a filter that says that it blocks.
pub(super) fn is_block_page(reply: &Reply) -> bool {
    const WORDS: [&str; 19] = [
        "blocked",
        "access denied",
        "access to this",
        "denied by",
        "policy",
        "category",
        "web filter",
        "webfilter",
        "firewall",
        "zscaler",
        "fortigate",
        "fortiguard",
        "forcepoint",
        "websense",
        "blue coat",
        "bluecoat",
        "umbrella",
        "palo alto",
        "err_access_denied",
    ];
    reply.status == 451 || any_word(&reply.body.text, &WORDS) || any_word(&reply.reason, &WORDS)
}

/// A redirect to another host.
pub(super) fn is_off_site(at: &At<'_>) -> bool {
    reply(at).is_some_and(|reply| {
        (300..400).contains(&reply.status)
            && reply.header("location").is_some_and(|location| {
                let rest = location.split_once("//").map_or("", |(_, rest)| rest);
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
                let host = if port { host_of(authority) } else { authority };
                !host.is_empty() && !host.eq_ignore_ascii_case(at.view.host())
            })
    })
}

fn any_word(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::testing::reply;

    #[test]
    fn portals_and_block_pages_show_by_their_words() {
        assert!(is_portal(&reply("HTTP/1.1 511 N\r\n\r\n")));
        assert!(is_portal(&reply("HTTP/1.1 302 F\r\nLocation: https://guest.example/Login?x\r\n\r\n")));
        assert!(is_portal(&reply("HTTP/1.1 200 OK\r\n\r\n<html>Please sign in to the hotspot")));
        assert!(!is_portal(&reply("HTTP/1.1 302 F\r\nLocation: https://www.example/\r\n\r\n")));
        assert!(!is_portal(&reply("HTTP/1.1 403 F\r\n\r\n<a href=login>")));
        assert!(is_block_page(&reply("HTTP/1.1 403 F\r\n\r\n<h1>Blocked by FortiGuard")));
        assert!(!is_block_page(&reply("HTTP/1.1 404 N\r\n\r\n<h1>Not Found")));
        assert!(is_firewall(&reply("HTTP/1.1 470 status code 470\r\n\r\n")));
        assert!(is_firewall(&reply("HTTP/1.1 403 x\r\n\r\nAction: Deny. Reason: x")));
    }
}
