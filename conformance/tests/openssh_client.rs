//! Our client's sessions on OpenSSH's server: commands, streams, terminals, signals, forwarding.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use conformance::ours::{SshExample, log_in, stream};
use conformance::peers::{KeyKind, KeyPair, Sshd, SshdOptions, Version, all};
use ssh_blocking::ssh_proto::config::Keepalive;
use ssh_blocking::ssh_proto::msg::modes::{Mode, TerminalModes};
use ssh_blocking::ssh_proto::{OpenFailureReason, PtyRequest, Signal, WindowSize};
use ssh_blocking::{Child, Client, Error, ExitStatus};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(60);

/// A server, and a key that it lets in.
struct Peer {
    sshd: Sshd,
    key: KeyPair,
    _folder: TempDir,
}

impl Peer {
    fn start(version: Version, config: &[&str]) -> Self {
        Self::with(
            version,
            SshdOptions {
                config: config.iter().map(|&line| line.to_owned()).collect(),
                ..SshdOptions::default()
            },
        )
    }

    fn of_ordinary_user(version: Version) -> Self {
        Self::with(
            version,
            SshdOptions {
                ordinary_user: true,
                ..SshdOptions::default()
            },
        )
    }

    fn with(version: Version, mut options: SshdOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        let key = KeyPair::generate(version, KeyKind::Ed25519, &path, "");
        options.authorized_keys = vec![key.public.clone()];
        Self {
            sshd: Sshd::start(version, &options),
            key,
            _folder: folder,
        }
    }

    fn log_in(&self) -> Client {
        log_in(&self.sshd, &self.key, |_| {})
    }

    fn ssh(&self) -> SshExample {
        SshExample::for_sshd(&self.sshd).identity(&self.key)
    }
}

fn terminal(columns: u32, rows: u32) -> PtyRequest {
    PtyRequest {
        term: "vt100".into(),
        columns,
        rows,
        ..PtyRequest::default()
    }
}

/// Reads until the output ends with `end`.
#[track_caller]
fn read_until(stdout: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        let len = stdout.read(&mut byte).unwrap();
        assert!(
            len > 0,
            "no {end:?} in {:?}",
            String::from_utf8_lossy(&text)
        );
        text.extend_from_slice(&byte);
    }
    String::from_utf8(text).unwrap()
}

/// Starts a command that says that it runs, so that a signal does not come too early.
fn started(client: &Client, command: &str) -> Child {
    let mut child = client
        .exec(format!("echo runs; {command}"))
        .spawn()
        .unwrap();
    read_until(child.stdout.as_mut().unwrap(), "runs\n");
    child
}

#[test]
fn commands_have_streams_and_exit_statuses() {
    for version in all() {
        let peer = Peer::start(version, &[]);
        let client = peer.log_in();
        for code in [0, 1, 7, 127, 255] {
            let status = client.exec(format!("exit {code}")).status().unwrap();
            assert_eq!(status, ExitStatus::Code(code));
        }
        let output = client
            .exec("echo out; echo err >&2; cat; exit 3")
            .input("in")
            .timeout(TIME)
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"out\nin");
        assert_eq!(output.stderr, b"err\n");
        assert_eq!(output.status, ExitStatus::Code(3));
        // Nothing but bytes: each of them, and no text.
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(
            client.exec("cat").input(&*bytes).output().unwrap().stdout,
            bytes
        );
        let missing = client.exec("/no/such/program").output().unwrap();
        assert_eq!(missing.status, ExitStatus::Code(127));
        let combined = client
            .exec("echo 1; echo 2 >&2; echo 3")
            .combine_stderr()
            .output()
            .unwrap();
        assert_eq!(combined.stdout.len(), 6);
        assert_eq!(combined.stderr, b"");

        let finished = peer
            .ssh()
            .run("echo out; echo err >&2; cat; exit 3", "in", TIME)
            .expect_code(3);
        assert_eq!(
            (finished.stdout_text(), finished.stderr_text()),
            ("out\nin".into(), "err\n".into())
        );
    }
}

#[test]
fn a_login_shell_reads_its_commands() {
    for version in all() {
        let peer = Peer::start(version, &[]);
        let mut child = peer.log_in().shell().spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"echo $0\nexit 4\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"-sh\n");
        assert_eq!(output.status, ExitStatus::Code(4));
        let finished = peer.ssh().run("", "echo $0\nexit 4\n", TIME).expect_code(4);
        assert_eq!(finished.stdout_text(), "-sh\n");
    }
}

