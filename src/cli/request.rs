//! From options to a plan.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use super::{
    discovery::{self, Discovered},
    exit::Stop,
    options::Options,
    targets,
    values::{self, Routes},
};
use crate::{
    discover::{self, Found, Machine},
    model::{Context, Route, Secret},
    plan::{Budgets, DialMap, Dns, HostChannel, NameServer, Plan, Proxy, Source, Trust},
    probe,
};

/// The plan of a run on the network, from options that were completed with what the machine told.
///
/// # Errors
/// When a value cannot be used, or nothing is known to probe.
pub(super) fn plan(options: &Options, found: Discovered) -> Result<Plan, Stop> {
    let mut added = Vec::new();
    for path in &options.ca_file {
        added.extend(probe::read_anchors(path).map_err(Stop::usage)?);
    }
    let no_proxy = found.survey.proxies.no_proxy.clone();
    let mut plan = Plan {
        targets: discovery::targets(options, &found)?,
        proxy: found.survey.proxies.chosen.clone(),
        dns: Dns {
            server: options.dns_server.map_or(NameServer::Configured, |server| NameServer::Given(server.0)),
            // Names are looked up on this machine, also for the files of another.
            pinned: discover::pinned(&Machine::this()),
            ..Dns::default()
        },
        dial: DialMap {
            hosts: options.connect_to.iter().map(|c| (c.host.clone(), c.port, c.to)).collect(),
            ..DialMap::default()
        },
        host: host(options, &found),
        trust: Trust { system: !options.no_system_roots, added, ..Trust::default() },
        controls: true,
        ..Plan::default()
    };
    found.describe(options, &plan.targets, &mut plan.context);
    plan.context.without_system_roots = options.no_system_roots;
    // The list is shown, so it must not be one in which somebody left credentials.
    if let Some(list) = no_proxy.filter(|list| !list.contains('@')) {
        plan.context
            .notes
            .push(format!("no_proxy is set to `{list}`; it is not applied, every route is probed as asked"));
    }
    complete(&mut plan, options)?;
    Ok(plan)
}

/// The host channel that the options name, else the one that can be expected; `--imds` and `--no-imds` hold for it too.
fn host(options: &Options, found: &Discovered) -> Option<HostChannel> {
    let named = options.host_endpoint.map(|endpoint| HostChannel::at(endpoint.0));
    let host = named.or_else(|| found.host())?;
    Some(match options.imds {
        Some(imds) => host.with_metadata(imds.0),
        None if options.no_imds => HostChannel { metadata: None, ..host },
        None => host,
    })
}

/// Puts into the plan of a scenario what a described machine told: the lab plays what that machine needs, its proxy at
/// `played`.
///
/// # Errors
/// When nothing is known to probe.
pub(super) fn play(
    plan: &mut Plan,
    options: &Options,
    found: Discovered,
    played: Option<SocketAddr>,
) -> Result<(), Stop> {
    if let Some(targets) = found.targets_to_play(options)? {
        plan.targets = targets;
    }
    // Another proxy than that of the machine's files is one of those that the lab plays too.
    if let (Some(named), Some(played)) = (&found.survey.proxies.chosen, played) {
        plan.dial.hosts.push((Some(named.host.clone()), Some(named.port), played));
    }
    plan.proxy.clone_from(&found.survey.proxies.chosen);
    plan.routes.clear();
    plan.host = plan.host.or_else(|| found.host());
    found.describe(options, &plan.targets, &mut plan.context);
    Ok(())
}

/// Proves the values that their own parsers let pass because they may hold secrets.
///
/// # Errors
/// When a target, a disk or the proxy cannot be used.
pub(super) fn check_values(options: &Options) -> Result<(), Stop> {
    let named = Options { targets: None, ..options.clone() };
    targets::resolve(&named)?;
    explicit_proxy(options).map(drop)
}

