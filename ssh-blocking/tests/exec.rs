//! Commands and shells: streams, statuses, terminals, signals.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use common::{MIB, TestServer, pty};
use ssh_blocking::ssh_proto::{PtyRequest, Signal, WindowSize};
use ssh_blocking::{Error, ExitStatus};

#[test]
fn a_command_gives_output_and_status() {
    let server = TestServer::start();
    let client = server.client();
    let output = client.exec("echo hello world").output().unwrap();
    assert_eq!(output.stdout, b"hello world\n");
    assert_eq!(output.stderr, b"");
    assert_eq!(output.status, ExitStatus::Code(0));
    assert_eq!(
        client.exec("exit 42").status().unwrap(),
        ExitStatus::Code(42)
    );
    assert_eq!(client.exec("silent").status().unwrap(), ExitStatus::Missing);
}

#[test]
fn three_megabytes_on_both_streams_at_once_do_not_block() {
    let server = TestServer::start();
    let output = server
        .client()
        .exec(format!("flood {}", 3 * MIB))
        .timeout(Duration::from_secs(60))
        .output()
        .unwrap();
    assert_eq!(output.stdout, vec![b'o'; 3 * MIB]);
    assert_eq!(output.stderr, vec![b'e'; 3 * MIB]);
    assert_eq!(output.status, ExitStatus::Code(3));
}

#[test]
fn waiting_first_does_not_block_a_command_with_much_output() {
    let server = TestServer::start();
    let client = server.client();
    let mut child = client.exec(format!("flood {}", 8 * MIB)).spawn().unwrap();
    let status = child.wait_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(status, ExitStatus::Code(3));
    // What was thrown away is not passed over in silence.
    let error = child
        .stdout
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap_err();
    assert!(matches!(Error::from(error), Error::OutputDiscarded));
}

#[test]
fn waiting_first_keeps_a_small_output() {
    let server = TestServer::start();
    let mut child = server.client().exec("echo kept").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let mut text = String::new();
    child.stdout.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "kept\n");
}

#[test]
fn both_directions_run_at_once_in_different_threads() {
    let server = TestServer::start();
    let mut child = server.client().exec("cat").spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let data: Vec<u8> = (0..16 * MIB).map(|i| (i * 31 % 251) as u8).collect();
    let received = std::thread::scope(|scope| {
        let sent = &data;
        scope.spawn(move || {
            stdin.write_all(sent).unwrap();
        });
        let mut received = Vec::new();
        stdout.read_to_end(&mut received).unwrap();
        received
    });
    assert!(received == data);
    assert!(child.wait().unwrap().success());
}

#[test]
fn output_feeds_and_reads_in_one_thread() {
    let server = TestServer::start();
    let data = vec![b'x'; 8 * MIB];
    let output = server
        .client()
        .exec("cat")
        .input(data.clone())
        .timeout(Duration::from_secs(60))
        .output()
        .unwrap();
    assert!(output.stdout == data);
}

#[test]
fn eof_goes_one_way_and_data_the_other() {
    let server = TestServer::start();
    let mut child = server.client().exec("sink").spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[b'x'; 100_000]).unwrap();
    drop(stdin); // EOF
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "100000\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_signal_that_ended_a_program_is_told() {
    let server = TestServer::start();
    let status = server.client().exec("die").status().unwrap();
    let ExitStatus::Signal(signal) = status else {
        panic!("{status}");
    };
    assert_eq!(signal.signal, Signal::SEGV);
    assert!(signal.core_dumped);
    assert_eq!(signal.message, "as asked");
}

#[test]
fn a_signal_reaches_the_program() {
    let server = TestServer::start();
    let mut child = server.client().exec("trap").spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 5]).unwrap();
    child.signal(&Signal::USR1).unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "got USR1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_shell_on_a_terminal_sees_its_size_change() {
    let server = TestServer::start();
    let mut child = server.client().shell().pty(pty(80, 24)).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 6];
    stdin.write_all(b"s").unwrap();
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"80x24\n");
    let size = WindowSize {
        columns: 99,
        rows: 11,
        ..WindowSize::default()
    };
    child.resize(size).unwrap();
    server.seen.wait_for("size 99x11");
    stdin.write_all(b"s").unwrap();
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"99x11\n");
    stdin.write_all(b"q").unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(7));
}

/// A terminal that the test's server does not give.
fn refused() -> PtyRequest {
    PtyRequest {
        term: "refused".into(),
        ..pty(80, 24)
    }
}