#[test]
fn three_megabytes_on_both_streams_at_once_arrive() {
    const LEN: usize = 3 << 20;
    let flood =
        format!("head -c {LEN} /dev/zero & head -c {LEN} /dev/zero | tr '\\0' e >&2; wait; exit 5");
    for version in all() {
        let peer = Peer::start(version, &[]);
        let output = peer.log_in().exec(&flood).timeout(TIME).output().unwrap();
        assert!(output.stdout == vec![0; LEN], "{}", output.stdout.len());
        assert!(output.stderr == vec![b'e'; LEN], "{}", output.stderr.len());
        assert_eq!(output.status, ExitStatus::Code(5));
        let finished = peer.ssh().run(&flood, "", TIME).expect_code(5);
        assert!(finished.stdout == vec![0; LEN] && finished.stderr == vec![b'e'; LEN]);
    }
}

#[test]
fn each_direction_ends_on_its_own() {
    for version in all() {
        let peer = Peer::start(version, &[]);
        let client = peer.log_in();
        // Our EOF first: what the command says after it still comes.
        let mut child = client
            .exec("cat >/dev/null; echo after; exit 2")
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"data").unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.stdout.as_slice(), output.status),
            (&b"after\n"[..], ExitStatus::Code(2))
        );
        // The peer's EOF first: what we write after it still arrives.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let mut channel = client.direct_tcpip("127.0.0.1", port).unwrap();
        channel.set_read_timeout(Some(TIME));
        assert_eq!(channel.read(&mut [0; 8]).unwrap(), 0);
        channel.write_all(b"late").unwrap();
        channel.shutdown_write().unwrap();
        assert_eq!(target.join().unwrap(), "late");
        // A command that ends without reading: writing fails at some point, and the status is there.
        let mut child = client.exec("exit 6").spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let block = vec![0; 64 * 1024];
        let error = (0..10_000)
            .find_map(|_| stdin.write_all(&block).err())
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(child.wait_timeout(TIME).unwrap(), ExitStatus::Code(6));
    }
}

#[test]
fn signals_go_to_the_command_and_come_back_from_it() {
    for version in all() {
        let peer = Peer::of_ordinary_user(version);
        let client = peer.log_in();
        for (name, wanted) in [
            ("TERM", Signal::TERM),
            ("KILL", Signal::KILL),
            ("SEGV", Signal::SEGV),
        ] {
            let status = client.exec(format!("kill -{name} $$")).status().unwrap();
            let ExitStatus::Signal(ended) = status else {
                panic!("{status}")
            };
            assert_eq!(ended.signal, wanted);
        }
        for signal in [
            Signal::TERM,
            Signal::INT,
            Signal::KILL,
            Signal::HUP,
            Signal::USR1,
        ] {
            let mut child = started(&client, "exec sleep 1000");
            child.signal(&signal).unwrap();
            let status = child.wait_timeout(TIME).unwrap();
            let ExitStatus::Signal(ended) = status else {
                panic!("{signal}: {status}")
            };
            assert_eq!(ended.signal, signal);
        }
        let mut child = started(
            &client,
            "trap 'echo caught; exit 8' USR1; while :; do sleep 0.02; done",
        );
        thread::sleep(Duration::from_millis(50));
        child.signal(&Signal::USR1).unwrap();
        assert_eq!(child.wait_timeout(TIME).unwrap(), ExitStatus::Code(8));
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "caught\n");

        let finished = peer.ssh().run("kill -TERM $$", "", TIME).expect_code(255);
        assert!(
            finished.stderr_text().contains("TERM"),
            "{}",
            finished.stderr_text()
        );
    }
}

