//! The lines of a connection's key log, on their way to whoever wants them.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ssh_proto::Role;

use super::Shared;

/// Where key logs are written. Connections may share it: a line is written whole.
pub(crate) type KeyLogWriter = Arc<Mutex<dyn Write + Send>>;

impl<R: Role> Shared<R> {
    /// Writes the key log from now on. The connection was made to keep one.
    pub(crate) fn write_key_log_to(&self, writer: KeyLogWriter) {
        _ = self.key_log.set(writer);
    }

    /// Writes what there is. A writer that fails does not end the connection.
    pub(super) fn drain_key_log(&self) {
        let Some(writer) = self.key_log.get() else {
            return;
        };
        loop {
            let Some(line) = self.lock().conn.poll_key_log() else {
                return;
            };
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            _ = writer
                .write_all(line.expose())
                .and_then(|()| writer.flush());
        }
    }
}
