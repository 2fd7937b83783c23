//! Random commands and messages against a model that knows streams of bytes only.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// One direction of one stream, as it ought to be: bytes written and not read.
#[derive(Default)]
struct Stream0 {
    bytes: VecDeque<u8>,
    next: u8,
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        server: bool,
        channel: usize,
        stderr: bool,
        len: usize,
    },
    Read {
        server: bool,
        channel: usize,
        stderr: bool,
        len: usize,
        lend: bool,
    },
    Eof {
        server: bool,
        channel: usize,
    },
    Close {
        server: bool,
        channel: usize,
    },
    Deliver {
        server: bool,
        max: usize,
    },
    Gate {
        server: bool,
        shut: bool,
    },
    Window {
        server: bool,
        channel: usize,
        bytes: u32,
    },
    Discard {
        server: bool,
        channel: usize,
    },
    Trim {
        server: bool,
    },
    Wait {
        ms: u64,
    },
}

const CHANNELS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..CHANNELS;
    let len = prop_oneof![0..64_usize, 0..100_000_usize];
    prop_oneof![
        8 => (any::<bool>(), channel.clone(), any::<bool>(), len.clone())
            .prop_map(|(server, channel, stderr, len)| Step::Write { server, channel, stderr, len }),
        8 => (any::<bool>(), channel.clone(), any::<bool>(), len, any::<bool>())
            .prop_map(|(server, channel, stderr, len, lend)| Step::Read { server, channel, stderr, len, lend }),
        1 => (any::<bool>(), channel.clone()).prop_map(|(server, channel)| Step::Eof { server, channel }),
        1 => (any::<bool>(), channel.clone()).prop_map(|(server, channel)| Step::Close { server, channel }),
        8 => (any::<bool>(), 0..100_000_usize).prop_map(|(server, max)| Step::Deliver { server, max }),
        2 => any::<(bool, bool)>().prop_map(|(server, shut)| Step::Gate { server, shut }),
        1 => (any::<bool>(), channel.clone(), 0..300_000_u32)
            .prop_map(|(server, channel, bytes)| Step::Window { server, channel, bytes }),
        1 => (any::<bool>(), channel).prop_map(|(server, channel)| Step::Discard { server, channel }),
        1 => any::<bool>().prop_map(|server| Step::Trim { server }),
        1 => (0..20_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

struct World {
    pair: Pair,
    ids: Vec<(ChannelId, ChannelId)>,
    /// Towards the server, towards the client; each with data and stderr.
    streams: Vec<[[Stream0; 2]; 2]>,
    /// Who has said EOF or CLOSE, per channel: client, server.
    done: Vec<[bool; 2]>,
    discarding: Vec<[bool; 2]>,
    shut: [bool; 2],
    blocked: Vec<[bool; 2]>,
}

impl World {
    fn new() -> Self {
        let mut pair = Pair::new();
        let ids = (0..CHANNELS).map(|_| pair.session()).collect();
        Self {
            pair,
            ids,
            streams: (0..CHANNELS).map(|_| Default::default()).collect(),
            done: vec![[false; 2]; CHANNELS],
            discarding: vec![[false; 2]; CHANNELS],
            shut: [false; 2],
            blocked: vec![[false; 2]; CHANNELS],
        }
    }

    fn end(&mut self, server: bool) -> &mut End {
        if server {
            &mut self.pair.server
        } else {
            &mut self.pair.client
        }
    }

    fn handle(&mut self, server: bool, channel: usize) -> Channel<'_, ClientRole> {
        let (local, peer) = self.ids[channel];
        self.end(server).client(if server { peer } else { local })
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Write {
                server,
                channel,
                stderr,
                len,
            } => {
                self.write(server, channel, stderr, len);
            }
            Step::Read {
                server,
                channel,
                stderr,
                len,
                lend,
            } => {
                self.read(server, channel, stderr, len, lend);
            }
            Step::Eof { server, channel } => {
                self.done[channel][usize::from(server)] = true;
                self.handle(server, channel).eof();
            }
            Step::Close { server, channel } => {
                self.done[channel][usize::from(server)] = true;
                self.handle(server, channel).close();
            }
            Step::Deliver { server, max } => self.deliver(server, max),
            Step::Gate { server, shut } => self.gate(server, shut),
            Step::Window {
                server,
                channel,
                bytes,
            } => {
                self.handle(server, channel).set_receive_window(bytes);
            }
            Step::Discard { server, channel } => {
                self.discarding[channel][usize::from(server)] = true;
                self.handle(server, channel).discard(Stream::STDERR);
            }
            Step::Trim { server } => self.end(server).channels.trim(),
            Step::Wait { ms } => self.pair.wait(Duration::from_millis(ms)),
        }
    }

    fn gate(&mut self, server: bool, shut: bool) {
        if std::mem::replace(&mut self.shut[usize::from(server)], shut) != shut {
            if shut {
                self.end(server).shut_gate()
            } else {
                self.end(server).open_gate()
            }
        }
    }

    fn write(&mut self, server: bool, channel: usize, stderr: bool, len: usize) {
        let stream = &mut self.streams[channel][usize::from(!server)][usize::from(stderr)];
        let bytes: Vec<u8> = (0..len)
            .map(|i| stream.next.wrapping_add(i as u8))
            .collect();
        let window = self.handle(server, channel).send_window() as usize;
        let written = self
            .handle(server, channel)
            .write(Stream(u32::from(stderr)), &bytes);
        match written {
            Ok(taken) => {
                assert!(taken <= window && (taken > 0 || len == 0));
                let stream = &mut self.streams[channel][usize::from(!server)][usize::from(stderr)];
                stream.next = stream.next.wrapping_add(taken as u8);
                stream.bytes.extend(&bytes[..taken]);
                self.blocked[channel][usize::from(server)] = false;
            }
            Err(WriteError::Blocked) => self.blocked[channel][usize::from(server)] = true,
            Err(WriteError::Closed) => {
                // Somebody has said EOF here or CLOSE anywhere.
                assert!(self.done[channel].contains(&true));
            }
        }
    }

    fn read(&mut self, server: bool, channel: usize, stderr: bool, len: usize, lend: bool) {
        let mut handle = self.handle(server, channel);
        let stream = Stream(u32::from(stderr));
        let before = handle.readable(stream);
        let read = if lend {
            let chunk = handle.chunk(stream);
            assert_eq!(chunk.is_empty(), before == 0);
            let chunk = chunk[..chunk.len().min(len)].to_vec();
            handle.consume(stream, chunk.len());
            chunk
        } else {
            let mut buf = vec![0; len];
            let read = handle.read(stream, &mut buf);
            assert_eq!(read, before.min(len));
            buf.truncate(read);
            buf
        };
        assert_eq!(handle.readable(stream), before - read.len());
        let model = &mut self.streams[channel][usize::from(server)][usize::from(stderr)];
        for byte in read {
            assert_eq!(
                model.bytes.pop_front(),
                Some(byte),
                "in order, and nothing invented"
            );
        }
    }

    fn deliver(&mut self, to_server: bool, max: usize) {
        let Pair { client, server } = &mut self.pair;
        let (from, to) = if to_server {
            (client, server)
        } else {
            (server, client)
        };
        deliver(from, to, max).unwrap();
        self.check();
    }

    /// What each side thinks the other may send agrees with what the other thinks, once nothing is under way.
    fn check(&mut self) {
        for server in [false, true] {
            self.end(server).notices();
            for channel in 0..CHANNELS {
                let (local, peer) = self.ids[channel];
                let id = if server { peer } else { local };
                for event in self.end(server).events_of(id) {
                    if event == ChannelEvent::Writable {
                        self.blocked[channel][usize::from(server)] = false;
                    }
                }
            }
        }
    }

    /// Opens all gates, delivers everything, reads everything: no byte may be missing, nobody may be stuck.
    fn finish(mut self) {
        for server in [false, true] {
            self.gate(server, false);
        }
        for _ in 0..4 {
            self.pair.run();
            for server in [false, true] {
                for channel in 0..CHANNELS {
                    for stderr in [false, true] {
                        self.read(server, channel, stderr, usize::MAX / 2, true);
                        while self
                            .handle(server, channel)
                            .readable(Stream(u32::from(stderr)))
                            > 0
                        {
                            self.read(server, channel, stderr, 1 << 20, true);
                        }
                    }
                }
            }
            self.pair.wait(Duration::from_millis(50));
            self.check();
        }
        for channel in 0..CHANNELS {
            for server in [false, true] {
                let at = usize::from(server);
                let [data, stderr] = &self.streams[channel][at];
                assert!(data.bytes.is_empty(), "all that was written was read");
                assert!(stderr.bytes.is_empty() || self.discarding[channel][at]);
                if self.done[channel] == [false; 2] {
                    // All credit is back, but for what is less than worth a packet.
                    let target = self.handle(!server, channel).receive_window();
                    let window = self.handle(server, channel).send_window();
                    assert!(window >= target / 4 || target < 4, "{window} of {target}");
                    assert!(!self.blocked[channel][at], "a blocked writer was forgotten");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn streams_are_exact_under_any_interleaving(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
        }
        world.finish();
    }

    /// Messages of any kind, well-formed or not, between commands of any kind: errors at the worst.
    #[test]
    fn no_message_and_no_order_of_commands_panics(
        server in any::<bool>(),
        steps in prop::collection::vec((0_u8..24, 0_usize..6, prop::collection::vec(any::<u8>(), 0..24)), 1..100),
    ) {
        let own = Extensions {
            channel_kinds: vec!["a".into()],
            channel_requests: vec!["a".into()],
            global_requests: vec!["a".into()],
        };
        let side = if server { Side::Server } else { Side::Client };
        let mut end = End::new(side, Limits::default(), &own);
        let mut known: Vec<ChannelId> = Vec::new();
        let mut opens = Vec::new();
        let mut globals = Vec::new();
        let mut asked = Vec::new();
        for (step, which, bytes) in steps {
            let id = known.get(which % known.len().max(1)).copied().unwrap_or(ChannelId { slot: 0, generation: 0 });
            match step {
                0 => _ = end.with(|channels, cx| channels.open(OpenChannel::Custom { kind: "a", data: &bytes }, cx)).map(|id| known.push(id)),
                1 => if let Some(request) = opens.pop() {
                    _ = end.with(|channels, cx| channels.accept_open(&request, &bytes, cx)).map(|id| known.push(id));
                    let stale = end.with(|channels, cx| channels.accept_open(&request, &bytes, cx));
                    prop_assert!(matches!(stale, Err(Misuse::StaleToken | Misuse::Closed)));
                },
                2 => if let Some(request) = opens.pop() {
                    _ = end.with(|channels, cx| channels.refuse_open(&request, OpenFailureReason(9), "", cx));
                },
                3 => if let Some(token) = globals.pop() {
                    _ = end.with(|channels, cx| channels.answer_global(&token, Answer::Accept(&bytes), cx));
                },
                4 => _ = end.with(|channels, cx| channels.global_request("a", &bytes, true, cx)),
                5 if which == 0 => end.shut_gate(),
                5 => end.open_gate(),
                6 => end.wait(Duration::from_secs(which as u64 * 10)),
                7 => _ = end.sent(),
                8 if which == 0 => end.with(|channels, cx| channels.end(cx)),
                9 => end.channels.trim(),
                10 => for notice in end.notices() {
                    match notice {
                        Notice::OpenRequested(request) => opens.push(request),
                        Notice::GlobalRequested(request) => globals.extend(request.token),
                        _ => {}
                    }
                },
                11 => _ = end.receive(&bytes),
                // A message with a number that means something, to a channel that may exist.
                12..=15 => {
                    let number = [80, 81, 82, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100][(bytes.len() + which) % 14];
                    let mut payload = vec![number, 0, 0, 0, which as u8];
                    payload.extend_from_slice(&bytes);
                    _ = end.receive(&payload);
                }
                16 => _ = end.receives(&msg::ChannelOpen { channel_type: if which < 3 { "a" } else { "session" }, sender_channel: 1, initial_window_size: 50, maximum_packet_size: 7, data: Rest(&bytes) }),
                17 => _ = end.receives(&msg::ChannelOpenConfirmation { recipient_channel: which as u32, sender_channel: 1, initial_window_size: 50, maximum_packet_size: 7, data: Rest(&bytes) }),
                18 => _ = end.receives(&msg::ChannelData { recipient_channel: which as u32, data: &bytes }),
                19 => _ = end.receives(&msg::ChannelClose { recipient_channel: which as u32 }),
                20 => {
                    let name = ["a", "shell", "exec", "pty-req", "exit-signal", "window-change"][which];
                    _ = end.receive(&request(id, name, true, &bytes));
                }
                _ => if let Some(mut channel) = end.client_opt(id) {
                    match (step, which) {
                        (21, 0) => _ = channel.write(Stream(bytes.len() as u32), &bytes),
                        (21, 1) => channel.eof(),
                        (21, 2) => channel.close(),
                        (21, 3) => channel.release(),
                        (21, 4) => _ = channel.start(Program::Shell),
                        (21, _) => _ = channel.resize(WindowSize::default()),
                        (22, 0) => channel.consume(Stream::DATA, bytes.len()),
                        (22, 1) => channel.discard(Stream::DATA),
                        (22, 2) => channel.combine_stderr(),
                        (22, 3) => channel.set_receive_window(bytes.len() as u32),
                        (22, 4) => _ = channel.take(Stream::DATA),
                        (22, _) => _ = channel.request("a", &bytes, true),
                        (_, 0) => if let Some(token) = asked.pop() { _ = channel.reply(token, bytes.is_empty()) },
                        _ => while let Some(event) = channel.poll_event() {
                            if let ChannelEvent::Requested { token, .. } = event { asked.extend(token) }
                        },
                    }
                },
            }
        }
        end.with(|channels, cx| channels.end(cx));
        for id in known {
            if let Some(mut channel) = end.client_opt(id) {
                channel.release();
            }
        }
        prop_assert_eq!(end.channels.slots.len(), 0);
    }
}
