//! The example programs with bad input: one clear line, and a status that says so. No peer is needed.
//!
//! `cargo test --workspace` builds the examples; nothing else here needs more than that.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use conformance::ours::{Accounts, OurServer, example};
use conformance::peers::{Finished, run_with_timeout};
use ssh_blocking::ssh_proto::key::{Encryption, KeyKind, PrivateKey};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(30);

/// Files that the programs are given.
struct Files {
    folder: TempDir,
    key: PrivateKey,
}

impl Files {
    fn new() -> Self {
        let key = PrivateKey::generate(KeyKind::Ed25519, &[3; 32]).unwrap();
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            key,
        };
        files.write("host_key", files.key.to_openssh(None, 1).unwrap().expose());
        files.write(
            "authorized_keys",
            files.key.public().to_openssh("me").as_bytes(),
        );
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Runs an example in the folder. Names of files in the arguments are relative to it.
    fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new(example(program));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("USER", "somebody");
        run_with_timeout(command, "", TIME)
    }

    /// It ends with `code`, and one line on stderr that contains all of `words`.
    #[track_caller]
    fn fails(&self, program: &str, arguments: &[&str], code: i32, words: &[&str]) {
        let finished = self.run(program, arguments).expect_code(code);
        let said = finished.stderr_text();
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.starts_with(&format!("{program}: ")), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
        assert_eq!(finished.stdout_text(), "");
    }
}

#[test]
fn sshd_says_what_is_wrong_with_its_arguments_and_files() {
    let files = Files::new();
    let encryption = Encryption {
        passphrase: b"secret",
        rounds: 1,
        salt: [5; 16],
    };
    files.write(
        "locked",
        files.key.to_openssh(Some(encryption), 1).unwrap().expose(),
    );
    files.write("garbage", b"no key at all\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let good = [
        "--port",
        "0",
        "--host-key",
        "host_key",
        "--authorized-keys",
        "authorized_keys",
    ];
    let with = |at: usize, value| {
        let mut arguments = good;
        arguments[at] = value;
        arguments
    };
    for (arguments, words) in [
        (&good[2..], &["--port"][..]),
        (&good[..2], &["--host-key"]),
        (&good[..4], &["--authorized-keys"]),
        (&with(3, "missing"), &["missing", "No such file"]),
        (&with(5, "missing"), &["missing", "No such file"]),
        (&with(3, "garbage"), &["garbage"]),
        (&with(3, "locked"), &["locked", "passphrase"]),
        (&with(1, "many"), &["many"]),
        (&with(1, "65536"), &["65536"]),
        (&with(1, &port), &[port.as_str(), "in use"]),
        (&with(0, "--prot"), &["--prot"]),
        (&[&good[..], &["--bind", "nowhere"]].concat(), &["nowhere"]),
        (
            &[&good[..], &["--bind", "192.0.2.1"]].concat(),
            &["192.0.2.1"],
        ),
        (
            &[&good[..], &["--password", "nobody"]].concat(),
            &["USER:PASS"],
        ),
        (
            &[&good[..], &["--subsystem", "sftp"]].concat(),
            &["NAME=COMMAND"],
        ),
        (&[&good[..], &["extra"]].concat(), &["extra"]),
    ] {
        files.fails("sshd", arguments, 1, words);
    }
}

#[test]
fn sshd_refuses_a_line_of_authorized_keys_that_has_options() {
    let files = Files::new();
    let line = files.key.public().to_openssh("me");
    files.write(
        "authorized_keys",
        format!("command=\"date\" {line}\nrestrict {line}\n").as_bytes(),
    );
    // The port is taken, so it ends after it has read the file.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let arguments = [
        "--port",
        &port,
        "--host-key",
        "host_key",
        "--authorized-keys",
        "authorized_keys",
    ];
    let said = files.run("sshd", &arguments).expect_code(1).stderr_text();
    for line in ["authorized_keys:1: ", "authorized_keys:2: "] {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.contains("options"), "{said}");
}

#[test]
fn ssh_says_what_is_wrong_with_its_arguments_and_files() {
    let files = Files::new();
    files.write("garbage", b"no key at all\n");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    for (arguments, words) in [
        (
            &["-i", "missing", "localhost"][..],
            &["missing", "No such file"][..],
        ),
        (&["-i", "garbage", "localhost"], &["garbage"]),
        (&["-p", "many", "localhost"], &["many"]),
        (&["-o", "Ciphers=rot13", "localhost"], &["rot13"]),
        (&["-o", "KexAlgorithms=", "localhost"], &["key exchange"]),
        (&["-o", "ProxyJump=elsewhere", "localhost"], &["ProxyJump"]),
        (&["-o", "Ciphers", "localhost"], &["Ciphers"]),
        (&["-o", "RekeyLimit=much", "localhost"], &["RekeyLimit"]),
        (
            &["-o", "ConnectTimeout=soon", "localhost"],
            &["ConnectTimeout"],
        ),
        (
            &["-o", "HostKeyFingerprint=MD5:00", "localhost"],
            &["HostKeyFingerprint"],
        ),
        (
            &["-p", &port, "127.0.0.1", "true"],
            &["127.0.0.1", &port, "refused"],
        ),
        (&["host.invalid", "true"], &["host.invalid"]),
    ] {
        files.fails("ssh", arguments, 255, words);
    }
    // These show how it is used as well.
    for arguments in [&["-Z", "localhost"][..], &[]] {
        let said = files.run("ssh", arguments).expect_code(255).stderr_text();
        assert!(said.contains("usage: ssh"), "{said}");
    }
    let version = files.run("ssh", &["-V"]).expect_code(0);
    assert!(version.stdout_text().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn ssh_refuses_a_host_key_that_is_not_the_pinned_one_and_one_that_nobody_can_judge() {
    let files = Files::new();
    let server = OurServer::start(Accounts::default(), |_| {});
    let port = server.address().port().to_string();
    let shown = server.host_key().fingerprint_sha256();
    let wrong = files.key.public().fingerprint_sha256();
    let pin = format!("HostKeyFingerprint={wrong}");
    let arguments = [
        "-p",
        &port,
        "-i",
        "host_key",
        "-o",
        &pin,
        "127.0.0.1",
        "true",
    ];
    files.fails("ssh", &arguments, 255, &[&shown, &wrong]);
    // The right one is taken, and the key is not.
    let pin = format!("HostKeyFingerprint={shown}");
    let arguments = [
        "-p",
        &port,
        "-i",
        "host_key",
        "-o",
        &pin,
        "127.0.0.1",
        "true",
    ];
    files.fails("ssh", &arguments, 255, &["Permission denied"]);
}

#[test]
fn ssh_does_not_wait_for_a_server_that_says_nothing() {
    let files = Files::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let arguments = ["-p", &port, "-o", "ConnectTimeout=1", "127.0.0.1", "true"];
    files.fails("ssh", &arguments, 255, &["timed out"]);
}

#[test]
fn ssh_says_so_when_the_server_speaks_another_protocol() {
    use std::io::Write;
    let files = Files::new();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port().to_string();
    let thread = std::thread::spawn(move || {
        let mut stream = web.accept().unwrap().0;
        stream.write_all(b"SSH-1.5-ancient\r\n").unwrap();
    });
    files.fails(
        "ssh",
        &["-p", &port, "127.0.0.1", "true"],
        255,
        &["version", "2.0"],
    );
    thread.join().unwrap();
}
