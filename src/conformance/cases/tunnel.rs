//! Tunnels: what becomes of bytes, of silence, and of the end of either side.

use std::{cell::Cell, time::Duration};

use tokio::{
    io::{self, AsyncWriteExt},
    time::{Instant, error::Elapsed, interval, sleep, timeout},
};

use crate::{
    classify::codes,
    conformance::{
        case::{Case, Judgement, Level, Remedy, Turn, Unit, one},
        rig::{Rig, code, ended, heard, shown},
    },
    exchange::{Answer, Direction, Exchange, MAX_BYTES, MAX_HOLD, PATTERN_PATH, Pattern, Request},
    model::{Code, ExchangeEvidence, Failure, FailureKind, Layer, Observation},
    probe::dialogue::{Came, Seen, Stream, Talk},
};

/// A case's end, early or not.
type Judged = Result<Judgement, Judgement>;

/// Enough to fill every buffer on the way of a usual proxy several times.
const MUCH: u64 = 1 << 20;

/// More than the sockets on both sides of a proxy take for a slow reader: Linux lets a sender queue 4 MiB (`tcp_wmem`).
const MORE: u64 = 16 << 20;

/// More than the sockets on the way hold when nobody reads from them.
const FLOOD: u64 = 8 << 20;

/// How long the origin takes nothing before it sends: enough for what the client sends meanwhile to fill the sockets.
const HEAD_START_MS: u64 = 1000;
const HEAD_START: Duration = Duration::from_millis(HEAD_START_MS);

/// What patterns grow from. The same in every run: a second one must show the same bytes.
const SEED: u64 = 0x5eed;

/// How long a fresh tunnel is listened to.
const QUIET: Duration = Duration::from_millis(300);

/// How often a busy tunnel carries a byte each way.
const BEAT: Duration = Duration::from_millis(100);

/// How a slow reader reads: so many bytes, so often, with a pause behind each.
const SIP: u64 = 32 * 1024;
const SIPS: u64 = 4;
const PAUSE: Duration = Duration::from_millis(300);

/// Silence that a proxy should stand, in seconds: what an hour of waiting needs.
const IDLE_SECONDS: u64 = 3600;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "tunnel/bytes",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6: a tunnel relays blindly",
        title: "Bytes arrive as they were sent, both ways",
        turn: Turn::Together,
        run: |rig| one(bytes(rig)),
    },
    Case {
        id: "tunnel/at-once",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.6: data is relayed in both directions",
        title: "Both sides can send at the same time and neither waits for the other",
        turn: Turn::Together,
        run: |rig| one(at_once(rig)),
    },
    Case {
        id: "tunnel/half-close-client",
        level: Level::May,
        reference: "RFC 9110 section 9.3.6: what came from the side that closed is delivered first",
        title: "What the client sent before it ended its side arrives",
        turn: Turn::Together,
        run: |rig| one(half_close_client(rig)),
    },
    Case {
        id: "tunnel/half-close-origin",
        level: Level::May,
        reference: "RFC 9110 section 9.3.6: what came from the side that closed is delivered first",
        title: "The client learns when the origin ends its side, and what it sent before arrives",
        turn: Turn::Together,
        run: |rig| one(half_close_origin(rig)),
    },
    Case {
        id: "tunnel/last-bytes",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6: what came from the side that closed is delivered first",
        title: "What the origin sends right before it closes arrives whole",
        turn: Turn::Together,
        run: |rig| one(last_bytes(rig)),
    },
    Case {
        id: "tunnel/reset",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.6: when one side closes, both are closed",
        title: "When the origin resets the connection, the client learns of it at once",
        turn: Turn::Together,
        run: |rig| one(reset(rig)),
    },
    Case {
        id: "tunnel/no-early-bytes",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6: behind the head of a 2xx answer stands the tunnel",
        title: "Nothing comes out of a tunnel that the origin did not send",
        turn: Turn::Together,
        run: |rig| one(no_early_bytes(rig)),
    },
    Case {
        id: "tunnel/idle",
        level: Level::Should,
        reference: "clients keep connections in pools; RFC 9110 section 9.3.6 knows no end but that of a side",
        title: "A silent tunnel stays open",
        turn: Turn::Together,
        run: |rig| one(idle(rig)),
    },
    Case {
        id: "tunnel/lifetime",
        level: Level::May,
        reference: "RFC 9110 section 9.3.6 knows no end but that of a side",
        title: "A tunnel in use stays open",
        turn: Turn::Together,
        run: |rig| one(lifetime(rig)),
    },
    Case {
        id: "tunnel/slow-reader",
        level: Level::Should,
        reference: "RFC 9293 section 3.8.6: a window that closes is no reason to lose bytes",
        title: "Bytes wait for a client that reads slowly",
        turn: Turn::Together,
        run: |rig| one(slow_reader(rig)),
    },
    Case {
        id: "tunnel/large",
        level: Level::May,
        reference: "disks are large: no limit on the bytes of one tunnel",
        title: "A large transfer passes through one tunnel",
        turn: Turn::Alone,
        run: |rig| one(large(rig)),
    },
];

