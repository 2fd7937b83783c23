//! OpenSSH's clients on our servers: the example `sshd` with its real terminals, and the library's server within the test.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use conformance::ours::{Accounts, OurServer, SshdExample, public_key, stream};
use conformance::peers::{
    Finished, KeyKind, KeyPair, Ssh, Version, all, descendants, run_with_timeout, signal,
};
use pty_process::blocking as pty;
use ssh_blocking::ForwardPolicy;
use ssh_blocking::ssh_proto::config::Keepalive;
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(60);

/// A server, and a key that it lets in.
struct Peer<S> {
    server: S,
    key: KeyPair,
    folder: TempDir,
}

fn key() -> (KeyPair, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id");
    (
        KeyPair::generate(Version::V10_0, KeyKind::Ed25519, &path, ""),
        folder,
    )
}

/// The example.
fn example(arguments: &[&str]) -> Peer<SshdExample> {
    let (key, folder) = key();
    let server = SshdExample::start(&[KeyKind::Ed25519], &[&key], arguments);
    Peer {
        server,
        key,
        folder,
    }
}

/// The library's server within this process.
fn within(terminals: bool, keepalive: Option<Keepalive>) -> Peer<OurServer> {
    let (key, folder) = key();
    let accounts = Accounts {
        keys: vec![public_key(&key)],
        terminals,
        forwards: ForwardPolicy::new().connect(|_| true),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |config| config.transport.keepalive = keepalive);
    Peer {
        server,
        key,
        folder,
    }
}

impl Peer<SshdExample> {
    fn ssh(&self, version: Version) -> Ssh {
        self.server.client(version).identity(&self.key)
    }
}

impl Peer<OurServer> {
    fn ssh(&self, version: Version) -> Ssh {
        self.server.client(version).identity(&self.key)
    }
}

#[test]
fn commands_have_streams_and_exit_statuses() {
    let peer = example(&[]);
    for version in all() {
        let ssh = peer.ssh(version);
        let finished = ssh
            .run("echo out; echo err >&2; cat; pwd; exit 7", "in\n", TIME)
            .expect_code(7);
        assert_eq!(
            finished.stdout_text(),
            format!("out\nin\n{}\n", peer.server.home().display())
        );
        assert_eq!(finished.stderr_text(), "err\n");
        for code in [0, 1, 127, 255] {
            let _ = ssh.run(&format!("exit {code}"), "", TIME).expect_code(code);
        }
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(ssh.run("cat", &*bytes, TIME).expect_code(0).stdout, bytes);
        let finished = ssh.run("", "echo $0\nexit 4\n", TIME).expect_code(4);
        assert_eq!(finished.stdout_text(), "-sh\n");
    }
}

#[test]
fn three_megabytes_on_both_streams_at_once_arrive() {
    const LEN: usize = 3 << 20;
    let flood =
        format!("head -c {LEN} /dev/zero & head -c {LEN} /dev/zero | tr '\\0' e >&2; wait; exit 5");
    let peer = example(&[]);
    for version in all() {
        let finished = peer.ssh(version).run(&flood, "", TIME).expect_code(5);
        assert!(finished.stdout == vec![0; LEN], "{}", finished.stdout.len());
        assert!(
            finished.stderr == vec![b'e'; LEN],
            "{}",
            finished.stderr.len()
        );
    }
}

