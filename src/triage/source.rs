//! Files of any kind and size, unpacked, recognised by their content, and read line by line.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Cursor, ErrorKind, Read},
};

use flate2::bufread::MultiGzDecoder;

use super::{Kind, Source, agent_log, agent_log::AgentLog, extension_log, extension_log::ExtensionLog, line, status};

/// More bytes of one file are not read, packed or not.
pub const MAX_BYTES: u64 = 64 << 20;

/// A gzipped log is rarely packed more than 30 to 1; deflate cannot do more than about 1,032 to 1.
const MAX_RATIO: u64 = 200;

/// Below this size no ratio is suspicious.
const RATIO_FROM: u64 = 4 << 20;

/// The rest of a longer line is not looked at. The results of a parallel snapshot of 32 disks stand in one line.
const MAX_LINE: usize = 1 << 20;

/// What is looked at to recognise a file.
const PEEK: u64 = 64 * 1024;

/// Names of Python that `shell.log` tells.
const MAX_PYTHONS: usize = 16;

/// The magic number of gzip (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// One file, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it is.
    pub source: Source,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Extension(ExtensionLog),
    Agent(AgentLog),
    Status(Box<status::Report>),
    Settings(status::Settings),
    Shell(Vec<String>),
    Nothing,
}

/// Reads a file of any kind. What goes wrong is told in the document: what could be read counts.
#[must_use]
pub fn read(path: &str, input: impl Read) -> Document {
    let input = Peeked::new(input);
    if is_packed(input.head()) {
        let packed = BufReader::new(Counted { inner: input, bytes: 0 });
        document(path, Peeked::new(Unpacked { inner: MultiGzDecoder::new(packed), bytes: 0 }))
    } else {
        document(path, input)
    }
}

/// A file that cannot be opened or read at all.
#[must_use]
pub fn unreadable(path: &str, error: &io::Error) -> Document {
    let problem = Some(format!("cannot be read: {error}"));
    let source = Source { path: path.to_owned(), kind: Kind::Unknown, lines: 0, skipped: 0, problem };
    Document { source, content: Content::Nothing }
}

/// Whether a file that begins so is gzipped.
#[must_use]
pub fn is_packed(head: &[u8]) -> bool {
    head.starts_with(&GZIP)
}

fn document<R: Read>(path: &str, input: Peeked<R>) -> Document {
    let kind = recognise(&String::from_utf8_lossy(input.head()));
    let mut source = Source { path: path.to_owned(), kind, lines: 0, skipped: 0, problem: None };
    let mut lines = Lines::new(input);
    let content = match kind {
        Kind::ExtensionLog | Kind::HostServiceLog => {
            let mut log = extension_log::Reader::new(path);
            lines.each(&mut source, |number, line| log.line(number, line));
            Content::Extension(log.finish())
        }
        Kind::AgentLog => {
            let mut log = AgentLog::default();
            lines.each(&mut source, |number, line| agent_log::line(&mut log, path, number, line));
            Content::Agent(log)
        }
        Kind::ShellLog => {
            let mut pythons = Vec::new();
            lines.each(&mut source, |_, line| {
                let python = line.split_once("- ").and_then(|(_, message)| message.strip_suffix(" path exists"));
                let new = python.map(super::text::kept).filter(|python| !pythons.contains(python));
                pythons.extend(new.filter(|_| pythons.len() < MAX_PYTHONS));
                line.trim().is_empty() || line::is_shell(line)
            });
            Content::Shell(pythons)
        }
        Kind::Status | Kind::Settings => {
            let mut text = String::new();
            lines.each(&mut source, |_, line| {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(line);
                true
            });
            let read = if kind == Kind::Status {
                status::read(&text, path).map(|report| Content::Status(Box::new(report)))
            } else {
                status::settings(&text).map(Content::Settings)
            };
            read.unwrap_or_else(|problem| {
                source.skipped = source.lines;
                source.problem.get_or_insert(problem);
                Content::Nothing
            })
        }
        Kind::Unknown => {
            lines.each(&mut source, |_, _| false);
            Content::Nothing
        }
    };
    Document { source, content }
}

/// What a file is, by its beginning.
fn recognise(head: &str) -> Kind {
    let start = head.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t', '\0']);
    if start.starts_with(['[', '{']) && !line::is_extension(start) {
        if start.contains("\"runtimeSettings\"") {
            return Kind::Settings;
        }
        if start.contains("\"status\"") && start.contains("\"formattedMessage\"") {
            return Kind::Status;
        }
    }
    let (mut extension, mut agent, mut shell, mut service) = (0, 0, 0, false);
    for text in head.lines() {
        if line::is_extension(text) {
            extension += 1;
            service |=
                text.contains("xdisksvc") || text.contains("[FreezeHandler") || text.contains("[SnapshotRequest");
        } else if line::agent(text).is_some() {
            agent += 1;
        } else if line::is_shell(text) {
            shell += 1;
        }
    }
    match extension.max(agent).max(shell) {
        0 => Kind::Unknown,
        most if most == extension && service => Kind::HostServiceLog,
        most if most == extension => Kind::ExtensionLog,
        most if most == agent => Kind::AgentLog,
        _ => Kind::ShellLog,
    }
}

