//! Windows and packet sizes of a hostile peer, at their edges: which error, which DISCONNECT, and nothing lost of what was
//! right before.

use super::hostile::{Offer, Victim, World};
use super::*;
use crate::channel::{ChannelEvent, ChannelId, Stream};
use crate::connection::role::Side;
use crate::error::{DisconnectReason, WriteError};
use crate::limits::MAX_PACKET;
use crate::msg::Rest;
use crate::msg::connection as msg;
use crate::wire::Malformed;

const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// A connection whose receive windows are of 1,000 bytes, and a channel that the peer has confirmed like that.
fn opened(side: Side, window: u32, packet: u32) -> (World, ChannelId) {
    let mut world = World::with(side, Offer::STRICT, |transport| {
        transport.limits.window = 1_000;
    });
    world.exchange();
    world.ask_service();
    world.log_in();
    let id = world.victim_opens();
    world.says(&msg::ChannelOpenConfirmation {
        recipient_channel: 0,
        sender_channel: 7,
        initial_window_size: window,
        maximum_packet_size: packet,
        data: Rest(b""),
    });
    assert_eq!(world.closed(), None);
    world.channel_events(id);
    world.forget();
    (world, id)
}

/// Runs the same on the channel of either role.
macro_rules! on_channel {
    ($world:expr, $id:expr, $channel:ident => $body:expr) => {
        match &mut $world.victim {
            Victim::Client(client) => {
                let $channel = &mut client.channel($id).unwrap();
                $body
            }
            Victim::Server(server) => {
                let $channel = &mut server.channel($id).unwrap();
                $body
            }
        }
    };
}

#[track_caller]
fn assert_at_fault(world: &mut World, error: PeerError) {
    assert_eq!(world.closed(), Some(error.into()));
    let reason = world.disconnect_reason();
    assert_eq!(reason, DisconnectReason::PROTOCOL_ERROR.0);
}

fn adjust(bytes_to_add: u32) -> Vec<u8> {
    msg::ChannelWindowAdjust {
        recipient_channel: 0,
        bytes_to_add,
    }
    .to_payload()
}

#[test]
fn a_window_is_opened_to_2_32_less_one_and_no_further() {
    for side in SIDES {
        for (first, more, fits) in [
            (1_000, u32::MAX - 1_001, true),
            (1_000, u32::MAX - 1_000, true),
            (1_000, u32::MAX - 999, false),
            (u32::MAX, 0, true),
            (u32::MAX, 1, false),
            (u32::MAX, u32::MAX, false),
            (0, u32::MAX, true),
        ] {
            let (mut world, id) = opened(side, first, 1_000);
            world.say(&adjust(more));
            if fits {
                assert_eq!(world.closed(), None, "{first} {more}");
                let window = on_channel!(world, id, channel => channel.send_window());
                assert_eq!(window, first + more);
            } else {
                assert_at_fault(&mut world, PeerError::WindowOverflow { channel: 0 });
            }
        }
    }
}

#[test]
fn data_fills_a_window_to_its_last_byte_and_not_beyond() {
    for side in SIDES {
        for code in [None, Some(1)] {
            for (len, fits) in [(999, true), (1_000, true), (1_001, false)] {
                let (mut world, id) = opened(side, 0, 1);
                let data = vec![7; len];
                match code {
                    None => world.says(&msg::ChannelData {
                        recipient_channel: 0,
                        data: &data,
                    }),
                    Some(data_type_code) => world.says(&msg::ChannelExtendedData {
                        recipient_channel: 0,
                        data_type_code,
                        data: &data,
                    }),
                }
                if !fits {
                    assert_at_fault(&mut world, PeerError::Window { channel: 0 });
                    continue;
                }
                assert_eq!(world.closed(), None);
                let stream = code.map_or(Stream::DATA, Stream);
                let readable = on_channel!(world, id, channel => channel.readable(stream));
                assert_eq!(readable, len);
                // What was within is there, whatever comes behind it.
                world.says(&msg::ChannelData {
                    recipient_channel: 0,
                    data: &vec![8; 1_001 - len],
                });
                assert_at_fault(&mut world, PeerError::Window { channel: 0 });
                let kept = on_channel!(world, id, channel => channel.chunk(stream).to_vec());
                assert_eq!(kept, data);
            }
        }
    }
}

#[test]
fn a_data_packet_is_as_long_as_we_said_and_not_longer() {
    for side in SIDES {
        for (len, fits) in [
            (MAX_PACKET - 1, true),
            (MAX_PACKET, true),
            (MAX_PACKET + 1, false),
        ] {
            let mut world = World::open(side, Offer::STRICT);
            world.victim_opens();
            world.says(&msg::ChannelOpenConfirmation {
                recipient_channel: 0,
                sender_channel: 7,
                initial_window_size: 0,
                maximum_packet_size: 1,
                data: Rest(b""),
            });
            world.says(&msg::ChannelData {
                recipient_channel: 0,
                data: &vec![7; len as usize],
            });
            if fits {
                assert_eq!(world.closed(), None, "{len}");
            } else {
                assert_at_fault(&mut world, PeerError::Window { channel: 0 });
            }
        }
    }
}

