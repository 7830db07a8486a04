//! Name lookups: the system's view, and one name server's own words.

use std::{
    mem::take,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dns_lookup::{AddrInfoHints, SockType};
use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, RecordType, rdata::opt::EdnsOption},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{
    failure, net,
    recorder::{Slot, micros},
};
use crate::{
    model::{
        Address, Alias, DnsAnswer, Evidence, ExtendedError, Failure, FailureKind, ResolveEvidence, ResolverView,
        TcpInfo, Transport,
    },
    plan::{Family, Source},
};

/// EDNS buffer size that avoids fragmentation (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
/// The option code of extended DNS errors (RFC 8914).
const EDE: u16 = 15;
/// Longer chains are cut for the record.
const MAX_ALIASES: usize = 16;
/// More addresses are cut: nobody balances one endpoint over more.
const MAX_ADDRESSES: usize = 32;
/// Datagrams per question: a lost one should not look like a dead server.
const TRIES: u8 = 3;

/// Evidence of a lookup in the making.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) evidence: ResolveEvidence,
}

impl Attempt {
    pub(super) fn new(view: ResolverView, server: Option<SocketAddr>, hosts_file: Vec<IpAddr>) -> Self {
        Self { evidence: ResolveEvidence { view, server, addresses: Vec::new(), answers: Vec::new(), hosts_file } }
    }
}

impl Slot for Attempt {
    fn finish(&mut self, _: Option<&Failure>, _: Option<TcpInfo>) -> Evidence {
        let evidence = &mut self.evidence;
        Evidence::Resolve(Box::new(ResolveEvidence {
            view: evidence.view,
            server: evidence.server,
            addresses: take(&mut evidence.addresses),
            answers: take(&mut evidence.answers),
            hosts_file: take(&mut evidence.hosts_file),
        }))
    }
}

/// Asks getaddrinfo, as the extension does. It runs on the blocking pool and cannot be cancelled, only left behind.
pub(super) async fn system(attempt: &mut Attempt, name: &str) -> Result<Vec<IpAddr>, Failure> {
    let name = name.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
        let list = dns_lookup::getaddrinfo(Some(&name), None, Some(hints))?;
        Ok(list.filter_map(Result::ok).map(|info| info.sockaddr.ip()).collect::<Vec<_>>())
    })
    .await
    .map_err(|error| Failure::new(FailureKind::Io, error.to_string()))?
    .map_err(|error: dns_lookup::LookupError| Failure {
        kind: FailureKind::SystemResolver,
        errno: Some(error.error_num()),
        raw: std::io::Error::from(error).to_string(),
    })?;
    for ip in found {
        add(&mut attempt.evidence.addresses, Address { ip, ttl: None });
    }
    conclude(attempt)
}

/// Takes the addresses of the hosts file, as getaddrinfo would.
pub(super) fn pinned(attempt: &mut Attempt) -> Result<Vec<IpAddr>, Failure> {
    for &ip in &attempt.evidence.hosts_file {
        add(&mut attempt.evidence.addresses, Address { ip, ttl: None });
    }
    conclude(attempt)
}

/// Asks one name server for A and AAAA, side by side.
pub(super) async fn server(
    attempt: &mut Attempt,
    name: &str,
    to: SocketAddr,
    source: &Source,
    budget: Duration,
) -> Result<Vec<IpAddr>, Failure> {
    let wanted = |family| source.family.is_none_or(|only| only == family);
    let ask = async |family: Family, kind: RecordType| {
        if wanted(family) { Some(question(name, kind, to, source, budget).await) } else { None }
    };
    let (v4, v6) = tokio::join!(ask(Family::V4, RecordType::A), ask(Family::V6, RecordType::AAAA));
    let mut worst: Option<Failure> = None;
    for answered in [v4, v6].into_iter().flatten() {
        let Answered { answer, addresses, failure } = answered;
        attempt.evidence.answers.push(answer);
        for address in addresses {
            add(&mut attempt.evidence.addresses, address);
        }
        // NODATA for one family says less than any other failure of the other.
        if let Some(failure) = failure
            && worst.as_ref().is_none_or(|worst| worst.kind == FailureKind::NoData)
        {
            worst = Some(failure);
        }
    }
    match worst {
        Some(failure) if attempt.evidence.addresses.is_empty() => Err(failure),
        _ => conclude(attempt),
    }
}

