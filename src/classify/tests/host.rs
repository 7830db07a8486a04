//! The host channel beside the targets: what its attempts tell together, and what they leave alone.

use crate::{
    classify::{
        assess, codes as c,
        testing::{NAME, VERSIONS, Walk, record, reply},
    },
    model::{
        Assessment, CellStatus, Code, Confidence, FailureKind as K, Finding, Hop, NotRun, Record, Route, Severity,
        Status,
    },
};

fn silent(port: u16) -> Walk {
    Walk::to_host(port).connect_fails(K::TimedOut)
}

fn answers(port: u16) -> Walk {
    let body = if port == 80 { VERSIONS } else { "" };
    Walk::to_host(port).connected().answered(reply(&format!("HTTP/1.1 200 OK\r\n\r\n{body}")))
}

/// A target that works, beside these attempts on the host channel.
fn beside(walks: impl IntoIterator<Item = Walk>, privileged: Option<bool>) -> Record {
    let target = format!("{NAME}:443");
    let storage = Walk::direct(&target, "20.60.1.1").reaches_storage();
    let mut record = record(&[&target], [storage].into_iter().chain(walks));
    record.context.privileged = privileged;
    record
}

/// The only finding.
#[track_caller]
fn only(assessment: &Assessment, code: Code) -> &Finding {
    assert_eq!(assessment.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), [code]);
    // Nothing about the host channel ever concerns a cell.
    assert!(matches!(assessment.cells[..], [ref cell] if cell.status == CellStatus::Ok && cell.tried == 1));
    &assessment.findings[0]
}

#[test]
fn a_healthy_host_channel_is_not_worth_a_word() {
    let got = assess(&beside([answers(80), answers(32526)], Some(false)));
    assert_eq!((got.verdict.status, got.findings.len()), (Status::Clear, 0), "{got:?}");
}

#[test]
fn a_broken_host_channel_degrades_and_blocks_nothing() {
    let got = assess(&beside([silent(80), silent(80), silent(32526), silent(32526)], Some(true)));
    let finding = only(&got, c::HOST_UNREACHABLE);
    assert_eq!((finding.hop, finding.severity, finding.route), (Hop::Host, Severity::Error, None));
    assert_eq!(finding.confidence, Confidence::Heuristic);
    assert_eq!((finding.failed, finding.tried), (4, 4));
    assert_eq!(finding.targets, ["168.63.129.16:32526", "168.63.129.16:80"]);
    assert_eq!((got.verdict.status, got.verdict.exit_code), (Status::Degraded, 0));
    assert_eq!(got.verdict.summary, "the endpoint answers directly, but the host channel is broken");
}

#[test]
fn silence_for_a_user_without_privilege_proves_nothing() {
    let got = assess(&beside([silent(80), silent(32526)], Some(false)));
    let finding = only(&got, c::HOST_ROOT_NEEDED);
    assert_eq!((finding.severity, finding.confidence), (Severity::Warning, Confidence::Heuristic));
    assert_eq!(got.verdict.summary, "the endpoint answers directly, with 1 warning");
    // Where nobody noted who ran it, a silence is what it is.
    only(&assess(&beside([silent(80), silent(32526)], None)), c::HOST_UNREACHABLE);
    // A refusal is no silence, and whoever may connect to one port may connect to the other.
    let refused = Walk::to_host(80).connect_fails(K::Refused);
    only(&assess(&beside([refused], Some(false))), c::HOST_UNREACHABLE);
    let got = assess(&beside([answers(80), silent(32526)], Some(false)));
    let finding = only(&got, c::HOST_UNREACHABLE);
    assert_eq!((finding.confidence, finding.targets.len()), (Confidence::Differential, 1));
    assert!(finding.summary.ends_with("port 80 of the same address accepts connections"), "{}", finding.summary);
}

#[test]
fn some_attempts_that_fail_are_a_warning() {
    let got = assess(&beside([answers(80), silent(80), answers(80), answers(32526)], Some(true)));
    let finding = only(&got, c::HOST_UNREACHABLE);
    assert_eq!((finding.severity, finding.failed, finding.tried), (Severity::Warning, 1, 3));
    assert!(finding.summary.contains("1 of 3 attempts failed"), "{}", finding.summary);
    assert_eq!(got.verdict.status, Status::Degraded);
}

#[test]
fn a_target_that_fails_decides_whatever_the_host_channel_does() {
    let target = format!("{NAME}:443");
    let refused = Walk::direct(&target, "20.60.1.1").connect_fails(K::Refused);
    let got = assess(&record(&[&target], [refused, answers(80), silent(32526)]));
    assert_eq!(got.verdict.status, Status::Blocked);
    assert_eq!(got.verdict.summary, format!("{target} cannot be reached directly"));
}

