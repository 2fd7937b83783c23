//! What a recording of a plain session says, and what it does not.

use std::sync::Arc;

use super::world::key;
use super::{played, replay, start};
use crate::auth::{Credential, LoginAttempt, PromptRound, Proof};
use crate::channel::{ChannelEvent, OpenChannel, Program, Stream};
use crate::config::{ClientConfig, HostKey, Keepalive, ServerConfig};
use crate::connection::event::{ClientEvent, ServerEvent};
use crate::connection::{Client, Server};
use crate::crypto::drbg::Seed;
use crate::error::{DisconnectReason, Misuse};
use crate::key::KeyKind;
use crate::names::Kex;
use crate::names::Preference;
use crate::replay::{Difference, Trace, TraceError};

/// The recordings of both sides of a session: login, a command, its output. Both are cut to `recording_len`, and taken
/// as often as `take` says.
pub(super) fn session(
    kex: Kex,
    host_key: KeyKind,
    recording_len: usize,
    mut take: impl FnMut(&mut [String; 2], &mut Client, &mut Server),
) -> [String; 2] {
    let mut config = ClientConfig::new();
    config.transport.record = true;
    config.transport.limits.recording_len = recording_len;
    config.transport.algorithms.kex = Preference::new([kex]).unwrap();
    let key = Arc::new(key(host_key));
    let mut server = ServerConfig::new(vec![HostKey::Private(Arc::clone(&key))]);
    server.transport.record = true;
    server.transport.limits.recording_len = recording_len;
    let now = start();
    let mut client = Client::new(Arc::new(config), Seed::new([1; 32]), now);
    let mut server = Server::new(Arc::new(server), Seed::new([2; 32]), now);
    let mut texts = [String::new(), String::new()];
    let password = Credential::password("correct horse");
    client.authenticate("alice", password, now).unwrap();
    let mut output = Vec::new();
    while client.closed().is_none() {
        let taken = server.handle_bytes(client.output(), now);
        client.consume_output(taken);
        let taken = client.handle_bytes(server.output(), now);
        server.consume_output(taken);
        take(&mut texts, &mut client, &mut server);
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::HostKeyOffered(offer) => client.accept_host_key(offer).unwrap(),
                ClientEvent::Authenticated => {
                    let id = client.open(OpenChannel::Session, now).unwrap();
                    let mut channel = client.channel(id).unwrap();
                    channel.start(Program::Exec(b"say \"hello\"")).unwrap();
                }
                ClientEvent::Channel(id) => {
                    let mut channel = client.channel(id).unwrap();
                    while let Some(event) = channel.poll_event() {
                        match event {
                            ChannelEvent::Data(stream) => {
                                output.extend(channel.take(stream).unwrap().to_vec());
                            }
                            ChannelEvent::Closed => {
                                client.disconnect(DisconnectReason::BY_APPLICATION, "bye", now);
                                break;
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::LoginAttempted(attempt) => server.grant(attempt).unwrap(),
                ServerEvent::OpenRequested(open) => _ = server.accept_open(open, b"").unwrap(),
                ServerEvent::Channel(id) => {
                    let mut channel = server.channel(id).unwrap();
                    while let Some(event) = channel.poll_event() {
                        if let ChannelEvent::Requested {
                            token: Some(token), ..
                        } = event
                        {
                            channel.reply(token, true).unwrap();
                            channel.write(Stream::DATA, b"hello\n").unwrap();
                            channel.send_exit_status(0).unwrap();
                            channel.close();
                        }
                    }
                }
                _ => {}
            }
        }
    }
    assert_eq!(output, b"hello\n");
    for (text, rest) in texts.iter_mut().zip([
        client.finish_recording().unwrap(),
        server.finish_recording().unwrap(),
    ]) {
        text.push_str(&rest);
    }
    assert_eq!(client.take_recording(), None, "it was finished");
    texts
}

pub(super) fn plain() -> [String; 2] {
    session(
        Kex::Curve25519Sha256,
        KeyKind::Ed25519,
        usize::MAX,
        |_, _, _| {},
    )
}

#[test]
fn the_first_lines_say_that_it_holds_secrets() {
    for text in plain() {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("ssh-proto trace 1"));
        let warning = lines.next().unwrap();
        assert!(
            warning.starts_with("# THIS FILE HOLDS SECRETS"),
            "{warning}"
        );
    }
}

#[test]
fn what_was_typed_stands_there_and_private_keys_do_not() {
    let [client, server] = plain();
    assert!(client.contains("\"alice\" password \"correct horse\"\n"));
    assert!(client.contains(" exec \"say \\\"hello\\\"\"\n"));
    // What the host key was made of, and is in its file.
    let has = |bytes: &[u8]| bytes.windows(32).any(|part| part == [7; 32]);
    let trace = Trace::parse(&server).unwrap();
    assert!(!server.contains(&"\\x07".repeat(32)));
    for step in trace.steps() {
        assert!(!has(step.data()) && !has(step.output()));
        assert!(!step.draws.iter().flatten().any(|draw| has(draw)));
    }
}

#[test]
fn every_key_exchange_replays_with_what_the_library_drew() {
    use crate::names::Algorithm;
    for &kex in Kex::ALL {
        let texts = session(kex, KeyKind::EcdsaNistp256, usize::MAX, |_, _, _| {});
        for text in &texts {
            replay(text);
        }
        let draws = texts.map(|text| {
            let trace = Trace::parse(&text).unwrap();
            trace
                .steps()
                .iter()
                .map(|step| step.draws.len())
                .sum::<usize>()
        });
        // The signature of the host key; ML-KEM's key pair here, its secret there.
        let hybrid = usize::from(kex == Kex::MlKem768X25519Sha256);
        assert_eq!(draws, [hybrid, 1 + hybrid], "{kex}");
    }
}

#[test]
fn the_end_of_a_blockade_is_an_event_of_the_recording() {
    let (mut turns, mut blocked) = (0, false);
    let [text, _] = session(
        Kex::Curve25519Sha256,
        KeyKind::Ed25519,
        usize::MAX,
        |_, client, _| {
            turns += usize::from(client.is_authenticated());
            // In the turns before, the client opens its channel.
            while !blocked && turns > 2 {
                blocked = client.ignore(1_000) == Err(Misuse::Blocked);
            }
        },
    );
    assert!(text.contains("\nevent Unblocked\n"), "{text}");
    replay(&text);
}

/// The recording of a client that logs in with what `answer` says to what `judge` asks.
fn login(
    credential: Credential,
    mut answer: impl FnMut(&mut Client, ClientEvent),
    mut judge: impl FnMut(&mut Server, LoginAttempt),
) -> String {
    let mut config = ClientConfig::new();
    config.transport.record = true;
    let host_key = HostKey::Private(Arc::new(key(KeyKind::Ed25519)));
    let now = start();
    let mut client = Client::new(Arc::new(config), Seed::new([1; 32]), now);
    let mut server = Server::new(
        Arc::new(ServerConfig::new(vec![host_key])),
        Seed::new([2; 32]),
        now,
    );
    client.authenticate("alice", credential, now).unwrap();
    while !client.is_authenticated() {
        let taken = server.handle_bytes(client.output(), now);
        client.consume_output(taken);
        let taken = client.handle_bytes(server.output(), now);
        server.consume_output(taken);
        match client.poll_event() {
            Some(ClientEvent::HostKeyOffered(offer)) => client.accept_host_key(offer).unwrap(),
            Some(event) => answer(&mut client, event),
            None => {}
        }
        if let Some(ServerEvent::LoginAttempted(attempt)) = server.poll_event() {
            judge(&mut server, attempt);
        }
    }
    client.finish_recording().unwrap()
}

#[test]
fn a_password_that_is_changed_replays() {
    let text = login(
        Credential::password("old"),
        |client, event| {
            if let ClientEvent::PasswordChangeRequested(change) = event {
                client
                    .change_password(change, "old".into(), "new".into())
                    .unwrap();
            }
        },
        |server, attempt| match attempt.proof() {
            Proof::PasswordChange { .. } => server.grant(attempt).unwrap(),
            _ => server.require_password_change(attempt, "another").unwrap(),
        },
    );
    assert!(text.contains("change-password"), "{text}");
    replay(&text);
}

#[test]
fn prompts_that_are_answered_replay() {
    let mut rounds = 0;
    let text = login(
        Credential::keyboard_interactive(),
        |client, event| {
            if let ClientEvent::PromptsReceived(prompts) = event {
                client.answer(prompts, &["blue".into()]).unwrap();
            }
        },
        |server, attempt| {
            rounds += 1;
            let round = PromptRound::new("", "").with_prompt("colour: ", true);
            match rounds {
                1 | 2 => server.prompt(attempt, &round).unwrap(),
                _ => server.grant(attempt).unwrap(),
            }
        },
    );
    assert_eq!(text.matches("\nanswer ").count(), 2, "{text}");
    replay(&text);
}

#[test]
fn pieces_that_are_taken_on_the_way_are_the_whole_recording() {
    let whole = plain();
    let mut pieces = 0;
    let texts = session(
        Kex::Curve25519Sha256,
        KeyKind::Ed25519,
        usize::MAX,
        |texts, client, server| {
            texts[0].push_str(&client.take_recording().unwrap());
            texts[1].push_str(&server.take_recording().unwrap());
            pieces += 1;
        },
    );
    assert!(pieces > 3);
    for (text, whole) in texts.iter().zip(&whole) {
        assert_eq!(text, whole);
        replay(text);
    }
}

#[test]
fn a_recording_that_nobody_takes_stops_at_its_bound() {
    let [whole, _] = plain().map(|text| text.len());
    for bound in [0, whole / 3, whole / 2] {
        for text in session(Kex::Curve25519Sha256, KeyKind::Ed25519, bound, |_, _, _| {}) {
            assert!(text.ends_with("\nstopped\n"), "{text}");
            // The bound, the first lines, and one step.
            assert!(text.len() < bound + 6_000, "{}", text.len());
            let trace = Trace::parse(&text).unwrap();
            assert!(!trace.is_whole());
            played(&trace).unwrap();
        }
    }
    // One that is taken in time goes on.
    let bound = whole / 6 * 5;
    for text in session(
        Kex::Curve25519Sha256,
        KeyKind::Ed25519,
        bound,
        |texts, client, server| {
            texts[0].push_str(&client.take_recording().unwrap());
            texts[1].push_str(&server.take_recording().unwrap());
        },
    ) {
        assert!(text.len() > bound);
        replay(&text);
    }
}

#[test]
fn nothing_is_recorded_unless_it_is_asked_for() {
    let mut client = Client::new(Arc::new(ClientConfig::new()), Seed::new([1; 32]), start());
    assert_eq!(client.take_recording(), None);
    assert_eq!(client.finish_recording(), None);
}

#[test]
fn the_first_difference_is_named_by_step_line_and_offset() {
    let [text, _] = plain();
    let trace = Trace::parse(&text).unwrap();
    let mut before = 0;
    for (i, step) in trace.steps().iter().enumerate() {
        for at in [
            0,
            step.output.len() / 2,
            step.output.len().saturating_sub(1),
        ] {
            let mut changed = trace.clone();
            let Some(byte) = changed.steps[i].output.get_mut(at) else {
                continue;
            };
            *byte ^= 1;
            let recorded = Some(*byte);
            // By way of the text, whose lines stay where they are.
            let changed = Trace::parse(&changed.to_string()).unwrap();
            let divergence = played(&changed).unwrap_err();
            assert_eq!((divergence.step, divergence.line), (i + 1, step.line()));
            let expected = Difference::Output {
                offset: before + at as u64,
                step_offset: at,
                recorded,
                played: recorded.map(|byte| byte ^ 1),
            };
            assert_eq!(divergence.difference, expected);
        }
        before += step.output.len() as u64;
    }
}

#[test]
fn output_that_is_missing_or_too_much_is_a_difference() {
    let [text, _] = plain();
    let trace = Trace::parse(&text).unwrap();
    let last = trace
        .steps()
        .iter()
        .rposition(|step| !step.output.is_empty());
    let mut more = trace.clone();
    more.steps[last.unwrap()].output.push(0);
    let mut less = trace;
    less.steps[last.unwrap()].output.pop();
    for (changed, recorded, missing) in [(more, true, false), (less, false, true)] {
        match played(&changed).unwrap_err().difference {
            Difference::Output {
                recorded: r,
                played: p,
                ..
            } => {
                assert_eq!((r.is_some(), p.is_some()), (recorded, missing));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_draw_that_is_missing_and_one_that_is_not_made_are_differences() {
    let [_, text] = plain();
    let trace = Trace::parse(&text).unwrap();
    let drawn = trace.steps().iter().position(|step| !step.draws.is_empty());
    let mut missing = trace.clone();
    missing.steps[drawn.unwrap()].draws.clear();
    let divergence = played(&missing).unwrap_err();
    assert_eq!(divergence.difference, Difference::DrawMissing);
    let mut unused = trace;
    unused.steps[1].draws.push(Some(vec![1]));
    let divergence = played(&unused).unwrap_err();
    assert_eq!(
        (divergence.step, divergence.difference),
        (2, Difference::DrawUnused)
    );
}

#[test]
fn a_whole_configuration_is_read_as_it_was_written() {
    use crate::replay::config::Configuration;
    use std::time::Duration;
    let mut client = ClientConfig::new();
    client.guess_kex = true;
    client.allow_host_key_change = true;
    let mut server = ServerConfig::new(vec![HostKey::External(
        key(KeyKind::EcdsaNistp384).public().clone(),
    )]);
    server.auth_methods.clear();
    server.banner = Some("two\nlines \"\u{e9}\"".to_owned());
    server.failure_delay = Duration::from_nanos(1_000_000_007);
    for transport in [&mut client.transport, &mut server.transport] {
        transport.algorithms.kex = Preference::parse("ecdh-sha2-nistp521").unwrap();
        transport.algorithms.macs = Preference::parse("-*-etm@openssh.com").unwrap();
        transport.limits.window = 70_000;
        transport.limits.bytes_before_auth = u64::MAX;
        transport.deadlines.idle = Some(Duration::from_secs(9));
        transport.deadlines.version = None;
        transport.rekey.packets = 99;
        transport.keepalive = Some(Keepalive {
            interval: Duration::from_millis(1_500),
            count: 3,
        });
        transport.software = "x y".to_owned();
        transport.own.channel_kinds = vec!["a@b".to_owned(), String::new()];
        transport.own.channel_requests = vec!["c".to_owned()];
    }
    for (config, role) in [
        (Configuration::Client(client), "client"),
        (Configuration::Server(server), "server"),
    ] {
        let mut text = String::new();
        config.write(&mut text);
        let mut read = Configuration::of_role(role).unwrap();
        for line in text.lines().skip(1) {
            read.read(line).unwrap();
        }
        assert_eq!(format!("{read:?}"), format!("{config:?}"));
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let [text, _] = plain();
    let with = |from: &str, to: &str| Trace::parse(&text.replacen(from, to, 1)).unwrap_err();
    let line_of = |start: &str| {
        1 + text
            .lines()
            .position(|line| line.starts_with(start))
            .unwrap()
    };
    let error = |line, problem| (line, problem);
    let seen = |error: TraceError| (error.line(), error.problem());
    assert_eq!(
        seen(Trace::parse("").unwrap_err()),
        error(0, "it ends before the first step")
    );
    assert_eq!(
        seen(with("ssh-proto trace 1", "ssh-proto trace 2")),
        error(1, "not how a trace begins")
    );
    assert_eq!(
        seen(with("role client", "role both")),
        error(line_of("role"), "neither client nor server")
    );
    assert_eq!(
        seen(with("seed A", "seed A=")),
        error(line_of("seed"), "not base64")
    );
    assert_eq!(
        seen(with(" channels=", " chanels=")),
        error(line_of("limits"), "a name that is not known")
    );
    assert_eq!(
        seen(with("authenticate 0.", "authenticate 0,")),
        error(
            line_of("authenticate"),
            "not a time in seconds with nine digits behind the point"
        )
    );
    assert_eq!(
        seen(with("\nauthenticate ", "\nauthenticat ")),
        error(line_of("authenticate"), "not a command")
    );
    assert_eq!(
        seen(with(
            "password \"correct horse\"",
            "password \"correct horse"
        )),
        error(line_of("authenticate"), "a text without its end")
    );
    assert_eq!(
        seen(with(
            "password \"correct horse\"",
            "password \"correct horse\" 1"
        )),
        error(line_of("authenticate"), "it has too many fields")
    );
    assert_eq!(
        seen(with("\nend\n", "\nend\nrekey 0.000000000\n")),
        error(text.lines().count() + 1, "behind the end")
    );
    assert_eq!(
        seen(with("\noutput-consumed", "\n  < AAAA\noutput-consumed")).1,
        "the command has no data"
    );
}
