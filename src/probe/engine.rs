//! Drives the plan: lookups, then walks, a bounded number at once, each attempt as soon as it makes sense.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    future::{Future, pending},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use nix::unistd::geteuid;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Progress,
    controls::{self, Connects},
    handshake::Tls,
    limits::{self, Room},
    net,
    recorder::Recorder,
    resolve, trace,
    walk::{Course, Goal, Shared, walk},
};
use crate::{
    exchange::{self, Exchange},
    model::{
        Control, FailureKind, Host, HostsOverride, Layer, Leg, NotRun, Observation, Record, ResolverView, Route,
        Scheme, Step, ToolInfo,
    },
    plan::{Family, HOSTS_FILE, HostChannel, NameServer, Pinned, Plan, SystemResolver, Trust},
};

/// An attempt that takes longer than this does not hold up the next one on the same address.
const STAGGER: Duration = Duration::from_millis(250);

/// Controls per run: they explain, and one explanation per cause is enough.
const MAX_CONTROLS: usize = 64;

/// Traces per run: each takes seconds, and failures on one path end at one place.
const MAX_TRACES: usize = 16;

/// Traces at once: routers limit how many errors they send.
const TRACES_AT_ONCE: usize = 4;

/// Walks that are started before the event loop looks at its sockets again.
const BURST: usize = 128;

pub(super) async fn run(plan: Plan, progress: &Progress, interrupt: impl Future<Output = ()>) -> io::Result<Record> {
    let mut engine = Engine::new(plan)?;
    engine.plan_host_channel();
    engine.plan_lookups();
    engine.drive(progress, interrupt).await;
    Ok(engine.into_record())
}

struct Engine {
    shared: Arc<Shared>,
    started_at: OffsetDateTime,
    name_server: Option<SocketAddr>,
    hosts: Vec<Lookup>,
    series: Vec<Series>,
    lookups: VecDeque<(usize, ResolverView)>,
    walks: VecDeque<(usize, u16, Option<Control>)>,
    /// Attempts that start at a time even if the one before is still under way; in order, as the delay is constant.
    staggered: VecDeque<(Instant, usize, u16)>,
    running: JoinSet<Done>,
    lookups_running: usize,
    room: Room,
    controls: usize,
    /// Of this run.
    nonce: u64,
    /// Whether failed connects are still to be traced, once everything else is done.
    trace: bool,
    /// How many sockets one trace may hold at once.
    trace_sockets: usize,
    proxy_scheme_asked: bool,
    interrupted: bool,
    failed: u32,
    notes: Vec<String>,
    not_run: Vec<(Goal, NotRun)>,
    observations: Vec<(Key, Observation)>,
}

/// Order of observations in the record: lookups first, then walks by target, then the host channel.
type Key = (u8, usize, u8, usize, bool, u16);

/// One host that needs addresses, and who waits for them.
struct Lookup {
    host: Host,
    route: Route,
    /// Targets and the port to dial for each.
    waiting: Vec<(usize, u16)>,
    system: View,
    server: View,
}

#[derive(PartialEq)]
enum View {
    Off,
    Pending,
    Found(Vec<IpAddr>),
    Failed,
}

/// All attempts on one target over one route at one address.
struct Series {
    goal: Goal,
    route: Route,
    peer: SocketAddr,
    dialled: SocketAddr,
    /// Key of the lookup that found the address.
    parent: Option<Key>,
    /// What to try there.
    exchange: Option<Exchange>,
    queued: u16,
    control_asked: bool,
    /// Whether an attempt got no connection out of the network, and whether one got one.
    unreached: bool,
    connected: bool,
}

/// What a task did.
enum Work {
    Resolve { host: usize, view: ResolverView },
    Walk { series: usize, attempt: u16, control: Option<Control> },
}

struct Done {
    work: Work,
    steps: Vec<Step>,
    addresses: Option<Vec<IpAddr>>,
}

