//! The name server, over UDP and TCP.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Edns, Header, HeaderCounts, Metadata},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, opt::EdnsOption},
    },
};
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};

use super::{
    fault::{
        conn::{self, ClosedPort},
        proto::DnsFault,
    },
    log::{Event, View},
    spec::{Ede, Fault, Party},
    world::World,
    zone::{Lookup, Zone},
};

/// The option code of extended DNS errors (RFC 8914 section 2).
const EDE: u16 = 15;

/// Sockets of one name server, before the runtime exists.
pub(super) struct DnsSockets {
    pub(super) address: SocketAddr,
    state: State,
}

enum State {
    Open(std::net::UdpSocket, std::net::TcpListener),
    /// Taken, so that nobody else gets the port, and closed to everybody: a connected UDP socket takes datagrams of its
    /// one peer only.
    Closed {
        _udp: std::net::UdpSocket,
        _tcp: ClosedPort,
    },
}

impl DnsSockets {
    /// Binds the same port for UDP and TCP, and closes it to everybody when asked.
    pub(super) fn open(closed: bool) -> io::Result<Self> {
        let mut last = io::Error::other("no port is free for both UDP and TCP");
        // The kernel chooses a free UDP port, whose TCP twin may be taken: then the next one.
        for _ in 0..32 {
            let udp = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
            let address = udp.local_addr()?;
            let state = if closed {
                // Port 1 (tcpmux) of a loopback address that nobody uses.
                udp.connect(("127.255.255.254", 1))?;
                ClosedPort::open(address).map(|tcp| State::Closed { _udp: udp, _tcp: tcp })
            } else {
                udp.set_nonblocking(true)?;
                conn::listen(address).map(|tcp| State::Open(udp, tcp))
            };
            match state {
                Ok(state) => return Ok(Self { address, state }),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Answers questions until dropped.
    pub(super) async fn run(self, view: View, zone: Zone, world: Arc<World>) {
        let (udp, tcp) = match self.state {
            State::Open(udp, tcp) => (udp, tcp),
            held @ State::Closed { .. } => {
                std::future::pending::<()>().await;
                return drop(held);
            }
        };
        let (Ok(udp), Ok(tcp)) = (UdpSocket::from_std(udp), TcpListener::from_std(tcp)) else { return };
        if shows(&world.spec.faults, view, DnsFault::Garbage) {
            return answer_garbage(udp).await;
        }
        let mut server = Server::new(NameServer { view, zone, world });
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 4096);
        // Ends with the runtime; an error of one socket is the end of this server.
        let _ = server.block_until_done().await;
    }
}

/// Whether the server of a view has this fault as a whole.
pub(super) fn shows(faults: &[Fault], view: View, fault: DnsFault) -> bool {
    faults.iter().any(|f| f.at == party(view) && f.dns == Some(fault))
}

fn party(view: View) -> Party {
    match view {
        View::System => Party::Dns,
        View::Server => Party::DnsServer,
    }
}

/// Keeps the id and the flags of an answer, and rubbish for the rest.
async fn answer_garbage(udp: UdpSocket) {
    let mut buffer = [0; 1500];
    while let Ok((n, peer)) = udp.recv_from(&mut buffer).await {
        let mut answer = buffer[..n.min(2)].to_vec();
        answer.extend_from_slice(b"\x81\x80\x00\x01\x00\x09\x00\x00\x00\x00\xc0\xff\xff\xff");
        let _ = udp.send_to(&answer, peer).await;
    }
}

struct NameServer {
    view: View,
    zone: Zone,
    world: Arc<World>,
}

#[async_trait::async_trait]
impl RequestHandler for NameServer {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let unsent = ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        let Ok(info) = request.request_info() else { return unsent };
        let tcp = info.protocol == Protocol::Tcp;
        let kind = info.query.query_type();
        let name = info.query.name().to_string().trim_end_matches('.').to_ascii_lowercase();
        self.world.log.add(Event::Question { view: self.view, name: name.clone(), kind: kind.to_string(), tcp });
        let fault = self.world.dns_fault(party(self.view), &name);
        match fault {
            Some(DnsFault::Silent) => return unsent,
            Some(DnsFault::WrongId) => metadata.id ^= 0x5a5a,
            Some(DnsFault::Truncated) if !tcp => metadata.truncation = true,
            _ => {}
        }
        let Lookup::Answer { rcode, ttl, aliases, owner, addresses, ede } =
            self.zone.look_up(&name, kind == RecordType::AAAA)
        else {
            return unsent;
        };
        let forced = if let Some(DnsFault::Rcode(rcode)) = fault { Some(rcode) } else { None };
        metadata.response_code = forced.unwrap_or(rcode).into();
        let wanted = matches!(kind, RecordType::A | RecordType::AAAA) && !metadata.truncation && forced.is_none();
        let records = if wanted { records(ttl, &aliases, &owner, &addresses) } else { Vec::new() };
        // EDNS only for those who speak it (RFC 6891 section 7).
        let edns = request.edns.as_ref().map(|_| edns(ede));
        let response =
            MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(metadata, &records, [], [], []);
        handle.send_response(response).await.unwrap_or(unsent)
    }
}

fn records(ttl: u32, aliases: &[(String, String)], owner: &str, addresses: &[std::net::IpAddr]) -> Vec<Record> {
    let name = |text: &str| Name::from_utf8(format!("{text}.")).unwrap_or_default();
    let links = aliases.iter().map(|(from, to)| Record::from_rdata(name(from), ttl, RData::CNAME(CNAME(name(to)))));
    let ends = addresses.iter().map(|address| {
        let data = match address {
            std::net::IpAddr::V4(ip) => RData::A(A(*ip)),
            std::net::IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
        };
        Record::from_rdata(name(owner), ttl, data)
    });
    links.chain(ends).collect()
}

fn edns(ede: Option<Ede>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    if let Some(Ede { code, text }) = ede {
        let mut data = code.to_be_bytes().to_vec();
        data.extend_from_slice(text.as_bytes());
        edns.options_mut().insert(EdnsOption::Unknown(EDE, data));
    }
    edns
}
