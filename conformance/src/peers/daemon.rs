//! A server's process, and what it needs wherever it runs: a log, a watchdog, accounts of its own.
//!
//! The accounts exist for this server only: Debian's `libnss_wrapper`, unpacked beside the peers, makes it (and only it) read its
//! users from files in its folder. So passwords can be checked, and system users are there, without a change to the machine.
//! Other calls of the C library that name users would see the machine's own: sessions do, so `id` in a command tells the real name.

use std::fs::{self, DirBuilder, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::run::wait;
use super::{descendants, signal};

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);

/// The ids of a user that owns nothing.
const ORDINARY: (u32, u32) = (65_532, 65_532);

/// crypt(5) of [`Account::PASSWORD`], SHA-512 of the fewest rounds.
const PASSWORD_HASH: &str = "$6$rounds=1000$conformance$qkfQsb3xbI5YZt42onAXig1MLfof2lKVJNUnJUS0FPi8jNA8l3zuBR7O4Sag7c9UnGfd0IjNF8zwda0b5UPjr0";

/// The account that a server of this module has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account;

impl Account {
    pub(super) const USER: &str = "tester";
    pub(super) const PASSWORD: &str = "correct horse battery staple";
    /// A second account: the same user, and no password.
    pub(super) const OPEN_USER: &str = "open";

    pub(super) fn home(dir: &Path) -> PathBuf {
        dir.join("home")
    }

    /// Makes the home folder and the files that the wrapper reads.
    pub(super) fn write(dir: &Path, ordinary_user: bool) {
        let home = Self::home(dir);
        DirBuilder::new()
            .mode(0o700)
            .create(&home)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", home.display()));
        let metadata = fs::metadata(&home)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", home.display()));
        let (mut uid, mut gid) = (metadata.uid(), metadata.gid());
        if uid == 0 && ordinary_user {
            (uid, gid) = ORDINARY;
            // It reads its authorized_keys itself, and starts in its home folder.
            fs::set_permissions(dir, Permissions::from_mode(0o711))
                .and_then(|()| chown(&home, Some(uid), Some(gid)))
                .unwrap_or_else(|error| panic!("cannot give {} away: {error}", home.display()));
        }
        let (user, open) = (Self::USER, Self::OPEN_USER);
        let home = home.display();
        write(
            &dir.join("passwd"),
            &format!(
                "{user}:{PASSWORD_HASH}:{uid}:{gid}::{home}:/bin/sh\n\
                 {open}::{uid}:{gid}::{home}:/bin/sh\n\
                 sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
            ),
        );
        write(
            &dir.join("group"),
            &format!("{user}:x:{gid}:\ntty:x:5:\nnogroup:x:65534:\n"),
        );
        // The hash is in `passwd`, where servers and PAM's pam_unix take it; an empty `shadow` hides the machine's.
        write(&dir.join("shadow"), "");
    }

    /// Lets `command` see the accounts in `dir` instead of the machine's.
    pub(super) fn wrap(command: &mut Command, wrapper: &Path, dir: &Path) {
        command
            .env("LD_PRELOAD", wrapper)
            .env("NSS_WRAPPER_PASSWD", dir.join("passwd"))
            .env("NSS_WRAPPER_GROUP", dir.join("group"))
            .env("NSS_WRAPPER_SHADOW", dir.join("shadow"));
    }
}

/// A running server with a log, in a folder of its own. Dropping it kills it, its sessions and their commands; if this process dies
/// first, a watchdog kills the server.
#[derive(Debug)]
pub(super) struct Daemon {
    server: Child,
    watchdog: Child,
    home: PathBuf,
}

impl Daemon {
    /// Starts a server that writes its log to its standard error.
    #[track_caller]
    pub(super) fn start(mut command: Command, dir: &Path) -> Self {
        let log = dir.join("log");
        let log = File::create(&log)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let server = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let watchdog = watch(&server);
        Self {
            server,
            watchdog,
            home: Account::home(dir),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Waits until `ready`; `false` says that the server has ended, or takes too long.
    ///
    /// Not by a connection: one that is opened and dropped would count against the server's limits.
    pub(super) fn comes_up(&mut self, ready: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if ready() {
                return true;
            }
            if wait(&mut self.server, Instant::now()).is_some() {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Each session is a process group of its own, so they are found as children; without their parent they no longer could be.
        let mut below = descendants(self.server.id());
        kill(&mut self.watchdog);
        kill(&mut self.server);
        // A command outlives its session when the client went away; the home folder that it was given tells that it is ours.
        below.extend(with_home(&self.home));
        let below: Vec<_> = below.into_iter().map(i64::from).collect();
        signal("KILL", &below);
    }
}

/// The processes whose environment says `HOME=home`.
fn with_home(home: &Path) -> Vec<u32> {
    let wanted = format!("HOME={}", home.display());
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            environment
                .split(|&byte| byte == 0)
                .any(|variable| variable == wanted.as_bytes())
                .then_some(id)
        })
        .collect()
}

fn kill(child: &mut Child) {
    // Both fail only for a child that has ended and was waited for.
    let _ = child.kill();
    let _ = child.wait();
}

/// A shell that kills the server when our end of its standard input goes away, however this process ends.
pub(crate) fn watch(server: &Child) -> Child {
    Command::new("/bin/sh")
        .args([
            "-c",
            r#"read -r line || kill -s KILL -- "$1""#,
            "watchdog",
            &server.id().to_string(),
        ])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run /bin/sh: {error}"))
}

pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|error| panic!("no free port: {error}"))
}

pub(super) fn read_log(dir: &Path) -> String {
    fs::read(dir.join("log"))
        .map(|log| String::from_utf8_lossy(&log).into_owned())
        .unwrap_or_default()
}

pub(super) fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

pub(super) fn write(path: &Path, content: &str) {
    fs::write(path, content)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
