//! A client that people can use.
//!
//! ```text
//! ssh [-p PORT] [-i KEY]... [-l USER] [-o NAME=VALUE]... [-t] [-T] [-n] [-N] [-v] [-V]
//!     [-L [BIND:]PORT:HOST:PORT] [-L [BIND:]PORT:PATH] [-L PATH:HOST:PORT] [-L PATH:PATH]
//!     [-R as -L, or [BIND:]PORT alone] [-D [BIND:]PORT] [user@]HOST [COMMAND...]
//! ```
//!
//! It ends with the status of the remote program, and with 255 when it fails itself.

#![cfg(unix)]

#[path = "common/modes.rs"]
mod modes;
#[path = "common/read_modes.rs"]
mod read_modes;
#[path = "common/ssh_options.rs"]
mod ssh_options;
#[path = "common/terminal.rs"]
mod terminal;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::termios::{tcgetattr, tcgetwinsize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use ssh_blocking::ssh_proto::key::{KeyError, PrivateKey, PublicKey};
use ssh_blocking::ssh_proto::{Prompts, PtyRequest, Secret, Signal, WindowSize};
use ssh_blocking::{
    AuthOutcome, Channel, ChildStdin, Client, ClientOptions, Error, ExitStatus, Forward,
    HostKeyPolicy, Method,
};
use ssh_options::{Failure, ForwardOption, Listen, Options};
use terminal::Reaction;

fn main() {
    let code = match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ssh: {error}");
            255
        }
    };
    terminal::exit(code);
}

fn run() -> Result<i32, Failure> {
    terminal::watch_signals()?;
    let options = Options::from_arguments()?;
    let identities = identities(&options)?;
    let client = connect(&options)?;
    log_in(&client, &options, identities)?;
    let forwards = forward(&client, &options)?;
    let code = if options.no_command {
        wait_for_end(&client)?;
        0
    } else {
        session(&client, &options)?
    };
    drop(forwards);
    client.disconnect();
    Ok(code)
}

