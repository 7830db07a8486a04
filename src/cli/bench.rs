//! `snapreach bench`: how much a path carries, and whether it carries less than another.

use std::{
    fs,
    future::Future,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

use super::{
    args::{Bench as Args, BenchCommand},
    exit::{self, Stop},
    interrupt,
    output::{self, Outputs},
    progress::{self, BenchBar},
    scenarios,
};
use crate::{
    azure,
    bench::{
        self, Arm, ArmInfo, Environment, Failures, Form, Load, Measurement, Run, Settings, Setup, Workload,
        compare::{self, Pairs, Slicing},
        engine::{self, Path, Progress, Unusable},
        gate::{Design, Judgement, Metric, Question},
        report,
    },
    exchange::BULK_PATH,
    lab::{self, Lab, LabSpec},
    model::{Expectation, Host, Route, Scheme, Secret, Target, ToolInfo},
    plan::{Budgets, DialMap, Dns, NameServer, Plan, Proxy, SystemResolver, Trust},
    probe::{self, limits::Descriptors},
};

/// The name under which the lab plays storage.
const LAB_NAME: &str = "acct.blob.core.windows.net";

/// Runs the command and gives its exit code.
///
/// # Errors
/// When the input cannot be used, or nothing can be measured.
pub(super) fn run(args: &Args) -> Result<u8, Stop> {
    if let Some(BenchCommand::Merge(merge)) = &args.command {
        let style = output::style(merge.color, 0);
        let mut outputs = Outputs::open(merge.format, style, &merge.output, None, &merge.files)?;
        outputs.only(&report::FORMATS, "a bench has")?;
        let runs = merge.files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let merged = bench::merge(&runs).map_err(|e| Stop::usage(e.to_string()))?;
        return Ok(write(&mut outputs, &merged));
    }
    let Some(workload) = args.workload else {
        return Err(Stop::usage("say what to measure: connect, tls, tunnel, request, download or upload"));
    };
    let style = output::style(args.color, args.verbose);
    let inputs: Vec<PathBuf> = args.network.ca_file.iter().chain(&args.baseline).cloned().collect();
    let mut outputs = Outputs::open(args.format, style, &args.output, None, &inputs)?;
    outputs.only(&report::FORMATS, "a bench has")?;
    if let Some(path) = &args.save {
        outputs.also(crate::report::Format::Json, path)?;
    }
    let mut setup = setup(args, workload)?;
    let arms = arms(args, &setup)?;
    let room = room(&arms);
    let wanted = setup.connections;
    setup.connections = wanted.min(room);
    if setup.congestion.is_none() && arms.iter().all(|played| played.lab.is_some()) {
        // As the lab does on loopback: both sides then show what the machine can carry.
        setup.congestion = lab::CONGESTION.into_iter().find(|name| probe::has_congestion(name).is_ok()).map(Into::into);
    }
    let question = question(args, &setup, arms.len())?;
    let baseline = args.baseline.as_ref().map(|path| baseline(path, &setup)).transpose()?;
    let mut run = measure(args, &setup, &arms, question.as_ref(), baseline.as_ref())?;
    if wanted > room {
        run.notes.push(format!(
            "connections lowered from {wanted} to {room}: the limit of open files of this process allows no more"
        ));
    }
    let code = write(&mut outputs, &run);
    let failed = run.arms.iter().any(|arm| arm.measurement.failed() > 0);
    Ok(if args.strict && failed { exit::worst(code, exit::BLOCKED) } else { code })
}

fn write(outputs: &mut Outputs, run: &Run) -> u8 {
    let code = if run.interrupted { exit::INTERRUPTED } else { run.verdict.exit_code };
    let report = |format, style: &_, out: &mut dyn std::io::Write| report::write(format, run, style, out);
    match outputs.write_with(report, report) {
        Ok(()) => code,
        // The figures stand, also when they reached only some of their readers.
        Err(stop) => {
            output::say(&format!("error: {stop}"));
            exit::worst(code, stop.code())
        }
    }
}

fn read(path: &PathBuf) -> Result<Run, Stop> {
    let wrong = |e: &dyn std::fmt::Display| Stop::usage(format!("{}: {e}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| wrong(&e))?;
    Run::read(&text).map_err(|e| wrong(&e))
}

// ---- what is asked for

fn setup(args: &Args, workload: Workload) -> Result<Setup, Stop> {
    let duration = args.duration.map_or(Duration::from_secs(10), |duration| duration.0);
    let load = args.rate.map_or(Load::Closed, |rate| Load::Open { rate: rate.0 });
    if workload.is_bulk() && args.rate.is_some() {
        return Err(Stop::usage(format!("--rate is for operations; {workload} moves as much as it can")));
    }
    if args.resume && workload != Workload::Tls {
        return Err(Stop::usage("--resume is for the workload tls"));
    }
    if args.verify && workload != Workload::Download {
        return Err(Stop::usage("--verify compares what download gets"));
    }
    if args.absolute
        && (!matches!(workload, Workload::Request | Workload::Download | Workload::Upload) || args.proxy.is_none())
    {
        return Err(Stop::usage("--absolute is for request, download and upload through a --proxy"));
    }
    if let Some(name) = &args.congestion {
        probe::has_congestion(name).map_err(|e| {
            let known = fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap_or_default();
            Stop::usage(format!("--congestion {name}: {e}; this machine allows: {}", known.trim()))
        })?;
    }
    let usual = match workload {
        Workload::Connect | Workload::Tls | Workload::Tunnel => 50,
        Workload::Request => 20,
        Workload::Download | Workload::Upload => 1,
    };
    // What hangs must show as a failure before the time is over.
    let longest = (duration / 2).max(Duration::from_secs(1));
    Ok(Setup {
        workload,
        load,
        connections: args.connections.unwrap_or(usual),
        duration,
        warmup: args.warmup.map_or(Duration::from_secs(1), |warmup| warmup.0),
        bytes: args.bytes.0,
        timeout: args.timeout.map_or(Duration::from_secs(5), |timeout| timeout.0).min(longest),
        resumed: args.resume,
        verify: args.verify,
        congestion: args.congestion.clone(),
        seed: args.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32),
    })
}

/// The figures that are gated, if two arms, an arm and a file, or an arm and itself are compared.
fn question(args: &Args, setup: &Setup, arms: usize) -> Result<Option<Question>, Stop> {
    if arms == 1 && args.baseline.is_none() && !args.calibrate {
        if args.margin.is_some() || !args.metric.is_empty() {
            return Err(Stop::usage("--margin and --metric belong to a comparison: --vs, --baseline or --calibrate"));
        }
        return Ok(None);
    }
    let usual = match (setup.workload.is_bulk(), setup.load) {
        (true, _) => Metric::Goodput,
        (false, Load::Closed) => Metric::Rate,
        (false, Load::Open { .. }) => Metric::P50,
    };
    let metrics = if args.metric.is_empty() { vec![usual] } else { args.metric.clone() };
    if let Some(odd) = metrics.iter().find(|metric| match metric {
        Metric::Goodput => !setup.workload.is_bulk(),
        Metric::Rate => matches!(setup.load, Load::Open { .. }),
        Metric::P50 | Metric::P99 | Metric::Cpu => args.baseline.is_some(),
    }) {
        return Err(Stop::usage(format!("--metric {odd} says nothing here: the usual one is {usual}")));
    }
    let margin = args.margin.map_or(0.05, |margin| margin.0);
    Ok(Some(Question::new(metrics, margin)))
}

/// A run that was saved, if it can be compared with this one.
fn baseline(path: &PathBuf, setup: &Setup) -> Result<Run, Stop> {
    let run = read(path)?;
    let now = Settings::from(setup);
    let then = Settings { seed: now.seed, duration_ms: now.duration_ms, ..run.settings.clone() };
    if then != now {
        return Err(Stop::usage(format!(
            "--baseline {}: it was measured with other settings ({} with {} connections, {} bytes, …): give the same ones",
            path.display(),
            run.settings.workload,
            run.settings.connections,
            run.settings.bytes
        )));
    }
    Ok(run)
}

// ---- whom to measure

/// An arm, with the lab that plays its other end.
struct Played {
    arm: Arm,
    lab: Option<Lab>,
}

/// Where an arm leads.
#[derive(Clone)]
enum End {
    /// The lab, as it plays this scenario; `None`: a healthy one. At this target in it, or the usual one.
    Lab(Option<String>, Option<Target>),
    /// A real target.
    Real(Target),
}

/// Through what.
#[derive(Clone)]
enum Way {
    Direct,
    /// The lab's own proxy.
    LabProxy,
    Proxy(Proxy),
}

fn arms(args: &Args, setup: &Setup) -> Result<Vec<Played>, Stop> {
    let lab = args.lab.is_some();
    let target = args.target.as_ref().map(|text| target(text, setup.workload, lab)).transpose()?;
    let foreign = |target: &&Target| target.path != "/" && !target.path.starts_with(BULK_PATH);
    if let Some(target) = target.as_ref().filter(foreign).filter(|_| args.verify) {
        return Err(Stop::usage(format!("--verify: only a `snapreach lab` sends what is known, and {target} is none")));
    }
    let end = match (target, &args.lab) {
        (Some(target), None) => End::Real(target),
        (target, scenario) => End::Lab(scenario.clone().filter(|name| !name.is_empty()), target),
    };
    let way = match &args.proxy {
        Some(text) => way(text)?,
        None if setup.workload == Workload::Tunnel && matches!(end, End::Lab(..)) => Way::LabProxy,
        None => Way::Direct,
    };
    let mut ends = vec![(end.clone(), way.clone())];
    if let Some(other) = &args.vs {
        let text = other.expose();
        ends.push(match text.split_once(':') {
            None if text == "direct" => (end, Way::Direct),
            None if text == "lab" => (End::Lab(None, lab_target(&end)), in_lab(&way)),
            Some(("lab", scenario)) => (End::Lab(Some(scenario.to_owned()), lab_target(&end)), in_lab(&way)),
            Some(("proxy", url)) => (end, self::way(&Secret::new(url))?),
            Some(("target", url)) => (End::Real(self::target(&Secret::new(url), setup.workload, false)?), way),
            _ => {
                return Err(Stop::usage("--vs: write direct, proxy:URL, proxy:lab, target:URL, lab or lab:SCENARIO"));
            }
        });
        if text == "direct" && matches!(ends[0].1, Way::Direct) {
            return Err(Stop::usage("--vs direct compares with a way through a --proxy, and there is none"));
        }
    }
    let is_real = |(end, way): &(End, Way)| matches!(end, End::Real(_)) || matches!(way, Way::Proxy(_));
    let idle = args.network.unknown_to_the_lab().or((!args.connect_to.is_empty()).then_some("--connect-to"));
    if let Some(option) = idle.filter(|_| !ends.iter().any(is_real)) {
        return Err(Stop::usage(format!("{option} is for a real TARGET or --proxy: the embedded lab is where it is")));
    }
    ends.into_iter().map(|(end, way)| arm(args, setup, end, way)).collect()
}

/// The target that the other lab is asked for.
fn lab_target(end: &End) -> Option<Target> {
    match end {
        End::Lab(_, target) => target.clone(),
        End::Real(_) => None,
    }
}

/// Another lab has a proxy of its own.
fn in_lab(way: &Way) -> Way {
    if matches!(way, Way::Direct) { Way::Direct } else { Way::LabProxy }
}

fn way(text: &Secret) -> Result<Way, Stop> {
    if text.expose() == "lab" {
        return Ok(Way::LabProxy);
    }
    text.expose().parse().map(Way::Proxy).map_err(|e| Stop::usage(format!("--proxy: {e}; `lab` is the lab's own")))
}

/// The target, if the workload does no harm to it. The lab's storage has a source and a sink for everybody.
fn target(text: &Secret, workload: Workload, lab: bool) -> Result<Target, Stop> {
    let mut targets = Target::parse(text.expose(), &[443]).map_err(|e| Stop::usage(format!("TARGET: {e}")))?;
    let mut target = targets.remove(0);
    let named_storage = !lab && target.host.name().is_some_and(azure::storage::is_storage_name);
    let signed =
        target.sas.as_ref().is_some_and(|query| query.expose().split('&').any(|pair| pair.starts_with("sig=")));
    target.expects = if named_storage || signed { Expectation::Storage } else { Expectation::Anyone };
    let refuse = |why: &str| Err(Stop::usage(format!("bench {workload} {target}: {why}")));
    if target.sas.is_some() && target.scheme != Scheme::Https {
        return refuse("a query may be a signature, and over plain HTTP anybody on the way reads it; use https://");
    }
    let storage = target.expects == Expectation::Storage && !target.path.starts_with(BULK_PATH);
    match workload {
        Workload::Tls if !target.scheme.has_tls() => return refuse("there is no TLS; use https:// or tls://"),
        Workload::Request | Workload::Download | Workload::Upload if !target.scheme.has_http() => {
            return refuse("there is no HTTP; use https:// or http://");
        }
        Workload::Download if storage && target.path == "/" => {
            return refuse(
                "name a blob that may be read: https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB?SIGNATURE",
            );
        }
        Workload::Upload if storage && (!signed || target.path == "/") => {
            return refuse(
                "an upload to storage needs a blob's URL with a signature made for it; its blocks are never committed",
            );
        }
        Workload::Upload if !storage && target.path != "/" && !target.path.starts_with(BULK_PATH) => {
            return refuse(
                "a PUT would replace what is there; upload to a `snapreach lab` (no path), or to storage with a signature",
            );
        }
        _ => {}
    }
    Ok(target)
}

fn arm(args: &Args, setup: &Setup, end: End, way: Way) -> Result<Played, Stop> {
    if setup.workload == Workload::Tunnel && matches!(way, Way::Direct) {
        return Err(Stop::usage("bench tunnel needs a --proxy: http://HOST:PORT, or `lab`"));
    }
    let budgets = Budgets { connect: setup.timeout, layer: setup.timeout, ..Budgets::default() };
    let form = if args.absolute { Form::Absolute } else { Form::Tunnel };
    let through =
        |proxy: &Proxy| if args.absolute { format!("by {}", proxy.url()) } else { format!("through {}", proxy.url()) };
    match end {
        End::Real(target) => {
            let proxy = match way {
                Way::Direct => None,
                Way::LabProxy => return Err(Stop::usage("the lab's proxy leads to the lab alone: leave TARGET out")),
                Way::Proxy(proxy) => Some(proxy),
            };
            let label = proxy.as_ref().map_or_else(|| "direct".into(), through);
            let plan = Plan { targets: vec![target], budgets, ..real(args, proxy)? };
            Ok(Played { arm: Arm { label, plan, form }, lab: None })
        }
        End::Lab(name, target) => {
            let spec = match &name {
                Some(name) => scenarios::lab_of(&scenarios::load(name)?)?.clone(),
                None => LabSpec::default(),
            };
            // Nobody reads what the parties saw, and it would grow with every request.
            let lab = Lab::start_watched(&spec, |_| ())
                .map_err(|e| Stop::CannotMeasure(format!("cannot start the lab: {e}")))?;
            let network = lab.network();
            let target = target.unwrap_or_else(|| lab_end(setup.workload));
            let shown = name.map_or_else(|| "lab".into(), |name| format!("lab:{name}"));
            let plan = Plan {
                dns: Dns { system: SystemResolver::Stub(network.dns), server: NameServer::Off, ..Dns::default() },
                trust: Trust { system: false, added: network.added_roots.clone(), lab: network.roots.clone() },
                dial: network.dial.clone(),
                budgets,
                ..Plan::default()
            };
            let (label, plan) = match way {
                Way::Direct => (shown, Plan { targets: vec![target], routes: vec![Route::Direct], ..plan }),
                Way::LabProxy => {
                    let proxy = network.proxy.clone();
                    (
                        format!("{shown} through its proxy"),
                        Plan { targets: vec![target], routes: vec![Route::Proxy], proxy, ..plan },
                    )
                }
                Way::Proxy(proxy) => {
                    let key = format!("{}:{}", target.host, target.port);
                    let Some(&socket) = network.addresses.get(&key).filter(|_| !target.scheme.has_tls()) else {
                        return Err(Stop::usage(
                            "through a real proxy the embedded lab serves plain HTTP on port 80 and bare connects; for TLS \
                             name a TARGET",
                        ));
                    };
                    let target = Target { host: Host::Ip(socket.ip()), port: socket.port(), ..target };
                    (
                        format!("{shown} {}", through(&proxy)),
                        Plan { targets: vec![target], budgets: plan.budgets, ..real(args, Some(proxy))? },
                    )
                }
            };
            Ok(Played { arm: Arm { label, plan, form }, lab: Some(lab) })
        }
    }
}

/// What the lab is asked for unless a target is named.
fn lab_end(workload: Workload) -> Target {
    let (scheme, port) = match workload {
        Workload::Connect | Workload::Tunnel => (Scheme::Tcp, 443),
        Workload::Tls => (Scheme::Tls, 443),
        Workload::Request | Workload::Download | Workload::Upload => (Scheme::Http, 80),
    };
    Target::new(scheme, Host::Name(LAB_NAME.into()), port, Expectation::Anyone)
}

/// A plan on the network, without a target.
fn real(args: &Args, proxy: Option<Proxy>) -> Result<Plan, Stop> {
    Ok(Plan {
        routes: vec![if proxy.is_some() { Route::Proxy } else { Route::Direct }],
        proxy,
        source: args.network.source()?,
        dial: DialMap {
            hosts: args.connect_to.iter().map(|c| (c.host.clone(), c.port, c.to)).collect(),
            ..DialMap::default()
        },
        trust: args.network.trust()?,
        ..Plan::default()
    })
}

/// How many connections this process may hold open, with the lab's ends of each where it plays the other side.
fn room(arms: &[Played]) -> usize {
    // The lab holds the other end of a connection; its proxy both ends of another one, too.
    let each = if arms.iter().any(|played| played.lab.is_some()) { 4 } else { 1 };
    (Descriptors::raised().free() / each).max(1)
}

// ---- the run

/// What was measured: one arm, or two with what they say.
#[derive(Default)]
struct Measured {
    arms: Vec<Measurement>,
    gate: Option<Judgement>,
}

fn measure(
    args: &Args,
    setup: &Setup,
    arms: &[Played],
    question: Option<&Question>,
    baseline: Option<&Run>,
) -> Result<Run, Stop> {
    let (started_at, started) = (OffsetDateTime::now_utc(), Instant::now());
    let runtime = probe::runtime().map_err(|e| cannot(&e))?;
    let shared = Arc::new(setup.clone());
    let mut interrupt = pin!(interrupt::listen());
    let mut notes = notes(setup, arms);
    if (arms.len() > 1 || args.calibrate) && (args.duration.is_some() || args.warmup.is_some()) {
        notes.push("a comparison takes as many slices as it needs: --duration and --warmup do not count here".into());
    }
    let mut interrupted = false;
    let found = runtime.block_on(async {
        tokio::select! {
            found = find(&shared, arms, &mut notes) => found.map(Some),
            () = &mut interrupt => Ok(None),
        }
    })?;
    let measured = match found {
        Some(Ok(paths)) => {
            let job = Job {
                setup: shared,
                paths,
                question: question.cloned(),
                calibrate: args.calibrate,
                slice: args.slice.0,
            };
            let bar = BenchBar::new(args.quiet, setup.workload);
            runtime.block_on(drive(job, &bar, &mut interrupt, &mut interrupted))?
        }
        Some(Err(arms)) => Measured { arms, gate: None },
        None => {
            interrupted = true;
            Measured { arms: vec![Measurement::default(); arms.len()], gate: None }
        }
    };
    // A lookup that the system cannot cancel must not hold the report up.
    runtime.shutdown_background();

    let resumed: u64 = measured.arms.iter().map(|measured| measured.resumed).sum();
    if setup.resumed && resumed == 0 && measured.arms.iter().any(|measured| measured.operations > 0) {
        notes.push("no session was resumed: the server gives no tickets, so these are full handshakes".into());
    }
    // A calibration measures its one arm twice.
    let twice = if args.calibrate { arms.iter().chain(arms) } else { arms.iter().chain(&[]) };
    let mut infos: Vec<ArmInfo> = twice.zip(measured.arms).map(|(played, measured)| info(played, measured)).collect();
    let mut gate = measured.gate;
    if let (Some(baseline), Some(question)) = (baseline, question) {
        gate = Some(bench::against_baseline(question, baseline, &infos[0].measurement));
        let then = baseline.arms[0].clone();
        infos.insert(0, ArmInfo { label: format!("baseline of {}", baseline.started_at), ..then });
    }
    let settings = Settings::from(setup);
    Ok(Run {
        schema: 1,
        tool: ToolInfo::default(),
        kind: "bench".into(),
        started_at: started_at.format(&Rfc3339).unwrap_or_default(),
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        verdict: bench::verdict(&settings, &infos, gate.as_ref()),
        settings,
        environment: environment(setup),
        arms: infos,
        gate,
        notes,
        interrupted,
    })
}

fn cannot(e: &std::io::Error) -> Stop {
    Stop::CannotMeasure(format!("cannot measure: {e}"))
}

/// The paths of all arms; `Err` in it: one of them cannot be used, and this is all there is to say of each.
async fn find(
    setup: &Arc<Setup>,
    arms: &[Played],
    notes: &mut Vec<String>,
) -> Result<Result<Vec<Arc<Path>>, Vec<Measurement>>, Stop> {
    let mut found = Vec::new();
    for played in arms {
        let (path, more) = Path::find(setup, &played.arm).await.map_err(|e| cannot(&e))?;
        notes.extend(more.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
        found.push(path);
    }
    if found.iter().any(Result::is_err) {
        return Ok(Err(found
            .into_iter()
            .map(|path| path.err().map_or_else(Measurement::default, of_unusable))
            .collect()));
    }
    Ok(Ok(found.into_iter().flatten().map(Arc::new).collect()))
}

/// What is known of an arm over which nothing can be measured.
fn of_unusable(Unusable { code, example }: Unusable) -> Measurement {
    Measurement { errors: [(code, Failures { count: 1, example })].into(), ..Measurement::default() }
}

/// Has the job done on threads of its own, and shows how far it is.
async fn drive(
    job: Job,
    bar: &BenchBar,
    interrupt: &mut (impl Future<Output = ()> + Unpin),
    interrupted: &mut bool,
) -> Result<Measured, Stop> {
    let (halt, stop) = watch::channel(false);
    let (progress, pairs) = (Arc::<Progress>::default(), Arc::<Pairs>::default());
    let mut work = {
        let (progress, pairs) = (progress.clone(), pairs.clone());
        tokio::task::spawn_blocking(move || job.run(&progress, &pairs, &stop))
    };
    let mut redraw = tokio::time::interval(progress::INTERVAL);
    loop {
        tokio::select! {
            done = &mut work => {
                let done = done.map_err(|e| Stop::CannotMeasure(format!("cannot measure: {e}")))?;
                return done.map_err(|e| cannot(&e));
            }
            _ = redraw.tick() => bar.show(&progress, &pairs),
            () = &mut *interrupt, if !*interrupted => {
                *interrupted = true;
                // The job is still there to hear it, or is done.
                let _ = halt.send(true);
            }
        }
    }
}

/// The blocking part.
struct Job {
    setup: Arc<Setup>,
    paths: Vec<Arc<Path>>,
    question: Option<Question>,
    calibrate: bool,
    slice: Duration,
}

impl Job {
    fn run(&self, progress: &Arc<Progress>, pairs: &Pairs, stop: &engine::Stop) -> std::io::Result<Measured> {
        let (design, arms) = match (self.paths.as_slice(), self.calibrate) {
            ([a, b, ..], _) => (Design::Paired, [a, b]),
            ([a], true) => (Design::Calibration, [a, a]),
            (paths, _) => {
                let arms = paths.iter().map(|path| engine::measure(&self.setup, path, progress, stop));
                return Ok(Measured { arms: arms.collect::<Result<_, _>>()?, ..Measured::default() });
            }
        };
        let Some(question) = &self.question else { return Ok(Measured::default()) };
        let slicing = Slicing::of(self.slice);
        let compared = compare::compare(&self.setup, arms, (question, design), slicing, (progress, pairs), stop)?;
        Ok(Measured { arms: vec![compared.a, compared.b], gate: Some(compared.judgement) })
    }
}

fn info(played: &Played, measurement: Measurement) -> ArmInfo {
    let plan = &played.arm.plan;
    ArmInfo {
        label: played.arm.label.clone(),
        target: plan.targets.first().map(ToString::to_string).unwrap_or_default(),
        proxy: plan.proxy.as_ref().map(Proxy::url),
        form: played.arm.form,
        measurement,
    }
}

fn environment(setup: &Setup) -> Environment {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    Environment {
        system: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease")).trim().to_owned(),
        processors: std::thread::available_parallelism().map_or(1, Into::into),
        congestion: setup.congestion.clone().unwrap_or_else(|| read("/proc/sys/net/ipv4/tcp_congestion_control")),
        machines: 1,
    }
}

fn notes(setup: &Setup, arms: &[Played]) -> Vec<String> {
    let mut notes = Vec::new();
    if arms.iter().any(|played| played.lab.is_some()) {
        notes.push("the lab plays the other end on this machine, so both share its processors".to_owned());
    }
    let local = |played: &Played| {
        let plan = &played.arm.plan;
        let host = plan.proxy.as_ref().map_or_else(|| &plan.targets[0].host, |proxy| &proxy.host);
        played.lab.is_some() || matches!(host, Host::Ip(ip) if ip.is_loopback())
    };
    if setup.workload.is_bulk() && environment(setup).congestion == "bbr" && arms.iter().any(local) {
        notes.push(
            "bbr paces segments, which costs much on loopback: --congestion cubic shows what the machine can do".into(),
        );
    }
    notes
}
