//! Forwarding in every direction, over loopback, between our own ends.
#![cfg(unix)]

mod common;
#[path = "common/forwarding.rs"]
mod forwarding;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use common::server_config;
use forwarding::{
    ANY, Lab, UnixTarget, connect, exchange, exchange_tcp, exchange_unix, generous, is_cut,
    mirrors, path, socks, tcp_target,
};
use ssh_mio::mio::Token;
use ssh_mio::ssh_proto::socks::{SocksFailure, SocksReply, SocksVersion};
use ssh_mio::ssh_proto::{
    ChannelEvent, ClientEvent, DisconnectReason, Misuse, OpenChannel, OpenFailureReason,
};
use ssh_mio::{ForwardEvent, ForwardPolicy, ForwardTarget, NameQuestion};

#[test]
fn local_forwards_carry_both_ways_and_pass_half_close_on() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let (target, unix) = (tcp_target(), UnixTarget::new());
    let forward = lab.here.forward_local(client, ANY, target).unwrap();
    let port = lab.here.port(forward).unwrap();
    assert_eq!(lab.here.address(forward).unwrap().port(), port);
    let threads = (0..8)
        .map(|_| thread::spawn(move || exchange_tcp(&connect(port))))
        .collect();
    lab.serve_all(threads);

    let to_path = lab.here.forward_local(client, ANY, unix.0.as_path());
    let port = lab.here.port(to_path.unwrap()).unwrap();
    lab.serve(move || exchange_tcp(&connect(port)));
    let (first, second) = (path("a"), path("b"));
    let from_path = lab.here.forward_local_path(client, &first, target).unwrap();
    assert_eq!(
        (lab.here.address(from_path), lab.here.port(from_path)),
        (None, None)
    );
    let both = lab
        .here
        .forward_local_path(client, &second, unix.0.as_path())
        .unwrap();
    for path in [first.clone(), second.clone()] {
        lab.serve(move || exchange_unix(&path));
    }
    lab.settle(4, 0);
    lab.here.stop(from_path);
    lab.here.stop(both);
    assert!(!first.exists() && !second.exists());
    lab.settle(2, 0);
}

#[test]
fn remote_forwards_carry_both_ways_and_pass_half_close_on() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let (target, unix) = (tcp_target(), UnixTarget::new());
    for bind in ["localhost", "", "127.0.0.1"] {
        let forward = lab.here.forward_remote(client, (bind, 0), target);
        assert_eq!(lab.here.port(forward), None, "it was not granted yet");
        let port = lab.listening(forward).unwrap();
        assert_ne!(port, 0);
        lab.serve(move || exchange_tcp(&connect(port)));
    }
    let to_path = lab
        .here
        .forward_remote(client, ("localhost", 0), unix.0.as_path());
    let port = lab.listening(to_path).unwrap();
    let threads = (0..8)
        .map(|_| thread::spawn(move || exchange_tcp(&connect(port))))
        .collect();
    lab.serve_all(threads);
    let (first, second) = (path("c"), path("d"));
    let from_path = lab.here.forward_remote_path(client, &first, target);
    let both = lab
        .here
        .forward_remote_path(client, &second, unix.0.as_path());
    for (forward, path) in [(from_path, first), (both, second)] {
        assert_eq!(lab.listening(forward), None);
        let used = path.clone();
        lab.serve(move || exchange_unix(&used));
        lab.here.stop(forward);
        lab.until("the socket goes", |_| !path.exists());
    }
    lab.settle(0, 4);
}

#[test]
fn dynamic_forwards_go_where_each_connection_asks() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let target = tcp_target().port();
    let closed = TcpListener::bind(ANY).unwrap().local_addr().unwrap().port();
    let local = lab.here.forward_dynamic(client, ANY).unwrap();
    let remote = lab.here.forward_remote_dynamic(client, ("localhost", 0));
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    for port in ports {
        lab.serve(move || {
            for version in [SocksVersion::V4, SocksVersion::V5] {
                for host in ["127.0.0.1", "localhost"] {
                    exchange_tcp(&socks(port, version, host, target).unwrap());
                }
                assert!(matches!(
                    socks(port, version, "127.0.0.1", closed),
                    Err(SocksReply::Refused(_))
                ));
            }
            let mut stream = connect(port);
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            assert!(is_cut(&stream));
            // Who leaves before saying where to is no trouble.
            connect(port).write_all(b"\x05\x01").unwrap();
            exchange_tcp(&socks(port, SocksVersion::V5, "127.0.0.1", target).unwrap());
        });
    }
    lab.settle(1, 1);
}

