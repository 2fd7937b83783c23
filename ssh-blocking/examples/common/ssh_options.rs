//! The command line of the `ssh` example.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use ssh_blocking::ForwardTarget;
use ssh_blocking::ssh_proto::config::{ClientConfig, Keepalive};
use ssh_blocking::ssh_proto::log::LogLevel;

pub(crate) type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: ssh [-p PORT] [-i KEY]... [-l USER] [-o NAME=VALUE]... [-t] [-T] [-n] [-N] [-v] [-V]\n       \
                     [-L [BIND:]PORT:HOST:PORT] [-L [BIND:]PORT:PATH] [-L PATH:HOST:PORT] [-L PATH:PATH]\n       \
                     [-R as -L, or [BIND:]PORT alone] [-D [BIND:]PORT] [user@]HOST [COMMAND...]";

/// Where a forward listens.
pub(crate) enum Listen {
    Tcp(String, u16),
    Path(PathBuf),
}

/// What is forwarded. A target of `None` asks each connection (SOCKS).
pub(crate) struct ForwardOption {
    pub(crate) remote: bool,
    pub(crate) listen: Listen,
    pub(crate) target: Option<ForwardTarget>,
    /// As it was written.
    pub(crate) text: String,
}

/// What the command line says.
pub(crate) struct Options {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) identities: Vec<PathBuf>,
    /// `None`: a shell.
    pub(crate) command: Option<Vec<u8>>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) config: ClientConfig,
    pub(crate) no_input: bool,
    /// No command: forwards only.
    pub(crate) no_command: bool,
    pub(crate) forwards: Vec<ForwardOption>,
    pub(crate) exit_on_forward_failure: bool,
    terminal: u32,
    no_terminal: bool,
}

impl Options {
    /// Whether a terminal is to be asked for.
    pub(crate) fn tty(&self, local: bool) -> bool {
        // As in OpenSSH: once asks for one where there is one here, twice in any case.
        !self.no_terminal
            && (self.terminal > 1 || local && (self.terminal > 0 || self.command.is_none()))
    }

    /// Whether nothing is to run without one.
    pub(crate) const fn insists_on_tty(&self) -> bool {
        self.terminal > 0
    }

