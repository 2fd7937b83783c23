//! Requests about channels and about the connection.

use super::*;
use crate::msg::modes::{Mode, TerminalModes};

#[test]
fn every_request_of_a_client_arrives_as_it_was_made() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let pty = PtyRequest {
        term: "xterm".into(),
        columns: 80,
        rows: 24,
        width_px: 1,
        height_px: 2,
        modes: [(Mode::ECHO, 0)].into_iter().collect::<TerminalModes>(),
    };
    let size = WindowSize {
        columns: 100,
        rows: 30,
        ..WindowSize::default()
    };
    let mut channel = pair.client.client(local);
    channel.pty(&pty).unwrap();
    channel.env(b"LANG", b"C").unwrap();
    channel.start(Program::Subsystem("sftp")).unwrap();
    channel.resize(size).unwrap();
    channel.signal(&Signal::INT).unwrap();
    channel.send_break(500).unwrap();
    pair.run();
    let requests: Vec<_> = pair
        .server
        .events_of(peer)
        .into_iter()
        .map(|event| match event {
            ChannelEvent::Requested { request, token } => (request, token.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    let (name, value) = (b"LANG".to_vec(), b"C".to_vec());
    assert_eq!(
        requests,
        [
            (ChannelRequest::Pty(pty), true),
            (ChannelRequest::Env { name, value }, true),
            (ChannelRequest::Subsystem("sftp".into()), true),
            (ChannelRequest::WindowChange(size), false),
            (ChannelRequest::Signal(Signal::INT), false),
            (ChannelRequest::Break { ms: 500 }, true),
        ]
    );
}

#[test]
fn an_exit_signal_arrives_as_it_was_sent() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let exit = ExitSignal {
        signal: Signal::SEGV,
        core_dumped: true,
        message: "crashed".into(),
    };
    pair.server.server(peer).send_exit_signal(&exit).unwrap();
    // Only the first word about it counts.
    pair.server.server(peer).send_exit_status(1).unwrap();
    pair.run();
    assert_eq!(
        pair.client.events_of(local),
        [ChannelEvent::ExitSignal(exit)]
    );
}

#[test]
fn a_second_shell_is_refused_once_one_was_accepted_or_is_being_decided() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    pair.client.client(local).start(Program::Shell).unwrap();
    assert!(matches!(
        pair.client.client(local).start(Program::Exec(b"ls")),
        Err(Misuse::ChannelState(_))
    ));
    pair.run();
    let first = tokens(pair.server.events_of(peer)).remove(0);

    // A client that asks nevertheless.
    let exec = request(peer, "exec", true, b"\0\0\0\x02ls");
    pair.server.receive(&exec).unwrap();
    assert!(pair.server.events_of(peer).is_empty());
    pair.server.server(peer).reply(first, false).unwrap();
    assert_eq!(pair.server.numbers(), [100, 100]);

    // The first one was refused: another may be tried.
    pair.server.receive(&exec).unwrap();
    let second = tokens(pair.server.events_of(peer)).remove(0);
    pair.server.server(peer).reply(second, true).unwrap();
    assert_eq!(pair.server.numbers(), [99]);
    pair.server
        .receive(&request(peer, "subsystem", true, b"\0\0\0\x04sftp"))
        .unwrap();
    assert_eq!(pair.server.numbers(), [100]);
    assert!(pair.server.events_of(peer).is_empty());
}

#[test]
fn a_refused_start_may_be_followed_by_another() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    for accepted in [false, true] {
        let shell = pair.client.client(local).start(Program::Shell).unwrap();
        pair.run();
        let token = tokens(pair.server.events_of(peer)).remove(0);
        pair.server.server(peer).reply(token, accepted).unwrap();
        pair.run();
        let replied = ChannelEvent::Replied {
            request: shell,
            accepted,
        };
        assert_eq!(pair.client.events_of(local), [replied]);
    }
    assert!(pair.client.client(local).start(Program::Shell).is_err());
}

#[test]
fn replies_leave_in_the_order_of_the_requests() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    for name in ["pty-req", "env", "shell", "keepalive@openssh.com"] {
        let fields: &[u8] = match name {
            "pty-req" => &[0; 24],
            "env" => &[0; 8],
            _ => &[],
        };
        pair.server
            .receive(&request(peer, name, true, fields))
            .unwrap();
    }
    let mut tokens = tokens(pair.server.events_of(peer)).into_iter();
    let (pty, env, shell) = (
        tokens.next().unwrap(),
        tokens.next().unwrap(),
        tokens.next().unwrap(),
    );
    pair.server.server(peer).reply(shell, true).unwrap();
    assert!(pair.server.numbers().is_empty());
    pair.server.server(peer).reply(pty, false).unwrap();
    assert_eq!(pair.server.numbers(), [100]);
    pair.server.server(peer).reply(env, true).unwrap();
    assert_eq!(pair.server.numbers(), [99, 99, 100]);
}

