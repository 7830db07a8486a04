//! The far end of the lines of [`crate::exchange`], which says what arrived.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::watch,
    time::{sleep, timeout},
};

use super::own::Wire;
use crate::exchange::{Answer, Direction, Fingerprint, MAX_BYTES, MAX_LINE, Pattern, Request};

/// Exchanges remembered for a `recall`; the oldest go first.
const MAX_REMEMBERED: usize = 4096;

/// A client that is expected to send or to take bytes and does not is gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a `recall` waits for the exchange that it is about to end.
const RECALL_PATIENCE: Duration = Duration::from_secs(2);

const CHUNK: usize = 64 * 1024;

/// What connections share: the exchanges that a later one may ask about.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<VecDeque<Remembered>>>);

/// What came in the exchange of a seed that one side half-closed.
type Remembered = (u64, watch::Receiver<Late>);

/// What came in it so far.
#[derive(Debug, Clone, Copy)]
struct Late {
    answer: Answer,
    ended: bool,
}

impl Memory {
    fn remember(&self, seed: u64) -> watch::Sender<Late> {
        let (tell, told) = watch::channel(Late { answer: received(0, false), ended: false });
        let mut late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if late.len() >= MAX_REMEMBERED {
            late.pop_front();
        }
        late.push_back((seed, told));
        tell
    }

    async fn recall(&self, seed: u64) -> Answer {
        let known = {
            let late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            late.iter().rev().find(|(known, _)| *known == seed).map(|(_, receive)| receive.clone())
        };
        let Some(mut receive) = known else { return Answer::Refused };
        // Over or not: what is known by then is the answer.
        let _ = timeout(RECALL_PATIENCE, receive.wait_for(|late| late.ended)).await;
        receive.borrow().answer
    }
}

fn received(count: u64, differs: bool) -> Answer {
    Answer::Received { count, differs }
}

/// Serves the requests of a connection, one after another; `certificate` is the one that its door presents.
pub(super) async fn serve<W: Wire>(memory: &Memory, io: &mut BufReader<W>, certificate: Fingerprint) -> io::Result<()> {
    Connection { memory, io, certificate }.serve().await
}

struct Connection<'c, W> {
    memory: &'c Memory,
    io: &'c mut BufReader<W>,
    certificate: Fingerprint,
}

impl<W: Wire> Connection<'_, W> {
    async fn serve(&mut self) -> io::Result<()> {
        let mut patience = PATIENCE;
        loop {
            let mut line = Vec::with_capacity(MAX_LINE);
            let mut limited = (&mut *self.io).take(MAX_LINE as u64);
            if within(patience, limited.read_until(b'\n', &mut line)).await? == 0 {
                return Ok(());
            }
            patience = PATIENCE;
            match Request::parse(&line) {
                None => {
                    self.say(Answer::Refused).await?;
                    return self.end().await;
                }
                Some(Request::Verify { up, down, seed }) => {
                    let answer = self.check(seed, up, |_| ()).await;
                    self.say(answer).await?;
                    if answer != received(up, false) {
                        return self.end().await;
                    }
                    self.send(seed, down).await?;
                }
                Some(Request::Hold { ms }) => {
                    patience += Duration::from_millis(ms);
                    self.say(Answer::Ready).await?;
                }
                Some(Request::Pause { ms }) => sleep(Duration::from_millis(ms)).await,
                Some(Request::UntilEof { down, seed }) => {
                    let late = self.memory.remember(seed);
                    self.say(Answer::Ready).await?;
                    let answer = self.check_and_tell(&late, seed, MAX_BYTES).await;
                    self.say(answer).await?;
                    self.send(seed, down).await?;
                    return self.end().await;
                }
                Some(Request::AfterFin { up, seed }) => {
                    let late = self.memory.remember(seed);
                    self.say(Answer::Ready).await?;
                    self.io.shutdown().await?;
                    self.check_and_tell(&late, seed, up).await;
                    return self.end().await;
                }
                Some(Request::Recall { seed }) => {
                    let answer = self.memory.recall(seed).await;
                    self.say(answer).await?;
                }
                Some(Request::Reset) => {
                    self.say(Answer::Ready).await?;
                    within(PATIENCE, self.io.fill_buf()).await?;
                    self.io.get_ref().arm();
                    return Ok(());
                }
                Some(Request::Certificate) => self.say(Answer::Certificate(self.certificate)).await?,
            }
        }
    }

    /// As [`Self::check`], for those who ask about it later.
    async fn check_and_tell(&mut self, late: &watch::Sender<Late>, seed: u64, count: u64) -> Answer {
        let tell = |answer, ended| _ = late.send_replace(Late { answer, ended });
        let answer = self.check(seed, count, |answer| tell(answer, false)).await;
        tell(answer, true);
        answer
    }

    /// Compares bytes with the pattern, until `count` came, one differs, or no more come; tells how far it is.
    async fn check(&mut self, seed: u64, count: u64, mut so_far: impl FnMut(Answer)) -> Answer {
        let pattern = Pattern::new(seed, Direction::Up);
        let mut at = 0;
        while at < count {
            let Ok(bytes @ [_, ..]) = within(PATIENCE, self.io.fill_buf()).await else { break };
            let now = bytes.len().min(usize::try_from(count - at).unwrap_or(usize::MAX));
            if let Some(difference) = pattern.first_difference(at, &bytes[..now]) {
                return received(at + difference as u64, true);
            }
            self.io.consume(now);
            at += now as u64;
            so_far(received(at, false));
        }
        received(at, false)
    }

    async fn say(&mut self, answer: Answer) -> io::Result<()> {
        within(PATIENCE, self.io.write_all(answer.line().as_bytes())).await
    }

    async fn send(&mut self, seed: u64, count: u64) -> io::Result<()> {
        let pattern = Pattern::new(seed, Direction::Down);
        let mut buffer = vec![0; CHUNK.min(usize::try_from(count).unwrap_or(CHUNK))];
        let mut at = 0;
        while at < count {
            let now = usize::try_from(count - at).unwrap_or(CHUNK).min(CHUNK);
            pattern.fill(at, &mut buffer[..now]);
            within(PATIENCE, self.io.write_all(&buffer[..now])).await?;
            at += now as u64;
        }
        Ok(())
    }

    async fn end(&mut self) -> io::Result<()> {
        end(self.io).await
    }
}

