//! What the machine tells a run of `check`: what to probe, by which proxy, and whose behaviour to predict.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use super::{
    exit::Stop,
    options::{DEFAULT_PORTS, Options},
    request, targets,
    values::{self, Cloud, Consumer, Endpoint, Method},
};
use crate::{
    discover::{
        self, Machine, Metadata, Survey,
        windows::{self, Windows},
    },
    model::{ChosenMethod, Context, Discovery, Target},
    plan::HostChannel,
    probe::{self, metadata},
};

/// A longer file is no export of a few keys.
const MAX_EXPORT: u64 = 16 << 20;

/// What a machine told.
pub(super) struct Discovered {
    /// The machine whose files were read.
    pub(super) machine: Machine,
    /// What they say.
    pub(super) survey: Survey,
    /// Whether the host channel can be expected.
    has_host: bool,
    /// Whether nothing but exported settings is known of it, so that it tells nothing to probe.
    settings_only: bool,
    /// Whether it is worth showing: on a machine that has nothing to do with Azure it is not.
    shown: bool,
}

impl Discovered {
    /// Reads the machine that the options describe, or this one, and asks instance metadata where that is due.
    ///
    /// # Errors
    /// When the folder or the proxy that the options name cannot be used, or there is no event queue.
    pub(super) fn of(options: &Options) -> Result<Self, Stop> {
        let windows = exported(&options.windows_registry)?;
        let machine = match &options.root {
            Some(root) => below(root)?,
            // Exported files are another machine's, and in the lab nothing of this one is read.
            None if windows.is_some() || options.lab.is_some() => Machine::described(BTreeMap::new(), []),
            None => Machine::this(),
        };
        let azure = discover::is_azure(&machine) || windows.is_some();
        let metadata = ask(options, azure)?;
        let (explicit, no_proxy) = (request::explicit_proxy(options)?, options.no_proxy);
        let mut survey = match &windows {
            None => Survey::of(&machine, metadata, explicit, no_proxy),
            Some(windows) if options.root.is_none() => Survey::of_windows(windows, metadata, explicit, no_proxy),
            Some(windows) => {
                let explicit = explicit.into_iter().chain(windows.found.iter().cloned());
                let mut survey = Survey::of(&machine, metadata, explicit, no_proxy);
                windows::describe(&mut survey.discovery, windows);
                survey
            }
        };
        if let Some(method) = options.method {
            survey.discovery.method = Some(ChosenMethod { name: values::name(&method), because: "--method".into() });
        }
        let elsewhere = options.root.is_some() || windows.is_some();
        // Of another machine's host this one could not tell; the lab plays it.
        let has_host =
            if options.lab.is_some() { azure || survey.discovery.instance.is_some() } else { azure && !elsewhere };
        Ok(Self {
            has_host,
            shown: azure || elsewhere || options.imds.is_some(),
            settings_only: windows.is_some() && options.root.is_none() && options.imds.is_none(),
            machine,
            survey,
        })
    }

