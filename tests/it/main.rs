//! The integration tests, one binary: they see the library and the program as a user does.

#[cfg(feature = "cli")]
mod cli;
