//! Two ends joined by their outputs, without keys: what one emits is taken apart and handed to the other.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::*;
use crate::config::Extensions;
use crate::connection::cx::{Cx, Events, Payload};
use crate::connection::role::{ClientRole, ServerRole, Side};
use crate::crypto::drbg::{Drbg, Seed};
use crate::error::{Error, Misuse, PeerError, WriteError};
use crate::limits::Limits;
use crate::log::{Log, LogLevel};
use crate::msg::connection as msg;
use crate::msg::{Message, Rest};
use crate::packet::Input;
use crate::packet::output::Output;
use crate::packet::sealer::Sealer;

mod bounds;
mod data;
mod forward;
mod lengths;
mod model;
mod requests;
mod session;

/// Some instant: what it is does not matter.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to make one"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}

/// One end of a connection, from the connection protocol upwards.
struct End {
    channels: Channels,
    out: Output,
    events: Events<Notice>,
    log: Log,
    limits: Limits,
    now: Instant,
}

impl End {
    fn new(side: Side, limits: Limits, own: &Extensions) -> Self {
        let rng = Drbg::new(Seed::new([7; 32]));
        let mut channels = Channels::new(side, own, Some(Duration::from_secs(60)));
        channels.enable();
        Self {
            channels,
            out: Output::new(rng, Sealer::default(), limits.deferred_len),
            events: Events::new(limits.events),
            log: Log::new(LogLevel::Off, false, 0),
            limits,
            now: start(),
        }
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Channels, &mut Cx<'_, Notice>) -> T) -> T {
        let mut cx = Cx {
            out: &mut self.out,
            events: &mut self.events,
            log: &mut self.log,
            limits: &self.limits,
            now: self.now,
        };
        call(&mut self.channels, &mut cx)
    }

    fn handle(&mut self, id: ChannelId) -> Option<handle::Handle<'_>> {
        self.channels
            .channel(id, &mut self.out, &mut self.log, &self.limits, self.now)
    }

    fn client(&mut self, id: ChannelId) -> Channel<'_, ClientRole> {
        Channel::new(self.handle(id).unwrap())
    }

    fn server(&mut self, id: ChannelId) -> Channel<'_, ServerRole> {
        Channel::new(self.handle(id).unwrap())
    }

    /// Hands over one message, alone in its block.
    fn receive(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut input = Input::with_capacity(payload.len());
        input.extend(payload);
        let outcome = self.with(|channels, cx| {
            let payload = Payload {
                bytes: input.filled(),
                offset: 0,
            };
            channels.handle(payload, cx)
        });
        self.channels.settle(input);
        outcome
    }

    fn receives<'m>(&mut self, message: &impl Message<'m>) -> Result<(), Error> {
        self.receive(&message.to_payload())
    }

    fn notices(&mut self) -> Vec<Notice> {
        self.channels.announce(&mut self.events);
        std::iter::from_fn(|| self.events.poll()).collect()
    }

    /// All events of a channel.
    fn events_of(&mut self, id: ChannelId) -> Vec<ChannelEvent> {
        std::iter::from_fn(|| self.client_opt(id)?.poll_event()).collect()
    }

    fn client_opt(&mut self, id: ChannelId) -> Option<Channel<'_, ClientRole>> {
        self.handle(id).map(Channel::new)
    }

    /// The payloads that wait in the output, taken out of it.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let (payloads, len) = payloads(self.out.pending(), usize::MAX);
        let payloads = payloads
            .iter()
            .map(|range| self.out.pending()[range.clone()].to_vec())
            .collect();
        self.out.consume(len);
        self.with(|channels, cx| channels.flush_owed(cx));
        payloads
    }

    fn numbers(&mut self) -> Vec<u8> {
        self.sent().iter().map(|payload| payload[0]).collect()
    }

    fn shut_gate(&mut self) {
        self.out.shut_gate();
    }

    fn open_gate(&mut self) {
        self.out.open_gate(Sealer::default());
        self.with(|channels, cx| channels.flush_owed(cx));
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.with(|channels, cx| channels.handle_timeout(cx));
    }

    /// Memory that grows with use, in elements of whatever it is.
    fn footprint(&self) -> usize {
        self.channels.footprint() + self.channels.idle_memory()
    }
}