#[test]
fn each_direction_ends_on_its_own() {
    let peer = example(&[]);
    for version in all() {
        let ssh = peer.ssh(version);
        // The client's EOF first.
        let finished = ssh
            .run("cat >/dev/null; echo after; exit 2", "data", TIME)
            .expect_code(2);
        assert_eq!(finished.stdout_text(), "after\n");
        // The command's EOF first: its stdout is closed, and it still reads what is written later.
        let mut child = ssh
            .command("exec >&-; cat >&2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(300));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"late").unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stderr, b"late");
        assert!(output.status.success());
        // A command that ends without reading its input.
        let _ = ssh.run("exit 6", stream(3 << 20), TIME).expect_code(6);
    }
}

#[test]
fn a_signal_that_ends_the_command_is_told() {
    let peer = example(&[]);
    for version in all() {
        for name in ["TERM", "KILL", "SEGV"] {
            let finished = peer
                .ssh(version)
                .flag("-v")
                .run(&format!("kill -{name} $$"), "", TIME)
                .expect_code(255);
            let log = finished.stderr_text();
            assert!(log.contains("exit-signal"), "{log}");
        }
    }
}

#[test]
fn a_client_that_goes_away_takes_its_command_along() {
    let peer = example(&[]);
    for version in all() {
        let finished: Finished =
            peer.ssh(version)
                .run("echo $$; exec sleep 1000", "", Duration::from_secs(1));
        assert!(finished.timed_out);
        let id: u32 = finished.stdout_text().trim().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(Instant::now() < deadline, "process {id} is still there");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn environment_variables_that_the_server_takes_arrive() {
    let peer = example(&[]);
    for version in all() {
        let ssh = peer
            .ssh(version)
            .option("SetEnv", "LC_TEST=\"one two\" REFUSED=3")
            .option("SendEnv", "LC_SENT");
        let mut command = ssh.command("echo \"$LC_TEST|$LC_SENT|$REFUSED\"");
        command.env("LC_SENT", "2");
        let finished = run_with_timeout(command, "", TIME).expect_code(0);
        assert_eq!(finished.stdout_text(), "one two|2|\n");
    }
}

/// Reads a terminal until `end` has come.
#[track_caller]
fn read_until(pty: &pty::Pty, end: &str) -> String {
    let mut reader = pty;
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(end.as_bytes()) {
        match reader.read(&mut byte) {
            Ok(1) => text.extend_from_slice(&byte),
            other => panic!(
                "{other:?}, no {end:?} in {:?}",
                String::from_utf8_lossy(&text)
            ),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Starts `ssh` on a terminal of its own.
fn on_terminal(
    ssh: &Ssh,
    remote: &str,
    rows: u16,
    columns: u16,
) -> (pty::Pty, std::process::Child) {
    let (pty, pts) = pty::open().unwrap();
    pty.resize(pty_process::Size::new(rows, columns)).unwrap();
    let child = pty::Command::from(ssh.command(remote)).spawn(pts).unwrap();
    (pty, child)
}

#[test]
fn a_terminal_has_a_size_that_changes_with_the_clients() {
    let peer = example(&[]);
    for version in all() {
        let finished = peer
            .ssh(version)
            .flag("-tt")
            .run("tty; exit 3", "", TIME)
            .expect_code(3);
        assert!(
            finished.stdout_text().starts_with("/dev/pts/"),
            "{}",
            finished.stdout_text()
        );

        let ssh = peer.ssh(version).flag("-t");
        let remote = "stty size; trap 'stty size; exit 9' WINCH; while :; do sleep 0.02; done";
        let (pty, mut child) = on_terminal(&ssh, remote, 37, 101);
        read_until(&pty, "37 101\r\n");
        thread::sleep(Duration::from_millis(200));
        pty.resize(pty_process::Size::new(12, 64)).unwrap();
        read_until(&pty, "12 64\r\n");
        assert_eq!(child.wait().unwrap().code(), Some(9));

        // ^C is typed, and the terminal makes a signal of it.
        let (pty, mut child) = on_terminal(
            &ssh,
            "trap 'echo caught; exit 5' INT; echo runs; while :; do sleep 0.02; done",
            24,
            80,
        );
        read_until(&pty, "runs\r\n");
        (&pty).write_all(b"\x03").unwrap();
        read_until(&pty, "caught\r\n");
        assert_eq!(child.wait().unwrap().code(), Some(5));

        // The shell that people get: what they type is shown to them once.
        let ssh = peer.ssh(version);
        let (pty, mut child) = on_terminal(&ssh, "", 24, 80);
        (&pty).write_all(b"stty -echo; echo $((6*7))\n").unwrap();
        let text = read_until(&pty, "42\r\n");
        assert!(text.contains("stty -echo"), "{text:?}");
        (&pty).write_all(b"exit 6\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(6));
    }
}

#[test]
fn window_changes_and_breaks_reach_the_handler() {
    let peer = within(true, None);
    let seen = peer.server.seen();
    for version in all() {
        let ssh = peer.ssh(version).flag("-t");
        let (pty, mut child) = on_terminal(&ssh, "echo runs; read line; exit 8", 37, 101);
        read_until(&pty, "runs");
        seen.wait_for("terminal 101x37", TIME);
        pty.resize(pty_process::Size::new(12, 64)).unwrap();
        seen.wait_for("resized 64x12", TIME);
        // OpenSSH's escape for it.
        (&pty).write_all(b"\r~B").unwrap();
        seen.wait_for("break of 1000 ms", TIME);
        (&pty).write_all(b"\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(8));
    }
}

#[test]
fn what_our_server_refuses_is_told() {
    let peer = within(false, None);
    for version in all() {
        // Whoever insists on a terminal gets nothing without one.
        let finished = peer
            .ssh(version)
            .flag("-tt")
            .run("true", "", TIME)
            .expect_code(255);
        assert!(
            finished
                .stderr_text()
                .contains("PTY allocation request failed"),
            "{}",
            finished.stderr_text()
        );
        let finished = peer
            .ssh(version)
            .flag("-s")
            .option("LogLevel", "INFO")
            .run("nothing", "", TIME)
            .expect_code(255);
        assert!(
            finished.stderr_text().contains("subsystem request failed"),
            "{}",
            finished.stderr_text()
        );
    }
}

#[test]
fn sftp_puts_and_gets_files() {
    for version in all() {
        // A program of the peer's, with the libraries that came with it.
        let subsystem = format!(
            "sftp=env LD_LIBRARY_PATH={} {}",
            version.libraries().display(),
            version.path("usr/lib/openssh/sftp-server").display()
        );
        let peer = example(&["--subsystem", &subsystem]);
        let data = stream(5_000_011);
        let local = peer.folder.path().join("local");
        fs::write(&local, &data).unwrap();
        let back = peer.folder.path().join("back");
        let batch = peer.folder.path().join("batch");
        fs::write(
            &batch,
            format!(
                "put {} there\nget there {}\nrename there gone\nls\n",
                local.display(),
                back.display()
            ),
        )
        .unwrap();
        let port = peer.server.address().port();
        let known_hosts = peer.folder.path().join("known_hosts");
        let host_key = &peer.server.host_keys()[0].public;
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {host_key}\n")).unwrap();
        let mut command = version.command("usr/bin/sftp");
        command
            .arg("-S")
            .arg(version.path("usr/bin/ssh"))
            .args([
                "-F",
                "none",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "BatchMode=yes",
            ])
            .args([
                "-o",
                &format!("UserKnownHostsFile={}", known_hosts.display()),
            ])
            .arg("-i")
            .arg(&peer.key.path)
            .args(["-P", &port.to_string(), "-b"])
            .arg(&batch)
            .arg("tester@127.0.0.1");
        let finished = run_with_timeout(command, "", TIME).expect_code(0);
        assert!(
            finished.stdout_text().contains("gone"),
            "{}",
            finished.stdout_text()
        );
        assert!(fs::read(peer.server.home().join("gone")).unwrap() == data);
        assert!(fs::read(&back).unwrap() == data);
    }
}

#[test]
fn twenty_clients_run_at_once() {
    let peer = example(&[]);
    let data = stream(300_007);
    for version in all() {
        thread::scope(|scope| {
            for number in 0..20 {
                let (peer, data) = (&peer, &data[number * 1000..]);
                scope.spawn(move || {
                    let command = format!("cat; exit {number}");
                    let finished = peer
                        .ssh(version)
                        .run(&command, data, TIME)
                        .expect_code(number as i32);
                    assert!(finished.stdout == data, "{number}");
                });
            }
        });
    }
}

#[test]
fn many_sessions_share_one_connection() {
    let peer = example(&[]);
    for version in all() {
        let socket = peer.folder.path().join(format!("{version}.socket"));
        let master = peer
            .ssh(version)
            .option("ControlMaster", "yes")
            .option("ControlPath", &socket.display().to_string())
            .flag("-N");
        let mut master = master.command("").stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + TIME;
        while !socket.exists() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(10));
        }
        thread::scope(|scope| {
            for number in 0..12 {
                let (peer, socket) = (&peer, &socket);
                scope.spawn(move || {
                    let ssh = peer
                        .ssh(version)
                        .option("ControlPath", &socket.display().to_string());
                    let command = format!("cat; exit {number}");
                    let finished = ssh
                        .run(&command, vec![number as u8; 100_000], TIME)
                        .expect_code(number);
                    assert_eq!(finished.stdout, vec![number as u8; 100_000]);
                });
            }
        });
        master.kill().unwrap();
        master.wait().unwrap();
    }
}

#[test]
fn a_tcp_connection_goes_through_our_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            io::copy(&mut &stream, &mut &stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    let peer = within(false, None);
    let data = stream(5 << 20);
    for version in all() {
        let ssh = peer
            .ssh(version)
            .flag("-W")
            .flag(&format!("127.0.0.1:{port}"));
        let finished = ssh.run("", &*data, TIME).expect_code(0);
        assert!(finished.stdout == data, "{}", finished.stdout.len());
        // Nobody listens on port 1.
        let ssh = peer
            .ssh(version)
            .option("LogLevel", "INFO")
            .flag("-W")
            .flag("127.0.0.1:1");
        let finished = ssh.run("", "", TIME).expect_code(255);
        assert!(
            finished.stderr_text().contains("open failed"),
            "{}",
            finished.stderr_text()
        );
    }
}

#[test]
fn both_sides_ask_whether_the_other_is_there() {
    let keepalive = Keepalive {
        interval: Duration::from_millis(300),
        count: 2,
    };
    let peer = within(false, Some(keepalive));
    thread::scope(|scope| {
        for version in all() {
            let ssh = peer
                .ssh(version)
                .option("ServerAliveInterval", "1")
                .option("ServerAliveCountMax", "1");
            scope.spawn(move || {
                let finished = ssh.run("sleep 3.3; echo alive", "", TIME).expect_code(0);
                assert_eq!(finished.stdout_text(), "alive\n");
            });
        }
    });
}

#[test]
fn a_client_that_is_frozen_is_noticed() {
    let keepalive = Keepalive {
        interval: Duration::from_millis(200),
        count: 2,
    };
    for version in all() {
        let peer = within(false, Some(keepalive));
        let log = File::create(peer.folder.path().join("out")).unwrap();
        let ssh = peer.ssh(version);
        let mut child = ssh
            .command("echo runs; exec sleep 1000")
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + TIME;
        while fs::read(peer.folder.path().join("out")).unwrap() != b"runs\n" {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(10));
        }
        assert!(descendants(std::process::id()).contains(&child.id()));
        signal("STOP", &[child.id().into()]);
        peer.server
            .seen()
            .wait_for("closed", Duration::from_secs(10));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
