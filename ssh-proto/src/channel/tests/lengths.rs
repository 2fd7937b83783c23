//! The lengths that `limits.rs` bounds, in both directions: one below, at, one above, and what comes of it.

use super::*;

/// Limits as small as the tests need them, and names of the caller's own.
fn small() -> Pair {
    let limits = Limits {
        request_len: 17,
        term_len: 4,
        modes_len: 8,
        env_len: 4,
        text_len: 6,
        ..Limits::default()
    };
    let name = || vec!["own@example.com".to_owned()];
    let own = Extensions {
        channel_kinds: name(),
        channel_requests: name(),
        global_requests: name(),
    };
    Pair::with(limits, &own)
}

fn string(len: usize) -> Vec<u8> {
    let mut field = u32::try_from(len).unwrap().to_be_bytes().to_vec();
    field.resize(4 + len, b'a');
    field
}

const TOO_LONG: Misuse = Misuse::Limit("request_len");

#[test]
fn request_len_of_the_peers_requests() {
    // All fields count, a length in front of the command as well.
    for (len, taken) in [(16, true), (17, true), (18, false)] {
        for (name, fields) in [
            ("exec", string(len - 4)),
            ("subsystem", string(len - 4)),
            ("own@example.com", vec![0; len]),
        ] {
            let mut pair = small();
            let (_, peer) = pair.session();
            pair.server
                .receive(&request(peer, name, true, &fields))
                .unwrap();
            let events = pair.server.events_of(peer);
            assert_eq!(!events.is_empty(), taken, "{name} {len}");
            let refusal: &[u8] = if taken { &[] } else { &[100] };
            assert_eq!(pair.server.numbers(), refusal, "{name} {len}");
        }
        let mut pair = small();
        let global = msg::GlobalRequest {
            request_name: "own@example.com",
            want_reply: true,
            data: Rest(&vec![0; len]),
        };
        pair.server.receives(&global).unwrap();
        assert_eq!(!pair.server.notices().is_empty(), taken, "{len}");
        let refusal: &[u8] = if taken { &[] } else { &[82] };
        assert_eq!(pair.server.numbers(), refusal, "{len}");
    }
}

#[test]
fn request_len_of_our_own_requests() {
    for (len, taken) in [(16, true), (17, true), (18, false)] {
        let expected = if taken { Ok(()) } else { Err(TOO_LONG) };
        let data = vec![b'a'; len];
        for program in [
            Program::Exec(&data[4..]),
            Program::Subsystem(&"a".repeat(len - 4)),
        ] {
            let mut pair = small();
            let (local, _) = pair.session();
            let started = pair.client.client(local).start(program).map(drop);
            assert_eq!(started, expected, "{len}");
        }
        let mut pair = small();
        let (local, _) = pair.session();
        let mut channel = pair.client.client(local);
        let sent = channel.request("own@example.com", &data, true).map(drop);
        assert_eq!(sent, expected, "{len}");
        // The same while the channel is not open yet.
        let asked = pair
            .client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx))
            .unwrap();
        let mut channel = pair.client.client(asked);
        let queued = channel.request("own@example.com", &data, true).map(drop);
        assert_eq!(queued, expected, "{len}");
        let global = pair.client.with(|channels, cx| {
            channels
                .global_request("own@example.com", &data, true, cx)
                .map(drop)
        });
        assert_eq!(global, expected, "{len}");
    }
}

