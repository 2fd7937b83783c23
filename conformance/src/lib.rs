//! Scenarios, interoperability with other implementations, benchmarks beside them.
//!
//! Not published. `conformance/test` at the root of the repository fetches the peers and runs everything.

pub mod peers;
