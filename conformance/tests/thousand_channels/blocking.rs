//! Both ends with `ssh-blocking`: a thread for each channel at either end, and another for the writer of a deaf one.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use conformance::pair::user_key;
use ssh_blocking::{
    Channel, Client, ClientOptions, Handler, HostKeyPolicy, OpenVerdict, Server, ServerChannel,
    ServerConnection, ServerOptions, Verdict,
};
use ssh_proto::key::PublicKey;
use ssh_proto::{LoginAttempt, OpenKind};

use super::{
    Alone, CHANNELS, Deaf, KIND, REKEY_EVERY, bytes, client_config, deaf, right, server_config,
    total, watching,
};

/// A message of a channel that is not deaf: less than its window, so that one thread can send it and then read it.
const PIECE: u64 = 8 * 1024;

/// Closed until everybody is to read.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn wait(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

struct Echo {
    hear: Arc<Gate>,
    connection: Option<ServerConnection>,
    done: Arc<AtomicUsize>,
}

impl Handler for Echo {
    fn connected(&mut self, connection: &ServerConnection) {
        self.connection = Some(connection.clone());
    }

    fn check_key_offer(&mut self, _: &str, _: &PublicKey) -> bool {
        true
    }

    fn check_auth_public_key(&mut self, _: &LoginAttempt, _: &PublicKey) -> Verdict {
        Verdict::Accept
    }

    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        let OpenKind::Custom { data, .. } = kind else {
            return OpenVerdict::refuse();
        };
        let index = u32::from_be_bytes(data[..].try_into().unwrap()) as usize;
        let (hear, done) = (Arc::clone(&self.hear), Arc::clone(&self.done));
        let connection = self.connection.clone().unwrap();
        OpenVerdict::handle(move |pending| {
            echo(pending.accept().unwrap(), index, &hear);
            // Not at the same times as the client.
            if done.fetch_add(1, Ordering::Relaxed) % REKEY_EVERY == REKEY_EVERY / 2 {
                connection.rekey().unwrap();
            }
        })
    }
}

fn echo(mut channel: ServerChannel, index: usize, hear: &Gate) {
    if deaf(index) == Deaf::Server {
        hear.wait();
    }
    let mut buffer = [0; 8 * 1024];
    loop {
        let len = channel.read(&mut buffer).unwrap();
        if len == 0 {
            return channel.shutdown_write().unwrap();
        }
        channel.write_all(&buffer[..len]).unwrap();
    }
}

#[test]
fn nobody_waits_for_a_deaf_channel_of_ssh_blocking() {
    let alone = Alone::new();
    watching(&alone, all);
}

fn all() {
    let hear = Arc::new(Gate::default());
    let done = Arc::new(AtomicUsize::new(0));
    let server_hear = Arc::clone(&hear);
    let options = ServerOptions::new(server_config(), move |_| Echo {
        hear: Arc::clone(&server_hear),
        connection: None,
        done: Arc::clone(&done),
    });
    let server = Server::new(options).bind("127.0.0.1:0").unwrap();
    let policy = HostKeyPolicy::key(server_config().host_keys[0].public().clone());
    let options = ClientOptions::new(policy).config(client_config());
    let client = Client::connect(server.address(), options).unwrap();
    assert!(
        client
            .auth_public_key("user", user_key())
            .unwrap()
            .success()
    );
    // Those that are opened while others are through have larger windows.
    let channels: Vec<Channel> = (0..CHANNELS as u32)
        .map(|index| client.open_custom(KIND, &index.to_be_bytes()).unwrap().0)
        .collect();
    let (mut free, mut readers, mut writers) = (Vec::new(), Vec::new(), Vec::new());
    for (index, channel) in channels.into_iter().enumerate() {
        if deaf(index) == Deaf::No {
            free.push(thread::spawn(move || talk(channel, index)));
        } else {
            let writer = channel.clone();
            writers.push(thread::spawn(move || write(writer, index)));
            let hear = Arc::clone(&hear);
            readers.push(thread::spawn(move || read(channel, index, &hear)));
        }
    }
    for (count, thread) in free.into_iter().enumerate() {
        thread.join().unwrap();
        if count % REKEY_EVERY == 0 {
            client.rekey().unwrap();
        }
    }
    assert!(readers.iter().all(|thread| !thread.is_finished()));
    hear.open();
    for thread in writers.into_iter().chain(readers) {
        thread.join().unwrap();
    }
    println!("{} rekeys", client.rekeys());
    assert!(client.rekeys() >= 8);
}

fn talk(mut channel: Channel, index: usize) {
    let total = total(index);
    let (mut done, mut buffer) = (0, [0; PIECE as usize]);
    while done < total {
        let len = (total - done).min(PIECE);
        channel.write_all(&bytes(index, done, len)).unwrap();
        let piece = &mut buffer[..len as usize];
        channel.read_exact(piece).unwrap();
        assert!(right(index, done, piece), "lost or reordered");
        done += len;
    }
    channel.shutdown_write().unwrap();
    assert_eq!(channel.read(&mut buffer).unwrap(), 0);
}

fn write(mut channel: Channel, index: usize) {
    let (mut sent, total) = (0, total(index));
    while sent < total {
        let len = (total - sent).min(PIECE);
        channel.write_all(&bytes(index, sent, len)).unwrap();
        sent += len;
    }
    channel.shutdown_write().unwrap();
}

fn read(mut channel: Channel, index: usize, hear: &Gate) {
    if deaf(index) == Deaf::Client {
        hear.wait();
    }
    let (mut received, mut buffer) = (0, [0; 8 * 1024]);
    loop {
        let len = channel.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        assert!(right(index, received, &buffer[..len]), "lost or reordered");
        received += len as u64;
    }
    assert_eq!(received, total(index));
}
