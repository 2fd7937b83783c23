//! What commands on any server must do for our client, and what the same commands on our server must do for any client.
//!
//! These are tools for tests: they panic instead of returning errors.

use std::thread;
use std::time::Duration;

use ssh_blocking::Client;
use ssh_blocking::ssh_proto::Signal;
use ssh_blocking::ssh_proto::adapter::ExitStatus;

use crate::ours::stream;

const TIME: Duration = Duration::from_secs(60);

/// How much is sent through `cat` and back.
pub const LEN: usize = 1 << 20;

/// What a server does about a command that is killed by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// It says so (RFC 4254 section 6.10).
    Told,
    /// It has no way to say it.
    Untold,
}

/// Sends so much through `cat` and back.
///
/// # Panics
/// If something else comes back.
#[track_caller]
pub fn echo(client: &Client, len: usize) {
    let data = stream(len);
    let output = client.exec("cat").input(&*data).timeout(TIME).output();
    let output = output.unwrap_or_else(|error| panic!("cat: {error}"));
    assert!(output.stdout == data, "{} bytes", output.stdout.len());
    assert_eq!(output.status.code(), Some(0));
}

/// Commands of `/bin/sh` on a server: streams, statuses, signals, and several at once.
///
/// # Panics
/// If one of them does not do what it should.
#[track_caller]
pub fn our_client_runs_commands(client: &Client, killed: Killed) {
    let data = stream(LEN);
    let run = |command: &str, input: &[u8]| {
        client
            .exec(command)
            .input(input)
            .timeout(TIME)
            .output()
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    };
    let output = run("cat; echo said >&2; exit 7", &data);
    assert!(output.stdout == data, "{} bytes", output.stdout.len());
    assert_eq!(output.stderr, b"said\n");
    assert_eq!(output.status.code(), Some(7));
    for code in [0, 1, 127, 255] {
        let output = run(&format!("exit {code}"), b"");
        assert_eq!(output.status.code(), Some(code));
    }
    // Both streams at once, more than any window.
    let flood =
        format!("head -c {LEN} /dev/zero & head -c {LEN} /dev/zero | tr '\\0' e >&2; wait; exit 5");
    let output = run(&flood, b"");
    assert!(output.stdout == vec![0; LEN], "{}", output.stdout.len());
    assert!(output.stderr == vec![b'e'; LEN], "{}", output.stderr.len());
    assert_eq!(output.status.code(), Some(5));
    // The output begins after the input has ended.
    let output = run("wc -c", &data);
    assert_eq!(output.stdout, format!("{LEN}\n").as_bytes());
    if killed == Killed::Told {
        match run("kill -TERM $$", b"").status {
            ExitStatus::Signal(exit) => assert_eq!(exit.signal, Signal::TERM),
            other => panic!("{other:?}"),
        }
    }
    thread::scope(|scope| {
        for number in 0..5 {
            let (run, data) = (&run, &data[number * 1000..300_000]);
            scope.spawn(move || {
                let output = run(&format!("cat; exit {number}"), data);
                assert!(output.stdout == data, "{number}: {}", output.stdout.len());
                assert_eq!(output.status.code(), u32::try_from(number).ok());
            });
        }
    });
}
