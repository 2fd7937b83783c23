//! What a peer is owed and does not read: replies wait up to a mark, then input stops; behind a key exchange, where it
//! cannot stop, they wait up to a bound, then the connection ends.

use super::*;
use conformance::hostile::request;
use ssh_proto::Error;
use ssh_proto::error::PeerError;
use ssh_proto::msg::connection::*;
use ssh_proto::msg::transport::Ping;
use ssh_proto::msg::{Message, Rest};

/// Above this input stops (`limits.rs`: data, then 128 KiB for replies); a reply more may be there.
const MARK: usize = 65_480 + 128 * 1024 + 1024;
/// The same before authentication.
const MARK_BEFORE_AUTH: usize = 24 * 1024 + 1024;
/// `Limits::deferred_len`, and our own messages with it.
const DEFERRED: usize = 64 * 1024;

fn channel<R: Usual>(peer: &mut Hostile<R>) -> u32 {
    let channel_type = if R::IS_CLIENT { OWN } else { "session" };
    peer.says(&open_of(channel_type));
    ChannelOpenConfirmation::decode(peer.confirmation())
        .expect("a channel")
        .sender_channel
}

const fn open_of(channel_type: &str) -> ChannelOpen<'_> {
    ChannelOpen {
        channel_type,
        sender_channel: 1,
        initial_window_size: 0,
        maximum_packet_size: 32_768,
        data: Rest(b""),
    }
}

/// Messages that have a reply, each.
fn questions<R: Usual>(channel: u32) -> Vec<(&'static str, Vec<u8>)> {
    let ping = Ping { data: &[7; 256] };
    let global = |request_name| GlobalRequest {
        request_name,
        want_reply: true,
        data: Rest(b""),
    };
    let request = |request_type| ChannelRequest {
        recipient_channel: channel,
        request_type,
        want_reply: true,
        data: Rest(b""),
    };
    vec![
        ("PING", ping.to_payload()),
        (
            "a global request that nobody knows",
            global("x").to_payload(),
        ),
        ("a global request of ours", global(OWN).to_payload()),
        ("a channel of no kind", open_of("x").to_payload()),
        ("a channel", open_of(OWN).to_payload()),
        ("a request that nobody knows", request("x").to_payload()),
        ("a request of ours", request(OWN).to_payload()),
        ("a message that nobody knows", vec![191]),
    ]
}

fn waits<R: Usual>() {
    for which in 0..8 {
        let mut peer = open::<R>();
        let channel = channel(&mut peer);
        let (name, question) = questions::<R>(channel).swap_remove(which);
        peer.reads = false;
        let (received, mut said) = (peer.cost.usage().received, 0);
        while said < 100_000 && peer.say(&question) {
            said += 1;
        }
        let waiting = peer.conn.output().len();
        let received = peer.cost.usage().received - received;
        assert!(waiting <= MARK, "{name}: {waiting} bytes wait");
        assert!(
            waiting as u64 <= 3 * received,
            "{name}: {waiting} bytes for {received}"
        );
        // The library's channels are bounded before their replies fill anything; messages that nobody knows are counted.
        let live = peer.cost.live();
        assert!(live < 2 * 1024 * 1024, "{name}: {live} bytes");
        if matches!(peer.closed(), Some(Error::Peer(PeerError::Limit(_)))) {
            assert_eq!(name, "a message that nobody knows");
            continue;
        }
        assert_eq!(peer.closed(), None, "{name}");
        assert!(said < 100_000, "{name} is answered without end");
        assert!(!peer.conn.wants_input(), "{name}");
        // It goes on when the peer reads, and nothing was lost.
        peer.reads = true;
        assert!(peer.carry(), "{name}");
        assert!(peer.conn.wants_input() && peer.conn.output().is_empty());
    }
}

#[test]
fn a_client_stops_reading_a_peer_that_does_not_read_its_replies() {
    let _alone = alone();
    waits::<ClientRole>();
}

#[test]
fn a_server_stops_reading_a_peer_that_does_not_read_its_replies() {
    let _alone = alone();
    waits::<ServerRole>();
}

/// A peer that does not answer our key exchange, and one of the questions for it to ask.
fn rekeying<R: Usual>(which: usize) -> (Hostile<R>, &'static str, Vec<u8>) {
    let mut peer = open::<R>();
    let channel = channel(&mut peer);
    let (name, question) = questions::<R>(channel).swap_remove(which);
    let now = peer.now;
    peer.conn.rekey(now).expect("an open connection");
    (peer, name, question)
}

fn defers<R: Usual>() {
    for which in 0..7 {
        let (mut peer, name, question) = rekeying::<R>(which);
        let live = peer.cost.live();
        let mut said = 0;
        while said < 100_000 && peer.say(&question) {
            said += 1;
        }
        assert_eq!(
            peer.closed(),
            Some(&Error::Peer(PeerError::Limit(
                "replies waiting for a key exchange"
            ))),
            "{name}"
        );
        let peak = peer.cost.usage().peak - live;
        assert!(
            peak < 1024 * 1024,
            "{name}: {peak} bytes for {DEFERRED} deferred"
        );
    }
}

#[test]
fn replies_behind_a_key_exchange_that_the_peer_does_not_answer_have_a_bound() {
    let _alone = alone();
    defers::<ClientRole>();
    defers::<ServerRole>();
}

fn defers_cheaply<R: Usual>() {
    for which in 0..7 {
        let (mut peer, name, question) = rekeying::<R>(which);
        peer.cost.take_largest_look();
        for _ in 0..20 {
            assert!(peer.say(&question));
            // What waits is moved to twice the room now and then: the longest replies, PONGs, come to 5 KiB.
            let look = peer.cost.take_largest_look();
            assert!(look <= 16 * 1024, "{name}: {look} bytes for one reply");
        }
    }
}

#[test]
fn a_reply_behind_a_key_exchange_takes_the_memory_that_it_needs() {
    let _alone = alone();
    defers_cheaply::<ClientRole>();
    defers_cheaply::<ServerRole>();
}

#[test]
fn before_authentication_less_may_be_owed() {
    let _alone = alone();
    for payload in [vec![191], request("alice", "none-such", &[])] {
        let mut peer = keyed::<ServerRole>();
        peer.ask_service();
        peer.reads = false;
        peer.manners.verdict = Verdict::Refuse;
        let mut said = 0;
        while said < 20_000 && peer.say(&payload) {
            said += 1;
        }
        let waiting = peer.conn.output().len();
        assert!(waiting <= MARK_BEFORE_AUTH, "{waiting} bytes wait");
        assert!(said < 10_000);
    }
}