/// Puts into a plan, made here or by a scenario, what options of every run decide: routes, budgets, address family,
/// whether the host channel counts, and whose behaviour to predict. What the options leave open stays as it is.
///
/// # Errors
/// When a route through a proxy is asked for and there is none, or the source of connections is not this machine's.
pub(super) fn complete(plan: &mut Plan, options: &Options) -> Result<(), Stop> {
    if let Some(name) = &options.interface {
        check_interface(name)?;
    }
    if let Some(address) = options.bind {
        check_bind(address)?;
    }
    match (options.route, &plan.proxy) {
        (Some(Routes::Direct), _) => plan.routes = vec![Route::Direct],
        (Some(route @ (Routes::Proxy | Routes::Both)), None) => {
            return Err(no_proxy(route, &plan.context));
        }
        (Some(Routes::Proxy), Some(_)) => plan.routes = vec![Route::Proxy],
        (Some(Routes::Both), Some(_)) => plan.routes = vec![Route::Direct, Route::Proxy],
        (None, proxy) if plan.routes.is_empty() => {
            plan.routes.push(Route::Direct);
            plan.routes.extend(proxy.as_ref().map(|_| Route::Proxy));
        }
        (None, _) => {}
    }
    let Budgets { connect, layer, deadline, attempts, concurrency } = &mut plan.budgets;
    *connect = options.connect_timeout.map_or(*connect, |budget| budget.0);
    *layer = options.timeout.map_or(*layer, |budget| budget.0);
    *deadline = options.deadline.map_or(*deadline, |budget| budget.0);
    *attempts = options.attempts.unwrap_or(*attempts);
    *concurrency = options.concurrency.and_then(|n| usize::try_from(n).ok()).unwrap_or(*concurrency);
    let Source { family, bind, interface } = &mut plan.source;
    *family = options.family().or(*family);
    *bind = options.bind.or(*bind);
    *interface = options.interface.clone().or_else(|| interface.take());
    plan.trace |= options.trace;
    plan.host = plan.host.filter(|_| !options.no_host);

    let milliseconds = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let context = &mut plan.context;
    context.proxy = plan.proxy.as_ref().map(Proxy::url);
    context.routes.clone_from(&plan.routes);
    context.attempts = plan.budgets.attempts;
    context.connect_timeout_ms = milliseconds(plan.budgets.connect);
    context.timeout_ms = milliseconds(plan.budgets.layer);
    context.deadline_ms = milliseconds(plan.budgets.deadline);
    if let NameServer::Given(server) = plan.dns.server {
        context.dns_server = Some(server);
    }
    if let Some(consumer) = options.consumer {
        context.consumer = values::name(&consumer);
    }
    if let Some(method) = options.method {
        context.method = values::name(&method);
    }
    Ok(())
}

/// A route through a proxy was asked for, and nothing names a usable one.
fn no_proxy(route: Routes, context: &Context) -> Stop {
    let route = values::name(&route);
    if context.lab.is_some() {
        return Stop::usage(format!("--route {route} needs a proxy, and this scenario has none; leave --route out"));
    }
    let mut message = format!(
        "--route {route} needs a proxy, and neither --proxy nor waagent.conf, the environment or /etc/environment names a \
         usable one: give --proxy http://HOST:PORT"
    );
    for source in &context.proxy_sources {
        if let Some(problem) = &source.problem {
            let _ = write!(message, "\n  {}: {problem}", source.origin);
        }
    }
    Stop::usage(message)
}

/// The proxy of `--proxy`.
///
/// # Errors
/// When it cannot be used.
pub(super) fn explicit_proxy(options: &Options) -> Result<Option<Found>, Stop> {
    let parse = |text: &Secret| text.expose().parse::<Proxy>().map_err(|e| Stop::usage(format!("--proxy: {e}")));
    Ok(options.proxy.as_ref().map(parse).transpose()?.map(|proxy| Found::usable("--proxy", proxy)))
}

/// Whether connections can start at this address: whatever the reason, the option is what cannot be used.
pub(super) fn check_bind(address: IpAddr) -> Result<(), Stop> {
    std::net::TcpListener::bind((address, 0)).map(drop).map_err(|e| {
        Stop::usage(format!(
            "--bind {address}: {e}; give an address of this machine{}",
            own_addresses(address.is_ipv6())
        ))
    })
}

/// The addresses of one family that this machine has, for a message.
#[cfg(unix)]
fn own_addresses(v6: bool) -> String {
    let ip = |address: &nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()))).filter(|ip| ip.is_ipv6() == v6)
    };
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut own: Vec<_> = interfaces.filter_map(|i| i.address.as_ref().and_then(ip)).map(|ip| ip.to_string()).collect();
    own.dedup();
    if own.is_empty() { String::new() } else { format!("; there are: {}", own.join(", ")) }
}

#[cfg(not(unix))]
fn own_addresses(_: bool) -> String {
    String::new()
}

#[cfg(unix)]
pub(super) fn check_interface(name: &str) -> Result<(), Stop> {
    let error = |allowed: &str| Stop::usage(format!("there is no network interface `{name}`{allowed}"));
    let interfaces = nix::net::if_::if_nameindex()
        .map_err(|e| Stop::CannotMeasure(format!("cannot list the network interfaces: {e}")))?;
    let names: Vec<_> = interfaces.iter().map(|i| i.name().to_string_lossy().into_owned()).collect();
    if names.iter().any(|known| known == name) {
        Ok(())
    } else {
        Err(error(&format!("; there are: {}", names.join(", "))))
    }
}

