//! Data: windows, packets, who may write, and what is copied.

use super::*;
use crate::channel::recv::counter::copied;
use crate::limits::{PACKET_DATA_LEN, SPARE_BLOCKS};

fn adjust(channel: ChannelId, bytes_to_add: u32) -> Vec<u8> {
    msg::ChannelWindowAdjust {
        recipient_channel: channel.slot,
        bytes_to_add,
    }
    .to_payload()
}

#[test]
fn bulk_data_is_copied_once_on_its_way_down_and_never_on_its_way_up() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let block: Vec<u8> = (0..=255).cycle().take(32 * 1024).collect();
    let before = copied();
    let (mut sent, mut received) = (0, 0);
    while sent < 64 * 1024 * 1024 {
        while let Ok(len) = pair
            .server
            .server(peer)
            .write(Stream::DATA, &block[sent % 256..])
        {
            sent += len;
        }
        deliver(&mut pair.server, &mut pair.client, 64 * 1024).unwrap();
        let mut channel = pair.client.client(local);
        loop {
            let chunk = channel.chunk(Stream::DATA);
            let len = chunk.len();
            if len == 0 {
                break;
            }
            assert_eq!(usize::from(chunk[0]), received % 256);
            assert_eq!(usize::from(chunk[len - 1]), (received + len - 1) % 256);
            received += len;
            channel.consume(Stream::DATA, len);
        }
        deliver(&mut pair.client, &mut pair.server, 64 * 1024).unwrap();
    }
    pair.run();
    received += pair.client.client(local).readable(Stream::DATA);
    assert_eq!(received, sent);
    assert_eq!(copied() - before, sent as u64);
}

#[test]
fn small_remains_of_a_large_block_do_not_keep_it() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    pair.client.channels.trim();
    for i in 0..100 {
        pair.server
            .server(peer)
            .write(Stream::DATA, &[i; 10])
            .unwrap();
        pair.run();
    }
    // Each came in a block of 64 KiB.
    let footprint = pair.client.footprint();
    assert!(footprint < 4_096, "{footprint}");
    let mut channel = pair.client.client(local);
    assert_eq!(channel.chunk(Stream::DATA).len(), 1_000, "in one piece");
    let mut all = [0; 2_000];
    assert_eq!(channel.read(Stream::DATA, &mut all), 1_000);
    assert!(
        all[..1_000]
            .chunks(10)
            .enumerate()
            .all(|(i, ten)| ten == [i as u8; 10])
    );
}

#[test]
fn a_slow_reader_beside_a_fast_one_does_not_pin_blocks() {
    let mut pair = Pair::new();
    let (slow, peer_slow) = pair.session();
    let (fast, peer_fast) = pair.session();
    let mut unread = 0;
    for _ in 0..600 {
        unread += pair
            .server
            .server(peer_slow)
            .write(Stream::DATA, &[1; 3_000])
            .unwrap();
        let mut channel = pair.server.server(peer_fast);
        while channel.write(Stream::DATA, &[2; 16 * 1024]).is_ok() {}
        pair.run();
        pair.client.client(fast).consume(Stream::DATA, usize::MAX);
        pair.run();
    }
    assert_eq!(pair.client.client(slow).readable(Stream::DATA), unread);
    let footprint = pair.client.footprint();
    assert!(
        footprint < 3 * unread + 512 * 1024,
        "{footprint} for {unread}"
    );
    let mut buf = vec![0; unread + 1];
    assert_eq!(
        pair.client.client(slow).read(Stream::DATA, &mut buf),
        unread
    );
    assert!(buf[..unread].iter().all(|byte| *byte == 1));
    pair.client.channels.trim();
    assert!(pair.client.footprint() < 100);
}

#[test]
fn trimming_keeps_unread_data_and_little_else() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let sent: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    pair.server.server(peer).write(Stream::DATA, &sent).unwrap();
    pair.run();
    assert!(pair.client.footprint() > 60_000);
    pair.client.channels.trim();
    let footprint = pair.client.footprint();
    assert!(footprint < 5_200, "{footprint}");
    assert_eq!(pair.client.client(local).chunk(Stream::DATA), sent);
}

