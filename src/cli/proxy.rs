//! `snapreach proxy`: validate a forward proxy before rollout.

use std::{
    fs,
    future::Future,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    pin::pin,
};

use serde_json::json;

use super::{
    args::Proxy as Args,
    config,
    exit::{self, Stop},
    interrupt, nearest,
    output::{self, Outputs},
    progress::{self, CaseBar},
    scenarios,
    values::{Depth, Disks, Place},
};
use crate::{
    conformance::{
        self, Case, Comparison, Context, Level, Options, Origin, Profile, Progress, Request, Run, Validation,
        catalogue,
        report::{self, FORMATS, Report},
    },
    exchange::{Door, DoorKind, Places},
    lab::{Lab, OwnOrigin},
    model::{Observation, Secret},
    plan::{Budgets, Family, Proxy, Source, Trust},
    probe,
    report::{Format, Page, Paint, Style},
};

/// Ports of storage's, at which an origin is expected that is given without a port.
const STORAGE_PORTS: [u16; 3] = [443, 8443, 80];

/// Runs the command and gives its exit code.
///
/// # Errors
/// When the input cannot be used, or nothing can be measured.
pub(super) fn run(args: &Args) -> Result<u8, Stop> {
    let profile = profile(args)?;
    let wanted = wanted(args, &profile)?;
    if args.list {
        return list(args, &profile, &wanted);
    }
    let style = output::style(args.color, args.verbose);
    let mut outputs = Outputs::open(args.format, style, &args.output, None, &args.network.ca_file)?;
    outputs.only(&FORMATS, "a proxy has")?;
    let parties = parties(args)?;
    let setting = Setting::new(args, profile, wanted)?;
    let validations = measure(args, &parties, &setting)?;
    let comparison = match validations.as_slice() {
        [first, second] => Some(Comparison::new(first, second)),
        _ => None,
    };
    let interrupted = validations.iter().any(|validation| validation.context.interrupted);
    let (report, verdict) = match &comparison {
        Some(comparison) => (Report::Two(comparison), &comparison.verdict),
        None => (Report::One(&validations[0]), &validations[0].verdict),
    };
    let code = exit::of_verdict(verdict, interrupted, args.strict);
    let write = |format, style: &Style, out: &mut dyn Write| report::write(format, report, style, out);
    match outputs.write_with(write, write) {
        Ok(()) => Ok(code),
        // The verdict stands, also when it reached only some of its readers.
        Err(stop) => {
            output::say(&format!("error: {stop}"));
            Ok(exit::worst(code, stop.code()))
        }
    }
}

// ---- what is asked for

/// The profile, with what the command line says about it.
fn profile(args: &Args) -> Result<Profile, Stop> {
    let built_in = Profile::default();
    let mut profile = if args.profile == built_in.name { built_in } else { read_profile(Path::new(&args.profile))? };
    if let Some(disks) = args.disks {
        (profile.ports, profile.plain_ports) = match disks {
            Disks::Managed => (vec![443, 8443], Vec::new()),
            Disks::Unmanaged => (vec![443], Vec::new()),
            Disks::Unencrypted => (vec![443], vec![80]),
        };
    }
    profile.allow.extend(args.allow.iter().map(ToString::to_string));
    profile.deny.extend(args.deny.iter().map(ToString::to_string));
    profile.tunnels = args.tunnels.unwrap_or(profile.tunnels);
    Ok(profile)
}

fn read_profile(path: &Path) -> Result<Profile, Stop> {
    let text = fs::read_to_string(path).map_err(|e| {
        let near = nearest::of(&path.to_string_lossy(), &["azure-backup"]);
        let meant = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Stop::usage(format!("--profile {}: {e}{meant}; it is azure-backup, or a TOML file", path.display()))
    })?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Profile::parse(&name, &text).map_err(|e| {
        let meant = e.unknown.as_deref().map_or_else(String::new, |word| {
            let known: Vec<_> = conformance::names().collect();
            let meant = nearest::of(word, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!("{meant}; `snapreach proxy --list` lists all")
        });
        config::wrong(path, &text, e.at, &format!("{}{meant}", e.message))
    })
}

/// The ids of the cases that level and filters leave.
fn wanted(args: &Args, profile: &Profile) -> Result<Vec<&'static str>, Stop> {
    let chosen = |case: &&Case| args.filter.is_empty() || args.filter.iter().any(|pattern| matches(pattern, case.id));
    let deep_enough = |case: &&Case| match (args.level, profile.level(case.id, case.level)) {
        (Depth::Must, level) => level == Level::Must,
        (Depth::Should, level) => level <= Level::Should,
        (Depth::All, _) => true,
    };
    let wanted: Vec<_> = catalogue().filter(chosen).filter(deep_enough).map(|case| case.id).collect();
    if wanted.is_empty() {
        return Err(Stop::usage(
            "--filter and --level leave no case: `snapreach proxy --list` lists all; a pattern is the beginning of an id, \
             or has * for any text",
        ));
    }
    Ok(wanted)
}

