//! Work follows what came, however it was cut up: bytes that come one at a time are not gone through again with each.

use super::*;
use ssh_proto::msg::transport::Ignore;

/// Steps for each byte that comes alone, and beside that.
const PER_BYTE: u64 = 8;
const BESIDE: u64 = 4_096;

fn trickle<R: Usual>(what: &str, peer: &mut Hostile<R>, say: impl FnOnce(&mut Hostile<R>)) {
    peer.in_pieces_of(1);
    let before = peer.cost.usage();
    say(peer);
    let (steps, received) = (
        peer.cost.usage().steps - before.steps,
        peer.cost.usage().received - before.received,
    );
    assert!(received > 30_000 && steps > received / 64, "{what}");
    let most = PER_BYTE * received + BESIDE;
    assert!(steps <= most, "{what}: {steps} steps for {received} bytes");
}

fn trickles<R: Usual>() {
    trickle("a packet in clear", &mut fresh::<R>(), |peer| {
        peer.say_version();
        peer.says(&Ignore { data: &[0; 34_000] });
    });
    trickle(
        "a packet before authentication",
        &mut keyed::<R>(),
        |peer| {
            peer.says(&Ignore { data: &[0; 34_000] });
        },
    );
    trickle("the largest packet", &mut open::<R>(), |peer| {
        peer.says(&Ignore {
            data: &[0; 262_000],
        });
        assert_eq!(peer.closed(), None);
    });
}

#[test]
fn a_packet_that_comes_byte_by_byte_costs_work_in_proportion_to_its_length() {
    let _alone = alone();
    trickles::<ClientRole>();
    trickles::<ServerRole>();
}

#[test]
fn a_greeting_that_comes_byte_by_byte_costs_work_in_proportion_to_its_length() {
    let _alone = alone();
    trickle("a greeting", &mut fresh::<ClientRole>(), |peer| {
        peer.raw(&[b'x'; 64_000]);
        peer.raw(b"\r\n");
    });
}
