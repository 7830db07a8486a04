//! Whose limit is met when thousands of tunnels are wanted: a real squid with few file descriptors, and this side with
//! few.

use std::{future::pending, net::SocketAddr, process::Command};

use serde_json::Value;
use snapreach::{
    conformance::{self, Judgement, Options, Outcome, Profile, Progress, Remedy, Request},
    exchange::{DoorKind, Places},
    lab::{Lab, LabSpec, OwnOrigin},
    model::Host,
    plan::{Budgets, Proxy, Source, Trust},
};

use crate::{
    programs::{SQUID, TINYPROXY},
    real_proxies::start,
    support::{clean, program, report, skipped},
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
            "the proxy holds fewer than the 2000 tunnels that are wanted, and leaves further CONNECTs unanswered: a \
             limit of clients",
        ),
        (
            "privoxy",
            &["--no-daemon", "DIR/conf"],
            privoxy,
            "the proxy holds fewer than the 2000 tunnels that are wanted, and answers further CONNECTs with `HTTP/1.1 503 Too many open connections`: a \
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

/// What the command says of a proxy on loopback, in a process that may have no more than so many descriptors.
fn with_descriptors(count: usize, proxy: SocketAddr, arguments: &[String]) -> Vec<Value> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\"")]).arg(env!("CARGO_BIN_EXE_snapreach"));
    command.args(["proxy", &format!("http://{proxy}"), "--filter", "limits", "--format", "json"]).args(arguments);
    clean(&mut command);
    let report = report(&command.output().unwrap());
    let cases = report["cases"].as_array().unwrap();
    ["limits/concurrent", "limits/recovers"]
        .map(|id| cases.iter().find(|case| case["id"] == id).unwrap()["judgements"][0].clone())
        .to_vec()
}

fn assert_this_side(judgements: &[Value]) {
    let [concurrent, recovers] = judgements else { panic!("{judgements:?}") };
    assert_eq!(concurrent["outcome"], "warn", "{concurrent:#}");
    let summary = concurrent["summary"].as_str().unwrap();
    assert!(summary.contains("as many tunnels stand at once as this machine can hold"), "{concurrent:#}");
    let [line] = &concurrent["evidence"].as_array().unwrap()[..] else { panic!("{concurrent:#}") };
    let line = line.as_str().unwrap();
    assert!(line.starts_with("this process may have ") && line.ends_with(" file descriptors (ulimit -n)"), "{line}");
    assert!(concurrent["figures"]["held"]["value"].as_f64().unwrap() > 40.0, "{concurrent:#}");
    assert!(concurrent.get("remedy").is_none_or(Value::is_null), "{concurrent:#}");
    assert_eq!(recovers["outcome"], "pass", "{recovers:#}");
}

#[test]
fn a_limit_of_this_side_is_never_the_proxys() {
    let spec: LabSpec = toml::from_str("[proxy]\nreach_loopback = true\n").unwrap();
    let lab = Lab::start(&spec).unwrap();
    let proxy = lab.network().addresses["proxy"];
    // With the origin in another process, and in the same one, where its descriptors count too.
    let origin = OwnOrigin::start(&[[127, 0, 0, 1].into()]).unwrap();
    let door = origin.places().of(DoorKind::Serves).next().unwrap();
    assert_this_side(&with_descriptors(128, proxy, &["--lab-origin".into(), door.to_string()]));
    assert_this_side(&with_descriptors(256, proxy, &[]));
}

#[test]
fn a_squid_with_enough_descriptors_holds_all_that_are_wanted() {
    let open = format!("{SQUID}max_filedescriptors 8192\nhttp_access allow all\n");
    let Some(squid) = start("squid", &["-N", "-f", "DIR/conf"], &open) else { return };
    let origin = OwnOrigin::start(&[[127, 0, 0, 1].into()]).unwrap();
    let [concurrent, recovers] = held(([127, 0, 0, 1], squid.port).into(), origin.places());
    assert_eq!((concurrent.outcome, recovers.outcome), (Outcome::Pass, Outcome::Pass), "{concurrent:?}");
    assert_eq!(concurrent.summary, "2000 tunnels stand at once, and all carry bytes");
}
