//! Both ends on one thread with `ssh-mio`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use conformance::pair::user_key;
use ssh_mio::mio::net::TcpListener;
use ssh_mio::mio::{Events, Interest, Poll, Token};
use ssh_mio::{ClientSession, ServerSession, Sessions, seed};
use ssh_proto::{ClientRole, Credential, ServerRole};

use super::talk::{Echo, Talker};
use super::{Alone, client_config, server_config};

const LISTENER: Token = Token(0);
const SERVER: Token = Token(1);
const CLIENT: Token = Token(2);

#[test]
fn nobody_waits_for_a_deaf_channel_of_ssh_mio() {
    let alone = Alone::new();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(16);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let readable = Interest::READABLE;
    poll.registry()
        .register(&mut listener, LISTENER, readable)
        .unwrap();
    let config = Arc::new(server_config());
    let mut servers = Sessions::<ServerRole>::new(SERVER);
    let mut clients = Sessions::<ClientRole>::new(CLIENT);
    let (now, address) = (Instant::now(), listener.local_addr().unwrap());
    let mut session = ClientSession::connect(address, Arc::new(client_config()), now).unwrap();
    let credential = Credential::public_key(user_key());
    session
        .connection()
        .authenticate("user", credential, now)
        .unwrap();
    clients.insert(poll.registry(), session, ()).unwrap();
    let (mut talker, mut echo) = (Talker::default(), Echo::default());
    let (mut heard, mut peak) = (false, 0);
    while !talker.is_through() {
        let now = Instant::now();
        let longest = [servers.wait_time(now), clients.wait_time(now)];
        poll.poll(&mut events, longest.into_iter().flatten().min())
            .unwrap();
        let now = Instant::now();
        for event in &events {
            match event.token() {
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        let config = Arc::clone(&config);
                        let session = ServerSession::new(stream, config, seed().unwrap(), now);
                        servers.insert(poll.registry(), session, ()).unwrap();
                    }
                }
                SERVER => servers.note(event),
                _ => clients.note(event),
            }
        }
        servers.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                echo.event(session.connection(), event, now);
            }
        });
        clients.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                talker.event(session.connection(), event, now);
            }
        });
        alone.check(&mut peak);
        if talker.free_are_through() && !heard {
            assert_eq!(talker.deaf_done, 0);
            heard = true;
            talker.hear(clients.get_mut(CLIENT).unwrap().0.connection());
            echo.hear(servers.get_mut(SERVER).unwrap().0.connection());
        }
    }
    println!("{peak} bytes in use at the most, {} rekeys", talker.rekeyed);
    assert!(talker.rekeyed >= 8, "{}", talker.rekeyed);
}
