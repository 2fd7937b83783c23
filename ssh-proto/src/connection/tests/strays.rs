//! Messages for channels that are not there, not yet or not any more. What each does is written down here; none of them
//! ever touches another channel.

use super::hostile::{Offer, Victim, World};
use super::legality::well_formed;
use super::*;
use crate::channel::{ChannelEvent, ChannelId, Stream};
use crate::connection::role::Side;
use crate::error::DisconnectReason;
use crate::msg::Rest;
use crate::msg::connection as msg;

/// Where channel 1 stands when a message for it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// There never was one.
    Unknown,
    /// This side has asked for it.
    Asked,
    Open,
    /// The peer has said EOF.
    PeerEof,
    /// This side has said CLOSE.
    Closing,
    /// Both have said CLOSE; the application still looks at it.
    Closed,
    /// And now it does not any more.
    Released,
}

/// What a message does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// It is taken, and this is the answer.
    Taken(&'static [u8]),
    /// There is no such channel.
    Unknown,
    /// The channel does not allow it.
    Refused,
}

const fn expected(number: u8, place: Place) -> Reaction {
    use Place::{Asked, Closed, Closing, Open, PeerEof, Released};
    match (place, number) {
        (Place::Unknown | Released, _) => Reaction::Unknown,
        (Asked, 91 | 92) => Reaction::Taken(&[]),
        (Asked | Closed, _) | (_, 91 | 92) => Reaction::Refused,
        (PeerEof, 94 | 95) => Reaction::Refused,
        (Open | PeerEof, 97) => Reaction::Taken(&[97]),
        (Open | PeerEof, 98) => Reaction::Taken(&[100]),
        // RFC 4254 section 5.3: after CLOSE of ours nothing is said any more; the peer may not have seen it yet.
        (Open | PeerEof | Closing, _) => Reaction::Taken(&[]),
    }
}

fn confirm(world: &mut World, channel: u32) {
    world.says(&msg::ChannelOpenConfirmation {
        recipient_channel: channel,
        sender_channel: 70 + channel,
        initial_window_size: 1_000,
        maximum_packet_size: 1_000,
        data: Rest(b""),
    });
}

/// The application lets go of a channel, or closes it.
fn end(world: &mut World, id: ChannelId, release: bool) {
    match &mut world.victim {
        Victim::Client(client) => {
            let mut channel = client.channel(id).unwrap();
            if release {
                channel.release();
            } else {
                channel.close();
            }
        }
        Victim::Server(server) => {
            let mut channel = server.channel(id).unwrap();
            if release {
                channel.release();
            } else {
                channel.close();
            }
        }
    }
    world.carry();
}

/// Channel 0 is open and has said nothing; channel 1 is in that place.
fn at(place: Place, side: Side) -> (World, ChannelId, u32) {
    let mut world = World::open(side, Offer::STRICT);
    let bystander = world.victim_opens();
    confirm(&mut world, 0);
    world.channel_events(bystander);
    let mut channel = 1;
    if place == Place::Unknown {
        channel = 9;
    } else {
        let id = world.victim_opens();
        if place != Place::Asked {
            confirm(&mut world, 1);
        }
        world.channel_events(id);
        match place {
            Place::PeerEof => world.says(&msg::ChannelEof {
                recipient_channel: 1,
            }),
            Place::Closing => end(&mut world, id, false),
            Place::Closed | Place::Released => {
                world.says(&msg::ChannelClose {
                    recipient_channel: 1,
                });
                assert_eq!(world.channel_events(id), [ChannelEvent::Closed]);
                if place == Place::Released {
                    end(&mut world, id, true);
                }
            }
            Place::Unknown | Place::Asked | Place::Open => {}
        }
    }
    assert_eq!(world.closed(), None);
    world.forget();
    (world, bystander, channel)
}

/// The message of that number for that channel.
fn message(number: u8, channel: u32, world: &mut World) -> Vec<u8> {
    let mut payload = well_formed(number, world);
    payload[1..5].copy_from_slice(&channel.to_be_bytes());
    payload
}

/// The other channel has heard nothing, and still works.
fn assert_untouched(world: &mut World, bystander: ChannelId, what: &str) {
    assert!(world.channel_events(bystander).is_empty(), "{what}");
    world.says(&msg::ChannelData {
        recipient_channel: 0,
        data: b"hello",
    });
    let data = ChannelEvent::Data(Stream::DATA);
    assert_eq!(world.channel_events(bystander), [data], "{what}");
}

#[test]
fn a_message_for_a_channel_does_what_its_place_allows_and_touches_no_other() {
    let places = [
        Place::Unknown,
        Place::Asked,
        Place::Open,
        Place::PeerEof,
        Place::Closing,
        Place::Closed,
        Place::Released,
    ];
    for side in [Side::Client, Side::Server] {
        for place in places {
            for number in 91..=100 {
                let what = format!("{number} at {place:?} of a {side:?}");
                let (mut world, bystander, channel) = at(place, side);
                let payload = message(number, channel, &mut world);
                world.say(&payload);
                let error = match expected(number, place) {
                    Reaction::Taken(answer) => {
                        assert_eq!(world.closed(), None, "{what}");
                        assert_eq!(world.numbers(), answer, "{what}");
                        assert_untouched(&mut world, bystander, &what);
                        continue;
                    }
                    Reaction::Unknown => PeerError::UnknownChannel { channel },
                    Reaction::Refused => PeerError::ChannelState {
                        channel,
                        message: number,
                    },
                };
                assert_eq!(world.closed(), Some(error.into()), "{what}");
                let reason = DisconnectReason::PROTOCOL_ERROR.0;
                assert_eq!(world.disconnect_reason(), reason, "{what}");
                // The end of the connection is all that the other channel hears of it.
                let events = world.channel_events(bystander);
                assert_eq!(events, [ChannelEvent::Closed], "{what}");
            }
        }
    }
}

#[test]
fn a_number_is_given_anew_once_both_sides_have_closed_and_not_before() {
    for side in [Side::Client, Side::Server] {
        let mut world = World::open(side, Offer::STRICT);
        let first = world.victim_opens();
        confirm(&mut world, 0);
        world.channel_events(first);
        // This side is through with it, the peer is not.
        end(&mut world, first, true);
        let second = world.victim_opens();
        assert_eq!(second.slot, 1);
        world.says(&msg::ChannelData {
            recipient_channel: 0,
            data: b"still under way",
        });
        assert_eq!(world.closed(), None);
        world.says(&msg::ChannelClose {
            recipient_channel: 0,
        });
        let third = world.victim_opens();
        assert_eq!(third.slot, 0);
        assert_ne!(third, first, "an old id does not mean the new channel");
        let old = match &mut world.victim {
            Victim::Client(client) => client.channel(first).is_some(),
            Victim::Server(server) => server.channel(first).is_some(),
        };
        assert!(!old);
    }
}