// ---- bytes

async fn bytes(rig: &Rig) -> Judged {
    let mut tunnel = rig.to_origin().await?;
    tunnel.exchange(Exchange::Integrity { bytes: MUCH }, SEED, 0).await;
    let command = || format!("{} | sha256sum", fetch(rig, MUCH));
    Ok(judge_bytes(tunnel.finish()).shown_by(command))
}

fn judge_bytes(seen: Observation) -> Judgement {
    let pass = || Judgement::pass(format!("{MUCH} bytes each way arrive as they were sent"));
    broken(&seen).unwrap_or_else(pass).seen([seen])
}

async fn large(rig: &Rig) -> Judged {
    let wanted = rig.options.large;
    if wanted == 0 {
        return Err(Judgement::not_run("left out; --large 1GiB runs it"));
    }
    let mut tunnel = rig.to_origin().await?;
    let (began, mut left) = (Instant::now(), wanted);
    while left > 0 {
        let bytes = left.min(MAX_BYTES);
        if !tunnel.exchange(Exchange::Integrity { bytes }, SEED, 0).await {
            break;
        }
        left -= bytes;
    }
    let command = || format!("{} -o /dev/null", fetch(rig, wanted.min(MAX_BYTES)));
    Ok(judge_large(wanted, began.elapsed(), tunnel.finish()).shown_by(command))
}

fn judge_large(wanted: u64, took: Duration, seen: Observation) -> Judgement {
    let pass =
        || {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = 2.0 * wanted as f64 / took.as_secs_f64();
            Judgement::pass(format!("{wanted} bytes each way pass through one tunnel and arrive as they were sent"))
                .figure("rate", rate, Unit::BytesPerSecond)
        };
    broken(&seen).unwrap_or_else(pass).seen([seen])
}

async fn at_once(rig: &Rig) -> Judged {
    let mut tunnel = rig.to_origin().await?;
    let (mut came, mut told) = (Came::default(), None);
    let patience = rig.caller.patience();
    let send = async |talk: &mut Talk, stream: &mut Box<dyn Stream>| {
        both_ways(talk, stream, patience, (&mut came, &mut told)).await
    };
    tunnel.talk("BOTH WAYS", HEAD_START + patience + time_for(FLOOD), send).await;
    Ok(judge_at_once(told, &came, tunnel.finish()))
}

/// The origin sends and takes nothing as it does, and this side sends all the same. A proxy that must get rid of the bytes
/// of one side before it looks at the other finds both waiting for it: the origin waits until the way up to it is full,
/// since one that sent at once could be through before that on a machine with large buffers or busy processors.
async fn both_ways(
    talk: &mut Talk,
    stream: &mut Box<dyn Stream>,
    patience: Duration,
    (came, told): (&mut Came, &mut Option<Answer>),
) -> Result<(), Failure> {
    let (mut from, mut to) = io::split(stream);
    let mut up = Request::Pause { ms: HEAD_START_MS }.line().into_bytes();
    up.extend(Request::Verify { up: 0, down: FLOOD, seed: SEED }.line().into_bytes());
    up.extend(Request::Verify { up: FLOOD, down: 0, seed: SEED }.line().into_bytes());
    up.extend(Pattern::new(SEED, Direction::Up).bytes(0, usize::try_from(FLOOD).unwrap_or(0)));
    let silent = |_: Elapsed| Failure::new(FailureKind::TimedOut, format!("nothing moved within {patience:?}"));
    let all_came = Cell::new(false);
    let send = async {
        let mut rest = up.as_slice();
        while !rest.is_empty() {
            match timeout(patience, to.write(rest)).await {
                Ok(Ok(written)) => rest = &rest[written..],
                // What comes says more about a tunnel that broke than the error of a write.
                Ok(Err(_)) => break,
                // As long as the origin sends it need not take anything.
                Err(_) if !all_came.get() => {}
                Err(elapsed) => return Err(silent(elapsed)),
            }
        }
        let _ = to.flush().await;
        Ok(())
    };
    let receive = async {
        let first = timeout(HEAD_START + patience, talk.line(&mut from)).await.map_err(silent)??;
        if first != Answer::Refused {
            talk.pattern(&mut from, (SEED, FLOOD), patience, came).await?;
        }
        all_came.set(true);
        Ok(first)
    };
    let ((), first) = tokio::try_join!(send, receive)?;
    if first == Answer::Refused {
        *told = Some(first);
        return Ok(());
    }
    *told = Some(timeout(patience, talk.line(&mut from)).await.map_err(silent)??);
    Ok(())
}

