//! The command line.

#![expect(clippy::doc_markdown, reason = "the comments are help texts: what a terminal shows has no Markdown")]

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use super::{
    network::Network,
    nsg,
    options::{self, Options},
    output,
    values::{
        self, Authority, Color, ConnectTo, Deadline, Depth, Disks, HostName, LayerBudget, Listen, Place, Rate, Share,
        Size, within,
    },
};
use crate::{
    azure::nsg::Protocol,
    bench::{Workload, gate::Metric},
    model::Secret,
    report::Format,
};

const AFTER: &str = "\
Exit codes: 0 clear, 1 blocked, 2 wrong usage or input (nothing was probed), 3 inconclusive, 130 interrupted.
`snapreach explain exit-codes` says more.";

const EXAMPLES: &str = "\
Examples:
  snapreach check --lab
      Try it without a network: the embedded lab plays every party.
  sudo snapreach check
      On a virtual machine of Azure: it finds out by itself what to probe, and shows where it knows that from.
  snapreach check --account mystorageaccount
      Probe an account's blob endpoint on ports 80, 443 and 8443.
  snapreach check --account mystorageaccount --proxy http://10.0.0.5:3128 --record tonight.jsonl
      Compare the direct way with the one through a proxy; keep what was seen.
  snapreach check --account mystorageaccount --region westeurope --nsg nic.json --routes routes.json
      Judge the flows by security groups and routes as well: which rule it is, and which one would help.
  snapreach check --targets estate.txt --format jsonl -o report.html -o junit.xml --strict
      In CI: many endpoints, several reports, warnings fail the job.

Only GET, HEAD and CONNECT are sent: nothing is created, changed or deleted.";

const LAB_EXAMPLES: &str = "\
Examples:
  snapreach lab --ca-file-out lab.pem
      Storage, proxy, name server and wire server on this machine, until Ctrl-C.
  curl --proxy http://127.0.0.1:PORT --cacert lab.pem 'https://acct.blob.core.windows.net/?comp=list'
      With the port of `proxy` in what was printed: fetch through the lab's proxy.
  snapreach lab --scenario proxy-port-denied -v
      Play a scenario's faults, and show what the parties see.
  snapreach lab --origin-only --listen 10.0.0.9
      Beyond a proxy that is to be tried: the origin that its tunnels lead to, until Ctrl-C.";

const NSG_EXAMPLES: &str = "\
Examples:
  az network nsg show -g RG -n NSG > nsg.json
  snapreach nsg nsg.json --region westeurope
      Can the backups of this region reach storage, and are the rules sound?
  az network nic list-effective-nsg -g RG -n NIC > effective.json
  az network nic show-effective-route-table -g RG -n NIC > routes.json
  snapreach nsg effective.json routes.json --to acct.blob.core.windows.net=20.60.0.4 --port 443
      What decides over one address, with the groups of interface and subnet and the routes?
  snapreach nsg nsg.json ServiceTags_Public.json --to Storage.WestEurope --format json
      Are all addresses of the tag allowed?

Exit codes: 0 all allowed, 1 something is denied, 2 a file or option cannot be used, 3 the files do not tell.";

const PROXY_EXAMPLES: &str = "\
Examples:
  snapreach proxy --lab
      Try it without a network: the embedded lab plays proxy and origin.
  sudo snapreach proxy http://10.0.0.5:3128
      Will backups work through this proxy? The origin runs on this machine; only root may have ports 443 and 80.
  snapreach proxy http://10.0.0.5:3128 --lab-origin 10.1.0.9 --allow acct.blob.core.windows.net:443
      The origin is `snapreach lab --origin-only` on 10.1.0.9, beyond the proxy; a real account is tried as well.
  snapreach proxy http://old:3128 --vs http://new:3128 -o differences.md
      What does the new proxy do otherwise than the old one?
  snapreach proxy http://10.0.0.5:3128 --level must -o proxy.md -o junit.xml
      In CI: what backups need and no more; a page for the proxy's owner, and JUnit.

Exit codes: 0 backups work through it, 1 a must fails, 2 wrong usage (nothing was sent), 3 it cannot be told, 130
interrupted. Nothing is sent but to the proxy, and through it to the origin and what --allow and --deny name.";

