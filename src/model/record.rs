//! Everything one run saw: what `--record` writes and `replay` reads.

use std::{
    io::{self, BufRead, Write},
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{Discovery, Observation, Route, Security, Target};

/// Version of the record and of the JSON report. Fields are added within a version, never removed.
pub const SCHEMA: u32 = 1;

/// Everything one run saw. Classification needs nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who measured.
    pub tool: ToolInfo,
    /// When the run began, RFC 3339.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What was known beside the observations.
    pub context: Context,
    /// What was asked for.
    pub targets: Vec<Target>,
    /// What was seen, by id.
    pub observations: Vec<Observation>,
    /// What was asked for and not measured.
    pub not_run: Vec<NotRun>,
}

/// Name and version of the program that measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolInfo {
    /// `snapreach`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Default for ToolInfo {
    fn default() -> Self {
        Self { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// What was known beside the observations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Context {
    /// `public`, `usgov` or `china`.
    pub cloud: String,
    /// The Azure region, where known.
    pub region: Option<String>,
    /// Every place that names a proxy, in order of precedence.
    #[serde(default)]
    pub proxy_sources: Vec<ProxySource>,
    /// Lines of `waagent.conf` that the snapshot extension reads otherwise than the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub misread_agent_file: Vec<MisreadLine>,
    /// Proxy variables that capture addresses of the platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_captures: Vec<ProxyCapture>,
    /// The proxy in use, as a URL without credentials.
    #[serde(default)]
    pub proxy: Option<String>,
    /// The snapshot method assumed.
    #[serde(default)]
    pub method: String,
    /// Whose behaviour is predicted.
    #[serde(default)]
    pub consumer: String,
    /// The routes asked for.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Attempts per target, address and route.
    #[serde(default)]
    pub attempts: u16,
    /// Budget of a connect, in milliseconds.
    #[serde(default)]
    pub connect_timeout_ms: u64,
    /// Budget of every other layer, in milliseconds.
    #[serde(default)]
    pub timeout_ms: u64,
    /// Budget of the whole run, in milliseconds.
    #[serde(default)]
    pub deadline_ms: u64,
    /// The scenario, when the embedded lab played the other parties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// The name server asked beside the system resolver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_server: Option<SocketAddr>,
    /// Whether the system's trust store was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_system_roots: bool,
    /// Names pinned in the hosts file among those that were probed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts_overrides: Vec<HostsOverride>,
    /// Whether the run had the superuser's rights (effective user id 0), where known: the agent's own firewall rules
    /// answer nobody else on the host channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// What discovery found beside the places that name a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Box<Discovery>>,
    /// What the network security groups and routes given say about the flows that were probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Box<Security>>,
    /// Whether the run was interrupted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// What the user should know about the measurement itself (limits met, stores not readable).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A place that names a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySource {
    /// Where: a path, a variable, `--proxy`.
    pub origin: String,
    /// The proxy without credentials, as `http://host:port`; `None` when the source cannot be used.
    pub proxy: Option<String>,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A line of `waagent.conf` that the snapshot extension's parser reads otherwise than the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MisreadLine {
    /// `path:line`.
    pub place: String,
    /// The line, without what may be a secret.
    pub text: String,
    /// The value that the extension reads; `None`: it cannot read the line, and nothing of the file counts.
    pub reading: Option<String>,
}

/// A proxy variable whose exceptions leave addresses of the platform to the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyCapture {
    /// Where: a variable, or a path and a variable.
    pub origin: String,
    /// The proxy, without credentials.
    pub proxy: String,
    /// The exceptions beside it, where there are any that may be shown.
    pub no_proxy: Option<String>,
    /// The addresses that would go to the proxy.
    pub addresses: Vec<IpAddr>,
}

/// A name pinned in the hosts file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsOverride {
    /// The name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// `path:line`.
    pub place: String,
}

