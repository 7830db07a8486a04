//! Faults of four kinds: of the connection, of the byte stream, of the protocol, of the network itself.

pub mod conn;
pub(in crate::lab) mod half_close;
pub mod network;
pub mod proto;
pub mod stream;