impl Engine {
    fn new(mut plan: Plan) -> io::Result<Self> {
        // Tens of thousands are normal, and what a growing list left over would be held for the whole run.
        plan.targets.shrink_to_fit();
        if let Some(interface) = &plan.source.interface {
            net::interface_exists(interface).map_err(|e| named(&e, &format!("cannot use interface `{interface}`")))?;
        }
        if let Some(bind) = plan.source.bind {
            net::can_bind(bind).map_err(|e| named(&e, &format!("cannot use {bind} as source address")))?;
        }
        for exchange in &plan.exchanges {
            exchange.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("cannot try {e}")))?;
        }
        let mut notes = Vec::new();
        let needs_tls = plan.targets.iter().any(|target| target.scheme.has_tls()) || plan.proxy.is_some();
        let (tls, tls_notes) = if needs_tls { Tls::new(&plan.trust)? } else { Tls::new(&Trust::default())? };
        notes.extend(tls_notes);
        let mut room = limits::raise();
        if room.walks < plan.budgets.concurrency {
            notes.push(format!(
                "concurrency lowered from {} to {}: the limit of open files of this process allows no more",
                plan.budgets.concurrency, room.walks
            ));
        }
        room.walks = plan.budgets.concurrency.clamp(1, room.walks);
        room.lookups = room.lookups.min(room.walks);
        let name_server = match plan.dns.server {
            NameServer::Given(server) => Some(server),
            NameServer::Off => None,
            NameServer::Configured => configured_name_server(),
        };
        let redactor = Arc::new(plan.redactor());
        let trace = plan.trace;
        let host = plan.host.iter().flat_map(HostChannel::questions).collect();
        let shared = Shared { plan, host, tls: Arc::new(tls), redactor, halt: Arc::default(), epoch: Instant::now() };
        Ok(Self {
            shared: Arc::new(shared),
            started_at: OffsetDateTime::now_utc(),
            name_server,
            hosts: Vec::new(),
            series: Vec::new(),
            lookups: VecDeque::new(),
            walks: VecDeque::new(),
            staggered: VecDeque::new(),
            running: JoinSet::new(),
            lookups_running: 0,
            room,
            controls: 0,
            nonce: uuid::Uuid::new_v4().as_u64_pair().0,
            trace,
            trace_sockets: 1,
            proxy_scheme_asked: false,
            interrupted: false,
            failed: 0,
            notes,
            not_run: Vec::new(),
            observations: Vec::new(),
        })
    }

    // ---- planning

    /// Directly, whatever the routes of the targets: a proxy's answer would be about the proxy's own host.
    fn plan_host_channel(&mut self) {
        let shared = self.shared.clone();
        for (index, (_, target)) in shared.host.iter().enumerate() {
            if let Host::Ip(ip) = target.host {
                self.add_address(Goal::Host(index), Route::Direct, SocketAddr::new(ip, target.port), None);
            }
        }
    }

    /// One lookup per name and route; addresses that are known already become walks at once.
    fn plan_lookups(&mut self) {
        let shared = self.shared.clone();
        let plan = &shared.plan;
        let mut by_name: HashMap<&Host, usize> = HashMap::new();
        self.series.reserve_exact(plan.targets.len() * plan.routes.len());
        self.walks.reserve_exact(plan.targets.len() * plan.routes.len());
        for &route in &plan.routes {
            by_name.clear();
            for (index, target) in plan.targets.iter().enumerate() {
                let (host, port) = match (route, &plan.proxy) {
                    (Route::Direct, _) => (&target.host, target.port),
                    (Route::Proxy, Some(proxy)) => (&proxy.host, proxy.port),
                    (Route::Proxy, None) => continue,
                };
                let goal = Goal::Target(index);
                if let Some(to) = plan.dial.for_host(host, port) {
                    if self.fits(goal, route, to.ip()) {
                        self.add_series(goal, route, to, to, None);
                    }
                } else if let Host::Ip(ip) = host {
                    self.add_address(goal, route, SocketAddr::new(*ip, port), None);
                } else {
                    let at = *by_name.entry(host).or_insert_with(|| {
                        self.hosts.push(Lookup {
                            host: host.clone(),
                            route,
                            waiting: Vec::new(),
                            system: View::Pending,
                            server: if self.name_server.is_some() { View::Pending } else { View::Off },
                        });
                        self.hosts.len() - 1
                    });
                    self.hosts[at].waiting.push((index, port));
                }
            }
        }
        // One allocation in place of a growing one, as there may be tens of thousands.
        self.observations.reserve_exact(self.series.len() * usize::from(plan.budgets.attempts) + self.hosts.len() * 2);
        for (host, lookup) in self.hosts.iter().enumerate() {
            self.lookups.push_back((host, ResolverView::System));
            if lookup.server == View::Pending {
                self.lookups.push_back((host, ResolverView::Server));
            }
        }
    }

    /// Whether an address is of the family asked for; what is left out is noted.
    fn fits(&mut self, goal: Goal, route: Route, ip: IpAddr) -> bool {
        let fits = self.shared.plan.source.family.is_none_or(|only| only == Family::of(ip));
        if !fits {
            self.leave_out(goal, route, format!("{ip} is not of the address family asked for"), false);
        }
        fits
    }

    fn add_address(&mut self, goal: Goal, route: Route, peer: SocketAddr, parent: Option<Key>) {
        if !self.fits(goal, route, peer.ip()) {
            return;
        }
        let dialled = self.shared.plan.dial.for_address(peer);
        self.add_series(goal, route, peer, dialled, parent);
    }

    fn add_series(&mut self, goal: Goal, route: Route, peer: SocketAddr, dialled: SocketAddr, parent: Option<Key>) {
        let shared = self.shared.clone();
        let plan = &shared.plan;
        let exchanges = plan.exchanges.iter().copied().filter(|_| match goal {
            Goal::Target(target) => plan.targets[target].scheme == Scheme::Tcp,
            Goal::Host(_) => false,
        });
        let mut exchanges = exchanges.map(Some).peekable();
        // Most targets are walked as their scheme says: that is the one series without an exchange.
        let none = exchanges.peek().is_none().then_some(None);
        for exchange in exchanges.chain(none) {
            let series = self.series.len();
            self.series.push(Series {
                goal,
                route,
                peer,
                dialled,
                parent,
                exchange,
                queued: 1,
                control_asked: false,
                unreached: false,
                connected: false,
            });
            self.walks.push_back((series, 1, None));
        }
    }

    fn leave_out(&mut self, goal: Goal, route: Route, reason: String, deadline: bool) {
        let subject = self.shared.target(goal).authority();
        // The host channel belongs to no route of the targets.
        let route = matches!(goal, Goal::Target(_)).then_some(route);
        self.not_run.push((goal, NotRun { subject, route, reason, deadline }));
    }

    // ---- driving

    async fn drive(&mut self, progress: &Progress, interrupt: impl Future<Output = ()>) {
        let shared = self.shared.clone();
        let deadline = sleep_until(shared.epoch + shared.plan.budgets.deadline);
        tokio::pin!(deadline, interrupt);
        loop {
            self.start();
            if self.running.is_empty() && self.walks.is_empty() && self.lookups.is_empty() && self.staggered.is_empty()
            {
                self.plan_traces();
                if self.walks.is_empty() {
                    return;
                }
                continue;
            }
            let halted = shared.halt.is_halted();
            let full = self.walks_running() >= self.room.walks;
            let next = self.staggered.front().map(|&(at, _, _)| at).filter(|_| !full);
            let more = !full && !self.walks.is_empty();
            tokio::select! {
                Some(done) = self.running.join_next() => {
                    if let Ok(done) = done {
                        self.take(done);
                    }
                    while let Some(done) = self.running.try_join_next() {
                        if let Ok(done) = done {
                            self.take(done);
                        }
                    }
                }
                () = wait_until(next) => self.start_staggered(),
                () = &mut deadline, if !halted => shared.halt.halt(),
                () = &mut interrupt, if !halted => {
                    self.interrupted = true;
                    shared.halt.halt();
                }
                () = tokio::task::yield_now(), if more => {}
            }
            progress.planned.store(self.planned(), Relaxed);
            progress.failed.store(self.failed, Relaxed);
            progress.done.store(u32::try_from(self.observations.len()).unwrap_or(u32::MAX), Relaxed);
        }
    }

    fn planned(&self) -> u32 {
        let attempts = usize::from(self.shared.plan.budgets.attempts);
        u32::try_from(self.series.len() * attempts + self.hosts.len() * 2).unwrap_or(u32::MAX)
    }

    /// Starts what may start now.
    fn start(&mut self) {
        if self.shared.halt.is_halted() {
            self.lookups.clear();
            self.walks.clear();
            self.staggered.clear();
            return;
        }
        // Lookups go first: they decide how much else there is to do.
        while self.lookups_running < self.room.lookups {
            let Some((host, view)) = self.lookups.pop_front() else { break };
            self.start_lookup(host, view);
        }
        for _ in 0..BURST {
            if self.walks_running() >= self.room.walks {
                return;
            }
            let Some((series, attempt, control)) = self.walks.pop_front() else { return };
            self.start_walk(series, attempt, control);
        }
    }

    fn walks_running(&self) -> usize {
        self.running.len().saturating_sub(self.lookups_running)
    }

    fn start_walk(&mut self, series: usize, attempt: u16, control: Option<Control>) {
        let shared = self.shared.clone();
        let Series { goal, route, peer, dialled, exchange, .. } = self.series[series];
        let exchange = exchange.map(|exchange| (exchange, self.seed(series, attempt)));
        let sockets = if control == Some(Control::Trace) { self.trace_sockets } else { 1 };
        if control.is_none() && attempt < shared.plan.budgets.attempts {
            self.staggered.push_back((Instant::now() + STAGGER, series, attempt));
        }
        // Made out here: inside, the task would hold its parts as well as the whole.
        let course = Course { goal, route, peer, dialled, control, exchange, sockets };
        self.running.spawn(async move {
            let steps = walk(&shared, &course).await;
            Done { work: Work::Walk { series, attempt, control: course.control }, steps, addresses: None }
        });
    }

    /// Of the bytes of an exchange: its own for every attempt of every run, and the same for a [`Control::Recall`].
    fn seed(&self, series: usize, attempt: u16) -> u64 {
        exchange::mix(self.nonce ^ ((series as u64) << 16) ^ u64::from(attempt))
    }

    fn start_staggered(&mut self) {
        let now = Instant::now();
        while let Some(&(at, series, attempt)) = self.staggered.front() {
            if at > now {
                return;
            }
            self.staggered.pop_front();
            self.queue_next(series, attempt);
        }
    }

    /// Queues the attempt after `attempt`, unless it is queued already.
    fn queue_next(&mut self, series: usize, attempt: u16) {
        let attempts = self.shared.plan.budgets.attempts;
        let state = &mut self.series[series];
        if state.queued == attempt && attempt < attempts {
            state.queued += 1;
            self.walks.push_back((series, attempt + 1, None));
        }
    }

    fn start_lookup(&mut self, host: usize, view: ResolverView) {
        self.lookups_running += 1;
        let shared = self.shared.clone();
        let name = self.hosts[host].host.to_string();
        let server = match (view, shared.plan.dns.system) {
            (ResolverView::Server, _) => self.name_server,
            (ResolverView::System, SystemResolver::Stub(server)) => Some(server),
            (ResolverView::System, SystemResolver::Os) => None,
        };
        let pinned = match view {
            ResolverView::System => shared.plan.dns.pinned.get(&name).map(|pinned| pinned.addresses.clone()),
            ResolverView::Server => None,
        };
        // getaddrinfo reads the hosts file by itself, and may be told not to (nsswitch.conf).
        let by_file = pinned.is_some() && shared.plan.dns.system != SystemResolver::Os;
        let leg = match self.hosts[host].route {
            Route::Direct => Leg::Origin,
            Route::Proxy => Leg::Proxy,
        };
        self.running.spawn(async move {
            let mut recorder = Recorder::new(shared.epoch, shared.redactor.clone(), shared.halt.clone());
            let budget = shared.plan.budgets.layer;
            let shown = server.filter(|_| view == ResolverView::Server);
            let mut attempt = resolve::Attempt::new(view, shown, pinned.unwrap_or_default());
            let addresses = recorder
                .step(leg, budget, &mut attempt, async |attempt: &mut resolve::Attempt| match server {
                    _ if by_file => resolve::pinned(attempt),
                    Some(server) => resolve::server(attempt, &name, server, &shared.plan.source, budget).await,
                    None => resolve::system(attempt, &name).await,
                })
                .await
                .ok();
            Done { work: Work::Resolve { host, view }, steps: recorder.into_steps(), addresses }
        });
    }

    // ---- taking results

    fn take(&mut self, done: Done) {
        match done.work {
            Work::Resolve { host, view } => self.take_lookup(host, view, done.steps, done.addresses),
            Work::Walk { series, attempt, control } => self.take_walk(series, attempt, control, done.steps),
        }
    }

    fn take_lookup(&mut self, host: usize, view: ResolverView, steps: Vec<Step>, addresses: Option<Vec<IpAddr>>) {
        self.lookups_running = self.lookups_running.saturating_sub(1);
        let lookup = &mut self.hosts[host];
        let (state, order) = match view {
            ResolverView::System => (&mut lookup.system, 0),
            ResolverView::Server => (&mut lookup.server, 1),
        };
        *state = addresses.map_or(View::Failed, View::Found);
        let observation = Observation {
            id: 0,
            parent: None,
            subject: lookup.host.to_string().into(),
            route: lookup.route,
            attempt: 1,
            address: None,
            control: None,
            host_service: None,
            steps,
        };
        self.observations.push((lookup_key(host, order), observation));
        self.release(host);
    }

    /// Turns addresses into walks: the system's, as the extension sees them; the name server's where the system has
    /// none, so that the diagnosis can go on.
    fn release(&mut self, host: usize) {
        let lookup = &mut self.hosts[host];
        if lookup.waiting.is_empty() {
            return;
        }
        let (addresses, order) = match (&lookup.system, &lookup.server) {
            (View::Found(addresses), _) => (addresses.clone(), 0),
            (View::Failed, View::Found(addresses)) => (addresses.clone(), 1),
            (View::Failed, View::Failed | View::Off) => {
                lookup.waiting.clear();
                return;
            }
            _ => return,
        };
        let route = lookup.route;
        let family = self.shared.plan.source.family;
        let usable: Vec<IpAddr> =
            addresses.iter().copied().filter(|ip| family.is_none_or(|only| only == Family::of(*ip))).collect();
        for (target, port) in std::mem::take(&mut lookup.waiting) {
            for ip in &usable {
                self.add_address(
                    Goal::Target(target),
                    route,
                    SocketAddr::new(*ip, port),
                    Some(lookup_key(host, order)),
                );
            }
            if usable.is_empty() {
                let reason = "the name has no address of the family asked for".to_owned();
                self.leave_out(Goal::Target(target), route, reason, false);
            }
        }
    }

    fn take_walk(&mut self, series: usize, attempt: u16, control: Option<Control>, steps: Vec<Step>) {
        let Series { goal, route, peer, .. } = self.series[series];
        if control.is_none() {
            self.failed += u32::from(steps.iter().any(|step| step.failure.is_some()));
            self.queue_next(series, attempt);
        }
        if let (Goal::Target(target), None) = (goal, &control) {
            self.ask_control(series, target, &steps);
            self.ask_recall(series, attempt, &steps);
            let state = &mut self.series[series];
            match controls::connects(&steps) {
                Connects::Yes => state.connected = true,
                Connects::No => state.unreached = true,
                Connects::Unknown => {}
            }
        }
        let observation = Observation {
            id: 0,
            parent: None,
            subject: self.shared.target(goal).authority().into(),
            route,
            attempt,
            address: Some(peer),
            control,
            host_service: match goal {
                Goal::Target(_) => None,
                Goal::Host(index) => Some(self.shared.host[index].0),
            },
            steps,
        };
        // A trace stands behind another control on the same address.
        let last = attempt + u16::from(observation.control == Some(Control::Trace));
        let (order, index) = match goal {
            Goal::Target(index) => (1, index),
            Goal::Host(index) => (2, index),
        };
        let key = (order, index, u8::from(route == Route::Proxy), series, observation.control.is_some(), last);
        self.observations.push((key, observation));
    }

    fn ask_control(&mut self, series: usize, target: usize, steps: &[Step]) {
        let shared = self.shared.clone();
        let plan = &shared.plan;
        let state = &mut self.series[series];
        if !plan.controls || state.control_asked || self.controls >= MAX_CONTROLS {
            return;
        }
        let Some(control) = controls::after(plan, target, state.route, steps) else { return };
        if control == Control::OtherProxyScheme && std::mem::replace(&mut self.proxy_scheme_asked, true) {
            return;
        }
        state.control_asked = true;
        self.controls += 1;
        self.walks.push_back((series, 1, Some(control)));
    }

    /// What arrived after an origin half-closed only the origin knows. This is a part of the exchange, so it is asked
    /// whether or not controls are wanted.
    fn ask_recall(&mut self, series: usize, attempt: u16, steps: &[Step]) {
        let whole = steps.last().is_some_and(|step| step.layer() == Layer::Request && step.failure.is_none());
        if whole && self.series[series].exchange == Some(Exchange::HalfCloseByOrigin) {
            self.walks.push_back((series, attempt, Some(Control::Recall)));
        }
    }

    /// Once nothing else is left to do: one trace for each address and port that some attempt did not reach, and one to
    /// another port of the same address that answers, to compare the paths. No walk is in flight any more, so the room
    /// for walks is all theirs.
    fn plan_traces(&mut self) {
        if !std::mem::take(&mut self.trace) {
            return;
        }
        let way = |series: &Series| (series.peer, series.route);
        let mut seen = HashSet::new();
        let mut failed: Vec<usize> = (0..self.series.len())
            .filter(|&at| self.series[at].unreached && seen.insert(way(&self.series[at])))
            .collect();
        let wanted = failed.len();
        failed.truncate(if self.shared.halt.is_halted() { 0 } else { MAX_TRACES });
        if failed.len() < wanted {
            self.notes.push(format!("{} of {wanted} addresses that could not be reached were traced", failed.len()));
        }
        let mut answers: HashMap<(IpAddr, Route), usize> = HashMap::new();
        for (at, series) in self.series.iter().enumerate() {
            if series.connected && !seen.contains(&way(series)) {
                answers.entry((series.peer.ip(), series.route)).or_insert(at);
            }
        }
        let compared: BTreeSet<usize> = failed
            .iter()
            .filter_map(|&at| answers.get(&(self.series[at].peer.ip(), self.series[at].route)).copied())
            .collect();
        self.trace_sockets = self.room.walks.min(trace::WIDTH);
        self.room.walks = (self.room.walks / trace::WIDTH).clamp(1, TRACES_AT_ONCE);
        self.walks.extend(failed.into_iter().chain(compared).map(|series| (series, 1, Some(Control::Trace))));
    }

    // ---- the record

    fn into_record(mut self) -> Record {
        let elapsed = self.shared.epoch.elapsed();
        self.running = JoinSet::new();
        self.note_unmeasured();
        // Nobody else holds the plan any more, unless a lookup that cannot be cancelled still runs.
        let plan = Arc::try_unwrap(self.shared).map_or_else(|shared| shared.plan.clone(), |shared| shared.plan);
        self.observations.sort_unstable_by_key(|(key, _)| *key);
        let mut ids = HashMap::with_capacity(self.hosts.len() * 2);
        let numbered = self.observations.into_iter().enumerate().map(|(index, (key, mut observation))| {
            observation.id = u32::try_from(index + 1).unwrap_or(u32::MAX);
            if key.0 == 0 {
                ids.insert(key, observation.id);
            } else {
                observation.parent = self.series[key.3].parent.and_then(|parent| ids.get(&parent).copied());
            }
            observation
        });
        let observations = numbered.collect();
        let mut context = plan.context;
        context.interrupted = self.interrupted;
        // The lab says who its user is.
        context.privileged.get_or_insert_with(|| geteuid().is_root());
        context.notes.append(&mut self.notes);
        context.dns_server = self.name_server;
        context.routes = plan.routes;
        context.attempts = plan.budgets.attempts;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        context.connect_timeout_ms = millis(plan.budgets.connect);
        context.timeout_ms = millis(plan.budgets.layer);
        context.deadline_ms = millis(plan.budgets.deadline);
        context.proxy = plan.proxy.as_ref().map(crate::plan::Proxy::url);
        let names = plan.targets.iter().filter_map(|target| target.host.name());
        let overrides: BTreeMap<&str, &Pinned> =
            names.filter_map(|name| Some((name, plan.dns.pinned.get(name)?))).collect();
        context.hosts_overrides = overrides
            .into_iter()
            .map(|(name, pinned)| HostsOverride {
                name: name.to_owned(),
                addresses: pinned.addresses.clone(),
                place: format!("{HOSTS_FILE}:{}", pinned.line),
            })
            .collect();
        Record {
            tool: ToolInfo::default(),
            started_at: self.started_at.format(&Rfc3339).unwrap_or_default(),
            elapsed_ms: millis(elapsed),
            context,
            targets: plan.targets,
            observations,
            not_run: self.not_run.into_iter().map(|(_, not_run)| not_run).collect(),
        }
    }

    /// Every target and route that nobody walked, and whose lookup did not fail by itself, was not measured.
    fn note_unmeasured(&mut self) {
        if !self.shared.halt.is_halted() {
            return;
        }
        let shared = self.shared.clone();
        let plan = &shared.plan;
        let walked: HashSet<(usize, bool)> =
            self.observations.iter().filter(|(key, _)| key.0 == 1).map(|(key, _)| (key.1, key.2 == 1)).collect();
        let left_out: HashSet<(usize, bool)> = self
            .not_run
            .iter()
            .filter_map(|(goal, not_run)| match goal {
                Goal::Target(target) => Some((*target, not_run.route == Some(Route::Proxy))),
                Goal::Host(_) => None,
            })
            .collect();
        let failed_by_itself =
            |step: &Step| step.failure.as_ref().is_some_and(|failure| failure.kind != FailureKind::Cancelled);
        let unresolved: HashSet<(&str, bool)> = self
            .observations
            .iter()
            .filter(|(key, observation)| key.0 == 0 && key.2 == 0 && observation.steps.iter().any(failed_by_itself))
            .map(|(_, observation)| (&*observation.subject, observation.route == Route::Proxy))
            .collect();
        let mut missing = Vec::new();
        for &route in &plan.routes {
            let proxied = route == Route::Proxy;
            for (index, target) in plan.targets.iter().enumerate() {
                let host = match (route, &plan.proxy) {
                    (Route::Proxy, Some(proxy)) => &proxy.host,
                    _ => &target.host,
                };
                let known = walked.contains(&(index, proxied))
                    || left_out.contains(&(index, proxied))
                    || host.name().is_some_and(|name| unresolved.contains(&(name, proxied)));
                if !known {
                    missing.push((Goal::Target(index), route));
                }
            }
        }
        for index in 0..shared.host.len() {
            let walked = self.observations.iter().any(|(key, _)| key.0 == 2 && key.1 == index);
            let left_out = self.not_run.iter().any(|(goal, _)| *goal == Goal::Host(index));
            if !walked && !left_out {
                missing.push((Goal::Host(index), Route::Direct));
            }
        }
        let reason = if self.interrupted {
            "interrupted before it was probed".to_owned()
        } else {
            format!("the deadline of {:?} passed before it was probed", plan.budgets.deadline)
        };
        for (goal, route) in missing {
            self.leave_out(goal, route, reason.clone(), true);
        }
    }
}

fn lookup_key(host: usize, order: u8) -> Key {
    (0, host, order, 0, false, 0)
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// The first name server of resolv.conf(5), which getaddrinfo asks first too.
fn configured_name_server() -> Option<SocketAddr> {
    let text = std::fs::read("/etc/resolv.conf").ok()?;
    let (config, _) = resolv_conf::Config::parse_with_errors(&text);
    let ip: IpAddr = config.nameservers.first()?.clone().into();
    Some(SocketAddr::new(ip, 53))
}

fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
