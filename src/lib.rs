//! Find out who stands between an Azure VM and the storage that its backup snapshots need.
//!
//! A [`plan::Plan`] is walked layer by layer into [`model::Observation`]s; a pure table turns observations into
//! findings and a verdict; reporters print them; an embedded lab can play every other party. Measuring, judging and
//! printing never mix.
//!
//! ```text
//! targets x routes x options ─> Plan ─> probe: resolve > connect > [proxy handshake] > tunnel > handshake > request
//!                                           │                      ▲                          │
//!                                           │    lab plays the other parties (--lab)          ▼
//!                                           └──────────────────────────────────────> Observation*
//!                                                                                             │
//!                   record (JSON Lines) <────────────────────── Record <──────────────────────┤
//!                                                                                             ▼
//!                   report (text, JSON, …) <─ Verdict, Finding*, Prediction* <─ classify (pure)
//! ```
//!
//! # Which module may know which
//!
//! | module | knows | feature |
//! |---|---|---|
//! | [`model`], [`http`], [`exchange`] | each other | always |
//! | [`plan`], [`azure`], [`discover`] | `model`; `plan` also `exchange`, `discover` also `plan`, `triage` | always |
//! | [`classify`] | `model`, `http`, `exchange`, `azure` | always |
//! | [`report`] | `model`, and the judgement it is given | always |
//! | [`triage`] | `model`, `azure`, `report`, and of `classify` codes and catalogue | always |
//! | [`probe`] | `model`, `http`, `exchange`, `plan` | `probe` |
//! | [`lab`] | `model`, `exchange`, `plan`; never `probe` or `classify`, or one bug would agree with itself | `lab` |
//! | [`bench`](mod@bench) | `model`, `http`, `plan`, `probe`, `lab`, `report`, and of `classify` what one observation means | `bench` |
//! | [`conformance`] | everything but `scenario`, `bench` and `cli` | `conformance` |
//! | [`scenario`] | everything but `conformance`, `bench` and `cli` | `scenario` |
//! | [`cli`] | everything | `cli` |
//!
//! Two private modules know nothing and serve whoever has sockets: `sys`, the only `unsafe` code, and `low_water`, how
//! long a reader of much sleeps. The always-on part needs neither an event loop nor sockets; features only add modules.
//!
//! # Rules
//!
//! * A failed probe is data, never `Err`. `Err` means that nothing could be measured, or that the input is wrong.
//! * The layer that meets an error turns the typed error into a [`model::FailureKind`] and evidence; judging is a table
//!   elsewhere. Nothing decides on an error's display text.
//! * One failure per observation, and only its last step may have failed.
//! * Through a proxy a layer occurs twice; layer and [`model::Leg`] together say where, and become the
//!   [`model::Hop`] that decides who must act.
//! * Evidence lives outside the timed future, so that a timeout keeps it.
//! * Secrets are [`model::Secret`] from the parser on, and whatever a peer sent is cleaned of them before it is kept.
//!
//! # To change something, go to
//!
//! * what is sent, and what is kept of the answer: `probe/`, one file per layer
//! * how errors are told apart: `probe/failure.rs`
//! * what is exchanged with an origin of our own: [`exchange`], `probe/exchange.rs`, `lab/exchange.rs`
//! * what an observation means: [`classify`], `rules.rs`; what several mean together: `compare.rs`
//! * what is said about a code: [`classify::catalogue`] and its `explain/` pages; what to do about it: `remedies/`
//! * what the extension itself would report: [`azure::snapshot`], the model; `classify/predict.rs`, what it is given
//! * what security groups, routes and service tags say: [`azure::nsg`]; about which flows of a run: [`azure::flows`]; how
//!   that is compared with what was seen: `compare/security.rs`; without a run: [`classify::offline`]
//! * what a machine says about itself, and which proxy each program on it takes: [`discover`], one file per place
//! * what the extension's own logs say: [`triage`]
//! * how it looks: [`report`]
//! * what the other parties can do wrong: [`lab`]; named worlds, with what must come out: `scenarios/*.toml`
//! * what a forward proxy is tried with, and what is right: [`conformance`], `cases/`, one file per group; what mends it:
//!   `fixes.rs`; which product it is: `product.rs`; how it looks: `report/`
//! * what is measured, and what counts as an operation: [`bench`](mod@bench), `engine/`; how bytes move: `probe/wire/`;
//!   what adds up: `measurement.rs` and `distribution.rs`
//! * whether one path is worse than another: `bench/gate/judge.rs`, which alone decides, and `bench/statistics/`, which it
//!   rests on; how two paths take turns: `bench/compare.rs`; how it looks: `bench/report/`
//! * what can be expected, and how it is compared: [`scenario`], `expect.rs` and `compare.rs`

pub mod azure;
#[cfg(feature = "bench")]
pub mod bench;
pub mod classify;
pub mod discover;
pub mod exchange;
pub mod http;
pub mod model;
pub mod plan;
pub mod report;
pub mod triage;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "lab")]
pub mod lab;
#[cfg(feature = "probe")]
pub mod probe;
#[cfg(feature = "scenario")]
pub mod scenario;

#[cfg(feature = "lab")]
mod low_water;
#[cfg(any(feature = "probe", feature = "lab"))]
mod sys;