/// Something that was asked for and not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// Target, as `host:port`, or another subject.
    pub subject: String,
    /// The route, where it matters.
    pub route: Option<Route>,
    /// Why not.
    pub reason: String,
    /// Whether the run's deadline (or an interrupt) was the reason.
    #[serde(default)]
    pub deadline: bool,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The first line is not the head of a record.
    #[error(
        "line 1: this is not a snapreach record (its first line must be an object with \"schema\" and \"kind\": \"record\"): {0}"
    )]
    Head(String),
    /// Written by a newer program.
    #[error("line 1: the record has schema {found}; this program reads schema {SCHEMA}")]
    Schema {
        /// The schema found.
        found: u32,
    },
    /// A line in the middle does not parse.
    #[error("line {line}: {message}")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    schema: u32,
    kind: String,
    #[serde(default)]
    tool: ToolInfo,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    elapsed_ms: u64,
    context: Context,
    targets: Vec<Target>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Observation(Observation),
    NotRun(NotRun),
    End { observations: usize },
}

impl Record {
    /// Writes the record as JSON Lines: a head, one line per observation, one per thing not run, an end mark.
    ///
    /// # Errors
    /// When `out` does.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let mut line = |value: &dyn erased::Json| -> io::Result<()> {
            value.write_to(&mut out)?;
            out.write_all(b"\n")
        };
        line(&Head {
            schema: SCHEMA,
            kind: "record".into(),
            tool: self.tool.clone(),
            started_at: self.started_at.clone(),
            elapsed_ms: self.elapsed_ms,
            context: self.context.clone(),
            targets: self.targets.clone(),
        })?;
        for observation in &self.observations {
            line(&erased::Named("observation", observation))?;
        }
        for not_run in &self.not_run {
            line(&erased::Named("not_run", not_run))?;
        }
        line(&Line::End { observations: self.observations.len() })
    }

    /// Reads a record. A record that ends early (no end mark, or half a last line) gives what it holds and an entry in
    /// [`Record::not_run`].
    ///
    /// # Errors
    /// When reading fails, the head is not one, or a line other than the last does not parse.
    pub fn read(input: impl BufRead) -> Result<Self, RecordError> {
        // Bytes, not text: a record may be cut inside a character.
        let mut lines = input.split(b'\n').enumerate();
        let first = lines.next().ok_or_else(|| RecordError::Head("the file is empty".into()))?.1?;
        let head: Head = serde_json::from_slice(&first).map_err(|e| RecordError::Head(e.to_string()))?;
        if head.kind != "record" {
            return Err(RecordError::Head(format!("its kind is `{}`", head.kind)));
        }
        if head.schema != SCHEMA {
            return Err(RecordError::Schema { found: head.schema });
        }
        let mut record = Self {
            tool: head.tool,
            started_at: head.started_at,
            elapsed_ms: head.elapsed_ms,
            context: head.context,
            targets: head.targets,
            observations: Vec::new(),
            not_run: Vec::new(),
        };
        let mut ended = false;
        let mut broken: Option<(usize, String)> = None;
        for (index, line) in lines {
            let line = line?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            if let Some((line, message)) = broken {
                return Err(RecordError::Line { line, message });
            }
            match serde_json::from_str(&String::from_utf8_lossy(&line)) {
                Ok(Line::Observation(observation)) => record.observations.push(observation),
                Ok(Line::NotRun(not_run)) => record.not_run.push(not_run),
                Ok(Line::End { observations }) => ended = observations == record.observations.len(),
                Err(e) if e.is_eof() => broken = Some((index + 1, e.to_string())),
                Err(e) => return Err(RecordError::Line { line: index + 1, message: e.to_string() }),
            }
        }
        if !ended {
            record.not_run.push(NotRun {
                subject: "record".into(),
                route: None,
                reason: "the record is cut short: its end mark is missing, so later observations may be lost".into(),
                deadline: false,
            });
        }
        Ok(record)
    }
}

mod erased {
    //! Lets one closure write lines of several types without cloning what they hold.
    use std::io;

    use serde::{Serialize, ser::SerializeMap};

    pub(super) trait Json {
        fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()>;
    }

