//! Whose limit is met when thousands of tunnels are wanted: a real squid with few file descriptors, and this side with
//! few.

use std::{future::pending, net::SocketAddr, process::Command};

use snapreach::{
    conformance::{self, Judgement, Options, Outcome, Profile, Progress, Remedy, Request},
    exchange::Places,
    lab::{Lab, LabSpec, OwnOrigin},
    model::Host,
    plan::{Budgets, Proxy, Source, Trust},
};

use crate::{
    programs::{SQUID, TINYPROXY},
    real_proxies::start,
    support::{program, skipped},
};

/// What the cases of the group say that look at many tunnels: the one about their number, and the one about afterwards.
fn held(proxy: SocketAddr, places: &Places) -> [Judgement; 2] {
    let request = Request {
        proxy: Proxy { tls: false, host: Host::Ip(proxy.ip()), port: proxy.port(), credentials: None },
        address: (proxy, proxy),
        places: places.clone(),
        profile: Profile::default(),
        options: Options::default(),
        wanted: vec!["limits/concurrent", "limits/recovers"],
        trust: Trust::default(),
        source: Source::default(),
        budgets: Budgets::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = runtime.block_on(conformance::run(request, &Progress::default(), pending())).unwrap();
    run.tried.into_iter().map(|mut tried| tried.judgements.remove(0)).collect::<Vec<_>>().try_into().unwrap()
}

/// Everything but what was measured.
fn words(judgement: &Judgement) -> (Outcome, &str, &[String]) {
    (judgement.outcome, &judgement.summary, &judgement.evidence)
}

#[test]
fn a_squid_with_1024_descriptors_is_at_its_own_limit() {
    if program("squid").is_none() {
        skipped("squid is not installed");
        return;
    }
    let script = "ulimit -n 1024; exec squid -N -f DIR/conf";
    let squid = start("sh", &["-c", script], &format!("{SQUID}http_access allow all\n")).unwrap();
    let origin = OwnOrigin::start(&[[127, 0, 0, 1].into()]).unwrap();
    let proxy = SocketAddr::from(([127, 0, 0, 1], squid.port));
    let [concurrent, recovers] = held(proxy, origin.places());
    assert_eq!(concurrent.outcome, Outcome::Fail, "{concurrent:?}");
    assert!(concurrent.summary.ends_with("leaves further CONNECTs unanswered: its limit of 1024 file descriptors"));
    assert!(concurrent.evidence.iter().any(|line| line.starts_with("it is not this side")), "{concurrent:?}");
    assert_eq!(concurrent.remedy, Some(Remedy::Descriptors { count: 8192 }));
    assert_eq!(recovers.outcome, Outcome::Pass, "{recovers:?}");
    let again = held(proxy, origin.places());
    assert_eq!([concurrent, recovers].each_ref().map(words), again.each_ref().map(words));
}

#[test]
fn products_with_limits_of_their_own_are_at_these() {
    let origin = OwnOrigin::start(&[[127, 0, 0, 1].into()]).unwrap();
    let tinyproxy = TINYPROXY.replace("MaxClients 20", "MaxClients 100") + "Allow 127.0.0.1\n";
    let privoxy = "listen-address LISTEN\nlogdir DIR\nconfdir DIR\ntoggle 0\nmax-client-connections 128\n";
    for (name, arguments, configuration, says) in [
        (
            "tinyproxy",
            &["-d", "-c", "DIR/conf"][..],
            tinyproxy.as_str(),
            "the proxy holds 100 tunnels and leaves further CONNECTs unanswered: a limit of clients",
        ),
        (
            "privoxy",
            &["--no-daemon", "DIR/conf"],
            privoxy,
            "the proxy holds 128 tunnels and answers further CONNECTs with `HTTP/1.1 503 Too many open connections`: a \
             limit of clients",
        ),
    ] {
        let Some(proxy) = start(name, arguments, configuration) else { continue };
        let [concurrent, recovers] = held(([127, 0, 0, 1], proxy.port).into(), origin.places());
        assert_eq!(concurrent.outcome, Outcome::Fail, "{name}: {concurrent:?}");
        assert!(concurrent.summary.starts_with(says), "{name}: {concurrent:?}");
        assert_eq!(concurrent.remedy, Some(Remedy::Clients { count: 3000 }), "{name}");
        assert_eq!(recovers.outcome, Outcome::Pass, "{name}: {recovers:?}");
    }
}

/// Where the child finds the proxy and the origin; without the latter it starts one of its own.
const PROXY: &str = "SNAPREACH_TEST_PROXY";
const PLACES: &str = "SNAPREACH_TEST_PLACES";

#[test]
fn a_limit_of_this_side_is_never_the_proxys() {
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let network = lab.network();
    in_a_child(128, network.addresses["proxy"], Some(&network.places));
}

#[test]
fn the_origins_descriptors_are_this_sides_too_where_it_runs_here() {
    let open = format!("{SQUID}max_filedescriptors 8192\nhttp_access allow all\n");
    let Some(squid) = start("squid", &["-N", "-f", "DIR/conf"], &open) else { return };
    in_a_child(256, ([127, 0, 0, 1], squid.port).into(), None);
    let origin = OwnOrigin::start(&[[127, 0, 0, 1].into()]).unwrap();
    let [concurrent, recovers] = held(([127, 0, 0, 1], squid.port).into(), origin.places());
    assert_eq!((concurrent.outcome, recovers.outcome), (Outcome::Pass, Outcome::Pass), "{concurrent:?}");
    assert_eq!(concurrent.summary, "2000 tunnels stand at once, and all carry bytes");
}

/// Runs the test below in a process that may have no more than so many descriptors.
fn in_a_child(descriptors: usize, proxy: SocketAddr, places: Option<&Places>) {
    let script =
        format!("ulimit -n {descriptors}; exec \"$0\" --exact limits::with_few_descriptors --ignored --nocapture");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).env(PROXY, proxy.to_string());
    if let Some(places) = places {
        command.env(PLACES, serde_json::to_string(places).unwrap());
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "the half of the tests above that runs in a process of its own"]
fn with_few_descriptors() {
    let proxy = std::env::var(PROXY).unwrap().parse().unwrap();
    let origin = OwnOrigin::start(&[[127, 0, 0, 1].into()]).unwrap();
    let places = match std::env::var(PLACES) {
        Ok(places) => serde_json::from_str(&places).unwrap(),
        Err(_) => origin.places().clone(),
    };
    let [concurrent, recovers] = held(proxy, &places);
    assert_eq!(concurrent.outcome, Outcome::Warn, "{concurrent:?}");
    assert!(concurrent.summary.contains("as many tunnels stand at once as this machine can hold"), "{concurrent:?}");
    let [line] = &concurrent.evidence[..] else { panic!("{concurrent:?}") };
    assert!(line.starts_with("this process may have ") && line.ends_with(" file descriptors (ulimit -n)"), "{line}");
    assert!(concurrent.figures["held"].value > 50.0 && concurrent.remedy.is_none(), "{concurrent:?}");
    assert_eq!(recovers.outcome, Outcome::Pass, "{recovers:?}");
}