const BENCH_EXAMPLES: &str = "\
Examples:
  snapreach bench download
      Try it without a network: bytes from the embedded lab.
  snapreach bench tunnel --proxy http://10.0.0.5:3128 https://acct.blob.core.windows.net
      How many tunnels per second does the proxy open, and how long does each take?
  snapreach bench download 'https://acct.blob.core.windows.net/c/disk.vhd?sv=...&sig=...' --proxy http://10.0.0.5:3128 --vs direct
      Does the proxy slow reading a blob down? Both ways in turn, until it can be told.
  snapreach bench request http://10.1.0.9:8080 --rate 2000/s --duration 1m -o report.html
      Latency at a fixed rate, as a picture. 10.1.0.9 runs `snapreach lab`.
  snapreach bench download --lab --vs lab:bench-throttled-10 --margin 5%
      In CI: exit 1 when the second is worse by more than the margin, and on nothing else.
  snapreach bench download --calibrate --margin 5%
      Can this machine see 5 % at all?
  snapreach bench merge a.json b.json
      Add results of several machines that were saved with --save.

Exit codes: 0 measured or passed, 1 a regression was proved or nothing succeeded, 2 wrong usage (nothing was sent), 3 it
cannot be told, 130 interrupted. Data is read, and written only to the lab or to blocks that are never committed.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  snapreach replay tonight.jsonl
  snapreach replay tonight.jsonl --format markdown -o ticket.html
  ssh vm cat tonight.jsonl | snapreach replay -";

const SCENARIO_EXAMPLES: &str = "\
Examples:
  snapreach scenario run
      Every scenario that comes with the program, against the embedded lab.
  snapreach scenario run estate/ --var PROXY=http://10.0.0.5:3128 -o junit.xml
      Your own files; those without [lab] meet the real proxy and the real storage.
  snapreach scenario run proxy-port-denied --no-lab --proxy http://10.0.0.5:3128
      Does the real proxy do what the scenario says?

Exit codes: 0 all passed, 1 an expectation failed, 2 a file cannot be used (nothing was run), 3 some were not run.";

const TRIAGE_EXAMPLES: &str = "\
Examples:
  sudo snapreach triage /var/log/azure /var/log/waagent.log /var/lib/waagent
      On the VM: all attempts that are still in its files.
  snapreach triage logs.d --format markdown -o ticket.md
      Anywhere else, over files that were copied from it.
  zcat extension.log.2.gz | snapreach triage -
      One log from a pipe.

Exit codes: 0 the last attempt succeeded, 1 it failed, 2 a path cannot be read or holds nothing known, 3 cannot tell.";

/// The scenario of `proxy --lab` without a name.
const PROXY_SCENARIO: &str = "healthy-proxy";

const EXPECTED: &str = "What is expected";
const ORIGIN: &str = "The origin beyond the proxy";
const CASES: &str = "Which cases";
/// Heading of the options about connections.
pub(super) const NETWORK: &str = "Network";
const LOAD: &str = "Load";
const GATE: &str = "Comparison";
const OUTPUT: &str = "Output";
const LAB: &str = "Lab";