/// A reader whose beginning is known.
struct Peeked<R> {
    head: Cursor<Vec<u8>>,
    /// What ended the peeking, told again after the head.
    error: Option<io::Error>,
    rest: R,
}

impl<R: Read> Peeked<R> {
    fn new(mut rest: R) -> Self {
        let mut head = Vec::new();
        let error = rest.by_ref().take(PEEK).read_to_end(&mut head).err();
        Self { head: Cursor::new(head), error, rest }
    }

    fn head(&self) -> &[u8] {
        self.head.get_ref()
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => match self.error.take() {
                Some(error) => Err(error),
                None => self.rest.read(buffer),
            },
            n => Ok(n),
        }
    }
}

/// Counts what comes through.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Unpacks until the ratio to what is packed is no log's any more.
struct Unpacked<R> {
    inner: MultiGzDecoder<BufReader<Counted<R>>>,
    bytes: u64,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        let packed = self.inner.get_ref().get_ref().bytes;
        if self.bytes > RATIO_FROM && self.bytes / MAX_RATIO > packed {
            return Err(io::Error::other(format!(
                "packed more than {MAX_RATIO} to 1, as no log is: the rest is not read"
            )));
        }
        Ok(n)
    }
}

/// Lines of bounded length, as text, of the first [`MAX_BYTES`].
struct Lines<R> {
    input: BufReader<R>,
    /// Bytes still allowed.
    left: u64,
    buffer: Vec<u8>,
    /// What ended the last line, and is told after it.
    error: Option<io::Error>,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input: BufReader::new(input), left: MAX_BYTES, buffer: Vec::new(), error: None }
    }

    /// Gives each line with its number, and counts those that are not understood.
    fn each(&mut self, source: &mut Source, mut understand: impl FnMut(u64, &str) -> bool) {
        loop {
            match self.next() {
                Ok(None) => return,
                Ok(Some(line)) => {
                    source.lines += 1;
                    source.skipped += u64::from(!understand(source.lines, &line));
                }
                Err(error) => {
                    source.problem = Some(format!("after line {}: {error}", source.lines));
                    return;
                }
            }
        }
    }

    fn next(&mut self) -> io::Result<Option<Cow<'_, str>>> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.buffer.clear();
        let mut any = false;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if any => {
                    self.error = Some(e);
                    break;
                }
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                if !any {
                    return Ok(None);
                }
                break;
            }
            if self.left == 0 {
                return Err(io::Error::other(format!("more than {} MiB: the rest is not read", MAX_BYTES >> 20)));
            }
            any = true;
            let chunk = &chunk[..chunk.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))];
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let piece = &chunk[..end.unwrap_or(chunk.len())];
            let room = MAX_LINE.saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(&piece[..piece.len().min(room)]);
            let used = piece.len() + usize::from(end.is_some());
            self.input.consume(used);
            self.left = self.left.saturating_sub(used as u64);
            if end.is_some() {
                break;
            }
        }
        let line = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        Ok(Some(String::from_utf8_lossy(line)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;
    use crate::triage::assess;

    const LOG: &str = include_str!("../../tests/fixtures/logs/guest-one-of-two/extension.log");

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn files_are_known_by_their_content() {
        let line = "2026-01-05 03:10:44 [Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0]";
        for (text, kind) in [
            (format!("cut off\n{line}x\n"), Kind::ExtensionLog),
            (format!("{line}polling http://168.63.129.16/xdisksvc/snapshotrequest\n"), Kind::HostServiceLog),
            ("2026-01-05T03:10:44.1Z INFO ExtHandler x\n".into(), Kind::AgentLog),
            ("Mon Jan  5 03:10:01 UTC 2026- python3 path exists\n".into(), Kind::ShellLog),
            ("[{\"status\": {\"formattedMessage\": {}}}]".into(), Kind::Status),
            ("{\"runtimeSettings\": []}".into(), Kind::Settings),
            ("hello\n".into(), Kind::Unknown),
            (String::new(), Kind::Unknown),
        ] {
            assert_eq!(read("x", text.as_bytes()).source.kind, kind, "{text}");
            assert_eq!(read("x", &*packed(text.as_bytes())).source.kind, kind, "{text}");
        }
    }

    #[test]
    fn an_endless_line_costs_no_more_than_its_bound() {
        let endless = LOG.as_bytes().chain(io::repeat(b'x')).take(MAX_BYTES + 10);
        let document = read("x", endless);
        assert_eq!(document.source.lines, LOG.lines().count() as u64 + u64::from(!LOG.ends_with('\n')));
        let problem = document.source.problem.clone().unwrap();
        assert!(problem.contains("MiB"), "{problem}");
        assert_eq!(assess(vec![document]).attempts.len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), flips in prop::collection::vec((0..LOG.len(), any::<u8>()), 0..20)) {
            let mut log = LOG.as_bytes().to_vec();
            for (at, byte) in flips {
                log[at] = byte;
            }
            let mut gz = packed(&log);
            let at = bytes.len() % gz.len();
            gz[at] ^= bytes.first().copied().unwrap_or_default();
            let documents = [&bytes[..], &log, &gz, &[GZIP.as_slice(), &bytes].concat()].map(|bytes| read("x", bytes));
            let triage = assess(documents.to_vec());
            prop_assert_eq!(triage.sources.len(), 4);
        }
    }
}
