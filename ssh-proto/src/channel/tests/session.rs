//! Opening, closing, and everything between, in order.

use super::*;

#[test]
fn a_command_runs_from_open_to_close() {
    let mut pair = Pair::new();
    let local = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    // Queued behind the open.
    let exec = pair
        .client
        .client(local)
        .start(Program::Exec(b"id"))
        .unwrap();
    assert_eq!(
        pair.client.client(local).write(Stream::DATA, b"x"),
        Err(WriteError::Blocked)
    );
    pair.run();
    let request = open_request(&mut pair.server);
    assert_eq!(request.kind(), &OpenKind::Session);
    let peer = pair
        .server
        .with(|channels, cx| channels.accept_open(&request, b"", cx))
        .unwrap();
    pair.run();
    assert!(matches!(&pair.client.notices()[..], [Notice::Channel(id)] if *id == local));
    assert_eq!(
        pair.client.events_of(local),
        [
            ChannelEvent::Opened { data: vec![] },
            ChannelEvent::Writable
        ]
    );
    assert!(matches!(&pair.server.notices()[..], [Notice::Channel(id)] if *id == peer));
    let Some(ChannelEvent::Requested {
        request: ChannelRequest::Exec(command),
        token: Some(token),
    }) = pair.server.server(peer).poll_event()
    else {
        panic!("no exec")
    };
    assert_eq!(command, b"id");

    let mut channel = pair.server.server(peer);
    channel.reply(token, true).unwrap();
    assert_eq!(channel.write(Stream::DATA, b"uid=0"), Ok(5));
    assert_eq!(channel.write(Stream::STDERR, b"warning"), Ok(7));
    channel.eof();
    channel.send_exit_status(3).unwrap();
    channel.close();
    channel.close();
    assert_eq!(
        channel.write(Stream::DATA, b"late"),
        Err(WriteError::Closed)
    );
    pair.run();

    assert_eq!(
        pair.client.events_of(local),
        [
            ChannelEvent::Replied {
                request: exec,
                accepted: true
            },
            ChannelEvent::ExitStatus(3),
            ChannelEvent::Data(Stream::DATA),
            ChannelEvent::Data(Stream::STDERR),
            ChannelEvent::Eof,
            ChannelEvent::Closed
        ]
    );
    // The peer's CLOSE was answered at once; unread data stays readable.
    assert_eq!(pair.server.events_of(peer), [ChannelEvent::Closed]);
    let mut channel = pair.client.client(local);
    assert!(!channel.is_eof());
    assert_eq!(channel.take(Stream::DATA).unwrap().to_vec(), b"uid=0");
    assert_eq!(channel.chunk(Stream::STDERR), b"warning");
    assert!(channel.is_stream_eof(Stream::DATA) && !channel.is_eof());
    channel.release();
    pair.server.server(peer).release();
    assert!(pair.client.handle(local).is_none());
    assert_eq!(pair.client.channels.slots.len(), 0);
    assert_eq!(pair.server.channels.slots.len(), 0);
}

#[test]
fn channels_have_places_of_their_own_and_a_later_one_takes_that_of_one_that_is_gone() {
    let mut pair = Pair::new();
    let (first, far) = pair.session();
    let (second, _) = pair.session();
    assert_eq!((first.index(), second.index()), (0, 1));
    for (end, id) in [(&mut pair.client, first), (&mut pair.server, far)] {
        end.client(id).close();
        end.client(id).release();
    }
    pair.run();
    let (third, _) = pair.session();
    assert_eq!(third.index(), first.index());
    assert_ne!(third, first);
}

#[test]
fn nothing_works_before_authentication() {
    let mut end = End::new(Side::Client, Limits::default(), &Extensions::default());
    end.channels = Channels::new(Side::Client, &Extensions::default(), None);
    let open = end.with(|channels, cx| channels.open(OpenChannel::Session, cx));
    assert_eq!(open, Err(Misuse::NotAuthenticated));
    let global = end.with(|channels, cx| channels.global_request("a", b"", true, cx));
    assert_eq!(global, Err(Misuse::NotAuthenticated));
    assert!(end.receives(&msg::RequestFailure {}).is_err());
    assert!(end.sent().is_empty());
}

