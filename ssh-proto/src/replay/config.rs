//! The configuration of a connection as lines of a trace, whole: a default that changes later changes no recording.
//!
//! Left out is what no byte depends on: which log records are kept. Of private host keys there is the public half; their
//! signatures are among the draws. What a line does not say (a limit that was invented after the recording) has its
//! default.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ClientConfig, Extensions, HostKey, Keepalive, ServerConfig, TransportConfig};
use crate::key::PrivateKey;
use crate::limits::{Deadlines, Limits, RekeyLimits};
use crate::names::{Algorithm, Preference};

use super::text::{Field, Fields, Problem, put, put_word};

/// The configuration of either role.
#[derive(Debug, Clone)]
pub(super) enum Configuration {
    Client(ClientConfig),
    Server(ServerConfig),
}

/// A struct of numbers as `name=number` pairs. A field that is missing here does not compile.
macro_rules! numbers {
    ($write:ident, $read:ident, $type:ident { $($field:ident),* $(,)? }) => {
        fn $write(value: &$type, line: &mut String) {
            let $type { $($field),* } = value;
            $(
                put_word(line, concat!(stringify!($field), "="));
                $field.write(line);
            )*
        }

        fn $read(value: &mut $type, fields: &mut Fields<'_>) -> Result<(), Problem> {
            while fields.finish().is_err() {
                let (name, number) = fields.word()?.split_once('=').ok_or("not a pair")?;
                match name {
                    $(stringify!($field) => value.$field = Fields::new(number).take()?,)*
                    _ => return Err("a name that is not known"),
                }
            }
            Ok(())
        }
    };
}

numbers!(
    write_limits,
    read_limits,
    Limits {
        version_line_len,
        lines_before_version,
        bytes_before_version,
        packet_len_before_auth,
        packet_len,
        name_list_len,
        ext_info_entries,
        bytes_before_auth,
        packets_before_auth,
        idle_messages,
        cheap_rekeys,
        deferred_len,
        auth_failures,
        auth_requests,
        public_key_queries,
        user_len,
        password_len,
        prompts,
        text_len,
        auth_methods,
        banners,
        channels,
        pending_opens,
        pending_requests,
        open_questions,
        forwards,
        request_len,
        term_len,
        modes_len,
        env_variables,
        env_len,
        stray_messages,
        window,
        window_budget,
        log_records,
        events,
        recording_len,
    }
);

numbers!(
    write_deadlines,
    read_deadlines,
    Deadlines {
        version,
        key_exchange,
        authentication,
        channel_open,
        idle,
    }
);

numbers!(
    write_rekey,
    read_rekey,
    RekeyLimits {
        bytes,
        packets,
        time,
    }
);

/// Names with commas between them.
impl<A: Algorithm> Field for Preference<A> {
    fn write(&self, line: &mut String) {
        line.push_str(&self.to_string());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Self::parse(fields.word()?).map_err(|_| "not a list of algorithms that are known")
    }
}

impl Field for Keepalive {
    fn write(&self, line: &mut String) {
        self.interval.write(line);
        put(line, &self.count);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            interval: fields.take()?,
            count: fields.take()?,
        })
    }
}

impl Field for HostKey {
    fn write(&self, line: &mut String) {
        line.push_str(match self {
            Self::Private(_) => "private",
            Self::External(_) => "external",
        });
        put(line, self.public());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        match fields.word()? {
            "private" => {
                let key = PrivateKey::without_secret(fields.take()?);
                Ok(Self::Private(Arc::new(key)))
            }
            "external" => fields.take().map(Self::External),
            _ => Err("neither private nor external"),
        }
    }
}

fn put_line(text: &mut String, name: &str, write: impl FnOnce(&mut String)) {
    text.push_str(name);
    write(text);
    text.push('\n');
}

fn put_field(text: &mut String, name: &str, field: &impl Field) {
    put_line(text, name, |line| put(line, field));
}

