//! The `snapreach` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    snapreach::cli::main()
}
