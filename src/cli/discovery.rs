//! What the machine tells a run of `check`: what to probe, by which proxy, and whose behaviour to predict.

use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use clap::ValueEnum;

use super::{
    exit::Stop,
    options::Options,
    request, targets,
    values::{self, Cloud, Consumer, Endpoint, Method},
};
use crate::{
    discover::{self, Machine, Metadata, Survey},
    model::{ChosenMethod, Context, Discovery, Target},
    plan::HostChannel,
    probe::{self, metadata},
};

/// Where instance metadata is on every virtual machine of Azure.
const IMDS: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 169, 254), 80);

/// What a machine told.
pub(super) struct Discovered {
    /// The machine whose files were read.
    pub(super) machine: Machine,
    /// What they say.
    pub(super) survey: Survey,
    /// Whether the host channel can be expected.
    has_host: bool,
    /// Whether it is worth showing: on a machine that has nothing to do with Azure it is not.
    shown: bool,
}

impl Discovered {
    /// Reads the machine that the options describe, or this one, and asks instance metadata where that is due.
    ///
    /// # Errors
    /// When the folder or the proxy that the options name cannot be used, or there is no event queue.
    pub(super) fn of(options: &Options) -> Result<Self, Stop> {
        let machine = match &options.root {
            Some(root) => below(root)?,
            None => Machine::this(),
        };
        let azure = discover::is_azure(&machine);
        let metadata = ask(options, azure)?;
        let mut survey = Survey::of(&machine, metadata, request::explicit_proxy(options)?, options.no_proxy);
        if let Some(method) = options.method {
            survey.discovery.method = Some(ChosenMethod { name: values::name(&method), because: "--method".into() });
        }
        let described = options.root.is_some() || options.imds.is_some();
        // Of another machine's host this one could not tell; the lab plays it.
        let has_host = azure && (options.root.is_none() || options.lab.is_some());
        Ok(Self { shown: azure || described, has_host, machine, survey })
    }

    /// The options with what was discovered where they leave it open.
    pub(super) fn fill(&self, given: Options) -> Options {
        let Discovery { instance, extension, method, .. } = &self.survey.discovery;
        let instance = instance.as_ref();
        let installed = extension.as_ref().and_then(|extension| Consumer::from_str(&extension.consumer, false).ok());
        let by_system = instance.and_then(|instance| match instance.os.to_ascii_lowercase().as_str() {
            "windows" => Some(Consumer::VmsnapshotWindows),
            "linux" => Some(Consumer::VmsnapshotLinux),
            _ => None,
        });
        let method = method.as_ref().and_then(|method| Method::from_str(&method.name, false).ok());
        let region = instance.map(|instance| instance.region.clone()).filter(|region| !region.is_empty());
        Options {
            cloud: given.cloud.or_else(|| Cloud::from_str(&instance?.cloud, true).ok()),
            region: given.region.or(region),
            consumer: given.consumer.or(installed).or(by_system),
            method: given.method.or(method),
            ..given
        }
    }

    /// What to probe where nothing was named: the storage hosts that the machine's disks are known to be at.
    ///
    /// # Errors
    /// When there is none: says what was looked at, what it gave, and what to give.
    pub(super) fn targets(&self, ports: &[u16]) -> Result<Vec<Target>, Stop> {
        let hosts = discover::storage_hosts(&self.survey.discovery);
        let targets = hosts.iter().filter_map(|host| Target::parse(&host.to_string(), ports).ok()).flatten();
        let targets: Vec<Target> = targets.collect();
        if targets.is_empty() { Err(nothing(&self.survey.discovery)) } else { Ok(targets) }
    }

    /// The host channel where it can be expected.
    pub(super) fn host(&self) -> Option<HostChannel> {
        self.has_host.then(HostChannel::default)
    }

    /// Puts into the context what reports show and the classifier judges.
    pub(super) fn describe(self, given: &Options, context: &mut Context) {
        self.survey.proxies.describe(context);
        if let Some(cloud) = given.cloud {
            context.cloud = values::name(&cloud);
        }
        context.region.clone_from(&given.region);
        context.discovery = self.shown.then(|| Box::new(self.survey.discovery));
    }
}

/// The machine whose root folder this is.
fn below(root: &Path) -> Result<Machine, Stop> {
    let cannot =
        |why: &str| Stop::usage(format!("--root {}: {why}; give the folder that is / on that machine", root.display()));
    match std::fs::read_dir(root) {
        Ok(_) => Ok(Machine::below(root, [])),
        Err(e) => Err(cannot(&e.to_string())),
    }
}

/// Asks instance metadata, or says why not.
fn ask(options: &Options, azure: bool) -> Result<Metadata, Stop> {
    let at = options.imds.map_or(SocketAddr::from(IMDS), |Endpoint(at)| at);
    let because = match options.imds {
        Some(_) => None,
        None if options.no_imds => Some("not asked, because of --no-imds"),
        None if options.root.is_some() => {
            Some("not asked, because --root describes another machine; --imds says where")
        }
        None if options.lab.is_some() => Some("not asked in the lab; --imds says where"),
        None if !azure => Some("not asked, because nothing here shows a virtual machine of Azure"),
        None => None,
    };
    let answer = match because {
        Some(because) => Err(because.to_owned()),
        None => {
            let runtime =
                probe::runtime().map_err(|e| Stop::CannotMeasure(format!("cannot ask instance metadata: {e}")))?;
            runtime.block_on(metadata::fetch(at, metadata::DEFAULT_BUDGET)).map_err(|e| e.to_string())
        }
    };
    Ok(Metadata { origin: format!("instance metadata at {at}"), answer })
}

/// Nothing is known to probe: where that was looked for, and what helps.
fn nothing(discovery: &Discovery) -> Stop {
    let mut message = String::from("nothing to probe: no storage host is named, and this machine tells none");
    for source in &discovery.sources {
        let gave = source.gave.as_deref().or(source.problem.as_deref()).unwrap_or("nothing of use");
        let _ = write!(message, "\n  {}: {gave}", source.origin);
        if let (Some(_), Some(problem)) = (&source.gave, &source.problem) {
            let _ = write!(message, "; {problem}");
        }
    }
    let region =
        discovery.instance.as_ref().map(|instance| instance.region.as_str()).filter(|region| !region.is_empty());
    let account = region.map_or_else(String::new, |region| format!(" (any account in {region} will do as a stand-in)"));
    let _ = write!(
        message,
        "\nThe host of a managed disk is Azure's choice and is told to nobody before a backup runs; it stands in the extension's \
         log afterwards.\nGive a TARGET (a host name or https://HOST[:PORT][/PATH]), --account NAME{account}, --disk URI or \
         --targets FILE; to see what this does without a network: snapreach check --lab"
    );
    Stop::usage(message)
}

/// The targets that the options name, else the discovered ones.
///
/// # Errors
/// When one cannot be used, or there is none.
pub(super) fn targets(options: &Options, found: &Discovered) -> Result<Vec<Target>, Stop> {
    let named = targets::resolve(options)?;
    if named.is_empty() { found.targets(&options.ports) } else { Ok(named) }
}