/// Whether an id begins with the pattern; with `*`, whether all of it matches.
fn matches(pattern: &str, id: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return id.starts_with(pattern) };
    id.strip_prefix(head).is_some_and(|id| {
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        let after = parts.into_iter().try_fold(id, |id, part| Some(&id[id.find(part)? + part.len()..]));
        after.is_some_and(|after| after.ends_with(last))
    })
}

fn list(args: &Args, profile: &Profile, wanted: &[&str]) -> Result<u8, Stop> {
    let cases = || catalogue().filter(|case| wanted.contains(&case.id) && !profile.skips(case.id));
    match args.format {
        Format::Text => {
            let style = output::style(args.color, args.verbose);
            output::to_stdout(|out| {
                let page = &mut Page::new(out, style.width, style.color);
                for case in cases() {
                    let level = format!("  {}", profile.level(case.id, case.level));
                    page.pieces(&[(Paint::Good, case.id), (Paint::Quiet, &level)])?;
                    page.wrap("      ", 6, &format!("{} ({})", case.title, case.reference))?;
                }
                Ok(())
            })?;
        }
        Format::Json => {
            let cases: Vec<_> = cases()
                .map(|case| {
                    json!({
                        "id": case.id, "group": case.group(), "level": profile.level(case.id, case.level),
                        "reference": case.reference, "title": case.title,
                    })
                })
                .collect();
            output::print(&format!("{:#}\n", json!(cases)))?;
        }
        other => return Err(Stop::usage(format!("--list has no form as {other}: use text or json"))),
    }
    Ok(exit::CLEAR)
}

// ---- who plays the other parties

/// The embedded lab, as it plays one scenario.
struct Played {
    lab: Lab,
    proxy: Proxy,
}

impl Played {
    fn start(name: &str) -> Result<Self, Stop> {
        let scenario = scenarios::load(name)?;
        let lab = Lab::start(scenarios::lab_of(&scenario)?)
            .map_err(|e| Stop::CannotMeasure(format!("cannot start the lab: {e}")))?;
        let Some(proxy) = lab.network().proxy.clone() else {
            return Err(Stop::usage(format!("the scenario {name} has no proxy")));
        };
        Ok(Self { lab, proxy })
    }
}

/// A proxy, and who plays it.
enum Party {
    Lab(Box<Played>),
    Real(Proxy),
}

impl Party {
    fn proxy(&self) -> &Proxy {
        match self {
            Self::Lab(played) => &played.proxy,
            Self::Real(proxy) => proxy,
        }
    }
}

/// The proxies: one, or with `--vs` two.
fn parties(args: &Args) -> Result<Vec<Party>, Stop> {
    let parse = |what: &str, url: &Secret| url.expose().parse().map_err(|e| Stop::usage(format!("{what}: {e}")));
    if let Some(option) = args.network.unknown_to_the_lab().filter(|_| args.lab.is_some()) {
        return Err(Stop::usage(format!("{option} is for a real proxy: that of --lab is where it is")));
    }
    match &args.lab {
        Some(first) => [Some(first.as_str()), args.vs.as_ref().map(Secret::expose)]
            .into_iter()
            .flatten()
            .map(|name| Ok(Party::Lab(Box::new(Played::start(name)?))))
            .collect(),
        None => [("URL", &args.url), ("--vs", &args.vs)]
            .into_iter()
            .filter_map(|(what, url)| Some((what, url.as_ref()?)))
            .map(|(what, url)| Ok(Party::Real(parse(what, url)?)))
            .collect(),
    }
}

/// Where the addresses of a proxy are, or the lookup that did not tell.
type Located = Result<Vec<SocketAddr>, Box<Observation>>;

