//! Counts the threads of this process, so it is alone in it.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/forwarding.rs"]
mod forwarding;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use forwarding::{client, generous, server};
use ssh_blocking::Forward;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// For whoever has to find the one that stays.
fn names() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .collect()
}

#[track_caller]
fn settle_at(count: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads() != count {
        assert!(
            Instant::now() < deadline,
            "more than {count}: {:?}",
            names()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

fn connect(forward: &Forward) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, forward.port().unwrap())).unwrap();
    stream.write_all(b"x").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    stream
}

#[test]
fn a_forward_leaves_no_thread_behind() {
    let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = echo.local_addr().unwrap();
    thread::spawn(move || {
        for stream in echo.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || _ = std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let server = server(generous());
    let idle = threads();
    for end in ["stop", "drop of the sockets", "disconnect"] {
        let client = client(&server);
        let local = client
            .forward_local((Ipv4Addr::LOCALHOST, 0), target)
            .unwrap();
        let remote = client.forward_remote(("localhost", 0), target).unwrap();
        let dynamic = client.forward_dynamic((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let streams: Vec<_> = [&local, &remote, &local, &remote].map(connect).into();
        let asking = TcpStream::connect(dynamic.address().unwrap()).unwrap();
        // Some are half closed.
        for stream in &streams[..2] {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        assert!(threads() > idle + 5);
        match end {
            "stop" => {
                local.stop();
                remote.stop();
                dynamic.stop();
            }
            "disconnect" => client.disconnect(),
            _ => {
                drop((streams, asking));
                // Both ends of the connection, and three listeners.
                settle_at(idle + 5);
                drop((local, remote, dynamic));
            }
        }
        drop(client);
        settle_at(idle);
    }
}
