//! The exchange protocol: what a prober and an origin of snapreach's own say to each other, so that both know every byte
//! that must arrive, and whatever lies between them shows what it does to bytes, to silence and to half-closed
//! connections. Pure: the grammar, the pattern, the limits.
//!
//! A connection carries requests, one after another. Requests and answers are lines of ASCII, begin with `snapreach/1 `
//! and end with LF.
//!
//! | request | what follows |
//! |---|---|
//! | `verify UP DOWN SEED` | UP bytes of the pattern; the origin answers `received`, then sends DOWN bytes of its own |
//! | `hold MS` | the origin answers `ready` and waits MS milliseconds longer than else for the next request |
//! | `pause MS` | the origin answers nothing, and neither reads nor sends anything for MS milliseconds |
//! | `until-eof DOWN SEED` | the origin answers `ready`; bytes of the pattern until this side half-closes (FIN); the origin answers `received`, sends DOWN bytes of its own, and closes |
//! | `after-fin UP SEED` | the origin answers `ready` and half-closes; then UP bytes of the pattern |
//! | `recall SEED` | on another connection: the origin answers `received` about the `until-eof` or `after-fin` of this seed |
//! | `reset` | the origin answers `ready` and resets the connection (RST) once the next byte comes |
//! | `certificate` | the origin answers `certificate`: which one it presents on this port |
//!
//! | answer | meaning |
//! |---|---|
//! | `ready` | go on |
//! | `received N` | the first N bytes came as they must, and then no more |
//! | `received N differs` | the first N bytes came as they must, and the next one did not |
//! | `certificate SHA256` | the fingerprint of the origin's own certificate, 64 hexadecimal digits in lower case |
//! | `refused` | no request of this protocol, or nothing known under this seed |
//!
//! An origin owes nothing to strangers: a line that is no request ends the connection, nothing that is sent is kept, and
//! numbers beyond the limits are no requests.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// No line is longer, LF included.
pub const MAX_LINE: usize = 96;

/// The most pattern bytes in one direction of a request: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// The longest silence that can be asked for.
pub const MAX_HOLD: Duration = Duration::from_secs(4 * 3600);

/// The longest time that an origin can be kept from reading.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);

const MAGIC: &str = "snapreach/1 ";

/// What a prober can find out about a way with the help of such an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exchange {
    /// Whether bytes arrive as they were sent.
    Integrity {
        /// How many, in each direction; at most [`MAX_BYTES`].
        bytes: u64,
    },
    /// Whether the answer still comes after the client half-closed.
    HalfCloseByClient,
    /// Whether the client's bytes still arrive after the origin half-closed.
    HalfCloseByOrigin,
    /// Whether bytes arrive that were sent together with the CONNECT. Without a proxy they are merely the first ones.
    EarlyData,
    /// Whether a connection survives silence.
    Idle {
        /// How long, in milliseconds; at most [`MAX_HOLD`].
        ms: u64,
    },
}

impl Exchange {
    /// Says what is wrong with its numbers.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Integrity { bytes } if bytes == 0 || bytes > MAX_BYTES => {
                Err(format!("integrity: bytes is a number from 1 to {MAX_BYTES}"))
            }
            Self::Idle { ms } if ms == 0 || u128::from(ms) > MAX_HOLD.as_millis() => {
                Err(format!("idle: ms is a number from 1 to {}", MAX_HOLD.as_millis()))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Exchange {
    /// What it tries, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integrity { bytes } => write!(f, "{bytes} bytes each way"),
            Self::HalfCloseByClient => f.write_str("half-close by this side"),
            Self::HalfCloseByOrigin => f.write_str("half-close by the endpoint"),
            Self::EarlyData => f.write_str("bytes sent together with the CONNECT"),
            Self::Idle { ms } => write!(f, "silence of {:?}", Duration::from_millis(*ms)),
        }
    }
}

/// A request line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `verify`
    Verify {
        /// Bytes from the client.
        up: u64,
        /// Bytes from the origin.
        down: u64,
        /// Of the patterns.
        seed: u64,
    },
    /// `hold`
    Hold {
        /// Milliseconds.
        ms: u64,
    },
    /// `pause`
    Pause {
        /// Milliseconds; at most [`MAX_PAUSE`].
        ms: u64,
    },
    /// `until-eof`
    UntilEof {
        /// Bytes from the origin.
        down: u64,
        /// Of the patterns.
        seed: u64,
    },
    /// `after-fin`
    AfterFin {
        /// Bytes from the client.
        up: u64,
        /// Of the pattern.
        seed: u64,
    },
    /// `recall`
    Recall {
        /// Of the `until-eof` or `after-fin` in question.
        seed: u64,
    },
    /// `reset`
    Reset,
    /// `certificate`
    Certificate,
}