#[test]
fn a_token_is_good_for_one_channel_and_not_beyond_its_close() {
    let mut pair = Pair::new();
    let (_, first) = pair.session();
    let (_, second) = pair.session();
    let shell = |peer| request(peer, "shell", true, b"");
    pair.server.receive(&shell(first)).unwrap();
    let token = tokens(pair.server.events_of(first)).remove(0);
    assert_eq!(
        pair.server.server(second).reply(token, true),
        Err(Misuse::StaleToken)
    );
    pair.server.receive(&shell(second)).unwrap();
    let token = tokens(pair.server.events_of(second)).remove(0);
    pair.server.server(second).close();
    assert_eq!(
        pair.server.server(second).reply(token, true),
        Err(Misuse::StaleToken)
    );
    assert_eq!(pair.server.numbers(), [97]);
}

#[test]
fn broken_fields_are_an_error_that_names_them() {
    for (name, fields, field) in [
        ("exec", &b"\0\0\0\x05ls"[..], "command"),
        ("exec", b"\0\0\0\x02lsx", "end of message"),
        ("pty-req", b"\0\0\0\x01a", "terminal size"),
        ("window-change", b"\0", "terminal size"),
        ("signal", b"\0\0\0\x01\xff", "signal name"),
        ("shell", b"x", "end of message"),
    ] {
        let mut pair = Pair::new();
        let (_, peer) = pair.session();
        let outcome = pair.server.receive(&request(peer, name, true, fields));
        assert!(
            matches!(
                outcome,
                Err(Error::Peer(PeerError::Malformed { message: 98, field: named, .. })) if named == field
            ),
            "{name}: {outcome:?}"
        );
    }
}

#[test]
fn requests_that_are_not_for_this_side_are_refused_and_own_names_are_passed_on() {
    let own = Extensions {
        channel_requests: vec!["level@example.com".into()],
        ..Extensions::default()
    };
    let mut pair = Pair::with(Limits::default(), &own);
    let (local, peer) = pair.session();
    for name in ["shell", "pty-req", "subsystem"] {
        pair.client
            .receive(&request(local, name, true, b""))
            .unwrap();
        pair.client
            .receive(&request(local, name, false, b""))
            .unwrap();
    }
    assert_eq!(pair.client.numbers(), [100, 100, 100]);
    assert!(pair.client.events_of(local).is_empty());
    pair.server
        .receive(&request(peer, "exit-status", true, &[0; 4]))
        .unwrap();
    assert_eq!(pair.server.numbers(), [100]);

    let id = pair
        .client
        .client(local)
        .request("level@example.com", b"9", true)
        .unwrap();
    pair.run();
    let Some(ChannelEvent::Requested {
        request: ChannelRequest::Custom { name, data },
        token: Some(token),
    }) = pair.server.server(peer).poll_event()
    else {
        panic!("not passed on")
    };
    assert_eq!((&name[..], &data[..]), ("level@example.com", &b"9"[..]));
    pair.server.server(peer).reply(token, true).unwrap();
    pair.run();
    let replied = ChannelEvent::Replied {
        request: id,
        accepted: true,
    };
    assert_eq!(pair.client.events_of(local), [replied]);
    assert!(matches!(
        pair.client.client(local).request("two words", b"", true),
        Err(Misuse::Argument(_))
    ));
}

#[test]
fn sessions_only_are_asked_for_programs() {
    let own = Extensions {
        channel_kinds: vec!["echo@example.com".into()],
        ..Extensions::default()
    };
    let mut pair = Pair::with(Limits::default(), &own);
    let kind = OpenChannel::Custom {
        kind: "echo@example.com",
        data: b"fields",
    };
    let local = pair
        .client
        .with(|channels, cx| channels.open(kind, cx))
        .unwrap();
    pair.run();
    let question = open_request(&mut pair.server);
    assert!(
        matches!(question.kind(), OpenKind::Custom { kind, data } if kind == "echo@example.com" && data == b"fields")
    );
    let peer = pair
        .server
        .with(|channels, cx| channels.accept_open(&question, b"reply", cx))
        .unwrap();
    pair.run();
    let data = b"reply".to_vec();
    assert_eq!(
        pair.client.events_of(local),
        [ChannelEvent::Opened { data }]
    );
    assert!(matches!(
        pair.client.client(local).start(Program::Shell),
        Err(Misuse::ChannelState(_))
    ));
    assert!(pair.server.server(peer).send_exit_status(0).is_err());
    pair.server
        .receive(&request(peer, "shell", true, b""))
        .unwrap();
    assert_eq!(pair.server.numbers(), [100]);
}

