//! Every bound is reached, and nothing grows without one.

use super::*;

fn limited(change: impl FnOnce(&mut Limits)) -> Pair {
    let mut limits = Limits::default();
    change(&mut limits);
    Pair::with(limits, &Extensions::default())
}

#[test]
fn pending_opens_and_channels_are_bounded() {
    let mut pair = limited(|limits| {
        limits.pending_opens = 2;
        limits.channels = 3;
    });
    let open = |pair: &mut Pair| {
        pair.client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx))
    };
    open(&mut pair).unwrap();
    open(&mut pair).unwrap();
    assert_eq!(open(&mut pair), Err(Misuse::Limit("pending_opens")));
    let mut pair = limited(|limits| limits.channels = 3);
    for _ in 0..3 {
        pair.session();
    }
    assert_eq!(open(&mut pair), Err(Misuse::Limit("channels")));
    // The other side does not take the word of the first for it.
    let another = msg::ChannelOpen {
        channel_type: "session",
        sender_channel: 7,
        initial_window_size: 1,
        maximum_packet_size: 1,
        data: Rest(b""),
    };
    pair.server.receives(&another).unwrap();
    assert_eq!(pair.server.numbers(), [92]);
}

#[test]
fn unanswered_requests_of_either_side_are_bounded() {
    let mut pair = limited(|limits| {
        limits.pending_requests = 3;
        limits.open_questions = 2;
    });
    let (local, peer) = pair.session();
    let full = Err(Misuse::Limit("pending_requests"));
    for _ in 0..3 {
        pair.client.client(local).send_break(1).unwrap();
    }
    assert_eq!(pair.client.client(local).send_break(1), full);
    pair.run();
    // The third was refused by the library, behind the two that are open.
    assert!(pair.client.events_of(local).is_empty());
    let mut asked = tokens(pair.server.events_of(peer));
    assert_eq!(asked.len(), 2);
    for token in asked.drain(..) {
        pair.server.server(peer).reply(token, true).unwrap();
    }
    pair.run();
    // Answers that were not taken count.
    assert_eq!(pair.client.client(local).send_break(1), full);
    assert_eq!(pair.client.events_of(local).len(), 3);
    pair.client.client(local).send_break(1).unwrap();

    for _ in 0..3 {
        let global = pair
            .client
            .with(|channels, cx| channels.global_request("a", b"", true, cx));
        global.unwrap();
    }
    let global = pair
        .client
        .with(|channels, cx| channels.global_request("a", b"", true, cx));
    assert_eq!(global, full);
}

#[test]
fn requests_that_wait_for_an_open_are_bounded() {
    let mut pair = limited(|limits| limits.pending_requests = 3);
    let local = pair
        .client
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    for _ in 0..3 {
        pair.client.client(local).signal(&Signal::INT).unwrap();
    }
    let full = pair.client.client(local).signal(&Signal::INT);
    assert_eq!(full, Err(Misuse::Limit("pending_requests")));
}

#[test]
fn requests_without_reply_cannot_pile_up() {
    let mut pair = limited(|limits| {
        limits.open_questions = 4;
        limits.env_variables = 20;
    });
    let (_, peer) = pair.session();
    for columns in 0..100_u8 {
        let mut size = [0; 16];
        size[3] = columns;
        for (name, fields) in [
            ("window-change", &size[..]),
            ("env", &[0; 8]),
            ("signal", b"\0\0\0\x03INT"),
        ] {
            pair.server
                .receive(&request(peer, name, false, fields))
                .unwrap();
        }
    }
    let events = pair.server.events_of(peer);
    let count = |wanted: fn(&ChannelRequest) -> bool| {
        events
            .iter()
            .filter(|event| {
                matches!(event, ChannelEvent::Requested { request, token: None } if wanted(request))
            })
            .count()
    };
    assert_eq!(count(|r| matches!(r, ChannelRequest::Env { .. })), 20);
    assert_eq!(count(|r| matches!(r, ChannelRequest::Signal(_))), 3);
    let sizes = count(|r| matches!(r, ChannelRequest::WindowChange(size) if size.columns == 99));
    assert_eq!(
        (sizes, events.len()),
        (1, 24),
        "the last size is what counts"
    );
    pair.server
        .receive(&request(peer, "env", true, &[0; 8]))
        .unwrap();
    assert_eq!(pair.server.numbers(), [100]);
}

