//! What HTTP requests of a workload ask for.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    bench::{Form, Setup, Workload},
    exchange::BULK_PATH,
    model::{Expectation, Scheme},
    probe::dial::Dialer,
};

/// The version of storage's REST interface that requests name: the first with blocks of 4,000 MiB ("Put Block").
const STORAGE_VERSION: &str = "2019-12-12";

/// The requests of one arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    workload: Workload,
    form: Form,
    /// Request target without the query, as it stands behind the method.
    path: String,
    /// The signature, or any other query; empty: none.
    query: String,
    /// Header lines that are always the same.
    headers: String,
    /// Payload bytes of one transfer.
    bytes: u64,
    /// Blobs are read by ranges and written by blocks.
    storage: bool,
    /// How much there is to read by ranges, once known.
    size: Option<u64>,
}

impl Errand {
    /// `None`: the workload makes no requests.
    pub(super) fn new(setup: &Setup, form: Form, dialer: &Dialer) -> Option<Self> {
        if !matches!(setup.workload, Workload::Request | Workload::Download | Workload::Upload) {
            return None;
        }
        let target = dialer.target();
        let default_port = if target.scheme == Scheme::Https { 443 } else { 80 };
        let host = if target.port == default_port { target.host.to_string() } else { target.authority() };
        // Whoever gives no path means an origin of snapreach's own.
        let bulk = setup.workload.is_bulk() && target.path == "/";
        let path = if bulk { format!("{BULK_PATH}{}", setup.bytes) } else { target.path.clone() };
        let storage = target.expects == Expectation::Storage && !path.starts_with(BULK_PATH);
        let login = match (form, dialer.proxy()) {
            (Form::Absolute, Some(proxy)) => proxy.credentials.as_ref().map(crate::probe::dial::login),
            _ => None,
        };
        let version = if storage { format!("x-ms-version: {STORAGE_VERSION}\r\n") } else { String::new() };
        Some(Self {
            workload: setup.workload,
            form,
            path: match form {
                Form::Tunnel => path,
                Form::Absolute => format!("{}://{host}{path}", target.scheme.as_str()),
            },
            query: target.sas.as_ref().map(|query| format!("?{}", query.expose())).unwrap_or_default(),
            headers: format!(
                concat!("Host: {}\r\nUser-Agent: snapreach/", env!("CARGO_PKG_VERSION"), "\r\nAccept: */*\r\n{}{}"),
                host,
                version,
                login.unwrap_or_default()
            ),
            bytes: setup.bytes,
            storage,
            size: None,
        })
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    pub(super) fn method(&self) -> &'static str {
        if self.workload == Workload::Upload { "PUT" } else { "GET" }
    }

    /// The path as evidence shows it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The same, once the size of the blob is known.
    pub(super) fn of_size(self, size: Option<u64>) -> Self {
        Self { size, ..self }
    }

    /// Whether a signature goes with it.
    pub(super) fn is_signed(&self) -> bool {
        !self.query.is_empty()
    }

    /// Bytes that an upload carries.
    pub(super) fn upload(&self) -> u64 {
        if self.workload == Workload::Upload { self.bytes } else { 0 }
    }

    /// Whether a status means that the payload comes, or was taken.
    pub(super) fn is_served(&self, status: u16) -> bool {
        match self.workload {
            Workload::Download => matches!(status, 200 | 206),
            Workload::Upload => (200..300).contains(&status),
            _ => true,
        }
    }

    /// Where the bytes of the `turn`-th transfer lie in the blob.
    pub(super) fn offset(&self, turn: u64) -> u64 {
        match self.size {
            Some(size) if self.storage => {
                let whole = (size / self.bytes).max(1);
                (turn % whole) * self.bytes
            }
            _ => 0,
        }
    }

    /// The head of the `turn`-th request.
    pub(super) fn head(&self, turn: u64) -> String {
        let Self { path, query, headers, bytes, .. } = self;
        let method = self.method();
        match self.workload {
            Workload::Upload => {
                // Blocks that are never committed go by themselves within a week ("Put Block"); few names, so that few are
                // kept till then.
                let join = if query.is_empty() { "?" } else { "&" };
                let block =
                    if self.storage { format!("{join}comp=block&blockid={}", block_id(turn)) } else { String::new() };
                format!(
                    "{method} {path}{query}{block} HTTP/1.1\r\n{headers}Content-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\r\n"
                )
            }
            Workload::Download if self.storage => {
                let first = self.offset(turn);
                let last = self.size.map_or(first, |size| (first + bytes).min(size) - 1);
                format!("{method} {path}{query} HTTP/1.1\r\n{headers}x-ms-range: bytes={first}-{last}\r\n\r\n")
            }
            _ => format!("{method} {path}{query} HTTP/1.1\r\n{headers}\r\n"),
        }
    }
}

/// The name of a block: base64, of one length within a blob ("Put Block"), and without a character that a query would
/// have to escape.
fn block_id(turn: u64) -> String {
    STANDARD.encode(format!("snapreach-{:02}", turn % 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_blocks_need_no_escaping_and_have_one_length() {
        for turn in 0..40 {
            let id = block_id(turn);
            assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
        }
    }
}
