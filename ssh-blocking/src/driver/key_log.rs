//! The lines of a connection's key log, on their way to whoever wants them.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ssh_proto::Role;

use super::{Shared, tell};

/// Where key logs are written. Connections may share it: a line is written whole.
pub(crate) type KeyLogWriter = Arc<Mutex<dyn Write + Send>>;

impl<R: Role> Shared<R> {
    /// Writes the key log from now on. The connection was made to keep one.
    pub(crate) fn write_key_log_to(&self, writer: KeyLogWriter) {
        _ = self.key_log.set(Mutex::new(Some(writer)));
    }

    /// Writes what there is. A writer that fails does not end the connection; one that panics does.
    pub(super) fn drain_key_log(&self) {
        let Some(key_log) = self.key_log.get() else {
            return;
        };
        loop {
            let Some(line) = self.lock().conn.poll_key_log() else {
                return;
            };
            let mut key_log = key_log.lock().unwrap_or_else(PoisonError::into_inner);
            let returned = tell(&mut key_log, |writer| {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                _ = writer
                    .write_all(line.expose())
                    .and_then(|()| writer.flush());
            });
            drop(key_log);
            if !returned {
                self.panicked();
            }
        }
    }
}