/// Find out who stands between an Azure VM and the storage its backup snapshots need
///
/// Probes storage endpoints layer by layer (DNS, TCP, CONNECT proxy, TLS, HTTP), proves who answered, classifies each
/// failure and says what to do about it. Read-only: only GET, HEAD and CONNECT are sent.
#[derive(Debug, Parser)]
#[command(name = "snapreach", version, after_help = AFTER, max_term_width = 100, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Probe endpoints, classify what happens, and say what to do
    #[command(after_long_help = EXAMPLES)]
    Check(Box<Check>),
    /// Validate a forward proxy before rollout: will backups work through it?
    ///
    /// Runs a suite of cases through the proxy to an origin of its own, so that both ends are seen: which ports and hosts,
    /// logins, the reasons given for errors, the tunnels themselves, TLS, plain requests, limits under load, and malformed
    /// requests. Each case passes or fails with evidence, and the lines that mend it in the proxy's configuration.
    #[command(after_long_help = PROXY_EXAMPLES)]
    Proxy(Box<Proxy>),
    /// Measure connects, handshakes, tunnels, requests and transfers, and find regressions that CI can trust
    #[command(after_long_help = BENCH_EXAMPLES)]
    Bench(Box<Bench>),
    /// Judge recorded observations again, without a network
    #[command(after_long_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Run declarative scenarios against the embedded lab or against real parties
    #[command(subcommand)]
    Scenario(Scenario),
    /// Run the embedded lab in the foreground, for curl or an agent of your own
    ///
    /// Prints one line of JSON when every party is ready: their addresses, and what a client needs to reach and trust
    /// them. Ends with Ctrl-C. Nothing leaves this machine.
    #[command(after_long_help = LAB_EXAMPLES)]
    Lab(Lab),
    /// Find the security rule or the route that decides, from files alone
    ///
    /// Reads security groups, effective rules, routes and service tags as the az CLI, the REST API and templates write
    /// them, in any mix; what a file holds shows in its content. No name is looked up and nothing is probed.
    #[command(after_long_help = NSG_EXAMPLES)]
    Nsg(Nsg),
    /// Read the logs of a backup that failed: what happened, on which way, and who must act
    ///
    /// Reads what the snapshot extension and the agent wrote: extension.log, host_based_extension.log, shell.log,
    /// waagent.log, .status and .settings files, also rotated and gzipped. Files are known by their content. Nothing is
    /// sent, and no signature or password of a log is repeated.
    #[command(after_long_help = TRIAGE_EXAMPLES)]
    Triage(Triage),
    /// Explain a finding code, or the exit codes; without CODE list all codes
    Explain(Explain),
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the man page of the program or of one command, as roff
    Man {
        /// Which command
        command: Option<String>,
    },
}

/// `snapreach check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) options: Options,

    /// Read options from FILE [default: ./snapreach.toml, else /etc/snapreach.toml, where one exists]
    ///
    /// TOML; the keys are the long options with underscores, and `target` for TARGET. One file is read and never merged
    /// with another; options on the command line win over it. Not looked for with --lab.
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub(super) config: Option<PathBuf>,

    /// Print the effective configuration as TOML, without passwords and signatures, and exit
    #[arg(long, help_heading = "Configuration")]
    pub(super) print_config: bool,
}

/// `snapreach proxy`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a flag of the command line")]
pub(super) struct Proxy {
    /// The proxy: http://HOST:PORT or https://HOST:PORT, user:password@ before the host allowed
    #[arg(value_name = "URL", value_parser = options::secret, required_unless_present_any = ["lab", "list"])]
    pub(super) url: Option<Secret>,

    /// An endpoint that must be let through (repeatable)
    #[arg(long, value_name = "HOST:PORT", help_heading = EXPECTED)]
    pub(super) allow: Vec<Authority>,

    /// An endpoint that must stay shut (repeatable)
    #[arg(long, value_name = "HOST:PORT", help_heading = EXPECTED)]
    pub(super) deny: Vec<Authority>,

    /// What is expected of the proxy: azure-backup, or a TOML file
    #[arg(long, value_name = "NAME|FILE", help_heading = EXPECTED, default_value = "azure-backup")]
    pub(super) profile: String,

    /// The region of the machines that will use the proxy, for the report
    #[arg(long, value_name = "NAME", help_heading = EXPECTED, value_parser = nsg::region)]
    pub(super) region: Option<String>,

    /// Which disks are backed up, which decides the ports [default: as the profile says]
    #[arg(long, value_name = "KIND", help_heading = EXPECTED)]
    pub(super) disks: Option<Disks>,

    /// The origin beyond the proxy is here, where `snapreach lab --origin-only` runs [ports: 443, 8443 and 80]
    #[arg(long, value_name = "ADDR[:PORT]", help_heading = ORIGIN, conflicts_with_all = ["origin_listen", "no_origin", "lab"])]
    pub(super) lab_origin: Option<Place>,

    /// Where the origin on this machine listens [default: loopback for a proxy there, else the address that faces it]
    #[arg(long, value_name = "ADDR", help_heading = ORIGIN, conflicts_with_all = ["no_origin", "lab"])]
    pub(super) origin_listen: Vec<IpAddr>,

    /// A name under which the proxy finds the origin [default: that of --lab-origin, if it is one]
    #[arg(long, value_name = "NAME", help_heading = ORIGIN, conflicts_with_all = ["no_origin", "lab"])]
    pub(super) origin_name: Option<HostName>,

