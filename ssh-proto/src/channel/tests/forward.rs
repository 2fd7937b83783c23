//! Forwarding in both roles, `eow@openssh.com` and `no-more-sessions@openssh.com`.

use super::*;

impl Pair {
    fn ask(&mut self, address: ForwardAddress) -> RequestId {
        let asked = self
            .client
            .with(|channels, cx| channels.request_forward(address, cx));
        self.run();
        asked.unwrap()
    }

    /// The client asks, and the server grants.
    fn forward(&mut self, address: ForwardAddress, bound_port: u16) -> RequestId {
        let request = self.ask(address);
        let received = global_request(&mut self.server).unwrap();
        let token = received.token.unwrap();
        let port = u32::from(bound_port).to_be_bytes();
        let data = if token.wants_port() { &port[..] } else { &[] };
        answer(&mut self.server, &token, Answer::Accept(data)).unwrap();
        self.run();
        let replies = replies(&mut self.client);
        assert_eq!(replies, [(request, Some(data.to_vec()))]);
        request
    }

    /// The server opens a channel; what the client is asked about it, or why it was refused.
    fn connected(&mut self, kind: OpenChannel<'_>) -> Result<OpenKind, OpenFailureReason> {
        let id = self
            .server
            .with(|channels, cx| channels.open(kind, cx))
            .unwrap();
        self.run();
        if let [ChannelEvent::OpenFailed { reason, .. }] = self.server.events_of(id)[..] {
            return Err(reason);
        }
        let request = open_request(&mut self.client);
        let kind = request.kind().clone();
        self.client
            .with(|channels, cx| channels.accept_open(&request, b"", cx))
            .unwrap();
        self.run();
        assert_eq!(
            self.server.events_of(id),
            [ChannelEvent::Opened { data: vec![] }]
        );
        Ok(kind)
    }
}

fn global_request(end: &mut End) -> Option<GlobalRequestReceived> {
    end.notices().into_iter().find_map(|notice| match notice {
        Notice::GlobalRequested(request) => Some(request),
        _ => None,
    })
}

fn replies(end: &mut End) -> Vec<(RequestId, Option<Vec<u8>>)> {
    end.notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::GlobalReplied { request, reply } => Some((request, reply)),
            _ => None,
        })
        .collect()
}

fn answer(end: &mut End, token: &GlobalRequestToken, answer: Answer<'_>) -> Result<(), Misuse> {
    end.with(|channels, cx| channels.answer_global(token, answer, cx))
}

fn tcpip(address: &str, port: u16) -> OpenChannel<'_> {
    OpenChannel::ForwardedTcpip {
        address,
        port,
        originator: ("192.0.2.7", 40_000),
    }
}

const PROHIBITED: Result<OpenKind, OpenFailureReason> =
    Err(OpenFailureReason::ADMINISTRATIVELY_PROHIBITED);

#[test]
fn a_granted_port_brings_channels_until_it_is_cancelled() {
    let mut pair = Pair::new();
    let request = pair.forward(ForwardAddress::tcpip("localhost", 0), 8_022);
    let bound = ForwardAddress::tcpip("localhost", 8_022);
    assert_eq!(pair.client.channels.forward(request), Some(&bound));
    let expected = OpenKind::ForwardedTcpip {
        forward: request,
        address: "localhost".into(),
        port: 8_022,
        originator_host: "192.0.2.7".into(),
        originator_port: 40_000,
    };
    assert_eq!(pair.connected(tcpip("localhost", 8_022)), Ok(expected));
    // Other servers say what was connected.
    assert!(pair.connected(tcpip("127.0.0.1", 8_022)).is_ok());
    assert_eq!(pair.connected(tcpip("192.0.2.1", 8_022)), PROHIBITED);
    assert_eq!(pair.connected(tcpip("localhost", 8_023)), PROHIBITED);

    let cancel = pair
        .client
        .with(|channels, cx| channels.cancel_forward(request, cx))
        .unwrap();
    // What was under way is refused, too.
    assert_eq!(pair.connected(tcpip("localhost", 8_022)), PROHIBITED);
    let received = global_request(&mut pair.server).unwrap();
    assert_eq!(received.kind, GlobalRequestKind::CancelForward(bound));
    answer(
        &mut pair.server,
        &received.token.unwrap(),
        Answer::Accept(b""),
    )
    .unwrap();
    pair.run();
    assert_eq!(replies(&mut pair.client), [(cancel, Some(vec![]))]);
    assert_eq!(pair.client.channels.forward(request), None);
    let again = pair
        .client
        .with(|channels, cx| channels.cancel_forward(request, cx));
    assert!(matches!(again, Err(Misuse::Argument(_))));
}

