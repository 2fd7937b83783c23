//! Both ends with `ssh-tokio`: a task for each direction of a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use conformance::pair::user_key;
use ssh_proto::key::PublicKey;
use ssh_proto::{LoginAttempt, OpenKind};
use ssh_tokio::{
    Channel, Client, ClientOptions, Handler, HostKeyPolicy, OpenVerdict, Server, ServerChannel,
    ServerConnection, ServerOptions, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{
    Alone, CHANNELS, Deaf, KIND, REKEY_EVERY, bytes, client_config, deaf, right, server_config,
    total, watching,
};

struct Echo {
    /// Everybody reads once this is `true`.
    hear: watch::Receiver<bool>,
    connection: Option<ServerConnection>,
    done: Arc<AtomicUsize>,
}

impl Handler for Echo {
    fn connected(&mut self, connection: &ServerConnection) {
        self.connection = Some(connection.clone());
    }

    async fn check_key_offer(&mut self, _: &str, _: &PublicKey) -> bool {
        true
    }

    async fn check_auth_public_key(&mut self, _: &LoginAttempt, _: &PublicKey) -> Verdict {
        Verdict::Accept
    }

    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        let OpenKind::Custom { data, .. } = kind else {
            return OpenVerdict::refuse();
        };
        let index = u32::from_be_bytes(data[..].try_into().unwrap()) as usize;
        let hear = self.hear.clone();
        let done = Arc::clone(&self.done);
        let connection = self.connection.clone().unwrap();
        OpenVerdict::handle(async move |pending| {
            echo(pending.accept().unwrap(), index, hear).await;
            // Not at the same times as the client.
            if done.fetch_add(1, Ordering::Relaxed) % REKEY_EVERY == REKEY_EVERY / 2 {
                connection.rekey().unwrap();
            }
        })
    }
}

async fn echo(mut channel: ServerChannel, index: usize, mut hear: watch::Receiver<bool>) {
    if deaf(index) == Deaf::Server {
        hear.wait_for(|hear| *hear).await.unwrap();
    }
    let mut buffer = [0; 8 * 1024];
    loop {
        let len = channel.read(&mut buffer).await.unwrap();
        if len == 0 {
            return channel.shutdown().await.unwrap();
        }
        channel.write_all(&buffer[..len]).await.unwrap();
    }
}

#[test]
fn nobody_waits_for_a_deaf_channel_of_ssh_tokio() {
    let alone = Alone::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    watching(&alone, || runtime.block_on(all()));
}

async fn all() {
    let (start, hear) = watch::channel(false);
    let done = Arc::new(AtomicUsize::new(0));
    let server_hear = hear.clone();
    let options = ServerOptions::new(server_config(), move |_| Echo {
        hear: server_hear.clone(),
        connection: None,
        done: Arc::clone(&done),
    });
    let server = Server::new(options).bind("127.0.0.1:0").await.unwrap();
    let policy = HostKeyPolicy::key(server_config().host_keys[0].public().clone());
    let options = ClientOptions::new(policy).config(client_config());
    let client = Client::connect_spawn(server.address(), options)
        .await
        .unwrap();
    let outcome = client.auth_public_key("user", user_key()).await.unwrap();
    assert!(outcome.success());
    // Those that are opened while others are through have larger windows.
    let mut channels = Vec::new();
    for index in 0..CHANNELS {
        let data = (index as u32).to_be_bytes();
        channels.push(client.open_custom(KIND, &data).await.unwrap().0);
    }
    let (mut free, mut deaf_ones) = (JoinSet::new(), JoinSet::new());
    for (index, channel) in channels.into_iter().enumerate() {
        let talk = talk(channel, index, hear.clone());
        if deaf(index) == Deaf::No {
            free.spawn(talk);
        } else {
            deaf_ones.spawn(talk);
        }
    }
    let mut count = 0;
    while let Some(done) = free.join_next().await {
        done.unwrap();
        count += 1;
        if count % REKEY_EVERY == 0 {
            client.rekey().unwrap();
        }
    }
    assert!(deaf_ones.try_join_next().is_none());
    start.send(true).unwrap();
    while let Some(done) = deaf_ones.join_next().await {
        done.unwrap();
    }
    println!("{} rekeys", client.rekeys());
    assert!(client.rekeys() >= 8);
}

async fn talk(channel: Channel, index: usize, mut hear: watch::Receiver<bool>) {
    let (mut reader, mut writer) = channel.into_split();
    let total = total(index);
    let write = async {
        let mut sent = 0;
        while sent < total {
            let len = (total - sent).min(8 * 1024);
            writer.write_all(&bytes(index, sent, len)).await.unwrap();
            sent += len;
        }
        writer.shutdown().await.unwrap();
    };
    let read = async {
        if deaf(index) == Deaf::Client {
            hear.wait_for(|hear| *hear).await.unwrap();
        }
        let mut buffer = [0; 8 * 1024];
        let mut received = 0;
        loop {
            let len = reader.read(&mut buffer).await.unwrap();
            if len == 0 {
                break;
            }
            assert!(right(index, received, &buffer[..len]), "lost or reordered");
            received += len as u64;
        }
        assert_eq!(received, total);
    };
    tokio::join!(write, read);
}