    /// Start no origin: cases that need one are not run
    #[arg(long, help_heading = ORIGIN, conflicts_with = "lab")]
    pub(super) no_origin: bool,

    /// Run the same on this proxy, and report where it differs from the first [with --lab: a scenario]
    #[arg(long, value_name = "URL", help_heading = CASES, value_parser = options::secret)]
    pub(super) vs: Option<Secret>,

    /// Down to which level cases are run
    #[arg(long, value_name = "LEVEL", help_heading = CASES, default_value = "all")]
    pub(super) level: Depth,

    /// Only cases whose id begins so, or matches with * (repeatable: any of them): connect, tunnel/idle, */port-*
    #[arg(long, value_name = "PATTERN", help_heading = CASES)]
    pub(super) filter: Vec<String>,

    /// List the cases with level, reference and what holds when they pass, and exit
    #[arg(long, help_heading = CASES)]
    pub(super) list: bool,

    /// Tunnels held open at once, 0 to 65000; 0 leaves the case out [default: as the profile says]
    #[arg(long, value_name = "N", help_heading = CASES, value_parser = within::<usize, 0, 65_000>)]
    pub(super) tunnels: Option<usize>,

    /// The longest silence that a tunnel must survive
    #[arg(long, value_name = "DURATION", help_heading = CASES, default_value = "3s")]
    pub(super) idle: LayerBudget,

    /// How long a busy tunnel is watched
    #[arg(long, value_name = "DURATION", help_heading = CASES, default_value = "3s")]
    pub(super) lifetime: LayerBudget,

    /// Bytes of a large transfer each way, up to 1GiB [default: the case is left out]
    #[arg(long, value_name = "SIZE", help_heading = CASES)]
    pub(super) large: Option<Size>,

    #[command(flatten)]
    pub(super) network: Network,

    /// Budget of one TCP connect
    #[arg(long, value_name = "DURATION", help_heading = NETWORK, default_value = "5s")]
    pub(super) connect_timeout: LayerBudget,

    /// Budget of every other step: CONNECT, TLS handshake, an answer
    #[arg(long, value_name = "DURATION", help_heading = NETWORK, default_value = "5s")]
    pub(super) timeout: LayerBudget,

    /// Format of the report on standard output
    #[arg(long, value_name = "FORMAT", help_heading = OUTPUT, default_value = "text", value_parser = output::proxy_format_parser())]
    pub(super) format: Format,

    /// Write a report to FILE too, in the format of its extension: txt, json, md, xml (JUnit) (repeatable)
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(super) output: Vec<PathBuf>,

    /// Exit 1 also when the verdict is degraded: a should fails, or there is a warning
    #[arg(long, help_heading = OUTPUT)]
    pub(super) strict: bool,

    /// Show every case, and what was measured
    #[arg(short, long, help_heading = OUTPUT, action = ArgAction::Count)]
    pub(super) verbose: u8,

    /// No progress on standard error
    #[arg(short, long, help_heading = OUTPUT)]
    pub(super) quiet: bool,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = OUTPUT)]
    pub(super) color: Option<Color>,

    /// Run against the embedded lab instead of a proxy [default SCENARIO: healthy-proxy]
    ///
    /// The lab plays proxy and origin on loopback addresses; no packet leaves this machine. SCENARIO is a built-in name or
    /// a .toml file.
    #[arg(long, value_name = "SCENARIO", help_heading = LAB, num_args = 0..=1, default_missing_value = PROXY_SCENARIO)]
    #[arg(action = ArgAction::Set, conflicts_with = "url")]
    pub(super) lab: Option<String>,
}

