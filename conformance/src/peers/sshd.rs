//! OpenSSH's server in a temporary folder, on a free port of loopback, with an account of its own.
//!
//! The account exists for this server only: Debian's `libnss_wrapper`, unpacked beside the peers, makes `sshd` (and only it) read its
//! users from files in the temporary folder. So passwords can be checked, and the system user `sshd` that it wants when started as
//! root is there, without a change to the machine. (Started by root it also wants the folder /run/sshd, which is made if missing.)
//! Other calls of the C library that name users would see the machine's own: sessions do, so `id` in a command tells the real name.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::run::wait;
use super::{KeyKind, KeyPair, Ssh, Version, descendants, signal};

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);

/// The ids of a user that owns nothing.
const ORDINARY: (u32, u32) = (65_532, 65_532);

/// How often another port is tried when somebody took the one that was free.
const ATTEMPTS: usize = 5;

/// What is to be different from a plain server that knows one account.
#[derive(Clone, Debug)]
pub struct SshdOptions {
    /// Lines for `sshd_config`. They come before the server's own, so they win; from the first `Match` on they come last.
    ///
    /// `UsePAM yes` adds keyboard-interactive: one round that asks for the password, checked by the machine's PAM.
    pub config: Vec<String>,
    /// The host keys to make, in this order. One Ed25519 key unless said otherwise.
    pub host_keys: Vec<KeyKind>,
    /// Lines of the account's `authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// When this process is root's, the account is an ordinary user all the same. `sshd` passes signals on to such users' commands
    /// only, but a session then reaches nothing that only root may read.
    pub ordinary_user: bool,
}

impl Default for SshdOptions {
    fn default() -> Self {
        Self {
            config: Vec::new(),
            host_keys: vec![KeyKind::Ed25519],
            authorized_keys: Vec::new(),
            ordinary_user: false,
        }
    }
}

/// A running server. Dropping it kills it, its sessions and their commands; if this process dies first, a watchdog kills the server.
#[derive(Debug)]
pub struct Sshd {
    version: Version,
    address: SocketAddr,
    host_keys: Vec<KeyPair>,
    server: Child,
    watchdog: Child,
    folder: TempDir,
}

impl Sshd {
    /// The account's name. Its user id is that of this process (but see [`SshdOptions::ordinary_user`]), its home folder is [`Sshd::home`], its shell is `/bin/sh`.
    pub const USER: &str = "tester";

    /// The account's password.
    pub const PASSWORD: &str = "correct horse battery staple";

    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    /// If it does not come to that; the message has its log.
    #[must_use]
    #[track_caller]
    pub fn start(version: Version, options: &SshdOptions) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("sshd-")
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let dir = folder.path();
        write_accounts(dir, options.ordinary_user);
        write(
            &dir.join("authorized_keys"),
            &lines(&options.authorized_keys),
        );
        let host_keys: Vec<_> = options
            .host_keys
            .iter()
            .enumerate()
            .map(|(index, &kind)| {
                KeyPair::generate(version, kind, &dir.join(format!("host_key.{index}")), "")
            })
            .collect();
        let mut last_log = String::new();
        for _ in 0..ATTEMPTS {
            let address = free_address();
            write(
                &dir.join("sshd_config"),
                &config(version, dir, address, &host_keys, &options.config),
            );
            let mut server = spawn(version, dir);
            let watchdog = watch(&server);
            if listens(&mut server, dir, address) {
                return Self {
                    version,
                    address,
                    host_keys,
                    server,
                    watchdog,
                    folder,
                };
            }
            end(server, watchdog);
            last_log = read_log(dir);
            if !last_log.contains("Address already in use") {
                break;
            }
        }
        panic!("sshd {version} does not start:\n{last_log}");
    }

    /// Its release.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process; those of the sessions are below it ([`descendants`]).
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Its host keys, in the order of [`SshdOptions::host_keys`].
    #[must_use]
    pub fn host_keys(&self) -> &[KeyPair] {
        &self.host_keys
    }

    /// Its temporary folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The account's home folder, where commands start.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A client for it that takes its host keys only.
    #[must_use]
    pub fn client(&self, version: Version) -> Ssh {
        let client = Ssh::new(version, self.address).user(Self::USER);
        self.host_keys
            .iter()
            .fold(client, |client, key| client.host_key(&key.public))
    }

    /// What it has logged so far, at `LogLevel VERBOSE` unless its options say otherwise.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// Waits until the log contains `text`.
    ///
    /// # Panics
    /// If that takes longer than `timeout`; the message has the log.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.log().contains(text) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} in the log of sshd {}:\n{}",
                self.version,
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Each session is a process group of its own, so they are found as children; without their parent they no longer could be.
        let mut below = descendants(self.server.id());
        kill(&mut self.watchdog);
        kill(&mut self.server);
        // A command outlives its session when the client went away; the home folder that it was given tells that it is ours.
        below.extend(with_home(&self.home()));
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

fn end(mut server: Child, mut watchdog: Child) {
    kill(&mut watchdog);
    kill(&mut server);
}

fn kill(child: &mut Child) {
    // Both fail only for a child that has ended and was waited for.
    let _ = child.kill();
    let _ = child.wait();
}

