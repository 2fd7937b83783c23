//! The example `ssh` on a real terminal, against OpenSSH's server: what the user is asked there, the remote program's
//! terminal, and the state in which the user's own is left.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use conformance::ours::{SshExample, public_key};
use conformance::peers::{KeyKind, KeyPair, Sshd, SshdOptions, Version, all, descendants, signal};
use pty_process::blocking as pty;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr,
    tcsetattr,
};
use tempfile::TempDir;

/// How long anything may take before it is taken never to happen.
const TIME: Duration = Duration::from_secs(60);

/// A program on a terminal of its own, and a user who reads it and types.
struct Terminal {
    pty: Arc<pty::Pty>,
    /// Keeps the terminal alive behind the program.
    pts: pty::Pts,
    child: Child,
    before: Termios,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    /// What lies before here was waited for.
    seen: usize,
    /// It has to live as long as the program.
    _ssh: SshExample,
}

#[derive(Default)]
struct Shown {
    text: Vec<u8>,
    ended: bool,
}

impl Terminal {
    fn start(ssh: SshExample, remote: &str, rows: u16, columns: u16) -> Self {
        Self::start_on(ssh, remote, rows, columns, |_| {})
    }

    /// The same on a terminal whose settings were changed.
    fn start_on(
        ssh: SshExample,
        remote: &str,
        rows: u16,
        columns: u16,
        change: impl FnOnce(&mut Termios),
    ) -> Self {
        let (pty, pts) = pty::open().unwrap();
        pty.resize(pty_process::Size::new(rows, columns)).unwrap();
        let mut modes = tcgetattr(&pty).unwrap();
        change(&mut modes);
        tcsetattr(&pty, OptionalActions::Now, &modes).unwrap();
        let before = tcgetattr(&pty).unwrap();
        assert!(is_as_users_have_it(&before));
        let child = pty::Command::from(ssh.command(remote))
            .spawn_borrowed(&pts)
            .unwrap();
        let (pty, shown) = (Arc::new(pty), Arc::<(Mutex<Shown>, Condvar)>::default());
        let (reader, told) = (Arc::clone(&pty), Arc::clone(&shown));
        thread::spawn(move || {
            let mut reader = &*reader;
            let mut buf = [0; 4096];
            loop {
                let read = reader.read(&mut buf);
                let mut shown = told.0.lock().unwrap();
                match read {
                    Ok(len @ 1..) => shown.text.extend_from_slice(&buf[..len]),
                    _ => shown.ended = true,
                }
                told.1.notify_all();
                if shown.ended {
                    return;
                }
            }
        });
        Self {
            pty,
            pts,
            child,
            before,
            shown,
            seen: 0,
            _ssh: ssh,
        }
    }

    /// Waits until `end` has been shown, and returns all that was since the last call.
    #[track_caller]
    fn read_until(&mut self, end: &str) -> String {
        let deadline = Instant::now() + TIME;
        let (shown, told) = &*self.shown;
        let mut shown = shown.lock().unwrap();
        loop {
            let new = &shown.text[self.seen..];
            if let Some(at) = new
                .windows(end.len())
                .position(|piece| piece == end.as_bytes())
            {
                let text = String::from_utf8_lossy(&new[..at + end.len()]).into_owned();
                self.seen += at + end.len();
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shown.ended {
                drop(shown);
                panic!("no {end:?} in {:?}", self.text());
            }
            shown = told.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// All that was ever shown.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.0.lock().unwrap().text).into_owned()
    }

    fn type_in(&self, text: &str) {
        (&*self.pty).write_all(text.as_bytes()).unwrap();
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.pty).unwrap()
    }

    fn echoes(&self) -> bool {
        self.modes().local_modes.contains(LocalModes::ECHO)
    }

    #[track_caller]
    fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + TIME;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end, by which the terminal must be as it was found.
    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIME;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "no end: {}", self.text()),
            }
            thread::sleep(Duration::from_millis(5));
        };
        let now = self.modes();
        assert_eq!(now.local_modes, self.before.local_modes, "{}", self.text());
        assert_eq!(now.input_modes, self.before.input_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
        assert_eq!(now.control_modes, self.before.control_modes);
        status
    }

    /// The same, and this is its status.
    #[track_caller]
    fn ends_with(&mut self, code: i32) {
        let status = self.end();
        assert_eq!(status.code(), Some(code), "{status}: {}", self.text());
    }

    fn signal(&self, name: &str) {
        signal(name, &[self.child.id().into()]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was waited for.
        _ = self.child.kill();
        _ = self.child.wait();
        _ = &self.pts;
    }
}