/// `snapreach bench`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Bench {
    #[command(subcommand)]
    pub(super) command: Option<BenchCommand>,

    /// What is done again and again: connect, tls, tunnel, request, download, upload
    #[arg(value_name = "WORKLOAD", required = true, value_parser = values::workload())]
    pub(super) workload: Option<Workload>,

    /// With whom: a URL, or a host of storage (HTTPS) [default: the embedded lab]
    #[arg(value_name = "TARGET", value_parser = options::secret)]
    pub(super) target: Option<Secret>,

    /// Through this proxy: http://HOST:PORT or https://HOST:PORT, user:password@ before the host allowed; or lab
    #[arg(long, value_name = "URL", help_heading = NETWORK, value_parser = options::secret)]
    pub(super) proxy: Option<Secret>,

    /// Ask the proxy for the target's absolute URL in place of a tunnel (plain HTTP)
    #[arg(long, help_heading = NETWORK)]
    pub(super) absolute: bool,

    /// Connections at once; with --rate the most that may be busy [default: 1 for transfers, 20 for request, else 50]
    #[arg(short = 'n', long, value_name = "N", help_heading = LOAD, value_parser = within::<usize, 1, 20_000>)]
    pub(super) connections: Option<usize>,

    /// Operations per second, however long they take; without it each begins when the one before has ended
    #[arg(long, value_name = "R/s", help_heading = LOAD)]
    pub(super) rate: Option<Rate>,

    /// How long is measured; a comparison takes as many slices as it needs instead [default: 10s]
    #[arg(short, long, value_name = "DURATION", help_heading = LOAD)]
    pub(super) duration: Option<Deadline>,

    /// How long is thrown away before; of a slice it is a tenth [default: 1s]
    #[arg(long, value_name = "DURATION", help_heading = LOAD)]
    pub(super) warmup: Option<LayerBudget>,

    /// Payload of one transfer, up to 1GiB
    #[arg(long, value_name = "SIZE", help_heading = LOAD, default_value = "256MiB")]
    pub(super) bytes: Size,

    /// The longest time of an operation, and the longest silence of a transfer [default: 5s, at most half of what is measured]
    #[arg(long, value_name = "DURATION", help_heading = LOAD)]
    pub(super) timeout: Option<LayerBudget>,

    /// Resume TLS sessions (tls)
    #[arg(long, help_heading = LOAD)]
    pub(super) resume: bool,

    /// Compare every byte with what the lab sends (download)
    #[arg(long, help_heading = LOAD)]
    pub(super) verify: bool,

    /// The congestion control of this side, as the kernel names it: cubic, bbr, reno
    #[arg(long, value_name = "NAME", help_heading = LOAD)]
    pub(super) congestion: Option<String>,

    /// Compare with a second arm: direct, proxy:URL, proxy:lab, target:URL, lab, lab:SCENARIO
    ///
    /// Both are measured in turn, in slices of 3 s, in an order drawn from --seed. After 15, 30 and 45 pairs it is decided
    /// if it can be: exit 1 when the second arm is proved to be worse by more than the margin.
    #[arg(long, value_name = "ARM", help_heading = GATE, value_parser = options::secret)]
    pub(super) vs: Option<Secret>,

    /// Compare with a run that was saved with --save
    #[arg(long, value_name = "FILE", help_heading = GATE, conflicts_with_all = ["vs", "calibrate"])]
    pub(super) baseline: Option<PathBuf>,

    /// Compare with itself, to learn which margins this machine can see
    #[arg(long, help_heading = GATE, conflicts_with = "vs")]
    pub(super) calibrate: bool,

    /// The loss that is accepted [default: 5%]
    #[arg(long, value_name = "PERCENT", help_heading = GATE)]
    pub(super) margin: Option<Share>,

    /// What is compared (repeatable: all must hold): goodput, rate, p50, p99, cpu [default: goodput of transfers, p50 with --rate, else rate]
    #[arg(long, value_name = "METRIC", help_heading = GATE, value_parser = values::metric())]
    pub(super) metric: Vec<Metric>,

    /// How long one arm is measured before it is the other one's turn; a tenth of it is thrown away
    #[arg(long, value_name = "DURATION", help_heading = GATE, default_value = "3s")]
    pub(super) slice: LayerBudget,

    /// Where chance begins; it is shown, and the same seed gives the same order [default: drawn]
    #[arg(long, value_name = "N", help_heading = GATE)]
    pub(super) seed: Option<u64>,

    /// Dial this address for a host (repeatable), as curl's --connect-to
    #[arg(long, value_name = "HOST:PORT:ADDR:PORT", help_heading = NETWORK)]
    pub(super) connect_to: Vec<ConnectTo>,

    #[command(flatten)]
    pub(super) network: Network,

    /// Format of the report on standard output
    #[arg(long, value_name = "FORMAT", help_heading = OUTPUT, default_value = "text", value_parser = output::bench_format_parser())]
    pub(super) format: Format,

    /// Write a report to FILE too, in the format of its extension: txt, json, md, csv, html (repeatable)
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(super) output: Vec<PathBuf>,

    /// Keep everything that was measured, as JSON, for --baseline and merge
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(super) save: Option<PathBuf>,

    /// Exit 1 also when some operations failed
    #[arg(long, help_heading = OUTPUT)]
    pub(super) strict: bool,

    /// Show more
    #[arg(short, long, help_heading = OUTPUT, action = ArgAction::Count)]
    pub(super) verbose: u8,

    /// No progress on standard error
    #[arg(short, long, help_heading = OUTPUT)]
    pub(super) quiet: bool,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = OUTPUT)]
    pub(super) color: Option<Color>,

    /// Measure against the embedded lab, as it plays SCENARIO [default: a healthy one]
    ///
    /// TARGET is then one of the lab's names, such as https://acct.blob.core.windows.net. No packet leaves this machine.
    #[arg(long, value_name = "SCENARIO", help_heading = LAB, num_args = 0..=1, default_missing_value = "", action = ArgAction::Set)]
    pub(super) lab: Option<String>,
}

