//! Forwarding in every direction, over loopback, between our own ends.
#![cfg(unix)]

mod common;
#[path = "common/forwarding.rs"]
mod forwarding;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forwarding::{client, generous, server};
use ssh_blocking::ssh_proto::OpenFailureReason;
use ssh_blocking::ssh_proto::socks::{SocksClient, SocksFailure, SocksReply, SocksVersion};
use ssh_blocking::{Error, Forward, ForwardPolicy, ForwardTarget};

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Sends back what it gets, after it has got all of it: only half-close makes that end.
fn mirror<S: Send + 'static>(stream: S, shutdown: impl FnOnce(&S) + Send + 'static)
where
    for<'a> &'a S: Read + Write,
{
    thread::spawn(move || {
        let mut all = Vec::new();
        if (&stream).read_to_end(&mut all).is_ok() {
            all.reverse();
            _ = (&stream).write_all(&all);
            shutdown(&stream);
        }
    });
}

fn tcp_target() -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            mirror(stream.unwrap(), |stream| {
                _ = stream.shutdown(Shutdown::Write)
            });
        }
    });
    address
}

fn path(name: &str) -> PathBuf {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).unwrap();
    let name = format!("ssh-{name}-{:016x}", u64::from_ne_bytes(unique));
    std::env::temp_dir().join(name)
}

/// A port to listen on: below those that the system gives to connections and to whoever leaves the choice to it, so that
/// it is free again afterwards, and never the same one twice.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 16_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn unix_target() -> PathBuf {
    let path = path("target");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            mirror(stream.unwrap(), |stream| {
                _ = stream.shutdown(Shutdown::Write)
            });
        }
    });
    path
}

/// Sends a few megabytes, then EOF, and wants them back in reverse.
fn exchange(mut stream: impl Read + Write, end: impl FnOnce()) {
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    stream.write_all(&sent).unwrap();
    end();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    back.reverse();
    assert!(
        back == sent,
        "{} of {} bytes came back",
        back.len(),
        sent.len()
    );
}

fn exchange_tcp(stream: &TcpStream) {
    exchange(stream, || stream.shutdown(Shutdown::Write).unwrap());
}

fn exchange_unix(path: &PathBuf) {
    let stream = UnixStream::connect(path).unwrap();
    exchange(&stream, || stream.shutdown(Shutdown::Write).unwrap());
}

fn connect(forward: &Forward) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, forward.port().unwrap())).unwrap()
}

/// Whether the connection ends without a byte.
fn is_cut(stream: &TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    match (&mut &*stream).read(&mut [0]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn socks(
    forward: &Forward,
    version: SocksVersion,
    host: &str,
    port: u16,
) -> Result<TcpStream, SocksReply> {
    let mut stream = connect(forward);
    let mut socks = SocksClient::new(version, host, port).unwrap();
    stream.write_all(socks.output()).unwrap();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        socks.handle_bytes(&byte);
        match socks.poll_event() {
            Some(SocksReply::Connected) => return Ok(stream),
            Some(other) => return Err(other),
            None => {}
        }
    }
}

#[test]
fn local_forwards_carry_both_ways_and_pass_half_close_on() {
    let server = server(generous());
    let client = client(&server);
    let target = tcp_target();
    let forward = client.forward_local(ANY, target).unwrap();
    assert_eq!(forward.address().unwrap().port(), forward.port().unwrap());
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let stream = connect(&forward);
            thread::spawn(move || exchange_tcp(&stream))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }

    let to_path = client.forward_local(ANY, unix_target()).unwrap();
    exchange_tcp(&connect(&to_path));
    let (first, second) = (path("a"), path("b"));
    let from_path = client.forward_local_path(&first, target).unwrap();
    assert_eq!((from_path.address(), from_path.port()), (None, None));
    exchange_unix(&first);
    let both = client.forward_local_path(&second, unix_target()).unwrap();
    exchange_unix(&second);
    drop((from_path, both));
    assert!(!first.exists() && !second.exists());
}