    impl<T: Serialize> Json for T {
        fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
            serde_json::to_writer(out, self).map_err(Into::into)
        }
    }

    pub(super) struct Named<'a, T>(pub(super) &'static str, pub(super) &'a T);

    impl<T: Serialize> Serialize for Named<'_, T> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(self.0, self.1)?;
            map.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Evidence, Failure, FailureKind, Leg, Step, TunnelEvidence};

    fn sample() -> Record {
        let evidence = TunnelEvidence { authority: "h:443".into(), request_sent: true, ..TunnelEvidence::default() };
        let step = Step {
            leg: Leg::Proxy,
            start_us: 1,
            elapsed_us: 2,
            evidence: Evidence::Tunnel(Box::new(evidence)),
            failure: Some(Failure::new(FailureKind::TimedOut, "no answer")),
        };
        let observation = Observation {
            id: 1,
            parent: None,
            subject: "h:443".into(),
            route: Route::Proxy,
            attempt: 1,
            address: Some("127.0.0.1:3128".parse().unwrap()),
            control: None,
            host_service: None,
            steps: vec![step],
        };
        Record {
            tool: ToolInfo::default(),
            started_at: "2026-01-01T00:00:00Z".into(),
            elapsed_ms: 5,
            context: Context { cloud: "public".into(), routes: vec![Route::Proxy], ..Context::default() },
            targets: Target::parse("https://h", &[]).unwrap(),
            observations: vec![observation.clone(), Observation { id: 2, attempt: 2, ..observation }],
            not_run: vec![NotRun { subject: "h:8443".into(), route: None, reason: "x".into(), deadline: true }],
        }
    }

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        sample().write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_read_again() {
        assert_eq!(Record::read(written().as_slice()).unwrap(), sample());
    }

    #[test]
    fn errors_name_the_line() {
        let text = String::from_utf8(written()).unwrap();
        let broken = text.replacen("\"attempt\":1", "\"attempt\":\"one\"", 1);
        let error = Record::read(broken.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 2: "), "{error}");
        let newer = text.replacen("\"schema\":1", "\"schema\":99", 1);
        assert!(matches!(Record::read(newer.as_bytes()), Err(RecordError::Schema { found: 99 })));
        assert!(Record::read(&b""[..]).unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn a_step_after_a_failed_one_is_no_observation() {
        let mut record = sample();
        let step = record.observations[0].steps[0].clone();
        record.observations[0].steps.push(step);
        let mut bytes = Vec::new();
        record.write(&mut bytes).unwrap();
        let error = Record::read(bytes.as_slice()).unwrap_err().to_string();
        assert!(error.contains("only the last step"), "{error}");
    }

    #[test]
    fn a_record_cut_inside_a_character_keeps_what_it_holds() {
        let mut record = sample();
        let step = record.observations[1].steps.last_mut().unwrap();
        step.failure.as_mut().unwrap().raw = "Délai dépassé".into();
        let mut bytes = Vec::new();
        record.write(&mut bytes).unwrap();
        let cut = bytes.windows(2).rposition(|pair| pair == "é".as_bytes()).unwrap() + 1;
        let read = Record::read(&bytes[..cut]).unwrap();
        assert_eq!(read.observations, record.observations[..1]);
        assert!(read.not_run[0].reason.contains("cut short"));
    }

    proptest! {
        /// Whatever is cut off, what stands before the cut is not lost, and the cut is told.
        #[test]
        fn a_record_cut_anywhere_keeps_what_it_holds(cut in 0_usize..4000) {
            let whole = written();
            let cut = cut.min(whole.len() - 1);
            let first_line = whole.iter().position(|&b| b == b'\n').unwrap();
            match Record::read(&whole[..cut]) {
                Ok(record) => {
                    prop_assert!(cut >= first_line);
                    let lines = whole[..cut].split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n")).count();
                    prop_assert!(record.observations.len() + record.not_run.len() + 1 >= lines);
                    // Without its last newline it is still whole.
                    let is_whole = cut == whole.len() - 1;
                    prop_assert!(is_whole || record.not_run.iter().any(|n| n.reason.contains("cut short")));
                }
                Err(RecordError::Head(_)) => prop_assert!(cut < first_line),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::read(bytes.as_slice());
        }
    }
}