#[test]
fn request_len_of_opens_and_their_confirmations() {
    for (len, taken) in [(16, true), (17, true), (18, false)] {
        let data = vec![b'a'; len];
        // The peer's: of a kind of our own, and of a kind of the RFC (a host name and three numbers).
        let tcpip = [string(len - 16), vec![0; 4], string(0), vec![0; 4]].concat();
        for (channel_type, data) in [("own@example.com", &data), ("direct-tcpip", &tcpip)] {
            let mut pair = small();
            let open = msg::ChannelOpen {
                channel_type,
                sender_channel: 7,
                initial_window_size: 1,
                maximum_packet_size: 1,
                data: Rest(data),
            };
            pair.server.receives(&open).unwrap();
            if taken {
                _ = open_request(&mut pair.server);
                continue;
            }
            assert!(pair.server.notices().is_empty());
            let refusal = pair.server.sent().remove(0);
            let refusal = msg::ChannelOpenFailure::decode(&refusal).unwrap();
            assert_eq!(
                OpenFailureReason(refusal.reason_code),
                OpenFailureReason::RESOURCE_SHORTAGE
            );
        }
        // Ours, and what we confirm with.
        let mut pair = small();
        let kind = OpenChannel::Custom {
            kind: "own@example.com",
            data: &data,
        };
        let opened = pair.client.with(|channels, cx| channels.open(kind, cx));
        assert_eq!(opened.map(drop), if taken { Ok(()) } else { Err(TOO_LONG) });
        let mut pair = small();
        let opened = pair
            .client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx))
            .unwrap();
        pair.run();
        let request = open_request(&mut pair.server);
        let accepted = pair
            .server
            .with(|channels, cx| channels.accept_open(&request, &data, cx));
        assert_eq!(
            accepted.map(drop),
            if taken { Ok(()) } else { Err(TOO_LONG) }
        );
        // And what the peer confirms with.
        let mut pair = small();
        let local = pair
            .client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx))
            .unwrap();
        assert_eq!(opened.slot, local.slot);
        let outcome = pair.client.receives(&msg::ChannelOpenConfirmation {
            recipient_channel: local.slot,
            sender_channel: 7,
            initial_window_size: 1,
            maximum_packet_size: 1,
            data: Rest(&data),
        });
        let limit = PeerError::Limit("data of an open confirmation");
        assert_eq!(outcome, if taken { Ok(()) } else { Err(limit.into()) });
    }
}

#[test]
fn request_len_of_replies() {
    for (len, taken) in [(16, true), (17, true), (18, false)] {
        let data = vec![b'a'; len];
        let mut pair = small();
        pair.client
            .with(|channels, cx| channels.global_request("own@example.com", b"", true, cx))
            .unwrap();
        pair.run();
        let asked = pair.server.notices().pop();
        let Some(Notice::GlobalRequested(GlobalRequestReceived {
            token: Some(token), ..
        })) = asked
        else {
            panic!("{asked:?}");
        };
        let answered = pair
            .server
            .with(|channels, cx| channels.answer_global(&token, Answer::Accept(&data), cx));
        assert_eq!(answered, if taken { Ok(()) } else { Err(TOO_LONG) });
        let outcome = pair
            .client
            .receives(&msg::RequestSuccess { data: Rest(&data) });
        let limit = PeerError::Limit("data of a reply");
        assert_eq!(outcome, if taken { Ok(()) } else { Err(limit.into()) });
        let told = pair
            .client
            .notices()
            .iter()
            .any(|notice| matches!(notice, Notice::GlobalReplied { reply: Some(_), .. }));
        assert_eq!(told, taken);
    }
}

#[test]
fn a_confirmation_that_is_too_long_refuses_the_channel() {
    let mut pair = small();
    // Twice: the question is not open any more, and its place is free again.
    for _ in 0..2 {
        let local = pair
            .client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx))
            .unwrap();
        pair.run();
        let request = open_request(&mut pair.server);
        let accepted = pair
            .server
            .with(|channels, cx| channels.accept_open(&request, &[0; 18], cx));
        assert_eq!(accepted, Err(TOO_LONG));
        assert_eq!(pair.server.channels.shared.open_questions, 0);
        let again = pair
            .server
            .with(|channels, cx| channels.accept_open(&request, b"", cx));
        assert_eq!(again, Err(Misuse::StaleToken));
        pair.run();
        assert!(matches!(
            &pair.client.events_of(local)[..],
            [ChannelEvent::OpenFailed {
                reason: OpenFailureReason::RESOURCE_SHORTAGE,
                ..
            }]
        ));
    }
}

/// The token of the request about the connection that has come last.
fn asked(end: &mut End) -> GlobalRequestToken {
    let asked = end.notices().pop();
    let Some(Notice::GlobalRequested(GlobalRequestReceived {
        token: Some(token), ..
    })) = asked
    else {
        panic!("{asked:?}");
    };
    token
}

