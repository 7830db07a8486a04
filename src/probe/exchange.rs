//! One exchange with an origin of snapreach's own ([`crate::exchange`]): what arrives is compared with what must arrive.

use std::{
    mem::take,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    failure,
    metered::KEPT,
    recorder::{Slot, micros},
};
use crate::{
    exchange::{Answer, Direction, Exchange, MAX_LINE, Pattern, Request},
    model::{Evidence, Excerpt, ExchangeEvidence, Failure, FailureKind, RequestEvidence, TcpInfo},
};

/// Bytes each way where it is not their number that matters; small enough to go along with a CONNECT in one segment.
const FEW: u64 = 512;

/// Bytes read or written at once.
const CHUNK: usize = 16 * 1024;

/// Of bytes that differ, and of those that should be there, this many are kept.
const SHOWN: usize = 16;

/// So many bytes of a pattern nobody sends by chance.
const TELLING: usize = 16;

/// Bytes per second below which a transfer is not waited for to its end.
const SLOWEST: u64 = 64 * 1024;

/// How long to read on after bytes that are not the origin's, to see who speaks.
const ODD_PATIENCE: Duration = Duration::from_millis(300);

/// Evidence of an exchange in the making.
#[derive(Debug)]
pub(super) struct Attempt {
    request: RequestEvidence,
    evidence: ExchangeEvidence,
    seed: u64,
    /// How long nothing may move.
    patience: Duration,
    /// Read and not looked at yet.
    buffer: Vec<u8>,
    /// When the first bytes were sent.
    began: Option<Instant>,
}

impl Attempt {
    /// `patience` is how long nothing may move, `along` the number of bytes that already went along with the CONNECT.
    pub(super) fn new(exchange: Exchange, seed: u64, patience: Duration, along: u64) -> Self {
        let request =
            RequestEvidence { method: "EXCHANGE".into(), request_sent: along > 0, ..RequestEvidence::default() };
        let evidence = ExchangeEvidence {
            exchange,
            origin_proved: false,
            bytes_sent: along,
            half_closed: false,
            idle_us: None,
            received: None,
            sent_differs_at: None,
            came_differs_at: None,
            expected: None,
            came: None,
        };
        let began = (along > 0).then(Instant::now);
        Self { request, evidence, seed, patience, buffer: Vec::new(), began }
    }
}

impl Slot for Attempt {
    fn finish(&mut self, _: Option<&Failure>, tcp: Option<TcpInfo>) -> Evidence {
        self.request.tcp = tcp;
        self.request.exchange = Some(Box::new(self.evidence.clone()));
        Evidence::Request(Box::new(take(&mut self.request)))
    }
}

/// What goes along with the CONNECT for [`Exchange::EarlyData`].
pub(crate) fn early_data(seed: u64) -> Vec<u8> {
    request_with_bytes(FEW, seed)
}

/// How long the whole exchange may take, if it takes `layer` without silence and without many bytes.
pub(super) fn budget(exchange: Exchange, layer: Duration) -> Duration {
    match exchange {
        Exchange::Idle { ms } => Duration::from_millis(ms) + 2 * layer,
        Exchange::Integrity { bytes } => Duration::from_secs(2 * bytes / SLOWEST) + layer,
        Exchange::EarlyData | Exchange::HalfCloseByClient | Exchange::HalfCloseByOrigin => layer,
    }
}

/// Makes the exchange.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    stream: &mut S,
) -> Result<(), Failure> {
    match attempt.evidence.exchange {
        Exchange::Integrity { bytes } => attempt.verify(stream, bytes, bytes).await,
        Exchange::EarlyData => attempt.early(stream).await,
        Exchange::Idle { ms } => attempt.idle(stream, ms).await,
        Exchange::HalfCloseByClient => attempt.close_first(stream).await,
        Exchange::HalfCloseByOrigin => attempt.close_second(stream).await,
    }
}

/// Asks what came of [`Exchange::HalfCloseByOrigin`], which was made over another connection with the same seed.
pub(super) async fn recall<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    stream: &mut S,
) -> Result<(), Failure> {
    let seed = attempt.seed;
    attempt.send(stream, Request::Recall { seed }.line().as_bytes()).await?;
    let honest = Answer::Received { count: FEW, differs: false };
    match attempt.answer(stream, honest, 0).await? {
        Answer::Refused => Err(Failure::new(FailureKind::Foreign, "the origin does not know of the exchange")),
        answer => attempt.accept(answer, honest, 0),
    }
}

/// A request with its bytes behind it.
fn request_with_bytes(up: u64, seed: u64) -> Vec<u8> {
    let mut bytes = Request::Verify { up, down: 0, seed }.line().into_bytes();
    bytes.extend(Pattern::new(seed, Direction::Up).bytes(0, usize::try_from(up).unwrap_or(0)));
    bytes
}