fn write_transport(config: &TransportConfig, text: &mut String) {
    let algorithms = &config.algorithms;
    put_field(text, "kex", &algorithms.kex);
    put_field(text, "host-keys", &algorithms.host_keys);
    put_field(text, "ciphers", &algorithms.ciphers);
    put_field(text, "macs", &algorithms.macs);
    put_field(text, "user-keys", &algorithms.user_keys);
    put_line(text, "limits", |line| write_limits(&config.limits, line));
    put_line(text, "deadlines", |line| {
        write_deadlines(&config.deadlines, line);
    });
    put_line(text, "rekeying", |line| write_rekey(&config.rekey, line));
    put_field(text, "keepalive", &config.keepalive);
    put_field(text, "software", &config.software);
    let Extensions {
        channel_kinds,
        channel_requests,
        global_requests,
    } = &config.own;
    put_field(text, "channel-kinds", channel_kinds);
    put_field(text, "channel-requests", channel_requests);
    put_field(text, "global-requests", global_requests);
}

/// Reads a line of what both roles have; `false` when it is none.
fn read_transport(
    config: &mut TransportConfig,
    name: &str,
    fields: &mut Fields<'_>,
) -> Result<bool, Problem> {
    let TransportConfig {
        algorithms,
        limits,
        deadlines,
        rekey,
        keepalive,
        software,
        own,
        ..
    } = config;
    match name {
        "kex" => algorithms.kex = fields.take()?,
        "host-keys" => algorithms.host_keys = fields.take()?,
        "ciphers" => algorithms.ciphers = fields.take()?,
        "macs" => algorithms.macs = fields.take()?,
        "user-keys" => algorithms.user_keys = fields.take()?,
        "limits" => read_limits(limits, fields)?,
        "deadlines" => read_deadlines(deadlines, fields)?,
        "rekeying" => read_rekey(rekey, fields)?,
        "keepalive" => *keepalive = fields.take()?,
        "software" => *software = fields.take()?,
        "channel-kinds" => own.channel_kinds = fields.take()?,
        "channel-requests" => own.channel_requests = fields.take()?,
        "global-requests" => own.global_requests = fields.take()?,
        _ => return Ok(false),
    }
    Ok(true)
}

pub(crate) fn write_client(config: &ClientConfig, text: &mut String) {
    text.push_str("role client\n");
    write_transport(&config.transport, text);
    put_field(text, "guess-kex", &config.guess_kex);
    put_field(text, "host-key-may-change", &config.allow_host_key_change);
}

pub(crate) fn write_server(config: &ServerConfig, text: &mut String) {
    text.push_str("role server\n");
    write_transport(&config.transport, text);
    for key in &config.host_keys {
        put_field(text, "host-key", key);
    }
    put_field(text, "auth-methods", &config.auth_methods);
    put_field(text, "failure-delay", &config.failure_delay);
    put_field(text, "banner", &config.banner);
}

impl Configuration {
    /// The defaults of a role, to be changed by lines; but no host keys.
    pub(super) fn of_role(role: &str) -> Result<Self, Problem> {
        match role {
            "client" => Ok(Self::Client(ClientConfig::new())),
            "server" => Ok(Self::Server(ServerConfig::new(Vec::new()))),
            _ => Err("neither client nor server"),
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        match self {
            Self::Client(config) => write_client(config, text),
            Self::Server(config) => write_server(config, text),
        }
    }

    pub(super) const fn transport(&mut self) -> &mut TransportConfig {
        match self {
            Self::Client(config) => &mut config.transport,
            Self::Server(config) => &mut config.transport,
        }
    }

    /// Reads one line.
    pub(super) fn read(&mut self, line: &str) -> Result<(), Problem> {
        let mut fields = Fields::new(line);
        let name = fields.word()?;
        if !read_transport(self.transport(), name, &mut fields)? {
            match (self, name) {
                (Self::Client(config), "guess-kex") => config.guess_kex = fields.take()?,
                (Self::Client(config), "host-key-may-change") => {
                    config.allow_host_key_change = fields.take()?;
                }
                (Self::Server(config), "host-key") => config.host_keys.push(fields.take()?),
                (Self::Server(config), "auth-methods") => config.auth_methods = fields.take()?,
                (Self::Server(config), "failure-delay") => {
                    config.failure_delay = fields.take::<Duration>()?;
                }
                (Self::Server(config), "banner") => config.banner = fields.take()?,
                _ => return Err("not a line of the configuration"),
            }
        }
        fields.finish()
    }
}
