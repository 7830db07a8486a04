//! An origin of snapreach's own: the far end of [`crate::exchange`], which says what arrived.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::exchange::{Answer, Direction, MAX_BYTES, MAX_HOLD, MAX_LINE, Pattern, Request};

/// Connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 8192;

/// Exchanges remembered for a `recall`; the oldest go first.
const MAX_REMEMBERED: usize = 4096;

/// A client that is expected to send or to take bytes and does not is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest life of a connection.
const LIFETIME: Duration = Duration::from_secs(MAX_HOLD.as_secs() + 3600);

/// How long a `recall` waits for the exchange that it is about to end.
const RECALL_PATIENCE: Duration = Duration::from_secs(2);

const CHUNK: usize = 64 * 1024;

/// The state that connections share.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    room: Arc<Semaphore>,
    late: Arc<Mutex<VecDeque<Remembered>>>,
}

/// What came after the origin half-closed in the exchange of a seed.
type Remembered = (u64, watch::Receiver<Late>);

/// What came after the origin half-closed, so far.
#[derive(Debug, Clone, Copy)]
struct Late {
    answer: Answer,
    ended: bool,
}

impl Origin {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_CONNECTIONS)), late: Arc::default() }
    }

    /// Serves one connection.
    pub(super) async fn serve(self, stream: TcpStream) {
        let Ok(_room) = self.room.clone().try_acquire_owned() else { return };
        let _ = stream.set_nodelay(true);
        let mut connection = Connection { origin: &self, io: BufReader::new(stream) };
        // An error, or the end of its time, is the client's leaving; there is nobody to tell.
        let _ = timeout(LIFETIME, connection.serve()).await;
    }

    fn remember(&self, seed: u64) -> watch::Sender<Late> {
        let (tell, told) = watch::channel(Late { answer: received(0, false), ended: false });
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late.len() >= MAX_REMEMBERED {
            late.pop_front();
        }
        late.push_back((seed, told));
        tell
    }

    async fn recall(&self, seed: u64) -> Answer {
        let known = {
            let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
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

struct Connection<'o> {
    origin: &'o Origin,
    io: BufReader<TcpStream>,
}

impl Connection<'_> {
    async fn serve(&mut self) -> io::Result<()> {
        let mut patience = PATIENCE;
        loop {
            let mut line = Vec::with_capacity(MAX_LINE);
            let mut limited = (&mut self.io).take(MAX_LINE as u64);
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
                Some(Request::UntilEof { down, seed }) => {
                    self.say(Answer::Ready).await?;
                    let answer = self.check(seed, MAX_BYTES, |_| ()).await;
                    self.say(answer).await?;
                    self.send(seed, down).await?;
                    return self.end().await;
                }
                Some(Request::AfterFin { up, seed }) => {
                    let late = self.origin.remember(seed);
                    self.say(Answer::Ready).await?;
                    self.io.shutdown().await?;
                    let tell = |answer, ended| _ = late.send_replace(Late { answer, ended });
                    let answer = self.check(seed, up, |answer| tell(answer, false)).await;
                    tell(answer, true);
                    return self.end().await;
                }
                Some(Request::Recall { seed }) => {
                    let answer = self.origin.recall(seed).await;
                    self.say(answer).await?;
                }
                Some(Request::Reset) => {
                    self.say(Answer::Ready).await?;
                    within(PATIENCE, self.io.fill_buf()).await?;
                    // Closed with nothing to wait for: the kernel sends a RST.
                    return SockRef::from(self.io.get_ref()).set_linger(Some(Duration::ZERO));
                }
                // A door without TLS presents none.
                Some(Request::Certificate) => self.say(Answer::Refused).await?,
            }
        }
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

    /// Ends this side, and reads until the client ends too: a close with unread data would become a RST.
    async fn end(&mut self) -> io::Result<()> {
        self.io.shutdown().await?;
        let mut scratch = [0; 4096];
        while within(PATIENCE, self.io.read(&mut scratch)).await? > 0 {}
        Ok(())
    }
}

async fn within<T>(patience: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn origin() -> (Origin, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (origin, address) = (Origin::new(), listener.local_addr().unwrap());
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (origin, address)
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
        let (_, address) = origin().await;
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
    async fn what_came_changed_short_or_not_as_a_request_is_told() {
        let (_, address) = origin().await;
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
        let (_, address) = origin().await;
        for (sent, line) in [(64, "snapreach/1 received 64\n"), (10, "snapreach/1 received 10\n")] {
            let mut bytes = format!("snapreach/1 after-fin 64 {sent}\n").into_bytes();
            bytes.extend(Pattern::new(sent, Direction::Up).bytes(0, usize::try_from(sent).unwrap()));
            assert_eq!(ask(address, &bytes).await, b"snapreach/1 ready\n");
            assert_eq!(ask(address, format!("snapreach/1 recall {sent}\n").as_bytes()).await, line.as_bytes());
        }
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let (origin, _) = origin().await;
        for seed in 0..MAX_REMEMBERED as u64 + 10 {
            drop(origin.remember(seed));
        }
        assert_eq!(origin.late.lock().unwrap().len(), MAX_REMEMBERED);
        assert_eq!(origin.recall(3).await, Answer::Refused);
        assert_eq!(origin.recall(11).await, received(0, false));
    }
}