#[test]
fn remote_forwards_carry_both_ways_and_pass_half_close_on() {
    let server = server(generous());
    let client = client(&server);
    let target = tcp_target();
    for bind in ["localhost", "", "127.0.0.1"] {
        let forward = client.forward_remote((bind, 0), target).unwrap();
        assert_ne!(forward.port(), Some(0));
        exchange_tcp(&connect(&forward));
    }
    let to_path = client
        .forward_remote(("localhost", 0), unix_target())
        .unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let stream = connect(&to_path);
            thread::spawn(move || exchange_tcp(&stream))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let first = path("c");
    let from_path = client.forward_remote_path(&first, target).unwrap();
    exchange_unix(&first);
    from_path.stop();
    wait_for("the socket goes", || !first.exists());
}

#[test]
fn dynamic_forwards_go_where_each_connection_asks() {
    let server = server(generous());
    let client = client(&server);
    let target = tcp_target();
    let closed = free_port();
    let local = client.forward_dynamic(ANY).unwrap();
    let remote = client.forward_remote_dynamic(("localhost", 0)).unwrap();
    for forward in [&local, &remote] {
        for version in [SocksVersion::V4, SocksVersion::V5] {
            for host in ["127.0.0.1", "localhost"] {
                let stream = socks(forward, version, host, target.port()).unwrap();
                exchange_tcp(&stream);
            }
            assert!(matches!(
                socks(forward, version, "127.0.0.1", closed),
                Err(SocksReply::Refused(_))
            ));
        }
        let mut stream = connect(forward);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(is_cut(&stream));
        // The others do not mind.
        exchange_tcp(&socks(forward, SocksVersion::V5, "127.0.0.1", target.port()).unwrap());
    }
}

#[test]
fn one_failed_connection_is_the_only_one() {
    let server = server(generous());
    let client = client(&server);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let local = client.forward_local(ANY, address).unwrap();
    let remote = client.forward_remote(("localhost", 0), address).unwrap();
    assert!(is_cut(&connect(&local)));
    assert!(is_cut(&connect(&remote)));
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            mirror(stream.unwrap(), |stream| {
                _ = stream.shutdown(Shutdown::Write)
            });
        }
    });
    exchange_tcp(&connect(&local));
    exchange_tcp(&connect(&remote));
}

#[test]
fn a_server_grants_nothing_unless_its_policy_says_so() {
    let server = server(ForwardPolicy::new());
    let client = client(&server);
    let target = tcp_target();
    assert!(matches!(
        client.direct_tcpip("127.0.0.1", target.port()),
        Err(Error::OpenFailed {
            reason: OpenFailureReason::ADMINISTRATIVELY_PROHIBITED,
            ..
        })
    ));
    assert!(client.direct_streamlocal(unix_target()).is_err());
    let refused = |result: Result<Forward, Error>| matches!(result, Err(Error::Refused(_)));
    assert!(refused(client.forward_remote(("localhost", 0), target)));
    assert!(refused(client.forward_remote_path(path("d"), target)));
    assert!(refused(client.forward_remote_dynamic(("", 0))));
    let local = client.forward_local(ANY, target).unwrap();
    assert!(is_cut(&connect(&local)));
    let dynamic = client.forward_dynamic(ANY).unwrap();
    assert_eq!(
        socks(&dynamic, SocksVersion::V5, "127.0.0.1", target.port()).unwrap_err(),
        SocksReply::Refused(SocksFailure::NOT_ALLOWED)
    );
}

#[test]
fn a_policy_that_listens_on_loopback_listens_nowhere_else() {
    let policy = ForwardPolicy::new()
        .listen_on_loopback()
        .connect(|target| matches!(target, ForwardTarget::Tcp { port: 1, .. }));
    let server = server(policy);
    let client = client(&server);
    let target = tcp_target();
    assert!(client.forward_remote(("192.0.2.1", 0), target).is_err());
    // All addresses become loopback.
    let forward = client.forward_remote(("0.0.0.0", 0), target).unwrap();
    exchange_tcp(&connect(&forward));
    assert!(client.direct_tcpip("127.0.0.1", target.port()).is_err());
    // A port that is taken is refused, and the next one is not.
    let taken = forward.port().unwrap();
    for bind in ["127.0.0.1", "localhost", ""] {
        assert!(client.forward_remote((bind, taken), target).is_err());
    }
    drop(client.forward_remote(("localhost", 0), target).unwrap());
}