#[test]
fn the_first_bytes_of_a_connection_may_come_along_with_its_request() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let target = tcp_target().port();
    let local = lab.here.forward_dynamic(client, ANY).unwrap();
    let remote = lab.here.forward_remote_dynamic(client, ("localhost", 0));
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    for port in ports {
        lab.serve(move || {
            let mut stream = connect(port);
            let mut all = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01".to_vec();
            all.extend(target.to_be_bytes());
            all.extend(b"data");
            stream.write_all(&all).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert_eq!(back, b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0atad");
        });
    }
}

#[test]
fn each_side_may_end_first_and_go_on_reading() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let listener = TcpListener::bind(ANY).unwrap();
    let target = listener.local_addr().unwrap();
    // The target says everything and EOF, then reads what the other side says after that.
    let heard = thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&[1; 1_000_000]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            heard.push(all.len());
        }
        heard
    });
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let remote = lab.here.forward_remote(client, ("", 0), target);
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    for port in ports {
        lab.serve(move || {
            let mut stream = connect(port);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), 1_000_000);
            stream.write_all(&[2; 2_000_000]).unwrap();
        });
    }
    assert_eq!(lab.serve_all(vec![heard]), [[2_000_000; 2]]);
    lab.settle(1, 1);
}

#[test]
fn who_reads_no_more_says_so_and_may_go_on_writing() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let listening = path("e");
    let listener = UnixListener::bind(&listening).unwrap();
    // Unix sockets tell that nobody reads, and do not end with it.
    let target = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.shutdown(Shutdown::Read).unwrap();
        stream.write_all(&[1; 1_000_000]).unwrap();
    });
    let forward = lab
        .here
        .forward_local(client, ANY, listening.as_path())
        .unwrap();
    let port = lab.here.port(forward).unwrap();
    lab.serve(move || {
        let mut stream = connect(port);
        stream.write_all(&[2; 100]).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 1_000_000);
    });
    lab.serve_all(vec![target]);
    lab.settle(1, 0);
    std::fs::remove_file(listening).unwrap();
}

#[test]
fn one_failed_connection_is_the_only_one() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let spot = TcpListener::bind(ANY).unwrap();
    let address = spot.local_addr().unwrap();
    let local = lab.here.forward_local(client, ANY, address).unwrap();
    let remote = lab.here.forward_remote(client, ("localhost", 0), address);
    let nobody = lab
        .here
        .forward_remote(client, ("localhost", 0), path("nobody").as_path());
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    let nobody = lab.listening(nobody).unwrap();
    drop(spot);
    for port in [ports[0], ports[1], nobody] {
        assert!(lab.serve(move || is_cut(&connect(port))));
    }
    mirrors(TcpListener::bind(address).unwrap());
    for port in ports {
        lab.serve(move || exchange_tcp(&connect(port)));
    }
    lab.settle(1, 2);
}

#[test]
fn a_server_grants_nothing_unless_its_policy_says_so() {
    let mut lab = Lab::new(ForwardPolicy::new());
    let client = lab.client();
    let target = tcp_target();
    let asked = [
        lab.here.forward_remote(client, ("localhost", 0), target),
        lab.here.forward_remote_path(client, path("f"), target),
        lab.here.forward_remote_dynamic(client, ("", 0)),
    ];
    for forward in asked {
        lab.refused(forward);
    }
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let unix = UnixTarget::new();
    let to_path = lab.here.forward_local(client, ANY, unix.0.as_path());
    for forward in [local, to_path.unwrap()] {
        let port = lab.here.port(forward).unwrap();
        assert!(lab.serve(move || is_cut(&connect(port))));
    }
    let dynamic = lab.here.forward_dynamic(client, ANY).unwrap();
    let port = lab.here.port(dynamic).unwrap();
    let refused = lab.serve(move || socks(port, SocksVersion::V5, "127.0.0.1", target.port()));
    assert_eq!(
        refused.unwrap_err(),
        SocksReply::Refused(SocksFailure::NOT_ALLOWED)
    );
    lab.settle(3, 0);
}