/// What else `bench` does.
#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Add the results of several machines
    Merge(Merge),
}

/// `snapreach bench merge`.
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Results of `bench --save`, measured at the same time
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,

    /// Format of the report on standard output
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = output::bench_format_parser())]
    pub(super) format: Format,

    /// Write a report to FILE too, in the format of its extension: txt, json, md, csv, html (repeatable)
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Vec<PathBuf>,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(super) color: Option<Color>,
}

/// `snapreach replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Records of `check --record` (- for standard input); each is reported in turn, the worst decides the exit code
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,

    /// Format of the report on standard output [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = output::format_parser())]
    pub(super) format: Option<Format>,

    /// Write a report to FILE too, in the format of its extension: txt, json, jsonl, md, xml (JUnit), prom, html
    /// (repeatable)
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Vec<PathBuf>,

    /// Exit 1 also when a verdict is degraded
    #[arg(long)]
    pub(super) strict: bool,

    /// Show every step; twice: heads and bodies as well
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(super) color: Option<Color>,
}

/// `snapreach scenario`.
#[derive(Debug, Subcommand)]
pub(super) enum Scenario {
    /// Carry scenarios out and compare what comes out with what they expect
    #[command(after_long_help = SCENARIO_EXAMPLES)]
    Run(Box<ScenarioRun>),
    /// List scenarios with what they show
    List {
        /// Files and folders of scenarios [default: those that come with the program]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,

        /// Only scenarios whose name contains TEXT (repeatable: any of them)
        #[arg(long, value_name = "TEXT")]
        filter: Vec<String>,
    },
    /// Print the JSON Schema of scenario files, for editors and checks
    Schema,
}

/// `snapreach scenario run`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a flag of the command line")]
pub(super) struct ScenarioRun {
    /// Scenario files, folders of them, or names of built-in ones [default: all built-in ones]
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,

    /// Only scenarios whose name contains TEXT (repeatable: any of them)
    #[arg(long, value_name = "TEXT")]
    pub(super) filter: Vec<String>,

    /// The value of ${NAME} in the files; else the environment has it (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = options::secret)]
    pub(super) var: Vec<Secret>,

    /// Scenarios at once [default: three per processor, at most 16]
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<NonZeroUsize>,