/// Ends this side, and reads until the client ends too: a close with unread data would become a RST.
pub(super) async fn end(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    within(PATIENCE, io.shutdown()).await?;
    let mut scratch = [0; 4096];
    while within(PATIENCE, io.read(&mut scratch)).await? > 0 {}
    Ok(())
}

pub(super) async fn within<T>(patience: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const CERTIFICATE: Fingerprint = Fingerprint([7; 32]);

    async fn origin() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (memory, address) = (Memory::default(), listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let memory = memory.clone();
                tokio::spawn(async move { serve(&memory, &mut BufReader::new(stream), CERTIFICATE).await });
            }
        });
        address
    }

    /// Sends everything, half-closes, and reads to the end.
    async fn ask(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn requests_are_answered_one_after_another() {
        let address = origin().await;
        let (up, down) = (Pattern::new(7, Direction::Up), Pattern::new(7, Direction::Down));
        let mut bytes = b"snapreach/1 verify 100000 3 7\n".to_vec();
        bytes.extend(up.bytes(0, 100_000));
        bytes.extend(b"snapreach/1 hold 5\nsnapreach/1 until-eof 9 7\n");
        bytes.extend(up.bytes(0, 70_000));
        let mut expected = b"snapreach/1 received 100000\n".to_vec();
        expected.extend(down.bytes(0, 3));
        expected.extend(b"snapreach/1 ready\nsnapreach/1 ready\nsnapreach/1 received 70000\n");
        expected.extend(down.bytes(0, 9));
        assert_eq!(ask(address, &bytes).await, expected);
    }

    #[tokio::test]
    async fn a_pause_takes_its_time_and_loses_nothing() {
        let begin = Instant::now();
        let mut bytes = b"snapreach/1 pause 100\nsnapreach/1 verify 70000 0 7\n".to_vec();
        bytes.extend(Pattern::new(7, Direction::Up).bytes(0, 70_000));
        assert_eq!(ask(origin().await, &bytes).await, b"snapreach/1 received 70000\n");
        assert!(begin.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn what_came_changed_short_or_not_as_a_request_is_told() {
        let address = origin().await;
        let mut bytes = b"snapreach/1 verify 100 100 7\n".to_vec();
        let start = bytes.len();
        bytes.extend(Pattern::new(7, Direction::Up).bytes(0, 100));
        assert_eq!(ask(address, &bytes[..start + 42]).await, b"snapreach/1 received 42\n");
        bytes[start + 13] ^= 1;
        assert_eq!(ask(address, &bytes).await, b"snapreach/1 received 13 differs\n");
        for line in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[b'x'; 1000], b"snapreach/1 recall 99\n"] {
            assert_eq!(ask(address, line).await, b"snapreach/1 refused\n");
        }
    }

    #[tokio::test]
    async fn what_came_after_the_origin_half_closed_is_remembered() {
        let address = origin().await;
        for (sent, line) in [(64, "snapreach/1 received 64\n"), (10, "snapreach/1 received 10\n")] {
            let mut bytes = format!("snapreach/1 after-fin 64 {sent}\n").into_bytes();
            bytes.extend(Pattern::new(sent, Direction::Up).bytes(0, usize::try_from(sent).unwrap()));
            assert_eq!(ask(address, &bytes).await, b"snapreach/1 ready\n");
            assert_eq!(ask(address, format!("snapreach/1 recall {sent}\n").as_bytes()).await, line.as_bytes());
        }
    }

    #[tokio::test]
    async fn the_certificate_of_the_door_is_told() {
        let answer = ask(origin().await, b"snapreach/1 certificate\n").await;
        assert_eq!(Answer::parse(&answer), Some(Answer::Certificate(CERTIFICATE)));
    }

    #[tokio::test]
    async fn a_reset_on_request_is_a_reset() {
        let mut stream = TcpStream::connect(origin().await).await.unwrap();
        stream.write_all(b"snapreach/1 reset\n").await.unwrap();
        let mut answer = [0; 18];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"snapreach/1 ready\n");
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read(&mut answer).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let origin = Memory::default();
        for seed in 0..MAX_REMEMBERED as u64 + 10 {
            drop(origin.remember(seed));
        }
        assert_eq!(origin.0.lock().unwrap().len(), MAX_REMEMBERED);
        assert_eq!(origin.recall(3).await, Answer::Refused);
        assert_eq!(origin.recall(11).await, received(0, false));
    }
}
