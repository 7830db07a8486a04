//! `snapreach proxy`: validate a forward proxy before rollout.

use std::{
    fmt::Write as _,
    future::Future,
    io::Write,
    net::{IpAddr, SocketAddr},
    pin::pin,
};

use serde_json::json;

use super::{
    args::Proxy as Args,
    exit::{self, Stop},
    interrupt,
    output::{self, Outputs},
    progress::{self, CaseBar},
    request, scenarios,
    values::{Depth, Disks},
};
use crate::{
    conformance::{
        self, Case, Context, Level, Options, Origin, Profile, Progress, Request, Validation, catalogue,
        report::{self, FORMATS},
    },
    exchange::{Door, DoorKind, Places},
    lab::Lab,
    model::{Host, Secret},
    plan::{Budgets, Family, Proxy, Source, Trust},
    probe,
    report::{Format, Style},
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
    let mut outputs = Outputs::open(args.format, style, &args.output, None, &args.ca_file)?;
    if let Some(other) = outputs.formats().find(|format| !FORMATS.contains(format)) {
        return Err(Stop::usage(format!(
            "a proxy has no report as {other}: use {}",
            FORMATS.map(Format::as_str).join(", ")
        )));
    }
    let party = party(args)?;
    let request = request(args, &party, profile, wanted)?;
    let context = context(args, &party, &request);
    let validation = measure(args, &party, request, context)?;
    let code = exit::of_verdict(&validation.verdict, validation.context.interrupted, args.strict);
    let write = |format, style: &Style, out: &mut dyn Write| report::write(format, &validation, style, out);
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
    let mut profile = Profile::load(&args.profile).map_err(Stop::usage)?;
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
            let mut text = String::new();
            for case in cases() {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "{:<34} {:<6}  {}\n{:43}{}",
                    case.id,
                    profile.level(case.id, case.level),
                    case.title,
                    "",
                    case.reference
                );
            }
            output::print(&text)?;
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

/// Proxy and origin.
enum Party {
    /// The embedded lab.
    Lab(Lab),
    /// A real proxy, and an origin that is not the lab's.
    Real { proxy: Proxy },
}

fn party(args: &Args) -> Result<Party, Stop> {
    let Some(name) = &args.lab else {
        let url = args.url.as_ref().map_or("", Secret::expose);
        let proxy = url.parse().map_err(|e| Stop::usage(format!("URL: {e}")))?;
        return Ok(Party::Real { proxy });
    };
    let scenario = scenarios::load(name)?;
    let lab = Lab::start(scenarios::lab_of(&scenario)?)
        .map_err(|e| Stop::CannotMeasure(format!("cannot start the lab: {e}")))?;
    if lab.network().proxy.is_none() {
        return Err(Stop::usage(format!("the scenario {name} has no proxy")));
    }
    Ok(Party::Lab(lab))
}

fn request(args: &Args, party: &Party, profile: Profile, wanted: Vec<&'static str>) -> Result<Request, Stop> {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(Family::V4),
        (_, true) => Some(Family::V6),
        _ => args.bind.map(Family::of),
    };
    let budgets = Budgets { connect: args.connect_timeout.0, layer: args.timeout.0, ..Budgets::default() };
    let options = Options {
        idle: args.idle.0,
        lifetime: args.lifetime.0,
        tunnels: profile.tunnels,
        large: args.large.map_or(0, |size| size.0),
        ..Options::default()
    };
    if let Some(address) = args.bind {
        request::check_bind(address)?;
    }
    if let Some(name) = &args.interface {
        request::check_interface(name)?;
    }
    let mut added = Vec::new();
    for path in &args.ca_file {
        added.extend(probe::read_anchors(path).map_err(Stop::usage)?);
    }
    let (proxy, address, places, trust) = match party {
        Party::Lab(lab) => {
            let network = lab.network();
            let Some(proxy) = network.proxy.clone() else { unreachable!("checked when the lab was started") };
            let Host::Ip(ip) = proxy.host else { unreachable!("the lab's proxy has an address") };
            let socket = SocketAddr::new(ip, proxy.port);
            (proxy, socket, network.places.clone(), Trust { lab: network.roots.clone(), ..Trust::default() })
        }
        Party::Real { proxy } => {
            let unknown = SocketAddr::new(IpAddr::from([0; 4]), proxy.port);
            let trust = Trust { system: !args.no_system_roots, added, ..Trust::default() };
            (proxy.clone(), unknown, places(args)?, trust)
        }
    };
    Ok(Request {
        proxy,
        address: (address, address),
        places,
        profile,
        options,
        wanted,
        trust,
        source: Source { family, bind: args.bind, interface: args.interface.clone() },
        budgets,
    })
}

