use super::*;
use crate::{conformance::Outcome, model::FailureKind};

/// A proxy that does all that is wanted.
fn good() -> Load {
    Load {
        wanted: 2000,
        possible: 2000,
        descriptors: 20_000,
        origin_here: true,
        held: 2000,
        elapsed: Duration::from_millis(700),
        end: End::Full,
        strays: (0, None),
        lost: 0,
        reopened: Some(Reopened { closed: 16, opened: 16 }),
        after: After::Served(Duration::from_millis(2)),
    }
}

fn stop(how: How) -> Stop {
    let heard = match &how {
        How::Answered(status) => format!("the proxy answered `{status}`"),
        _ => "tunnel with the proxy: no answer in time".into(),
    };
    Stop { how, heard, code: Some(codes::PROXY_SILENT) }
}

/// A proxy that holds so many and then does this.
fn limited(held: usize, edge: Option<usize>, how: How) -> Load {
    Load {
        held,
        end: End::Stopped { stop: stop(how), edge },
        reopened: Some(Reopened { closed: 64, opened: 64 }),
        ..good()
    }
}

fn says(judgement: &Judgement, part: &str) -> bool {
    judgement.summary.contains(part) || judgement.evidence.iter().any(|line| line.contains(part))
}

#[test]
fn a_proxy_that_holds_them_all_passes() {
    let judgement = judge_concurrent(&good());
    assert_eq!(judgement.outcome, Outcome::Pass);
    assert_eq!(judgement.summary, "2000 tunnels stand at once, and all carry bytes");
    assert!((judgement.figures["held"].value - 2000.0).abs() < f64::EPSILON);
    assert_eq!(judge_recovers(&good()).outcome, Outcome::Pass);
}

#[test]
fn each_product_has_its_own_way_of_being_full() {
    let descriptors = Remedy::Descriptors { count: 8192 };
    let clients = Remedy::Clients { count: 3000 };
    let answered = |status: &str| How::Answered(status.into());
    for (product, edge, how, summary, remedy) in [
        (
            "squid, 1,024 descriptors",
            459,
            How::Silent,
            "the proxy holds 459 tunnels and leaves further CONNECTs unanswered: its limit of 1024 file descriptors",
            &descriptors,
        ),
        (
            "tinyproxy, MaxClients 100",
            100,
            How::Silent,
            "the proxy holds 100 tunnels and leaves further CONNECTs unanswered: a limit of clients, which in \
             tinyproxy is 100 by default",
            &clients,
        ),
        (
            "tinyproxy, 1,024 descriptors",
            510,
            answered("HTTP/1.0 500 Unable to connect"),
            "the proxy holds 510 tunnels and answers further CONNECTs with `HTTP/1.0 500 Unable to connect`: its limit of \
             1024 file descriptors",
            &descriptors,
        ),
        (
            "privoxy, its default",
            128,
            answered("HTTP/1.1 503 Too many open connections"),
            "the proxy holds 128 tunnels and answers further CONNECTs with `HTTP/1.1 503 Too many open connections`: a \
             limit of clients, which in privoxy is 128 or 256 by default",
            &clients,
        ),
        (
            "privoxy, 1,024 descriptors",
            510,
            How::NoConnection,
            "the proxy holds 510 tunnels and takes no further connection: its limit of 1024 file descriptors",
            &descriptors,
        ),
        (
            "cntlm",
            510,
            How::Dead,
            "the proxy holds 510 tunnels and opens further ones that carry nothing: its 1024 file descriptors, more of \
             which a program that waits with select(2) cannot use",
            &Remedy::Replace,
        ),
        (
            "haproxy, maxconn 500",
            500,
            How::Silent,
            "the proxy holds 500 tunnels of the 2000 that are wanted, and leaves further CONNECTs unanswered",
            &clients,
        ),
        (
            "squid, acl maxconn 50",
            50,
            answered("HTTP/1.1 403 Forbidden"),
            "the proxy holds 50 tunnels of the 2000 that are wanted, and answers further CONNECTs with `HTTP/1.1 403 \
             Forbidden`",
            &clients,
        ),
        (
            "one that hangs up",
            300,
            How::HungUp,
            "the proxy holds 300 tunnels of the 2000 that are wanted, and breaks further connections off",
            &clients,
        ),
    ] {
        let judgement = judge_concurrent(&limited(edge, Some(edge), how));
        assert_eq!(judgement.outcome, Outcome::Fail, "{product}");
        assert_eq!(judgement.summary, summary, "{product}");
        assert_eq!(judgement.remedy.as_ref(), Some(remedy), "{product}");
        assert_eq!(judgement.code, Some(codes::PROXY_OVERLOADED), "{product}");
        assert!(
            says(&judgement, "it is a limit, and no outage") && says(&judgement, "it is not this side"),
            "{product}"
        );
        assert!(judgement.reproduce.is_some(), "{product}");
    }
}