#[test]
fn the_blocks_of_a_burst_serve_the_next_one_up_to_a_bound() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    pair.client.channels.trim();
    pair.client
        .client(local)
        .set_receive_window(4 * 1024 * 1024);
    pair.run();
    // Two packets in each block, until the window is full.
    let two = 2 * PACKET_DATA_LEN;
    while pair
        .server
        .server(peer)
        .write(Stream::DATA, &vec![0; two])
        .is_ok()
    {
        deliver(&mut pair.server, &mut pair.client, 64 * 1024).unwrap();
    }
    let mut channel = pair.client.client(local);
    assert!(channel.readable(Stream::DATA) > SPARE_BLOCKS * two);
    channel.consume(Stream::DATA, usize::MAX);
    let spare = std::iter::from_fn(|| pair.client.channels.spare());
    assert_eq!(spare.count(), SPARE_BLOCKS);
}

#[test]
fn packets_keep_to_window_and_packet_size() {
    let mut end = Pair::new().client;
    let local = end
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    end.sent();
    end.receives(&msg::ChannelOpenConfirmation {
        recipient_channel: local.slot,
        sender_channel: 5,
        initial_window_size: 250,
        maximum_packet_size: 100,
        data: Rest(b""),
    })
    .unwrap();
    assert_eq!(end.client(local).max_packet(), 100);
    assert_eq!(end.client(local).write(Stream::STDERR, &[1; 300]), Ok(250));
    assert_eq!(
        end.client(local).write(Stream::DATA, &[1; 50]),
        Err(WriteError::Blocked)
    );
    let lens: Vec<usize> = end
        .sent()
        .iter()
        .map(|payload| {
            let data = msg::ChannelExtendedData::decode(payload).unwrap();
            assert_eq!((data.recipient_channel, data.data_type_code), (5, 1));
            data.data.len()
        })
        .collect();
    assert_eq!(lens, [100, 100, 50]);
    end.events_of(local);
    end.notices();
    end.receive(&adjust(local, 10)).unwrap();
    assert_eq!(end.events_of(local), [ChannelEvent::Writable]);
    let parts: [&[u8]; 4] = [b"abc", b"", b"defgh", b"ijklmn"];
    assert_eq!(end.client(local).write_parts(Stream::DATA, &parts), Ok(10));
    let payload = end.sent().remove(0);
    assert_eq!(
        msg::ChannelData::decode(&payload).unwrap().data,
        b"abcdefghij"
    );
    end.receive(&adjust(local, u32::MAX)).unwrap();
    let overflow = PeerError::WindowOverflow {
        channel: local.slot,
    };
    assert_eq!(end.receive(&adjust(local, 1)), Err(overflow.into()));
}

#[test]
fn data_beyond_window_or_packet_size_is_an_error_and_empty_data_is_none() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    pair.server.receive(&data(peer, b"")).unwrap();
    assert!(pair.server.events_of(peer).is_empty());
    let beyond: Result<(), Error> = Err(PeerError::Window { channel: peer.slot }.into());
    let packet = data(peer, &[0; 32 * 1024 + 1]);
    assert_eq!(pair.server.receive(&packet), beyond);
    pair.server.server(peer).set_receive_window(65_536);
    let full = data(peer, &[0; 32 * 1024]);
    let outcome = (0..64).try_for_each(|_| pair.server.receive(&full));
    assert_eq!(outcome, Ok(()), "what was granted stays granted");
    assert_eq!(pair.server.receive(&data(peer, b"x")), beyond);
}

#[test]
fn what_nobody_reads_is_credited_at_once() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    pair.server.server(peer).discard(Stream::STDERR);
    let mut credit = 0;
    for code in [1, 0, 7, u32::MAX] {
        for _ in 0..32 {
            pair.server
                .receives(&msg::ChannelExtendedData {
                    recipient_channel: peer.slot,
                    data_type_code: code,
                    data: &[0; 32 * 1024],
                })
                .unwrap();
        }
        for payload in pair.server.sent() {
            credit += msg::ChannelWindowAdjust::decode(&payload)
                .unwrap()
                .bytes_to_add;
        }
    }
    assert_eq!(credit, 4 * 32 * 32 * 1024);
    assert!(pair.server.events_of(peer).is_empty());
    assert_eq!(pair.server.server(peer).chunk(Stream(7)), b"");
    assert_eq!(pair.server.server(peer).readable(Stream(0xffff_ffff)), 0);
}

#[test]
fn data_is_announced_when_a_stream_stops_being_empty() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let announced = [ChannelEvent::Data(Stream::DATA)];
    for _ in 0..3 {
        for _ in 0..3 {
            pair.server.server(peer).write(Stream::DATA, b"ab").unwrap();
            pair.run();
        }
        assert_eq!(pair.client.notices().len(), 1);
        assert_eq!(pair.client.events_of(local), announced);
        let mut channel = pair.client.client(local);
        channel.consume(Stream::DATA, 5);
        pair.server.server(peer).write(Stream::DATA, b"c").unwrap();
        pair.run();
        assert!(pair.client.notices().is_empty(), "it was not empty");
        // Both were copied out of their blocks, to the same place.
        let rest = pair
            .client
            .client(local)
            .take(Stream::DATA)
            .map(|taken| taken.to_vec());
        assert_eq!(rest.unwrap(), b"bc");
        assert!(pair.client.client(local).take(Stream::DATA).is_none());
    }
}

