//! Forwards that are cut at every poll: nothing hangs, nothing is left behind, and the connection goes on. The tasks of the
//! runtime are counted, so there is one runtime for each test.
#![cfg(unix)]

mod common;
#[path = "common/forwarding.rs"]
mod forwarding;

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use common::{config, log_in, next_cut, options, polls, serve, soon};
use forwarding::{
    ANY, connect, exchange, free_port, generous, server_with, tcp_target, try_exchange,
    until_closed,
};
use ssh_tokio::ssh_proto::config::ServerConfig;
use ssh_tokio::ssh_proto::{ClientConfig, Misuse};
use ssh_tokio::{Client, Error, Forward, Server};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What goes through a forward before it is cut.
const LEN: u32 = 500_000;

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn until_tasks(count: usize) {
    for _ in 0..1_000 {
        if tasks() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} tasks, not {count}", tasks());
}

/// A server that lets few things be open at once, so that what is forgotten is soon missed.
fn limited_server() -> (Server, Arc<ServerConfig>) {
    let mut limited = config();
    limited.transport.limits.forwards = 2;
    limited.transport.limits.channels = 6;
    let limited = Arc::new(limited);
    (server_with(Arc::clone(&limited), generous()), limited)
}

/// A client like that. Both ends of the connection are tasks.
async fn limited_client(
    server: &Server,
) -> (
    Client,
    JoinHandle<Result<(), Error>>,
    JoinHandle<Result<(), Error>>,
) {
    let mut config = ClientConfig::new();
    config.transport.limits.forwards = 2;
    config.transport.limits.channels = 6;
    config.transport.limits.pending_opens = 3;
    let (near, far) = tokio::io::duplex(2_000);
    let serving = serve(server, far);
    let connecting = Client::connect_stream(near, options().config(config));
    let (client, driver) = soon(connecting).await.unwrap();
    let driver = driver.spawn();
    log_in(&client).await;
    (client, driver, serving)
}

