//! `snapreach explain`: what a finding code or an exit code means.

use super::{
    args::Explain,
    exit::{self, Stop},
    output,
};
use crate::classify::explain;

/// Prints the page of a code, the exit codes, or the index.
///
/// # Errors
/// When there is no such code; the message names the nearest.
pub(super) fn run(args: &Explain) -> Result<u8, Stop> {
    let style = output::style(args.color, 0);
    let text = match args.code.as_deref() {
        None => explain::index(),
        Some("exit-codes") => explain::exit_codes(),
        Some(code) => explain::page(code, style.color, style.width).ok_or_else(|| unknown(code))?,
    };
    output::print(&text)?;
    if !text.ends_with('\n') {
        output::print("\n")?;
    }
    Ok(exit::CLEAR)
}

fn unknown(code: &str) -> Stop {
    let meant = explain::suggest(code).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Stop::usage(format!(
        "there is no finding code `{code}`{meant}\n`snapreach explain` lists all codes, `snapreach explain exit-codes` the exit codes."
    ))
}
