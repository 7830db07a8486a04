//! Wording that the reporters share, and the one place where text from peers is made harmless.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use serde::Serialize;

use crate::model::{
    Cell, CellStatus, Confidence, Context, Decision, Expectation, Finding, Hop, NotRun, Outcome, Party, Prediction,
    Record, Route, Security, Severity, Status,
};

/// Reasons why something was not run that are listed.
const MAX_REASONS: usize = 8;

/// Characters of a proxy's address in a heading.
const MAX_HEADING: usize = 40;

/// The text with everything escaped that could move a cursor, break a line, or reorder what is shown: control
/// characters (C0, DEL, C1) as `\xNN`, bidirectional and invisible format characters as `\u{NNNN}`.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let code = u32::from(c);
                // Writing to a String cannot fail.
                let _ = if code < 0x100 { write!(out, "\\x{code:02x}") } else { write!(out, "\\u{{{code:x}}}") };
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether a character can do more than stand in its place.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// A consumer as people know it.
pub(super) fn consumer(name: &str) -> Cow<'_, str> {
    Cow::Borrowed(match name {
        "vmsnapshot-linux" => "VMSnapshotLinux (builds since 2025-03)",
        "vmsnapshot-linux-2019" => "VMSnapshotLinux (builds from 2019-07 to 2025-03)",
        "vmsnapshot-linux-2018" => "VMSnapshotLinux (builds until 2019-06)",
        "vmsnapshot-windows" => "VMSnapshot for Windows",
        "waagent" => "the Linux agent",
        other => return clean(other),
    })
}

/// How a prediction ends, in a line.
pub(super) fn ending(prediction: &Prediction) -> String {
    let shown = prediction.portal_error.as_ref().or(prediction.extension_name.as_ref());
    let shown = shown.map_or_else(|| wire(&prediction.class).replace('_', " "), Clone::clone);
    let code = prediction.extension_code.map_or_else(String::new, |code| format!(" (status code {code})"));
    match prediction.outcome {
        Outcome::Success => "success".into(),
        Outcome::Failure => format!("{shown}{code}"),
        Outcome::Unknown => format!("open; if it fails, {shown}{code}"),
    }
}

/// At most `limit` characters, with an ellipsis where something was cut.
pub(super) fn short(text: &str, limit: usize) -> Cow<'_, str> {
    if text.char_indices().nth(limit).is_none() {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    Cow::Owned(kept + "…")
}