#[test]
fn a_command_does_not_run_without_the_terminal_that_it_needs() {
    let server = TestServer::start();
    let client = server.client();
    let error = client.exec("echo ran").pty(refused()).spawn().unwrap_err();
    assert!(matches!(error, Error::Refused("pty-req")), "{error}");
    server.seen.wait_for("closed");
    assert!(!server.seen.has("exec echo ran"));
    // With one it does.
    let child = client.exec("echo ran").pty(pty(80, 24)).spawn().unwrap();
    assert!(child.has_pty());
    assert_eq!(child.wait_with_output().unwrap().stdout, b"ran\n");
    assert!(server.seen.has("exec echo ran"));
}

#[test]
fn a_command_that_may_do_without_a_terminal_runs_without_one() {
    let server = TestServer::start();
    let client = server.client();
    for (request, given) in [(refused(), false), (pty(80, 24), true)] {
        let child = client.exec("echo ran").try_pty(request).spawn().unwrap();
        assert_eq!(child.has_pty(), given);
        assert_eq!(child.wait_with_output().unwrap().stdout, b"ran\n");
    }
    assert!(!client.exec("echo ran").spawn().unwrap().has_pty());
}

#[test]
fn environment_variables_are_set_and_refused_ones_left_out() {
    let server = TestServer::start();
    let output = server
        .client()
        .exec("env")
        .env("LC_ALL", "C.UTF-8")
        .env("LD_PRELOAD", "evil.so")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"LC_ALL=C.UTF-8\n");
}

#[test]
fn stderr_can_come_within_stdout() {
    let server = TestServer::start();
    let output = server
        .client()
        .exec(format!("flood {}", 128 * 1024))
        .combine_stderr()
        .output()
        .unwrap();
    assert_eq!(output.stderr, b"");
    assert_eq!(output.stdout.len(), 256 * 1024);
    assert_eq!(
        output.stdout.iter().filter(|&&b| b == b'e').count(),
        128 * 1024
    );
}

#[test]
fn an_unknown_command_is_refused_and_the_connection_lives() {
    let server = TestServer::start();
    let client = server.client();
    let error = client.exec("nonsense").output().unwrap_err();
    assert!(matches!(error, Error::Refused("exec")), "{error}");
    assert!(client.exec("echo x").output().unwrap().status.success());
}

#[test]
fn a_break_is_answered() {
    let server = TestServer::start();
    let child = server.client().exec("hang").spawn().unwrap();
    child
        .channel()
        .send_break(Duration::from_millis(500))
        .unwrap();
    let error = child
        .channel()
        .send_break(Duration::from_millis(1))
        .unwrap_err();
    assert!(matches!(error, Error::Refused("break")), "{error}");
}

#[test]
fn who_reads_no_more_ends_what_is_copied_to_it() {
    let server = TestServer::start();
    let mut child = server.client().exec("pour").spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 1_000]).unwrap();
    child.channel().shutdown_read().unwrap();
    server.seen.wait_for("pour ended false");
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}

#[test]
fn a_read_times_out_and_goes_on() {
    let server = TestServer::start();
    let mut child = server.client().exec("cat").spawn().unwrap();
    child
        .channel()
        .set_read_timeout(Some(Duration::from_millis(50)));
    let mut stdout = child.stdout.take().unwrap();
    let begin = Instant::now();
    let error = stdout.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begin.elapsed() >= Duration::from_millis(50));
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    child.channel().set_read_timeout(None);
    assert_eq!(stdout.read(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn a_write_times_out_when_the_peer_reads_nothing() {
    let server = TestServer::start();
    let child = server.client().exec("trap").spawn().unwrap();
    child
        .channel()
        .set_write_timeout(Some(Duration::from_millis(100)));
    let data = vec![0; 64 * MIB];
    let error = child.channel().clone().write_all(&data).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    // Nobody else is stuck for it.
    assert!(
        server
            .client()
            .exec("echo x")
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn waiting_times_out_and_trying_says_not_yet() {
    let server = TestServer::start();
    let mut child = server.client().exec("trap").spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    let error = child.wait_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    child.signal(&Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(child.try_wait().unwrap(), Some(ExitStatus::Code(0)));
}

#[test]
fn a_command_has_a_timeout() {
    let server = TestServer::start();
    let client = server.client();
    let error = client
        .exec("trap")
        .timeout(Duration::from_millis(50))
        .output()
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
}