/// Asks for a forward at the server until there is room for it: those that were cut are given up as soon as the server has
/// answered.
async fn remote(client: &Client, port: u16, target: SocketAddr) -> Forward {
    soon(async {
        loop {
            match client.forward_remote(("localhost", port), target).await {
                Ok(forward) => return forward,
                Err(Error::Refused(_) | Error::Misuse(Misuse::Limit("forwards"))) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await
}

/// Polls a forward so many times while something goes through it. Whether that came to its end before.
async fn carries(cut: usize, mut forward: Forward, port: u16) -> bool {
    let mut serving = pin!(async move { polls(cut, forward.run()).await });
    let mut exchanging = pin!(async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        try_exchange(stream, LEN).await
    });
    let first = async {
        tokio::select! {
            cut = &mut serving => {
                assert!(cut.is_none(), "the forward ended by itself");
                None
            }
            exchanged = &mut exchanging => Some(exchanged),
        }
    };
    match soon(first).await {
        Some(exchanged) => {
            exchanged.unwrap();
            true
        }
        None => {
            // It fails, unless all was said and only the ends were not heard.
            _ = soon(exchanging).await;
            false
        }
    }
}

#[tokio::test]
async fn local_forwards_are_cut_at_every_poll() {
    let target = tcp_target().await;
    let (server, _) = limited_server();
    let (client, driver, serving) = limited_client(&server).await;
    let mut cut = 0;
    loop {
        let port = free_port();
        let forward = client.forward_local((Ipv4Addr::LOCALHOST, port), target);
        let done = carries(cut, forward.await.unwrap(), port).await;
        until_closed(port).await;
        let mut channel = soon(client.direct_tcpip("127.0.0.1", target.port())).await;
        exchange(channel.as_mut().unwrap()).await;
        if done {
            break;
        }
        cut = next_cut(cut);
    }
    assert!(cut > 10, "the scenario had only {cut} polls");
    drop(client);
    soon(driver).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn remote_forwards_are_cut_at_every_poll() {
    let target = tcp_target().await;
    let (server, _) = limited_server();
    let (client, driver, serving) = limited_client(&server).await;
    let port = free_port();
    let mut cut = 0;
    loop {
        // The same port each time: the one before must be gone.
        let forward = remote(&client, port, target).await;
        let done = carries(cut, forward, port).await;
        until_closed(port).await;
        if done {
            break;
        }
        cut = next_cut(cut);
    }
    assert!(cut > 10, "the scenario had only {cut} polls");
    drop(client);
    soon(driver).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_to_listen_are_cut_at_every_poll() {
    let target = tcp_target().await;
    let (server, _) = limited_server();
    let (client, driver, serving) = limited_client(&server).await;
    let port = free_port();
    let mut cut = 0;
    let mut finished = 0;
    while finished < 3 {
        let asking = client.forward_remote(("localhost", port), target);
        if soon(polls(cut, asking))
            .await
            .is_some_and(|result| result.is_ok())
        {
            finished += 1;
        }
        // Whatever the server was asked for is taken back.
        let forward = remote(&client, port, target).await.spawn();
        exchange(connect(Some(port)).await).await;
        forward.stop().await;
        until_closed(port).await;
        cut += 1;
        assert!(cut < 100, "it never ends");
    }
    drop(client);
    soon(driver).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_forwards_is_dropped_at_every_poll() {
    let target = tcp_target().await;
    let (server, config) = limited_server();
    let at_rest = (tasks(), Arc::strong_count(&config));
    let mut cut = 0;
    loop {
        let (near, far) = tokio::io::duplex(2_000);
        let serving = polls(cut, server.serve_stream(far, None));
        let (served, lived) = soon(async { tokio::join!(serving, life(near, target)) }).await;
        until_tasks(at_rest.0).await;
        assert_eq!(Arc::strong_count(&config), at_rest.1, "cut at poll {cut}");
        assert_eq!(server.connections(), 0);
        if let Some(served) = served {
            served.unwrap();
            lived.unwrap();
            break;
        }
        cut = next_cut(cut);
    }
    assert!(cut > 20, "the scenario had only {cut} polls");
}

/// A client that forwards in both directions, in one future without any task.
async fn life(stream: DuplexStream, target: SocketAddr) -> Result<(), Error> {
    let (client, mut driver) = Client::connect_stream(stream, options()).await?;
    let work = async {
        let key = Arc::clone(&common::keys().1);
        if !client.auth_public_key("user", key).await?.success() {
            return Err(Error::Cancelled);
        }
        let there = free_port();
        let mut remote = client.forward_remote(("localhost", there), target).await?;
        let mut local = client.forward_local(ANY, target).await?;
        let ports = [there, local.port().unwrap()];
        let exchanging = async {
            for port in ports {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                try_exchange(stream, 20_000).await?;
            }
            Ok(())
        };
        tokio::select! {
            over = remote.run() => over,
            over = local.run() => over,
            exchanged = exchanging => exchanged,
        }
    };
    let result = driver.drive(work).await;
    drop(client);
    driver.await?;
    result
}

#[tokio::test]
async fn a_forward_is_one_task_or_none_and_leaves_none_behind() {
    let target = tcp_target().await;
    let (server, config) = (server_with(config(), generous()), ClientConfig::new());
    let config = Arc::new(config);
    let idle = tasks();
    for end in ["stop", "drop", "sockets first", "disconnect", "loss"] {
        let (near, far) = tokio::io::duplex(10_000);
        let serving = serve(&server, far);
        let connecting = Client::connect_stream(near, options().config(Arc::clone(&config)));
        let (client, driver) = soon(connecting).await.unwrap();
        let driver = driver.spawn();
        log_in(&client).await;
        assert_eq!(tasks(), idle + 2);
        let local = client.forward_local(ANY, target).await.unwrap();
        let remote = client.forward_remote(("localhost", 0), target).await;
        let remote = remote.unwrap();
        let dynamic = client.forward_dynamic(ANY).await.unwrap();
        // The server's listener is a task, and forwards that nobody spawned are none.
        assert_eq!(tasks(), idle + 3);
        let (local, remote, dynamic) = (local.spawn(), remote.spawn(), dynamic.spawn());
        assert_eq!(tasks(), idle + 6);
        let mut streams = Vec::new();
        for port in [local.port(), remote.port(), local.port(), remote.port()] {
            let mut stream = connect(port).await;
            stream.write_all(b"x").await.unwrap();
            streams.push(stream);
        }
        streams.push(connect(dynamic.port()).await);
        // Some are half closed.
        for stream in &mut streams[..1] {
            stream.shutdown().await.unwrap();
        }
        exchange(connect(local.port()).await).await;
        exchange(connect(remote.port()).await).await;
        match end {
            "stop" => {
                local.stop().await;
                remote.stop().await;
                dynamic.stop().await;
            }
            "drop" => drop((local, remote, dynamic)),
            "sockets first" => {
                drop(streams);
                // What the server connected has ended; the targets' tasks, too.
                until_tasks(idle + 6).await;
                drop((local, remote, dynamic));
            }
            "disconnect" => client.disconnect(),
            _ => serving.abort(),
        }
        if matches!(end, "stop" | "drop" | "sockets first") {
            until_tasks(idle + 2).await;
            assert!(client.is_alive());
        }
        drop(client);
        until_tasks(idle).await;
        assert_eq!(Arc::strong_count(&config), 1, "{end}");
        drop((driver, serving));
    }
}