#[test]
fn a_policy_that_listens_on_loopback_listens_nowhere_else() {
    let policy = ForwardPolicy::new()
        .listen_on_loopback()
        .connect(|target| matches!(target, ForwardTarget::Tcp { port: 1, .. }));
    let mut lab = Lab::new(policy);
    let client = lab.client();
    let target = tcp_target();
    for elsewhere in ["192.0.2.1", "host.example"] {
        let forward = lab.here.forward_remote(client, (elsewhere, 0), target);
        lab.refused(forward);
    }
    // All addresses become loopback.
    let forward = lab.here.forward_remote(client, ("0.0.0.0", 0), target);
    let port = lab.listening(forward).unwrap();
    lab.serve(move || exchange_tcp(&connect(port)));
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let other = lab.here.port(local).unwrap();
    assert!(lab.serve(move || is_cut(&connect(other))));
    // A port that is taken is refused, and the next one is not.
    for bind in ["127.0.0.1", "localhost", ""] {
        let taken = lab.here.forward_remote(client, (bind, port), target);
        lab.refused(taken);
    }
    let free = lab.here.forward_remote(client, ("localhost", 0), target);
    assert!(lab.listening(free).is_some());
}

#[test]
fn a_server_listens_for_a_client_no_more_often_than_its_limit_says() {
    let mut config = server_config();
    config.transport.limits.forwards = 2;
    let mut lab = Lab::with(generous(), config, 100);
    let client = lab.client();
    let target = tcp_target();
    let mut ask = || lab.here.forward_remote(client, ("", 0), target);
    let (first, second, third) = (ask(), ask(), ask());
    lab.listening(first);
    lab.listening(second);
    lab.refused(third);
    lab.here.stop(first);
    let again = lab.here.forward_remote(client, ("", 0), target);
    lab.listening(again);
    lab.settle(0, 2);
}

#[test]
fn stopping_cuts_connections_and_frees_the_port_and_the_client_goes_on() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let target = tcp_target();
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let remote = lab.here.forward_remote(client, ("localhost", 0), target);
    let dynamic = lab.here.forward_dynamic(client, ANY).unwrap();
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    let asking = connect(lab.here.port(dynamic).unwrap());
    let streams = ports.map(|port| {
        let mut stream = connect(port);
        stream.write_all(b"x").unwrap();
        stream
    });
    // Two connections each, with a socket on both sides of the channel, and the one that asks.
    lab.settle(2 + 2 + 1, 1 + 2);
    for forward in [local, remote, dynamic] {
        lab.here.stop(forward);
        assert_eq!(lab.here.port(forward), None);
        // A second time is no harm.
        lab.here.stop(forward);
    }
    assert!(lab.here.is_empty());
    assert!(is_cut(&asking));
    lab.settle(0, 0);
    assert!(streams.iter().all(is_cut));
    for port in ports {
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
    let bind = ("localhost", ports[1]);
    let again = lab.here.forward_remote(client, bind, target);
    assert_eq!(lab.listening(again), Some(ports[1]));
    lab.serve(move || exchange_tcp(&connect(ports[1])));
}

#[test]
fn a_forward_that_is_stopped_before_it_was_granted_is_cancelled_when_it_is() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let target = tcp_target();
    let unsaid = lab.here.forward_remote(client, ("", 0), target);
    lab.here.stop(unsaid);
    lab.until("the login", |lab| {
        let mut other = lab.other.iter();
        other.any(|event| matches!(event, ClientEvent::Authenticated))
    });
    let said = lab.here.forward_remote(client, ("", 0), target);
    lab.wait();
    while let Some(session) = lab.here.poll_session(Instant::now()) {
        lab.clients.wake(session);
    }
    lab.run_clients();
    lab.here.stop(said);
    lab.until("the server listens", |lab| lab.there.len() == 1);
    lab.settle(0, 0);
    assert!(lab.told.is_empty(), "{:?}", lab.told);
    let third = lab.here.forward_remote(client, ("", 0), target);
    assert!(lab.listening(third).is_some());
    lab.settle(0, 1);
}