#[test]
fn it_adds_no_route_and_no_pass_to_the_targets() {
    let target = format!("{NAME}:443");
    let got = assess(&record(&[&target], [Walk::proxied(&target).reaches_storage(), answers(80)]));
    assert_eq!(got.cells.iter().map(|cell| cell.route).collect::<Vec<_>>(), [Route::Proxy]);

    let cut = NotRun { subject: "168.63.129.16:80".into(), route: None, reason: "x".into(), deadline: true };
    let walks = [Walk::proxied(&target).reaches_storage(), Walk::to_host(32526).connect_fails(K::Cancelled)];
    let mut record = record(&[&target], walks);
    record.not_run.push(cut);
    let got = assess(&record);
    assert!(
        matches!(got.findings[..], [ref finding] if finding.code == c::META_DEADLINE && finding.targets.len() == 2)
    );
    assert_eq!((got.cells.len(), got.verdict.status), (1, Status::Degraded));
}

fn metadata(says: &str) -> Walk {
    Walk::to_metadata().connected().answered(reply(says))
}

const HEALTHY: &str = "HTTP/1.1 200 OK\r\n\r\n{\"apiVersions\":[\"2021-02-01\"]}";

#[test]
fn instance_metadata_is_told_by_what_it_says() {
    for genuine in [
        HEALTHY,
        "HTTP/1.1 200 OK\r\n\r\n {\"compute\":{\"location\":\"westeurope\"}}",
        "HTTP/1.1 200 OK\r\n\r\n{\"network\":{}}",
        "HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":\"Bad request\",\"newest-versions\":[\"2021-02-01\"]}",
        "HTTP/1.1 429 Too Many Requests\r\nServer: IMDS/150.870.65.1854\r\n\r\n",
    ] {
        let got = assess(&beside([answers(80), metadata(genuine)], Some(true)));
        assert_eq!((got.verdict.status, got.findings.len()), (Status::Clear, 0), "{genuine}: {got:?}");
    }
}

#[test]
fn without_instance_metadata_a_snapshot_still_works() {
    let dead = || Walk::to_metadata().connect_fails(K::TimedOut);
    for privileged in [Some(true), Some(false)] {
        let got = assess(&beside([answers(80), answers(32526), dead(), dead()], privileged));
        let finding = only(&got, c::HOST_UNREACHABLE);
        assert_eq!((finding.severity, finding.confidence), (Severity::Warning, Confidence::Heuristic));
        assert_eq!((finding.targets.as_slice(), finding.tried), (&["169.254.169.254:80".to_owned()][..], 2));
        assert_eq!(got.verdict.summary, "the endpoint answers directly, with 1 warning");
        let commands: Vec<_> = finding.remedies.iter().flat_map(|remedy| &remedy.commands).collect();
        assert!(commands.iter().all(|line| !line.contains("168.63.129.16")), "{commands:?}");
    }
    // What the wire server's silence proves is not about instance metadata.
    let page = metadata("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>");
    let got = assess(&beside([silent(80), silent(32526), page], Some(false)));
    let codes: Vec<_> = got.findings.iter().map(|finding| (finding.code, finding.severity)).collect();
    assert_eq!(codes, [(c::HOST_ROOT_NEEDED, Severity::Warning), (c::HOST_UNEXPECTED, Severity::Warning)]);
}

#[test]
fn instance_metadata_tells_a_rule_from_a_dead_link() {
    let wire = || [silent(80), silent(32526)];
    let got = assess(&beside(wire().into_iter().chain([metadata(HEALTHY)]), Some(false)));
    let finding = only(&got, c::HOST_ROOT_NEEDED);
    assert!(
        finding.summary.contains("instance metadata answers, so the way to the host is open"),
        "{}",
        finding.summary
    );

    let dead = Walk::to_metadata().connect_fails(K::TimedOut);
    let got = assess(&beside(wire().into_iter().chain([dead]), Some(false)));
    let finding = got.findings.iter().find(|finding| finding.code == c::HOST_ROOT_NEEDED).unwrap();
    assert!(finding.summary.contains("is silent too"), "{}", finding.summary);
    assert!(got.findings.iter().any(|finding| finding.code == c::HOST_UNREACHABLE && finding.targets.len() == 1));

    let got = assess(&beside(wire().into_iter().chain([metadata(HEALTHY)]), Some(true)));
    let finding = only(&got, c::HOST_UNREACHABLE);
    assert_eq!((finding.severity, finding.confidence), (Severity::Error, Confidence::Differential));
    assert!(finding.summary.contains("a rule about this address"), "{}", finding.summary);
}