#[test]
fn an_answer_that_cannot_be_sent_refuses_and_holds_up_no_later_one() {
    let mut pair = small();
    let bad_port = Misuse::Argument("the bound port belongs in the answer");
    for (port, answer, fault) in [(None, &[0; 18][..], TOO_LONG), (Some(0), b"", bad_port)] {
        let first = pair
            .client
            .with(|channels, cx| match port {
                None => channels.global_request("own@example.com", b"", true, cx),
                Some(port) => channels.request_forward(ForwardAddress::tcpip("", port), cx),
            })
            .unwrap();
        pair.run();
        let token = asked(&mut pair.server);
        let answered = pair
            .server
            .with(|channels, cx| channels.answer_global(&token, Answer::Accept(answer), cx));
        assert_eq!(answered, Err(fault));
        assert_eq!(pair.server.channels.shared.globals.forwards.len(), 0);
        let second = pair
            .client
            .with(|channels, cx| channels.global_request("own@example.com", b"", true, cx))
            .unwrap();
        pair.run();
        let token = asked(&mut pair.server);
        pair.server
            .with(|channels, cx| channels.answer_global(&token, Answer::Accept(b"yes"), cx))
            .unwrap();
        pair.run();
        let replies = pair.client.notices().into_iter().filter_map(|notice| {
            let Notice::GlobalReplied { request, reply } = notice else {
                return None;
            };
            Some((request, reply))
        });
        let expected = [(first, None), (second, Some(b"yes".to_vec()))];
        assert!(replies.eq(expected), "{port:?}");
    }
}

/// A request for a terminal of the peer is passed on, or refused.
fn terminal(term: usize, modes: &[u8]) -> bool {
    let limits = Limits {
        term_len: 4,
        modes_len: 8,
        ..Limits::default()
    };
    let mut pair = Pair::with(limits, &Extensions::default());
    let (_, peer) = pair.session();
    let mut fields = [string(term), vec![0; 16]].concat();
    fields.extend(u32::try_from(modes.len()).unwrap().to_be_bytes());
    fields.extend(modes);
    pair.server
        .receive(&request(peer, "pty-req", true, &fields))
        .unwrap();
    let asked = !pair.server.events_of(peer).is_empty();
    let refusal: &[u8] = if asked { &[] } else { &[100] };
    assert_eq!(pair.server.numbers(), refusal);
    asked
}

#[test]
fn term_len() {
    for (len, taken) in [(3, true), (4, true), (5, false)] {
        assert_eq!(terminal(len, b""), taken, "{len}");
    }
}

#[test]
fn modes_len() {
    // One mode, the end, and what nobody reads.
    for (len, taken) in [(7, true), (8, true), (9, false)] {
        let mut modes = vec![53, 0, 0, 0, 1];
        modes.resize(len, 0);
        assert_eq!(terminal(1, &modes), taken, "{len}");
    }
}

#[test]
fn env_len() {
    for (len, taken) in [(3, true), (4, true), (5, false)] {
        for (name, value) in [(len, 1), (1, len)] {
            let mut pair = small();
            let (_, peer) = pair.session();
            let fields = [string(name), string(value)].concat();
            pair.server
                .receive(&request(peer, "env", true, &fields))
                .unwrap();
            assert_eq!(!pair.server.events_of(peer).is_empty(), taken);
            let refusal: &[u8] = if taken { &[] } else { &[100] };
            assert_eq!(pair.server.numbers(), refusal, "{name} {value}");
        }
    }
}

#[test]
fn env_variables() {
    let limits = Limits {
        env_variables: 3,
        open_questions: 100,
        ..Limits::default()
    };
    let mut pair = Pair::with(limits, &Extensions::default());
    let (_, peer) = pair.session();
    for count in 1..=4 {
        let variable = request(peer, "env", true, &[string(1), string(1)].concat());
        pair.server.receive(&variable).unwrap();
        assert_eq!(!pair.server.events_of(peer).is_empty(), count <= 3);
    }
}