#[test]
fn a_peer_takes_packets_of_one_byte_or_of_any_length_but_not_of_none() {
    let none = |message| PeerError::Malformed {
        message,
        field: "maximum_packet_size",
        problem: Malformed::Value,
    };
    for side in SIDES {
        // One byte in each packet, as many packets as the window has bytes, and then it waits.
        let (mut world, id) = opened(side, 3, 1);
        let taken = on_channel!(world, id, channel => channel.write(Stream::DATA, b"abcdef"));
        assert_eq!(taken, Ok(3));
        let more = on_channel!(world, id, channel => channel.write(Stream::DATA, b"def"));
        assert_eq!(more, Err(WriteError::Blocked));
        world.carry();
        let said: Vec<Vec<u8>> = world.heard.drain(..).collect();
        assert_eq!(said.len(), 3);
        for (payload, byte) in said.iter().zip(*b"abc") {
            let data = msg::ChannelData::decode(payload).unwrap();
            assert_eq!((data.recipient_channel, data.data), (7, &[byte][..]));
        }
        // Nothing is too long to be announced; ours stay as short as ever.
        let (mut world, id) = opened(side, u32::MAX, u32::MAX);
        let block = vec![7; 60_000];
        let taken = on_channel!(world, id, channel => channel.write(Stream::DATA, &block));
        world.carry();
        let lens = world.heard.iter().map(|payload| {
            let data = msg::ChannelData::decode(payload).unwrap();
            assert!(data.data.len() <= 32 * 1024 && !data.data.is_empty());
            data.data.len()
        });
        assert_eq!(Ok(lens.sum::<usize>()), taken);

        // None at all is no channel: in a confirmation, and in a request to open.
        let mut world = World::open(side, Offer::STRICT);
        world.victim_opens();
        world.says(&msg::ChannelOpenConfirmation {
            recipient_channel: 0,
            sender_channel: 7,
            initial_window_size: 1,
            maximum_packet_size: 0,
            data: Rest(b""),
        });
        assert_at_fault(&mut world, none(91));
        let mut world = World::open(side, Offer::STRICT);
        world.says(&msg::ChannelOpen {
            channel_type: "session",
            sender_channel: 7,
            initial_window_size: 1,
            maximum_packet_size: 0,
            data: Rest(b""),
        });
        assert_at_fault(&mut world, none(90));
    }
}

#[test]
fn five_gibibytes_in_one_call_are_taken_as_far_as_there_is_room() {
    let block = vec![7; 1 << 20];
    let parts: Vec<&[u8]> = std::iter::repeat_n(&block[..], 5 * 1024).collect();
    for side in SIDES {
        let (mut world, id) = opened(side, u32::MAX, 32 * 1024);
        let taken = on_channel!(world, id, channel => channel.write_parts(Stream::DATA, &parts));
        let taken = taken.unwrap();
        assert!((1..=crate::limits::DATA_MARK).contains(&taken), "{taken}");
        let blocked = on_channel!(world, id, channel => channel.write_parts(Stream::DATA, &parts));
        assert_eq!(blocked, Err(WriteError::Blocked));
        world.carry();
        let sent: usize = world
            .heard
            .iter()
            .map(|payload| msg::ChannelData::decode(payload).unwrap().data.len())
            .sum();
        assert_eq!(sent, taken);
        assert_eq!(world.channel_events(id), [ChannelEvent::Writable]);
    }
}

#[test]
fn extended_data_of_any_type_on_a_subsystem_costs_no_window_and_ends_nothing() {
    let mut world = World::open(Side::Server, Offer::STRICT);
    world.says(&msg::ChannelOpen {
        channel_type: "session",
        sender_channel: 7,
        initial_window_size: 1_000,
        maximum_packet_size: 1_000,
        data: Rest(b""),
    });
    let id = world.channels[0];
    world.say(b"\x62\0\0\0\0\0\0\0\x09subsystem\x01\0\0\0\x04sftp");
    let Some(ChannelEvent::Requested {
        token: Some(token), ..
    }) = world.channel_events(id).pop()
    else {
        panic!("no request");
    };
    on_channel!(world, id, channel => channel.reply(token, true)).unwrap();
    world.carry();
    world.forget();
    let (mut sent, mut credit) = (0, 0);
    for code in [0, 2, 3, 255, 1 << 31, u32::MAX] {
        for _ in 0..200 {
            world.says(&msg::ChannelExtendedData {
                recipient_channel: 0,
                data_type_code: code,
                data: &[7; 32 * 1024],
            });
            sent += 32 * 1024;
        }
        assert_eq!(world.closed(), None, "{code}");
        for payload in world.heard.drain(..) {
            let adjust = msg::ChannelWindowAdjust::decode(&payload).unwrap();
            credit += adjust.bytes_to_add as usize;
        }
    }
    // All of it but what is not worth a message yet.
    assert!(credit <= sent && sent - credit < 2 * 1024 * 1024);
    assert!(world.channel_events(id).is_empty());
    // What the subsystem is for goes on.
    world.says(&msg::ChannelData {
        recipient_channel: 0,
        data: b"request",
    });
    assert_eq!(world.channel_events(id), [ChannelEvent::Data(Stream::DATA)]);
}