#[test]
fn a_unix_socket_is_matched_by_its_path() {
    let mut pair = Pair::new();
    let request = pair.forward(ForwardAddress::streamlocal(*b"/tmp/\xff.sock"), 0);
    let kind = OpenKind::ForwardedStreamlocal {
        forward: request,
        path: b"/tmp/\xff.sock".to_vec(),
    };
    let path = |path| OpenChannel::ForwardedStreamlocal { path };
    assert_eq!(pair.connected(path(b"/tmp/\xff.sock")), Ok(kind));
    assert_eq!(pair.connected(path(b"/tmp/other")), PROHIBITED);
    assert_eq!(pair.connected(tcpip("localhost", 1)), PROHIBITED);
}

#[test]
fn an_exact_address_goes_before_one_that_covers_it() {
    let mut pair = Pair::new();
    let all = pair.forward(ForwardAddress::tcpip("", 80), 80);
    let one = pair.forward(ForwardAddress::tcpip("192.0.2.1", 80), 80);
    let of = |kind| match kind {
        Ok(OpenKind::ForwardedTcpip { forward, .. }) => forward,
        other => panic!("{other:?}"),
    };
    assert_eq!(of(pair.connected(tcpip("192.0.2.1", 80))), one);
    assert_eq!(of(pair.connected(tcpip("192.0.2.2", 80))), all);
}

#[test]
fn a_client_refuses_what_it_did_not_ask_for_and_what_was_not_granted() {
    let mut pair = Pair::new();
    assert_eq!(pair.connected(tcpip("localhost", 80)), PROHIBITED);
    let request = pair.ask(ForwardAddress::tcpip("localhost", 80));
    // The question is open: nothing is granted.
    assert_eq!(pair.client.channels.forward(request), None);
    assert_eq!(pair.connected(tcpip("localhost", 80)), PROHIBITED);
    let token = global_request(&mut pair.server).unwrap().token.unwrap();
    answer(&mut pair.server, &token, Answer::Refuse).unwrap();
    pair.run();
    assert_eq!(replies(&mut pair.client), [(request, None)]);
    assert_eq!(pair.connected(tcpip("localhost", 80)), PROHIBITED);
    for kind in [
        "x11",
        "auth-agent@openssh.com",
        "direct-streamlocal@openssh.com",
    ] {
        let kind = OpenChannel::Custom { kind, data: b"" };
        assert!(pair.connected(kind).is_err());
    }
    assert_eq!(pair.client.channels.slots.len(), 0);
    // Nor does it listen for a server.
    let open = msg::GlobalRequest {
        request_name: "tcpip-forward",
        want_reply: true,
        data: Rest(b"\0\0\0\0\0\0\0\x50"),
    };
    pair.client.receives(&open).unwrap();
    assert_eq!(pair.client.numbers(), [82]);
}

