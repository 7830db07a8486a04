//! Faults of three kinds: of the connection, of the byte stream, of the protocol.

pub mod conn;
pub(in crate::lab) mod half_close;
pub mod proto;
pub mod stream;
