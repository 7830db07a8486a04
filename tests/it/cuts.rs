//! Connections that break at every point: between this machine and the proxy, between it and the endpoint, in either
//! direction, by FIN, by RST and by silence. Each break is one finding with a cause, and never a pass.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use snapreach::{
    classify,
    lab::{Lab, LabSpec, NameSpec},
    model::{Evidence, Hop, Layer, Leg, Observation, Record, Route, Severity, Status, Target},
    plan::{Dns, NameServer, Plan, Proxy, SystemResolver, Trust},
    probe,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::oneshot,
};

/// Which direction breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// What the server says.
    Down,
    /// What the client says.
    Up,
}

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Break {
    Fin,
    Rst,
    Silence,
}

/// After how many bytes of which direction a connection breaks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    side: Side,
    how: Break,
    after: u64,
}

impl Cut {
    /// The host name that carries the cut to the relay: it stands in CONNECT, in SNI and in `Host`.
    fn name(self) -> String {
        let side = if self.side == Side::Down { 'd' } else { 'u' };
        let how = match self.how {
            Break::Fin => 'f',
            Break::Rst => 'r',
            Break::Silence => 's',
        };
        format!("cut-{side}{how}{}.blob.core.windows.net", self.after)
    }

    /// The cut named somewhere in what a client said.
    fn find(said: &[u8]) -> Option<Self> {
        let at = said.windows(4).position(|window| window == b"cut-")?;
        let rest = &said[at + 4..];
        // Without the dot the number may go on in what is still to come.
        let text = std::str::from_utf8(&rest[..rest.iter().position(|&b| b == b'.')?]).ok()?;
        let side = if text.starts_with('d') { Side::Down } else { Side::Up };
        let how = match text.get(1..2)? {
            "f" => Break::Fin,
            "r" => Break::Rst,
            _ => Break::Silence,
        };
        Some(Self { side, how, after: text.get(2..)?.parse().ok()? })
    }
}

impl Cut {
    fn limit(self, side: Side) -> Option<(u64, Break)> {
        (self.side == side).then_some((self.after, self.how))
    }
}

/// Stands between the probe and a server, and cuts as the name that the client asks for says.
struct Relay {
    address: SocketAddr,
    /// The most that one connection carried in each direction.
    carried: Arc<[AtomicU64; 2]>,
    /// The cut of every connection, where the name is not to be seen.
    fixed: Arc<Mutex<Option<Cut>>>,
}

impl Relay {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let carried: Arc<[AtomicU64; 2]> = Arc::default();
        let fixed = Arc::new(Mutex::new(None));
        let (counts, cut) = (carried.clone(), fixed.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counts, cut) = (counts.clone(), *cut.lock().unwrap());
                // What breaks here is what the test asked for.
                tokio::spawn(async move { drop(relay(client, server, cut, &counts).await) });
            }
        });
        Self { address, carried, fixed }
    }

    /// From the server and from the client.
    fn carried(&self) -> [u64; 2] {
        [0, 1].map(|side| self.carried[side].load(Ordering::Relaxed))
    }
}

async fn relay(
    mut client: TcpStream,
    server: SocketAddr,
    fixed: Option<Cut>,
    counts: &[AtomicU64; 2],
) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut said = Vec::new();
    let cut = loop {
        if client.read_buf(&mut said).await? == 0 {
            return Ok(());
        }
        if let Some(cut) = fixed.or_else(|| Cut::find(&said)) {
            break cut;
        }
    };
    let reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = carry(said, from_client, to_server, cut.limit(Side::Up), &counts[1]);
        let down = carry(Vec::new(), from_server, to_client, cut.limit(Side::Down), &counts[0]);
        tokio::pin!(up, down);
        let mut down_runs = true;
        loop {
            tokio::select! {
                // When the client is done, so is the connection.
                end = &mut up => break end? == End::Reset,
                end = &mut down, if down_runs => match end? {
                    End::Reset => break true,
                    End::Over => down_runs = false,
                },
            }
        }
    };
    if reset {
        for stream in [&client, &server] {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

/// How a direction ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Over,
    Reset,
}

/// Carries `first` and then what comes, up to the limit; behind it everything is swallowed, so that the break itself is
/// all that the receiver notices.
async fn carry(
    first: Vec<u8>,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    limit: Option<(u64, Break)>,
    count: &AtomicU64,
) -> io::Result<End> {
    let mut carried = 0;
    let mut buffer = first;
    loop {
        let room = limit.map_or(u64::MAX, |(after, _)| after - carried);
        let now = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        to.write_all(&buffer[..now]).await?;
        carried += now as u64;
        count.fetch_max(carried, Ordering::Relaxed);
        match limit {
            Some((after, Break::Rst)) if carried == after => return Ok(End::Reset),
            Some((after, how)) if carried == after => {
                if how == Break::Fin {
                    to.shutdown().await?;
                }
                while from.read(&mut [0; 4096]).await? > 0 {}
                return Ok(End::Over);
            }
            _ => {}
        }
        buffer.clear();
        if from.read_buf(&mut buffer).await? == 0 {
            to.shutdown().await?;
            return Ok(End::Over);
        }
    }
}

/// Where the probe's connections lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Proxy,
    /// The connection to the proxy is TLS.
    TlsProxy,
    Https,
    Http,
}

