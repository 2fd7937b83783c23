//! Forwarding of every kind between this library and OpenSSH, in both roles: the client and the server on blocking sockets,
//! and the server on Tokio. Its client has a file of its own. The answer begins only after EOF, so each connection shows that
//! half-close is passed on.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use conformance::forwarding::{LEN, Place, Running, forbidden, local_forwards, remote_forwards};
use conformance::ours::SshExample;
use conformance::peers::{Version, all};
use conformance::tcp::{
    connect, ends_at_once, exchange_dynamic, exchange_tcp, exchange_unix, free_port, mirror_target,
    unix_mirror_target, wait_for, wait_until_closed,
};
use ssh_blocking::Client;

const TIME: Duration = Duration::from_secs(30);

/// Every release of OpenSSH with every server of ours.
fn servers() -> impl Iterator<Item = (Version, &'static str)> {
    all()
        .into_iter()
        .flat_map(|version| ["sshd", "sshd-tokio"].map(|program| (version, program)))
}

// Our client, OpenSSH's server.

#[test]
fn our_client_forwards_local_ports_and_sockets() {
    local_forwards::<Client>();
}

#[test]
fn our_client_forwards_ports_and_sockets_of_the_server() {
    remote_forwards::<Client>();
}

#[test]
fn what_the_server_forbids_is_an_error_and_the_client_goes_on() {
    forbidden::<Client>();
}

#[test]
fn our_example_takes_the_flags_of_openssh() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
        let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
        let to = format!("127.0.0.1:{}", target.port());
        let listening = place.path("listening");
        let flags = [
            "-N".to_owned(),
            format!("-L{}:{to}", ports[0]),
            format!("-L[127.0.0.1]:{}:{}", ports[1], unix.display()),
            format!("-L{}:{to}", listening.display()),
            format!("-R{}:{to}", ports[2]),
            format!("-Rlocalhost:{}", ports[3]),
            format!("-D127.0.0.1:{}", ports[4]),
        ];
        let ssh = SshExample::for_sshd(&sshd)
            .identity(place.key())
            .option("ExitOnForwardFailure", "yes");
        let ssh = flags.iter().fold(ssh, |ssh, flag| ssh.flag(flag));
        let running = Running::start(ssh.command(""));
        for port in &ports[..3] {
            exchange_tcp(&connect(*port), LEN);
        }
        exchange_unix(&listening, LEN);
        for port in &ports[3..] {
            exchange_dynamic(*port, target.port(), LEN);
        }
        drop(running);
        for port in ports {
            wait_until_closed(port);
        }
    }
}

// OpenSSH's client, our server.

#[test]
fn our_server_serves_local_forwards_of_openssh() {
    for (version, program) in servers() {
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

#[test]
fn our_server_listens_for_openssh() {
    for (version, program) in servers() {
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

#[test]
fn our_server_tells_the_port_that_it_chose_and_listens_until_it_is_cancelled() {
    for (version, program) in servers() {
        let place = Place::new(version);
        let server = place.our_sshd(program, &["--allow-forwarding"]);
        let target = mirror_target();
        let to = format!("127.0.0.1:{}", target.port());
        let zero = format!("-R0:{to}");
        let control = place.path("control");
        let control = control.to_str().unwrap();
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
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let _running = Running::from(child);
        let port: u16 = BufReader::new(stderr)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.strip_prefix("Allocated port ")?;
                port.split(' ').next()?.parse().ok()
            })
            .expect("no port was allocated");
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

#[test]
fn our_server_forwards_nothing_unless_it_is_told_to() {
    for (version, program) in servers() {
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
        assert!(ends_at_once(&connect(local)));
    }
}
