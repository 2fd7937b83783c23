//! Forwarding of every kind between this library on mio and OpenSSH, in both roles.

use conformance::forwarding::{
    LEN, MioClient, Place, forbidden, local_forwards, remote_forwards, serves_local_forwards,
    serves_nothing_unasked, serves_port_zero_and_cancel, serves_remote_forwards,
};
use conformance::ours::SshExample;
use conformance::peers::Running;
use conformance::peers::all;
use conformance::tcp::{
    connect, exchange_dynamic, exchange_tcp, exchange_unix, free_port, mirror_target,
    unix_mirror_target, wait_until_closed,
};

/// The example that serves.
const SERVER: &str = "server";

#[test]
fn the_client_forwards_local_ports_and_sockets() {
    local_forwards::<MioClient>();
}

#[test]
fn the_client_forwards_ports_and_sockets_of_the_server() {
    remote_forwards::<MioClient>();
}

#[test]
fn what_the_server_forbids_is_an_error_and_the_client_goes_on() {
    forbidden::<MioClient>();
}

#[test]
fn the_server_serves_local_forwards_of_openssh() {
    serves_local_forwards(SERVER);
}

#[test]
fn the_server_listens_for_openssh() {
    serves_remote_forwards(SERVER);
}

#[test]
fn the_server_tells_the_port_that_it_chose_and_listens_until_it_is_cancelled() {
    serves_port_zero_and_cancel(SERVER);
}

#[test]
fn the_server_forwards_nothing_unless_it_is_told_to() {
    serves_nothing_unasked(SERVER);
}

#[test]
fn the_example_forward_takes_the_flags_of_openssh() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
        let ports: Vec<u16> = (0..6).map(|_| free_port()).collect();
        let to = format!("127.0.0.1:{}", target.port());
        // A name that is looked up, here and there.
        let by_name = format!("localhost:{}", target.port());
        let listening = place.path("listening");
        let flags = [
            format!("-L{}:{to}", ports[0]),
            format!("-L[127.0.0.1]:{}:{}", ports[1], unix.display()),
            format!("-L{}:{by_name}", listening.display()),
            format!("-R{}:{to}", ports[2]),
            format!("-Rlocalhost:{}:{by_name}", ports[3]),
            format!("-Rlocalhost:{}", ports[4]),
            format!("-D127.0.0.1:{}", ports[5]),
        ];
        let forward = SshExample::forward(&sshd).identity(place.key());
        let forward = flags
            .iter()
            .fold(forward, |forward, flag| forward.flag(flag));
        let running = Running::start(forward.command(""));
        for port in &ports[..4] {
            exchange_tcp(&connect(*port), LEN);
        }
        exchange_unix(&listening, LEN);
        for port in &ports[4..] {
            exchange_dynamic(*port, target.port(), LEN);
        }
        drop(running);
        for port in ports {
            wait_until_closed(port);
        }
    }
}