/// Runs a walk for every cut, many at once, and gives one record per cut, and how much a whole exchange carries.
fn run(place: Place, cuts: &[Cut], layer: Duration) -> (Vec<(Cut, Record)>, [u64; 2]) {
    let anything = NameSpec { name: "*".into(), a: vec![Ipv4Addr::new(20, 60, 222, 132)], ..NameSpec::default() };
    let mut spec = LabSpec::default();
    spec.dns.names.push(anything);
    spec.proxy.tls = place == Place::TlsProxy;
    let lab = Lab::start(&spec).unwrap();
    let network = lab.network();
    let server = match place {
        Place::Proxy | Place::TlsProxy => network.addresses["proxy"],
        Place::Https => network.addresses["acct.blob.core.windows.net:443"],
        Place::Http => network.addresses["acct.blob.core.windows.net:80"],
    };
    let scheme = if place == Place::Http { "http" } else { "https" };

    // The relay has a thread of its own, so that the probe's timing is not disturbed.
    let (send, receive) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            send.send(Relay::start(server).await).unwrap();
            let _ = stopped.await;
        });
    });
    let relay = receive.recv().unwrap();

    let mut plan = Plan {
        dns: Dns { system: SystemResolver::Stub(network.dns), server: NameServer::Off, ..Dns::default() },
        trust: Trust { lab: network.roots.clone(), ..Trust::default() },
        dial: network.dial.clone(),
        ..Plan::default()
    };
    if place == Place::TlsProxy {
        assert_eq!(cuts.len(), 1);
        *relay.fixed.lock().unwrap() = Some(cuts[0]);
    }
    for cut in cuts {
        plan.targets.extend(Target::parse(&format!("{scheme}://{}", cut.name()), &[]).unwrap());
    }
    if matches!(place, Place::Proxy | Place::TlsProxy) {
        let scheme = if place == Place::TlsProxy { "https" } else { "http" };
        plan.routes = vec![Route::Proxy];
        plan.proxy = Some(format!("{scheme}://{}", relay.address).parse::<Proxy>().unwrap());
    } else {
        plan.routes = vec![Route::Direct];
        plan.dial.hosts.push((None, None, relay.address));
    }
    plan.context.routes.clone_from(&plan.routes);
    plan.context.consumer = "none".into();
    plan.budgets.attempts = 1;
    plan.budgets.connect = Duration::from_secs(10);
    plan.budgets.layer = layer;
    plan.budgets.concurrency = 96;
    let progress = probe::Progress::default();
    let whole = probe::runtime().unwrap().block_on(probe::run(plan, &progress, std::future::pending())).unwrap();
    drop(stop);
    thread.join().unwrap();

    // One connection at a time is judged: what others met must not help.
    let mut by_subject: BTreeMap<&str, Vec<&Observation>> = BTreeMap::new();
    for observation in &whole.observations {
        by_subject.entry(&observation.subject).or_default().push(observation);
    }
    let head = Record { observations: Vec::new(), targets: Vec::new(), ..whole.clone() };
    let records = cuts.iter().zip(&whole.targets).map(|(&cut, target)| {
        let observations = by_subject.get(target.authority().as_str()).into_iter().flatten().map(|o| (*o).clone());
        let record = Record { targets: vec![target.clone()], observations: observations.collect(), ..head.clone() };
        (cut, record)
    });
    (records.collect(), relay.carried())
}