/// The name that a unit variant has in JSON, so that text and JSON speak alike.
pub(super) fn wire(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Microseconds for people: `0.4 ms`, `12 ms`, `3.2 s`.
pub(crate) fn duration(us: u64) -> String {
    let whole_ms = (us + 500) / 1000;
    match us {
        0..9_950 => {
            let tenths = (us + 50) / 100;
            format!("{}.{} ms", tenths / 10, tenths % 10)
        }
        9_950..999_500 => format!("{whole_ms} ms"),
        _ => {
            let tenths = (us + 50_000) / 100_000;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
    }
}

/// Milliseconds with one digit, for columns of steps.
pub(super) fn millis(us: u64) -> String {
    let tenths = (us + 50) / 100;
    format!("{}.{} ms", count(tenths / 10), tenths % 10)
}

/// Seconds with all six digits that a microsecond needs.
pub(super) fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// A number with commas between thousands.
pub(crate) fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 target`, `2 targets`.
pub(crate) fn plural(n: impl TryInto<u64>, one: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Clear => "CLEAR",
        Status::Degraded => "DEGRADED",
        Status::Blocked => "BLOCKED",
        Status::Inconclusive => "INCONCLUSIVE",
    }
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

/// How sure, as a reader would say it.
pub(super) fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proof => "certain (proof)",
        Confidence::Reported => "as another party reports it (reported)",
        Confidence::Differential => "by comparison (differential)",
        Confidence::Heuristic => "likely (heuristic)",
        Confidence::Unknown => "cause not known (unknown)",
    }
}

/// What the far end is called: storage, unless some target may be answered by anybody.
pub(super) fn far_end(record: &Record) -> &'static str {
    if record.targets.iter().all(|target| target.expects == Expectation::Storage) { "storage" } else { "the endpoint" }
}

/// Who to whom, in words.
pub(super) fn between(finding: &Finding, far_end: &str) -> String {
    let peer = if finding.party == Party::Resolver { "its name server" } else { far_end };
    let way = |text: String| match finding.route {
        Some(Route::Direct) => text + ", direct",
        Some(Route::Proxy) => text + ", via the proxy",
        None => text,
    };
    match finding.hop {
        Hop::Local => "on this machine".into(),
        Hop::ClientToProxy => {
            format!("this machine -> {}", if finding.party == Party::Resolver { peer } else { "the proxy" })
        }
        Hop::Proxy => "the proxy itself".into(),
        Hop::ProxyToOrigin => format!("the proxy -> {peer}"),
        Hop::ClientToOrigin if finding.route == Some(Route::Proxy) && finding.party != Party::Resolver => {
            format!("this machine -> {peer}, inside the proxy's tunnel")
        }
        Hop::ClientToOrigin => way(format!("this machine -> {peer}")),
        Hop::Origin => way(format!("{far_end} itself")),
        Hop::Host if finding.party == Party::Origin => "the Azure host itself".into(),
        Hop::Host => "this machine -> the Azure host".into(),
        Hop::Consumer => "the agent or extension".into(),
    }
}

/// Who must act: follows from the hop.
pub(super) fn team(finding: &Finding) -> &'static str {
    match (finding.hop, finding.party) {
        (Hop::ClientToProxy | Hop::ClientToOrigin, Party::Resolver) => "DNS admin",
        (Hop::ProxyToOrigin, Party::Resolver) => "proxy admin, for the proxy's DNS",
        (Hop::Host | Hop::Consumer, Party::Origin) => "Azure support",
        (Hop::Local | Hop::Host | Hop::Consumer, _) => "operator of this machine",
        (Hop::Proxy, _) => "proxy admin",
        (Hop::ProxyToOrigin, _) => "proxy admin, network team beyond the proxy",
        (Hop::ClientToOrigin, _) if finding.route == Some(Route::Proxy) => "network team, with the proxy admin",
        (Hop::ClientToProxy | Hop::ClientToOrigin, _) => "network team",
        (Hop::Origin, _) => "storage owner",
    }
}

/// A cell in a few characters.
pub(super) fn cell(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else {
        return "-".into();
    };
    let some = cell.passed > 0 && cell.passed < cell.tried;
    let share = format!("{}/{} ok", cell.passed, cell.tried);
    let time = duration(cell.elapsed_us);
    match cell.status {
        CellStatus::Ok if some => share,
        CellStatus::Ok => format!("ok {time}"),
        CellStatus::Warning(code) if some => format!("{share} ({code})"),
        CellStatus::Warning(code) => format!("ok {time} ({code})"),
        CellStatus::Error(code) if some => format!("{code} ({share})"),
        CellStatus::Error(code) => code.to_string(),
        CellStatus::NotRun => "not run".into(),
    }
}

/// The route as a heading of a column; the proxy's address without `http://`, cut where it is very long.
pub(super) fn route_heading(route: Route, record: &Record) -> String {
    match (route, &record.context.proxy) {
        (Route::Direct, _) => "direct".into(),
        (Route::Proxy, Some(proxy)) => {
            let proxy = clean(proxy.strip_prefix("http://").unwrap_or(proxy));
            format!("via {}", short(&proxy, MAX_HEADING))
        }
        (Route::Proxy, None) => "via proxy".into(),
    }
}

/// Why things were not measured, by subject.
pub(super) struct Reasons<'a>(HashMap<&'a str, Vec<&'a NotRun>>);

impl<'a> Reasons<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        let mut by_subject: HashMap<&str, Vec<&NotRun>> = HashMap::new();
        for entry in &record.not_run {
            by_subject.entry(&entry.subject).or_default().push(entry);
        }
        Self(by_subject)
    }

    /// Why this target was not measured on this route, where the record tells.
    pub(super) fn of(&self, authority: &str, route: Route) -> Option<&'a str> {
        let entries = self.0.get(authority)?;
        entries.iter().find(|entry| entry.route.is_none_or(|r| r == route)).map(|entry| entry.reason.as_str())
    }
}