fn spawn(version: Version, dir: &Path) -> Child {
    let log = dir.join("log");
    let log = File::create(&log)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
    let mut command = version.command("usr/sbin/sshd");
    command
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        .env("LD_PRELOAD", version.path("libs/libnss_wrapper.so"))
        .env("NSS_WRAPPER_PASSWD", dir.join("passwd"))
        .env("NSS_WRAPPER_GROUP", dir.join("group"))
        .env("NSS_WRAPPER_SHADOW", dir.join("shadow"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
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

/// Waits for its own word, not for a connection: one that is opened and dropped would count against the server's limits.
fn listens(server: &mut Child, dir: &Path, address: SocketAddr) -> bool {
    let said = format!(
        "Server listening on {} port {}.",
        address.ip(),
        address.port()
    );
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        if read_log(dir).contains(&said) {
            return true;
        }
        if wait(server, Instant::now()).is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|error| panic!("no free port: {error}"))
}

fn config(
    version: Version,
    dir: &Path,
    address: SocketAddr,
    host_keys: &[KeyPair],
    extra: &[String],
) -> String {
    let first_match = extra
        .iter()
        .position(|line| line.trim_start().to_ascii_lowercase().starts_with("match "));
    let (general, conditional) = extra.split_at(first_match.unwrap_or(extra.len()));
    let mut config = general.to_vec();
    config.extend([
        format!("ListenAddress {}", address.ip()),
        format!("Port {}", address.port()),
        format!(
            "AuthorizedKeysFile {}",
            dir.join("authorized_keys").display()
        ),
        "PidFile none".to_owned(),
        "LogLevel VERBOSE".to_owned(),
        "UsePAM no".to_owned(),
        "UseDNS no".to_owned(),
        "StrictModes no".to_owned(),
        "PermitRootLogin yes".to_owned(),
        "PasswordAuthentication yes".to_owned(),
        "PrintMotd no".to_owned(),
        "PrintLastLog no".to_owned(),
        "MaxStartups 1000".to_owned(),
        format!("ModuliFile {}", version.path("etc/ssh/moduli").display()),
    ]);
    config.extend(
        host_keys
            .iter()
            .map(|key| format!("HostKey {}", key.path.display())),
    );
    if !general.iter().any(|line| {
        line.trim_start()
            .to_ascii_lowercase()
            .starts_with("subsystem sftp")
    }) {
        // A session's environment is made afresh, so the program is told where its libraries are.
        let libraries = version.libraries();
        let program = version.path("usr/lib/openssh/sftp-server");
        config.push(format!(
            "Subsystem sftp /usr/bin/env LD_LIBRARY_PATH={} {}",
            libraries.display(),
            program.display()
        ));
    }
    if version == Version::V10_0 {
        config.extend([
            format!(
                "SshdSessionPath {}",
                version.path("usr/lib/openssh/sshd-session").display()
            ),
            format!(
                "SshdAuthPath {}",
                version.path("usr/lib/openssh/sshd-auth").display()
            ),
            // Failed logins are what some tests are about; all come from the same address.
            "PerSourcePenalties no".to_owned(),
        ]);
    }
    config.extend_from_slice(conditional);
    lines(&config)
}

fn write_accounts(dir: &Path, ordinary_user: bool) {
    let home = dir.join("home");
    DirBuilder::new()
        .mode(0o700)
        .create(&home)
        .unwrap_or_else(|error| panic!("cannot make {}: {error}", home.display()));
    let metadata = fs::metadata(&home)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", home.display()));
    let (mut uid, mut gid) = (metadata.uid(), metadata.gid());
    if uid == 0 {
        if ordinary_user {
            (uid, gid) = ORDINARY;
            // It reads its authorized_keys itself, and starts in its home folder.
            fs::set_permissions(dir, Permissions::from_mode(0o711))
                .and_then(|()| chown(&home, Some(uid), Some(gid)))
                .unwrap_or_else(|error| panic!("cannot give {} away: {error}", home.display()));
        }
        match DirBuilder::new().mode(0o755).create("/run/sshd") {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                panic!("cannot make /run/sshd: {error}")
            }
            _ => {}
        }
    }
    let user = Sshd::USER;
    let home = home.display();
    write(
        &dir.join("passwd"),
        &format!(
            "{user}:{PASSWORD_HASH}:{uid}:{gid}::{home}:/bin/sh\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        ),
    );
    write(
        &dir.join("group"),
        &format!("{user}:x:{gid}:\ntty:x:5:\nnogroup:x:65534:\n"),
    );
    // The hash is in `passwd`, where both sshd and PAM's pam_unix take it; an empty `shadow` hides the machine's.
    write(&dir.join("shadow"), "");
}

/// crypt(5) of [`Sshd::PASSWORD`], SHA-512 of the fewest rounds.
const PASSWORD_HASH: &str = "$6$rounds=1000$conformance$qkfQsb3xbI5YZt42onAXig1MLfof2lKVJNUnJUS0FPi8jNA8l3zuBR7O4Sag7c9UnGfd0IjNF8zwda0b5UPjr0";

fn read_log(dir: &Path) -> String {
    fs::read(dir.join("log"))
        .map(|log| String::from_utf8_lossy(&log).into_owned())
        .unwrap_or_default()
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn write(path: &Path, content: &str) {
    fs::write(path, content)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