/// Lines are edited and echoed, ^C is a signal, a new line begins on the left.
fn is_as_users_have_it(modes: &Termios) -> bool {
    modes
        .local_modes
        .contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
        && modes
            .output_modes
            .contains(OutputModes::OPOST | OutputModes::ONLCR)
}

/// Every key goes to the remote side as it is typed, and what comes from there is shown as it is.
fn is_raw(modes: &Termios) -> bool {
    !modes
        .local_modes
        .intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
        && !modes.output_modes.contains(OutputModes::OPOST)
}

fn key(folder: &TempDir, passphrase: &str) -> KeyPair {
    let path = folder.path().join("id");
    KeyPair::generate(Version::V10_0, KeyKind::Ed25519, &path, passphrase)
}

/// A server, and a key that it lets in.
fn peer(version: Version, config: &[&str]) -> (Sshd, KeyPair, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder, "");
    let sshd = Sshd::start(
        version,
        &SshdOptions {
            config: config.iter().map(|line| (*line).to_owned()).collect(),
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        },
    );
    (sshd, key, folder)
}

/// The user's terminal while a command runs on one of the server's.
fn session(sshd: &Sshd, key: &KeyPair, remote: &str) -> Terminal {
    let ssh = SshExample::for_sshd(sshd).identity(key).flag("-t");
    Terminal::start(ssh, remote, 24, 80)
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    for version in all() {
        let (sshd, _, _folder) = peer(version, &["KbdInteractiveAuthentication no"]);
        let mut user = Terminal::start(SshExample::for_sshd(&sshd), "echo in; exit 3", 24, 80);
        user.read_until("tester@127.0.0.1's password: ");
        assert!(!user.echoes());
        user.type_in("wrong\n");
        user.read_until("tester@127.0.0.1's password: ");
        assert!(!user.echoes());
        // Typing errors can be mended as in any line.
        user.type_in(&format!("{}x\x7f\n", Sshd::PASSWORD));
        user.read_until("in\r\n");
        user.ends_with(3);
        let text = user.text();
        assert!(!text.contains("wrong") && !text.contains("horse"), "{text}");

        // Whoever has no password gives none.
        let mut user = Terminal::start(SshExample::for_sshd(&sshd), "true", 24, 80);
        user.read_until("password: ");
        user.type_in("\x04");
        user.read_until("cancelled");
        user.ends_with(255);

        let mut user = Terminal::start(SshExample::for_sshd(&sshd), "true", 24, 80);
        for _ in 0..3 {
            user.read_until("password: ");
            user.type_in("wrong\n");
        }
        user.read_until("Permission denied (publickey,password");
        user.ends_with(255);
    }
}

#[test]
fn the_end_of_the_program_at_a_question_leaves_a_terminal_that_echoes() {
    let (sshd, ..) = peer(Version::V10_0, &["KbdInteractiveAuthentication no"]);
    for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3)] {
        let mut user = Terminal::start(SshExample::for_sshd(&sshd), "true", 24, 80);
        user.read_until("password: ");
        assert!(!user.echoes());
        if name == "INT" {
            user.type_in("\x03");
        } else {
            user.signal(name);
        }
        assert_eq!(user.end().signal(), Some(number), "{name}");
    }
}

