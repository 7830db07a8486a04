//! One harmless HTTP request.

use std::{
    mem::take,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    failure,
    http_io::{Incoming, read_body, read_head},
    recorder::{Slot, micros},
};
use crate::model::{Evidence, Failure, RequestEvidence, Scheme, Target, TcpInfo};

/// A header line without which instance metadata answers nobody: it shows that the question is no redirected one.
pub(super) const FOR_METADATA: &str = "Metadata: true\r\n";

/// Evidence of a request in the making.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) evidence: RequestEvidence,
    incoming: Incoming,
}

impl Attempt {
    /// A `GET` of the target's path; with a shared access signature, which only a trusted TLS session may see, a
    /// `HEAD` of the blob, so that no disk data is read.
    pub(super) fn new(target: &Target, trusted: bool, budget: Duration) -> Self {
        let with_sas = trusted && target.scheme == Scheme::Https && target.sas.is_some();
        // Without its signature a blob's path says nothing that the account's root does not.
        let path = if target.sas.is_some() && !with_sas { "/".to_owned() } else { target.path.clone() };
        let evidence = RequestEvidence {
            method: if with_sas { "HEAD" } else { "GET" }.into(),
            path,
            sas_sent: with_sas,
            client_request_id: uuid::Uuid::new_v4().to_string(),
            ..RequestEvidence::default()
        };
        Self { evidence, incoming: Incoming::within(budget) }
    }

    fn head(&self, target: &Target, header: &str) -> String {
        let default_port = if target.scheme == Scheme::Https { 443 } else { 80 };
        let host = if target.port == default_port { target.host.to_string() } else { target.authority() };
        let query = target.sas.as_ref().filter(|_| self.evidence.sas_sent).map(|query| format!("?{}", query.expose()));
        format!(
            concat!(
                "{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: snapreach/",
                env!("CARGO_PKG_VERSION"),
                "\r\nAccept: */*\r\nx-ms-client-request-id: {}\r\n{}Connection: close\r\n\r\n"
            ),
            self.evidence.method,
            self.evidence.path,
            query.unwrap_or_default(),
            host,
            self.evidence.client_request_id,
            header
        )
    }
}

impl Slot for Attempt {
    fn ended(&self, by: Failure) -> Option<Failure> {
        self.evidence.reply.is_none().then_some(by)
    }

    fn finish(&mut self, _: Option<&Failure>, tcp: Option<TcpInfo>) -> Evidence {
        self.evidence.bytes_read = self.incoming.total;
        self.evidence.first_byte_us = self.incoming.first_byte.map(micros);
        if self.evidence.reply.is_none() {
            self.evidence.first_bytes = self.incoming.excerpt();
        }
        self.evidence.alert = self.incoming.alert.take();
        self.evidence.tcp = tcp;
        Evidence::Request(Box::new(take(&mut self.evidence)))
    }
}

/// Sends the request, with one more header line where there is one, and reads the answer's head and the beginning of its body.
pub(super) async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    stream: &mut S,
    target: &Target,
    header: &str,
) -> Result<(), Failure> {
    let head = attempt.head(target, header);
    stream.write_all(head.as_bytes()).await.map_err(|e| failure::of_io(&e))?;
    stream.flush().await.map_err(|e| failure::of_io(&e))?;
    attempt.evidence.request_sent = true;
    let reply = read_head(stream, &mut attempt.incoming).await?;
    attempt.evidence.local_unix_time =
        SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let reply = attempt.evidence.reply.insert(*reply);
    if attempt.evidence.method != "HEAD" {
        read_body(stream, &mut attempt.incoming, reply).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_leaves_only_inside_a_trusted_session_and_only_in_a_head_request() {
        for (url, trusted, method, sent) in [
            ("https://h/c/disk.vhd?se=1&sig=SECRET", true, "HEAD", true),
            ("https://h/c/disk.vhd?se=1&sig=SECRET", false, "GET", false),
            ("http://h/c/disk.vhd?se=1&sig=SECRET", true, "GET", false),
            ("https://h/", true, "GET", false),
        ] {
            let target = Target::parse(url, &[]).unwrap().remove(0);
            let attempt = Attempt::new(&target, trusted, Duration::from_secs(1));
            let head = attempt.head(&target, "");
            assert!(head.starts_with(method), "{url}: {head}");
            assert_eq!(head.contains("SECRET"), sent, "{url}");
            if !sent {
                assert!(head.starts_with("GET / "), "{head}");
            }
        }
    }
}