/// Where the payloads of whole packets lie, of at most `max` bytes together; and how long these packets are.
fn payloads(bytes: &[u8], max: usize) -> (Vec<Range<usize>>, usize) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 5) {
        let len = u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
        if at + 4 + len > max {
            break;
        }
        found.push(at + 5..at + 4 + len - usize::from(header[4]));
        at += 4 + len;
    }
    (found, at)
}

/// Moves up to `max` bytes of whole packets, at least one packet, from one end to the other, in one block.
fn deliver(from: &mut End, to: &mut End, max: usize) -> Result<usize, Error> {
    let pending = from.out.pending();
    let first = pending
        .first_chunk()
        .map_or(0, |len| u32::from_be_bytes(*len) as usize + 4);
    let (ranges, len) = payloads(pending, max.max(first));
    let mut input = to.channels.spare().unwrap_or_default();
    if input.capacity() < len {
        input = Input::with_capacity(len.max(64 * 1024));
    }
    input.extend(&from.out.pending()[..len]);
    from.out.consume(len);
    from.with(|channels, cx| channels.flush_owed(cx));
    for range in ranges {
        let payload = Payload {
            bytes: &input.filled()[range.clone()],
            offset: range.start,
        };
        to.with(|channels, cx| channels.handle(payload, cx))?;
    }
    // As the spine does: what is kept is kept.
    input.clear();
    to.channels.settle(input);
    Ok(len)
}

/// A client and a server.
struct Pair {
    client: End,
    server: End,
}

impl Pair {
    fn new() -> Self {
        Self::with(Limits::default(), &Extensions::default())
    }

    fn with(limits: Limits, own: &Extensions) -> Self {
        Self {
            client: End::new(Side::Client, limits, own),
            server: End::new(Side::Server, limits, own),
        }
    }

    /// Until nothing is under way.
    fn run(&mut self) {
        loop {
            let up = deliver(&mut self.client, &mut self.server, 64 * 1024).unwrap();
            let down = deliver(&mut self.server, &mut self.client, 64 * 1024).unwrap();
            if up + down == 0 {
                break;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.client.wait(time);
        self.server.wait(time);
    }

    /// A session, open on both ends.
    fn session(&mut self) -> (ChannelId, ChannelId) {
        let local = self
            .client
            .with(|channels, cx| channels.open(OpenChannel::Session, cx))
            .unwrap();
        self.run();
        let request = open_request(&mut self.server);
        let peer = self
            .server
            .with(|channels, cx| channels.accept_open(&request, b"", cx))
            .unwrap();
        self.run();
        assert_eq!(
            self.client.events_of(local),
            [ChannelEvent::Opened { data: vec![] }]
        );
        self.client.notices();
        (local, peer)
    }
}

fn open_request(end: &mut End) -> OpenRequest {
    end.notices()
        .into_iter()
        .find_map(|notice| match notice {
            Notice::OpenRequested(request) => Some(request),
            _ => None,
        })
        .unwrap()
}

/// The tokens in some events.
fn tokens(events: Vec<ChannelEvent>) -> Vec<RequestToken> {
    events
        .into_iter()
        .filter_map(|event| match event {
            ChannelEvent::Requested { token, .. } => token,
            _ => None,
        })
        .collect()
}

/// A channel request as the peer would send it.
fn request(channel: ChannelId, name: &str, want_reply: bool, data: &[u8]) -> Vec<u8> {
    msg::ChannelRequest {
        recipient_channel: channel.slot,
        request_type: name,
        want_reply,
        data: Rest(data),
    }
    .to_payload()
}

fn data(channel: ChannelId, bytes: &[u8]) -> Vec<u8> {
    msg::ChannelData {
        recipient_channel: channel.slot,
        data: bytes,
    }
    .to_payload()
}

fn fault(channel: ChannelId, message: u8) -> Result<(), Error> {
    Err(PeerError::ChannelState {
        channel: channel.slot,
        message,
    }
    .into())
}