#[test]
fn refusals_behind_an_open_question_are_bounded() {
    let mut pair = limited(|limits| limits.open_questions = 2);
    let (_, peer) = pair.session();
    pair.server
        .receive(&request(peer, "shell", true, b""))
        .unwrap();
    let keepalive = request(peer, "keepalive@openssh.com", true, b"");
    // 64 for each question that may be open, and 64 more.
    for _ in 0..3 * 64 {
        assert_eq!(pair.server.receive(&keepalive), Ok(()));
    }
    assert_eq!(
        pair.server.receive(&keepalive),
        Err(PeerError::Limit("requests behind an unanswered one").into())
    );
    let footprint = pair.server.footprint();
    assert!(footprint < 2_000, "{footprint}");
}

#[test]
fn messages_that_nobody_asked_for_are_counted() {
    let mut pair = limited(|limits| limits.stray_messages = 5);
    let (local, _) = pair.session();
    let channel = local.slot;
    let strays: [Vec<u8>; 5] = [
        msg::ChannelSuccess {
            recipient_channel: channel,
        }
        .to_payload(),
        msg::ChannelFailure {
            recipient_channel: channel,
        }
        .to_payload(),
        msg::RequestSuccess { data: Rest(b"x") }.to_payload(),
        msg::RequestFailure {}.to_payload(),
        msg::ChannelWindowAdjust {
            recipient_channel: channel,
            bytes_to_add: 0,
        }
        .to_payload(),
    ];
    for stray in &strays {
        pair.client.receive(stray).unwrap();
    }
    assert!(matches!(
        pair.client.receive(&strays[0]),
        Err(Error::Peer(PeerError::Limit(_)))
    ));
    assert!(pair.client.events_of(local).is_empty());
}

#[test]
fn replies_that_a_key_exchange_holds_back_are_bounded() {
    let mut pair = limited(|limits| limits.deferred_len = 1_000);
    let (_, peer) = pair.session();
    pair.server.shut_gate();
    let keepalive = request(peer, "keepalive@openssh.com", true, b"");
    let outcome = (0..1_000).try_for_each(|_| pair.server.receive(&keepalive));
    assert!(matches!(outcome, Err(Error::Peer(PeerError::Limit(_)))));
}

#[test]
fn windows_stay_within_the_budget() {
    let mut pair = limited(|limits| limits.window_budget = 8 * 1024 * 1024);
    let (first, _) = pair.session();
    let mut windows = vec![pair.client.client(first).receive_window()];
    for _ in 0..20 {
        let (local, _) = pair.session();
        windows.push(pair.client.client(local).receive_window());
    }
    assert_eq!(windows[0], 512 * 1024, "an eighth of half");
    assert!(windows.is_sorted_by(|a, b| a >= b));
    assert!(windows.iter().sum::<u32>() <= 8 * 1024 * 1024);
    // The caller's wish has to fit, too.
    pair.client.client(first).set_receive_window(u32::MAX);
    let all: u32 = windows[1..].iter().sum::<u32>() + pair.client.client(first).receive_window();
    let to_come = 1_003 * 4 * 1024;
    assert_eq!(all, 8 * 1024 * 1024 - to_come);
    // A channel that is gone gives its share back.
    pair.client.client(first).release();
    pair.run();
    let (again, _) = pair.session();
    assert!(pair.client.client(again).receive_window() > windows[20]);
}

#[test]
fn as_many_channels_as_there_may_be_share_the_budget_and_each_has_a_window() {
    let mut pair = Pair::new();
    let limits = pair.client.limits;
    let windows: Vec<u32> = (0..limits.channels)
        .map(|_| {
            let (local, peer) = pair.session();
            let windows = [
                pair.client.client(local).receive_window(),
                pair.server.server(peer).receive_window(),
            ];
            assert_eq!(windows[0], windows[1], "both ends have the same limits");
            windows[0]
        })
        .collect();
    assert_eq!(windows[0], 2 * 1024 * 1024);
    assert_eq!(windows.last(), Some(&(32 * 1024)));
    let all: u32 = windows.iter().sum();
    assert!(all <= limits.window_budget, "{all}");
    assert!(
        all > limits.window_budget / 10 * 9,
        "{all} of the budget is used"
    );
}