#[test]
fn opens_that_are_not_for_us_are_refused_with_the_right_reason() {
    let limits = Limits {
        pending_opens: 2,
        ..Limits::default()
    };
    let own = Extensions {
        channel_kinds: vec!["echo@example.com".into()],
        ..Extensions::default()
    };
    let open = |channel_type| msg::ChannelOpen {
        channel_type,
        sender_channel: 9,
        initial_window_size: 1,
        maximum_packet_size: 1,
        data: Rest(b""),
    };
    let refusals = |side, kind| {
        let mut end = End::new(side, limits, &own);
        end.receives(&open("echo@example.com")).unwrap();
        end.receives(&open(kind)).unwrap();
        end.receives(&open("echo@example.com")).unwrap();
        end.receives(&open("echo@example.com")).unwrap();
        let sent = end.sent();
        sent.iter()
            .map(|payload| {
                let failure = msg::ChannelOpenFailure::decode(payload).unwrap();
                assert_eq!(failure.recipient_channel, 9);
                failure.reason_code
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(refusals(Side::Client, "session"), [1, 4]);
    assert_eq!(refusals(Side::Client, "direct-tcpip"), [1, 4]);
    assert_eq!(refusals(Side::Client, "other"), [3, 4]);
    assert_eq!(refusals(Side::Server, "other"), [3, 4]);
    assert_eq!(refusals(Side::Server, "session"), [4, 4]);
    // A channel through which nothing fits is no channel.
    let mut end = End::new(Side::Server, limits, &own);
    let mut narrow = open("session");
    narrow.maximum_packet_size = 0;
    assert!(end.receives(&narrow).is_err());
}

#[test]
fn direct_tcpip_carries_both_addresses_and_must_be_well_formed() {
    let mut pair = Pair::new();
    let kind = OpenChannel::DirectTcpip {
        host: "db.example",
        port: 5432,
        originator: ("127.0.0.1", 50_000),
    };
    pair.client
        .with(|channels, cx| channels.open(kind, cx))
        .unwrap();
    pair.run();
    let request = open_request(&mut pair.server);
    let expected = OpenKind::DirectTcpip {
        host: "db.example".into(),
        port: 5432,
        originator_host: "127.0.0.1".into(),
        originator_port: 50_000,
    };
    assert_eq!(request.kind(), &expected);
    assert!(matches!(
        pair.server.with(|channels, cx| channels.open(kind, cx)),
        Err(Misuse::Argument(_))
    ));
    let broken = msg::ChannelOpen {
        channel_type: "direct-tcpip",
        sender_channel: 1,
        initial_window_size: 1,
        maximum_packet_size: 1,
        data: Rest(b"\0\0\0\x01a\0\x01\0\0"),
    };
    assert!(matches!(
        pair.server.receives(&broken),
        Err(Error::Peer(PeerError::Malformed {
            message: 90,
            field: "port to connect",
            ..
        }))
    ));
}

#[test]
fn a_refused_open_ends_with_its_event() {
    let mut pair = Pair::new();
    let local = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    pair.run();
    let request = open_request(&mut pair.server);
    let reason = OpenFailureReason::CONNECT_FAILED;
    pair.server
        .with(|channels, cx| channels.refuse_open(&request, reason, "no\x1bway", cx))
        .unwrap();
    let again = pair
        .server
        .with(|channels, cx| channels.accept_open(&request, b"", cx));
    assert_eq!(again, Err(Misuse::StaleToken));
    pair.run();
    let event = pair.client.client(local).poll_event();
    let description = "no\\u{1b}way".into();
    assert_eq!(
        event,
        Some(ChannelEvent::OpenFailed {
            reason,
            description
        })
    );
    assert!(pair.client.handle(local).is_none());
    assert_eq!(pair.client.channels.slots.len(), 0);
    assert_eq!(pair.server.channels.slots.len(), 0);
}

#[test]
fn an_open_without_answer_fails_in_time_and_a_late_channel_is_closed() {
    let mut pair = Pair::new();
    let local = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    pair.run();
    let deadline = pair.client.now + Duration::from_secs(60);
    assert_eq!(
        pair.client.channels.poll_timeout(pair.client.now),
        Some(deadline)
    );
    pair.wait(Duration::from_secs(59));
    assert!(pair.client.notices().is_empty());
    pair.wait(Duration::from_secs(1));
    assert_eq!(pair.client.channels.poll_timeout(pair.client.now), None);
    assert!(matches!(&pair.client.notices()[..], [Notice::Channel(id)] if *id == local));
    let Some(ChannelEvent::OpenFailed {
        reason,
        description,
    }) = pair.client.client(local).poll_event()
    else {
        panic!("did not fail")
    };
    assert_eq!(reason, OpenFailureReason::TIMED_OUT);
    assert!(description.contains("opening a channel"), "{description}");
    assert!(pair.client.handle(local).is_none());
    // The number is not used again before the peer has answered.
    assert_ne!(pair.client.channels.slots.next_id().slot, local.slot);

    let request = open_request(&mut pair.server);
    let peer = pair
        .server
        .with(|channels, cx| channels.accept_open(&request, b"", cx))
        .unwrap();
    pair.run();
    assert_eq!(pair.server.events_of(peer), [ChannelEvent::Closed]);
    assert_eq!(pair.client.channels.slots.len(), 0);
    assert!(pair.client.notices().is_empty());
}

#[test]
fn a_channel_released_while_it_opens_is_closed_when_it_is_open() {
    let mut pair = Pair::new();
    let local = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    pair.client.client(local).start(Program::Shell).unwrap();
    pair.client.client(local).release();
    assert!(pair.client.handle(local).is_none());
    pair.run();
    let request = open_request(&mut pair.server);
    let peer = pair
        .server
        .with(|channels, cx| channels.accept_open(&request, b"", cx))
        .unwrap();
    pair.run();
    assert_eq!(pair.server.events_of(peer), [ChannelEvent::Closed]);
    assert_eq!(pair.client.channels.slots.len(), 0);
}

/// Every order in which both sides say EOF and CLOSE, each step delivered before the next or not.
#[test]
fn eof_and_close_are_legal_in_every_order() {
    const STEPS: [&[u8]; 6] = [b"ec", b"ce", b"c", b"eec", b"cc", b"e"];
    for client in STEPS {
        for server in STEPS {
            for mix in 0..64_u32 {
                let mut pair = Pair::new();
                let (local, peer) = pair.session();
                for turn in 0..3 {
                    if let Some(step) = client.get(turn) {
                        let mut channel = pair.client.client(local);
                        _ = channel.write(Stream::DATA, b"up");
                        if *step == b'e' {
                            channel.eof()
                        } else {
                            channel.close()
                        }
                    }
                    if mix >> (2 * turn) & 1 == 1 {
                        pair.run();
                    }
                    if let Some(step) = server.get(turn) {
                        let mut channel = pair.server.server(peer);
                        _ = channel.write(Stream::STDERR, b"down");
                        if *step == b'e' {
                            channel.eof()
                        } else {
                            channel.close()
                        }
                    }
                    if mix >> (2 * turn) & 2 == 2 {
                        pair.run();
                    }
                }
                pair.run();
                let closed = client.contains(&b'c') || server.contains(&b'c');
                for events in [pair.client.events_of(local), pair.server.events_of(peer)] {
                    assert_eq!(
                        events.last() == Some(&ChannelEvent::Closed),
                        closed,
                        "{client:?} {server:?} {mix}"
                    );
                    let eof = events.iter().position(|event| *event == ChannelEvent::Eof);
                    let data = events
                        .iter()
                        .position(|event| matches!(event, ChannelEvent::Data(_)));
                    if let (Some(eof), Some(data)) = (eof, data) {
                        assert!(data < eof);
                    }
                }
            }
        }
    }
}

#[test]
fn what_may_not_follow_eof_or_close_is_an_error() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let eof = msg::ChannelEof {
        recipient_channel: peer.slot,
    };
    pair.server.receives(&eof).unwrap();
    // Saying it twice is harmless, data is not.
    pair.server.receives(&eof).unwrap();
    assert_eq!(pair.server.receive(&data(peer, b"x")), fault(peer, 94));

    let close = msg::ChannelClose {
        recipient_channel: local.slot,
    };
    pair.client.receives(&close).unwrap();
    assert_eq!(pair.client.numbers(), [97], "answered at once");
    assert_eq!(pair.client.receives(&close), fault(local, 97));
    assert_eq!(pair.client.receive(&data(local, b"x")), fault(local, 94));
    pair.client.client(local).release();
    let unknown = Err(PeerError::UnknownChannel {
        channel: local.slot,
    }
    .into());
    assert_eq!(pair.client.receive(&data(local, b"x")), unknown);
    let late = msg::ChannelOpenConfirmation {
        recipient_channel: peer.slot,
        sender_channel: 1,
        initial_window_size: 1,
        maximum_packet_size: 1,
        data: Rest(b""),
    };
    assert_eq!(pair.server.receives(&late), fault(peer, 91));
}

#[test]
fn the_peer_cannot_use_the_number_of_a_channel_that_is_not_accepted() {
    let mut pair = Pair::new();
    pair.client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    pair.run();
    let request = open_request(&mut pair.server);
    assert!(pair.server.handle(request.id()).is_none());
    let unknown = Err(PeerError::UnknownChannel { channel: 0 }.into());
    assert_eq!(pair.server.receive(&data(request.id(), b"x")), unknown);
}

#[test]
fn the_end_of_the_connection_closes_every_channel_and_keeps_unread_data() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let opening = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    pair.server
        .server(peer)
        .write(Stream::DATA, b"last words")
        .unwrap();
    pair.run();
    pair.client.notices();
    pair.client.with(|channels, cx| channels.end(cx));
    assert_eq!(pair.client.notices().len(), 1, "one of them is listed");
    assert_eq!(
        pair.client.events_of(local),
        [ChannelEvent::Data(Stream::DATA), ChannelEvent::Closed]
    );
    assert_eq!(pair.client.events_of(opening), [ChannelEvent::Closed]);
    let mut channel = pair.client.client(local);
    assert_eq!(channel.write(Stream::DATA, b"x"), Err(WriteError::Closed));
    assert_eq!(channel.start(Program::Shell), Err(Misuse::Closed));
    let mut buf = [0; 32];
    assert_eq!(channel.read(Stream::DATA, &mut buf), 10);
    assert!(channel.is_eof());
    channel.release();
    pair.client.client(opening).release();
    let open = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx));
    assert_eq!(open, Err(Misuse::Closed));
    assert_eq!(pair.client.channels.slots.len(), 0);
    assert_eq!(pair.client.channels.poll_timeout(pair.client.now), None);
}
