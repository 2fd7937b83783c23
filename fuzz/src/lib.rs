//! Fuzz targets as plain functions: bytes in, a panic when something is wrong. `cargo test` replays their corpora, the
//! programs in `libfuzzer/`, which `conformance/test` builds where there is a nightly toolchain, let libFuzzer find new
//! inputs:
//!
//! ```text
//! cd fuzz/libfuzzer && RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none server ../corpus/server
//! ```
//!
//! With `--cfg fuzzing`, which cargo-fuzz sets, ciphers change nothing and every tag and signature is right, so that an
//! input speaks past the key exchange. Without it the same inputs meet real keys, and most end at the first sealed
//! packet.

pub mod formats;
pub mod framing;
pub mod harness;
pub mod session;
pub mod steer;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by name: the name of its folder in `corpus`, and of its libFuzzer program.
pub const TARGETS: &[(&str, Target)] = &[
    ("ident", session::ident),
    ("deframe", session::deframe),
    ("message", formats::message),
    ("client", session::client),
    ("server", session::server),
    ("mitm", session::mitm),
    ("kex", session::kex),
    ("private_key", formats::private_key),
    ("public_key", formats::public_key),
    ("socks", formats::socks),
    ("trace", formats::trace),
];