fn judge_at_once(told: Option<Answer>, came: &Came, seen: Observation) -> Judgement {
    let judgement = match (told, seen.failure()) {
        (Some(Answer::Received { count: FLOOD, differs: false }), None) => {
            Judgement::pass(format!("{FLOOD} bytes pass each way at the same time"))
        }
        // One of an older program, on another machine: that says nothing about the proxy.
        (Some(Answer::Refused), _) if came.intact == 0 => {
            Judgement::not_run("the origin does not know of this exchange: run the same snapreach there")
        }
        (Some(Answer::Received { count, differs: true }), _) => Judgement::fail("bytes arrive as others")
            .because(format!("byte {count} of those sent up arrived at the origin as another"))
            .code(Some(codes::TUNNEL_CORRUPTED)),
        (_, Some((Layer::Request, _, FailureKind::TimedOut))) => {
            Judgement::fail("the tunnel gets stuck when both sides send at the same time")
                .code(Some(codes::TUNNEL_SILENT))
                .remedy(Remedy::Replace)
        }
        _ => {
            broken(&seen).unwrap_or_else(|| Judgement::fail("bytes do not arrive").code(Some(codes::TUNNEL_CORRUPTED)))
        }
    };
    altered(judgement, came).seen([seen])
}

async fn slow_reader(rig: &Rig) -> Judged {
    let mut tunnel = rig.to_origin().await?;
    let mut came = Came::default();
    let patience = rig.caller.patience();
    let read = async |talk: &mut Talk, stream: &mut Box<dyn Stream>| {
        talk.request(stream, Request::Verify { up: 0, down: MORE, seed: SEED }).await?;
        for sip in 1..=SIPS {
            talk.pattern(stream, (SEED, sip * SIP), patience, &mut came).await?;
            sleep(PAUSE).await;
        }
        talk.pattern(stream, (SEED, MORE), patience, &mut came).await
    };
    tunnel.talk("SLOWLY", patience + time_for(MORE), read).await;
    Ok(judge_slow_reader(&came, tunnel.finish())
        .shown_by(|| format!("{} --limit-rate 100k | sha256sum", fetch(rig, MORE))))
}

fn judge_slow_reader(came: &Came, seen: Observation) -> Judgement {
    let pass = || Judgement::pass(format!("{MORE} bytes arrive whole though the client reads slowly at first"));
    altered(broken(&seen).unwrap_or_else(pass), came).seen([seen])
}

// ---- ends

async fn half_close_client(rig: &Rig) -> Judged {
    let (what, seed) = (Exchange::HalfCloseByClient, rig.seed());
    let mut tunnel = rig.to_origin().await?;
    let answered = tunnel.exchange(what, seed, 0).await;
    // What arrived when no answer came back only the origin knows.
    let told = if answered { None } else { Some(recall(rig, what, seed).await?) };
    Ok(judge_half_close_client(tunnel.finish(), told))
}

async fn recall(rig: &Rig, what: Exchange, seed: u64) -> Result<Observation, Judgement> {
    let mut other = rig.to_origin().await?;
    other.recall(what, seed).await;
    Ok(other.finish())
}

fn judge_half_close_client(seen: Observation, told: Option<Observation>) -> Judgement {
    let cut_short = || {
        Judgement::fail("what the client sent before it ended its side does not arrive whole")
            .code(Some(codes::TUNNEL_HALF_CLOSE_BROKEN))
    };
    let judgement = match (seen.failure(), exchanged(&seen)) {
        (None, _) => Judgement::pass("the end of the client's side is passed on, and the answer still comes back"),
        (Some((_, _, FailureKind::TimedOut)), Some(exchange)) if exchange.half_closed => {
            Judgement::fail("the end of the client's side neither reaches the origin nor ends the tunnel")
                .code(Some(codes::TUNNEL_HALF_CLOSE_BROKEN))
        }
        (
            Some((_, _, FailureKind::Lost | FailureKind::Differs)),
            Some(ExchangeEvidence { half_closed: true, came_differs_at: None, .. }),
        ) => cut_short(),
        (Some((_, _, FailureKind::Closed | FailureKind::Reset)), Some(exchange)) if exchange.half_closed => {
            match told.as_ref().map(Seen::failure) {
                Some(None) => Judgement::pass(
                    "the end of the client's side ends the tunnel both ways, after what the client had sent arrived; \
                     the answer to it is lost",
                ),
                Some(Some((Layer::Request, _, FailureKind::Lost | FailureKind::Differs))) => cut_short(),
                _ => Judgement::not_run("the origin does not tell what arrived before the client ended its side"),
            }
        }
        _ => broken(&seen).unwrap_or_else(|| Judgement::not_run("nothing was exchanged")),
    };
    judgement.seen([seen]).seen(told)
}

async fn half_close_origin(rig: &Rig) -> Judged {
    let (what, seed) = (Exchange::HalfCloseByOrigin, rig.seed());
    let mut tunnel = rig.to_origin().await?;
    tunnel.exchange(what, seed, 0).await;
    Ok(judge_half_close_origin(tunnel.finish(), recall(rig, what, seed).await?))
}

