//! Programs: their streams, terminals, signals and ends, over a socket and over a pipe in memory.

mod common;

use std::time::Duration;

use common::{MIB, TestServer, config, keys, pair, pair_with, soon};
use ssh_tokio::ssh_proto::{PtyRequest, Signal, WindowSize};
use ssh_tokio::{ChannelEvent, Error, Event, ExitStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_command_has_output_and_status() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let output = soon(client.exec("echo hello, world").output())
        .await
        .unwrap();
    assert_eq!(output.stdout, b"hello, world\n");
    assert_eq!(output.stderr, b"");
    assert_eq!(output.status, ExitStatus::Code(0));
    let status = soon(client.exec("exit 42").status()).await.unwrap();
    assert_eq!(status, ExitStatus::Code(42));
}

#[tokio::test]
async fn megabytes_on_both_streams_arrive_whole() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let output = soon(client.exec(format!("flood {}", 3 * MIB)).output())
        .await
        .unwrap();
    assert_eq!(output.status, ExitStatus::Code(3));
    assert_eq!(output.stdout, vec![b'o'; 3 * MIB]);
    assert_eq!(output.stderr, vec![b'e'; 3 * MIB]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_on_both_streams_arrive_whole_over_a_narrow_pipe() {
    let pair = pair_with(config(), 1_000).await;
    let output = soon(pair.client.exec(format!("flood {}", 3 * MIB)).output())
        .await
        .unwrap();
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (3 * MIB, 3 * MIB)
    );
}

#[tokio::test]
async fn both_directions_at_once_do_not_deadlock() {
    let pair = pair().await;
    let input: Vec<u8> = (0..5 * MIB).map(|i| (i % 251) as u8).collect();
    let output = soon(pair.client.exec("cat").input(input.clone()).output())
        .await
        .unwrap();
    assert!(output.stdout == input, "what came back is something else");
}