impl Request {
    /// Reads a line, with or without its LF. `None`: it is no request, or one beyond the limits.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (verb, numbers) = words(line)?;
        let bytes = |n: u64| (n <= MAX_BYTES).then_some(n);
        Some(match (verb, numbers.as_slice()) {
            ("verify", &[up, down, seed]) => Self::Verify { up: bytes(up)?, down: bytes(down)?, seed },
            ("hold", &[ms]) if u128::from(ms) <= MAX_HOLD.as_millis() => Self::Hold { ms },
            ("pause", &[ms]) if u128::from(ms) <= MAX_PAUSE.as_millis() => Self::Pause { ms },
            ("until-eof", &[down, seed]) => Self::UntilEof { down: bytes(down)?, seed },
            ("after-fin", &[up, seed]) => Self::AfterFin { up: bytes(up)?, seed },
            ("recall", &[seed]) => Self::Recall { seed },
            ("reset", &[]) => Self::Reset,
            ("certificate", &[]) => Self::Certificate,
            _ => return None,
        })
    }

    /// The line, with its LF.
    #[must_use]
    pub fn line(self) -> String {
        match self {
            Self::Verify { up, down, seed } => format!("{MAGIC}verify {up} {down} {seed}\n"),
            Self::Hold { ms } => format!("{MAGIC}hold {ms}\n"),
            Self::Pause { ms } => format!("{MAGIC}pause {ms}\n"),
            Self::UntilEof { down, seed } => format!("{MAGIC}until-eof {down} {seed}\n"),
            Self::AfterFin { up, seed } => format!("{MAGIC}after-fin {up} {seed}\n"),
            Self::Recall { seed } => format!("{MAGIC}recall {seed}\n"),
            Self::Reset => format!("{MAGIC}reset\n"),
            Self::Certificate => format!("{MAGIC}certificate\n"),
        }
    }
}

/// An answer line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `ready`
    Ready,
    /// `received`
    Received {
        /// So many bytes came as they must.
        count: u64,
        /// Whether the one behind them did not.
        differs: bool,
    },
    /// `certificate`
    Certificate(Fingerprint),
    /// `refused`
    Refused,
}

/// The SHA-256 of a certificate's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    /// 64 hexadecimal digits in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl Answer {
    /// Reads a line, with or without its LF.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (line, differs) = match line.trim_ascii_end().strip_suffix(b" differs") {
            Some(line) => (line, true),
            None => (line, false),
        };
        if let (false, Some(fingerprint)) = (differs, fingerprint(line)) {
            return Some(Self::Certificate(fingerprint));
        }
        Some(match (words(line)?, differs) {
            (("ready", numbers), false) if numbers.is_empty() => Self::Ready,
            (("refused", numbers), false) if numbers.is_empty() => Self::Refused,
            (("received", numbers), _) => match numbers.as_slice() {
                &[count] => Self::Received { count, differs },
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The line, with its LF.
    #[must_use]
    pub fn line(self) -> String {
        match self {
            Self::Ready => format!("{MAGIC}ready\n"),
            Self::Received { count, differs: false } => format!("{MAGIC}received {count}\n"),
            Self::Received { count, differs: true } => format!("{MAGIC}received {count} differs\n"),
            Self::Certificate(fingerprint) => format!("{MAGIC}certificate {fingerprint}\n"),
            Self::Refused => format!("{MAGIC}refused\n"),
        }
    }
}

// ---- where such an origin is

/// Where an origin of snapreach's own can be reached, as a proxy reaches it.
///
/// A door that serves tells by the first bytes what is spoken: the lines of this module, TLS, inside of which the same
/// choice is made again, or HTTP/1.1, which is answered with an [`Echo`] of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Places {
    /// A name that the proxy can look up, and which leads to doors that serve.
    pub name: Option<String>,
    /// What there is, those at storage's own ports first.
    pub doors: Vec<Door>,
    /// Ports of storage's that it could not have, and why.
    pub missing: Vec<(u16, String)>,
}

impl Places {
    /// The doors of this kind, those for IPv4 first.
    pub fn of(&self, kind: DoorKind) -> impl Iterator<Item = SocketAddr> {
        let doors = |v4| self.doors.iter().filter(move |door| door.kind == kind && door.address.is_ipv4() == v4);
        doors(true).chain(doors(false)).map(|door| door.address)
    }
}

/// One address and port of an origin of snapreach's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    /// Where it is, as a proxy reaches it.
    pub address: SocketAddr,
    /// What happens there.
    pub kind: DoorKind,
}

