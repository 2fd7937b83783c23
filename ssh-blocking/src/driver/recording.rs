//! The recording of a connection, on its way to whoever wants it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ssh_proto::Role;

use super::{RecordingCallback, Shared, tell};

impl<R: Role> Shared<R> {
    /// Hands the recording over from now on. The connection was made to record.
    pub(crate) fn record_to(&self, callback: RecordingCallback) {
        _ = self.recording.set(Mutex::new(Some(callback)));
    }

    /// Hands over what there is. Whoever finds the callback busy leaves it to the thread that is at it.
    pub(super) fn drain_recording(&self) {
        let callback = self.recording.get().map(Mutex::try_lock);
        if let Some(Ok(callback)) = callback {
            self.hand_over_recording(callback);
        }
    }

    /// Hands over what is left, with the last line.
    pub(super) fn end_recording(&self) {
        let Some(callback) = self.recording.get() else {
            return;
        };
        let mut callback = callback.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = self.lock().conn.finish_recording();
        if let Some(text) = rest {
            // The connection has ended already.
            tell(&mut callback, |callback| callback(&text));
        }
    }

    fn hand_over_recording(&self, mut callback: MutexGuard<'_, Option<RecordingCallback>>) {
        loop {
            let text = self.lock().conn.take_recording();
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                return;
            };
            if !tell(&mut callback, |callback| callback(&text)) {
                drop(callback);
                self.panicked();
                return;
            }
        }
    }
}