// ---- the exchanges

impl Attempt {
    async fn verify<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        up: u64,
        down: u64,
    ) -> Result<(), Failure> {
        let request = Request::Verify { up, down, seed: self.seed }.line();
        self.send(stream, request.as_bytes()).await?;
        let start = self.evidence.bytes_sent;
        self.send_pattern(stream, up).await?;
        let honest = Answer::Received { count: up, differs: false };
        let answer = self.answer(stream, honest, down).await?;
        self.accept(answer, honest, start)?;
        self.compare(stream, down).await
    }

    /// The bytes went along with the CONNECT. When no answer comes, others are sent: whether the tunnel works at all must
    /// be known too.
    async fn early<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), Failure> {
        let early = early_data(self.seed);
        let start = early.len() as u64 - FEW;
        if self.evidence.bytes_sent == 0 {
            self.send(stream, &early).await?;
        }
        let honest = Answer::Received { count: FEW, differs: false };
        // A third of the time: as much again must be left for the second answer.
        if let Ok(answer) = timeout(self.patience / 3, self.answer(stream, honest, 0)).await {
            return self.accept(answer?, honest, start);
        }
        // One byte fewer, to tell the answers apart.
        self.send(stream, &request_with_bytes(FEW - 1, self.seed)).await?;
        match self.answer(stream, honest, 0).await? {
            Answer::Received { count, differs: false } if count == FEW - 1 => {
                self.evidence.received = Some(0);
                Err(Failure::new(FailureKind::Lost, "bytes that were sent at once did not arrive; later ones did"))
            }
            answer => self.accept(answer, honest, start),
        }
    }

    async fn idle<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S, ms: u64) -> Result<(), Failure> {
        self.send(stream, Request::Hold { ms }.line().as_bytes()).await?;
        self.ready(stream).await?;
        if !self.buffer.is_empty() {
            return Err(self.altered(0, &[]));
        }
        let began = Instant::now();
        let end = timeout(Duration::from_millis(ms), self.read_within(stream, Duration::MAX)).await;
        self.evidence.idle_us = Some(micros(began.elapsed()));
        match end {
            // Nothing came, as it should be.
            Err(_) => self.verify(stream, FEW, FEW).await,
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(0)) => Err(closed()),
            Ok(Ok(_)) => Err(self.altered(0, &[])),
        }
    }

    async fn close_first<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), Failure> {
        self.send(stream, Request::UntilEof { down: FEW, seed: self.seed }.line().as_bytes()).await?;
        self.ready(stream).await?;
        let start = self.evidence.bytes_sent;
        self.send_pattern(stream, FEW).await?;
        stream.shutdown().await.map_err(|e| failure::of_io(&e))?;
        self.evidence.half_closed = true;
        let honest = Answer::Received { count: FEW, differs: false };
        let answer = self.answer(stream, honest, FEW).await?;
        self.accept(answer, honest, start)?;
        self.compare(stream, FEW).await
    }

    /// What arrives is not known here: [`recall`] asks for it.
    async fn close_second<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), Failure> {
        self.send(stream, Request::AfterFin { up: FEW, seed: self.seed }.line().as_bytes()).await?;
        self.ready(stream).await?;
        // By the protocol; whether the end of the stream reaches this side is what the read shows.
        self.evidence.half_closed = true;
        if !self.buffer.is_empty() || self.read(stream).await? > 0 {
            return Err(self.altered(0, &[]));
        }
        self.send_pattern(stream, FEW).await?;
        stream.shutdown().await.map_err(|e| failure::of_io(&e))
    }
}

// ---- what they are made of