/// What happens at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorKind {
    /// The origin serves.
    Serves,
    /// Nobody listens: SYNs are refused.
    Refuses,
    /// SYNs stay unanswered.
    Silent,
    /// A connection is accepted and reset a moment later, before a byte came.
    Resets,
}

/// To this server name an origin presents a certificate that has expired, and nobody's authority signs it.
pub const BAD_CERTIFICATE: &str = "bad-certificate.snapreach.test";

/// The path of the echo; whatever query follows it is echoed as it came. `PUT` and `POST` are answered likewise.
pub const ECHO_PATH: &str = "/snapreach/echo";

/// Below it stands a source of as many bytes as its name says, and a sink that takes everything: for measurements.
pub const BULK_PATH: &str = "/snapreach-bulk/";

/// `{PATTERN_PATH}/BYTES/SEED`: that many bytes of the pattern; a single range (RFC 9110 section 14) is answered with 206.
pub const PATTERN_PATH: &str = "/snapreach/pattern";

/// What an echo's answer carries beside storage's usual headers: `x-ms-meta-echo`, with what the request said in its own
/// header of that name.
pub const ECHO_HEADER: &str = "x-ms-meta-echo";

/// A request as it arrived; the body of an echo, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Echo {
    /// The method.
    pub method: String,
    /// The request target, query included.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Name and value of each header field, in order, names as they came. The value of `Proxy-Authorization` is never
    /// echoed: it stands there as `(present)`.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Whether the body, of a request whose target has a query `seed=N`, was that pattern.
    pub body_intact: Option<bool>,
    /// Inside TLS: the fingerprint of the origin's own certificate, 64 hexadecimal digits.
    pub certificate: Option<String>,
}

impl Echo {
    /// The values of this header, in order.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The one answer that holds something else than numbers.
fn fingerprint(line: &[u8]) -> Option<Fingerprint> {
    if line.len() > MAX_LINE {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?;
    line.strip_suffix('\n').unwrap_or(line).strip_prefix(MAGIC)?.strip_prefix("certificate ")?.parse().ok()
}

/// The verb of a line and the numbers behind it.
fn words(line: &[u8]) -> Option<(&str, Vec<u64>)> {
    if line.len() > MAX_LINE {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_suffix('\n').unwrap_or(line).strip_prefix(MAGIC)?.split(' ');
    let verb = words.next()?;
    // A sign is no digit, though `parse` takes one.
    let number = |word: &str| word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten();
    Some((verb, words.map(number).collect::<Option<_>>()?))
}

/// Which way the bytes of a pattern go; the two differ, so that an echo is not taken for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Up,
    /// From the origin.
    Down,
}

/// Bytes that both sides can make out, from any offset, without keeping them: a counter, mixed (`SplitMix64`, Steele, Lea
/// and Flood, OOPSLA 2014). They do not compress and do not repeat.
#[derive(Debug, Clone, Copy)]
pub struct Pattern(u64);

impl Pattern {
    /// The pattern of a seed in one direction.
    #[must_use]
    pub fn new(seed: u64, direction: Direction) -> Self {
        Self(if direction == Direction::Up { seed } else { !mix(seed) })
    }

    /// Writes the bytes from `offset` on.
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        let mut offset = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let block = mix(self.0.wrapping_add(offset / 8)).to_le_bytes();
            let skip = usize::from((offset % 8) as u8);
            let count = rest.len().min(8 - skip);
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&block[skip..skip + count]);
            rest = later;
            offset = offset.wrapping_add(count as u64);
        }
    }

    /// The bytes from `offset` on.
    #[must_use]
    pub fn bytes(self, offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(offset, &mut bytes);
        bytes
    }

    /// The index of the first of `bytes`, which should be those from `offset` on, that is another.
    #[must_use]
    pub fn first_difference(self, offset: u64, bytes: &[u8]) -> Option<usize> {
        const CHUNK: usize = 1024;
        let mut expected = [0; CHUNK];
        bytes.chunks(CHUNK).enumerate().find_map(|(at, chunk)| {
            let expected = &mut expected[..chunk.len()];
            self.fill(offset.wrapping_add((at * CHUNK) as u64), expected);
            if expected == chunk {
                return None;
            }
            let within = expected.iter().zip(chunk).position(|(a, b)| a != b)?;
            Some(at * CHUNK + within)
        })
    }
}

