//! How storage is named and how its answers are signed.

use crate::{azure::cloud::Cloud, http::Reply};

/// Suffixes of zone-partitioned managed disks, beside the accounts' own (seen in SAS URIs of snapshots).
const DISK_SUFFIXES: [&str; 3] = ["blob.storage.azure.net", "disk.storage.azure.net", "blob.storage.azure.us"];

/// The suffix of the German cloud, closed in 2021; old captures show it.
const GERMAN_SUFFIX: &str = "core.cloudapi.de";

/// Whether the name is one under which Azure Storage answers. `name` is lower case, without a trailing dot.
#[must_use]
pub fn is_storage_name(name: &str) -> bool {
    let under = |suffix: &str| name.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'));
    Cloud::ALL.iter().any(|cloud| under(cloud.storage_suffix()))
        || under(GERMAN_SUFFIX)
        || DISK_SUFFIXES.into_iter().any(under)
}

/// Whether the name belongs to the zone of private endpoints, where public names end up as aliases.
#[must_use]
pub fn is_privatelink_name(name: &str) -> bool {
    name.split('.').any(|label| label.eq_ignore_ascii_case("privatelink"))
}

/// Whether the answer carries the mark that every answer of storage carries, and no proxy or portal does
/// ("Common REST API error codes" and "Status and error codes" of the storage REST reference).
#[must_use]
pub fn is_storage_reply(reply: &Reply) -> bool {
    reply.header("x-ms-request-id").is_some()
}

/// Whether the answer comes from the Azurite emulator, whose error codes differ from storage's.
#[must_use]
pub fn is_emulator(reply: &Reply) -> bool {
    reply.header("server").is_some_and(|server| server.starts_with("Azurite"))
}

/// The error code of storage's answer: from `x-ms-error-code`, or from the XML body of older API versions.
#[must_use]
pub fn error_code(reply: &Reply) -> Option<&str> {
    reply.header("x-ms-error-code").or_else(|| {
        let (_, rest) = reply.body.text.split_once("<Code>")?;
        let (code, _) = rest.split_once("</Code>")?;
        (!code.is_empty() && code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::Header, model::Excerpt};

    #[test]
    fn storage_names_need_a_label_before_the_suffix() {
        for name in [
            "acct.blob.core.windows.net",
            "md-x.z32.blob.storage.azure.net",
            "md-dd-0.z1.disk.storage.azure.net",
            "acct.blob.core.chinacloudapi.cn",
            "acct.privatelink.blob.core.windows.net",
        ] {
            assert!(is_storage_name(name), "{name}");
        }
        for name in ["core.windows.net", ".core.windows.net", "evilcore.windows.net", "example.com", ""] {
            assert!(!is_storage_name(name), "{name}");
        }
        assert!(is_privatelink_name("acct.privatelink.blob.core.windows.net"));
        assert!(!is_privatelink_name("privatelinks.example.com"));
    }

    #[test]
    fn the_error_code_is_read_from_header_or_body() {
        let mut reply = Reply {
            body: Excerpt::whole(
                b"\xef\xbb\xbf<?xml version=\"1.0\"?><Error><Code>AccountRequiresHttps</Code></Error>",
            ),
            ..Reply::default()
        };
        assert_eq!(error_code(&reply), Some("AccountRequiresHttps"));
        reply.headers.push(Header { name: "X-Ms-Error-Code".into(), value: "ServerBusy".into() });
        assert_eq!(error_code(&reply), Some("ServerBusy"));
        assert_eq!(error_code(&Reply { body: Excerpt::whole(b"<Code><b></Code>"), ..Reply::default() }), None);
    }
}