#[test]
fn an_origin_elsewhere_may_be_at_its_limit_too() {
    let elsewhere = |how| judge_concurrent(&Load { origin_here: false, ..limited(1010, Some(1010), how) });
    assert!(says(&elsewhere(How::Dead), "unless it is the origin's"));
    assert!(!says(&elsewhere(How::Silent), "unless it is the origin's"));
}

#[test]
fn a_number_that_is_not_the_same_each_time_stands_in_no_sentence() {
    let judgement = judge_concurrent(&limited(471, None, How::Silent));
    let unsaid = "the proxy holds fewer than the 2000 tunnels that are wanted, and leaves further CONNECTs unanswered";
    assert_eq!(judgement.summary, unsaid);
    assert!(!says(&judgement, "471"));
    assert!((judgement.figures["held"].value - 471.0).abs() < f64::EPSILON);
}

#[test]
fn a_proxy_that_stays_down_has_met_no_limit() {
    let load = Load {
        reopened: Some(Reopened { closed: 64, opened: 0 }),
        after: After::Failed(stop(How::NoConnection)),
        ..limited(459, None, How::NoConnection)
    };
    let judgement = judge_concurrent(&load);
    assert_eq!(judgement.summary, "the proxy stops serving while tunnels are held");
    assert_eq!(judgement.code, Some(codes::PROXY_SILENT));
    assert!(!says(&judgement, "file descriptors:") && !says(&judgement, "no outage"));
    let recovers = judge_recovers(&load);
    assert_eq!(recovers.outcome, Outcome::Fail);
    assert!(says(&recovers, "does not recover"));
}

#[test]
fn what_this_machine_cannot_do_is_never_the_proxys() {
    let here = Stop {
        how: How::Here(FailureKind::FileDescriptors),
        heard: "connect with the proxy: this program has no file descriptor left".into(),
        code: None,
    };
    for (possible, end, outcome) in [
        (460, End::Full, Outcome::Warn),
        (460, End::Ours(here.clone()), Outcome::Warn),
        (7, End::Ours(here.clone()), Outcome::NotRun),
        (0, End::Full, Outcome::NotRun),
    ] {
        let load = Load { possible, held: possible, descriptors: 1024, end, ..good() };
        let judgement = judge_concurrent(&load);
        assert_eq!(judgement.outcome, outcome, "{possible}: {}", judgement.summary);
        assert!(says(&judgement, "this process may have 1024 file descriptors"), "{possible}");
        assert!(judgement.remedy.is_none() && judgement.code.is_none(), "{possible}");
    }
    let after = Load { after: After::Failed(here), ..good() };
    assert_eq!(judge_recovers(&after).outcome, Outcome::NotRun);
    // A proxy that stops even before is at its own limit all the same.
    let both = Load { possible: 490, descriptors: 1024, ..limited(100, Some(100), How::Silent) };
    let judgement = judge_concurrent(&both);
    assert_eq!(judgement.outcome, Outcome::Fail);
    assert!(says(&judgement, "before that was used up") && !says(&judgement, "it is not this side"));
}

#[test]
fn tunnels_must_stay_alive_and_leave_room_when_they_go() {
    let lost = judge_concurrent(&Load { lost: 3, ..good() });
    assert!(lost.outcome == Outcome::Fail && says(&lost, "carry nothing any more"));
    let leaky = judge_concurrent(&Load { reopened: Some(Reopened { closed: 16, opened: 2 }), ..good() });
    assert!(leaky.outcome == Outcome::Fail && says(&leaky, "make no room"));
}

#[test]
fn what_was_not_shown_in_time_is_no_pass() {
    let slow = judge_concurrent(&Load { held: 731, end: End::TimeUp, ..good() });
    assert_eq!(slow.outcome, Outcome::Warn);
    assert!(says(&slow, "the time of the load was up before 2000 stood at once") && !says(&slow, "731"));
    let strays = (20, Some(stop(How::NoConnection)));
    let overrun = judge_concurrent(&Load { held: 731, end: End::TimeUp, strays, ..good() });
    assert!(overrun.outcome == Outcome::Warn && says(&overrun, "as some CONNECTs failed"));
    let strays = judge_concurrent(&Load { strays: (5, Some(stop(How::Silent))), ..good() });
    assert!(strays.outcome == Outcome::Warn && says(&strays, "some CONNECTs failed"));
    let tired = Load { after: After::Served(Duration::from_secs(3)), ..good() };
    assert_eq!(judge_recovers(&tired).outcome, Outcome::Warn);
    let none = Load { held: 0, ..limited(0, None, How::Silent) };
    assert_eq!(judge_recovers(&none).outcome, Outcome::NotRun);
}