fn judge_half_close_origin(seen: Observation, told: Observation) -> Judgement {
    let is_over = exchanged(&seen).is_some_and(|exchange| exchange.half_closed);
    let judgement = match seen.failure() {
        Some((Layer::Request, _, FailureKind::TimedOut)) if is_over => {
            Judgement::fail("the end of the origin's side does not reach the client: the tunnel stays open")
                .code(Some(codes::TUNNEL_HALF_CLOSE_BROKEN))
        }
        Some((Layer::Request, _, FailureKind::Differs)) if is_over => {
            Judgement::fail("bytes come after the origin ended its side").code(Some(codes::TUNNEL_CORRUPTED))
        }
        None | Some((Layer::Request, _, FailureKind::Closed | FailureKind::Reset)) if is_over => match told.failure() {
            None => Judgement::pass("the end of the origin's side is passed on, and the client's bytes still arrive"),
            Some(_) => Judgement::pass(
                "the end of the origin's side ends the tunnel both ways, after what the origin had sent arrived; \
                 what the client sends then is lost",
            ),
        },
        _ => broken(&seen).unwrap_or_else(|| Judgement::not_run("nothing was exchanged")),
    };
    judgement.seen([seen, told])
}

async fn last_bytes(rig: &Rig) -> Judged {
    let door = rig.way()?.door;
    let mut tunnel = rig.to_origin().await?;
    let mut came = Came::default();
    let request = format!("GET {PATTERN_PATH}/{MUCH}/{SEED} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n");
    let patience = rig.caller.patience();
    let read = async |talk: &mut Talk, stream: &mut Box<dyn Stream>| {
        talk.send(stream, request.as_bytes()).await?;
        let reply = talk.head(stream).await?;
        if reply.status == 200 {
            talk.pattern(stream, (SEED, MUCH), patience, &mut came).await?;
        }
        Ok(reply.status)
    };
    let status = tunnel.talk("LAST BYTES", patience + time_for(MUCH), read).await;
    Ok(judge_last_bytes(status, &came, tunnel.finish()).shown_by(|| format!("{} | sha256sum", fetch(rig, MUCH))))
}

fn judge_last_bytes(status: Option<u16>, came: &Came, seen: Observation) -> Judgement {
    let judgement = match (status, seen.failure()) {
        (Some(200), None) => {
            Judgement::pass(format!("{MUCH} bytes arrive whole from an origin that closes behind them"))
        }
        (Some(status), None) => {
            Judgement::fail(format!("a request for {MUCH} bytes inside the tunnel was answered with {status}"))
        }
        (_, Some((Layer::Request, _, kind @ (FailureKind::Closed | FailureKind::Reset | FailureKind::Truncated)))) => {
            Judgement::fail("the tunnel ends before all that the origin had sent came out of it")
                .because(format!("the tunnel: {}", ended(kind)))
                .code(code_of(kind))
                .remedy(Remedy::Replace)
        }
        _ => broken(&seen).unwrap_or_else(|| Judgement::not_run("nothing was asked")),
    };
    altered(judgement, came).seen([seen])
}

async fn reset(rig: &Rig) -> Judged {
    let mut tunnel = rig.to_origin().await?;
    let mut agreed = None;
    let ask = async |talk: &mut Talk, stream: &mut Box<dyn Stream>| {
        if talk.request(stream, Request::Reset).await? != Answer::Ready {
            return Ok(Vec::new());
        }
        agreed = Some(Instant::now());
        talk.send(stream, b".").await?;
        talk.some(stream).await
    };
    let came = tunnel.talk("RESET", rig.caller.patience(), ask).await;
    let command = || format!("printf 'snapreach/1 reset\\n.' | {} -p telnet://ORIGIN:443", rig.curl_command());
    Ok(judge_reset(agreed.map(|at| at.elapsed()), came.as_deref(), tunnel.finish()).shown_by(command))
}

/// `after`: how long after the origin had agreed to reset it was over; `came`: what came then, nothing being a FIN.
fn judge_reset(after: Option<Duration>, came: Option<&[u8]>, seen: Observation) -> Judgement {
    let judgement = match (after, came, seen.failure()) {
        (Some(after), Some([]), _)
        | (Some(after), None, Some((Layer::Request, _, FailureKind::Reset | FailureKind::Closed))) => {
            Judgement::pass("the client learns that the origin reset the connection")
                .because(format!("the tunnel: {}", if came.is_some() { "closed (FIN)" } else { "reset (RST)" }))
                .figure("until_end", 1000.0 * after.as_secs_f64(), Unit::Ms)
        }
        (Some(_), Some(bytes), _) => Judgement::fail("bytes come after the origin reset the connection")
            .because(format!("what came: `{}`", shown(bytes)))
            .code(Some(codes::TUNNEL_CORRUPTED)),
        (Some(_), None, Some((Layer::Request, _, FailureKind::TimedOut))) => {
            Judgement::fail("the origin reset the connection, and the tunnel stays open and silent")
                .code(Some(codes::TUNNEL_SILENT))
                .remedy(Remedy::Replace)
        }
        (None, Some(_), _) => Judgement::not_run("the origin cannot reset connections"),
        _ => broken(&seen).unwrap_or_else(|| Judgement::not_run("nothing was asked")),
    };
    judgement.seen([seen])
}

// ---- bytes that nobody sent, and silence

