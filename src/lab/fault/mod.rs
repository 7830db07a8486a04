//! Faults of four kinds: of the connection, of the byte stream, of the protocol, of the network itself.

pub mod conn;
pub mod network;
pub mod proto;
pub mod stream;
