//! Answers of proxies, and of what is none, played byte by byte from a socket to the real probe and judged by the real
//! classifier: in one piece and in two, with and without the probe's own controls.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use snapreach::{
    classify::assess,
    model::{Route, Severity, Target},
    plan::{NameServer, Plan},
    probe,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

#[derive(Deserialize)]
struct Case {
    id: String,
    connect: String,
    credentials: bool,
    /// What is answered, base64.
    #[serde(default)]
    answer: String,
    /// The same, a character per byte.
    #[serde(default)]
    text: String,
    /// What follows the answer once the client has spoken into the tunnel; none: nothing more is read.
    then: Option<String>,
    after: After,
    codes: Vec<String>,
    hop: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum After {
    Closed,
    Reset,
    Open,
}

/// One way to play a case.
#[derive(Debug, Clone, Copy)]
struct Manner {
    controls: bool,
    in_two: bool,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        if self.text.is_empty() { STANDARD.decode(&self.answer).unwrap() } else { latin1(&self.text) }
    }

    /// Whether only the probe's own patience ends the exchange; all others may take their time on a busy machine.
    fn waits(&self) -> bool {
        let unfinished = ["proxy.silent", "proxy.truncated", "tunnel.silent"];
        self.after == After::Open && self.codes.iter().any(|code| unfinished.contains(&code.as_str()))
    }

    /// Plays the case to one client. A client that leaves early is no concern of the script.
    async fn play(&self, mut client: TcpStream, cut: Option<usize>) -> std::io::Result<()> {
        hear(&mut client).await?;
        let bytes = self.bytes();
        let (first, second) = bytes.split_at(cut.unwrap_or(0).min(bytes.len()));
        client.write_all(first).await?;
        client.flush().await?;
        // Lets the client run in between, so that the halves are often read apart; either way the result is the same.
        tokio::task::yield_now().await;
        client.write_all(second).await?;
        if let Some(then) = &self.then {
            hear(&mut client).await?;
            client.write_all(&latin1(then)).await?;
        }
        match self.after {
            After::Reset => {
                client.set_zero_linger()?;
                return Ok(());
            }
            After::Closed => client.shutdown().await?,
            After::Open => {}
        }
        // What stays unread would turn the end into a reset.
        while hear(&mut client).await? > 0 {}
        Ok(())
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

async fn hear(client: &mut TcpStream) -> std::io::Result<usize> {
    client.read(&mut [0; 4096]).await
}

fn plan(case: &Case, proxy: SocketAddr, manner: Manner) -> Plan {
    let login = if case.credentials { "svc:pw@" } else { "" };
    let scheme = if case.connect.ends_with(":80") { "http" } else { "https" };
    let mut plan = Plan {
        targets: Target::parse(&format!("{scheme}://{}", case.connect), &[443]).unwrap(),
        routes: vec![Route::Proxy],
        proxy: Some(format!("http://{login}{proxy}").parse().unwrap()),
        controls: manner.controls,
        ..Plan::default()
    };
    plan.dns.server = NameServer::Off;
    plan.budgets.attempts = 1;
    plan.budgets.connect = Duration::from_secs(5);
    plan.budgets.layer = if case.waits() { Duration::from_millis(800) } else { Duration::from_secs(5) };
    plan.budgets.deadline = Duration::from_secs(20);
    plan
}

/// Runs one case; what is wrong with the result, if anything.
async fn run(case: Arc<Case>, manner: Manner) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    // Anywhere, but everywhere in the end, and the same in each run.
    let length = case.bytes().len();
    let cut = (manner.in_two && length > 1).then(|| 1 + case.id.bytes().map(usize::from).sum::<usize>() % (length - 1));
    let script = case.clone();
    let server = async move {
        let mut clients = JoinSet::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let case = script.clone();
            clients.spawn(async move { case.play(client, cut).await });
        }
    };
    let progress = probe::Progress::default();
    let record = tokio::select! {
        record = probe::run(plan(&case, proxy, manner), &progress, std::future::pending()) => record.unwrap(),
        () = server => unreachable!("the listener never ends"),
    };
    let assessment = assess(&record);
    let errors: Vec<(&str, String)> = assessment
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| {
            (finding.code.0, serde_json::to_value(finding.hop).unwrap().as_str().unwrap_or_default().to_owned())
        })
        .collect();
    // Who opens tunnels before it knows better is a proxy at least.
    let codes: Vec<&str> = assessment.findings.iter().map(|finding| finding.code.0).collect();
    if codes.contains(&"proxy.not_a_proxy") && codes.contains(&"proxy.optimistic_connect") {
        return Some(format!("{} {manner:?} contradicts itself: {codes:?}", case.id));
    }
    let right = matches!(&errors[..], [(code, hop)]
        if case.codes.iter().any(|wanted| wanted == code) && case.hop.as_ref().is_none_or(|wanted| wanted == hop));
    (!right).then(|| format!("{} {manner:?} cut {cut:?}: {errors:?}, not {:?} at {:?}", case.id, case.codes, case.hop))
}

#[test]
fn every_answer_played_from_a_socket_is_judged_right() {
    let cases = [include_str!("../data/proxy-replies.json"), include_str!("../data/more-replies.json")]
        .iter()
        .flat_map(|text| serde_json::from_str::<Vec<Case>>(text).unwrap())
        .map(Arc::new);
    let wrong: Vec<String> = probe::runtime().unwrap().block_on(async {
        // Three descriptors per run, and few machines allow less than 1024.
        let turns = Arc::new(Semaphore::new(150));
        let mut runs = JoinSet::new();
        for case in cases {
            for (controls, in_two) in [(false, false), (true, true), (true, false), (false, true)] {
                let (case, turns) = (case.clone(), turns.clone());
                runs.spawn(async move {
                    let _turn = turns.acquire_owned().await.unwrap();
                    run(case, Manner { controls, in_two }).await
                });
            }
        }
        runs.join_all().await.into_iter().flatten().collect()
    });
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
