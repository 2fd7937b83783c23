//! Log records as events of `tracing`, in a span per connection and per channel (feature `tracing`).
//!
//! In: the records of one connection, in order, and what an adapter knows of it. Out: events and spans, for whatever
//! subscriber the program has. The state machine makes records and knows nothing of this: it stays pure, and while no
//! subscriber wants anything it makes none.
//!
//! # Names
//!
//! | | name | target | level | fields |
//! |---|---|---|---|---|
//! | span | `connection` | `ssh` | `ERROR`, so that every event has it | `role` (`client`, `server`), `peer` (an address, if known), `user` (once logged in) |
//! | span | `channel`, within it | `ssh` | `DEBUG` | `number`, `kind` |
//! | event | | `ssh::transport`, `ssh::auth`, `ssh::connection` | as below | `message` |
//!
//! [`LogLevel::Error`] is `ERROR`, `Info` is `INFO`, `Debug` is `DEBUG`, `Packet` is `TRACE`. What is in the events is what
//! is in the [records](crate::log#what-is-in-a-record).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{Level, Span, field};

use crate::connection::role::{Role, Side};
use crate::log::{LogLayer, LogLevel, LogRecord, LogSubject};

/// Who is told of log records.
pub type LogCallback = Box<dyn FnMut(&LogRecord) + Send>;

/// The spans of one connection, and the way of its records into them.
#[derive(Debug)]
pub struct Spans {
    connection: Span,
    /// By number. A record that closes one may have given way to newer ones; the next channel of its number replaces it
    /// then, so there are never more than numbers.
    channels: BTreeMap<u32, Span>,
}

/// An event in a span, with the level of the record. Target and level of an event are constants: hence the branches.
macro_rules! event {
    ($target:literal, $span:expr, $record:expr) => {
        match $record.level {
            LogLevel::Off => {}
            LogLevel::Error => {
                tracing::event!(target: $target, parent: $span, Level::ERROR, "{}", $record.text);
            }
            LogLevel::Info => {
                tracing::event!(target: $target, parent: $span, Level::INFO, "{}", $record.text);
            }
            LogLevel::Debug => {
                tracing::event!(target: $target, parent: $span, Level::DEBUG, "{}", $record.text);
            }
            LogLevel::Packet => {
                tracing::event!(target: $target, parent: $span, Level::TRACE, "{}", $record.text);
            }
        }
    };
}

/// Whether somebody wants events of this level, of whatever layer.
macro_rules! wants {
    ($level:expr) => {
        tracing::enabled!(target: "ssh::transport", $level)
            || tracing::enabled!(target: "ssh::auth", $level)
            || tracing::enabled!(target: "ssh::connection", $level)
    };
}

impl Spans {
    /// The spans of a connection that is about to be made, and the configuration to make it with: one that keeps the
    /// records that the subscriber of this moment wants. The span of the connection lies in the current one.
    ///
    /// `None`: nobody wants anything. The configuration is the one that was given then, and nothing was allocated.
    pub fn begin<R: Role>(
        config: Arc<R::Config>,
        peer: impl FnOnce() -> Option<SocketAddr>,
    ) -> (Arc<R::Config>, Option<Self>) {
        let wanted = wanted();
        if wanted == LogLevel::Off {
            return (config, None);
        }
        let role = match R::SIDE {
            Side::Client => "client",
            Side::Server => "server",
        };
        let connection = tracing::error_span!(
            target: "ssh",
            "connection",
            role,
            peer = peer().map(field::display),
            user = field::Empty
        );
        let config = if R::transport(&config).log < wanted {
            Arc::new(R::with_log(&config, wanted))
        } else {
            config
        };
        let spans = Self {
            connection,
            channels: BTreeMap::new(),
        };
        (config, Some(spans))
    }

    /// Makes an event of a record of the connection.
    pub fn tell(&mut self, record: &LogRecord) {
        let number = match &record.subject {
            LogSubject::LoggedIn(user) => {
                self.connection.record("user", field::display(user));
                None
            }
            LogSubject::ChannelOpened { number, kind } => {
                let parent = &self.connection;
                let span = tracing::debug_span!(
                    target: "ssh",
                    parent: parent,
                    "channel",
                    number,
                    kind = field::display(kind)
                );
                self.channels.insert(*number, span);
                Some(number)
            }
            LogSubject::Channel(number) | LogSubject::ChannelClosed(number) => Some(number),
            LogSubject::Connection | LogSubject::Ended => None,
        };
        let span = number
            .and_then(|number| self.channels.get(number))
            .unwrap_or(&self.connection);
        match record.layer {
            LogLayer::Transport => event!("ssh::transport", span, record),
            LogLayer::Authentication => event!("ssh::auth", span, record),
            LogLayer::Connection => event!("ssh::connection", span, record),
        }
        match &record.subject {
            LogSubject::ChannelClosed(number) => _ = self.channels.remove(number),
            LogSubject::Ended => {
                // Handles of the connection may live on for long; its span does not.
                self.channels.clear();
                self.connection = Span::none();
            }
            _ => {}
        }
    }
}

/// The records that the current subscriber wants.
fn wanted() -> LogLevel {
    if wants!(Level::TRACE) {
        LogLevel::Packet
    } else if wants!(Level::DEBUG) {
        LogLevel::Debug
    } else if wants!(Level::INFO) {
        LogLevel::Info
    } else if wants!(Level::ERROR) {
        LogLevel::Error
    } else {
        LogLevel::Off
    }
}

/// [`Spans::begin`] for adapters with a callback: the one that is returned tells the spans, and then `log`, of those
/// records only that the given configuration asks for.
pub fn traced<R: Role>(
    config: Arc<R::Config>,
    peer: Option<SocketAddr>,
    log: Option<LogCallback>,
) -> (Arc<R::Config>, Option<LogCallback>) {
    let level = R::transport(&config).log;
    let (config, spans) = Spans::begin::<R>(config, || peer);
    let Some(mut spans) = spans else {
        return (config, log);
    };
    let mut log = log;
    let tell: LogCallback = Box::new(move |record| {
        spans.tell(record);
        if let Some(log) = log.as_mut().filter(|_| record.level <= level) {
            log(record);
        }
    });
    (config, Some(tell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientConfig, ClientRole};

    #[test]
    fn without_a_subscriber_nothing_is_made() {
        let config = Arc::new(ClientConfig::new());
        let (same, log) = traced::<ClientRole>(Arc::clone(&config), None, None);
        assert!(Arc::ptr_eq(&config, &same) && log.is_none());
        let (same, spans) =
            Spans::begin::<ClientRole>(Arc::clone(&config), || unreachable!("nobody asks"));
        assert!(Arc::ptr_eq(&config, &same) && spans.is_none());
    }
}