async fn no_early_bytes(rig: &Rig) -> Judged {
    let mut tunnel = rig.tunnel_to(rig.opened()?).await;
    let mut came = None;
    let listen = async |talk: &mut Talk, stream: &mut Box<dyn Stream>| {
        if let Ok(read) = timeout(QUIET, talk.some(stream)).await {
            came = Some(read?);
        }
        Ok(())
    };
    tunnel.talk("LISTEN", rig.caller.patience(), listen).await;
    let command = || format!("{} -p telnet://ORIGIN:443", rig.curl_command());
    Ok(judge_early(came.as_deref(), tunnel.finish()).shown_by(command))
}

/// `came`: what came out of the tunnel, nothing being a FIN; `None`: neither.
fn judge_early(came: Option<&[u8]>, seen: Observation) -> Judgement {
    let judgement = match (came, seen.failure()) {
        (None, None) => Judgement::pass("a fresh tunnel is silent until the origin speaks"),
        (_, Some((Layer::Connect | Layer::Tunnel | Layer::Handshake, ..))) => {
            Judgement::not_run("the proxy opens no tunnel to the origin").because(heard(&seen))
        }
        (None | Some([]), failure) => {
            let kind = failure.map_or(FailureKind::Closed, |(_, _, kind)| kind);
            Judgement::fail("the tunnel ends before anybody said anything in it")
                .because(format!("the tunnel: {}", ended(kind)))
                .code(code_of(kind))
        }
        (Some(bytes), _) => Judgement::fail("bytes come out of the tunnel before the origin sent any")
            .because(format!("what came: `{}`", shown(bytes)))
            .code(code(&seen).or(Some(codes::TUNNEL_CORRUPTED))),
    };
    judgement.seen([seen])
}

async fn idle(rig: &Rig) -> Judged {
    let limit = rig.options.idle.min(MAX_HOLD);
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return Err(Judgement::not_run("left out; --idle 10s runs it"));
    }
    let mut tunnel = rig.to_origin().await?;
    tunnel.exchange(Exchange::Idle { ms }, SEED, 0).await;
    let command = || format!("time {} -p telnet://ORIGIN:443  # and say nothing", rig.curl_command());
    Ok(judge_idle(limit, tunnel.finish()).shown_by(command))
}

fn judge_idle(limit: Duration, seen: Observation) -> Judgement {
    let silence = exchanged(&seen).and_then(|exchange| exchange.idle_us).map(Duration::from_micros);
    let judgement = match (seen.failure(), silence) {
        (None, _) => {
            Judgement::pass(format!("a tunnel is still usable after {limit:?} of silence, and no more was tried"))
        }
        (Some((Layer::Request, _, kind)), Some(silence)) => {
            let cut = matches!(kind, FailureKind::Closed | FailureKind::Reset);
            let judgement = match kind {
                FailureKind::Closed | FailureKind::Reset => {
                    Judgement::fail(format!("a silent tunnel is cut within {limit:?}"))
                        .because(format!("the tunnel: {}", ended(kind)))
                }
                FailureKind::TimedOut => {
                    Judgement::fail(format!("after {limit:?} of silence a tunnel carries nothing, and nobody says so"))
                }
                _ => Judgement::fail("bytes come in a silent tunnel that the origin did not send"),
            };
            let judgement = match kind {
                FailureKind::Differs | FailureKind::Foreign => judgement.code(Some(codes::TUNNEL_CORRUPTED)),
                _ => judgement
                    .code(Some(codes::TUNNEL_IDLE_CUT))
                    .remedy(Remedy::IdleTimeout { seconds: IDLE_SECONDS.max(limit.as_secs()) }),
            };
            if cut { judgement.figure("cut_after", 1000.0 * silence.as_secs_f64(), Unit::Ms) } else { judgement }
        }
        _ => broken(&seen).unwrap_or_else(|| Judgement::not_run("nothing was exchanged")),
    };
    judgement.seen([seen])
}

async fn lifetime(rig: &Rig) -> Judged {
    let limit = rig.options.lifetime;
    if limit.is_zero() {
        return Err(Judgement::not_run("left out; --lifetime 10s runs it"));
    }
    let mut tunnel = rig.to_origin().await?;
    let (began, patience) = (Instant::now(), rig.caller.patience());
    let use_it = async |talk: &mut Talk, stream: &mut Box<dyn Stream>| {
        let mut request = Request::Verify { up: 1, down: 1, seed: SEED }.line().into_bytes();
        request.extend(Pattern::new(SEED, Direction::Up).bytes(0, 1));
        let mut beat = interval(BEAT);
        while began.elapsed() < limit {
            beat.tick().await;
            talk.send(stream, &request).await?;
            talk.line(stream).await?;
            talk.pattern(stream, (SEED, 1), patience, &mut Came::default()).await?;
        }
        Ok(())
    };
    tunnel.talk("BUSY", limit + patience, use_it).await;
    Ok(judge_lifetime(limit, began.elapsed(), tunnel.finish()))
}