    /// Carry each scenario out N times
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) repeat: u32,

    /// Start no further scenario after the first that fails
    #[arg(long)]
    pub(super) fail_fast: bool,

    /// Seed of faults that are drawn by ratio, in place of the files' own
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Leave [lab] and [[fault]] out: whoever is really there answers
    #[arg(long, help_heading = "Real parties")]
    pub(super) no_lab: bool,

    /// The proxy of scenarios without a lab: http:// or https://, user:password@ allowed
    #[arg(long, value_name = "URL", help_heading = "Real parties", value_parser = options::secret)]
    pub(super) proxy: Option<Secret>,

    /// Trust the certificates in this PEM file too, in scenarios without a lab (repeatable)
    #[arg(long, value_name = "PEM", help_heading = "Real parties")]
    pub(super) ca_file: Vec<PathBuf>,

    /// Do not trust the system's certificate authorities
    #[arg(long, help_heading = "Real parties", requires = "ca_file")]
    pub(super) no_system_roots: bool,

    /// Format of the report on standard output [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = OUTPUT, value_parser = output::suite_format_parser())]
    pub(super) format: Option<Format>,

    /// Write a report to FILE too, in the format of its extension: txt, json, md, xml (JUnit) (repeatable)
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(super) output: Vec<PathBuf>,

    /// Keep the record and the judgement of each scenario in DIR/NAME/
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub(super) record_dir: Option<PathBuf>,

    /// No progress
    #[arg(short, long, help_heading = OUTPUT)]
    pub(super) quiet: bool,

    /// Show the findings of each scenario
    #[arg(short, long, action = ArgAction::Count, help_heading = OUTPUT)]
    pub(super) verbose: u8,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = OUTPUT)]
    pub(super) color: Option<Color>,
}

/// `snapreach lab`.
#[derive(Debug, Args)]
pub(super) struct Lab {
    /// Scenario whose faults are played: a built-in name or a .toml file [default: healthy]
    #[arg(long, value_name = "FILE")]
    pub(super) scenario: Option<String>,

    /// Run nothing but the origin that cases for proxies are tried with, for `proxy --lab-origin` on another machine
    #[arg(long, requires = "listen", conflicts_with_all = ["scenario", "ca_file_out", "verbose"])]
    pub(super) origin_only: bool,

    /// Where: an address at which the proxy reaches this machine; without a port at 443, 8443 and 80
    #[arg(long, value_name = "ADDR[:PORT]", requires = "origin_only")]
    pub(super) listen: Option<Listen>,

    /// Write the certificate authority of the lab to FILE too, as PEM
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file_out: Option<PathBuf>,

    /// Print each event that a party sees to standard error, as JSON
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
}

/// `snapreach nsg`.
#[derive(Debug, Args)]
pub(super) struct Nsg {
    /// Groups, rules, effective rules, routes, service tags (- for standard input)
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,

    /// Where the flow goes: an address, a service tag, a storage endpoint, or HOST=ADDR (repeatable)
    ///
    /// The name of a storage endpoint stands for the tag Storage, or Storage.NAME with --region. Without --to that tag
    /// is judged, and the rules as such as well.
    #[arg(long, value_name = "HOST|ADDR|TAG")]
    pub(super) to: Vec<String>,

    /// Ports there (repeatable)
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = values::port, default_values = ["80", "443", "8443"])]
    pub(super) port: Vec<u16>,

    /// tcp, udp, icmp, esp or ah
    #[arg(long, value_name = "NAME", default_value = "tcp", value_parser = protocol)]
    pub(super) protocol: Protocol,

    /// The machine's own address; without it rules for single source addresses cannot be decided
    #[arg(long, value_name = "ADDR")]
    pub(super) from: Option<IpAddr>,

    /// The region of the storage, which for backups is the machine's own: westeurope, 'West Europe'
    #[arg(long, value_name = "NAME", value_parser = nsg::region)]
    pub(super) region: Option<String>,

    /// Format of the report on standard output
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = output::review_format_parser())]
    pub(super) format: Format,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(super) color: Option<Color>,
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    Protocol::from_name(text).ok_or("write tcp, udp, icmp, esp or ah")
}

/// `snapreach triage`.
#[derive(Debug, Args)]
pub(super) struct Triage {
    /// Files, or folders that are searched for logs and status files (- for standard input)
    #[arg(value_name = "PATH", required = true)]
    pub(super) paths: Vec<PathBuf>,

    /// Format of the report on standard output [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = output::triage_format_parser())]
    pub(super) format: Option<Format>,

    /// Write a report to FILE too, in the format of its extension: txt, json, md (repeatable)
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Vec<PathBuf>,

    /// Show every attempt
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(super) color: Option<Color>,
}

/// `snapreach explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A finding code as in a report, or `exit-codes`
    pub(super) code: Option<String>,

    /// Colours [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(super) color: Option<Color>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