#[test]
fn listeners_are_bounded_on_both_sides() {
    let limits = Limits {
        forwards: 2,
        ..Limits::default()
    };
    let mut pair = Pair::with(limits, &Extensions::default());
    let first = pair.forward(ForwardAddress::tcpip("", 1), 1);
    pair.forward(ForwardAddress::streamlocal(*b"/a"), 0);
    let third = ForwardAddress::tcpip("", 3);
    let refused = pair
        .client
        .with(|channels, cx| channels.request_forward(third.clone(), cx));
    assert_eq!(refused, Err(Misuse::Limit("forwards")));
    // A client that asks nevertheless.
    let (request_name, data) = third.encode(false);
    let ask = msg::GlobalRequest {
        request_name,
        want_reply: true,
        data: Rest(&data),
    };
    pair.server.receives(&ask).unwrap();
    assert_eq!(pair.server.numbers(), [82]);
    assert!(global_request(&mut pair.server).is_none());
    // Questions count as well.
    pair.client
        .with(|channels, cx| channels.cancel_forward(first, cx))
        .unwrap();
    pair.run();
    pair.server.receives(&ask).unwrap();
    pair.server.receives(&ask).unwrap();
    assert_eq!(pair.server.channels.shared.globals.forwards.len(), 2);
}

#[test]
fn only_what_is_there_can_be_cancelled() {
    let mut pair = Pair::new();
    pair.forward(ForwardAddress::tcpip("localhost", 80), 80);
    for other in [
        ForwardAddress::tcpip("localhost", 81),
        ForwardAddress::tcpip("", 80),
        ForwardAddress::streamlocal(*b"localhost"),
    ] {
        let (request_name, data) = other.encode(true);
        let cancel = msg::GlobalRequest {
            request_name,
            want_reply: true,
            data: Rest(&data),
        };
        pair.server.receives(&cancel).unwrap();
        assert_eq!(pair.server.numbers(), [82], "{other}");
        assert!(global_request(&mut pair.server).is_none());
    }
    // Without a wish for a reply, as OpenSSH does.
    let (request_name, data) = ForwardAddress::tcpip("localhost", 80).encode(true);
    let cancel = msg::GlobalRequest {
        request_name,
        want_reply: false,
        data: Rest(&data),
    };
    pair.server.receives(&cancel).unwrap();
    let received = global_request(&mut pair.server).unwrap();
    assert!(received.token.is_none());
    assert!(matches!(received.kind, GlobalRequestKind::CancelForward(_)));
    assert!(pair.server.numbers().is_empty());
}

#[test]
fn a_port_is_a_port_in_requests_and_in_replies() {
    let mut pair = Pair::new();
    let ask = |pair: &mut Pair, port: u32, want_reply| {
        let mut data = b"\0\0\0\0".to_vec();
        data.extend(port.to_be_bytes());
        let request = msg::GlobalRequest {
            request_name: "tcpip-forward",
            want_reply,
            data: Rest(&data),
        };
        pair.server.receives(&request).unwrap();
        (global_request(&mut pair.server), pair.server.numbers())
    };
    let (request, numbers) = ask(&mut pair, 65_535, true);
    let request = request.unwrap();
    assert_eq!(
        request.kind,
        GlobalRequestKind::Forward(ForwardAddress::tcpip("", 65_535))
    );
    assert!(numbers.is_empty());
    answer(&mut pair.server, &request.token.unwrap(), Answer::Refuse).unwrap();
    assert_eq!(pair.server.numbers(), [82]);
    assert_eq!(ask(&mut pair, 65_536, true), (None, vec![82]));
    // Who wants no reply would not know: it is not granted.
    assert_eq!(ask(&mut pair, 80, false), (None, vec![]));
    for data in [&b""[..], &[0; 4], &[0, 1, 0, 0]] {
        let (request, _) = ask(&mut pair, 0, true);
        let token = request.unwrap().token.unwrap();
        assert!(matches!(
            answer(&mut pair.server, &token, Answer::Accept(data)),
            Err(Misuse::Argument(_))
        ));
        assert_eq!(pair.server.numbers(), [82]);
    }
    // The last port there is.
    let (request, _) = ask(&mut pair, 0, true);
    let last = Answer::Accept(&[0, 0, 255, 255]);
    answer(&mut pair.server, &request.unwrap().token.unwrap(), last).unwrap();
    assert_eq!(pair.server.numbers(), [81]);
    let broken = msg::GlobalRequest {
        request_name: "tcpip-forward",
        want_reply: true,
        data: Rest(b"\0\0\0\x05a"),
    };
    assert!(matches!(
        pair.server.receives(&broken),
        Err(Error::Peer(PeerError::Malformed {
            message: 80,
            field: "address to bind",
            ..
        }))
    ));

    // A server that forgets the port, or names none that there is.
    for (data, is_port) in [
        (&[0, 0, 255, 255][..], true),
        (&[0, 1, 0, 0], false),
        (b"", false),
    ] {
        pair.ask(ForwardAddress::tcpip("", 0));
        let outcome = pair
            .client
            .receives(&msg::RequestSuccess { data: Rest(data) });
        if is_port {
            assert_eq!(outcome, Ok(()));
            continue;
        }
        assert!(matches!(
            outcome,
            Err(Error::Peer(PeerError::Malformed { message: 81, .. }))
        ));
    }
}