#[test]
fn a_program_that_is_stopped_at_a_question_gives_the_terminal_back_meanwhile() {
    let (sshd, ..) = peer(Version::V10_0, &["KbdInteractiveAuthentication no"]);
    let mut user = Terminal::start(SshExample::for_sshd(&sshd), "echo in", 24, 80);
    user.read_until("password: ");
    user.signal("TSTP");
    user.wait_until("it echoes again", Terminal::echoes);
    let stat = format!("/proc/{}/stat", user.child.id());
    user.wait_until("it is stopped", |_| {
        fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    user.signal("CONT");
    user.wait_until("it does not echo", |user| !user.echoes());
    user.type_in(&format!("{}\n", Sshd::PASSWORD));
    user.read_until("in\r\n");
    user.ends_with(0);
}

#[test]
fn a_passphrase_is_asked_for_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let locked = key(&folder, "open sesame");
    for version in all() {
        let sshd = Sshd::start(
            version,
            &SshdOptions {
                authorized_keys: vec![locked.public.clone()],
                ..SshdOptions::default()
            },
        );
        let ssh = SshExample::for_sshd(&sshd).identity(&locked);
        let mut user = Terminal::start(ssh, "echo in; exit 4", 24, 80);
        let question = format!("Enter passphrase for key '{}': ", locked.path.display());
        user.read_until(&question);
        assert!(!user.echoes());
        user.type_in("guess\n");
        user.read_until("passphrase");
        user.read_until(&question);
        user.type_in("open sesame\n");
        user.read_until("in\r\n");
        user.ends_with(4);
        let text = user.text();
        assert!(
            !text.contains("guess") && !text.contains("sesame"),
            "{text}"
        );
    }
}

#[test]
fn prompts_of_keyboard_interactive_are_asked_on_the_terminal() {
    for version in all() {
        let (sshd, _, _folder) = peer(version, &["UsePAM yes", "PasswordAuthentication no"]);
        let mut user = Terminal::start(SshExample::for_sshd(&sshd), "echo in", 24, 80);
        user.read_until("Password: ");
        assert!(!user.echoes());
        user.type_in(&format!("{}\n", Sshd::PASSWORD));
        user.read_until("in\r\n");
        user.ends_with(0);
        assert!(!user.text().contains("horse"), "{}", user.text());
    }
}

#[test]
fn a_host_key_is_taken_on_the_users_word_only() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        let fingerprint = public_key(&sshd.host_keys()[0]).fingerprint_sha256();
        let ask = || {
            // The user may think for longer than a connection may take to come about.
            let ssh = SshExample::unpinned(sshd.address())
                .identity(&key)
                .option("ConnectTimeout", "20");
            let mut user = Terminal::start(ssh, "echo in", 24, 80);
            let text = user.read_until("(yes/no/[fingerprint])? ");
            assert!(text.contains(&fingerprint), "{text}");
            assert!(text.contains("ssh-ed25519"), "{text}");
            assert!(user.echoes());
            user
        };
        for answer in ["yes", &fingerprint] {
            let mut user = ask();
            user.type_in(&format!("{answer}\n"));
            user.read_until("\r\nin\r\n");
            user.ends_with(0);
        }
        // Neither a no, nor another key's fingerprint, nor no answer at all.
        let mut user = ask();
        user.type_in("no\n");
        user.read_until("host key");
        user.ends_with(255);
        let mut user = ask();
        let other = public_key(&key).fingerprint_sha256();
        for answer in ["y", "", &other] {
            user.type_in(&format!("{answer}\n"));
            user.read_until("yes, no or the fingerprint: ");
        }
        user.type_in("\x04");
        user.read_until("host key");
        user.ends_with(255);
        assert!(!user.text().contains("in\r\n"), "{}", user.text());
    }
}

#[test]
fn the_terminal_is_raw_while_the_session_runs_and_what_it_was_before_afterwards() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        let mut user = session(&sshd, &key, "stty -echo; echo runs; read line; exit 6");
        user.read_until("runs\r\n");
        user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
        user.type_in("typed\r");
        user.ends_with(6);
        assert!(!user.text().contains("typed"), "{}", user.text());

        // A shell, without being asked to have a terminal.
        let ssh = SshExample::for_sshd(&sshd).identity(&key);
        let mut user = Terminal::start(ssh, "", 24, 80);
        user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
        user.type_in("echo $((6*7)); tty; exit 5\r");
        user.read_until("42\r\n/dev/pts/");
        user.ends_with(5);

        // Without a terminal there, the one here stays what it is.
        let ssh = SshExample::for_sshd(&sshd).identity(&key);
        let mut user = Terminal::start(ssh, "echo runs; read line; echo got $line", 24, 80);
        user.read_until("runs\r\n");
        assert!(is_as_users_have_it(&user.modes()));
        user.type_in("typed\n");
        user.read_until("got typed\r\n");
        user.ends_with(0);
    }
}

#[test]
fn the_remote_terminal_is_set_like_the_users() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        let ssh = SshExample::for_sshd(&sshd).identity(&key).flag("-t");
        let mut user = Terminal::start_on(ssh, "stty -a", 24, 80, |modes| {
            modes.special_codes[SpecialCodeIndex::VERASE] = 8;
            modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
            modes.input_modes.remove(InputModes::IXON);
            modes.local_modes.remove(LocalModes::ECHOK);
        });
        user.read_until("extproc");
        user.ends_with(0);
        let text = user.text();
        for setting in ["intr = ^C;", "erase = ^H;", "susp = <undef>;"] {
            assert!(text.contains(setting), "no {setting:?} in {text}");
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        for word in ["icrnl", "opost", "echo", "isig", "-ixon", "-echok"] {
            assert!(words.contains(&word), "no {word:?} in {text}");
        }
    }
}

#[test]
fn the_remote_program_knows_the_size_of_the_window_at_the_start_and_later() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        let remote =
            "stty size; trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.02; done";
        let ssh = SshExample::for_sshd(&sshd).identity(&key).flag("-t");
        let mut user = Terminal::start(ssh, remote, 37, 101);
        user.read_until("37 101\r\nready\r\n");
        user.pty.resize(pty_process::Size::new(12, 64)).unwrap();
        user.read_until("12 64\r\n");
        user.ends_with(9);
    }
}

