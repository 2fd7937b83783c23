//! The end of the stream at every byte, bytes that come one by one, and clocks that are asked too early or too late.

use super::*;
use crate::error::DisconnectReason;

/// A pair whose exchange draws everything from the seed: the same bytes each time.
fn same() -> Pair {
    let mut client = ClientConfig::new();
    client.transport.algorithms.kex = Preference::new([Kex::Curve25519Sha256]).unwrap();
    let server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    let mut pair = Pair::new(client, server);
    pair.client
        .authenticate("alice", Credential::public_key(user_key()), pair.now)
        .unwrap();
    pair
}

/// Everything that both sides say up to a login.
fn said() -> (Vec<u8>, Vec<u8>) {
    let mut pair = same();
    pair.run(usize::MAX);
    assert!(pair.client.is_authenticated() && pair.server.is_authenticated());
    (pair.client_sent, pair.server_sent)
}

/// The stage in which a peer's line ends after so many bytes.
fn stage(said: &[u8], cut: usize, newkeys: usize) -> Stage {
    let line = said.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    if cut < line {
        Stage::VersionExchange
    } else if cut < newkeys {
        Stage::KeyExchange
    } else if cut < said.len() {
        Stage::Authentication
    } else {
        Stage::Connected
    }
}

/// Where the NEWKEYS in clear of a side ends.
fn end_of_newkeys(said: &[u8]) -> usize {
    let mut at = said.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    loop {
        let length = u32::from_be_bytes(said[at..at + 4].try_into().unwrap()) as usize;
        let number = said[at + 5];
        at += 4 + length;
        if number == 21 {
            return at;
        }
    }
}

#[test]
fn the_end_of_the_stream_behind_any_byte_is_an_error_that_names_its_stage() {
    let (client_said, server_said) = said();
    for cut in 0..=server_said.len() {
        let mut pair = same();
        let mut rest = &server_said[..cut];
        loop {
            let taken = pair.client.handle_bytes(rest, pair.now);
            rest = &rest[taken..];
            let output = pair.client.output().len();
            pair.client.consume_output(output);
            if !pair.events() && taken == 0 {
                break;
            }
        }
        assert!(rest.is_empty(), "{cut}");
        pair.client.handle_eof(pair.now);
        let expected = stage(&server_said, cut, end_of_newkeys(&server_said));
        // The last packet of a login is SUCCESS: nobody is in before its last byte.
        assert_eq!(
            pair.client.closed(),
            Some(&Error::UnexpectedEof(expected)),
            "{cut} of {}",
            server_said.len()
        );
        let len = pair.client_events.len();
        pair.events();
        assert_eq!(pair.client_events.len(), len + 1);
        assert_eq!(pair.client_events[len], "Disconnected");
        assert_eq!(pair.client.output(), b"", "nobody is left to tell");
        if let Some(at) = pair.client.poll_timeout() {
            // Memory that is given back later.
            pair.client.handle_timeout(at);
        }
        assert_eq!(pair.client.poll_timeout(), None);
    }
    for cut in 0..=client_said.len() {
        let mut pair = same();
        let mut rest = &client_said[..cut];
        loop {
            let taken = pair.server.handle_bytes(rest, pair.now);
            rest = &rest[taken..];
            let output = pair.server.output().len();
            pair.server.consume_output(output);
            if !pair.events() && taken == 0 {
                break;
            }
        }
        assert!(rest.is_empty(), "{cut}");
        pair.server.handle_eof(pair.now);
        let expected = stage(&client_said, cut, end_of_newkeys(&client_said));
        assert_eq!(
            pair.server.closed(),
            Some(&Error::UnexpectedEof(expected)),
            "{cut} of {}",
            client_said.len()
        );
        pair.events();
        assert_eq!(pair.server_events.last().unwrap(), "Disconnected");
        if let Some(at) = pair.server.poll_timeout() {
            pair.server.handle_timeout(at);
        }
        assert_eq!(pair.server.poll_timeout(), None);
        assert_eq!(pair.server.output(), b"");
    }
}