#[test]
fn a_terminal_has_the_size_and_the_modes_that_were_asked_for() {
    for version in all() {
        let peer = Peer::start(version, &[]);
        let client = peer.log_in();
        let mut modes = TerminalModes::new();
        modes.push(Mode::ECHO, 0);
        modes.push(Mode::VINTR, 17);
        let pty = PtyRequest {
            modes,
            ..terminal(101, 37)
        };
        let command = "tty; echo $TERM; stty size; stty -a; read line; stty size; exit 9";
        let mut child = client.exec(command).pty(pty).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let text = read_until(&mut stdout, "37 101\r\n");
        assert!(
            text.starts_with("/dev/pts/") && text.contains("vt100\r\n"),
            "{text:?}"
        );
        let text = read_until(&mut stdout, "-echoprt");
        assert!(
            text.contains("intr = ^Q;") && text.contains("-echo "),
            "{text:?}"
        );
        child
            .resize(WindowSize {
                columns: 64,
                rows: 12,
                ..WindowSize::default()
            })
            .unwrap();
        stdin.write_all(b"\n").unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("12 64\r\n"), "{rest:?}");
        assert_eq!(child.wait_timeout(TIME).unwrap(), ExitStatus::Code(9));

        // ^C is typed, and the terminal makes a signal of it.
        let mut child = client
            .exec("echo runs; exec sleep 1000")
            .pty(terminal(80, 24))
            .spawn()
            .unwrap();
        read_until(child.stdout.as_mut().unwrap(), "runs\r\n");
        child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        let status = child.wait_timeout(TIME).unwrap();
        assert!(
            matches!(&status, ExitStatus::Signal(ended) if ended.signal == Signal::INT),
            "{status}"
        );

        // A break on a terminal is granted, without one it is not.
        let child = client
            .exec("sleep 1000")
            .pty(terminal(80, 24))
            .spawn()
            .unwrap();
        child
            .channel()
            .send_break(Duration::from_millis(500))
            .unwrap();
        let child = client.exec("sleep 1000").spawn().unwrap();
        let refused = child.channel().send_break(Duration::from_millis(500));
        assert!(
            matches!(refused, Err(Error::Refused("break"))),
            "{refused:?}"
        );

        let finished = peer
            .ssh()
            .flag("-tt")
            .run("tty; exit 3", "", TIME)
            .expect_code(3);
        assert!(
            finished.stdout_text().starts_with("/dev/pts/"),
            "{}",
            finished.stdout_text()
        );
    }
}

#[test]
fn environment_variables_that_the_server_takes_arrive() {
    for version in all() {
        let peer = Peer::start(version, &["AcceptEnv LC_* WANTED"]);
        let output = peer
            .log_in()
            .exec("echo \"$LC_TEST|$WANTED|$REFUSED\"")
            .env("LC_TEST", "one two")
            .env("WANTED", "2")
            .env("REFUSED", "3")
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"one two|2|\n");
    }
}

#[test]
fn what_the_server_refuses_is_told() {
    for version in all() {
        let peer = Peer::start(
            version,
            &["MaxSessions 2", "PermitTTY no", "AllowTcpForwarding no"],
        );
        let client = peer.log_in();
        let refused = client.exec("true").pty(terminal(80, 24)).spawn().map(drop);
        assert!(
            matches!(refused, Err(Error::Refused("pty-req"))),
            "{refused:?}"
        );
        let refused = client.subsystem("no-such-subsystem").map(drop);
        assert!(
            matches!(refused, Err(Error::Refused("subsystem"))),
            "{refused:?}"
        );
        let refused = client.direct_tcpip("127.0.0.1", 1).map(drop);
        assert!(
            matches!(
                refused,
                Err(Error::OpenFailed {
                    reason: OpenFailureReason::ADMINISTRATIVELY_PROHIBITED,
                    ..
                })
            ),
            "{refused:?}"
        );
        // OpenSSH has this reason for everything that it does not know.
        let refused = client.open_custom("nothing@example.com", b"").map(drop);
        assert!(
            matches!(
                refused,
                Err(Error::OpenFailed {
                    reason: OpenFailureReason::CONNECT_FAILED,
                    ..
                })
            ),
            "{refused:?}"
        );
        let refused = client.global_request("nothing@example.com", b"", true);
        assert!(
            matches!(refused, Err(Error::Refused("global request"))),
            "{refused:?}"
        );
        // On a connection of its own: the refused sessions may still be on their way out.
        let client = peer.log_in();
        let both = [started(&client, "cat"), started(&client, "cat")];
        let third = client.exec("true").spawn().map(drop);
        assert!(
            matches!(
                third,
                Err(Error::OpenFailed {
                    reason: OpenFailureReason::CONNECT_FAILED,
                    ..
                })
            ),
            "{third:?}"
        );
        for child in both {
            assert!(child.wait_with_output().unwrap().status.success());
        }
        assert!(client.exec("true").status().unwrap().success());
    }
}