#[test]
fn forwards_end_with_the_connection() {
    for at_the_server in [false, true] {
        let mut lab = Lab::new(generous());
        let client = lab.client();
        let target = tcp_target();
        let local = lab.here.forward_local(client, ANY, target).unwrap();
        let remote = lab.here.forward_remote(client, ("localhost", 0), target);
        let socket = path("g");
        let from_path = lab.here.forward_remote_path(client, &socket, target);
        let ports = [
            lab.here.port(local).unwrap(),
            lab.listening(remote).unwrap(),
        ];
        lab.listening(from_path);
        let streams: Vec<_> = [ports, ports]
            .concat()
            .into_iter()
            .map(|port| {
                let mut stream = connect(port);
                stream.write_all(b"x").unwrap();
                stream
            })
            .collect();
        lab.settle(1 + 4, 2 + 4);
        if at_the_server {
            let server = lab.servers.remove(lab.poll.registry(), Token(1));
            assert!(server.is_some());
            lab.there.remove(Token(1));
        } else {
            let (session, ()) = lab.clients.get_mut(client).unwrap();
            let reason = DisconnectReason::BY_APPLICATION;
            session.disconnect(reason, "bye", Instant::now());
        }
        lab.settle(0, 0);
        assert!(streams.iter().all(is_cut));
        assert!(!socket.exists());
        for port in ports {
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        }
        lab.until("the sessions end", |lab| {
            lab.clients.is_empty() && lab.servers.is_empty()
        });
        assert_eq!(lab.here.wait_time(Instant::now()), None);
        assert_eq!(lab.there.wait_time(Instant::now()), None);
    }
}

#[test]
fn a_crowd_that_comes_at_once_is_served_to_the_last() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let target = tcp_target();
    // More than may be opening at a time, and no more than the queue of a listener takes, which is 128 here and at the target:
    // what does not fit there may be reset by the system.
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let remote = lab.here.forward_remote(client, ("", 0), target);
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    for port in ports {
        let threads = (0..120)
            .map(|_| {
                thread::spawn(move || {
                    let stream = connect(port);
                    exchange(&stream, 5_000, || stream.shutdown(Shutdown::Write).unwrap());
                })
            })
            .collect();
        lab.serve_all(threads);
    }
    lab.settle(1, 1);
}

#[test]
fn connections_beyond_the_tokens_are_dropped_and_the_others_go_on() {
    let mut lab = Lab::with(generous(), server_config(), 3);
    let client = lab.client();
    let target = tcp_target();
    let forward = lab.here.forward_local(client, ANY, target).unwrap();
    let port = lab.here.port(forward).unwrap();
    let kept = [connect(port), connect(port)];
    lab.settle(3, 2);
    assert!(lab.serve(move || is_cut(&connect(port))));
    let [first, second] = kept;
    lab.serve(move || exchange_tcp(&first));
    lab.serve(move || exchange_tcp(&second));
    lab.settle(1, 0);
    lab.serve(move || exchange_tcp(&connect(port)));
}

#[test]
fn what_is_not_about_forwarding_is_handed_on() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let target = tcp_target();
    let forward = lab.here.forward_local(client, ANY, target).unwrap();
    let port = lab.here.port(forward).unwrap();
    lab.serve(move || exchange_tcp(&connect(port)));
    let now = Instant::now();
    let (session, ()) = lab.clients.get_mut(client).unwrap();
    let ssh = session.connection();
    let own = ssh.open(OpenChannel::Session, now).unwrap();
    ssh.global_request("mine@example.com", b"", true, now)
        .unwrap();
    lab.until("both are answered", |lab| {
        let mut other = lab.other.iter();
        let channel = other.any(|event| matches!(event, ClientEvent::Channel(id) if *id == own));
        let mut other = lab.other.iter();
        channel && other.any(|event| matches!(event, ClientEvent::GlobalReplied { .. }))
    });
    let (session, ()) = lab.clients.get_mut(client).unwrap();
    let event = session.channel(own).unwrap().poll_event();
    assert!(matches!(event, Some(ChannelEvent::OpenFailed { .. })));
}

