//! `snapreach completions` and `snapreach man`: made from the definition of the command line at run time.

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{
    args::Cli,
    exit::{self, Stop},
    output,
};

/// Prints the completion script of a shell.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn completions(shell: Shell) -> Result<u8, Stop> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(exit::CLEAR)
}

/// Prints the man page of the program, or of one of its commands.
///
/// # Errors
/// When there is no such command, or standard output cannot be written.
pub(super) fn man(name: Option<&str>) -> Result<u8, Stop> {
    let mut program = Cli::command();
    program.build();
    let page = match name {
        None => program,
        Some(name) => command(&program, name)?,
    };
    let mut roff = Vec::new();
    Man::new(page).render(&mut roff).map_err(|e| Stop::CannotMeasure(format!("cannot make the man page: {e}")))?;
    output::print(&String::from_utf8_lossy(&roff))?;
    Ok(exit::CLEAR)
}

fn command(program: &Command, name: &str) -> Result<Command, Stop> {
    program.get_subcommands().find(|command| command.get_name() == name).cloned().ok_or_else(|| {
        let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
        Stop::usage(format!("there is no command `{name}`; there are: {}", names.join(", ")))
    })
}
