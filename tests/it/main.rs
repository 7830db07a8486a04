//! The one integration binary.

#[cfg(feature = "cli")]
mod cli;
mod hostile;
#[cfg(feature = "cli")]
mod readme;