fn conclude(attempt: &Attempt) -> Result<Vec<IpAddr>, Failure> {
    let addresses: Vec<_> = attempt.evidence.addresses.iter().map(|address| address.ip).collect();
    if addresses.is_empty() {
        return Err(Failure::new(FailureKind::NoData, "the answer holds no address"));
    }
    Ok(addresses)
}

fn add(addresses: &mut Vec<Address>, address: Address) {
    if addresses.len() < MAX_ADDRESSES && addresses.iter().all(|known| known.ip != address.ip) {
        addresses.push(address);
    }
}

struct Answered {
    answer: DnsAnswer,
    addresses: Vec<Address>,
    failure: Option<Failure>,
}

async fn question(name: &str, kind: RecordType, to: SocketAddr, source: &Source, budget: Duration) -> Answered {
    let mut answered = Answered {
        answer: DnsAnswer {
            question: kind.to_string(),
            transport: Transport::Udp,
            elapsed_us: 0,
            tries: 0,
            rcode: None,
            extended_errors: Vec::new(),
            aliases: Vec::new(),
            addresses: 0,
        },
        addresses: Vec::new(),
        failure: None,
    };
    let start = Instant::now();
    // A little less than the layer's budget, so that this function ends first and its evidence is complete.
    let budget = budget.saturating_sub(budget / 20);
    match timeout(budget, exchange(name, kind, to, source, budget, &mut answered.answer)).await {
        Ok(Ok(message)) => read(name, &message, &mut answered),
        Ok(Err(failure)) => answered.failure = Some(failure),
        Err(_) => {
            answered.failure =
                Some(Failure::new(FailureKind::TimedOut, format!("no answer from {to} within {budget:?}")));
        }
    }
    answered.answer.elapsed_us = micros(start.elapsed());
    answered
}

/// One question and its answer, by UDP and, when that is truncated, by TCP.
async fn exchange(
    name: &str,
    kind: RecordType,
    to: SocketAddr,
    source: &Source,
    budget: Duration,
    answer: &mut DnsAnswer,
) -> Result<Message, Failure> {
    let (id, query) = encode(name, kind)?;
    let unreachable = |error: std::io::Error| failure::of_name_server(&error);
    // Nothing was sent yet: what fails here is this machine's own lack of a route, or its policy.
    let socket = net::udp(to, source).await.map_err(|error| failure::of_connect(&error))?;
    let mut buffer = vec![0; usize::from(UDP_PAYLOAD).max(4096)];
    let mut undecodable = None;
    for _ in 0..TRIES {
        socket.send(&query).await.map_err(unreachable)?;
        answer.tries += 1;
        let end = Instant::now() + budget / u32::from(TRIES);
        while let Ok(received) = tokio::time::timeout_at(end, socket.recv(&mut buffer)).await {
            let length = received.map_err(unreachable)?;
            match decode(&buffer[..length], id, name, kind) {
                Ok(message) if message.metadata.truncation => {
                    answer.transport = Transport::Tcp;
                    return by_tcp(&query, id, name, kind, to, source).await;
                }
                Ok(message) => return Ok(message),
                // Anybody can send a datagram that does not fit: only when nothing better comes it is the answer.
                Err(failure) => undecodable = Some(failure),
            }
        }
        if undecodable.is_some() {
            break;
        }
    }
    Err(undecodable.unwrap_or_else(|| Failure::new(FailureKind::TimedOut, format!("no answer from {to}"))))
}

async fn by_tcp(
    query: &[u8],
    id: u16,
    name: &str,
    kind: RecordType,
    to: SocketAddr,
    source: &Source,
) -> Result<Message, Failure> {
    let unreachable = |error: std::io::Error| failure::of_name_server(&error);
    let mut stream = net::tcp(to, source).await.map_err(unreachable)?;
    let mut framed = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await.map_err(unreachable)?;
    let length = stream.read_u16().await.map_err(unreachable)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(unreachable)?;
    decode(&buffer, id, name, kind)
}