fn judge_lifetime(limit: Duration, lived: Duration, seen: Observation) -> Judgement {
    let judgement = match seen.failure() {
        None => Judgement::pass(format!("a tunnel in use is still usable after {limit:?}, and no more was tried")),
        Some((Layer::Request, _, kind @ (FailureKind::Closed | FailureKind::Reset | FailureKind::TimedOut))) => {
            Judgement::fail(format!("a tunnel in use is cut within {limit:?}"))
                .because(format!("the tunnel: {}", ended(kind)))
                .figure("cut_after", 1000.0 * lived.as_secs_f64(), Unit::Ms)
                .code(code_of(kind))
        }
        Some(_) => broken(&seen).unwrap_or_else(|| Judgement::not_run("nothing was exchanged")),
    };
    judgement.seen([seen])
}

// ---- what they have in common

/// How long so many bytes may take each way, at the pace below which a way is of no use.
fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(2 * bytes / (64 * 1024))
}

fn fetch(rig: &Rig, bytes: u64) -> String {
    format!("{} -p http://ORIGIN:443{PATTERN_PATH}/{bytes}/{SEED}", rig.curl_command())
}

fn exchanged(seen: &Observation) -> Option<&ExchangeEvidence> {
    seen.request()?.exchange.as_deref()
}

/// What is wrong with a tunnel in which something went wrong.
fn broken(seen: &Observation) -> Option<Judgement> {
    let (layer, _, kind) = seen.failure()?;
    if layer != Layer::Request {
        return Some(
            Judgement::fail("a tunnel that opened before does not open again").because(heard(seen)).code(code(seen)),
        );
    }
    let judgement = Judgement::fail(match kind {
        FailureKind::Differs | FailureKind::Undecryptable => "bytes arrive as others",
        FailureKind::Lost => "bytes do not arrive",
        FailureKind::Closed => "the tunnel is closed (FIN) while bytes are under way",
        FailureKind::Reset => "the tunnel is reset (RST) while bytes are under way",
        FailureKind::TimedOut => "the tunnel gets stuck: nothing moves any more",
        FailureKind::Foreign => "somebody else than the origin answers in the tunnel",
        _ => "the tunnel breaks",
    });
    let judgement = match kind {
        FailureKind::Foreign => judgement,
        _ => judgement.code(code_of(kind)).remedy(Remedy::Replace),
    };
    Some(match exchanged(seen) {
        Some(exchange) => where_it_differs(judgement, exchange),
        None => judgement,
    })
}

/// The code for what happened inside a tunnel whose both ends are known.
fn code_of(kind: FailureKind) -> Option<Code> {
    Some(match kind {
        FailureKind::Closed | FailureKind::Truncated => codes::TUNNEL_CLOSED,
        FailureKind::Reset => codes::TUNNEL_RESET,
        FailureKind::TimedOut => codes::TUNNEL_SILENT,
        FailureKind::Differs | FailureKind::Lost | FailureKind::Undecryptable => codes::TUNNEL_CORRUPTED,
        _ => return None,
    })
}

fn where_it_differs(mut judgement: Judgement, exchange: &ExchangeEvidence) -> Judgement {
    if let Some(at) = exchange.sent_differs_at {
        judgement = judgement.because(format!("byte {at} of those sent up arrived at the origin as another"));
    }
    if let (Some(at), Some(expected), Some(stood)) = (exchange.came_differs_at, &exchange.expected, &exchange.came) {
        judgement = judgement
            .because(format!("byte {at} of those that came down is another"))
            .because(format!("there must stand `{}`, and there stood `{}`", expected.text, stood.text));
    }
    judgement
}