#[test]
fn readiness_that_is_not_true_does_no_harm() {
    let mut lab = Lab::new(generous());
    lab.haunted = true;
    let client = lab.client();
    let target = tcp_target();
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let remote = lab.here.forward_remote_dynamic(client, ("", 0));
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    for _ in 0..5 {
        lab.serve(move || {
            let stream = connect(ports[0]);
            exchange(&stream, 50_000, || {
                stream.shutdown(Shutdown::Write).unwrap()
            });
            let stream = socks(ports[1], SocksVersion::V5, "localhost", target.port()).unwrap();
            exchange(&stream, 50_000, || {
                stream.shutdown(Shutdown::Write).unwrap()
            });
        });
    }
    lab.settle(1, 1);
}

#[test]
fn new_keys_in_between_lose_nothing() {
    let mut config = server_config();
    config.transport.rekey.bytes = 300_000;
    let mut lab = Lab::with(generous(), config, 100);
    let client = lab.client();
    let target = tcp_target();
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let remote = lab.here.forward_remote(client, ("", 0), target);
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    let threads = (0..6)
        .map(|i| thread::spawn(move || exchange_tcp(&connect(ports[i % 2]))))
        .collect();
    lab.serve_all(threads);
    let rekeyed = lab.other.iter();
    let count = rekeyed
        .filter(|e| matches!(e, ClientEvent::Rekeyed))
        .count();
    assert!(count > 10, "{count}");
    lab.settle(1, 1);
}

fn questions(told: &mut Vec<ForwardEvent>) -> Vec<NameQuestion> {
    let (names, others) = std::mem::take(told)
        .into_iter()
        .partition(|event| matches!(event, ForwardEvent::NameAsked(_)));
    *told = others;
    Vec::into_iter(names)
        .map(|event| match event {
            ForwardEvent::NameAsked(question) => question,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn names_are_asked_of_the_caller_and_only_if_it_wants_that() {
    for resolves in [false, true] {
        let mut lab = Lab::new(generous());
        if resolves {
            lab.here = lab.here.resolve_names();
            lab.there = lab.there.resolve_names();
        }
        let client = lab.client();
        let target = tcp_target();
        let to_name = ("host.example", target.port());
        let local = lab.here.forward_local(client, ANY, to_name).unwrap();
        let remote = lab.here.forward_remote(client, ("", 0), to_name);
        let ports = [
            lab.here.port(local).unwrap(),
            lab.listening(remote).unwrap(),
        ];
        for port in ports {
            if !resolves {
                assert!(lab.serve(move || is_cut(&connect(port))));
                continue;
            }
            // An address where nobody listens before the right one; then none; then too late.
            let [found, unknown, gone] = [connect(port), connect(port), connect(port)];
            let found = thread::spawn(move || exchange_tcp(&found));
            let mut asked = Vec::new();
            lab.until("the names are asked for", |lab| {
                asked.extend(questions(&mut lab.told));
                asked.extend(questions(&mut lab.server_told));
                asked.len() == 3
            });
            assert!(
                asked
                    .iter()
                    .all(|question| question.host() == "host.example")
            );
            drop(gone);
            let nobody = TcpListener::bind(ANY).unwrap().local_addr().unwrap();
            for (number, question) in asked.into_iter().enumerate() {
                assert_eq!(question.port(), target.port());
                let right = [nobody, target];
                let addresses = if number == 1 { &[][..] } else { &right };
                let supplied = if port == ports[0] {
                    lab.there.supply_addresses(question, addresses)
                } else {
                    lab.here.supply_addresses(question, addresses)
                };
                assert_eq!(supplied, Ok(()));
            }
            drop(unknown);
            lab.serve_all(vec![found]);
        }
        lab.settle(1, 1);
    }
}

#[test]
fn an_answer_about_a_name_that_nobody_waits_for_is_stale() {
    let mut lab = Lab::new(generous());
    lab.here = lab.here.resolve_names();
    let client = lab.client();
    let remote = lab
        .here
        .forward_remote(client, ("", 0), ("host.example", 1));
    let port = lab.listening(remote).unwrap();
    let stream = connect(port);
    let mut asked = Vec::new();
    lab.until("the name is asked for", |lab| {
        asked = questions(&mut lab.told);
        !asked.is_empty()
    });
    lab.here.stop(remote);
    assert_eq!(
        lab.here.supply_addresses(asked.remove(0), &[]),
        Err(Misuse::StaleToken)
    );
    assert!(lab.serve(move || is_cut(&stream)));
    lab.settle(0, 0);
}

#[test]
fn who_does_not_read_holds_up_nobody_else() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let source = TcpListener::bind(ANY).unwrap();
    let flood = source.local_addr().unwrap();
    let sender = thread::spawn(move || {
        let mut sent = [0_usize; 2];
        for sent in &mut sent {
            let (mut stream, _) = source.accept().unwrap();
            // Until the other side goes.
            while stream.write_all(&[7; 64 * 1024]).is_ok() {
                *sent += 64 * 1024;
            }
        }
        sent
    });
    let target = tcp_target();
    let local = lab.here.forward_local(client, ANY, flood).unwrap();
    let remote = lab.here.forward_remote(client, ("", 0), flood);
    let other = lab.here.forward_local(client, ANY, target).unwrap();
    let other = lab.here.port(other).unwrap();
    let ports = [
        lab.here.port(local).unwrap(),
        lab.listening(remote).unwrap(),
    ];
    for port in ports {
        let deaf = lab.serve(move || {
            let mut stream = connect(port);
            stream.read_exact(&mut [0; 100]).unwrap();
            stream
        });
        // Until nothing moves any more.
        let mut quiet = 0;
        while quiet < 20 {
            let before = Instant::now();
            lab.turn();
            let waited = before.elapsed() >= Duration::from_millis(9);
            quiet = if waited { quiet + 1 } else { 0 };
        }
        lab.serve(move || exchange_tcp(&connect(other)));
        drop(deaf);
        lab.settle(2, 1);
    }
    for sent in lab.serve_all(vec![sender]).concat() {
        // The windows of the channel and the sockets.
        assert!(sent < 64 * 1024 * 1024, "{sent}");
    }
}

#[test]
fn an_application_that_vanishes_takes_its_connection_along() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let listener = TcpListener::bind(ANY).unwrap();
    let target = listener.local_addr().unwrap();
    let local = lab.here.forward_local(client, ANY, target).unwrap();
    let port = lab.here.port(local).unwrap();
    for reset in [false, true] {
        let mut application = connect(port);
        application.write_all(b"x").unwrap();
        lab.settle(2, 1);
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"unread").unwrap();
        application.set_nonblocking(true).unwrap();
        lab.until("it is there", |_| application.peek(&mut [0; 10]).is_ok());
        if reset {
            // Closing with something unread is a reset.
            drop(application);
        } else {
            application.read_exact(&mut [0; 6]).unwrap();
            drop(application);
            assert_eq!(
                lab.serve(move || stream.read_to_end(&mut Vec::new()).unwrap()),
                1
            );
        }
        lab.settle(1, 0);
    }
}