fn connect(options: &Options) -> Result<Client, Failure> {
    let policy = match &options.fingerprint {
        Some(fingerprint) => HostKeyPolicy::fingerprint(fingerprint),
        None => {
            let host = options.host.clone();
            HostKeyPolicy::ask(move |key| ask_about(&host, key))
        }
    };
    let mut client_options = ClientOptions::new(policy)
        .config(options.config.clone())
        .on_banner(|text| eprint!("{text}"))
        // A raw terminal does not go back to the start of the line by itself.
        .on_log(|record| eprint!("debug: {record}\r\n"));
    if let Some(timeout) = options.connect_timeout {
        client_options = client_options.connect_timeout(timeout);
    }
    let address = (options.host.as_str(), options.port);
    match Client::connect(address, client_options) {
        Ok(client) => Ok(client),
        Err(Error::Io(error)) => {
            Err(format!("connect to {} port {}: {error}", options.host, options.port).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows the host key and asks the user. Without a terminal there is nobody to ask, and the answer is no.
fn ask_about(host: &str, key: &PublicKey) -> bool {
    let fingerprint = key.fingerprint_sha256();
    eprintln!("The authenticity of host '{host}' cannot be established.");
    eprintln!("{} key fingerprint is {fingerprint}.", key.key_type());
    if !terminal::is_there() {
        eprintln!(
            "There is no terminal to ask on: pin it with -o HostKeyFingerprint={fingerprint}"
        );
        return false;
    }
    let mut question = "Are you sure you want to continue connecting (yes/no/[fingerprint])? ";
    while let Some(answer) = terminal::ask(question, true) {
        match answer.expose().trim_ascii() {
            b"yes" => return true,
            b"no" => return false,
            // Whoever types or pastes it has compared it better than the eye does.
            other if other == fingerprint.as_bytes() => return true,
            _ => question = "Please answer yes, no or the fingerprint: ",
        }
    }
    false
}

/// A key to try: here, or in a file that is opened with a passphrase when the server wants the key.
enum Identity {
    Open(Arc<PrivateKey>),
    Locked {
        path: PathBuf,
        file: Secret,
        public: PublicKey,
    },
}

fn identities(options: &Options) -> Result<Vec<Identity>, Failure> {
    if options.identities.is_empty() {
        let Some(home) = std::env::home_dir() else {
            return Ok(Vec::new());
        };
        // The usual places: what is not there or is no key is passed over.
        return Ok(["id_ed25519", "id_ecdsa", "id_rsa"]
            .iter()
            .filter_map(|name| identity(&home.join(".ssh").join(name)).ok())
            .collect());
    }
    options
        .identities
        .iter()
        .map(|path| identity(path))
        .collect()
}

fn identity(path: &Path) -> Result<Identity, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = Secret::from(std::fs::read(path).map_err(|error| named(&error))?);
    match PrivateKey::from_openssh(file.expose(), None) {
        Ok(key) => Ok(Identity::Open(Arc::new(key))),
        Err(KeyError::PassphraseNeeded) => {
            let public =
                PublicKey::from_openssh_private(file.expose()).map_err(|error| named(&error))?;
            Ok(Identity::Locked {
                path: path.to_owned(),
                file,
                public,
            })
        }
        Err(error) => Err(named(&error).into()),
    }
}

fn log_in(client: &Client, options: &Options, identities: Vec<Identity>) -> Result<(), Failure> {
    let user = options.user.as_str();
    let can_ask = terminal::is_there();
    let mut ask = || terminal::ask(&format!("{user}@{}'s password: ", options.host), false);
    let mut answer = |prompts: &Prompts| answer_prompts(prompts);
    let mut signers: Vec<_> = identities.into_iter().map(signer).collect();
    let mut methods: Vec<Method<'_>> = Vec::new();
    for signer in &mut signers {
        methods.push(match signer {
            Ok(key) => Method::PublicKey(Arc::clone(key)),
            Err((public, sign)) => Method::External {
                key: public.clone(),
                sign,
            },
        });
    }
    if can_ask {
        methods.push(Method::KeyboardInteractive(&mut answer));
        methods.push(Method::AskPassword {
            ask: &mut ask,
            tries: 3,
        });
    }
    match client.authenticate(user, &mut methods)? {
        AuthOutcome::Success => Ok(()),
        AuthOutcome::Refused { methods, .. } => Err(format!(
            "{user}@{}: Permission denied ({}).",
            options.host,
            methods.join(",")
        )
        .into()),
        other => Err(format!("{user}@{}: Permission denied ({other:?}).", options.host).into()),
    }
}

type Sign = Box<dyn FnMut(&ssh_proto::SignatureRequest) -> Option<Vec<u8>>>;

fn signer(identity: Identity) -> Result<Arc<PrivateKey>, (PublicKey, Sign)> {
    match identity {
        Identity::Open(key) => Ok(key),
        Identity::Locked { path, file, public } => {
            let sign = move |request: &ssh_proto::SignatureRequest| {
                for _ in 0..3 {
                    let prompt = format!("Enter passphrase for key '{}': ", path.display());
                    let passphrase = terminal::ask(&prompt, false)?;
                    match PrivateKey::from_openssh(file.expose(), Some(passphrase.expose())) {
                        Ok(key) => return key.sign(request.algorithm(), request.data()).ok(),
                        Err(error) => eprintln!("{}: {error}", path.display()),
                    }
                }
                None
            };
            Err((public, Box::new(sign)))
        }
    }
}

fn answer_prompts(prompts: &Prompts) -> Option<Vec<Secret>> {
    for text in [prompts.name(), prompts.instruction()] {
        if !text.is_empty() {
            eprintln!("{text}");
        }
    }
    prompts
        .prompts()
        .iter()
        .map(|prompt| terminal::ask(&prompt.text, prompt.echo))
        .collect()
}

/// Starts what is to be forwarded. As in OpenSSH, one that fails is a warning unless `ExitOnForwardFailure` says
/// otherwise, and an address that is empty or `*` is all addresses.
fn forward(client: &Client, options: &Options) -> Result<Vec<Forward>, Failure> {
    let mut forwards = Vec::new();
    for option in &options.forwards {
        match start_forward(client, option) {
            Ok(forward) => {
                if let (true, Some(port), Listen::Tcp(_, 0)) =
                    (option.remote, forward.port(), &option.listen)
                {
                    eprintln!(
                        "Allocated port {port} for remote forward to {}",
                        option.text
                    );
                }
                forwards.push(forward);
            }
            Err(error) if options.exit_on_forward_failure => {
                return Err(format!("forwarding of {} failed: {error}", option.text).into());
            }
            Err(error) => eprintln!("Warning: forwarding of {} failed: {error}", option.text),
        }
    }
    Ok(forwards)
}

fn start_forward(client: &Client, option: &ForwardOption) -> Result<Forward, Error> {
    let target = option.target.clone();
    match (&option.listen, option.remote) {
        (Listen::Tcp(bind, port), true) => {
            let bind = if bind == "*" { "" } else { bind };
            match target {
                Some(target) => client.forward_remote((bind, *port), target),
                None => client.forward_remote_dynamic((bind, *port)),
            }
        }
        (Listen::Tcp(bind, port), false) => {
            let bind = match bind.as_str() {
                "" | "*" => "0.0.0.0",
                bind => bind,
            };
            match target {
                Some(target) => client.forward_local((bind, *port), target),
                None => client.forward_dynamic((bind, *port)),
            }
        }
        (Listen::Path(path), remote) => match target {
            Some(target) if remote => client.forward_remote_path(path, target),
            Some(target) => client.forward_local_path(path, target),
            None => Err(io::Error::from(io::ErrorKind::InvalidInput).into()),
        },
    }
}

/// Until the connection ends, or a signal comes.
fn wait_for_end(client: &Client) -> Result<(), Failure> {
    let (signalled, end) = mpsc::channel();
    let ended = signalled.clone();
    terminal::on_signal(move |signal| {
        if signal != SIGWINCH {
            // Nobody listens any more when the program ends anyway.
            _ = signalled.send(true);
        }
        Reaction::Continue
    });
    let watched = client.clone();
    thread::spawn(move || {
        watched.wait_closed();
        _ = ended.send(false);
    });
    match (end.recv(), client.closed()) {
        (Ok(false), Some(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

fn session(client: &Client, options: &Options) -> Result<i32, Failure> {
    let stdin = io::stdin();
    let wants_pty = options.tty(stdin.is_terminal());
    let mut command = match &options.command {
        Some(command) => client.exec(command),
        None => client.shell(),
    };
    for (name, value) in std::env::vars_os() {
        let name = name.as_encoded_bytes();
        if name == b"LANG" || name.starts_with(b"LC_") {
            command = command.env(name, value.as_encoded_bytes());
        }
    }
    let terminal = tcgetattr(&stdin).ok();
    let size = window_size().unwrap_or_default();
    if wants_pty {
        let request = PtyRequest {
            term: std::env::var("TERM").unwrap_or_else(|_| "vt100".into()),
            columns: size.columns,
            rows: size.rows,
            width_px: size.width_px,
            height_px: size.height_px,
            modes: terminal.as_ref().map(read_modes::read).unwrap_or_default(),
        };
        command = if options.insists_on_tty() {
            command.pty(request)
        } else {
            command.try_pty(request)
        };
    }
    let mut child = command.spawn()?;
    if wants_pty && !child.has_pty() {
        eprintln!("ssh: the server gives no terminal");
    }
    let raw_mode = child.has_pty() && terminal.is_some();
    pass_signals_on(client, child.channel(), raw_mode);
    let raw = if raw_mode {
        resize(child.channel(), size);
        Some(terminal::enter_raw_mode(&stdin)?)
    } else {
        None
    };
    let input = child.stdin.take().ok_or("no standard input")?;
    if options.no_input {
        drop(input);
    } else {
        let escapes = raw.is_some().then(|| client.clone());
        // It waits for the keyboard, and ends with the program.
        thread::spawn(move || feed(input, escapes));
    }
    let errors = child.stderr.take().ok_or("no standard error")?;
    let errors = thread::spawn(move || _ = errors.copy_to(&mut File::from(dup(io::stderr()))));
    let output = child.stdout.take().ok_or("no standard output")?;
    // Straight to the descriptor: the standard library's buffer would be one more copy.
    let written = output.copy_to(&mut File::from(dup(io::stdout())));
    if let Err(error) = &written
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        // Nobody reads our output any more: the remote program learns it from the closed channel.
        child.channel().close();
        return Ok(255);
    }
    _ = errors.join();
    written?;
    let status = child.wait()?;
    drop(raw);
    Ok(match status {
        ExitStatus::Code(code) => i32::try_from(code & 0xff).unwrap_or(255),
        other => {
            eprintln!("ssh: remote program: {other}");
            255
        }
    })
}

fn dup(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap_or_else(|error| {
        eprintln!("ssh: {error}");
        process::exit(255);
    })
}

/// Sends what is typed, then EOF. On a raw terminal, `~.` at the start of a line ends the connection.
fn feed(mut input: ChildStdin, escapes: Option<Client>) {
    let mut keyboard = File::from(dup(io::stdin()));
    let Some(client) = escapes else {
        // When it fails, the channel is gone, and the other threads notice.
        _ = input.copy_from(&mut keyboard);
        return;
    };
    let mut buf = [0; 4096];
    let mut state = Escape::LineStart;
    let mut to_send = Vec::new();
    while let Ok(len) = keyboard.read(&mut buf) {
        if len == 0 {
            break;
        }
        to_send.clear();
        for &byte in &buf[..len] {
            state = match (state, byte) {
                (Escape::LineStart, b'~') => Escape::Tilde,
                (Escape::Tilde, b'.') => {
                    client.disconnect();
                    return;
                }
                (before, byte) => {
                    if before == Escape::Tilde && byte != b'~' {
                        to_send.push(b'~');
                    }
                    to_send.push(byte);
                    if matches!(byte, b'\r' | b'\n') {
                        Escape::LineStart
                    } else {
                        Escape::Line
                    }
                }
            };
        }
        if input.write_all(&to_send).is_err() {
            break;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    LineStart,
    Tilde,
    Line,
}

fn window_size() -> Option<WindowSize> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    Some(WindowSize {
        columns: size.ws_col.into(),
        rows: size.ws_row.into(),
        width_px: size.ws_xpixel.into(),
        height_px: size.ws_ypixel.into(),
    })
}

/// Tells the size of the terminal unless it is still `known`.
fn resize(channel: &Channel, known: WindowSize) {
    if let Some(size) = window_size().filter(|size| *size != known) {
        // When it fails, the channel is gone, and the other threads notice.
        _ = channel.resize(size);
    }
}

/// Passes window changes on, and signals: the first of each to the remote program, the second ends this one. A hangup
/// does both at once: whoever would send a second one is gone.
fn pass_signals_on(client: &Client, channel: &Channel, raw_mode: bool) {
    let (client, channel) = (client.clone(), channel.clone());
    let mut seen = Vec::new();
    terminal::on_signal(move |signal| {
        let remote = match signal {
            SIGWINCH => {
                if raw_mode {
                    resize(&channel, WindowSize::default());
                }
                return Reaction::Continue;
            }
            SIGINT => Signal::INT,
            SIGTERM => Signal::TERM,
            SIGHUP => Signal::HUP,
            _ => Signal::QUIT,
        };
        if seen.contains(&signal) {
            return Reaction::Exit(255);
        }
        seen.push(signal);
        // It may have to wait for room, and the second one must not.
        let (client, channel) = (client.clone(), channel.clone());
        thread::spawn(move || {
            if channel.signal(&remote).is_err() || signal == SIGHUP {
                client.disconnect();
                terminal::exit(255);
            }
        });
        Reaction::Continue
    });
}