fn altered(judgement: Judgement, came: &Came) -> Judgement {
    match &came.altered {
        None => judgement,
        Some((expected, stood)) => judgement
            .because(format!("byte {} of those that came down is another", came.intact))
            .because(format!("there must stand `{}`, and there stood `{}`", shown(expected), shown(stood))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::testing::{Walk, reply},
        conformance::case::Outcome,
        model::{Excerpt, TunnelEvidence},
    };

    const FEW: Exchange = Exchange::Integrity { bytes: 512 };

    fn tunnel() -> Walk {
        Walk::proxied("origin.snapreach.test:443").connected().tunnelled()
    }

    fn refused() -> Observation {
        Walk::proxied("origin.snapreach.test:443").connected().tunnel_refused(reply("HTTP/1.1 403 Forbidden\r\n\r\n")).0
    }

    fn fails(judgement: &Judgement, says: &str, code: Option<Code>) {
        assert_eq!((judgement.outcome, judgement.code), (Outcome::Fail, code), "{judgement:?}");
        assert!(judgement.summary.contains(says), "{judgement:?}");
    }

    #[test]
    fn bytes_that_differ_are_told_with_their_place() {
        let seen = tunnel().exchanged(FEW, Some(FailureKind::Differs), |e| {
            (e.came_differs_at, e.expected) = (Some(70), Some(Excerpt::whole(b"abc")));
            e.came = Some(Excerpt::whole(b"xyz"));
        });
        let judgement = judge_bytes(seen.0);
        fails(&judgement, "as others", Some(codes::TUNNEL_CORRUPTED));
        assert_eq!(
            judgement.evidence,
            ["byte 70 of those that came down is another", "there must stand `abc`, and there stood `xyz`"]
        );
        let seen = tunnel().exchanged(FEW, Some(FailureKind::Differs), |e| e.sent_differs_at = Some(9));
        assert!(judge_bytes(seen.0).evidence[0].contains("byte 9 of those sent up"));
        assert_eq!(judge_bytes(tunnel().exchanged(FEW, None, |_| ()).0).outcome, Outcome::Pass);
    }

    #[test]
    fn every_end_of_a_transfer_has_its_own_words() {
        for (kind, says, code) in [
            (FailureKind::Closed, "closed (FIN)", Some(codes::TUNNEL_CLOSED)),
            (FailureKind::Reset, "reset (RST)", Some(codes::TUNNEL_RESET)),
            (FailureKind::TimedOut, "stuck", Some(codes::TUNNEL_SILENT)),
            (FailureKind::Foreign, "somebody else", None),
        ] {
            fails(&judge_large(1, Duration::from_secs(1), tunnel().exchanged(FEW, Some(kind), |_| ()).0), says, code);
        }
        fails(&judge_bytes(refused()), "does not open again", Some(codes::PROXY_REQUEST_DENIED));
    }

    #[test]
    fn a_tunnel_that_ends_both_ways_passes_unless_it_loses_something() {
        let cut = |kind| tunnel().exchanged(Exchange::HalfCloseByClient, Some(kind), |e| e.half_closed = true).0;
        let told = |kind| Some(tunnel().exchanged(Exchange::HalfCloseByClient, kind, |_| ()).0);
        let kept = judge_half_close_client(tunnel().exchanged(Exchange::HalfCloseByClient, None, |_| ()).0, None);
        assert!(kept.outcome == Outcome::Pass && kept.summary.contains("still comes back"));
        let ended = judge_half_close_client(cut(FailureKind::Closed), told(None));
        assert!(ended.outcome == Outcome::Pass && ended.summary.contains("both ways"));
        let broken = Some(codes::TUNNEL_HALF_CLOSE_BROKEN);
        fails(
            &judge_half_close_client(cut(FailureKind::Reset), told(Some(FailureKind::Lost))),
            "not arrive whole",
            broken,
        );
        fails(&judge_half_close_client(cut(FailureKind::Lost), None), "not arrive whole", broken);
        fails(&judge_half_close_client(cut(FailureKind::TimedOut), told(None)), "neither reaches", broken);
        let unknown = judge_half_close_client(cut(FailureKind::Closed), told(Some(FailureKind::Foreign)));
        assert_eq!(unknown.outcome, Outcome::NotRun);
    }

    #[test]
    fn the_origins_end_must_reach_the_client() {
        let seen = |kind| tunnel().exchanged(Exchange::HalfCloseByOrigin, kind, |e| e.half_closed = true).0;
        let told = |kind| tunnel().exchanged(Exchange::HalfCloseByOrigin, kind, |_| ()).0;
        let judge = |kind, then| judge_half_close_origin(seen(kind), told(then));
        assert!(judge(None, None).summary.contains("still arrive"));
        assert!(judge(None, Some(FailureKind::Lost)).summary.contains("both ways"));
        assert_eq!(judge(Some(FailureKind::Reset), Some(FailureKind::Lost)).outcome, Outcome::Pass);
        let broken = Some(codes::TUNNEL_HALF_CLOSE_BROKEN);
        fails(&judge(Some(FailureKind::TimedOut), None), "stays open", broken);
        fails(&judge(Some(FailureKind::Differs), None), "after the origin ended", Some(codes::TUNNEL_CORRUPTED));
        fails(&judge_half_close_origin(refused(), refused()), "does not open again", Some(codes::PROXY_REQUEST_DENIED));
    }

    #[test]
    fn a_reset_may_arrive_as_either_end() {
        let (after, open) = (Some(Duration::ZERO), || tunnel().answered(reply("HTTP/1.1 200 OK\r\n\r\n")).0);
        assert_eq!(judge_reset(after, Some(b""), open()).outcome, Outcome::Pass);
        assert_eq!(judge_reset(after, None, tunnel().request_fails(FailureKind::Reset).0).outcome, Outcome::Pass);
        fails(&judge_reset(after, Some(b"x"), open()), "bytes come after", Some(codes::TUNNEL_CORRUPTED));
        let silent = tunnel().request_fails(FailureKind::TimedOut).0;
        fails(&judge_reset(after, None, silent.clone()), "stays open and silent", Some(codes::TUNNEL_SILENT));
        fails(&judge_reset(None, None, silent), "stuck", Some(codes::TUNNEL_SILENT));
    }

    #[test]
    fn the_last_bytes_count() {
        let came = Came { intact: 9, altered: None };
        let ended = tunnel().request_fails(FailureKind::Closed).0;
        fails(&judge_last_bytes(None, &came, ended), "ends before all", Some(codes::TUNNEL_CLOSED));
        let came = Came { intact: 9, altered: Some((vec![b'a'], vec![b'b'])) };
        let differs = judge_last_bytes(None, &came, tunnel().request_fails(FailureKind::Differs).0);
        fails(&differs, "as others", Some(codes::TUNNEL_CORRUPTED));
        assert_eq!(differs.evidence[0], "byte 9 of those that came down is another");
        let other = judge_last_bytes(Some(404), &Came::default(), tunnel().answered(reply("HTTP/1.1 404 x\r\n\r\n")).0);
        fails(&other, "answered with 404", None);
    }

    #[test]
    fn a_fresh_tunnel_must_be_open_and_silent() {
        let open = || tunnel().answered(reply("HTTP/1.1 200 OK\r\n\r\n")).0;
        assert_eq!(judge_early(None, open()).outcome, Outcome::Pass);
        assert_eq!(judge_early(None, refused()).outcome, Outcome::NotRun);
        fails(&judge_early(Some(b""), open()), "ends before anybody", Some(codes::TUNNEL_CLOSED));
        let page = judge_early(Some(b"HTTP/1.1 200 OK\r\nDate: now"), open());
        fails(&page, "before the origin sent any", Some(codes::TUNNEL_CORRUPTED));
        assert_eq!(page.evidence, ["what came: `HTTP/1.1 200 OK`"]);
        let reset = tunnel().request_fails(FailureKind::Reset).0;
        fails(&judge_early(None, reset), "ends before anybody", Some(codes::TUNNEL_RESET));
    }

    #[test]
    fn silence_that_is_cut_is_told_from_silence_that_kills() {
        let limit = Duration::from_secs(3);
        let seen = |kind| tunnel().exchanged(Exchange::Idle { ms: 3000 }, kind, |e| e.idle_us = Some(1_000_000)).0;
        let cut = judge_idle(limit, seen(Some(FailureKind::Closed)));
        fails(&cut, "cut within 3s", Some(codes::TUNNEL_IDLE_CUT));
        assert_eq!(cut.remedy, Some(Remedy::IdleTimeout { seconds: IDLE_SECONDS }));
        assert!(cut.figures.contains_key("cut_after"));
        fails(&judge_idle(limit, seen(Some(FailureKind::TimedOut))), "nobody says so", Some(codes::TUNNEL_IDLE_CUT));
        fails(&judge_idle(limit, seen(Some(FailureKind::Differs))), "did not send", Some(codes::TUNNEL_CORRUPTED));
        assert!(judge_idle(limit, seen(None)).summary.contains("after 3s of silence"));
        let died = tunnel().exchanged(Exchange::Idle { ms: 3000 }, Some(FailureKind::Closed), |_| ()).0;
        fails(&judge_idle(limit, died), "closed (FIN)", Some(codes::TUNNEL_CLOSED));
    }

    #[test]
    fn a_tunnel_in_use_is_told_from_one_that_never_opened() {
        let limit = Duration::from_secs(3);
        let cut = judge_lifetime(limit, limit / 2, tunnel().request_fails(FailureKind::Closed).0);
        fails(&cut, "in use is cut within 3s", Some(codes::TUNNEL_CLOSED));
        let silent = Walk::proxied("origin.snapreach.test:443")
            .connected()
            .tunnel_fails(FailureKind::TimedOut, TunnelEvidence::default());
        fails(&judge_lifetime(limit, limit, silent.0), "does not open again", Some(codes::PROXY_SILENT));
    }

    #[test]
    fn directions_that_wait_for_each_other_are_stuck() {
        let all = Came { intact: FLOOD, altered: None };
        let open = || tunnel().answered(reply("HTTP/1.1 200 OK\r\n\r\n")).0;
        let received = |count, differs| Some(Answer::Received { count, differs });
        assert_eq!(judge_at_once(received(FLOOD, false), &all, open()).outcome, Outcome::Pass);
        fails(&judge_at_once(received(7, true), &all, open()), "as others", Some(codes::TUNNEL_CORRUPTED));
        fails(&judge_at_once(received(7, false), &all, open()), "do not arrive", Some(codes::TUNNEL_CORRUPTED));
        let changed = judge_at_once(Some(Answer::Refused), &all, open());
        fails(&changed, "do not arrive", Some(codes::TUNNEL_CORRUPTED));
        let unknown = judge_at_once(Some(Answer::Refused), &Came::default(), open());
        assert_eq!((unknown.outcome, unknown.code), (Outcome::NotRun, None), "{unknown:?}");
        let stuck = judge_at_once(None, &all, tunnel().request_fails(FailureKind::TimedOut).0);
        fails(&stuck, "stuck when both sides send", Some(codes::TUNNEL_SILENT));
    }

    #[test]
    fn a_slow_reader_gets_all_or_it_is_told_where_it_broke() {
        let cut = judge_slow_reader(&Came::default(), tunnel().request_fails(FailureKind::Closed).0);
        fails(&cut, "closed (FIN)", Some(codes::TUNNEL_CLOSED));
        let open = tunnel().answered(reply("HTTP/1.1 200 OK\r\n\r\n")).0;
        assert_eq!(judge_slow_reader(&Came { intact: MORE, altered: None }, open).outcome, Outcome::Pass);
    }
}