#[test]
fn stopping_cuts_connections_and_frees_the_port_and_the_client_goes_on() {
    let server = server(generous());
    let client = client(&server);
    let target = tcp_target();
    let ports = [free_port(), free_port()];
    let here = (Ipv4Addr::LOCALHOST, ports[0]);
    let local = client.forward_local(here, target).unwrap();
    let there = ("localhost", ports[1]);
    let remote = client.forward_remote(there, target).unwrap();
    let dynamic = client.forward_dynamic(ANY).unwrap();
    let asking = connect(&dynamic);
    let streams: Vec<_> = [&local, &remote]
        .map(|forward| {
            let mut stream = connect(forward);
            stream.write_all(b"x").unwrap();
            stream
        })
        .into();
    // So that the channels are open.
    exchange_tcp(&connect(&local));
    exchange_tcp(&connect(&remote));
    local.stop();
    remote.stop();
    dynamic.stop();
    assert!(streams.iter().all(is_cut));
    assert!(is_cut(&asking));
    for port in ports {
        wait_for("the port is free", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
        });
    }
    let again = client.forward_remote(there, target).unwrap();
    assert_eq!(again.port(), Some(ports[1]));
    exchange_tcp(&connect(&again));
}

#[test]
fn forwards_end_with_the_connection() {
    let server = server(generous());
    let client = client(&server);
    let target = tcp_target();
    let here = (Ipv4Addr::LOCALHOST, free_port());
    let local = client.forward_local(here, target).unwrap();
    let there = ("localhost", free_port());
    let remote = client.forward_remote(there, target).unwrap();
    let streams: Vec<_> = [&local, &remote, &local, &remote]
        .map(|forward| {
            let mut stream = connect(forward);
            stream.write_all(b"x").unwrap();
            stream
        })
        .into();
    exchange_tcp(&connect(&remote));
    client.disconnect();
    assert!(streams.iter().all(is_cut));
    for forward in [&local, &remote] {
        let port = forward.port().unwrap();
        wait_for("nobody listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
        });
    }
    drop((local, remote, client));
    wait_for("the server's end is gone", || {
        server.server().connections() == 0
    });
}

#[test]
fn who_reads_no_more_says_so_and_may_go_on_writing() {
    let server = server(generous());
    let client = client(&server);
    let channel = client
        .direct_tcpip("127.0.0.1", tcp_target().port())
        .unwrap();
    (&channel).write_all(b"first").unwrap();
    channel.shutdown_read().unwrap();
    (&channel).write_all(b"second").unwrap();
    channel.shutdown_write().unwrap();
    // The other side's writes fail, and with them the connection ends.
    channel.wait_closed(Some(Duration::from_secs(10))).unwrap();
    assert!(client.is_alive());
}

#[test]
fn who_does_not_read_holds_up_nobody_else_and_costs_no_memory() {
    let server = server(generous());
    let client = client(&server);
    let source = TcpListener::bind(ANY).unwrap();
    let flood = source.local_addr().unwrap();
    let sender = thread::spawn(move || {
        let (mut stream, _) = source.accept().unwrap();
        let mut sent = 0_usize;
        // Until the other side goes.
        while stream.write_all(&[7; 64 * 1024]).is_ok() {
            sent += 64 * 1024;
        }
        sent
    });
    let stalled = client.forward_local(ANY, flood).unwrap();
    let deaf = connect(&stalled);
    (&deaf).read_exact(&mut [0; 100]).unwrap();
    thread::sleep(Duration::from_millis(300));
    let other = client.forward_local(ANY, tcp_target()).unwrap();
    exchange_tcp(&connect(&other));
    drop(deaf);
    let sent = sender.join().unwrap();
    // The windows of the channel, the sockets, and the buffers of the pumps.
    assert!(sent < 64 * 1024 * 1024, "{sent}");
}
