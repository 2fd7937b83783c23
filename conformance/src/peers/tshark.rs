//! Wireshark's program for the command line.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{file_in, run_with_timeout, unpacked};

/// `tshark`, which brings its own C library.
#[derive(Debug)]
pub struct Tshark {
    root: PathBuf,
    loader: PathBuf,
}

impl Tshark {
    /// Finds it.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    #[track_caller]
    pub fn find() -> Self {
        let root = unpacked("tshark-4.4");
        let libraries = file_in(&root, "libs");
        let loader = fs::read_dir(&libraries)
            .unwrap_or_else(|error| panic!("cannot list {}: {error}", libraries.display()))
            .filter_map(Result::ok)
            .find(|entry| {
                let name = entry.file_name();
                name.to_string_lossy().starts_with("ld-linux")
            })
            .unwrap_or_else(|| panic!("there is no loader in {}", libraries.display()));
        Self {
            loader: loader.path(),
            root,
        }
    }

    /// The values of `fields` in a capture, opened with a key log: a line for each packet of the capture, tabs between the
    /// fields, commas between the values of one.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    #[track_caller]
    pub fn fields(&self, capture: &[u8], key_log: &[u8], fields: &[&str]) -> String {
        let folder = TempDir::new().unwrap_or_else(|error| panic!("no folder: {error}"));
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap_or_else(|error| panic!("cannot write: {error}"));
            path
        };
        let capture = write("capture", capture);
        let key_log = write("keys", key_log);
        let mut command = Command::new(&self.loader);
        command
            .env_clear()
            .env("HOME", folder.path())
            .env("LC_ALL", "C")
            .arg("--library-path")
            .arg(self.root.join("libs"))
            .arg(file_in(&self.root, "usr/bin/tshark"))
            .args([OsStr::new("-n"), "-r".as_ref(), capture.as_ref()])
            .args(["-o", &format!("ssh.keylog_file:{}", key_log.display())])
            .args(["-T", "fields"]);
        for field in fields {
            command.args(["-e", field]);
        }
        run_with_timeout(command, Vec::new(), Duration::from_secs(60))
            .expect_code(0)
            .stdout_text()
    }
}