/// Notes on the measurement itself: the lab, an interrupt, what the engine noted.
pub(super) fn notes(context: &Context) -> Vec<Cow<'_, str>> {
    let lab = context.lab.as_ref().map(|name| {
        format!("The embedded lab played every other party (scenario {name}): this says nothing about a real network.")
            .into()
    });
    let interrupted =
        context.interrupted.then_some(Cow::Borrowed("The run was interrupted; this is what was measured until then."));
    let files = context.security.iter().flat_map(|security| {
        std::iter::once(judged_by_files(security).into()).chain(security.notes.iter().map(|note| note.as_str().into()))
    });
    lab.into_iter()
        .chain(interrupted)
        .chain(files)
        .chain(context.notes.iter().map(|note| note.as_str().into()))
        .collect()
}

/// What the files given say, all flows together.
fn judged_by_files(security: &Security) -> String {
    let of = |decision: Decision| security.flows.iter().filter(|flow| flow.decision == decision).count();
    let counts = [(Decision::Allowed, "allow"), (Decision::Denied, "deny"), (Decision::Unknown, "leave open")]
        .map(|(decision, word)| (of(decision), word));
    let said: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{word} {}", count(*n))).collect();
    let said = if said.is_empty() { "were not asked".to_owned() } else { said.join(", ") };
    let flows = plural(security.flows.len(), "flow");
    format!("Of {flows} probed the files given {said}. {}.", security.sources.join("; "))
}

/// What was not measured, alike reasons together, a line each.
pub(super) fn not_run(record: &Record) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for entry in &record.not_run {
        let name = match entry.route {
            Some(route) => format!("{} {route}", entry.subject),
            None => entry.subject.clone(),
        };
        match reasons.iter().position(|(reason, _)| *reason == entry.reason) {
            Some(at) => reasons[at].1.push(name),
            None if reasons.len() < MAX_REASONS => reasons.push((&entry.reason, vec![name])),
            None => {}
        }
    }
    let listed: usize = reasons.iter().map(|(_, names)| names.len()).sum();
    let mut lines: Vec<String> = reasons
        .into_iter()
        .map(|(reason, names)| {
            let more = names.len().saturating_sub(3);
            let shown = names[..names.len() - more].join(", ");
            let more = if more > 0 { format!(" and {} more", count(more)) } else { String::new() };
            format!("{shown}{more}: {reason}")
        })
        .collect();
    if record.not_run.len() > listed {
        lines.push(format!("and {} more for other reasons", count(record.not_run.len() - listed)));
    }
    lines
}

/// `host:port` names, ports of the same host together, at most `limit` of them:
/// `a.example:80, :443, b.example:443 and 9,997 more`.
pub(super) fn targets(names: &[String], limit: usize) -> String {
    let mut out = String::new();
    let mut last_host = "";
    for name in names.iter().take(limit) {
        let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
        if !out.is_empty() {
            out.push_str(", ");
        }
        if host == last_host && !port.is_empty() {
            out.push(':');
            out.push_str(port);
        } else {
            out.push_str(name);
        }
        last_host = host;
    }
    if names.len() > limit {
        let _ = write!(out, " and {} more", count(names.len() - limit));
    }
    out
}

