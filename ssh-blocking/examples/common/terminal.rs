//! The user's terminal: questions on it, raw mode, and what signals do meanwhile. However the program ends, the terminal
//! is left as it was found.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use ssh_proto::Secret;

/// The longest answer to a question. The terminal's own line is no longer.
const ANSWER_LEN: usize = 4096;

/// How the terminal was found and how it is now, while the two differ.
static CHANGED: Mutex<Option<Settings>> = Mutex::new(None);
/// Who hears of signals.
static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

struct Settings {
    terminal: OwnedFd,
    before: Termios,
    now: Termios,
}

type Listener = Box<dyn FnMut(i32) -> Reaction + Send>;

/// What a signal leads to.
pub(crate) enum Reaction {
    /// The program goes on.
    Continue,
    /// The program ends with this status.
    Exit(i32),
}

/// From now on a signal restores the terminal before it ends or stops this program. Call it before anything else.
pub(crate) fn watch_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    thread::spawn(move || {
        for signal in &mut signals {
            react(signal);
        }
    });
    Ok(())
}

/// From now on `listener` decides what SIGINT, SIGTERM, SIGHUP and SIGQUIT lead to, and hears of SIGWINCH.
pub(crate) fn on_signal(listener: impl FnMut(i32) -> Reaction + Send + 'static) {
    *lock(&LISTENER) = Some(Box::new(listener));
}

/// Ends the program with this status.
pub(crate) fn exit(code: i32) -> ! {
    // The lock is kept: nobody changes the terminal any more.
    let _restored = restore();
    process::exit(code);
}

fn react(signal: i32) {
    match signal {
        SIGTSTP => {
            let _restored = restore();
            // It fails only for signals that there are none of.
            _ = emulate_default_handler(SIGTSTP);
        }
        SIGCONT => {
            // The shell had the terminal meanwhile.
            if let Some(settings) = &*lock(&CHANGED) {
                _ = tcsetattr(&settings.terminal, OptionalActions::Now, &settings.now);
            }
            hear(SIGWINCH);
        }
        _ => hear(signal),
    }
}

fn hear(signal: i32) {
    let reaction = lock(&LISTENER).as_mut().map(|listener| listener(signal));
    match reaction {
        Some(Reaction::Exit(code)) => exit(code),
        None if signal != SIGWINCH => {
            let _restored = restore();
            _ = emulate_default_handler(signal);
        }
        Some(Reaction::Continue) | None => {}
    }
}

fn restore() -> MutexGuard<'static, Option<Settings>> {
    let changed = lock(&CHANGED);
    if let Some(settings) = &*changed {
        // It fails only when the terminal is gone.
        _ = tcsetattr(&settings.terminal, OptionalActions::Now, &settings.before);
    }
    changed
}

/// A terminal whose settings were changed, until it is dropped. One at a time.
pub(crate) struct Changed(());

impl Drop for Changed {
    fn drop(&mut self) {
        *restore() = None;
    }
}

/// Puts a terminal into raw mode.
pub(crate) fn enter_raw_mode(terminal: impl AsFd) -> io::Result<Changed> {
    change(terminal, OptionalActions::Drain, Termios::make_raw)
}

fn change(
    terminal: impl AsFd,
    when: OptionalActions,
    change: impl FnOnce(&mut Termios),
) -> io::Result<Changed> {
    let terminal = terminal.as_fd().try_clone_to_owned()?;
    let mut changed = lock(&CHANGED);
    let before = tcgetattr(&terminal)?;
    let mut now = before.clone();
    change(&mut now);
    tcsetattr(&terminal, when, &now)?;
    *changed = Some(Settings {
        terminal,
        before,
        now,
    });
    Ok(Changed(()))
}

/// Whether there is a terminal to ask on. It need not be standard input.
pub(crate) fn is_there() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Asks a question on the terminal. `None`: there is no terminal, or no answer.
pub(crate) fn ask(question: &str, echo: bool) -> Option<Secret> {
    let mut terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .ok()?;
    // What was typed before the question is not its answer, and must not be seen once it is one.
    let hidden = if echo {
        None
    } else {
        let hide = |termios: &mut Termios| {
            termios
                .local_modes
                .remove(LocalModes::ECHO | LocalModes::ECHONL);
        };
        Some(change(&terminal, OptionalActions::Flush, hide).ok()?)
    };
    terminal.write_all(question.as_bytes()).ok()?;
    let answer = read_line(&mut terminal);
    if hidden.is_some() {
        // The user's own end of line was not shown either.
        _ = terminal.write_all(b"\n");
    }
    answer
}

fn read_line(terminal: &mut File) -> Option<Secret> {
    // All the room at once: growing would leave copies of the answer behind.
    let mut line = Vec::with_capacity(ANSWER_LEN);
    let mut byte = [0];
    let ended = loop {
        match terminal.read(&mut byte) {
            Ok(1) if matches!(byte, [b'\n' | b'\r']) => break true,
            Ok(1) if line.len() < ANSWER_LEN => line.extend_from_slice(&byte),
            Ok(1) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => break false,
        }
    };
    let line = Secret::from(line);
    ended.then_some(line)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