#[test]
fn what_has_ended_stays_ended() {
    let mut pair = same();
    pair.run(usize::MAX);
    let reason = DisconnectReason::BY_APPLICATION;
    pair.client.disconnect(reason, "enough", pair.now);
    let said = pair.client.output().to_vec();
    assert_eq!(pair.client.closed(), Some(&Error::LocallyClosed));
    pair.events();
    assert_eq!(pair.client_events.last().unwrap(), "Disconnected");
    for _ in 0..3 {
        pair.client.disconnect(reason, "once more", pair.now);
        pair.client.handle_eof(pair.now);
        pair.now += Duration::from_secs(10_000);
        pair.client.handle_timeout(pair.now);
        let ping = pair.server.output().to_vec();
        pair.client.handle_bytes(&ping, pair.now);
        pair.client.handle_bytes(&[0; 100], pair.now);
        assert!(pair.client.ignore(10).is_err());
        assert!(pair.client.rekey(pair.now).is_err());
        assert!(pair.client.poll_event().is_none());
        assert_eq!(pair.client.closed(), Some(&Error::LocallyClosed));
        assert_eq!(pair.client.output(), said, "one DISCONNECT");
        assert_eq!(pair.client.poll_timeout(), None);
    }
    pair.server.handle_bytes(&said, pair.now);
    assert!(matches!(
        pair.server.closed(),
        Some(Error::Disconnected(said)) if said.reason == reason && said.description == "enough"
    ));
    assert_eq!(pair.server.output(), b"", "it is not answered");
}

/// Gives a server one byte each second, as a client that wants to keep it busy for ever.
fn drip(bytes: &[u8], at_once: usize) -> (Option<Error>, Duration) {
    let mut pair = same();
    let start = pair.now;
    let feed = |pair: &mut Pair, bytes: &[u8]| {
        pair.server.handle_bytes(bytes, pair.now);
        pair.server.handle_timeout(pair.now);
        let output = pair.server.output().len();
        pair.server.consume_output(output);
    };
    feed(&mut pair, &bytes[..at_once]);
    for byte in bytes[at_once..].iter().cycle() {
        pair.now += Duration::from_secs(1);
        feed(&mut pair, &[*byte]);
        if pair.server.closed().is_some() {
            break;
        }
    }
    (pair.server.closed().cloned(), pair.now - start)
}

#[test]
fn deadlines_are_not_put_off_by_bytes_that_trickle_in() {
    let (client_said, _) = said();
    let line = client_said.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let newkeys = end_of_newkeys(&client_said);
    for (at_once, stage, seconds) in [
        (0, Stage::VersionExchange, 15),
        (line, Stage::KeyExchange, 30),
        // NEWKEYS and what follows comes so slowly that the request never does.
        (newkeys, Stage::Authentication, 120),
    ] {
        let (error, after) = drip(&client_said, at_once);
        assert_eq!(error, Some(Error::TimedOut(stage)));
        assert_eq!(after, Duration::from_secs(seconds));
    }
}

#[test]
fn looking_at_the_clock_too_often_changes_nothing() {
    let (client_said, server_said) = said();
    let mut pair = same();
    loop {
        for _ in 0..3 {
            // As early as there is a time to be early for.
            pair.now += Duration::from_nanos(1);
            pair.client.handle_timeout(pair.now);
            pair.server.handle_timeout(pair.now);
        }
        let moved = pair.carry(17);
        if !pair.events() && !moved {
            break;
        }
    }
    assert!(pair.client.is_authenticated());
    assert!(pair.client_sent == client_said && pair.server_sent == server_said);
    // And a clock that goes backwards is not believed.
    let earlier = start() - Duration::from_secs(1_000);
    pair.client.handle_timeout(earlier);
    assert_eq!(pair.client.closed(), None);
}

#[test]
fn looking_at_the_clock_too_late_ends_what_was_due_and_nothing_else() {
    let (client_said, _) = said();
    let line = client_said.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let newkeys = end_of_newkeys(&client_said);
    for (fed, stage) in [
        (0, Stage::VersionExchange),
        (line, Stage::KeyExchange),
        (newkeys, Stage::Authentication),
    ] {
        for late in [0, 1, 100_000_000] {
            let mut pair = same();
            pair.server.handle_bytes(&client_said[..fed], pair.now);
            let mut due = pair.server.poll_timeout().unwrap();
            // Memory that waits for a burst is given back after a second: nothing that anybody sees.
            while due - pair.now < Duration::from_secs(2) {
                pair.server.handle_timeout(due);
                due = pair.server.poll_timeout().unwrap();
            }
            pair.server.handle_timeout(due + Duration::from_secs(late));
            let error = pair.server.closed();
            assert_eq!(error, Some(&Error::TimedOut(stage)), "{late} s late");
        }
    }
    let mut pair = same();
    pair.run(usize::MAX);
    pair.client
        .handle_timeout(pair.now + Duration::from_secs(3_000));
    assert_eq!(
        pair.client.closed(),
        None,
        "an idle connection has no deadline"
    );
}