#[tokio::test]
async fn the_three_streams_are_used_by_different_tasks() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let mut child = soon(client.exec("cat").spawn()).await.unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let writer = tokio::spawn(async move {
        for _ in 0..100 {
            stdin.write_all(&[7; 10_000]).await.unwrap();
        }
        stdin.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    soon(stdout.read_to_end(&mut all)).await.unwrap();
    writer.await.unwrap();
    assert_eq!(all, vec![7; 1_000_000]);
    assert_eq!(soon(child.wait()).await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn reading_goes_on_after_eof_was_sent() {
    let pair = pair().await;
    let mut child = soon(pair.client.exec("sink").spawn()).await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[1; 12_345]).await.unwrap();
    drop(stdin);
    let mut answer = String::new();
    let mut stdout = child.stdout.take().unwrap();
    soon(stdout.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "12345\n");
    assert_eq!(soon(child.wait()).await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn a_shell_on_a_terminal_hears_of_sizes() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let pty = PtyRequest {
        term: "xterm".into(),
        columns: 80,
        rows: 24,
        ..PtyRequest::default()
    };
    let mut child = soon(client.shell().pty(pty).spawn()).await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdin.write_all(b"s").await.unwrap();
    let mut line = [0; 6];
    soon(stdout.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"80x24\n");
    child
        .resize(WindowSize {
            columns: 100,
            rows: 50,
            ..WindowSize::default()
        })
        .unwrap();
    server.seen.wait_for("size 100x50").await;
    stdin.write_all(b"sq").await.unwrap();
    let mut rest = String::new();
    soon(stdout.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "100x50\n");
    assert_eq!(soon(child.wait()).await.unwrap(), ExitStatus::Code(7));
    server.seen.wait_for("closed").await;
}

/// A terminal of this kind; the test's server does not give "refused".
fn terminal(term: &str) -> PtyRequest {
    PtyRequest {
        term: term.into(),
        ..PtyRequest::default()
    }
}

#[tokio::test]
async fn a_command_does_not_run_without_the_terminal_that_it_needs() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let command = client.exec("echo ran").pty(terminal("refused"));
    let error = soon(command.spawn()).await.unwrap_err();
    assert!(matches!(error, Error::Refused("pty-req")), "{error}");
    server.seen.wait_for("closed").await;
    assert!(!server.seen.has("exec echo ran"));
    let command = client.exec("echo ran").pty(terminal("xterm"));
    let child = soon(command.spawn()).await.unwrap();
    assert!(child.has_pty());
    let output = soon(child.wait_with_output()).await.unwrap();
    assert_eq!(output.stdout, b"ran\n");
    assert!(server.seen.has("exec echo ran"));
}

#[tokio::test]
async fn a_command_that_may_do_without_a_terminal_runs_without_one() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for (term, given) in [("refused", false), ("xterm", true)] {
        let command = client.exec("echo ran").try_pty(terminal(term));
        let child = soon(command.spawn()).await.unwrap();
        assert_eq!(child.has_pty(), given);
        let output = soon(child.wait_with_output()).await.unwrap();
        assert_eq!(output.stdout, b"ran\n");
    }
}

#[tokio::test]
async fn only_the_variables_that_the_server_takes_are_set() {
    let pair = pair().await;
    let command = pair.client.exec("env").env("LC_ALL", "C").env("PATH", "/");
    let output = soon(command.output()).await.unwrap();
    assert_eq!(output.stdout, b"LC_ALL=C\n");
}

#[tokio::test]
async fn signals_and_breaks_reach_the_program() {
    let pair = pair().await;
    let mut child = soon(pair.client.exec("trap").spawn()).await.unwrap();
    let mut stdout = child.stdout.take().unwrap();
    soon(stdout.read_exact(&mut [0; 5])).await.unwrap();
    let channel = child.channel();
    soon(channel.send_break(Duration::from_millis(500)))
        .await
        .unwrap();
    let refused = soon(channel.send_break(Duration::from_millis(1))).await;
    assert!(matches!(refused, Err(Error::Refused("break"))));
    soon(child.signal(&Signal::USR1)).await.unwrap();
    let mut rest = String::new();
    soon(stdout.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "got USR1");
}

#[tokio::test]
async fn a_signal_that_ends_a_program_is_told() {
    let pair = pair().await;
    let status = soon(pair.client.exec("die").status()).await.unwrap();
    let ExitStatus::Signal(signal) = status else {
        panic!("{status:?}");
    };
    assert_eq!(signal.signal, Signal::SEGV);
    assert!(signal.core_dumped);
    let status = soon(pair.client.exec("silent").status()).await.unwrap();
    assert_eq!(status, ExitStatus::Missing);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_refused() {
    let pair = pair().await;
    let refused = soon(pair.client.exec("nonsense").output()).await;
    assert!(
        matches!(refused, Err(Error::Refused("exec"))),
        "{refused:?}"
    );
    let refused = soon(pair.client.subsystem("nonsense")).await;
    assert!(matches!(refused, Err(Error::Refused("subsystem"))));
}

#[tokio::test]
async fn a_subsystem_is_a_stream() {
    let pair = pair().await;
    let mut channel = soon(pair.client.subsystem("reverse")).await.unwrap();
    channel.write_all(b"abc").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut answer = String::new();
    soon(channel.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "cba");
}

#[tokio::test]
async fn a_command_ends_although_nobody_reads_its_output() {
    let pair = pair().await;
    let mut child = soon(pair.client.exec(format!("flood {}", 40 * MIB)).spawn())
        .await
        .unwrap();
    assert_eq!(soon(child.wait()).await.unwrap(), ExitStatus::Code(3));
    let mut stdout = child.stdout.take().unwrap();
    let error = soon(stdout.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert!(matches!(Error::from(error), Error::OutputDiscarded));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_a_session_says_that_none_was_opened() {
    let mut config = config();
    config.transport.limits.channels = 1;
    let pair = pair_with(config, 64 * 1024).await;
    let first = soon(pair.client.exec("cat").spawn()).await.unwrap();
    // The refusal comes before the request for the command leaves, or after.
    for _ in 0..300 {
        let refused = soon(pair.client.exec("cat").spawn()).await.map(drop);
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::OpenFailed { .. }), "{error:?}");
    }
    drop(first);
}

#[tokio::test]
async fn who_reads_no_more_ends_what_is_copied_to_it() {
    let pair = pair().await;
    let mut child = soon(pair.client.exec("pour").spawn()).await.unwrap();
    let mut stdout = child.stdout.take().unwrap();
    soon(stdout.read_exact(&mut [0; 1_000])).await.unwrap();
    child.channel().shutdown_read().await.unwrap();
    soon(pair.seen.wait_for("pour ended false")).await;
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_given_up() {
    let pair = pair().await;
    let command = pair.client.exec("hang").timeout(Duration::from_millis(100));
    let mut child = soon(pair.client.exec("hang").spawn()).await.unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    drop(child.stdin.take());
    assert_eq!(soon(child.wait()).await.unwrap(), ExitStatus::Code(0));
    // Its input ends at once, so this one ends by itself.
    assert_eq!(soon(command.status()).await.unwrap(), ExitStatus::Code(0));
    let late = pair
        .client
        .shell()
        .timeout(Duration::from_millis(50))
        .input(vec![b'x'; 10]);
    assert!(soon(late.output()).await.unwrap().status.success());
}

#[tokio::test]
async fn stderr_can_come_within_stdout() {
    let pair = pair().await;
    let output = soon(pair.client.exec("flood 1000").combine_stderr().output())
        .await
        .unwrap();
    assert_eq!(output.stdout.len(), 2_000);
    assert_eq!(output.stderr, b"");
}

#[tokio::test]
async fn requests_of_the_callers_own_are_answered() {
    let pair = pair().await;
    let client = &pair.client;
    let answer = soon(client.global_request("time@example.com", b"now?", true)).await;
    assert_eq!(answer.unwrap(), b"noon");
    let refused = soon(client.global_request("time@example.com", b"then?", true)).await;
    assert!(matches!(refused, Err(Error::Refused(_))));
    let (mut channel, data) = soon(client.open_custom("echo@example.com", b"hi"))
        .await
        .unwrap();
    assert_eq!(data, b"you said hi");
    soon(channel.request("poke@example.com", b"gently", true))
        .await
        .unwrap();
    let refused = soon(channel.request("poke@example.com", b"hard", true)).await;
    assert!(matches!(refused, Err(Error::Refused(_))));
    channel.write_all(b"ping").await.unwrap();
    let mut pong = [0; 4];
    soon(channel.read_exact(&mut pong)).await.unwrap();
    assert_eq!(&pong, b"ping");
    let refused = soon(client.open_custom("other@example.com", b"")).await;
    assert!(matches!(refused, Err(Error::OpenFailed { .. })));
}

#[tokio::test]
async fn events_come_in_order_and_once() {
    let pair = pair().await;
    let mut connection = pair.client.events();
    let child = soon(pair.client.exec("exit 5").spawn()).await.unwrap();
    let mut events = child.channel().events();
    let mut all = Vec::new();
    while let Some(event) = soon(events.next()).await {
        all.push(event);
    }
    // The exit status comes before EOF on the wire, and both may have been there at the first look.
    assert_eq!(
        all,
        [
            ChannelEvent::Exited(ExitStatus::Code(5)),
            ChannelEvent::Eof,
            ChannelEvent::Closed
        ]
    );
    pair.client.rekey().unwrap();
    assert!(matches!(
        soon(connection.next()).await,
        Some(Event::Rekeyed(1))
    ));
    assert_eq!(pair.client.rekeys(), 1);
    pair.client.disconnect();
    assert!(matches!(
        soon(connection.next()).await,
        Some(Event::Disconnected(_))
    ));
    assert!(soon(connection.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_goes_on_through_many_key_exchanges() {
    let mut config = config();
    config.transport.rekey.bytes = MIB as u64;
    let pair = pair_with(config, 64 * 1024).await;
    let input: Vec<u8> = (0..20 * MIB).map(|i| (i % 253) as u8).collect();
    let output = soon(pair.client.exec("cat").input(input.clone()).output())
        .await
        .unwrap();
    assert!(output.stdout == input, "what came back is something else");
    assert!(pair.client.rekeys() >= 10, "{}", pair.client.rekeys());
}

#[tokio::test]
async fn many_channels_share_a_connection() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let commands: Vec<_> = (0..200_u32)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let input = number.to_be_bytes().repeat(20_000);
                let output = client
                    .exec("cat")
                    .input(input.clone())
                    .output()
                    .await
                    .unwrap();
                assert!(output.stdout == input);
            })
        })
        .collect();
    for command in commands {
        soon(command).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_known_of_the_session_is_told() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let session = client.session().unwrap();
    assert_eq!(session.user.as_deref(), Some("user"));
    assert_eq!(&session.host_key, keys().0.public());
    assert!(session.local_version.starts_with("SSH-2.0-"));
    assert_eq!(client.peer_address(), Some(server.handle.address()));
    assert!(client.negotiated().is_some());
    assert!(client.is_alive());
}
