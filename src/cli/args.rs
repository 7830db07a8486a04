//! The command line.

#![expect(clippy::doc_markdown, reason = "the comments are help texts: what a terminal shows has no Markdown")]

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use super::{
    nsg,
    options::{self, Options},
    output,
    values::{self, Color, Listen},
};
use crate::{azure::nsg::Protocol, model::Secret, report::Format};

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
    #[arg(long, value_name = "FORMAT", help_heading = "Output", value_parser = output::suite_format_parser())]
    pub(super) format: Option<Format>,

    /// Write a report to FILE too, in the format of its extension: txt, json, md, xml (JUnit) (repeatable)
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Vec<PathBuf>,

    /// Keep the record and the judgement of each scenario in DIR/NAME/
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(super) record_dir: Option<PathBuf>,

    /// No progress
    #[arg(short, long, help_heading = "Output")]
    pub(super) quiet: bool,

    /// Show the findings of each scenario
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(super) verbose: u8,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = "Output")]
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