#[test]
fn stderr_is_combined_in_arrival_order() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let say = |pair: &mut Pair, stream, text: &[u8]| {
        pair.server.server(peer).write(stream, text).unwrap();
    };
    say(&mut pair, Stream::STDERR, b"early ");
    pair.run();
    pair.client.client(local).combine_stderr();
    for (stream, text) in [
        (Stream::DATA, b"out "),
        (Stream::STDERR, b"err "),
        (Stream::DATA, b"end."),
    ] {
        say(&mut pair, stream, text);
    }
    pair.run();
    assert_eq!(
        pair.client.events_of(local),
        [ChannelEvent::Data(Stream::DATA)]
    );
    let mut channel = pair.client.client(local);
    assert_eq!(
        channel.readable(Stream::STDERR),
        channel.readable(Stream::DATA)
    );
    let mut buf = [0; 64];
    let len = channel.read(Stream::DATA, &mut buf);
    assert_eq!(&buf[..len], b"early out err end.");
}

#[test]
fn a_full_output_blocks_data_and_its_room_goes_to_the_first_in_line() {
    let mut pair = Pair::new();
    let sessions: Vec<_> = (0..4).map(|_| pair.session().0).collect();
    let big = vec![0; 256 * 1024];
    let client = &mut pair.client;
    let mut taken = 0;
    while let Ok(len) = client.client(sessions[0]).write(Stream::DATA, &big) {
        taken += len;
    }
    assert!(
        taken > 2 * PACKET_DATA_LEN - 1_024 && taken < 65_480,
        "{taken}"
    );
    for id in &sessions[1..] {
        let blocked = client.client(*id).write(Stream::DATA, &big);
        assert_eq!(blocked, Err(WriteError::Blocked));
    }
    let mut turns = Vec::new();
    for _ in 0..4 {
        client.sent();
        let listed: Vec<_> = client
            .notices()
            .into_iter()
            .filter_map(|notice| match notice {
                Notice::Channel(id) => Some(id),
                _ => None,
            })
            .collect();
        assert_eq!(listed.len(), 1, "only as many as the room can serve");
        let id = listed[0];
        assert_eq!(client.events_of(id), [ChannelEvent::Writable]);
        for other in sessions.iter().filter(|other| **other != id) {
            let others = client.client(*other).write(Stream::DATA, &big);
            assert_eq!(others, Err(WriteError::Blocked), "it is not their turn");
        }
        client.client(id).write(Stream::DATA, &big).unwrap();
        turns.push(id);
    }
    assert_eq!(turns, sessions);
}

#[test]
fn small_writers_are_served_together_and_one_that_does_not_come_loses_its_turn() {
    let mut pair = Pair::new();
    let sessions: Vec<_> = (0..5).map(|_| pair.session().0).collect();
    let client = &mut pair.client;
    let big = vec![0; 256 * 1024];
    while client.client(sessions[0]).write(Stream::DATA, &big).is_ok() {}
    for id in &sessions[1..] {
        _ = client.client(*id).write(Stream::DATA, &[1; 100]);
    }
    client.sent();
    // The first wants all the room, and does not come.
    assert_eq!(client.events_of(sessions[0]), [ChannelEvent::Writable]);
    assert_eq!(client.events_of(sessions[1]), []);
    let recheck = client.channels.poll_timeout(client.now).unwrap();
    client.wait(recheck - client.now);
    for id in &sessions[1..] {
        assert_eq!(client.events_of(*id), [ChannelEvent::Writable]);
        assert_eq!(client.client(*id).write(Stream::DATA, &[1; 100]), Ok(100));
    }
    assert_eq!(client.channels.poll_timeout(client.now), None);
}

