//! Forwarding in every direction, over loopback, between our own ends.
#![cfg(unix)]

mod common;
#[path = "common/forwarding.rs"]
mod forwarding;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{MIB, config, log_in, options, soon};
use forwarding::{
    ANY, client, connect, exchange, exchange_unix, free_port, generous, is_cut, path, serve_mirror,
    server, server_with, socks, tcp_target, unix_target, until_closed,
};
use ssh_tokio::ssh_proto::socks::{SocksFailure, SocksReply, SocksVersion};
use ssh_tokio::ssh_proto::{ClientConfig, Misuse, OpenFailureReason};
use ssh_tokio::{Client, Error, Forward, ForwardPolicy, ForwardTarget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

async fn exchange_often(port: Option<u16>) {
    let mut set = JoinSet::new();
    for _ in 0..8 {
        let stream = connect(port).await;
        set.spawn(exchange(stream));
    }
    while let Some(done) = set.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_forwards_carry_both_ways_and_pass_half_close_on() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let target = tcp_target().await;
    let forward = client.forward_local(ANY, target).await.unwrap().spawn();
    assert_eq!(forward.address().unwrap().port(), forward.port().unwrap());
    exchange_often(forward.port()).await;

    let to_path = client.forward_local(ANY, unix_target()).await;
    let to_path = to_path.unwrap().spawn();
    exchange(connect(to_path.port()).await).await;
    let (first, second) = (path("a"), path("b"));
    let from_path = client.forward_local_path(&first, target).await;
    let from_path = from_path.unwrap().spawn();
    assert_eq!((from_path.address(), from_path.port()), (None, None));
    exchange_unix(&first).await;
    let both = client.forward_local_path(&second, unix_target()).await;
    let both = both.unwrap().spawn();
    exchange_unix(&second).await;
    from_path.stop().await;
    both.stop().await;
    assert!(!first.exists() && !second.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_forwards_carry_both_ways_and_pass_half_close_on() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let target = tcp_target().await;
    for bind in ["localhost", "", "127.0.0.1"] {
        let forward = client.forward_remote((bind, 0), target).await;
        let forward = forward.unwrap().spawn();
        assert_ne!(forward.port(), Some(0));
        exchange(connect(forward.port()).await).await;
    }
    let to_path = client
        .forward_remote(("localhost", 0), unix_target())
        .await
        .unwrap()
        .spawn();
    exchange_often(to_path.port()).await;
    let first = path("c");
    let from_path = client.forward_remote_path(&first, target).await;
    let from_path = from_path.unwrap().spawn();
    exchange_unix(&first).await;
    from_path.stop().await;
    soon(async {
        while first.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamic_forwards_go_where_each_connection_asks() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let target = tcp_target().await.port();
    let closed = free_port();
    let local = client.forward_dynamic(ANY).await.unwrap().spawn();
    let remote = client.forward_remote_dynamic(("localhost", 0)).await;
    let remote = remote.unwrap().spawn();
    for port in [local.port(), remote.port()] {
        for version in [SocksVersion::V4, SocksVersion::V5] {
            for host in ["127.0.0.1", "localhost"] {
                exchange(socks(port, version, host, target).await.unwrap()).await;
            }
            assert!(matches!(
                socks(port, version, "127.0.0.1", closed).await,
                Err(SocksReply::Refused(_))
            ));
        }
        let mut stream = connect(port).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(is_cut(&mut stream).await);
        // The others do not mind.
        let stream = socks(port, SocksVersion::V5, "127.0.0.1", target).await;
        exchange(stream.unwrap()).await;
    }
}

#[tokio::test]
async fn what_comes_along_with_the_question_is_not_lost() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let target = tcp_target().await.port();
    let local = client.forward_dynamic(ANY).await.unwrap().spawn();
    let remote = client.forward_remote_dynamic(("localhost", 0)).await;
    let remote = remote.unwrap().spawn();
    for port in [local.port(), remote.port()] {
        let mut stream = connect(port).await;
        // SOCKS 4, CONNECT, no user, and the first bytes of the connection in one write.
        let mut bytes = vec![4, 1];
        bytes.extend(target.to_be_bytes());
        bytes.extend(b"\x7f\x00\x00\x01\x00first");
        stream.write_all(&bytes).await.unwrap();
        let mut reply = [0; 8];
        soon(stream.read_exact(&mut reply)).await.unwrap();
        assert_eq!(reply[1], 90);
        stream.write_all(b" second").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        soon(stream.read_to_string(&mut back)).await.unwrap();
        assert_eq!(back, "dnoces tsrif");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_passes_in_each_direction_by_itself() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let listener = TcpListener::bind(ANY).await.unwrap();
    let target = listener.local_addr().unwrap();
    let local = client.forward_local(ANY, target).await.unwrap().spawn();
    let remote = client.forward_remote(("localhost", 0), target).await;
    let remote = remote.unwrap().spawn();
    for port in [local.port(), remote.port()] {
        for near_first in [true, false] {
            let mut near = connect(port).await;
            let (mut far, _) = soon(listener.accept()).await.unwrap();
            let (first, second) = if near_first {
                (&mut near, &mut far)
            } else {
                (&mut far, &mut near)
            };
            first.write_all(b"all of it").await.unwrap();
            first.shutdown().await.unwrap();
            let mut text = String::new();
            soon(second.read_to_string(&mut text)).await.unwrap();
            assert_eq!(text, "all of it");
            // The other direction is as good as before.
            for _ in 0..3 {
                second.write_all(b"more").await.unwrap();
                soon(first.read_exact(&mut [0; 4])).await.unwrap();
            }
            second.shutdown().await.unwrap();
            assert_eq!(soon(first.read(&mut [0])).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn one_failed_connection_is_the_only_one() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let local = client.forward_local(ANY, address).await.unwrap().spawn();
    let remote = client.forward_remote(("localhost", 0), address).await;
    let remote = remote.unwrap().spawn();
    assert!(is_cut(&mut connect(local.port()).await).await);
    assert!(is_cut(&mut connect(remote.port()).await).await);
    serve_mirror(TcpListener::bind(address).await.unwrap());
    exchange(connect(local.port()).await).await;
    exchange(connect(remote.port()).await).await;
}

#[tokio::test]
async fn a_server_grants_nothing_unless_its_policy_says_so() {
    let server = server(ForwardPolicy::new()).await;
    let client = client(&server).await;
    let target = tcp_target().await;
    assert!(matches!(
        soon(client.direct_tcpip("127.0.0.1", target.port())).await,
        Err(Error::OpenFailed {
            reason: OpenFailureReason::ADMINISTRATIVELY_PROHIBITED,
            ..
        })
    ));
    let direct = client.direct_streamlocal(unix_target());
    assert!(soon(direct).await.is_err());
    let refused = |result: Result<Forward, Error>| matches!(result, Err(Error::Refused(_)));
    assert!(refused(
        soon(client.forward_remote(("localhost", 0), target)).await
    ));
    assert!(refused(
        soon(client.forward_remote_path(path("d"), target)).await
    ));
    assert!(refused(soon(client.forward_remote_dynamic(("", 0))).await));
    let local = client.forward_local(ANY, target).await.unwrap().spawn();
    assert!(is_cut(&mut connect(local.port()).await).await);
    let dynamic = client.forward_dynamic(ANY).await.unwrap().spawn();
    let asked = socks(dynamic.port(), SocksVersion::V5, "127.0.0.1", target.port());
    assert_eq!(
        asked.await.unwrap_err(),
        SocksReply::Refused(SocksFailure::NOT_ALLOWED)
    );
}

#[tokio::test]
async fn a_policy_that_listens_on_loopback_listens_nowhere_else() {
    let policy = ForwardPolicy::new()
        .listen_on_loopback()
        .connect(|target| matches!(target, ForwardTarget::Tcp { port: 1, .. }));
    let server = server(policy).await;
    let client = client(&server).await;
    let target = tcp_target().await;
    let elsewhere = client.forward_remote(("192.0.2.1", 0), target);
    assert!(soon(elsewhere).await.is_err());
    // All addresses become loopback.
    let forward = client.forward_remote(("0.0.0.0", 0), target).await;
    let forward = forward.unwrap().spawn();
    exchange(connect(forward.port()).await).await;
    let direct = client.direct_tcpip("127.0.0.1", target.port());
    assert!(soon(direct).await.is_err());
    // A port that is taken is refused, and the next one is not.
    let taken = forward.port().unwrap();
    for bind in ["127.0.0.1", "localhost", ""] {
        let again = client.forward_remote((bind, taken), target);
        assert!(soon(again).await.is_err());
    }
    drop(
        soon(client.forward_remote(("localhost", 0), target))
            .await
            .unwrap(),
    );
}

#[tokio::test]
async fn listeners_of_a_connection_are_bounded_on_both_sides() {
    let target = tcp_target().await;
    for (at_client, at_server) in [(2, 16), (16, 2)] {
        let mut limited = config();
        limited.transport.limits.forwards = at_server;
        let server = server_with(limited, generous()).bind(ANY).await.unwrap();
        let mut limited = ClientConfig::new();
        limited.transport.limits.forwards = at_client;
        let options = options().config(limited);
        let client = soon(Client::connect_spawn(server.address(), options)).await;
        let client = client.unwrap();
        log_in(&client).await;
        let bind = ("localhost", 0);
        let first = soon(client.forward_remote(bind, target)).await.unwrap();
        let second = soon(client.forward_remote(bind, target)).await.unwrap();
        let third = soon(client.forward_remote(bind, target)).await.unwrap_err();
        assert!(matches!(
            third,
            Error::Refused(_) | Error::Misuse(Misuse::Limit("forwards"))
        ));
        drop(first);
        let third = soon(client.forward_remote(bind, target)).await.unwrap();
        let third = third.spawn();
        exchange(connect(third.port()).await).await;
        drop(second);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_cuts_connections_and_frees_the_port_and_the_client_goes_on() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let target = tcp_target().await;
    let (here, there) = ((Ipv4Addr::LOCALHOST, free_port()), free_port());
    let local = client.forward_local(here, target).await.unwrap().spawn();
    let remote = client.forward_remote(("localhost", there), target).await;
    let remote = remote.unwrap().spawn();
    let dynamic = client.forward_dynamic(ANY).await.unwrap().spawn();
    let mut asking = connect(dynamic.port()).await;
    let mut streams = Vec::new();
    for port in [local.port(), remote.port()] {
        let mut stream = connect(port).await;
        stream.write_all(b"x").await.unwrap();
        streams.push(stream);
    }
    // So that the channels are open.
    exchange(connect(local.port()).await).await;
    exchange(connect(remote.port()).await).await;
    assert_eq!((local.port(), remote.port()), (Some(here.1), Some(there)));
    local.stop().await;
    // Here it is certain at once; of the server only that it was told.
    assert!(TcpStream::connect(here).await.is_err());
    remote.stop().await;
    drop(dynamic);
    for stream in &mut streams {
        assert!(is_cut(stream).await);
    }
    assert!(is_cut(&mut asking).await);
    until_closed(there).await;
    let again = client.forward_remote(("localhost", there), target).await;
    let again = again.unwrap().spawn();
    exchange(connect(again.port()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_was_cancelled_lets_its_connections_go_on() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let listener = TcpListener::bind(ANY).await.unwrap();
    let target = listener.local_addr().unwrap();
    let port = free_port();
    // A forward that is dropped cuts its connections. A client that only cancels does not: by hand, then.
    let remote = client.forward_remote(("localhost", port), target).await;
    let remote = remote.unwrap().spawn();
    let mut near = connect(Some(port)).await;
    let (mut far, _) = soon(listener.accept()).await.unwrap();
    let mut data = 9_u32.to_be_bytes().to_vec();
    data.extend(b"localhost");
    data.extend(u32::from(port).to_be_bytes());
    let cancelled = client.global_request("cancel-tcpip-forward", &data, true);
    soon(cancelled).await.unwrap();
    // The answer came after the end of the listener.
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    assert!(refused.is_err());
    near.write_all(b"still there").await.unwrap();
    soon(far.read_exact(&mut [0; 11])).await.unwrap();
    let again = client.global_request("cancel-tcpip-forward", &data, true);
    assert!(matches!(soon(again).await, Err(Error::Refused(_))));
    drop(remote);
    assert!(is_cut(&mut near).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwards_end_with_the_connection() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let target = tcp_target().await;
    let here = (Ipv4Addr::LOCALHOST, free_port());
    let mut local = client.forward_local(here, target).await.unwrap().spawn();
    let there = ("localhost", free_port());
    let remote = client.forward_remote(there, target).await;
    let mut remote = remote.unwrap().spawn();
    let ports = [local.port(), remote.port()];
    let mut streams = Vec::new();
    for port in [ports, ports].concat() {
        let mut stream = connect(port).await;
        stream.write_all(b"x").await.unwrap();
        streams.push(stream);
    }
    exchange(connect(ports[1]).await).await;
    client.disconnect();
    soon(local.wait()).await.unwrap();
    soon(remote.wait()).await.unwrap();
    for stream in &mut streams {
        assert!(is_cut(stream).await);
    }
    for port in ports {
        until_closed(port.unwrap()).await;
    }
    soon(async {
        while server.server().connections() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_forward_tells_why_its_connection_was_lost() {
    let server = server_with(config(), generous());
    let (near, far) = tokio::io::duplex(10_000);
    let serving = common::serve(&server, far);
    let connecting = Client::connect_stream(near, options());
    let (client, driver) = soon(connecting).await.unwrap();
    let driver = driver.spawn();
    log_in(&client).await;
    let target = tcp_target().await;
    let mut local = client.forward_local(ANY, target).await.unwrap();
    let port = free_port();
    let remote = client.forward_remote(("localhost", port), target).await;
    let mut remote = remote.unwrap();
    driver.abort();
    for forward in [&mut local, &mut remote] {
        assert!(soon(forward.run()).await.is_err());
        // Whoever asks again hears the same.
        assert!(soon(forward.run()).await.is_err());
    }
    // The server finds out by itself.
    assert!(soon(serving).await.unwrap().is_err());
    until_closed(port).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_no_more_says_so_and_may_go_on_writing() {
    let server = server(generous()).await;
    let client = client(&server).await;
    let listener = TcpListener::bind(ANY).await.unwrap();
    let target = listener.local_addr().unwrap();
    let opening = client.direct_tcpip("127.0.0.1", target.port());
    let mut channel = soon(opening).await.unwrap();
    let (far, _) = soon(listener.accept()).await.unwrap();
    let (mut reader, mut writer) = far.into_split();
    // It would go on for ever.
    let flood = tokio::spawn(async move { while writer.write_all(&[7; 10_000]).await.is_ok() {} });
    soon(channel.read_exact(&mut [0; 100])).await.unwrap();
    channel.shutdown_read().await.unwrap();
    channel.write_all(b"the rest").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut rest = String::new();
    soon(reader.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "the rest");
    // The server has not read the flood to its end: nothing is to be written any more.
    soon(channel.wait_closed()).await;
    drop(reader);
    soon(flood).await.unwrap();
    assert!(client.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_up_nobody_else_and_costs_no_memory() {
    const WINDOW: u32 = 256 * 1024;
    let server = server(generous()).await;
    let mut limited = ClientConfig::new();
    limited.transport.limits.window = WINDOW;
    let options = options().config(limited);
    let client = soon(Client::connect_spawn(server.address(), options)).await;
    let client = client.unwrap();
    log_in(&client).await;
    let source = TcpListener::bind(ANY).await.unwrap();
    let flood = source.local_addr().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        let (mut stream, _) = source.accept().await.unwrap();
        // Until the other side goes.
        while let Ok(len) = stream.write(&[7; 64 * 1024]).await {
            count.fetch_add(len, Ordering::Relaxed);
        }
    });
    let stalled = client.forward_local(ANY, flood).await.unwrap().spawn();
    let mut deaf = connect(stalled.port()).await;
    deaf.read_exact(&mut [0; 100]).await.unwrap();
    // It comes to a halt: the window, the buffers of the pumps, and those of four sockets.
    soon(async {
        let mut before = 0;
        while before < sent.load(Ordering::Relaxed) {
            before = sent.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    })
    .await;
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 32 * MIB, "{sent}");
    let target = tcp_target().await;
    let other = client.forward_local(ANY, target).await.unwrap().spawn();
    exchange(connect(other.port()).await).await;
    drop(deaf);
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn connections_that_nobody_serves_yet_wait_and_are_bounded() {
    let server = server(generous()).await;
    let mut limited = ClientConfig::new();
    limited.transport.limits.pending_opens = 3;
    let options = options().config(limited);
    let client = soon(Client::connect_spawn(server.address(), options)).await;
    let client = client.unwrap();
    log_in(&client).await;
    let target = tcp_target().await;
    let forward = client.forward_remote(("localhost", 0), target).await;
    let forward = forward.unwrap();
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(connect(forward.port()).await);
    }
    // Those beyond the bound are refused by the library; nobody was asked.
    for mut stream in streams.split_off(3) {
        assert!(is_cut(&mut stream).await);
    }
    // The others were only waiting.
    let forward = forward.spawn();
    for stream in streams {
        exchange(stream).await;
    }
    // The same, and nobody ever comes to serve them.
    let forward2 = client.forward_remote(("localhost", 0), target).await;
    let forward2 = forward2.unwrap();
    let mut waiting = connect(forward2.port()).await;
    drop(forward2);
    assert!(is_cut(&mut waiting).await);
    exchange(connect(forward.port()).await).await;
}