/// Where the origin is that the command line names.
fn places(args: &Args) -> Result<Places, Stop> {
    let Some(place) = &args.lab_origin else { return Ok(Places::default()) };
    let Host::Ip(ip) = place.host else {
        return Err(Stop::usage(format!("--lab-origin {place}: give an address")));
    };
    let ports = place.port.map_or_else(|| STORAGE_PORTS.to_vec(), |port| vec![port]);
    let doors = ports.into_iter().map(|port| Door { address: SocketAddr::new(ip, port), kind: DoorKind::Serves });
    Ok(Places { doors: doors.collect(), ..Places::default() })
}

fn context(args: &Args, party: &Party, request: &Request) -> Context {
    let ports = || {
        let mut ports: Vec<_> = request.places.of(DoorKind::Serves).map(|door| door.port()).collect();
        ports.retain(|port| STORAGE_PORTS.contains(port) || args.lab_origin.is_some());
        ports.dedup();
        ports
    };
    let origin = match (party, &args.lab_origin) {
        (Party::Lab(_), _) => Origin::Lab,
        (_, Some(place)) => Origin::Elsewhere { address: place.to_string(), ports: ports() },
        _ => Origin::None,
    };
    Context {
        proxy: request.proxy.url(),
        login: request.proxy.credentials.is_some(),
        profile: request.profile.name.clone(),
        region: args.region.clone(),
        ports: request.profile.ports.clone(),
        origin,
        lab: args.lab.clone(),
        ..Context::default()
    }
}

// ---- the run

/// Tries the proxy until it is done or interrupted.
fn measure(args: &Args, party: &Party, mut request: Request, context: Context) -> Result<Validation, Stop> {
    let cannot = |e: std::io::Error| Stop::CannotMeasure(format!("cannot measure: {e}"));
    let runtime = probe::runtime().map_err(cannot)?;
    let mut interrupt = pin!(interrupt::listen());
    let bar = CaseBar::new(args.quiet);
    let result = runtime.block_on(async {
        let mut addresses = vec![request.address.0];
        if let Party::Real { proxy } = party {
            match conformance::locate(proxy, request.budgets.layer).await {
                Ok(found) => addresses = found,
                Err(lookup) => return Ok(Validation::unreachable(*lookup, context)),
            }
            let family = request.source.family;
            addresses.retain(|address| family.is_none_or(|family| Family::of(address.ip()) == family));
        }
        let Some(last) = addresses.pop() else {
            return Err(Stop::usage(format!(
                "the proxy {} has no address of the family asked for",
                request.proxy.host
            )));
        };
        for address in addresses {
            request.address = (address, address);
            let run = carry_out(request.clone(), &bar, &mut interrupt).await.map_err(cannot)?;
            if run.unreachable.is_none() {
                return Ok(Validation::new(run, context));
            }
        }
        request.address = (last, last);
        Ok(Validation::new(carry_out(request, &bar, &mut interrupt).await.map_err(cannot)?, context))
    });
    // A lookup that the system cannot cancel must not hold the report up.
    runtime.shutdown_background();
    result
}

async fn carry_out(
    request: Request,
    bar: &CaseBar,
    interrupt: impl Future<Output = ()>,
) -> std::io::Result<conformance::Run> {
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
