//! Reports of a made-up validation, as reviewed snapshots; and what must hold of every report.

use super::{FORMATS, Report, write};
use crate::{
    conformance::{
        Comparison, Context, Counts, Judgement, Level, Origin, Outcome, Remedy, Tried, Unit, Validation,
        product::{Product, Recognised},
    },
    model::{Status, Verdict},
    report::{Format, Style},
};

fn case(id: &'static str, level: Level, judgements: Vec<Judgement>) -> Tried {
    Tried {
        id,
        group: id.split('/').next().unwrap(),
        level,
        reference: "RFC 9110 section 9.3.6",
        title: "What is asked for holds",
        elapsed_ms: 12,
        judgements,
    }
}

fn validation(proxy: &str, tried: Vec<Tried>, products: Vec<Recognised>) -> Validation {
    let count = |outcome, level| tried.iter().filter(|t| t.outcome() == outcome && t.level == level).count();
    let all = |outcome| tried.iter().filter(|t| t.outcome() == outcome).count();
    let counts = Counts {
        pass: all(Outcome::Pass),
        warn: all(Outcome::Warn),
        fail_must: count(Outcome::Fail, Level::Must),
        fail_should: count(Outcome::Fail, Level::Should),
        fail_may: count(Outcome::Fail, Level::May),
        not_run: all(Outcome::NotRun),
    };
    Validation {
        context: Context {
            proxy: proxy.to_owned(),
            profile: "azure-backup".to_owned(),
            region: Some("westeurope".to_owned()),
            ports: vec![443, 8443],
            origin: Origin::Elsewhere { address: "10.1.0.9".to_owned(), ports: vec![443, 8443, 80] },
            notes: vec!["a store of certificates could not be read".to_owned()],
            ..Context::default()
        },
        started_at: "2026-11-23T02:00:00Z".to_owned(),
        elapsed_ms: 4321,
        verdict: Verdict {
            status: if counts.fail_must > 0 { Status::Blocked } else { Status::Clear },
            summary: format!("{} cases that must pass fail", counts.fail_must),
            exit_code: u8::from(counts.fail_must > 0),
        },
        counts,
        products,
        findings: Vec::new(),
        tried,
    }
}

fn squid() -> Vec<Recognised> {
    let marks = vec!["X-Squid-Error: ERR_ACCESS_DENIED 0".to_owned()];
    vec![Recognised { product: Product::Squid, version: Some("5.7".to_owned()), marks }]
}

/// One of everything, with text that a hostile proxy could have sent.
fn bad(products: Vec<Recognised>) -> Validation {
    let ports = || Remedy::AllowPorts { ports: vec![8443] };
    let tried = vec![
        case(
            "connect/port-443",
            Level::Must,
            vec![Judgement::pass("a tunnel to port 443 carries bytes").figure("connect", 3.4, Unit::Ms)],
        ),
        case(
            "connect/port-8443",
            Level::Must,
            vec![
                Judgement::fail("no tunnel to port 8443")
                    .because("the proxy answered `HTTP/1.1 403 <script>|]]>\u{1b}[31m`")
                    .code(Some(crate::classify::codes::PROXY_PORT_DENIED))
                    .remedy(ports())
                    .reproduce("curl -sv --proxy http://10.0.0.5:3128 --proxytunnel http://ORIGIN:8443/"),
            ],
        ),
        case(
            "connect/allow",
            Level::Must,
            vec![
                Judgement::pass("a tunnel to a.example:443 stands").about("a.example:443"),
                Judgement::fail("no tunnel to a.example:8443").about("a.example:8443").remedy(ports()),
            ],
        ),
        case(
            "tunnel/idle",
            Level::Should,
            vec![Judgement::fail("a silent tunnel is closed").remedy(Remedy::IdleTimeout { seconds: 7200 })],
        ),
        case(
            "errors/refused",
            Level::Should,
            vec![
                Judgement::warn("a refusal is told, and not why")
                    .because("503, and no word")
                    .remedy(Remedy::TellReasons),
            ],
        ),
        case("connect/port-80", Level::May, vec![Judgement::fail("no tunnel to port 80")]),
        case("connect/deny", Level::Must, vec![Judgement::not_run("no endpoint was named")]),
        case(
            "limits/latency",
            Level::Should,
            vec![Judgement::pass("tunnels open quickly").figure("p50", 0.4, Unit::Ms).figure("p95", 12.0, Unit::Ms)],
        ),
    ];
    validation("http://10.0.0.5:3128", tried, products)
}

fn good() -> Validation {
    let mut tried = bad(squid()).tried;
    for one in &mut tried {
        one.judgements = vec![Judgement::pass("it holds").figure("connect", 80.0, Unit::Ms)];
    }
    validation("http://10.0.0.4:3128", tried, Vec::new())
}

