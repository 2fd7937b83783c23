//! Scenarios, interoperability with other implementations, benchmarks beside them.
//!
//! Not published. `conformance/test` fetches the peers and runs everything.

pub mod app;
pub mod both_roles;
pub mod capture;
pub mod commands;
pub mod coverage;
pub mod forwarding;
pub mod forwards;
pub mod hostile;
pub mod logins;
pub mod ours;
pub mod pair;
pub mod peers;
pub mod scenario;
pub mod suites;
pub mod tcp;
pub mod wire;
pub mod world;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
