//! Answers of real proxies, and of listeners that are none, to one CONNECT each: recorded, and made from descriptions.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{
    classify::{
        assess,
        testing::{Walk, record},
    },
    http::{ParseError, Parsed, parse_head},
    model::{Excerpt, FailureKind, Finding, Severity, TunnelEvidence},
};

#[derive(Deserialize)]
struct Case {
    id: String,
    connect: String,
    credentials: bool,
    /// Base64.
    #[serde(default)]
    answer: String,
    /// The same in the cases made from descriptions, a character per byte.
    #[serde(default)]
    text: String,
    after: After,
    codes: Vec<String>,
    hop: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum After {
    Closed,
    Reset,
    Open,
}

/// The failed tunnel step that the bytes give, as the tunnel layer records it.
fn tunnel(case: &Case, bytes: &[u8]) -> (FailureKind, TunnelEvidence) {
    let mut evidence = TunnelEvidence {
        credentials_sent: case.credentials,
        bytes_read: bytes.len() as u64,
        first_bytes: (!bytes.is_empty()).then(|| Excerpt::new(bytes, 256, bytes.len() as u64)),
        ..TunnelEvidence::default()
    };
    let ended = match case.after {
        After::Closed if bytes.is_empty() => FailureKind::Closed,
        After::Closed => FailureKind::Truncated,
        After::Reset => FailureKind::Reset,
        After::Open => FailureKind::TimedOut,
    };
    if bytes.is_empty() {
        return (ended, evidence);
    }
    let kind = match parse_head(bytes, 0) {
        Ok(Parsed::Complete(mut reply, length)) => {
            let body = &bytes[length..];
            reply.body = Excerpt::new(body, 4096, body.len() as u64);
            evidence.reply = Some(*reply);
            evidence.first_bytes = None;
            FailureKind::Status
        }
        Ok(Parsed::Partial) => ended,
        Err(ParseError::NotHttp) => FailureKind::NotHttp,
        Err(ParseError::Malformed(_)) => FailureKind::BadHead,
        Err(ParseError::TooLarge) => FailureKind::HeadTooLarge,
    };
    (kind, evidence)
}

fn primary(case: &Case) -> Finding {
    let bytes = if case.text.is_empty() {
        STANDARD.decode(&case.answer).unwrap()
    } else {
        case.text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
    };
    let (kind, evidence) = tunnel(case, &bytes);
    let walk = Walk::proxied(&case.connect).connected().tunnel_fails(kind, evidence);
    let assessment = assess(&record(&[&case.connect], [walk]));
    let errors: Vec<_> = assessment.findings.into_iter().filter(|f| f.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{}: {errors:?}", case.id);
    errors.into_iter().next().unwrap()
}

#[test]
fn every_recorded_answer_is_judged_right() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/data/proxy-replies.json")).unwrap();
    assert_eq!(cases.len(), 147);
    judge(&cases);
}

/// Answers as documents and other products' texts describe them. What happens behind a 200 takes a socket: the
/// integration tests play those, and all others again.
#[test]
fn every_described_answer_is_judged_right() {
    let mut cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/data/more-replies.json")).unwrap();
    cases.retain(|case| !case.text.contains(" 200") && !case.text.contains(" 100 Continue"));
    assert!(cases.len() > 200);
    judge(&cases);
}

fn judge(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let finding = primary(case);
        let hop = serde_json::to_value(finding.hop).unwrap();
        let right = case.codes.iter().any(|code| code == finding.code.0)
            && case.hop.as_ref().is_none_or(|expected| hop == expected.as_str());
        if !right {
            wrong.push(format!("{}: {} at {hop}, not {:?} at {:?}", case.id, finding.code, case.codes, case.hop));
        }
        assert!(finding.evidence.iter().all(|line| line.chars().count() <= 200), "{:?}", finding.evidence);
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