/// Scrambles a number so that neighbours have nothing in common; also makes seeds out of counters.
#[must_use]
pub fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written_and_never_too_long() {
        let (up, down, seed) = (MAX_BYTES, MAX_BYTES, u64::MAX);
        for request in [
            Request::Verify { up, down, seed },
            Request::Hold { ms: 50 },
            Request::Pause { ms: 60_000 },
            Request::UntilEof { down: 0, seed },
            Request::AfterFin { up, seed: 0 },
            Request::Recall { seed },
            Request::Reset,
            Request::Certificate,
        ] {
            assert_eq!(Request::parse(request.line().as_bytes()), Some(request));
            assert!(request.line().len() <= MAX_LINE);
        }
        for answer in [
            Answer::Ready,
            Answer::Refused,
            Answer::Received { count: u64::MAX, differs: true },
            Answer::Received { count: 0, differs: false },
            Answer::Certificate(Fingerprint([0x5a; 32])),
        ] {
            assert_eq!(Answer::parse(answer.line().as_bytes()), Some(answer));
            assert!(answer.line().len() <= MAX_LINE);
        }
    }

    #[test]
    fn what_is_beyond_the_limits_is_no_request() {
        for line in [
            "",
            "GET / HTTP/1.1\r\n",
            "snapreach/1 verify 1 2\n",
            "snapreach/1 verify 1 2 3 4\n",
            "snapreach/1 verify +1 2 3\n",
            "snapreach/1 verify  1 2 3\n",
            "snapreach/1 verify 1073741825 0 3\n",
            "snapreach/1 hold 14400001\n",
            "snapreach/1 recall 18446744073709551616\n",
            "snapreach/2 recall 1\n",
        ] {
            assert_eq!(Request::parse(line.as_bytes()), None, "{line}");
        }
        for line in ["snapreach/1 ready differs\n", "snapreach/1 received\n", "snapreach/1 verify 1 2 3\n"] {
            assert_eq!(Answer::parse(line.as_bytes()), None, "{line}");
        }
        assert!(Exchange::Integrity { bytes: MAX_BYTES + 1 }.check().is_err());
        assert!(Exchange::Idle { ms: 0 }.check().is_err());
        assert!(Exchange::Idle { ms: 4 * 3600 * 1000 }.check().is_ok());
    }

    #[test]
    fn directions_and_seeds_have_nothing_in_common() {
        let first = |seed, direction| Pattern::new(seed, direction).bytes(0, 16);
        let all = [
            first(1, Direction::Up),
            first(1, Direction::Down),
            first(2, Direction::Up),
            first(2, Direction::Down),
            first(!mix(1), Direction::Down),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one));
        }
    }

    proptest! {
        #[test]
        fn any_piece_of_a_pattern_can_be_made_alone(seed: u64, offset in 0_u64..10_000, count in 0_usize..5_000) {
            let pattern = Pattern::new(seed, Direction::Down);
            let whole = pattern.bytes(0, 15_000);
            let at = usize::try_from(offset).unwrap();
            prop_assert_eq!(pattern.bytes(offset, count), &whole[at..at + count]);
        }

        #[test]
        fn the_first_difference_is_found(seed: u64, offset in 0_u64..10_000, count in 1_usize..5_000, at: prop::sample::Index) {
            let pattern = Pattern::new(seed, Direction::Up);
            let mut bytes = pattern.bytes(offset, count);
            prop_assert_eq!(pattern.first_difference(offset, &bytes), None);
            let at = at.index(count);
            bytes[at] ^= 0x10;
            *bytes.last_mut().unwrap() ^= 0x01;
            prop_assert_eq!(pattern.first_difference(offset, &bytes), Some(at));
        }

        #[test]
        fn reading_lines_never_panics(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = (Request::parse(&line), Answer::parse(&line));
        }
    }
}
