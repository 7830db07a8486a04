//! What the snapshot extension's own files say.

use super::Machine;
use crate::model::{DiscoverySource, InstalledExtension, LastRun};

/// The extension on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// The build that is installed.
    pub installed: Option<InstalledExtension>,
    /// Its last run.
    pub last_run: Option<LastRun>,
    /// The files that were read.
    pub sources: Vec<DiscoverySource>,
}

/// Reads the extension's files.
#[must_use]
pub fn read(_machine: &Machine) -> Extension {
    Extension::default()
}