#[test]
fn global_requests_are_answered_in_order_and_keepalive_by_the_library() {
    let own = Extensions {
        global_requests: vec!["forward@example.com".into()],
        ..Extensions::default()
    };
    let mut pair = Pair::with(Limits::default(), &own);
    let ask = |pair: &mut Pair, name, want_reply| {
        pair.client
            .with(|channels, cx| channels.global_request(name, b"data", want_reply, cx))
            .unwrap()
    };
    let first = ask(&mut pair, "forward@example.com", true);
    let unknown = ask(&mut pair, "unknown@example.com", true);
    ask(&mut pair, "forward@example.com", false);
    pair.client
        .with(|channels, cx| channels.send_keepalive(cx))
        .unwrap();
    let second = ask(&mut pair, "forward@example.com", true);
    pair.run();
    let mut received: Vec<_> = pair
        .server
        .notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::GlobalRequested(request) => Some(request),
            _ => None,
        })
        .collect();
    assert_eq!(received.len(), 3);
    assert_eq!(received[1].token, None);
    let late = received.remove(2).token.unwrap();
    let early = received.remove(0).token.unwrap();
    let answer = |pair: &mut Pair, token, answer| {
        pair.server
            .with(|channels, cx| channels.answer_global(token, answer, cx))
    };
    answer(&mut pair, &late, Answer::Refuse).unwrap();
    assert_eq!(
        answer(&mut pair, &late, Answer::Refuse),
        Err(Misuse::StaleToken)
    );
    pair.run();
    assert!(pair.client.notices().is_empty(), "not its turn yet");
    answer(&mut pair, &early, Answer::Accept(b"port")).unwrap();
    pair.run();
    let replies: Vec<_> = pair
        .client
        .notices()
        .into_iter()
        .map(|notice| match notice {
            Notice::GlobalReplied { request, reply } => (request, reply),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        replies,
        [
            (first, Some(b"port".to_vec())),
            (unknown, None),
            (second, None)
        ]
    );
}

#[test]
fn during_a_key_exchange_requests_wait_and_state_is_sent_after_it() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let window = pair.server.server(peer).send_window();
    pair.server
        .server(peer)
        .write(Stream::DATA, &vec![0; 32 * 1024])
        .unwrap();
    for _ in 0..40 {
        _ = pair
            .server
            .server(peer)
            .write(Stream::DATA, &vec![0; 32 * 1024]);
        pair.run();
    }
    pair.client.shut_gate();
    let mut channel = pair.client.client(local);
    channel.start(Program::Shell).unwrap();
    for columns in 1..5 {
        let size = WindowSize {
            columns,
            ..WindowSize::default()
        };
        channel.resize(size).unwrap();
    }
    channel.discard(Stream::DATA);
    assert_eq!(channel.write(Stream::DATA, b"x"), Err(WriteError::Blocked));
    channel.eof();
    channel.close();
    assert!(pair.client.out.pending().is_empty());
    pair.client.open_gate();
    let sent = pair.client.sent();
    let numbers: Vec<u8> = sent.iter().map(|payload| payload[0]).collect();
    // The shell, the last size, EOF, CLOSE. Credit is of no use to a channel that is closed.
    assert_eq!(numbers, [98, 98, 96, 97]);
    let size = msg::ChannelRequest::decode(&sent[1]).unwrap();
    assert_eq!(size.request_type, "window-change");
    assert_eq!(size.data.0[..4], [0, 0, 0, 4]);
    assert!(pair.server.server(peer).send_window() < window);
}

#[test]
fn credit_that_a_key_exchange_held_back_is_given_after_it() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let mut sent = 0;
    while sent < 1024 * 1024 {
        sent += pair
            .server
            .server(peer)
            .write(Stream::DATA, &[0; 16 * 1024])
            .unwrap();
        pair.run();
    }
    pair.client.shut_gate();
    pair.client.client(local).discard(Stream::DATA);
    assert!(pair.client.out.pending().is_empty());
    pair.client.open_gate();
    let payload = pair.client.sent().remove(0);
    let adjust = msg::ChannelWindowAdjust::decode(&payload).unwrap();
    assert_eq!(adjust.bytes_to_add as usize, sent);
}