impl Attempt {
    async fn send<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, bytes: &[u8]) -> Result<(), Failure> {
        self.began.get_or_insert_with(Instant::now);
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        timeout(self.patience, write).await.map_err(|_| silent(self.patience))?.map_err(|e| failure::of_io(&e))?;
        self.request.request_sent = true;
        self.evidence.bytes_sent += bytes.len() as u64;
        Ok(())
    }

    async fn send_pattern<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, count: u64) -> Result<(), Failure> {
        let pattern = Pattern::new(self.seed, Direction::Up);
        let mut buffer = vec![0; CHUNK.min(usize::try_from(count).unwrap_or(CHUNK))];
        let mut at = 0;
        while at < count {
            let now = usize::try_from(count - at).unwrap_or(CHUNK).min(CHUNK);
            pattern.fill(at, &mut buffer[..now]);
            self.send(stream, &buffer[..now]).await?;
            at += now as u64;
        }
        Ok(())
    }

    /// Reads more into the buffer; 0: the peer half-closed.
    async fn read<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<usize, Failure> {
        self.read_within(stream, self.patience).await
    }

    async fn read_within<S: AsyncRead + Unpin>(&mut self, stream: &mut S, limit: Duration) -> Result<usize, Failure> {
        self.buffer.reserve(CHUNK);
        let read = timeout(limit, stream.read_buf(&mut self.buffer)).await;
        let read = read.map_err(|_| silent(limit))?.map_err(|e| failure::of_io(&e))?;
        self.request.bytes_read += read as u64;
        if let (None, Some(began)) = (self.request.first_byte_us, self.began.filter(|_| read > 0)) {
            self.request.first_byte_us = Some(micros(began.elapsed()));
        }
        Ok(read)
    }

    async fn ready<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<(), Failure> {
        let answer = self.answer(stream, Answer::Ready, 0).await?;
        self.accept(answer, Answer::Ready, 0)
    }

    /// Reads an answer, which is `honest` if all is well, with `then` pattern bytes behind it.
    async fn answer<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        honest: Answer,
        then: u64,
    ) -> Result<Answer, Failure> {
        loop {
            let end = self.buffer.iter().take(MAX_LINE).position(|&b| b == b'\n');
            if let Some(answer) = end.and_then(|end| Answer::parse(&self.buffer[..=end])) {
                self.buffer.drain(..=end.unwrap_or(0));
                self.evidence.origin_proved = true;
                return Ok(answer);
            }
            if end.is_some() || self.buffer.len() >= MAX_LINE {
                return Err(self.stranger(stream, honest, then).await);
            }
            if self.read(stream).await? == 0 {
                let broken_off = honest.line().as_bytes().starts_with(&self.buffer);
                return Err(if broken_off { closed() } else { self.stranger(stream, honest, then).await });
            }
        }
    }

    /// Takes an answer to bytes of which the first was number `start` of all that were sent.
    fn accept(&mut self, answer: Answer, honest: Answer, start: u64) -> Result<(), Failure> {
        if let Answer::Received { count, .. } = answer {
            self.evidence.received = Some(count);
        }
        let (kind, raw) = match answer {
            answer if answer == honest => return Ok(()),
            Answer::Received { differs: false, .. } => (FailureKind::Lost, "bytes did not arrive at the origin"),
            Answer::Received { count, .. } => {
                self.evidence.sent_differs_at = Some(start + count);
                (FailureKind::Differs, "bytes arrived at the origin as others")
            }
            Answer::Ready | Answer::Refused | Answer::Certificate(_) => {
                (FailureKind::Differs, "the request did not arrive at the origin as it was sent")
            }
        };
        Err(Failure::new(kind, raw))
    }

    /// Compares `count` bytes of the pattern as they come.
    async fn compare<S: AsyncRead + Unpin>(&mut self, stream: &mut S, count: u64) -> Result<(), Failure> {
        let pattern = Pattern::new(self.seed, Direction::Down);
        let mut at = 0;
        while at < count {
            if self.buffer.is_empty() && self.read(stream).await? == 0 {
                return Err(closed());
            }
            let now = self.buffer.len().min(usize::try_from(count - at).unwrap_or(usize::MAX));
            if let Some(difference) = pattern.first_difference(at, &self.buffer[..now]) {
                let from = at + difference as u64;
                let left = usize::try_from(count - from).unwrap_or(SHOWN).min(SHOWN);
                return Err(self.altered(difference, &pattern.bytes(from, left)));
            }
            self.buffer.drain(..now);
            at += now as u64;
        }
        Ok(())
    }

    /// What came is no answer: either the origin's, changed on the way, or somebody else's.
    async fn stranger<S: AsyncRead + Unpin>(&mut self, stream: &mut S, honest: Answer, then: u64) -> Failure {
        let patience = ODD_PATIENCE.min(self.patience / 3);
        let read_on = async { while self.buffer.len() < KEPT && matches!(self.read(stream).await, Ok(1..)) {} };
        // An end, of the stream or of the patience, only means that no more is to be seen.
        let _ = timeout(patience, read_on).await;
        let line = honest.line();
        let count = usize::try_from(then).unwrap_or(KEPT).min(KEPT);
        let pattern = Pattern::new(self.seed, Direction::Down).bytes(0, count);
        let holds = |part: &[u8]| self.buffer.windows(part.len()).any(|window| window == part);
        if holds(line.as_bytes()) || pattern.get(..TELLING).is_some_and(holds) {
            self.evidence.origin_proved = true;
            let expected: Vec<u8> = line.bytes().chain(pattern).collect();
            let same = expected.iter().zip(&self.buffer).take_while(|(a, b)| a == b).count();
            return self.altered(same, &expected[same..]);
        }
        self.request.first_bytes = Some(Excerpt::new(&self.buffer, KEPT, self.buffer.len() as u64));
        Failure::new(FailureKind::Foreign, "what answers is no origin of snapreach's")
    }

    /// The byte at this index of the buffer should be the first of `expected`, or should not be.
    fn altered(&mut self, at: usize, expected: &[u8]) -> Failure {
        let unread = (self.buffer.len() - at) as u64;
        self.evidence.came_differs_at = Some(self.request.bytes_read - unread);
        let came = &self.buffer[at..self.buffer.len().min(at + SHOWN)];
        self.evidence.came = Some(Excerpt::whole(came));
        self.evidence.expected = Some(Excerpt::whole(&expected[..expected.len().min(SHOWN)]));
        Failure::new(FailureKind::Differs, "bytes came that the origin did not send")
    }
}