#[test]
fn a_lost_turn_is_lost_in_time_whatever_else_happens_meanwhile() {
    let mut pair = Pair::new();
    let sessions: Vec<_> = (0..3).map(|_| pair.session().0).collect();
    let client = &mut pair.client;
    let big = vec![0; 256 * 1024];
    while client.client(sessions[0]).write(Stream::DATA, &big).is_ok() {}
    _ = client.client(sessions[1]).write(Stream::DATA, &big);
    client.sent();
    // The first wants all the room, and does not come.
    assert_eq!(client.events_of(sessions[0]), [ChannelEvent::Writable]);
    for _ in 0..12 {
        client.wait(Duration::from_millis(1));
        // Traffic of another channel.
        client.receive(&adjust(sessions[2], 1)).unwrap();
    }
    assert_eq!(client.events_of(sessions[1]), [ChannelEvent::Writable]);
}

#[test]
fn writers_that_leave_the_line_leave_nothing_behind_and_keep_nobody_from_its_place() {
    let mut pair = Pair::new();
    let sessions: Vec<_> = (0..4).map(|_| pair.session().0).collect();
    let client = &mut pair.client;
    let big = vec![0; 256 * 1024];
    while client.client(sessions[0]).write(Stream::DATA, &big).is_ok() {}
    _ = client.client(sessions[3]).write(Stream::DATA, &big);
    let footprint = client.footprint();
    let mut local = [sessions[1], sessions[2]];
    for _ in 0..10_000 {
        // Two take turns to wait, and to find another reason to.
        _ = client.client(local[0]).write(Stream::DATA, &big);
        client.with(|channels, _| {
            let (state, shared) = channels.split(local[1]).unwrap();
            state.give_up_writing(shared);
        });
        local.reverse();
        client.with(|channels, cx| channels.serve_writers(&table::Io::of(cx)));
    }
    assert!(
        client.footprint() < footprint + 100,
        "{}",
        client.footprint()
    );
    let mut turns = Vec::new();
    for _ in 0..2 {
        client.sent();
        for id in &sessions {
            if client.events_of(*id) == [ChannelEvent::Writable] {
                turns.push(*id);
                client.client(*id).write(Stream::DATA, &big).unwrap();
            }
        }
    }
    assert_eq!(turns, [sessions[0], sessions[3]]);
}

#[test]
fn an_end_that_gives_up_writing_leaves_its_turn_to_the_next() {
    let mut pair = Pair::new();
    let sessions: Vec<_> = (0..2).map(|_| pair.session().0).collect();
    let client = &mut pair.client;
    let big = vec![0; 256 * 1024];
    for id in &sessions {
        while client.client(*id).write(Stream::DATA, &big).is_ok() {}
    }
    client.sent();
    assert_eq!(client.events_of(sessions[0]), [ChannelEvent::Writable]);
    assert_eq!(client.events_of(sessions[1]), []);
    client.client(sessions[0]).eof();
    assert_eq!(client.events_of(sessions[1]), [ChannelEvent::Writable]);
}

#[test]
fn each_stream_of_a_channel_has_a_place_of_its_own() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    let (_, other) = pair.session();
    let server = &mut pair.server;
    let big = vec![0; 256 * 1024];
    while server.server(other).write(Stream::DATA, &big).is_ok() {}
    let streams = [Stream::STDERR, Stream(7), Stream::DATA];
    for stream in streams {
        let blocked = server.server(peer).write(stream, &big);
        assert_eq!(blocked, Err(WriteError::Blocked));
    }
    server.sent();
    assert_eq!(server.events_of(other), [ChannelEvent::Writable]);
    assert_eq!(server.events_of(peer), []);
    server.server(other).write(Stream::DATA, &big).unwrap();
    let mut line = streams.to_vec();
    while !line.is_empty() {
        server.sent();
        assert_eq!(server.events_of(peer), [ChannelEvent::Writable]);
        // Those whose turn it is not may try: it changes nothing.
        for stream in line.split_off(1).into_iter().rev() {
            let blocked = server.server(peer).write(stream, &big);
            assert_eq!(blocked, Err(WriteError::Blocked), "{stream:?}");
            line.insert(1, stream);
        }
        server.server(peer).write(line.remove(0), &big).unwrap();
    }
    server.sent();
    assert_eq!(server.events_of(peer), [], "nobody waits");
}

#[test]
fn a_stream_that_writes_leaves_the_place_of_another_in_line() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    let server = &mut pair.server;
    let big = vec![0; 256 * 1024];
    while server.server(peer).write(Stream::DATA, &big).is_ok() {}
    let blocked = server.server(peer).write(Stream::STDERR, &big);
    assert_eq!(blocked, Err(WriteError::Blocked));
    server.sent();
    // Data is first, and takes all the room.
    assert_eq!(server.events_of(peer), [ChannelEvent::Writable]);
    let blocked = server.server(peer).write(Stream::STDERR, &big);
    assert_eq!(blocked, Err(WriteError::Blocked), "not its turn");
    server.server(peer).write(Stream::DATA, &big).unwrap();
    server.sent();
    // Data does not try again: it is stderr that is told.
    assert_eq!(server.events_of(peer), [ChannelEvent::Writable]);
    assert!(server.server(peer).write(Stream::STDERR, &big).is_ok());
    server.sent();
    assert_eq!(server.events_of(peer), [], "nobody waits");
}