/// `3 of 3 attempts failed`, or in how many something was seen that works and will bite; nothing where nothing was
/// tried.
pub(super) fn attempts(finding: &Finding) -> Option<String> {
    let of = format!("{} of {}", count(finding.failed), plural(finding.tried, "attempt"));
    let words = if finding.severity == Severity::Error { format!("{of} failed") } else { format!("seen in {of}") };
    (finding.tried > 0).then_some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{classify::codes, report::fixtures};

    #[test]
    fn durations_round_and_never_jump_units() {
        for (us, text) in [
            (0, "0.0 ms"),
            (449, "0.4 ms"),
            (9_949, "9.9 ms"),
            (9_950, "10 ms"),
            (999_499, "999 ms"),
            (999_500, "1.0 s"),
            (10_000_400, "10.0 s"),
        ] {
            assert_eq!(duration(us), text, "{us}");
        }
        assert_eq!(millis(10_000_123), "10,000.1 ms");
        assert_eq!(seconds(1_000_007), "1.000007");
    }

    #[test]
    fn numbers_have_thousands() {
        let shown: Vec<_> = [0_u32, 999, 1000, 12_345, 1_234_567].into_iter().map(count).collect();
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn the_hop_says_who_to_whom_and_who_must_act() {
        let say = |hop, route, party| {
            let mut finding = fixtures::finding(codes::TCP_RESET, hop, Severity::Error);
            (finding.route, finding.party) = (route, party);
            (between(&finding, "storage"), team(&finding))
        };
        let (direct, proxy) = (Some(Route::Direct), Some(Route::Proxy));
        for (hop, route, party, expected, acts) in [
            (Hop::Local, direct, Party::Client, "on this machine", "operator of this machine"),
            (Hop::ClientToProxy, proxy, Party::Path, "this machine -> the proxy", "network team"),
            (Hop::Proxy, proxy, Party::Proxy, "the proxy itself", "proxy admin"),
            (
                Hop::ProxyToOrigin,
                proxy,
                Party::Path,
                "the proxy -> storage",
                "proxy admin, network team beyond the proxy",
            ),
            (Hop::ClientToOrigin, direct, Party::Path, "this machine -> storage, direct", "network team"),
            (
                Hop::ClientToOrigin,
                proxy,
                Party::Path,
                "this machine -> storage, inside the proxy's tunnel",
                "network team, with the proxy admin",
            ),
            (Hop::ClientToOrigin, direct, Party::Resolver, "this machine -> its name server, direct", "DNS admin"),
            (Hop::Origin, proxy, Party::Origin, "storage itself, via the proxy", "storage owner"),
            (Hop::Host, None, Party::Client, "this machine -> the Azure host", "operator of this machine"),
            (Hop::Consumer, None, Party::Client, "the agent or extension", "operator of this machine"),
        ] {
            assert_eq!(say(hop, route, party), (expected.to_owned(), acts));
        }
    }

    #[test]
    fn a_cell_says_how_many_attempts_differ() {
        let mut cell = fixtures::clear().assessment.cells.remove(0);
        for (status, passed, expected) in [
            (CellStatus::Ok, 3, "ok 12 ms"),
            (CellStatus::Warning(codes::HTTP_SLOW), 3, "ok 12 ms (http.slow)"),
            (CellStatus::Warning(codes::TCP_INTERMITTENT), 2, "2/3 ok (tcp.intermittent)"),
            (CellStatus::Error(codes::TCP_RESET), 0, "tcp.reset"),
            (CellStatus::Error(codes::TCP_RESET), 1, "tcp.reset (1/3 ok)"),
            (CellStatus::NotRun, 0, "not run"),
        ] {
            (cell.status, cell.passed, cell.tried) = (status, passed, 3);
            assert_eq!(super::cell(Some(&cell)), expected);
        }
        assert_eq!(super::cell(None), "-");
    }

    #[test]
    fn ports_of_a_host_share_its_name() {
        let names: Vec<String> = ["a:443", "a:8443", "b:443", "[::1]:80"].map(Into::into).into();
        assert_eq!(targets(&names, 9), "a:443, :8443, b:443, [::1]:80");
        assert_eq!(targets(&names, 1), "a:443 and 3 more");
    }

    #[test]
    fn what_moves_a_cursor_or_reorders_is_escaped() {
        assert_eq!(clean("\x1b[31mred\u{9b}0m\r\n\t\u{202e}x\x7f"), "\\x1b[31mred\\x9b0m\\r\\n\\t\\u{202e}x\\x7f");
        assert!(matches!(clean("Société → ok"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn cleaned_text_is_safe(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(is_unsafe));
        }

        #[test]
        fn shortened_text_is_a_prefix(text in "\\PC{0,40}", limit in 1_usize..50) {
            let cut = short(&text, limit);
            prop_assert!(cut.chars().count() <= limit);
            prop_assert!(text.starts_with(cut.trim_end_matches('…')));
        }
    }
}
