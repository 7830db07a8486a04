//! `snapreach lab`: the embedded lab in the foreground.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    args,
    exit::{self, Stop},
    interrupt,
    options::DEFAULT_SCENARIO,
    output, scenarios,
    values::Listen,
};
use crate::{
    lab::{Event, Lab, Network, OwnOrigin},
    plan::Proxy,
    probe::limits::Descriptors,
};

/// Events that wait to be printed. The lab does not wait for a slow reader: more are counted and left out.
const WAITING: usize = 10_000;

/// How long the last events may take to be printed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a client needs to know.
#[derive(Debug, Serialize)]
struct Description<'a> {
    scenario: &'a str,
    /// The proxy's URL, without credentials.
    proxy: Option<String>,
    /// The name server that stands for the system resolver.
    dns: SocketAddr,
    /// The one asked beside it.
    dns_server: SocketAddr,
    /// The wire server.
    host_endpoint: SocketAddr,
    /// Instance metadata.
    metadata: SocketAddr,
    /// Values of `--connect-to`.
    connect_to: Vec<String>,
    /// Every party by a symbolic name.
    addresses: &'a BTreeMap<String, SocketAddr>,
    /// The authority that stands for a public one.
    ca_pem: &'a str,
}

/// Runs the command until it is interrupted, and gives its exit code.
///
/// # Errors
/// When the scenario cannot be used, a file cannot be written, or the lab cannot start.
pub(super) fn run(args: &args::Lab) -> Result<u8, Stop> {
    // Each connection of whoever uses it is a descriptor here; thousands may be wanted.
    Descriptors::raised();
    if let Some(listen) = args.listen {
        return origin_only(listen);
    }
    let scenario = scenarios::load(args.scenario.as_deref().unwrap_or(DEFAULT_SCENARIO))?;
    let cannot = |e: io::Error| Stop::CannotMeasure(format!("cannot start the lab: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(cannot)?;
    let interrupted = interrupt::listen();
    let (printer, end) = if args.verbose > 0 { printer().map(Some).map_err(cannot)?.unzip() } else { (None, None) };
    let lab = Lab::start_watched(scenarios::lab_of(&scenario)?, move |event| {
        if let Some(printer) = &printer {
            printer.tell(&event);
        }
    })
    .map_err(cannot)?;

    let ca_pem: String = lab.network().roots.iter().map(|der| pem(der)).collect();
    if let Some(path) = &args.ca_file_out {
        write(path, &ca_pem)?;
    }
    output::print(&description(&scenario.name, lab.network(), &ca_pem))?;
    runtime.block_on(interrupted);
    drop(lab);
    if let Some(end) = end {
        // Fails when the printer is done, which is what this waits for.
        let _ = end.recv_timeout(LAST_WORDS);
    }
    Ok(exit::CLEAR)
}

/// A certificate as a PEM block (RFC 7468).
fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        let _ = writeln!(text, "{line}");
        rest = more;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn write(path: &Path, pem: &str) -> Result<(), Stop> {
    fs::write(path, pem).map_err(|e| Stop::usage(format!("cannot write the CA file {}: {e}", path.display())))
}

/// Runs the origin alone.
fn origin_only(Listen { ip, port }: Listen) -> Result<u8, Stop> {
    let cannot = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidInput => Stop::usage(format!("--listen: {e}")),
        _ => Stop::CannotMeasure(format!("cannot start the origin: {e}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(cannot)?;
    let interrupted = interrupt::listen();
    let origin = OwnOrigin::listen(ip, port).map_err(cannot)?;
    // Addresses and words: nothing in it can fail to be written.
    output::print(&format!("{}\n", serde_json::to_string(origin.places()).unwrap_or_default()))?;
    runtime.block_on(interrupted);
    Ok(exit::CLEAR)
}

/// One line of JSON.
fn description(scenario: &str, network: &Network, ca_pem: &str) -> String {
    let description = Description {
        scenario,
        proxy: network.proxy.as_ref().map(Proxy::url),
        dns: network.dns,
        dns_server: network.dns_server,
        host_endpoint: network.host_endpoint,
        metadata: network.metadata,
        connect_to: network.connect_to(),
        addresses: &network.addresses,
        ca_pem,
    };
    // Text, numbers and maps with text keys: nothing in it can fail to be written.
    format!("{}\n", serde_json::to_string(&description).unwrap_or_default())
}

/// Hands events to a thread that prints them.
struct Printer {
    events: SyncSender<String>,
    left_out: AtomicU64,
}

impl Printer {
    fn tell(&self, event: &Event) {
        let mut line = serde_json::to_string(event).unwrap_or_default();
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            line = format!("note: {left_out} events left out: they came faster than they could be printed\n{line}");
        }
        if self.events.try_send(line).is_err() {
            self.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
        }
    }
}

/// A printer, and what is disconnected once it has printed everything.
fn printer() -> io::Result<(Printer, Receiver<()>)> {
    let (events, lines) = mpsc::sync_channel::<String>(WAITING);
    let (done, end) = mpsc::channel();
    thread::Builder::new().name("events".into()).spawn(move || {
        let _done: mpsc::Sender<()> = done;
        for line in lines {
            output::say(&line);
        }
    })?;
    Ok((Printer { events, left_out: AtomicU64::new(0) }, end))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn what_could_not_be_printed_is_counted() {
        let (events, lines) = mpsc::sync_channel(1);
        let printer = Printer { events, left_out: AtomicU64::new(0) };
        let event = Event::Host { path: "/".into(), peer: "127.0.0.1:1".parse().unwrap() };
        for _ in 0..4 {
            printer.tell(&event);
        }
        assert!(lines.recv().unwrap().starts_with("{\"event\":\"host\""));
        printer.tell(&event);
        assert!(lines.recv().unwrap().starts_with("note: 3 events left out"));
        printer.tell(&event);
        assert!(!lines.recv().unwrap().contains("left out"));
    }

    #[test]
    fn pem_comes_back() {
        for length in [1, 47, 48, 49, 1000] {
            let der = vec![0x30; length];
            let text = pem(&der);
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec(), der);
        }
    }
}
