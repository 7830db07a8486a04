//! What `waagent.log` says about requests that failed (`WALinuxAgent`, `logger.py` and `restutil.py`).

use super::{
    exception::{self, Stage},
    line,
    text::{host_and_path, kept},
};
use crate::model::{Code, Hop};

/// Kinds of failure that are kept.
const MAX_GROUPS: usize = 64;

/// What an agent's log tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AgentLog {
    pub(super) failures: Vec<AgentFailure>,
    /// Whether a line of the agent came before, which a line of another shape then continues.
    begun: bool,
}

/// Requests of the agent to one host that failed in one way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AgentFailure {
    pub(super) host: String,
    pub(super) code: Code,
    pub(super) hop: Hop,
    /// The first one's error, in the agent's words.
    pub(super) text: String,
    pub(super) count: u64,
    /// Where the first one stands.
    pub(super) place: String,
    /// When the last one was.
    pub(super) last: String,
}

/// Takes a line. Gives whether it was understood.
pub(super) fn line(log: &mut AgentLog, path: &str, number: u64, text: &str) -> bool {
    let Some((at, _, message)) = line::agent(text) else {
        let continues =
            log.begun && (text.trim().is_empty() || text.starts_with([' ', '\t']) || text.starts_with("Traceback"));
        return continues;
    };
    log.begun = true;
    let Some((host, error)) = failed(message) else { return true };
    let status = error.strip_prefix("Status Code ").and_then(|rest| rest.get(..3)?.parse().ok());
    let (code, hop) = match status {
        Some(status) => match exception::answer(status, "RequestId:") {
            Some(meaning) => meaning,
            None => return true,
        },
        None => exception::exception(error, Stage::Unknown, false),
    };
    let last = at.normal();
    if let Some(known) = log.failures.iter_mut().find(|known| known.host == host && known.code == code) {
        known.count += 1;
        known.last = last;
    } else if log.failures.len() < MAX_GROUPS {
        let (text, place) = (kept(error), format!("{path}:{number}"));
        log.failures.push(AgentFailure { host, code, hop, text, count: 1, place, last });
    }
    true
}

/// Host and error of `[HTTP Failed] GET <url> -- IOError <error> -- 6 attempts made` and its kin.
fn failed(message: &str) -> Option<(String, &str)> {
    let (_, rest) = message.split_once("[HTTP Failed] ").or_else(|| message.split_once("[HTTP Retry] "))?;
    let mut parts = rest.split(" -- ");
    let request = parts.next()?;
    let url = request.split_whitespace().find(|word| word.contains("://"))?;
    let error = parts.next()?.trim();
    let error = error.strip_prefix("IOError ").or_else(|| error.strip_prefix("HttpException ")).unwrap_or(error);
    Some((host_and_path(url)?.0, error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (AgentLog, usize) {
        let mut log = AgentLog::default();
        let skipped =
            text.lines().zip(1..).filter(|(text, number)| !line(&mut log, "waagent.log", *number, text)).count();
        (log, skipped)
    }

    #[test]
    fn failed_requests_are_counted_by_host_and_meaning() {
        let (log, skipped) = read("\
lost its beginning
2026-01-05T03:10:44.123456Z INFO Daemon Azure Linux Agent Version: 2.9.1.1
2026-01-05T03:10:45.123456Z ERROR ExtHandler ExtHandler [HTTP Failed] GET https://md-1.z2.blob.storage.azure.net/s?sv=1&sig=x -- IOError [Errno 111] Connection refused -- 6 attempts made
2026-01-05T03:12:45Z WARNING ExtHandler [HTTP Retry] GET https://md-1.z2.blob.storage.azure.net/s -- IOError [Errno 111] Connection refused -- 2 attempts made
Traceback (most recent call last):
2026/01/05 03:13:00.5 ERROR [HTTP Failed] GET http://168.63.129.16/?comp=versions -- IOError timed out -- 6 attempts made
2026-01-05T03:14:00Z INFO ExtHandler [HTTP Retry] PUT https://b.blob.core.windows.net/c -- Status Code 503 -- 1 attempts made
");
        assert_eq!(skipped, 1);
        let seen: Vec<_> =
            log.failures.iter().map(|f| (f.host.as_str(), f.code.0, f.count, f.place.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("md-1.z2.blob.storage.azure.net", "tcp.refused", 2, "waagent.log:3"),
                ("168.63.129.16", "tcp.connect_timeout", 1, "waagent.log:6"),
                ("b.blob.core.windows.net", "storage.throttled", 1, "waagent.log:7"),
            ]
        );
        assert_eq!(log.failures[0].last, "2026-01-05 03:12:45");
    }

    proptest! {
        #[test]
        fn any_number_of_failures_stays_small(hosts in prop::collection::vec("[a-z]{1,8}", 0..200)) {
            let line = |host: &String| format!("2026-01-05T03:10:45Z ERROR [HTTP Failed] GET http://{host}/ -- IOError timed out");
            let text = hosts.iter().map(line).collect::<Vec<_>>().join("\n");
            prop_assert!(read(&text).0.failures.len() <= MAX_GROUPS);
        }
    }
}