#[test]
fn streams_that_wait_for_the_window_are_told_when_it_opens() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    pair.client.client(local).set_receive_window(65_536);
    let big = vec![0; 256 * 1024];
    while pair.server.server(peer).send_window() > 0 {
        // The remainder of the window is used when it is not given back for some time.
        if pair.server.server(peer).write(Stream::DATA, &big).is_err() {
            pair.wait(Duration::from_millis(10));
        }
        pair.run();
        pair.server.events_of(peer);
    }
    for stream in [Stream::STDERR, Stream::DATA] {
        let blocked = pair.server.server(peer).write(stream, &[1; 100]);
        assert_eq!(blocked, Err(WriteError::Blocked));
    }
    while pair.client.client(local).readable(Stream::DATA) > 0 {
        pair.client.client(local).consume(Stream::DATA, usize::MAX);
    }
    pair.run();
    assert_eq!(pair.server.events_of(peer), [ChannelEvent::Writable]);
    for stream in [Stream::STDERR, Stream::DATA] {
        assert_eq!(pair.server.server(peer).write(stream, &[1; 100]), Ok(100));
    }
}

/// Nobody uses it until it is known that nobody does: a window is looked at now and then.
fn let_it_be(pair: &mut Pair) {
    pair.wait(Duration::from_secs(10));
    pair.wait(Duration::from_secs(10));
}

/// Moves data to the client for so many round trips of 100 ms; all that the server may send arrives half of one later.
/// Says how small the window was meanwhile.
fn bulk(pair: &mut Pair, [local, peer]: [ChannelId; 2], rounds: usize) -> u32 {
    let chunk = vec![0; 64 * 1024];
    let mut least = u32::MAX;
    for _ in 0..rounds {
        pair.wait(Duration::from_millis(50));
        least = least.min(pair.client.client(local).receive_window());
        loop {
            while pair.server.server(peer).write(Stream::DATA, &chunk).is_ok() {}
            if deliver(&mut pair.server, &mut pair.client, 64 * 1024).unwrap() == 0 {
                break;
            }
            pair.client.client(local).consume(Stream::DATA, usize::MAX);
        }
        pair.wait(Duration::from_millis(50));
        least = least.min(pair.client.client(local).receive_window());
        while deliver(&mut pair.client, &mut pair.server, 64 * 1024).unwrap() > 0 {}
    }
    least
}

/// The window grows, and the reader's own pace is what stops it.
#[test]
fn a_window_grows_on_a_long_path_within_limit_and_budget() {
    let mut pair = limited_window();
    let (local, peer) = pair.session();
    bulk(&mut pair, [local, peer], 60);
    assert_eq!(pair.client.client(local).receive_window(), 12 * 1024 * 1024);
}

#[test]
fn a_window_that_has_grown_shrinks_when_it_is_idle_and_grows_again_when_it_is_used() {
    const MIB: u32 = 1024 * 1024;
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    bulk(&mut pair, [local, peer], 8);
    assert_eq!(pair.client.client(local).receive_window(), 32 * MIB);
    let busy = pair.client.channels.shared.budget(&pair.client.limits);
    // It is in use, over several reviews.
    assert_eq!(bulk(&mut pair, [local, peer], 250), 32 * MIB);

    let_it_be(&mut pair);
    assert_eq!(pair.client.client(local).receive_window(), 2 * MIB);
    assert_eq!(
        pair.client.channels.poll_timeout(pair.client.now),
        None,
        "once"
    );
    // What was granted cannot be taken back, so the budget has it back when it was used, and not at once.
    assert!(pair.client.client(local).receive_credit() > 30 * MIB);
    let budget = pair.client.channels.shared.budget(&pair.client.limits);
    assert!(budget < busy + u64::from(MIB), "{budget}");
    let slow = vec![0; MIB as usize];
    let mut left = slow.len() * 40;
    while left > 0 {
        let len = pair.server.server(peer).write(Stream::DATA, &slow);
        left = left.saturating_sub(len.unwrap_or(0));
        pair.run();
        pair.client.client(local).consume(Stream::DATA, usize::MAX);
        pair.run();
        pair.wait(Duration::from_millis(50));
    }
    assert!(pair.client.client(local).receive_window() <= 2 * MIB);
    let idle = pair.client.channels.shared.budget(&pair.client.limits);
    assert_eq!(idle, busy + 30 * u64::from(MIB));

    bulk(&mut pair, [local, peer], 8);
    assert_eq!(pair.client.client(local).receive_window(), 32 * MIB);
    assert_eq!(
        pair.client.channels.shared.budget(&pair.client.limits),
        busy
    );
}