#[test]
fn an_interrupt_that_is_typed_goes_to_the_remote_program() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        let remote = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.02; done";
        let mut user = session(&sshd, &key, remote);
        user.read_until("ready\r\n");
        user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
        user.type_in("\x03");
        user.read_until("caught\r\n");
        user.ends_with(5);
        // So do the other keys that are signals at home.
        let remote = "trap 'echo caught; exit 6' QUIT; echo ready; while :; do sleep 0.02; done";
        let mut user = session(&sshd, &key, remote);
        user.read_until("ready\r\n");
        user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
        user.type_in("\x1c");
        user.read_until("caught\r\n");
        user.ends_with(6);
    }
}

#[test]
fn the_exit_status_is_passed_on_and_a_signal_is_told() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        for code in [0, 1, 77, 254] {
            session(&sshd, &key, &format!("exit {code}")).ends_with(code);
        }
        let mut user = session(&sshd, &key, "kill -TERM $$");
        user.read_until("TERM");
        user.ends_with(255);
    }
}

#[test]
fn a_terminal_that_is_insisted_on_and_refused_means_that_nothing_runs() {
    for version in all() {
        let (sshd, key, folder) = peer(version, &["PermitTTY no"]);
        let mark = folder.path().join("ran");
        let mut user = session(&sshd, &key, &format!("touch {}", mark.display()));
        user.read_until("pty-req");
        user.ends_with(255);
        assert!(!mark.exists());
        // A shell does without, as with OpenSSH's client.
        let ssh = SshExample::for_sshd(&sshd).identity(&key);
        let mut user = Terminal::start(ssh, "", 24, 80);
        user.read_until("no terminal");
        assert!(is_as_users_have_it(&user.modes()));
        user.type_in("echo $((6*7)); exit 3\n");
        user.read_until("\r\n42\r\n");
        user.ends_with(3);
    }
}

#[test]
fn a_connection_that_the_server_drops_leaves_the_terminal_as_it_was() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        let mut user = session(&sshd, &key, "echo ready; sleep 1000");
        user.read_until("ready\r\n");
        user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
        let below: Vec<i64> = descendants(sshd.pid()).into_iter().map(i64::from).collect();
        assert!(!below.is_empty());
        signal("KILL", &below);
        user.read_until("ssh: ");
        user.ends_with(255);
    }
}

#[test]
fn the_users_own_escape_ends_a_connection() {
    for version in all() {
        let (sshd, key, _folder) = peer(version, &[]);
        let mut user = session(&sshd, &key, "echo ready; sleep 1000");
        user.read_until("ready\r\n");
        user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
        user.type_in("\r~.");
        user.ends_with(255);
    }
}

#[test]
fn signals_reach_the_remote_program_first_and_a_second_one_ends_this_one() {
    for version in all() {
        // sshd passes signals on to ordinary users' programs only.
        let folder = tempfile::tempdir().unwrap();
        let key = key(&folder, "");
        let sshd = Sshd::start(
            version,
            &SshdOptions {
                authorized_keys: vec![key.public.clone()],
                ordinary_user: true,
                ..SshdOptions::default()
            },
        );
        let remote = "trap 'echo caught' TERM; echo ready; while :; do sleep 0.02; done";
        let mut user = session(&sshd, &key, remote);
        user.read_until("ready\r\n");
        user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
        user.signal("TERM");
        user.read_until("caught\r\n");
        assert!(is_raw(&user.modes()));
        user.signal("TERM");
        user.ends_with(255);

        // After a hangup there is nobody to send a second one.
        let mut user = session(&sshd, &key, "echo ready; sleep 1000");
        user.read_until("ready\r\n");
        user.signal("HUP");
        user.ends_with(255);
    }
}

#[test]
fn a_program_that_is_stopped_in_a_session_goes_on_in_raw_mode_with_the_size_of_then() {
    let (sshd, key, _folder) = peer(Version::V10_0, &[]);
    let remote = "trap 'stty size; exit 2' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut user = session(&sshd, &key, remote);
    user.read_until("ready\r\n");
    user.wait_until("the terminal is raw", |user| is_raw(&user.modes()));
    user.signal("TSTP");
    user.wait_until("the terminal is the user's", |user| {
        is_as_users_have_it(&user.modes())
    });
    user.pty.resize(pty_process::Size::new(30, 90)).unwrap();
    user.signal("CONT");
    user.read_until("30 90\r\n");
    user.ends_with(2);
}