fn silent(limit: Duration) -> Failure {
    Failure::new(FailureKind::TimedOut, format!("nothing moved within {limit:?}"))
}

fn closed() -> Failure {
    Failure::new(FailureKind::Closed, "closed before the exchange was done")
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    const SEED: u64 = 7;

    /// Makes the exchange with a far end that `plays`, and gives how it ended and what it left behind.
    async fn with<F: Future>(
        exchange: Exchange,
        plays: impl FnOnce(DuplexStream) -> F,
    ) -> (Option<FailureKind>, RequestEvidence) {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let mut attempt = Attempt::new(exchange, SEED, Duration::from_secs(3), 0);
        let (result, _) = tokio::join!(super::exchange(&mut attempt, &mut near), plays(far));
        let Evidence::Request(evidence) = attempt.finish(None, None) else { unreachable!() };
        (result.err().map(|failure| failure.kind), *evidence)
    }

    /// Reads so many bytes.
    async fn take_bytes(far: &mut DuplexStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        far.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn an_echo_is_no_origin() {
        let (kind, evidence) = with(Exchange::Integrity { bytes: 100 }, |mut far| async move {
            let said = take_bytes(&mut far, 30).await;
            far.write_all(&said).await.unwrap();
            // Whoever ends the line proves nothing by it.
            far.write_all(b"\n").await.unwrap();
            far
        })
        .await;
        assert_eq!(kind, Some(FailureKind::Foreign));
        assert!(!evidence.exchange.unwrap().origin_proved);
        assert!(evidence.first_bytes.unwrap().text.starts_with("snapreach/1 verify"));
    }

    #[tokio::test]
    async fn an_origin_shows_behind_a_line_that_was_changed() {
        let (kind, evidence) = with(Exchange::Integrity { bytes: 100 }, |mut far| async move {
            let mut answer = Answer::Received { count: 100, differs: false }.line().into_bytes();
            answer[2] ^= 0x20;
            answer.extend(Pattern::new(SEED, Direction::Down).bytes(0, 100));
            far.write_all(&answer).await.unwrap();
            far
        })
        .await;
        let exchange = evidence.exchange.unwrap();
        assert_eq!((kind, exchange.came_differs_at), (Some(FailureKind::Differs), Some(2)));
        assert_eq!(exchange.expected.unwrap().text, "apreach/1 receiv");
        assert_eq!(exchange.came.unwrap().text, "Apreach/1 receiv");
    }

    #[tokio::test]
    async fn early_bytes_that_are_only_slow_are_not_lost() {
        let first = early_data(SEED).len();
        let second = request_with_bytes(FEW - 1, SEED).len();
        for (answers, expected) in [(FEW, None), (FEW - 1, Some(FailureKind::Lost)), (9, Some(FailureKind::Lost))] {
            let (kind, evidence) = with(Exchange::EarlyData, |mut far| async move {
                // The second bytes come only when nothing was said about the first.
                take_bytes(&mut far, first + second).await;
                let answer = Answer::Received { count: answers, differs: false };
                far.write_all(answer.line().as_bytes()).await.unwrap();
                far
            })
            .await;
            assert_eq!(kind, expected, "{answers}");
            assert!(evidence.exchange.unwrap().origin_proved);
        }
    }

    #[tokio::test]
    async fn bytes_that_nobody_sent_break_a_silence() {
        let (kind, evidence) = with(Exchange::Idle { ms: 60_000 }, |mut far| async move {
            far.write_all(Answer::Ready.line().as_bytes()).await.unwrap();
            take_bytes(&mut far, Request::Hold { ms: 60_000 }.line().len()).await;
            far.write_all(b"HTTP/1.0 408 Request Time-out\r\n\r\n").await.unwrap();
            far
        })
        .await;
        let exchange = evidence.exchange.unwrap();
        assert_eq!((kind, exchange.came_differs_at), (Some(FailureKind::Differs), Some(18)));
        assert_eq!(exchange.came.unwrap().text, "HTTP/1.0 408 Req");
    }
}