/// The addresses of a proxy of the family that counts.
async fn locate(party: &Party, source: &Source, budgets: &Budgets) -> Result<Located, Stop> {
    let proxy = party.proxy();
    let mut addresses = match conformance::locate(proxy, budgets.layer).await {
        Ok(addresses) => addresses,
        Err(lookup) => return Ok(Err(lookup)),
    };
    addresses.retain(|address| source.family.is_none_or(|family| Family::of(address.ip()) == family));
    if addresses.is_empty() {
        let family = if source.family == Some(Family::V6) { "IPv6" } else { "IPv4" };
        return Err(Stop::usage(format!(
            "the proxy {} has no {family} address, and only that family is asked for",
            proxy.url()
        )));
    }
    Ok(Ok(addresses))
}

/// The origin that all proxies lead to, unless the lab plays it.
struct Beyond {
    places: Places,
    origin: Origin,
    /// Kept for as long as it has to serve.
    _own: Option<OwnOrigin>,
}

impl Beyond {
    async fn new(args: &Args, proxies: &[SocketAddr], source: &Source, budgets: &Budgets) -> Result<Self, Stop> {
        if args.no_origin || proxies.is_empty() {
            return Ok(Self { places: Places::default(), origin: Origin::None, _own: None });
        }
        if let Some(place) = &args.lab_origin {
            let mut places = Self::elsewhere(place, budgets).await?;
            if let Some(name) = &args.origin_name {
                places.name = Some(name.0.clone());
            }
            let origin = Origin::Elsewhere { address: place.to_string(), ports: ports(&places, true) };
            return Ok(Self { places, origin, _own: None });
        }
        let addresses = match args.origin_listen.as_slice() {
            [] => Self::own_addresses(proxies, source)?,
            given => given.to_vec(),
        };
        let own = OwnOrigin::start(&addresses).map_err(|e| {
            Stop::CannotMeasure(format!("cannot start the origin on this machine: {e}; --lab-origin names another"))
        })?;
        let mut places = own.places().clone();
        places.name = args.origin_name.as_ref().map(|name| name.0.clone());
        let origin = Origin::Here { address: addresses[0].to_string(), ports: ports(&places, false) };
        Ok(Self { places, origin, _own: Some(own) })
    }

    /// Where all of the proxies can reach this machine: one that is on it itself can by every address.
    fn own_addresses(proxies: &[SocketAddr], source: &Source) -> Result<Vec<IpAddr>, Stop> {
        match proxies.iter().find(|proxy| !proxy.ip().is_loopback()) {
            None => Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
            Some(&proxy) => probe::facing(proxy, source).map(|address| vec![address]).map_err(|e| {
                Stop::CannotMeasure(format!("cannot find out by which address {proxy} reaches this machine: {e}"))
            }),
        }
    }

    async fn elsewhere(place: &Place, budgets: &Budgets) -> Result<Places, Stop> {
        let found = conformance::look_up(&place.host, budgets.layer).await.map_err(|_| {
            Stop::CannotMeasure(format!("the name of --lab-origin {place} cannot be looked up; give its address"))
        })?;
        let ports = place.port.map_or_else(|| STORAGE_PORTS.to_vec(), |port| vec![port]);
        let serves = |address| Door { address, kind: DoorKind::Serves };
        let doors = found.into_iter().flat_map(|ip| ports.iter().map(move |&port| serves(SocketAddr::new(ip, port))));
        let name = place.host.name().map(str::to_owned);
        Ok(Places { name, doors: doors.collect(), missing: Vec::new() })
    }
}

/// The ports at which the origin serves; without `all`, those of storage's alone.
fn ports(places: &Places, all: bool) -> Vec<u16> {
    let mut ports = Vec::new();
    for door in places.of(DoorKind::Serves) {
        if (all || STORAGE_PORTS.contains(&door.port())) && !ports.contains(&door.port()) {
            ports.push(door.port());
        }
    }
    ports
}

// ---- the run

/// What all proxies are asked, and from where.
struct Setting {
    profile: Profile,
    options: Options,
    wanted: Vec<&'static str>,
    trust: Trust,
    source: Source,
    budgets: Budgets,
}

impl Setting {
    fn new(args: &Args, profile: Profile, wanted: Vec<&'static str>) -> Result<Self, Stop> {
        Ok(Self {
            options: Options {
                idle: args.idle.0,
                lifetime: args.lifetime.0,
                tunnels: profile.tunnels,
                large: args.large.map_or(0, |size| size.0),
                ..Options::default()
            },
            profile,
            wanted,
            trust: args.network.trust()?,
            source: args.network.source()?,
            budgets: Budgets { connect: args.connect_timeout.0, layer: args.timeout.0, ..Budgets::default() },
        })
    }

