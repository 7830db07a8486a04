//! Scenario files, held against the estate by the product itself.

use std::path::{Path, PathBuf};

use super::{CLIENT, Estate};

impl Estate {
    /// What the product says when a scenario's expectations are not met here: nothing when they are. `name` is that of a
    /// file in `tests/estate`, or of a built-in scenario, whose lab is left out.
    pub(super) fn unmet(&self, name: &str, arguments: &[&str]) -> Vec<String> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/estate").join(format!("{name}.toml"));
        let file = if own.exists() { own } else { PathBuf::from(name) };
        let mut command = self.command(&CLIENT, env!("CARGO_BIN_EXE_snapreach"));
        command.args(["scenario", "run"]).arg(file).args(["--no-lab", "-v"]).args(arguments);
        let output = command.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Vec::new();
        }
        vec![format!("{name} {arguments:?}\n{}{}", said(&output.stdout), said(&output.stderr))]
    }
}

/// Plays each case in an estate of its own, all at once, and fails with all that was not met: whoever waits for silence waits long.
/// `test` tells the estates from those of other tests.
pub(super) fn at_once<const N: usize>(test: &str, cases: [fn(&mut Estate) -> Vec<String>; N]) {
    let unmet: Vec<String> = std::thread::scope(|scope| {
        let play = |(number, case): (usize, fn(&mut Estate) -> Vec<String>)| {
            scope.spawn(move || Estate::new(&format!("{test}{number}")).map(|mut estate| case(&mut estate)))
        };
        let plays: Vec<_> = cases.into_iter().enumerate().map(play).collect();
        plays.into_iter().filter_map(|play| play.join().unwrap()).flatten().collect()
    });
    assert_met(&unmet);
}

/// Fails with all that was not met.
pub(super) fn assert_met(unmet: &[String]) {
    assert!(unmet.is_empty(), "{}", unmet.join("\n"));
}
