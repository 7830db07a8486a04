//! How connections leave this machine, and whom they trust: options of the commands that read no configuration file.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;

use super::{Stop, args::NETWORK, request};
use crate::{
    plan::{Family, Source, Trust},
    probe,
};

/// Where connections come from, and which certificates count.
#[derive(Debug, Args)]
pub(super) struct Network {
    /// IPv4 only
    #[arg(short = '4', long, help_heading = NETWORK, conflicts_with = "ipv6")]
    ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long, help_heading = NETWORK)]
    ipv6: bool,

    /// Source address of every connection
    #[arg(long, value_name = "ADDR", help_heading = NETWORK)]
    bind: Option<IpAddr>,

    /// Network interface of every connection (Linux)
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    interface: Option<String>,

    /// Trust the certificates in this PEM file, beside the system's (repeatable)
    #[arg(long, value_name = "PEM", help_heading = NETWORK)]
    pub(super) ca_file: Vec<PathBuf>,

    /// Do not trust the system's certificate authorities
    #[arg(long, help_heading = NETWORK, requires = "ca_file")]
    no_system_roots: bool,
}

impl Network {
    /// Where connections come from.
    ///
    /// # Errors
    /// When this machine has no such address or interface.
    pub(super) fn source(&self) -> Result<Source, Stop> {
        if let Some(address) = self.bind {
            request::check_bind(address)?;
        }
        if let Some(name) = &self.interface {
            request::check_interface(name)?;
        }
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => self.bind.map(Family::of),
        };
        Ok(Source { family, bind: self.bind, interface: self.interface.clone() })
    }

    /// Whose certificates count.
    ///
    /// # Errors
    /// When a file cannot be read, or holds no certificate.
    pub(super) fn trust(&self) -> Result<Trust, Stop> {
        let mut added = Vec::new();
        for path in &self.ca_file {
            added.extend(probe::read_anchors(path).map_err(Stop::usage)?);
        }
        Ok(Trust { system: !self.no_system_roots, added, ..Trust::default() })
    }

    /// The first option given that means nothing to the embedded lab, which is where it is and is trusted for what it is.
    pub(super) fn unknown_to_the_lab(&self) -> Option<&'static str> {
        let given = [
            (self.bind.is_some(), "--bind"),
            (self.interface.is_some(), "--interface"),
            (!self.ca_file.is_empty(), "--ca-file"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}
