//! Network security groups, routes and service tags, evaluated without Azure: which rule decides over a flow out of a
//! machine, why, and what a rule that lets it through must look like.
//!
//! ```text
//! files ─> input, parse, template, routes, tags ─> Policy ─> Compiled ─> decide: many flows, fast
//!                                                                   └──> judge:  one flow, with reasons
//! ```
//!
//! What the files do not tell is [`crate::model::Decision::Unknown`], never a guess: a rule that may match decides only
//! where it says the same as the rule that would decide without it.

mod address;
mod compiled;
mod input;
mod judge;
mod lint;
mod parse;
mod policy;
mod region;
mod routes;
mod rule;
mod space;
mod tags;
mod template;
#[cfg(test)]
mod tests;

pub use compiled::{Compiled, Flow};
pub use input::{MAX_BYTES, NsgError};
pub use judge::{Destination, Question, in_azure_spelling, merge_suggestions};
pub use lint::Unreachable;
pub use policy::Policy;
pub use region::{canonical as canonical_region, in_tags as region_in_tags};
pub use rule::Protocol;
pub use tags::ServiceTags;
