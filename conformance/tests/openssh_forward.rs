//! Forwarding of every kind between this library and OpenSSH, in both roles: the client and the server on blocking sockets,
//! and the server on Tokio. Its client has a file of its own.

use conformance::forwarding::{
    LEN, Place, forbidden, local_forwards, remote_forwards, serves_local_forwards,
    serves_nothing_unasked, serves_port_zero_and_cancel, serves_remote_forwards,
};
use conformance::ours::SshExample;
use conformance::peers::{Running, all};
use conformance::tcp::{
    connect, exchange_dynamic, exchange_tcp, exchange_unix, free_port, mirror_target,
    unix_mirror_target, wait_until_closed,
};
use ssh_blocking::Client;

const SERVERS: [&str; 2] = ["sshd", "sshd-tokio"];

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

// OpenSSH's client, our servers.

#[test]
fn our_server_serves_local_forwards_of_openssh() {
    for program in SERVERS {
        serves_local_forwards(program);
    }
}

#[test]
fn our_server_listens_for_openssh() {
    for program in SERVERS {
        serves_remote_forwards(program);
    }
}

#[test]
fn our_server_tells_the_port_that_it_chose_and_listens_until_it_is_cancelled() {
    for program in SERVERS {
        serves_port_zero_and_cancel(program);
    }
}

#[test]
fn our_server_forwards_nothing_unless_it_is_told_to() {
    for program in SERVERS {
        serves_nothing_unasked(program);
    }
}