    /// The options with what was discovered where they leave it open.
    pub(super) fn fill(&self, given: Options) -> Options {
        let Discovery { instance, extension, method, .. } = &self.survey.discovery;
        let instance = instance.as_ref();
        let installed = extension.as_ref().and_then(|extension| Consumer::from_str(&extension.consumer, false).ok());
        let exported = (!given.windows_registry.is_empty()).then_some(Consumer::VmsnapshotWindows);
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
            consumer: given.consumer.or(exported).or(installed).or(by_system),
            method: given.method.or(method),
            ..given
        }
    }

    /// What to probe where nothing was named: the storage hosts that the machine's disks are known to be at. None of them
    /// may be known on a virtual machine of Azure, whose host channel can be asked all the same.
    ///
    /// # Errors
    /// When there is nothing at all: says what was looked at, what it gave, and what to give.
    pub(super) fn targets(&self, options: &Options) -> Result<Vec<Target>, Stop> {
        let ports = if options.ports.is_empty() { &DEFAULT_PORTS[..] } else { &options.ports };
        let hosts = discover::storage_hosts(&self.survey.discovery);
        let targets = hosts.iter().filter_map(|host| Target::parse(&host.to_string(), ports).ok()).flatten();
        let targets: Vec<Target> = targets.collect();
        // The host channel is worth asking by itself: in the default method it decides.
        let asks_host = !options.no_host && (self.has_host || options.host_endpoint.is_some());
        if targets.is_empty() && !asks_host { Err(nothing(&self.survey.discovery)) } else { Ok(targets) }
    }

    /// The same in the lab; `None`: what the scenario names.
    ///
    /// # Errors
    /// As [`Self::targets`].
    pub(super) fn targets_to_play(&self, options: &Options) -> Result<Option<Vec<Target>>, Stop> {
        if self.settings_only { Ok(None) } else { self.targets(options).map(Some) }
    }

    /// The host channel where it can be expected.
    pub(super) fn host(&self) -> Option<HostChannel> {
        self.has_host.then(HostChannel::default)
    }

    /// Puts into the context what reports show and the classifier judges.
    pub(super) fn describe(self, given: &Options, targets: &[Target], context: &mut Context) {
        if targets.is_empty() {
            context.notes.push(format!(
                "no storage host is known, so only the host channel was asked: the host of a managed disk is Azure's choice, and \
                 stands in the extension's log after a backup. To probe storage too, {}",
                what_to_give(&self.survey.discovery)
            ));
        }
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

/// Reads files that were exported on a Windows machine; `None`: there are none.
fn exported(paths: &[PathBuf]) -> Result<Option<Windows>, Stop> {
    if paths.is_empty() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for path in paths {
        let (name, mut bytes) = (path.display().to_string(), Vec::new());
        File::open(path)
            .and_then(|file| file.take(MAX_EXPORT + 1).read_to_end(&mut bytes))
            .map_err(|e| Stop::usage(format!("--windows-registry: cannot read {name}: {e}")))?;
        if bytes.len() as u64 > MAX_EXPORT {
            return Err(Stop::usage(format!(
                "--windows-registry: {name} is longer than 16 MiB; export no more than the Internet Settings of the system \
                 account"
            )));
        }
        files.push((name, bytes));
    }
    windows::read(&files).map(Some).map_err(|e| Stop::usage(format!("--windows-registry: {e}")))
}

/// Asks instance metadata, or says why not.
fn ask(options: &Options, azure: bool) -> Result<Metadata, Stop> {
    let at = options.imds.map_or(HostChannel::METADATA, |Endpoint(at)| at);
    let reason = if options.imds.is_some() {
        None
    } else if options.no_imds {
        Some("not asked, because of --no-imds")
    } else if options.root.is_some() {
        Some("not asked, because --root describes another machine; --imds says where")
    } else if !options.windows_registry.is_empty() {
        Some("not asked, because --windows-registry describes another machine; --imds says where")
    } else if options.lab.is_some() {
        Some("not asked in the lab; --imds says where")
    } else {
        (!azure).then_some("not asked, because nothing here shows a virtual machine of Azure")
    };
    let answer = if let Some(reason) = reason {
        Err(reason.to_owned())
    } else {
        let cannot = |e| Stop::CannotMeasure(format!("cannot ask instance metadata: {e}"));
        let runtime = probe::runtime().map_err(cannot)?;
        runtime.block_on(metadata::fetch(at, metadata::DEFAULT_BUDGET)).map_err(|e| e.to_string())
    };
    Ok(Metadata { origin: format!("instance metadata at {at}"), answer })
}

/// Nothing is known to probe: where that was looked for, and what helps.
fn nothing(discovery: &Discovery) -> Stop {
    let mut message =
        String::from("nothing to probe: no endpoint is named, and nothing on the machine names a storage host");
    for source in &discovery.sources {
        let gave = source.gave.as_deref().or(source.problem.as_deref()).unwrap_or("nothing of use");
        let _ = write!(message, "\n  {}: {gave}", source.origin);
        if let (Some(_), Some(problem)) = (&source.gave, &source.problem) {
            let _ = write!(message, "; {problem}");
        }
    }
    if discovery.instance.is_some() || discovery.extension.is_some() {
        message.push_str(
            "\nThe host of a managed disk is Azure's choice, and is told to nobody before a backup runs; afterwards it stands \
             in the extension's log.",
        );
    }
    let _ = write!(
        message,
        "\nTo go on, {}; to see what this does without a network: snapreach check --lab",
        what_to_give(discovery)
    );
    Stop::usage(message)
}

/// What to name in place of what is not known.
fn what_to_give(discovery: &Discovery) -> String {
    let region = discovery.instance.as_ref().map(|instance| instance.region.as_str());
    let region = region.filter(|region| !region.is_empty());
    let account = region.map_or_else(String::new, |region| format!(" (any account in {region} will do as a stand-in)"));
    format!(
        "give a TARGET (a host name or https://HOST[:PORT][/PATH]), --account NAME{account}, --disk URI or --targets FILE"
    )
}

/// The targets that the options name, else the discovered ones.
///
/// # Errors
/// When one cannot be used, or there is none.
pub(super) fn targets(options: &Options, found: &Discovered) -> Result<Vec<Target>, Stop> {
    let named = targets::resolve(options)?;
    if named.is_empty() { found.targets(options) } else { Ok(named) }
}
