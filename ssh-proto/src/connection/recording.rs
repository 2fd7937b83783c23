//! The facade of recordings: a connection that records, its text, and what a replay needs of a connection.

use std::sync::Arc;
use std::time::Instant;

use crate::crypto::drbg::{Drbg, Foreign, Seed};
use crate::packet::Input;
use crate::replay::record::Recorder;

use super::Connection;
use super::role::Role;

impl<R: Role> Connection<R> {
    /// A connection that records.
    pub(super) fn recorded(config: Arc<R::Config>, seed: Seed, now: Instant) -> Self {
        let max = R::transport(&config).limits.recording_len;
        let write_config = |text: &mut String| R::write_config(&config, text);
        let recorder = Recorder::new(&seed, write_config, max, now);
        let mut rng = Drbg::new(seed);
        *rng.foreign_draws() = Foreign::Recorded(Vec::new());
        let mut connection = Self::with_rng(config, rng, now);
        connection.out.attach(recorder);
        connection
    }

    /// The text of the recording since it was last taken; `None` where none is
    /// [made](crate::config::TransportConfig::record). All pieces together are a [`Trace`](crate::replay::Trace).
    ///
    /// Take it from time to time: when more than [`recording_len`](crate::limits::Limits::recording_len) bytes wait, the
    /// recording stops, and says so. **The text holds secrets**: the seed of all keys, passwords, data in clear.
    pub fn take_recording(&mut self) -> Option<String> {
        self.out.recorder().map(Recorder::take)
    }

    /// The rest of the recording: with the last line that says that it is whole. Nothing is recorded any more.
    pub fn finish_recording(&mut self) -> Option<String> {
        let recorder = self.out.recorder()?;
        recorder.finish();
        let text = recorder.take();
        self.out.detach();
        Some(text)
    }

    /// A connection whose draws come from elsewhere.
    pub(crate) fn replayed(config: Arc<R::Config>, rng: Drbg, now: Instant) -> Self {
        Self::with_rng(config, rng, now)
    }

    /// What the generator does about draws that are not its own.
    pub(crate) const fn foreign_draws(&mut self) -> &mut Foreign {
        self.out.rng().foreign_draws()
    }

    /// Processes bytes as [`handle_input`](Self::handle_input) did when they came: behind what waits, in one block; or,
    /// when they are `stale`, in a block of their own.
    pub(crate) fn handle_copy(&mut self, bytes: &[u8], stale: bool, now: Instant) {
        let input = if stale {
            Input::from(bytes.to_vec())
        } else {
            let len = self.pending.len().saturating_add(bytes.len());
            let mut input = Input::with_capacity(len);
            input.lend(&self.pending, self.edition);
            input.extend(bytes);
            input
        };
        self.handle_input(input, now);
    }
}
