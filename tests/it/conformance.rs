//! The case suite for proxies against the lab's: a good one passes every case, and for every case there is a bad one that
//! fails it.

use std::{collections::BTreeSet, fs, future::pending, path::Path, sync::Mutex, thread, time::Duration};

use serde::Deserialize;
use snapreach::{
    conformance::{self, Options, Outcome, Profile, Progress, Request, Run, Tried, catalogue},
    lab::{Fault, Lab, LabSpec},
    model::Host,
    plan::{Budgets, Source, Trust},
};

/// Proxies that are bad in one way; a file of `tests/proxies/` per group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bad: Vec<Bad>,
}

/// A bad proxy and the case that must find it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    /// The case that must fail.
    case: String,
    /// What is bad about it.
    because: String,
    /// What the failing case must say: part of its summary.
    says: String,
    #[serde(default)]
    lab: LabSpec,
    #[serde(default)]
    fault: Vec<Fault>,
    /// The user of the proxy's URL, where it is not the one that the proxy demands: `user:password`.
    #[serde(default)]
    profile: Option<Profile>,
}

fn bad_proxies() -> Vec<Bad> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxies");
    let mut all = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let file: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        all.extend(file.bad);
    }
    all
}

/// Short waits: the lab answers at once or never.
fn options() -> Options {
    Options {
        idle: Duration::from_millis(300),
        lifetime: Duration::from_millis(500),
        tunnels: 200,
        large: 4 << 20,
        load: Duration::from_secs(2),
    }
}

fn try_on(spec: &LabSpec, profile: Profile, wanted: Vec<&'static str>) -> Run {
    let lab = Lab::start(spec).unwrap();
    let network = lab.network();
    let proxy = network.proxy.clone().unwrap();
    let Host::Ip(ip) = proxy.host else { panic!("the lab's proxy has an address") };
    let socket = (ip, proxy.port).into();
    let request = Request {
        proxy,
        address: (socket, socket),
        places: network.places.clone(),
        profile,
        options: options(),
        wanted,
        trust: Trust { added: network.added_roots.clone(), lab: network.roots.clone(), ..Trust::default() },
        source: Source::default(),
        budgets: Budgets { layer: Duration::from_secs(2), ..Budgets::default() },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(conformance::run(request, &Progress::default(), pending())).unwrap()
}

fn shown(tried: &Tried) -> String {
    let lines = tried.judgements.iter().map(|j| format!("  {}: {} {:?}\n", j.outcome, j.summary, j.evidence));
    format!("{}\n{}", tried.id, lines.collect::<String>())
}

fn good() -> LabSpec {
    toml::from_str("[proxy]\nports = [80, 443, 8443]\nproxy_status = true\n").unwrap()
}

/// Cases that a proxy without a login, or a run without `--allow` and `--deny`, leaves open.
const NOT_ON_A_PLAIN_PROXY: &[&str] =
    &["connect/allow", "connect/deny", "auth/basic", "auth/wrong", "auth/challenge", "auth/scheme"];

#[test]
fn a_good_proxy_passes_every_case() {
    let run = try_on(&good(), Profile::default(), catalogue().map(|case| case.id).collect());
    let open: Vec<_> = run
        .tried
        .iter()
        .filter(|tried| tried.outcome() != Outcome::Pass && !NOT_ON_A_PLAIN_PROXY.contains(&tried.id))
        .map(shown)
        .collect();
    assert!(open.is_empty(), "{}", open.concat());
    assert_eq!(run.tried.len(), catalogue().count());
}

/// What [`NOT_ON_A_PLAIN_PROXY`] leaves open passes here; of the rest only the login as such is a fault.
#[test]
fn a_good_proxy_with_a_login_and_rules_passes_the_cases_about_them() {
    let spec =
        toml::from_str("[proxy]\nports = [80, 443, 8443]\nproxy_status = true\nrequires = \"svc:correct horse\"\n")
            .unwrap();
    let profile = Profile {
        allow: vec!["acct.blob.core.windows.net:443".into(), "origin.snapreach.test:8443".into()],
        deny: vec!["acct.blob.core.windows.net:22".into()],
        ..Profile::default()
    };
    let wanted = catalogue().map(|case| case.id).filter(|id| {
        ["connect/", "auth/", "errors/", "hostile/"].iter().any(|group| id.starts_with(group)) && *id != "auth/none"
    });
    let run = try_on(&spec, profile, wanted.collect());
    let open: Vec<_> = run.tried.iter().filter(|tried| tried.outcome() != Outcome::Pass).map(shown).collect();
    assert!(open.is_empty(), "{}", open.concat());
    assert!(NOT_ON_A_PLAIN_PROXY.iter().all(|id| run.tried.iter().any(|tried| tried.id == *id)));
    let said = format!("{:?}", run.tried.iter().map(|tried| &tried.judgements).collect::<Vec<_>>());
    // "svc:correct horse", as it travels.
    assert!(!said.contains("correct horse") && !said.contains("c3ZjOmNvcnJlY3QgaG9yc2U="));
}

#[test]
fn every_case_fails_on_a_proxy_that_is_bad_in_its_way() {
    // Most of the time is waiting for what never comes.
    let (left, missed) = (Mutex::new(bad_proxies()), Mutex::new(String::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(bad) = { left.lock().unwrap().pop() } {
                    if let Some(complaint) = not_found(bad) {
                        *missed.lock().unwrap() += &complaint;
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{missed}");
}

/// What is wrong when the case does not find what is bad about the proxy.
fn not_found(Bad { case, because, says, mut lab, fault, profile }: Bad) -> Option<String> {
    let id = catalogue().find(|known| known.id == case).unwrap_or_else(|| panic!("no case {case}")).id;
    lab.faults = fault;
    let run = try_on(&lab, profile.unwrap_or_default(), vec![id]);
    let [tried] = run.tried.as_slice() else { panic!("{case}: one case was wanted") };
    let failed = tried.judgements.iter().find(|judgement| judgement.outcome == Outcome::Fail);
    let found = failed.is_some_and(|failed| failed.summary.contains(&says));
    (!found).then(|| format!("{because}: {}", shown(tried)))
}

#[test]
fn for_every_case_there_is_a_bad_proxy() {
    let bad = bad_proxies();
    let covered: BTreeSet<&str> = bad.iter().map(|bad| bad.case.as_str()).collect();
    let all: BTreeSet<&str> = catalogue().map(|case| case.id).collect();
    let missing: Vec<_> = all.difference(&covered).collect();
    assert!(missing.is_empty(), "no bad proxy for {missing:?}");
}