#[test]
fn who_uses_an_idle_window_fast_has_it_back_before_it_is_used_up() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    bulk(&mut pair, [local, peer], 8);
    let_it_be(&mut pair);
    assert_eq!(pair.client.client(local).receive_window(), 2 << 20);
    bulk(&mut pair, [local, peer], 1);
    assert!(pair.client.client(local).receive_credit() > 30 << 20);
    assert_eq!(pair.client.client(local).receive_window(), 32 << 20);
}

#[test]
fn a_window_that_was_lowered_gives_its_share_of_the_budget_back() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let all = |pair: &Pair| pair.server.channels.shared.budget(&pair.server.limits);
    let before = all(&pair);
    pair.server.server(peer).set_receive_window(65_536);
    assert_eq!(all(&pair), before, "it was granted");
    let mut left = 4 << 20;
    while left > 0 {
        let len = pair.client.client(local).write(Stream::DATA, &[0; 32_768]);
        left -= len.unwrap_or(0).min(left);
        pair.run();
        pair.server.server(peer).consume(Stream::DATA, usize::MAX);
        pair.run();
    }
    assert_eq!(all(&pair), before + (2 << 20) - 65_536);
}

fn limited_window() -> Pair {
    let limits = Limits {
        window: 12 * 1024 * 1024,
        ..Limits::default()
    };
    Pair::with(limits, &Extensions::default())
}

/// Fills a draft with the next bytes of a pattern, as a reader would; says how many.
fn fill(draft: &mut crate::packet::Draft, from: usize, len: usize) -> usize {
    let mut done = 0;
    for slice in &mut draft.slices() {
        for byte in slice.iter_mut().take(len - done) {
            *byte = ((from + done) % 251) as u8;
            done += 1;
        }
    }
    draft.fill(done);
    done
}

#[test]
fn a_draft_leaves_without_a_copy_and_blocks_are_taken_without_one() {
    for stream in [Stream::DATA, Stream::STDERR] {
        let mut pair = Pair::new();
        let (local, peer) = pair.session();
        let mut draft = crate::packet::Draft::new();
        pair.server.server(peer).lay_out(stream, &mut draft);
        let before = copied();
        let (mut sent, mut received) = (0, 0);
        for round in 0..40 {
            let len = [2 * PACKET_DATA_LEN, PACKET_DATA_LEN, 50_000, 3_000][round % 4];
            sent += fill(&mut draft, sent, len);
            let taken = pair.server.server(peer).send(stream, &mut draft);
            assert_eq!(taken, Ok(len));
            pair.run();
            while let Some(taken) = pair.client.client(local).take(stream) {
                for &byte in taken.pieces().flatten() {
                    assert_eq!(byte, (received % 251) as u8);
                    received += 1;
                }
                pair.client.client(local).recycle(taken);
            }
        }
        assert_eq!((copied(), received), (before, sent), "{stream:?}");
    }
}

#[test]
fn a_draft_that_finds_no_room_keeps_what_is_left_of_it() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let mut draft = crate::packet::Draft::new();
    pair.server.server(peer).lay_out(Stream::DATA, &mut draft);
    // Something else is on its way out: what there is room for is copied behind it.
    pair.server
        .server(peer)
        .write(Stream::DATA, &[0; 251])
        .unwrap();
    fill(&mut draft, 251, 2 * PACKET_DATA_LEN);
    let mut rounds = 0;
    while !draft.is_empty() {
        match pair.server.server(peer).send(Stream::DATA, &mut draft) {
            Ok(len) => assert!(len > 0),
            Err(error) => assert_eq!(error, WriteError::Blocked),
        }
        pair.run();
        rounds += 1;
        assert!(rounds < 10);
    }
    let mut received = Vec::new();
    while let Some(taken) = pair.client.client(local).take(Stream::DATA) {
        received.extend(taken.to_vec());
    }
    assert_eq!(received.len(), 251 + 2 * PACKET_DATA_LEN);
    assert!(
        received[251..]
            .iter()
            .enumerate()
            .all(|(i, &byte)| byte == ((251 + i) % 251) as u8)
    );
    pair.server.server(peer).close();
    fill(&mut draft, 0, 10);
    assert_eq!(
        pair.server.server(peer).send(Stream::DATA, &mut draft),
        Err(WriteError::Closed)
    );
}

