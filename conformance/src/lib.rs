//! Scenarios, interoperability with other implementations, benchmarks beside them.
