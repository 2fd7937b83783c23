//! Both ends with `ssh-blocking`, over a loopback socket.
//!
//! A thread for each message under way at either end, each with its share of the channels in turn: as many threads in every
//! row. What it costs the system to wake one of a thousand threads instead of one of ten is no cost of a channel; the rows
//! `threads` show it: a thread for each channel of the server, and beside it as many threads without SSH.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::{LoginAttempt, OpenKind};
use ssh_blocking::{
    Channel, Client, ClientOptions, Handler, HostKeyPolicy, OpenVerdict, Server, ServerChannel,
    ServerOptions, Verdict,
};

use super::{MESSAGE, UNDER_WAY, host_key, server_config, used, user_key};

const KIND: &str = "echo@example.com";

/// Who answers on the channels of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// As many as messages are under way.
    Few,
    /// One for each channel.
    Each,
}

struct Echo {
    user_key: PublicKey,
    accepted: Sender<ServerChannel>,
}

impl Handler for Echo {
    fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        *key == self.user_key
    }

    fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if *key == self.user_key {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    fn check_channel_open(&mut self, _: &OpenKind) -> OpenVerdict {
        let accepted = self.accepted.clone();
        OpenVerdict::handle(move |pending| {
            // It fails when the run is over.
            if let Ok(channel) = pending.accept() {
                _ = accepted.send(channel);
            }
        })
    }
}

pub(super) fn run(count: usize, messages: usize, threads: Threads) -> io::Result<Duration> {
    let key = user_key()?.public().clone();
    let mut config = server_config()?;
    config.transport.own.channel_kinds.push(KIND.to_owned());
    let (accepted, channels) = channel();
    let options = ServerOptions::new(config, move |_| Echo {
        user_key: key.clone(),
        accepted: accepted.clone(),
    });
    let server = Server::new(options).bind("127.0.0.1:0")?;
    let policy = HostKeyPolicy::key(host_key()?.public().clone());
    let client = Client::connect(server.address(), ClientOptions::new(policy))?;
    if !client.auth_public_key("user", user_key()?)?.success() {
        return Err(io::Error::other("permission denied"));
    }
    let mut shares: Vec<Vec<Channel>> = (0..UNDER_WAY).map(|_| Vec::new()).collect();
    let servers = match threads {
        Threads::Few => UNDER_WAY,
        Threads::Each => count,
    };
    let mut server_shares: Vec<Vec<ServerChannel>> = (0..servers).map(|_| Vec::new()).collect();
    for index in 0..count {
        shares[index % UNDER_WAY].push(client.open_custom(KIND, b"")?.0);
        // It comes at once: the server has accepted before the client hears of it.
        let accepted = channels.recv().map_err(io::Error::other)?;
        server_shares[index % servers].push(accepted);
    }
    for share in server_shares {
        thread::spawn(move || echo(share));
    }
    for share in &mut shares {
        share.iter_mut().try_for_each(turn)?;
    }
    let began = used();
    thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter_mut()
            .map(|share| {
                scope.spawn(|| {
                    let count = share.len();
                    for index in 0..messages / UNDER_WAY {
                        turn(&mut share[index % count])?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a panic")))
        })
    })?;
    Ok(used() - began)
}

/// One message there and back.
fn turn(channel: &mut Channel) -> io::Result<()> {
    let mut buffer = [7; MESSAGE];
    channel.write_all(&buffer)?;
    channel.read_exact(&mut buffer)
}

/// What comes goes back, in the order in which the client sends: message by message over the channels in turn.
fn echo(mut channels: Vec<ServerChannel>) -> io::Result<()> {
    let mut buffer = [0; MESSAGE];
    loop {
        for channel in &mut channels {
            channel.read_exact(&mut buffer)?;
            channel.write_all(&buffer)?;
        }
    }
}

/// What one message waits for, there and back.
#[derive(Default)]
struct Place {
    asked: bool,
    answered: bool,
}

/// The floor of a thread for each channel: messages without content between threads that share a lock.
pub(super) fn bare_threads(count: usize, messages: usize) -> io::Result<Duration> {
    let places: Mutex<Vec<Place>> = Mutex::new((0..count).map(|_| Place::default()).collect());
    let doors: Vec<[Condvar; 2]> = (0..count).map(|_| Default::default()).collect();
    let shared = Arc::new((places, doors));
    for index in 0..count {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (places, doors) = &*shared;
            let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                places = doors[index][0]
                    .wait_while(places, |places| !places[index].asked)
                    .unwrap_or_else(PoisonError::into_inner);
                places[index].asked = false;
                places[index].answered = true;
                doors[index][1].notify_one();
            }
        });
    }
    let (places, doors) = &*shared;
    let turn = |index: usize| {
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        places[index].asked = true;
        doors[index][0].notify_one();
        places = doors[index][1]
            .wait_while(places, |places| !places[index].answered)
            .unwrap_or_else(PoisonError::into_inner);
        places[index].answered = false;
    };
    (0..count).for_each(turn);
    let began = used();
    thread::scope(|scope| {
        for first in 0..UNDER_WAY {
            scope.spawn(move || {
                for message in 0..messages / UNDER_WAY {
                    turn((first + message * UNDER_WAY) % count);
                }
            });
        }
    });
    Ok(used() - began)
}
