//! The programs on russh (`conformance/peers/russh`) that rows of ours are compared with.
//!
//! They are no part of the workspace, so that nobody who only builds this library compiles russh. The first benchmark
//! that needs them builds them, into a folder inside the workspace's target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::output;

/// Builds the programs unless they are up to date, and says where they are: one file, with subcommands.
///
/// # Errors
///
/// A line for the user when that fails.
pub(crate) fn program(bench: &Path) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/russh");
    // This program is TARGET/release/bench.
    let target = bench
        .ancestors()
        .nth(2)
        .unwrap_or(bench)
        .join("peers/russh");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--locked"]);
    build.arg("--manifest-path").arg(folder.join("Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    output(&mut build).map_err(|error| format!("russh's programs could not be built: {error}"))?;
    Ok(target.join("release/russh-peer"))
}