#[test]
fn text_len_of_what_the_peer_says_about_channels() {
    for (len, kept) in [(5, 5), (6, 6), (7, 6)] {
        let mut pair = small();
        let local = pair
            .client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx))
            .unwrap();
        pair.client
            .receives(&msg::ChannelOpenFailure {
                recipient_channel: local.slot,
                reason_code: 1,
                description: &vec![b'x'; len],
                language_tag: b"",
            })
            .unwrap();
        assert!(matches!(
            &pair.client.events_of(local)[..],
            [ChannelEvent::OpenFailed { description, .. }] if description.len() == kept
        ));
        // How a program ended is told whatever the length of its text: longer than any request may be here.
        let mut pair = small();
        let (local, _) = pair.session();
        let fields = [b"\0\0\0\x04SEGV\0".to_vec(), string(len + 100), string(0)].concat();
        pair.client
            .receive(&request(local, "exit-signal", false, &fields))
            .unwrap();
        assert!(matches!(
            &pair.client.events_of(local)[..],
            [ChannelEvent::ExitSignal(exit)] if exit.message.len() == 6
        ));
    }
}

#[test]
fn the_ceiling_of_a_window() {
    const MAX: u32 = 4 * 1024 * 1024;
    let limits = Limits {
        window: MAX,
        ..Limits::default()
    };
    for (wished, given) in [(MAX - 1, MAX - 1), (MAX, MAX), (MAX + 1, MAX)] {
        let mut pair = Pair::with(limits, &Extensions::default());
        let (local, peer) = pair.session();
        pair.client.client(local).set_receive_window(wished);
        assert_eq!(pair.client.client(local).receive_window(), given);
        pair.run();
        // The peer hears of it at once: it may send so much, and not a byte more.
        assert_eq!(pair.server.server(peer).send_window(), given);
        let mut left = given;
        while left > 0 {
            let len = left.min(32 * 1024);
            let packet = data(local, &vec![0; len as usize]);
            pair.client.receive(&packet).unwrap();
            left -= len;
        }
        let beyond = PeerError::Window {
            channel: local.slot,
        };
        assert_eq!(pair.client.receive(&data(local, b"x")), Err(beyond.into()));
    }
    // The first one keeps to it as well.
    for (window, first) in [(99_999, 99_999), (2 << 20, 2 << 20), (3 << 20, 2 << 20)] {
        let limits = Limits {
            window,
            ..Limits::default()
        };
        let mut pair = Pair::with(limits, &Extensions::default());
        let (local, _) = pair.session();
        assert_eq!(pair.client.client(local).receive_window(), first);
    }
}

#[test]
fn a_cancelled_listener_that_the_caller_did_not_hear_of_is_still_there() {
    let limits = Limits {
        open_questions: 1,
        ..Limits::default()
    };
    let own = Extensions {
        global_requests: vec!["own@example.com".to_owned()],
        ..Extensions::default()
    };
    let mut pair = Pair::with(limits, &own);
    let address = ForwardAddress::tcpip("localhost", 8080);
    let forward = pair
        .client
        .with(|channels, cx| channels.request_forward(address, cx))
        .unwrap();
    pair.run();
    let grant = |pair: &mut Pair, answer| {
        let asked = pair.server.notices().pop();
        let Some(Notice::GlobalRequested(GlobalRequestReceived {
            token: Some(token), ..
        })) = asked
        else {
            panic!("{asked:?}");
        };
        pair.server
            .with(|channels, cx| channels.answer_global(&token, answer, cx))
            .unwrap();
        pair.run();
    };
    grant(&mut pair, Answer::Accept(b""));
    // One question is open: what comes behind it is refused by the library.
    pair.client
        .with(|channels, cx| channels.global_request("own@example.com", b"", true, cx))
        .unwrap();
    pair.client
        .with(|channels, cx| channels.cancel_forward(forward, cx))
        .unwrap();
    pair.run();
    assert_eq!(pair.server.channels.shared.globals.forwards.len(), 1);
    grant(&mut pair, Answer::Refuse);
    assert_eq!(pair.server.channels.shared.globals.forwards.len(), 1);
}
