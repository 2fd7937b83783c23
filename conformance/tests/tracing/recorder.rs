//! A subscriber that keeps everything, and what the tests ask it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The fields of a span or an event, as text.
type Fields = BTreeMap<&'static str, String>;

#[derive(Clone, Debug)]
pub(crate) struct SpanSeen {
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    pub(crate) fields: Fields,
    pub(crate) parent: Option<usize>,
    /// How many handles there are.
    handles: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct EventSeen {
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    pub(crate) span: Option<usize>,
    pub(crate) message: String,
}

#[derive(Default, Debug)]
struct Seen {
    spans: Vec<SpanSeen>,
    events: Vec<EventSeen>,
}

/// Everything of this process.
fn seen() -> MutexGuard<'static, Seen> {
    static SEEN: OnceLock<Mutex<Seen>> = OnceLock::new();
    let seen = SEEN.get_or_init(Mutex::default);
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder;

/// Records from now on, whatever thread it comes from.
pub(crate) fn record() {
    // Another test of this process has done it.
    let _ = tracing::subscriber::set_global_default(Recorder);
}

/// What was seen of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) span: SpanSeen,
    pub(crate) channels: Vec<SpanSeen>,
    /// Events of the connection itself.
    pub(crate) events: Vec<EventSeen>,
    /// Events of its channels.
    pub(crate) channel_events: Vec<EventSeen>,
}

/// The connection of this role and this user, which has ended.
#[track_caller]
pub(crate) fn connection(role: &str, user: &str) -> Connection {
    let seen = seen();
    let is = |span: &SpanSeen| {
        let has = |name, value: &str| span.fields.get(name).is_some_and(|other| other == value);
        span.name == "connection" && has("role", role) && has("user", user)
    };
    let at: Vec<usize> = (0..seen.spans.len())
        .filter(|at| is(&seen.spans[*at]))
        .collect();
    let [at] = at[..] else {
        panic!(
            "{} connections of {role} {user}: {:#?}",
            at.len(),
            seen.spans
        );
    };
    let within = |event: &&EventSeen| {
        let span = event.span.map(|span| &seen.spans[span]);
        span.is_some_and(|span| span.parent == Some(at))
    };
    Connection {
        span: seen.spans[at].clone(),
        channels: seen
            .spans
            .iter()
            .filter(|span| span.parent == Some(at))
            .cloned()
            .collect(),
        events: seen
            .events
            .iter()
            .filter(|event| event.span == Some(at))
            .cloned()
            .collect(),
        channel_events: seen.events.iter().filter(within).cloned().collect(),
    }
}

impl Connection {
    pub(crate) fn is_closed(&self) -> bool {
        self.channels
            .iter()
            .chain([&self.span])
            .all(|span| span.handles == 0)
    }

    /// All text: fields and messages, and the bytes of all hexdumps.
    pub(crate) fn output(&self) -> Vec<u8> {
        let mut output = Vec::new();
        for span in self.channels.iter().chain([&self.span]) {
            output.extend(span.fields.values().flat_map(|value| value.bytes()));
        }
        for event in self.events.iter().chain(&self.channel_events) {
            output.extend(event.message.bytes());
            output.extend(dumped(&event.message));
        }
        output
    }
}

/// The bytes of a hexdump, from its lines: four digits, a space, and sixteen times a space and two digits.
pub(crate) fn dumped(message: &str) -> Vec<u8> {
    message
        .lines()
        .skip(1)
        .filter_map(|line| line.get(5..53))
        .flat_map(str::split_ascii_whitespace)
        .filter_map(|digits| u8::from_str_radix(digits, 16).ok())
        .collect()
}

struct Collect<'a>(&'a mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

fn index(id: &Id) -> usize {
    usize::try_from(id.into_u64()).unwrap() - 1
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ssh")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        attributes.record(&mut Collect(&mut fields));
        let mut seen = seen();
        seen.spans.push(SpanSeen {
            name: attributes.metadata().name(),
            target: attributes.metadata().target(),
            fields,
            parent: attributes.parent().map(index),
            handles: 1,
        });
        Id::from_u64(u64::try_from(seen.spans.len()).unwrap())
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Collect(&mut seen().spans[index(span)].fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Collect(&mut fields));
        seen().events.push(EventSeen {
            level: *event.metadata().level(),
            target: event.metadata().target(),
            span: event.parent().map(index),
            message: fields.remove("message").unwrap_or_default(),
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn clone_span(&self, id: &Id) -> Id {
        seen().spans[index(id)].handles += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut seen = seen();
        let handles = &mut seen.spans[index(&id)].handles;
        *handles -= 1;
        *handles == 0
    }
}