/// Whether storage's own answer came.
fn storage_answered(record: &Record) -> bool {
    record.observations.iter().flat_map(|observation| &observation.steps).any(|step| match &step.evidence {
        Evidence::Request(request) => {
            request.reply.as_ref().is_some_and(|reply| reply.header("x-ms-request-id").is_some())
        }
        _ => false,
    })
}

/// What must hold for every cut.
fn judge(place: Place, cut: Cut, record: &Record, whole: [u64; 2]) {
    let assert = |holds: bool, what: &str| assert!(holds, "{place:?} {cut:?}: {what}: {record:#?}");
    assert(record.observations.len() == 1, "one walk");
    let mut bytes = Vec::new();
    record.write(&mut bytes).unwrap();
    assert(&Record::read(bytes.as_slice()).unwrap() == record, "the record survives being written");

    let assessment = classify::assess(record);
    let errors: Vec<_> = assessment.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    let answered = storage_answered(record);
    if assessment.verdict.status == Status::Clear {
        assert(answered && errors.is_empty(), "a pass without storage's answer");
        return;
    }
    assert(!answered, "storage answered, and it is no pass");
    // A silent run has budgets so short that a busy machine may miss them without any cut.
    let came_whole = cut.after > whole[usize::from(cut.side == Side::Up)] + 16;
    assert(cut.how == Break::Silence || !came_whole, "nothing was cut, and it is no pass");
    assert(assessment.verdict.status == Status::Blocked, "blocked");
    assert(errors.len() == 1, "exactly one error");

    // The layer that broke names the finding, and the peer of that layer its hop.
    let error = errors[0];
    let (step, _) = record.observations[0].failed().unwrap();
    let (hops, layers) = match step.layer() {
        Layer::Tunnel => (&[Hop::Proxy, Hop::ClientToProxy][..], &["proxy.", "tcp."][..]),
        Layer::Handshake if step.leg == Leg::Proxy => (&[Hop::ClientToProxy][..], &["tls.", "tcp."][..]),
        Layer::Handshake => (&[Hop::ClientToOrigin][..], &["tls.", "tcp.", "tunnel."][..]),
        _ => (&[Hop::ClientToOrigin][..], &["http.", "tcp."][..]),
    };
    let what = format!("{} on {:?}", error.code, error.hop);
    assert(hops.contains(&error.hop) && layers.iter().any(|layer| error.code.0.starts_with(layer)), &what);
}

/// Cuts a place everywhere: at each of the first 200 bytes, and then at every 41st of the whole exchange and beyond.
fn cut_everywhere(place: Place) {
    let points = || (0..200).chain((200..4000).step_by(41));
    let cuts = |breaks: &[Break]| -> Vec<Cut> {
        let both = |how| [Side::Down, Side::Up].into_iter().map(move |side| (how, side));
        let kinds = breaks.iter().copied().flat_map(both);
        kinds.flat_map(|(how, side)| points().map(move |after| Cut { side, how, after })).collect()
    };
    for (breaks, layer) in
        [(&[Break::Fin, Break::Rst][..], Duration::from_secs(20)), (&[Break::Silence][..], Duration::from_millis(300))]
    {
        let (records, whole) = run(place, &cuts(breaks), layer);
        assert!(whole[0] > 300 && whole[1] > 150, "the relay carried {whole:?}");
        for (cut, record) in &records {
            judge(place, *cut, record, whole);
        }
    }
}

#[test]
fn a_connection_to_the_proxy_may_break_anywhere() {
    cut_everywhere(Place::Proxy);
}

#[test]
fn a_connection_for_https_may_break_anywhere() {
    cut_everywhere(Place::Https);
}

#[test]
fn a_connection_for_http_may_break_anywhere() {
    cut_everywhere(Place::Http);
}

#[test]
fn a_tls_connection_to_the_proxy_may_break_anywhere() {
    // Inside TLS no name tells the relay what to do: a run for each cut, at fewer places.
    let points = [0, 1, 5].into_iter().chain((50..6000).step_by(211));
    let both = points.flat_map(|after| [Side::Down, Side::Up].map(|side| (side, after)));
    let cuts = both.flat_map(|(side, after)| [Break::Fin, Break::Rst].map(|how| Cut { side, how, after }));
    for cut in cuts {
        let (records, _) = run(Place::TlsProxy, &[cut], Duration::from_secs(20));
        // How much a whole exchange carries is not known beforehand; beyond these it is whole.
        judge(Place::TlsProxy, cut, &records[0].1, [5500, 2500]);
    }
}