#[test]
fn what_is_laid_out_for_now_is_sent_whole_whoever_else_writes() {
    let (mut blocked, mut whole) = (0, 0);
    // With and without room for full packets, and with windows that end within a packet.
    for (max_packet, window) in [
        (crate::limits::MAX_PACKET, 150_000),
        (1_000, 150_000),
        (32_768, 70_001),
    ] {
        let limits = Limits {
            window,
            ..Limits::default()
        };
        let mut pair = Pair::with(limits, &Extensions::default());
        let sessions: Vec<_> = (0..3).map(|_| pair.session()).collect();
        for (_, peer) in &sessions {
            let (state, _) = pair.server.channels.split(*peer).unwrap();
            let granted = state.send.window();
            state.send = window::SendWindow::new(granted, max_packet);
        }
        let mut draft = crate::packet::Draft::new();
        let mut random = 7_u32;
        for _ in 0..5_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let draw = (random >> 16) as usize;
            let (local, peer) = sessions[draw % 3];
            match draw / 3 % 24 {
                0 => pair.run(),
                1 => {
                    deliver(&mut pair.server, &mut pair.client, 20_000).unwrap();
                }
                2 => pair.client.client(local).consume(Stream::DATA, usize::MAX),
                3 => _ = pair.server.server(peer).write(Stream::DATA, &[0; 700]),
                4 => pair.wait(Duration::from_millis(1)),
                _ => match pair
                    .server
                    .server(peer)
                    .lay_out_now(Stream::DATA, &mut draft)
                {
                    Ok(room) => {
                        let all: usize = draft.slices().iter().map(|slice| slice.len()).sum();
                        assert_eq!(all, room);
                        let len = if draw & 0x4000 == 0 { room } else { 1 };
                        fill(&mut draft, 0, len);
                        let taken = pair.server.server(peer).send(Stream::DATA, &mut draft);
                        assert_eq!(taken, Ok(len));
                        whole += usize::from(len == room);
                    }
                    Err(error) => {
                        assert_eq!(error, WriteError::Blocked);
                        blocked += 1;
                    }
                },
            }
        }
        // And who was blocked is told that it may go on.
        for (local, peer) in sessions {
            while pair
                .server
                .server(peer)
                .lay_out_now(Stream::DATA, &mut draft)
                .is_ok()
            {
                fill(&mut draft, 0, usize::MAX);
                _ = pair.server.server(peer).send(Stream::DATA, &mut draft);
            }
            pair.server.events_of(peer);
            for _ in 0..10 {
                pair.run();
                pair.client.client(local).consume(Stream::DATA, usize::MAX);
            }
            pair.wait(Duration::from_millis(20));
            let events = pair.server.events_of(peer);
            assert_eq!(events, [ChannelEvent::Writable]);
        }
    }
    assert!(blocked > 100 && whole > 100, "{blocked} {whole}");
}

#[test]
fn who_cannot_write_any_more_gets_no_draft_laid_out() {
    let mut pair = Pair::new();
    let (_, peer) = pair.session();
    let mut draft = crate::packet::Draft::new();
    pair.server.server(peer).eof();
    assert_eq!(
        pair.server
            .server(peer)
            .lay_out_now(Stream::DATA, &mut draft),
        Err(WriteError::Closed)
    );
}

#[test]
fn what_is_laid_out_for_now_is_not_copied_where_nothing_else_is_under_way() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let mut draft = crate::packet::Draft::new();
    let before = copied();
    for _ in 0..10 {
        let room = pair
            .server
            .server(peer)
            .lay_out_now(Stream::DATA, &mut draft);
        assert_eq!(room, Ok(2 * PACKET_DATA_LEN));
        fill(&mut draft, 0, usize::MAX);
        let taken = pair.server.server(peer).send(Stream::DATA, &mut draft);
        assert_eq!(taken, room);
        pair.run();
        pair.client.client(local).consume(Stream::DATA, usize::MAX);
    }
    assert_eq!(copied(), before);
}

/// Sends as much as the window takes; says how long the last data packet was.
fn use_window(pair: &mut Pair, local: ChannelId) -> u32 {
    let big = vec![0; 256 * 1024];
    let mut last = 0;
    while pair.client.client(local).write(Stream::DATA, &big).is_ok() {
        for payload in pair.client.sent() {
            last = msg::ChannelData::decode(&payload).unwrap().data.len() as u32;
        }
    }
    pair.client.events_of(local);
    pair.client.notices();
    last
}