#[test]
fn a_unix_socket_in_the_way_is_left_alone() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    let target = tcp_target();
    let taken = path("h");
    let listener = UnixListener::bind(&taken).unwrap();
    assert!(lab.here.forward_local_path(client, &taken, target).is_err());
    let remote = lab.here.forward_remote_path(client, &taken, target);
    lab.refused(remote);
    assert!(taken.exists());
    assert!(UnixStream::connect(&taken).is_ok());
    drop(listener);
    std::fs::remove_file(taken).unwrap();
    assert!(lab.here.is_empty() && lab.there.is_empty());
}

#[test]
fn a_direct_channel_is_refused_with_the_reason() {
    let mut lab = Lab::new(generous());
    let client = lab.client();
    lab.until("the login", |lab| {
        let mut other = lab.other.iter();
        other.any(|event| matches!(event, ClientEvent::Authenticated))
    });
    let closed = TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    let (session, ()) = lab.clients.get_mut(client).unwrap();
    let host = ForwardTarget::from(closed);
    let kind = host.channel(("127.0.0.1", 1));
    let id = session.connection().open(kind, Instant::now()).unwrap();
    let mut failed = None;
    lab.until("an answer", |lab| {
        let (session, ()) = lab.clients.get_mut(client).unwrap();
        failed = session
            .channel(id)
            .and_then(|mut channel| channel.poll_event());
        failed.is_some()
    });
    let Some(ChannelEvent::OpenFailed {
        reason,
        description,
    }) = failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!(reason, OpenFailureReason::CONNECT_FAILED);
    assert!(description.contains("refused"), "{description}");
}