#[test]
fn twenty_sessions_run_at_once_on_one_connection() {
    for version in all() {
        let peer = Peer::start(version, &["MaxSessions 20"]);
        let client = peer.log_in();
        let data = Arc::new(stream(300_007));
        thread::scope(|scope| {
            for number in 0..20 {
                let (client, data) = (&client, Arc::clone(&data));
                scope.spawn(move || {
                    let output = client
                        .exec(format!("cat; exit {number}"))
                        .input(&data[number * 1000..])
                        .timeout(TIME)
                        .output()
                        .unwrap();
                    assert!(output.stdout == data[number * 1000..], "{number}");
                    assert_eq!(output.status, ExitStatus::Code(number as u32));
                });
            }
        });
    }
}

/// A server that sends back what it gets, and EOF for EOF.
fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream: TcpStream = stream.unwrap();
            io::copy(&mut &stream, &mut &stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    port
}

#[test]
fn a_tcp_connection_goes_through_the_server() {
    let port = echo_server();
    let data = stream(5 << 20);
    for version in all() {
        let peer = Peer::start(version, &[]);
        let client = peer.log_in();
        let channel = client.direct_tcpip("127.0.0.1", port).unwrap();
        let (mut up, mut down) = (channel.clone(), channel);
        let back = thread::scope(|scope| {
            scope.spawn(|| {
                up.write_all(&data).unwrap();
                up.shutdown_write().unwrap();
            });
            let mut back = Vec::new();
            down.read_to_end(&mut back).unwrap();
            back
        });
        assert!(back == data, "{version}: {}", back.len());
        // Nobody listens on port 1.
        let refused = client.direct_tcpip("127.0.0.1", 1).map(drop);
        assert!(
            matches!(
                refused,
                Err(Error::OpenFailed {
                    reason: OpenFailureReason::CONNECT_FAILED,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn a_subsystem_is_started() {
    for version in all() {
        let peer = Peer::start(version, &[]);
        let client = peer.log_in();
        let mut channel = client.subsystem("sftp").unwrap();
        channel.set_read_timeout(Some(TIME));
        // SSH_FXP_INIT of version 3; SSH_FXP_VERSION comes back.
        channel.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).unwrap();
        let mut reply = [0; 9];
        channel.read_exact(&mut reply).unwrap();
        assert_eq!(reply[4..], [2, 0, 0, 0, 3]);
        channel.close();
        channel.wait_closed(Some(TIME)).unwrap();
    }
}

#[test]
fn both_sides_ask_whether_the_other_is_there() {
    for version in all() {
        let peer = Peer::start(
            version,
            &[
                "ClientAliveInterval 1",
                "ClientAliveCountMax 2",
                "LogLevel DEBUG3",
            ],
        );
        // The server asks, and this client answers.
        let passive = peer.log_in();
        // This client asks more often than the server does.
        let active = log_in(&peer.sshd, &peer.key, |config| {
            config.transport.keepalive = Some(Keepalive {
                interval: Duration::from_millis(300),
                count: 2,
            });
        });
        thread::sleep(Duration::from_millis(3_600));
        for client in [&passive, &active] {
            assert!(
                client.is_alive(),
                "{:?}\n{}",
                client.closed(),
                peer.sshd.log()
            );
            assert_eq!(
                client.exec("echo alive").output().unwrap().stdout,
                b"alive\n"
            );
        }
        let log = peer.sshd.log();
        assert!(log.contains("keepalive@openssh.com"), "{log}");
    }
}

#[test]
fn a_server_that_is_frozen_is_noticed() {
    for version in all() {
        let peer = Peer::start(version, &[]);
        let client = log_in(&peer.sshd, &peer.key, |config| {
            config.transport.keepalive = Some(Keepalive {
                interval: Duration::from_millis(200),
                count: 2,
            });
        });
        let mut child = started(&client, "exec sleep 1000");
        let below: Vec<i64> = conformance::peers::descendants(peer.sshd.pid())
            .into_iter()
            .map(i64::from)
            .collect();
        conformance::peers::signal("STOP", &below);
        let start = Instant::now();
        let error = child.wait_timeout(TIME).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(matches!(error, Error::Connection(_)), "{error:?}");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_broken_connection_is_an_error_and_no_end_of_file() {
    for version in all() {
        let peer = Peer::start(version, &[]);
        let client = peer.log_in();
        let mut child = started(&client, "printf some; exec sleep 1000");
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 4]).unwrap();
        let reader = thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        drop(peer);
        let error = child.wait_timeout(TIME).unwrap_err();
        assert!(
            matches!(error, Error::Connection(_) | Error::Io(_)),
            "{error:?}"
        );
        assert!(reader.join().unwrap().is_err());
        assert!(client.exec("true").spawn().is_err());
        assert!(client.exec("true").output().is_err());
    }
}