fn shown(format: Format, report: Report<'_>, style: Style) -> String {
    let mut out = Vec::new();
    write(format, report, &style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const VERBOSE: Style = Style { color: false, width: 80, verbose: 1 };

#[test]
fn reports_on_one_proxy() {
    let bad = bad(squid());
    insta::assert_snapshot!("text", shown(Format::Text, Report::One(&bad), Style::default()));
    insta::assert_snapshot!("text_v", shown(Format::Text, Report::One(&bad), VERBOSE));
    insta::assert_snapshot!("markdown", shown(Format::Markdown, Report::One(&bad), Style::default()));
    insta::assert_snapshot!("junit", shown(Format::Junit, Report::One(&bad), Style::default()));
    insta::assert_snapshot!("text_good", shown(Format::Text, Report::One(&good()), Style::default()));
}

#[test]
fn a_product_that_is_not_known_gets_the_lines_of_the_usual_ones() {
    let bad = bad(Vec::new());
    let text = shown(Format::Text, Report::One(&bad), Style::default());
    assert!(text.contains("not recognised") && text.contains("lines for squid"), "{text}");
    let markdown = shown(Format::Markdown, Report::One(&bad), Style::default());
    for line in ["acl SSL_ports port 8443", "ConnectPort 8443", "AllowCONNECT 443 8443", "url_end :443 :8443"] {
        assert!(markdown.contains(line), "{line}: {markdown}");
    }
}

#[test]
fn reports_on_two_proxies() {
    let (first, second) = (good(), bad(squid()));
    let comparison = Comparison::new(&first, &second);
    assert_eq!(comparison.verdict.exit_code, 1);
    insta::assert_snapshot!("vs_text", shown(Format::Text, Report::Two(&comparison), VERBOSE));
    insta::assert_snapshot!("vs_markdown", shown(Format::Markdown, Report::Two(&comparison), Style::default()));
    let json: serde_json::Value =
        serde_json::from_str(&shown(Format::Json, Report::Two(&comparison), Style::default())).unwrap();
    assert_eq!(json["context"]["proxy"], "http://10.0.0.4:3128");
    assert_eq!(json["vs"]["context"]["proxy"], "http://10.0.0.5:3128");
    assert_eq!((&json["vs"]["first"]["status"], &json["vs"]["second"]["status"]), (&"clear".into(), &"blocked".into()));
    let worse: Vec<_> =
        json["vs"]["differences"].as_array().unwrap().iter().filter(|d| d["change"] == "worse").collect();
    assert_eq!((&worse[0]["id"], &worse[0]["second"]["outcome"]), (&"connect/port-8443".into(), &"fail".into()));
}

#[test]
fn json_holds_every_case_with_its_fixes() {
    let bad = bad(squid());
    let json: serde_json::Value =
        serde_json::from_str(&shown(Format::Json, Report::One(&bad), Style::default())).unwrap();
    assert_eq!((&json["schema"], &json["kind"]), (&1.into(), &"proxy".into()));
    assert_eq!(json["cases"].as_array().unwrap().len(), bad.tried.len());
    let denied = &json["cases"][1]["judgements"][0];
    assert_eq!((&denied["outcome"], &denied["code"]), (&"fail".into(), &"proxy.port_denied".into()));
    assert_eq!(denied["fixes"][0]["product"], "squid");
    assert_eq!(denied["fixes"][0]["lines"][0], "acl SSL_ports port 8443");
    assert_eq!((&json["product"]["name"], &json["product"]["version"]), (&"squid".into(), &"5.7".into()));
    let idle =
        json["product"]["known_defaults"].as_array().unwrap().iter().find(|d| d["case"] == "tunnel/idle").unwrap();
    assert_eq!(idle["here"], "fail");
}

#[test]
fn nothing_that_a_proxy_says_steers_a_terminal_and_lines_keep_their_width() {
    let bad = bad(squid());
    for format in FORMATS {
        assert!(!shown(format, Report::One(&bad), Style::default()).contains('\u{1b}'), "{format}");
    }
    let text = shown(Format::Text, Report::One(&bad), Style { width: 60, ..Style::default() });
    // What is there to be copied is never broken.
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 60 && !line.contains("Try  ")).collect();
    assert!(wide.iter().all(|line| line.trim_start().starts_with(['#', 'a', 'h'])), "{wide:?}");
}

#[test]
fn cases_that_defaults_name_exist() {
    use crate::conformance::{catalogue, product::known_defaults};
    for product in [
        Product::Squid,
        Product::Tinyproxy,
        Product::Haproxy,
        Product::Privoxy,
        Product::Apache,
        Product::Cntlm,
        Product::Ncat,
        Product::Pproxy,
        Product::AzureFirewall,
    ] {
        for case in known_defaults(product).iter().filter_map(|default| default.case) {
            assert!(catalogue().any(|known| known.id == case), "{product}: {case}");
        }
    }
}