    pub(crate) fn from_arguments() -> Result<Self, Failure> {
        let mut parser = lexopt::Parser::from_env();
        let mut options = Self {
            host: String::new(),
            port: 22,
            user: String::new(),
            identities: Vec::new(),
            command: None,
            fingerprint: None,
            connect_timeout: None,
            config: ClientConfig::new(),
            no_input: false,
            no_command: false,
            forwards: Vec::new(),
            exit_on_forward_failure: false,
            terminal: 0,
            no_terminal: false,
        };
        let mut verbose = 0;
        let mut alive = Alive {
            interval: 0,
            count: 3,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Short('p') => options.port = parser.value()?.parse()?,
                Short('i') => options.identities.push(parser.value()?.into()),
                Short('l') => options.user = parser.value()?.string()?,
                Short('o') => {
                    let option = parser.value()?.string()?;
                    options.set(&option, &mut alive)?;
                }
                Short('t') => options.terminal += 1,
                Short('T') => options.no_terminal = true,
                Short('n') => options.no_input = true,
                Short('N') => options.no_command = true,
                Short('L') => options.forward(false, parser.value()?.string()?)?,
                Short('R') => options.forward(true, parser.value()?.string()?)?,
                Short('D') => options.dynamic(parser.value()?.string()?)?,
                Short('v') => verbose += 1,
                Short('V') => {
                    println!("ssh example of ssh-blocking {}", env!("CARGO_PKG_VERSION"));
                    std::process::exit(0);
                }
                Value(destination) => {
                    options.destination(&destination)?;
                    options.command = command(parser.raw_args()?);
                    break;
                }
                other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
            }
        }
        if options.host.is_empty() {
            return Err(USAGE.into());
        }
        if options.user.is_empty() {
            options.user = std::env::var("USER")
                .or_else(|_| std::env::var("LOGNAME"))
                .map_err(|_| "no user name: give one with -l")?;
        }
        let transport = &mut options.config.transport;
        if alive.interval > 0 {
            transport.keepalive = Some(Keepalive {
                interval: Duration::from_secs(alive.interval),
                count: alive.count,
            });
        }
        transport.log = match verbose {
            0 => LogLevel::Off,
            1 => LogLevel::Info,
            2 => LogLevel::Debug,
            _ => LogLevel::Packet,
        };
        Ok(options)
    }

    fn forward(&mut self, remote: bool, text: String) -> Result<(), Failure> {
        let bad = || {
            format!(
                "{}{text}: bad forwarding",
                if remote { "-R " } else { "-L " }
            )
        };
        let fields = fields(&text).ok_or_else(bad)?;
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let port = |text: &str| text.parse::<u16>().map_err(|_| bad());
        let is_path = |text: &str| text.contains('/');
        let tcp = |bind: &str, at: &str| Ok::<_, String>(Listen::Tcp(bind.to_owned(), port(at)?));
        let to = |host: &str, at: &str| {
            Ok::<_, String>(Some(ForwardTarget::from((host.to_owned(), port(at)?))))
        };
        let to_path = |path: &str| Some(ForwardTarget::Path(path.into()));
        let from_path = |path: &str| Listen::Path(path.into());
        let (listen, target) = match fields.as_slice() {
            [from, target] if is_path(from) && is_path(target) => {
                (from_path(from), to_path(target))
            }
            [from, host, at] if is_path(from) => (from_path(from), to(host, at)?),
            [from, target] if is_path(target) => (tcp("localhost", from)?, to_path(target)),
            [bind, from, target] if is_path(target) => (tcp(bind, from)?, to_path(target)),
            [from, host, at] => (tcp("localhost", from)?, to(host, at)?),
            [bind, from, host, at] => (tcp(bind, from)?, to(host, at)?),
            [from] if remote => (tcp("localhost", from)?, None),
            [bind, from] if remote => (tcp(bind, from)?, None),
            _ => return Err(bad().into()),
        };
        self.forwards.push(ForwardOption {
            remote,
            listen,
            target,
            text,
        });
        Ok(())
    }

    fn dynamic(&mut self, text: String) -> Result<(), Failure> {
        let bad = || format!("-D {text}: bad forwarding");
        let fields = fields(&text).ok_or_else(bad)?;
        let (bind, from) = match fields.as_slice() {
            [from] => ("localhost", from),
            [bind, from] => (bind.as_str(), from),
            _ => return Err(bad().into()),
        };
        self.forwards.push(ForwardOption {
            remote: false,
            listen: Listen::Tcp(bind.to_owned(), from.parse().map_err(|_| bad())?),
            target: None,
            text,
        });
        Ok(())
    }

    fn destination(&mut self, destination: &OsStr) -> Result<(), Failure> {
        let destination = destination.to_str().ok_or("the host name is no UTF-8")?;
        let (user, host) = match destination.rsplit_once('@') {
            Some((user, host)) => (user, host),
            None => ("", destination),
        };
        if self.user.is_empty() {
            self.user = user.to_owned();
        }
        self.host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if self.host.is_empty() {
            return Err(format!("no host in {destination:?}").into());
        }
        Ok(())
    }

    /// One `-o NAME=VALUE`. Names do not mind case, as in OpenSSH.
    fn set(&mut self, option: &str, alive: &mut Alive) -> Result<(), Failure> {
        let (name, value) = option
            .split_once(['=', ' '])
            .ok_or_else(|| format!("-o {option}: NAME=VALUE is wanted"))?;
        let value = value.trim();
        let bad = |error: &dyn std::fmt::Display| format!("-o {name}: {error}");
        let algorithms = &mut self.config.transport.algorithms;
        match name.to_ascii_lowercase().as_str() {
            "ciphers" => algorithms.ciphers = value.parse().map_err(|error| bad(&error))?,
            "macs" => algorithms.macs = value.parse().map_err(|error| bad(&error))?,
            "kexalgorithms" => algorithms.kex = value.parse().map_err(|error| bad(&error))?,
            "hostkeyalgorithms" => {
                algorithms.host_keys = value.parse().map_err(|error| bad(&error))?;
            }
            "rekeylimit" => {
                let (bytes, time) = rekey_limit(value).map_err(|error| bad(&error))?;
                let rekey = &mut self.config.transport.rekey;
                if let Some(bytes) = bytes {
                    rekey.bytes = bytes;
                }
                if let Some(time) = time {
                    rekey.time = time;
                }
            }
            "exitonforwardfailure" => {
                self.exit_on_forward_failure = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(bad(&"yes or no is wanted").into()),
                };
            }
            "connecttimeout" => {
                let seconds: u64 = value.parse().map_err(|error| bad(&error))?;
                self.connect_timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            "serveraliveinterval" => alive.interval = value.parse().map_err(|error| bad(&error))?,
            "serveralivecountmax" => alive.count = value.parse().map_err(|error| bad(&error))?,
            "hostkeyfingerprint" => {
                if !value.starts_with("SHA256:") {
                    return Err(bad(&"a fingerprint that starts with SHA256: is wanted").into());
                }
                self.fingerprint = Some(value.to_owned());
            }
            _ => return Err(format!("-o {name}: no such option").into()),
        }
        Ok(())
    }
}

