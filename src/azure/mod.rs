//! What is known about Azure, as pure data: how storage is named and signs its answers, who issues its certificates,
//! and which address ranges mean something.

pub mod cloud;
pub mod issuer;
pub mod nsg;
pub mod ranges;
pub mod snapshot;
pub mod storage;
