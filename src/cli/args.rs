//! The command line.

#![expect(clippy::doc_markdown, reason = "the comments are help texts: what a terminal shows has no Markdown")]

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use super::{options::Options, output, values::Color};
use crate::report::Format;

const AFTER: &str = "\
Exit codes: 0 clear, 1 blocked, 2 wrong usage or input (nothing was probed), 3 inconclusive, 130 interrupted.
`snapreach explain exit-codes` says more.";

const EXAMPLES: &str = "\
Examples:
  snapreach check --lab
      Try it without a network: the embedded lab plays every party.
  snapreach check --account mystorageaccount
      Probe an account's blob endpoint on ports 80, 443 and 8443.
  snapreach check --account mystorageaccount --proxy http://10.0.0.5:3128 --record tonight.jsonl
      Compare the direct way with the one through a proxy; keep what was seen.
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
      Play a scenario's faults, and show what the parties see.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  snapreach replay tonight.jsonl
  snapreach replay tonight.jsonl --format markdown -o ticket.html
  ssh vm cat tonight.jsonl | snapreach replay -";

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
    /// Run the embedded lab in the foreground, for curl or an agent of your own
    ///
    /// Prints one line of JSON when every party is ready: their addresses, and what a client needs to reach and trust
    /// them. Ends with Ctrl-C. Nothing leaves this machine.
    #[command(after_long_help = LAB_EXAMPLES)]
    Lab(Lab),
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

/// `snapreach lab`.
#[derive(Debug, Args)]
pub(super) struct Lab {
    /// Scenario whose faults are played: a built-in name or a .toml file [default: healthy]
    #[arg(long, value_name = "FILE")]
    pub(super) scenario: Option<String>,

    /// Write the certificate authority of the lab to FILE too, as PEM
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file_out: Option<PathBuf>,

    /// Print each event that a party sees to standard error, as JSON
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
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