#[test]
fn each_role_opens_its_own_kinds() {
    let mut pair = Pair::new();
    let path = OpenChannel::DirectStreamlocal { path: b"/run/x" };
    pair.client
        .with(|channels, cx| channels.open(path, cx))
        .unwrap();
    pair.run();
    let expected = OpenKind::DirectStreamlocal {
        path: b"/run/x".to_vec(),
    };
    assert_eq!(open_request(&mut pair.server).kind(), &expected);
    let refused = |end: &mut End, kind| {
        matches!(
            end.with(|channels, cx| channels.open(kind, cx)),
            Err(Misuse::Argument(_))
        )
    };
    assert!(refused(&mut pair.server, path));
    assert!(refused(&mut pair.client, tcpip("", 1)));
    let forwarded = OpenChannel::ForwardedStreamlocal { path: b"/run/x" };
    assert!(refused(&mut pair.client, forwarded));
    let broken = msg::ChannelOpen {
        channel_type: "direct-streamlocal@openssh.com",
        sender_channel: 1,
        initial_window_size: 1,
        maximum_packet_size: 1,
        data: Rest(b"\0\0\0\x01a\0\0\0\0"),
    };
    assert!(pair.server.receives(&broken).is_err());
}

#[test]
fn no_more_sessions_holds_on_both_sides() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    pair.client
        .with(|channels, cx| channels.no_more_sessions(cx))
        .unwrap();
    let open = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx));
    assert!(matches!(open, Err(Misuse::Argument(_))));
    pair.run();
    let session = msg::ChannelOpen {
        channel_type: "session",
        sender_channel: 9,
        initial_window_size: 1,
        maximum_packet_size: 1,
        data: Rest(b""),
    };
    pair.server.receives(&session).unwrap();
    let sent = pair.server.sent();
    let failure = msg::ChannelOpenFailure::decode(&sent[0]).unwrap();
    assert_eq!(failure.reason_code, 1);
    // The one that is open goes on.
    assert_eq!(pair.server.server(peer).write(Stream::DATA, b"more"), Ok(4));
    // A reply is given to who wants one; a server may not say such a thing.
    let said = msg::GlobalRequest {
        request_name: "no-more-sessions@openssh.com",
        want_reply: true,
        data: Rest(b""),
    };
    let mut other = Pair::new();
    other.server.receives(&said).unwrap();
    assert_eq!(other.server.numbers(), [81]);
    other.client.receives(&said).unwrap();
    assert_eq!(other.client.numbers(), [82]);
}

#[test]
fn end_of_write_arrives_in_both_directions_and_on_any_channel() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    pair.client.client(local).end_of_write().unwrap();
    pair.server.server(peer).end_of_write().unwrap();
    pair.run();
    assert_eq!(pair.server.events_of(peer), [ChannelEvent::EndOfWrite]);
    assert_eq!(pair.client.events_of(local), [ChannelEvent::EndOfWrite]);
    assert_eq!(pair.server.server(peer).write(Stream::DATA, b"x"), Ok(1));
    let broken = request(peer, "eow@openssh.com", false, b"x");
    assert!(pair.server.receive(&broken).is_err());
}
