//! The classifier as a whole, on records built by hand and on recorded answers of real programs.

mod comparisons;
mod golden;
mod host;
mod paths;
mod predictions;
mod recorded;