fn encode(name: &str, kind: RecordType) -> Result<(u16, Vec<u8>), Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::new(FailureKind::InvalidName, error.to_string());
    let mut qname = Name::from_ascii(name).map_err(|e| invalid(&e))?;
    // The name is complete: no search list applies to it.
    qname.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(qname, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(|e| invalid(&e))?;
    Ok((message.metadata.id, bytes))
}

fn decode(bytes: &[u8], id: u16, name: &str, kind: RecordType) -> Result<Message, Failure> {
    let malformed = |raw: String| Failure::new(FailureKind::Malformed, raw);
    let message = Message::from_vec(bytes).map_err(|error| malformed(error.to_string()))?;
    if message.metadata.message_type != MessageType::Response {
        return Err(malformed("what came back is a question, not an answer".into()));
    }
    if message.metadata.id != id {
        return Err(malformed("the answer has another id than the question".into()));
    }
    let asked = |query: &Query| query.query_type() == kind && text(query.name()) == name.to_ascii_lowercase();
    // Some servers leave the question out of an error; what they echo must be ours.
    if !message.queries.is_empty() && !message.queries.iter().any(asked) {
        return Err(malformed("the answer belongs to another question".into()));
    }
    Ok(message)
}

fn read(name: &str, message: &Message, answered: &mut Answered) {
    let answer = &mut answered.answer;
    answer.rcode = Some(u16::from(message.metadata.response_code));
    answer.extended_errors = extended_errors(message);
    let mut at = name.to_ascii_lowercase();
    // Follow the chain from the name asked, so that records of other names in the answer do not count.
    while answer.aliases.len() < MAX_ALIASES {
        let next = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if text(&record.name) == at => {
                Some(Alias { name: at.clone(), target: text(&target.0), ttl: record.ttl })
            }
            _ => None,
        });
        let Some(alias) = next else { break };
        at.clone_from(&alias.target);
        answer.aliases.push(alias);
    }
    for record in message.answers.iter().filter(|record| text(&record.name) == at) {
        let ip = match &record.data {
            RData::A(a) => IpAddr::V4(a.0),
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
            _ => continue,
        };
        answer.addresses = answer.addresses.saturating_add(1);
        add(&mut answered.addresses, Address { ip, ttl: Some(record.ttl) });
    }
    if message.metadata.response_code != ResponseCode::NoError {
        answered.failure = Some(Failure::new(FailureKind::ResponseCode, message.metadata.response_code.to_string()));
    } else if answered.addresses.is_empty() {
        answered.failure = Some(Failure::new(FailureKind::NoData, "the name exists without an address of this family"));
    }
}

fn extended_errors(message: &Message) -> Vec<ExtendedError> {
    let Some(edns) = &message.edns else { return Vec::new() };
    let options = edns.options().options.iter();
    options
        .filter_map(|(_, option)| match option {
            EdnsOption::Unknown(EDE, data) => {
                let (code, text) = data.split_first_chunk()?;
                let text = String::from_utf8_lossy(&text[..text.len().min(256)]);
                let text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
                Some(ExtendedError { code: u16::from_be_bytes(*code), text })
            }
            _ => None,
        })
        .take(8)
        .collect()
}

/// Lower case, without the final dot.
fn text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes, 1, "h.example", RecordType::A);
        }

        #[test]
        fn reading_damaged_answers_never_panics(flips in proptest::collection::vec((0_usize..200, any::<u8>()), 0..8)) {
            let (id, mut bytes) = encode("acct.blob.core.windows.net", RecordType::A).unwrap();
            bytes[2] |= 0x80;
            for (at, value) in flips {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            if let Ok(message) = decode(&bytes, id, "acct.blob.core.windows.net", RecordType::A) {
                let mut answered = Answered {
                    answer: DnsAnswer { question: "A".into(), transport: Transport::Udp, elapsed_us: 0, tries: 1, rcode: None, extended_errors: vec![], aliases: vec![], addresses: 0 },
                    addresses: vec![],
                    failure: None,
                };
                read("acct.blob.core.windows.net", &message, &mut answered);
            }
        }
    }
}
