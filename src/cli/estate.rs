//! The files given to `check` that say what Azure lets through: security groups, routes, service tags.

use std::path::PathBuf;

use super::{exit::Stop, nsg, options::Options};
use crate::azure::nsg::{Compiled, Policy};

/// The files as they are named.
pub(super) fn paths(options: &Options) -> impl Iterator<Item = &PathBuf> {
    options.nsg.iter().chain(&options.routes).chain(&options.service_tags)
}

/// What the files say; `None` where none is given.
///
/// # Errors
/// When a file cannot be read, is malformed, or is of another kind than its option.
pub(super) fn policy(options: &Options) -> Result<Option<Compiled>, Stop> {
    let mut files = Vec::new();
    for path in paths(options) {
        files.push(nsg::read(path)?);
    }
    if files.is_empty() {
        return Ok(None);
    }
    let contents: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let policy = Policy::read(&contents).map_err(|e| Stop::usage(e.to_string()))?;
    let holds = [
        (options.nsg.first(), policy.has_groups(), "--nsg", "network security group"),
        (options.routes.as_ref(), policy.has_routes(), "--routes", "route"),
        (options.service_tags.as_ref(), policy.has_tags(), "--service-tags", "service tag"),
    ];
    for (path, holds, option, what) in holds {
        if let (Some(path), false) = (path, holds) {
            return Err(Stop::usage(format!("{option} {}: there is no {what} in this file", path.display())));
        }
    }
    Ok(Some(Compiled::new(policy)))
}