    /// What is asked of a proxy at this address.
    fn request(&self, party: &Party, address: SocketAddr, beyond: &Beyond) -> Request {
        let (places, trust) = match party {
            Party::Lab(played) => {
                let network = played.lab.network();
                (network.places.clone(), Trust { lab: network.roots.clone(), ..Trust::default() })
            }
            Party::Real(_) => (beyond.places.clone(), self.trust.clone()),
        };
        Request {
            proxy: party.proxy().clone(),
            address: (address, address),
            places,
            profile: self.profile.clone(),
            options: self.options.clone(),
            wanted: self.wanted.clone(),
            trust,
            source: self.source.clone(),
            budgets: self.budgets.clone(),
        }
    }
}

/// Tries the proxies, one after the other, until all is done or the run is interrupted.
fn measure(args: &Args, parties: &[Party], setting: &Setting) -> Result<Vec<Validation>, Stop> {
    let runtime = probe::runtime().map_err(|e| cannot(&e))?;
    let mut interrupt = pin!(interrupt::listen());
    let bar = CaseBar::new(args.quiet);
    let result = runtime.block_on(async {
        let mut located = Vec::new();
        for party in parties {
            located.push(locate(party, &setting.source, &setting.budgets).await?);
        }
        let real = parties.iter().zip(&located).filter(|(party, _)| matches!(party, Party::Real(_)));
        let first: Vec<SocketAddr> = real.filter_map(|(_, located)| located.as_ref().ok()?.first().copied()).collect();
        let beyond = Beyond::new(args, &first, &setting.source, &setting.budgets).await?;
        let mut validations: Vec<Validation> = Vec::new();
        for (party, located) in parties.iter().zip(located) {
            if validations.last().is_some_and(|last| last.context.interrupted) {
                break;
            }
            let context = context(args, party, &setting.profile, &beyond);
            validations.push(match located {
                Err(lookup) => Validation::without_address(*lookup, context),
                Ok(addresses) => {
                    let requests = addresses.iter().map(|&address| setting.request(party, address, &beyond));
                    Validation::new(first_reached(requests, &bar, &mut interrupt).await?, context)
                }
            });
        }
        Ok(validations)
    });
    // A lookup that the system cannot cancel must not hold the report up.
    runtime.shutdown_background();
    result
}

fn cannot(e: &std::io::Error) -> Stop {
    Stop::CannotMeasure(format!("cannot measure: {e}"))
}

/// The run at the first address at which the proxy can be reached, else the last.
async fn first_reached(
    requests: impl Iterator<Item = Request>,
    bar: &CaseBar,
    interrupt: &mut (impl Future<Output = ()> + Unpin),
) -> Result<Run, Stop> {
    let mut last = None;
    for request in requests {
        let run = carry_out(request, bar, &mut *interrupt).await.map_err(|e| cannot(&e))?;
        if !run.is_unreachable() {
            return Ok(run);
        }
        last = Some(run);
    }
    last.ok_or_else(|| Stop::CannotMeasure("the proxy has no address".to_owned()))
}

async fn carry_out(request: Request, bar: &CaseBar, interrupt: impl Future<Output = ()>) -> std::io::Result<Run> {
    let progress = Progress::default();
    let mut run = pin!(conformance::run(request, &progress, interrupt));
    let mut redraw = tokio::time::interval(progress::INTERVAL);
    loop {
        tokio::select! {
            run = &mut run => return run,
            _ = redraw.tick() => bar.show(&progress),
        }
    }
}

fn context(args: &Args, party: &Party, profile: &Profile, beyond: &Beyond) -> Context {
    let proxy = party.proxy();
    Context {
        proxy: proxy.url(),
        login: proxy.credentials.is_some(),
        profile: profile.name.clone(),
        region: args.region.clone(),
        ports: profile.ports.clone(),
        origin: if matches!(party, Party::Lab(_)) { Origin::Lab } else { beyond.origin.clone() },
        lab: args.lab.clone(),
        ..Context::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_beginning_or_has_stars() {
        for (pattern, yes, no) in [
            ("connect", "connect/port-443", "errors/refused"),
            ("*/port-*", "connect/port-443", "connect/keep-alive"),
            ("*port*443", "connect/port-443", "connect/port-8444"),
            ("*", "a/b", ""),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(no.is_empty() || !matches(pattern, no), "{pattern} {no}");
        }
    }
}
