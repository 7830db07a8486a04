//! HTTP/1 heads from peers that may be anything: parsed leniently, kept whole, bounded.

mod proxy_status;
mod reply;

pub use proxy_status::{ProxyStatus, parse_proxy_status};
pub use reply::{Header, MAX_HEAD, MAX_HEADERS, ParseError, Parsed, Reply, parse_head};