#[test]
fn what_little_is_left_of_a_large_window_waits_for_more_and_is_used_when_none_comes() {
    let mut pair = Pair::new();
    let (local, _) = pair.session();
    let packet = PACKET_DATA_LEN as u32;
    let before = pair.client.client(local).send_window();
    assert_eq!(use_window(&mut pair, local), packet);
    let left = before % packet;
    assert_eq!(pair.client.client(local).send_window(), left);
    // The peer gives three packets of its own length back, as OpenSSH does.
    pair.client.receive(&adjust(local, 3 * 32_768)).unwrap();
    assert_eq!(pair.client.events_of(local), [ChannelEvent::Writable]);
    assert_eq!(use_window(&mut pair, local), packet);
    let left = (left + 3 * 32_768) % packet;
    assert_eq!(pair.client.client(local).send_window(), left);
    // A small message does not wait.
    let small = pair.client.client(local).write(Stream::DATA, &[7; 100]);
    assert_eq!(small, Ok(100));
    pair.client.sent();
    // Nor does anything when the peer wants to see its window used up.
    use_window(&mut pair, local);
    pair.client.wait(Duration::from_millis(9));
    assert_eq!(pair.client.events_of(local), []);
    pair.client.wait(Duration::from_millis(1));
    assert_eq!(pair.client.events_of(local), [ChannelEvent::Writable]);
    assert_eq!(use_window(&mut pair, local), left - 100);
    assert_eq!(pair.client.client(local).send_window(), 0);
    assert_eq!(pair.client.channels.poll_timeout(pair.client.now), None);
}

#[test]
fn a_small_window_is_used_to_its_end() {
    let mut pair = Pair::new();
    let (local, _) = pair.session();
    let mut end = pair.client;
    let id = end
        .with(|channels, cx| channels.open(OpenChannel::Session, cx))
        .unwrap();
    assert_ne!(id, local);
    end.sent();
    end.receives(&msg::ChannelOpenConfirmation {
        recipient_channel: id.slot,
        sender_channel: 5,
        initial_window_size: 24_576,
        maximum_packet_size: 32_768,
        data: Rest(b""),
    })
    .unwrap();
    let written = end.client(id).write(Stream::DATA, &[0; 40_000]);
    assert_eq!(written, Ok(24_576));
}

#[test]
fn a_draft_waits_for_a_window_that_takes_it_whole() {
    let mut pair = Pair::new();
    let (local, _) = pair.session();
    let client = &mut pair.client;
    let mut draft = crate::packet::Draft::new();
    client.client(local).lay_out(Stream::DATA, &mut draft);
    let before = copied();
    for _ in 0..3 {
        loop {
            fill(&mut draft, 0, 2 * PACKET_DATA_LEN);
            if client.client(local).send(Stream::DATA, &mut draft).is_err() {
                break;
            }
            client.sent();
        }
        assert_eq!(draft.len(), 2 * PACKET_DATA_LEN, "nothing of it was sent");
        client.receive(&adjust(local, 3 * 32_768)).unwrap();
        assert_eq!(client.events_of(local), [ChannelEvent::Writable]);
    }
    assert_eq!(copied(), before);
}

#[test]
fn a_draft_that_is_filled_in_one_piece_has_its_data_in_place() {
    let mut pair = Pair::new();
    let (local, peer) = pair.session();
    let mut draft = crate::packet::Draft::new();
    pair.server.server(peer).lay_out(Stream::DATA, &mut draft);
    let lens = [0, 1, 2, 1_000, PACKET_DATA_LEN - 1, PACKET_DATA_LEN];
    for len in lens
        .into_iter()
        .chain([PACKET_DATA_LEN + 1, 50_000, 2 * PACKET_DATA_LEN])
    {
        for (i, byte) in draft.whole().iter_mut().take(len).enumerate() {
            *byte = (i % 251) as u8;
        }
        draft.fill_whole(len);
        assert_eq!(draft.len(), len);
        let sent = pair.server.server(peer).send(Stream::DATA, &mut draft);
        assert_eq!(sent, Ok(len));
        pair.run();
        let mut received = Vec::new();
        while let Some(taken) = pair.client.client(local).take(Stream::DATA) {
            received.extend(taken.to_vec());
        }
        let expected: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        assert!(received == expected, "{len}");
    }
}