/// What lies between colons; brackets hold an IPv6 address together.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (field, behind) = inner.split_once(']')?;
                match behind.strip_prefix(':') {
                    Some(behind) => (field, Some(behind)),
                    None if behind.is_empty() => (field, None),
                    None => return None,
                }
            }
            None => match rest.split_once(':') {
                Some((field, behind)) => (field, Some(behind)),
                None => (rest, None),
            },
        };
        fields.push(field.to_owned());
        match behind {
            Some(behind) => rest = behind,
            None => return Some(fields),
        }
    }
}

struct Alive {
    interval: u64,
    count: u32,
}

/// The rest of the command line, joined with spaces, as every SSH client does it.
fn command(rest: impl Iterator<Item = OsString>) -> Option<Vec<u8>> {
    let words: Vec<OsString> = rest.collect();
    if words.is_empty() {
        return None;
    }
    Some(words.join(OsStr::new(" ")).into_encoded_bytes())
}

/// `BYTES [TIME]`, each with a unit or `default`, the time also `none`: OpenSSH's `RekeyLimit`.
type RekeyLimit = (Option<u64>, Option<Option<Duration>>);

fn rekey_limit(text: &str) -> Result<RekeyLimit, String> {
    let mut words = text.split_whitespace();
    let bytes = match words.next() {
        None => return Err("a number of bytes is wanted".into()),
        Some(word) if word.eq_ignore_ascii_case("default") => None,
        Some(word) => {
            let units = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
            Some(with_unit(word, &units)?)
        }
    };
    let time = match words.next() {
        None => None,
        Some(word) if word.eq_ignore_ascii_case("none") => Some(None),
        Some(word) => {
            let units = [
                ('S', 1),
                ('M', 60),
                ('H', 3_600),
                ('D', 86_400),
                ('W', 604_800),
            ];
            Some(Some(Duration::from_secs(with_unit(word, &units)?)))
        }
    };
    match words.next() {
        None => Ok((bytes, time)),
        Some(word) => Err(format!("{word:?} is too much")),
    }
}

fn with_unit(word: &str, units: &[(char, u64)]) -> Result<u64, String> {
    let bad = || format!("{word:?} is no number with a unit");
    let last = word
        .chars()
        .next_back()
        .ok_or_else(bad)?
        .to_ascii_uppercase();
    let (digits, factor) = match units.iter().find(|(unit, _)| *unit == last) {
        Some((_, factor)) => (&word[..word.len() - 1], *factor),
        None => (word, 1),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(factor).ok_or_else(bad)
}
