//! What holds for the server of every adapter, with OpenSSH's client. `program` is the example that serves.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::peers::all;

use crate::peers::Running;
use crate::tcp::{
    connect, exchange_dynamic, exchange_tcp, exchange_unix, free_port, mirror_target,
    unix_mirror_target, wait_for, wait_until_closed,
};

use super::{LEN, Place};

/// How long anything may take.
const TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// OpenSSH's client forwards its ports and sockets, and a SOCKS port, to where this server connects.
///
/// # Panics
/// If something does not work.
#[track_caller]
pub fn serves_local_forwards(program: &str) {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(program, &["--allow-forwarding"]);
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
        let [tcp, to_path, dynamic] = [free_port(), free_port(), free_port()];
        let (first, second) = (place.path("a"), place.path("b"));
        let to = format!("127.0.0.1:{}", target.port());
        let flags = [
            format!("-L{tcp}:{to}"),
            format!("-L{to_path}:{}", unix.display()),
            format!("-L{}:{to}", first.display()),
            format!("-L{}:{}", second.display(), unix.display()),
            format!("-D{dynamic}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let ssh = place.client(&server, version, &flags);
        let _running = Running::start(ssh.command(""));
        for port in [tcp, to_path] {
            exchange_tcp(&connect(port), LEN);
        }
        exchange_unix(&first, LEN);
        exchange_unix(&second, LEN);
        exchange_dynamic(dynamic, target.port(), LEN);
    }
}

/// The server listens on ports, fixed and on all addresses, and on sockets, and stops with the client.
///
/// # Panics
/// If something does not work.
#[track_caller]
pub fn serves_remote_forwards(program: &str) {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(program, &["--allow-forwarding"]);
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
        let [tcp, to_path, all, dynamic] = [free_port(), free_port(), free_port(), free_port()];
        let (first, second) = (place.path("a"), place.path("b"));
        let to = format!("127.0.0.1:{}", target.port());
        let flags = [
            format!("-R{tcp}:{to}"),
            format!("-R{to_path}:{}", unix.display()),
            format!("-R*:{all}:{to}"),
            format!("-R{}:{to}", first.display()),
            format!("-R{}:{}", second.display(), unix.display()),
            format!("-R{dynamic}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let ssh = place.client(&server, version, &flags);
        let running = Running::start(ssh.command(""));
        for port in [tcp, to_path, all] {
            exchange_tcp(&connect(port), LEN);
        }
        exchange_unix(&first, LEN);
        exchange_unix(&second, LEN);
        exchange_dynamic(dynamic, target.port(), LEN);
        // Whoever goes takes the listeners along.
        drop(running);
        for port in [tcp, to_path, all, dynamic] {
            wait_until_closed(port);
        }
        wait_for("end of the sockets", || {
            (!first.exists() && !second.exists()).then_some(())
        });
    }
}

/// The server tells the port that it chose, and listens until that is cancelled.
///
/// # Panics
/// If something does not work.
#[track_caller]
pub fn serves_port_zero_and_cancel(program: &str) {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(program, &["--allow-forwarding"]);
        let target = mirror_target();
        let to = format!("127.0.0.1:{}", target.port());
        let zero = format!("-R0:{to}");
        let control = place.path("control");
        let control = control.to_string_lossy();
        let control = control.as_ref();
        let ssh = place
            .client(&server, version, &["-M", "-S", control, &zero])
            .option("LogLevel", "INFO");
        // The first one of an option counts, and this is not it: it is on the command line.
        let mut command = ssh.command("");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = child.stderr.take();
        let _running = Running::of(child);
        let port: Option<u16> = stderr.and_then(|stderr| {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .find_map(|line| {
                    let port = line.strip_prefix("Allocated port ")?;
                    port.split(' ').next()?.parse().ok()
                })
        });
        let Some(port) = port else {
            panic!("no port was allocated");
        };
        exchange_tcp(&connect(port), LEN);

        let fixed = free_port();
        let spec = format!("-R{fixed}:{to}");
        let ask = |what: &str, spec: &str| {
            server
                .client(version)
                .flag("-S")
                .flag(control)
                .flag("-O")
                .flag(what)
                .flag(spec)
                .run("", "", TIME)
                .expect_code(0)
        };
        _ = ask("forward", &spec);
        exchange_tcp(&connect(fixed), LEN);
        _ = ask("cancel", &spec);
        wait_until_closed(fixed);
        // The other one is still there.
        exchange_tcp(&connect(port), LEN);
    }
}

/// Without `--allow-forwarding`, nothing is forwarded.
///
/// # Panics
/// If something does not work.
#[track_caller]
pub fn serves_nothing_unasked(program: &str) {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(program, &[]);
        let target = mirror_target();
        let to = format!("127.0.0.1:{}", target.port());
        let spec = format!("-R{}:{to}", free_port());
        let finished = place
            .client(&server, version, &[&spec])
            .run("", "", TIME)
            .expect_code(255);
        assert!(
            finished.stderr_text().contains("forwarding failed"),
            "{}",
            finished.stderr_text()
        );
        let local = free_port();
        let spec = format!("-L{local}:{to}");
        let ssh = place.client(&server, version, &[&spec]);
        let _running = Running::start(ssh.command(""));
        let mut stream = connect(local);
        let limited = stream.set_read_timeout(Some(TIME));
        assert!(limited.is_ok(), "{limited:?}");
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
}
