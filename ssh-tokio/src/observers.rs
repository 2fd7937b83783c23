//! Who is told what a connection does: of its log, its recording, its key log.
//!
//! In: what the state machine keeps of these. Out: calls, outside the lock.

#[cfg(feature = "keylog")]
use std::io::Write;
#[cfg(feature = "keylog")]
use std::sync::{Arc, Mutex, PoisonError};

use ssh_proto::Role;
use ssh_proto::log::LogRecord;

use crate::core::Shared;

pub(crate) type LogCallback = Box<dyn FnMut(&LogRecord) + Send>;
#[cfg(feature = "replay")]
pub(crate) type RecordingCallback = Box<dyn FnMut(&str) + Send>;
/// Where key logs are written. Connections may share it: a line is written whole.
#[cfg(feature = "keylog")]
pub(crate) type KeyLogWriter = Arc<Mutex<dyn Write + Send>>;

/// The observers of one connection, which was made to keep what they want.
pub(crate) struct Observers {
    pub(crate) log: Option<LogCallback>,
    #[cfg(feature = "replay")]
    pub(crate) recording: Option<RecordingCallback>,
    #[cfg(feature = "keylog")]
    pub(crate) key_log: Option<KeyLogWriter>,
}

impl Observers {
    /// Hands over what there is.
    pub(crate) fn tell<R: Role>(&mut self, shared: &Shared<R>) {
        #[cfg(feature = "replay")]
        if let Some(callback) = &mut self.recording {
            let text = shared.lock().conn.take_recording();
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                callback(&text);
            }
        }
        #[cfg(feature = "keylog")]
        if let Some(writer) = &self.key_log {
            write_key_log(writer, shared);
        }
        let Some(log) = &mut self.log else {
            return;
        };
        loop {
            let Some(record) = shared.lock().conn.poll_log() else {
                return;
            };
            log(&record);
        }
    }

    /// Hands over what is left: nothing follows.
    pub(crate) fn finish<R: Role>(&mut self, shared: &Shared<R>) {
        self.tell(shared);
        #[cfg(feature = "replay")]
        if let Some(callback) = &mut self.recording {
            let rest = shared.lock().conn.finish_recording();
            if let Some(text) = rest {
                callback(&text);
            }
        }
    }
}

/// A writer that fails does not end the connection.
#[cfg(feature = "keylog")]
fn write_key_log<R: Role>(writer: &KeyLogWriter, shared: &Shared<R>) {
    loop {
        let Some(line) = shared.lock().conn.poll_key_log() else {
            return;
        };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        _ = writer
            .write_all(line.expose())
            .and_then(|()| writer.flush());
    }
}