#[cfg(not(unix))]
pub(super) fn check_interface(_: &str) -> Result<(), Stop> {
    Err(Stop::usage("--interface works on Linux only; choose the way with --bind ADDR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(toml: &str) -> Options {
        toml::from_str::<Options>(toml).unwrap()
    }

    /// The plan on a machine that has nothing to tell.
    fn plan(given: &Options) -> Result<Plan, Stop> {
        let root = tempfile::tempdir().unwrap();
        let given = Options { root: Some(root.path().into()), ..given.clone() };
        let found = Discovered::of(&given)?;
        super::plan(&found.fill(given).with_defaults(), found)
    }

    #[test]
    fn a_plan_holds_what_the_options_say() {
        let plan = plan(&options(
            "target = [\"h.example\"]\nports = [443]\nproxy = \"http://svc:pw@proxy:3128\"\nattempts = 2\n\
             connect_timeout = \"250ms\"\nconnect_to = [\"h.example::127.0.0.1:1\"]\ndns_server = \"127.0.0.1:5353\"\n\
             bind = \"127.0.0.1\"\nhost_endpoint = \"10.0.0.3\"\ninterface = \"lo\"\nregion = \"westeurope\"\ntrace = true",
        ))
        .unwrap();
        assert_eq!(plan.routes, [Route::Direct, Route::Proxy]);
        assert_eq!(plan.dial.for_host(&plan.targets[0].host, 443), Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(plan.dns.server, NameServer::Given("127.0.0.1:5353".parse().unwrap()));
        assert_eq!(plan.source.family, Some(crate::plan::Family::V4));
        assert!(plan.trust.system && plan.controls && plan.trace);
        assert_eq!(plan.host.unwrap().host_plugin, "10.0.0.3:32526".parse().unwrap());
        let context = &plan.context;
        assert_eq!(context.proxy_sources[0].origin, "--proxy");
        assert_eq!(context.proxy.as_deref(), Some("http://proxy:3128"));
        assert_eq!((context.attempts, context.connect_timeout_ms, context.deadline_ms), (2, 250, 60_000));
        assert_eq!((context.cloud.as_str(), context.method.as_str()), ("public", "firstHostThenGuest"));
        assert_eq!(context.region.as_deref(), Some("westeurope"));
    }

    #[test]
    fn routes_follow_the_proxy_unless_asked_otherwise() {
        let routes = |toml: &str| plan(&options(&format!("target = [\"tcp://h:1\"]\n{toml}"))).map(|plan| plan.routes);
        let proxy = "proxy = \"http://proxy:3128\"\n";
        assert_eq!(routes(&format!("{proxy}route = \"proxy\"")).unwrap(), [Route::Proxy]);
        assert_eq!(routes("no_proxy = true").unwrap(), [Route::Direct]);
        let error = routes("no_proxy = true\nroute = \"proxy\"").unwrap_err().to_string();
        assert!(error.contains("needs a proxy"), "{error}");
    }

    #[test]
    fn a_missing_proxy_names_the_unusable_ones() {
        let mut plan = Plan::default();
        plan.context.proxy_sources.push(Found::unusable("/etc/waagent.conf", "line 3: no port").source);
        let asked: Options = toml::from_str("route = \"both\"").unwrap();
        let error = complete(&mut plan, &asked).unwrap_err().to_string();
        assert!(error.contains("--route both") && error.contains("/etc/waagent.conf: line 3: no port"), "{error}");
        plan.context.lab = Some("healthy".into());
        assert!(complete(&mut plan, &asked).unwrap_err().to_string().contains("this scenario has none"));
    }

    #[test]
    fn a_scenario_keeps_what_the_options_leave_open() {
        let mut plan = Plan { routes: vec![Route::Proxy], ..Plan::default() };
        plan.budgets.attempts = 7;
        plan.context.method = "onlyHost".into();
        plan.host = Some(HostChannel::default());
        let given: Options = toml::from_str("timeout = \"1s\"").unwrap();
        complete(&mut plan, &given).unwrap();
        assert_eq!((plan.routes.as_slice(), plan.budgets.attempts), (&[Route::Proxy][..], 7));
        assert_eq!((plan.context.attempts, plan.context.timeout_ms), (7, 1000));
        assert_eq!(plan.context.method, "onlyHost");
        assert!(plan.host.is_some());
        complete(&mut plan, &toml::from_str("no_host = true").unwrap()).unwrap();
        assert!(plan.host.is_none());
    }

    #[test]
    fn nothing_to_probe_says_what_to_give() {
        let error = plan(&options("")).unwrap_err().to_string();
        assert!(
            ["TARGET", "--account", "--disk", "--targets", "--lab"].iter().all(|part| error.contains(part)),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_interface_is_refused() {
        let error = plan(&options("target = [\"h\"]\ninterface = \"nosuch0\"")).unwrap_err().to_string();
        assert!(error.contains("nosuch0") && error.contains("lo"), "{error}");
    }
}