/// One session, used and closed by both sides.
fn cycle(pair: &mut Pair) {
    let (local, peer) = pair.session();
    let start = pair.client.client(local).start(Program::Shell);
    start.unwrap();
    pair.run();
    for token in tokens(pair.server.events_of(peer)) {
        pair.server.server(peer).reply(token, true).unwrap();
    }
    let mut channel = pair.server.server(peer);
    channel.write(Stream::DATA, &[7; 3_000]).unwrap();
    channel.send_exit_status(0).unwrap();
    channel.release();
    pair.run();
    pair.client.client(local).release();
    pair.client.notices();
    pair.server.notices();
}

#[test]
fn a_hundred_thousand_sessions_leave_nothing_behind() {
    let mut pair = Pair::new();
    (0..100).for_each(|_| cycle(&mut pair));
    let before = (pair.client.footprint(), pair.server.footprint());
    (0..100_000).for_each(|_| cycle(&mut pair));
    let after = (pair.client.footprint(), pair.server.footprint());
    assert_eq!(before, after);
    assert_eq!(pair.client.channels.slots.len(), 0);
}

#[test]
fn refused_opens_and_unknown_requests_leave_nothing_behind() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    let open = msg::ChannelOpen {
        channel_type: "unknown",
        sender_channel: 7,
        initial_window_size: 1,
        maximum_packet_size: 1,
        data: Rest(b""),
    };
    let refused = |pair: &mut Pair| {
        pair.server.receives(&open).unwrap();
        let unknown = request(peer, "unknown", true, b"");
        pair.server.receive(&unknown).unwrap();
        assert_eq!(pair.server.numbers(), [92, 100]);
    };
    refused(&mut pair);
    let before = pair.server.footprint();
    (0..100_000).for_each(|_| refused(&mut pair));
    assert_eq!(before, pair.server.footprint());
}

#[test]
fn a_channel_that_was_not_accepted_changes_no_share_of_the_budget() {
    let mut pair = Pair::new();
    pair.session();
    let budget = |pair: &Pair| pair.server.channels.shared.budget(&pair.server.limits);
    let before = budget(&pair);
    for _ in 0..3 {
        let asked = pair
            .client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx));
        asked.unwrap();
        pair.run();
        let request = open_request(&mut pair.server);
        assert_eq!(budget(&pair), before);
        let reason = OpenFailureReason::RESOURCE_SHORTAGE;
        let refused = pair
            .server
            .with(|channels, cx| channels.refuse_open(&request, reason, "", cx));
        refused.unwrap();
        pair.run();
        assert_eq!(budget(&pair), before);
    }
}

#[test]
fn an_end_that_is_told_again_and_again_is_kept_once() {
    let mut pair = Pair::new();
    let (local, _) = pair.session();
    let status = request(local, "exit-status", false, &[0, 0, 0, 7]);
    let mut fields = Vec::new();
    crate::wire::Writer::new(&mut fields)
        .string(b"SEGV")
        .boolean(true)
        .string(&[b'x'; 4_096])
        .string(b"");
    let signal = request(local, "exit-signal", false, &fields);
    let told = |pair: &mut Pair, count| {
        for _ in 0..count {
            pair.client.receive(&status).unwrap();
            pair.client.receive(&signal).unwrap();
        }
        pair.client.footprint()
    };
    let before = told(&mut pair, 1);
    assert_eq!(told(&mut pair, 100_000), before);
    // The first one counts, and the channel goes on as it would have.
    let events = pair.client.events_of(local);
    assert_eq!(events, [ChannelEvent::ExitStatus(7)]);
    assert!(pair.client.numbers().is_empty());
    pair.client.client(local).write(Stream::DATA, b"x").unwrap();
}

#[test]
fn an_idle_channel_is_small() {
    let slot = size_of::<state::State>();
    let all = size_of::<Channels>();
    assert!(
        slot <= 640 && all <= 800,
        "{slot} for each channel, {all} for all"
    );
}
