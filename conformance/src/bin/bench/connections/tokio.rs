//! Each end on a runtime of one thread, on `ssh-tokio`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use ssh_tokio::ssh_proto::config::{ClientConfig, HostKey, ServerConfig};
use ssh_tokio::ssh_proto::key::PublicKey;
use ssh_tokio::ssh_proto::{LoginAttempt, OpenKind};
use ssh_tokio::{
    Channel, Client, ClientOptions, Error, Handler, HostKeyPolicy, MaxStartups, OpenVerdict,
    Server, ServerOptions, Verdict,
};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{AT_ONCE, Keys, end_with_stdin};

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

struct Granter {
    user_key: Arc<PublicKey>,
}

impl Handler for Granter {
    async fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        *key == *self.user_key
    }

    async fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if *key == *self.user_key {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            _ => OpenVerdict::refuse(),
        }
    }
}

/// The server: authenticates, grants channels, and does nothing.
pub(super) fn server(keys: &Keys) -> io::Result<()> {
    let config = ServerConfig::new(vec![HostKey::Private(Arc::clone(&keys.host))]);
    let user_key = Arc::new(keys.user.public().clone());
    let granter = move |_| Granter {
        user_key: Arc::clone(&user_key),
    };
    let options = ServerOptions::new(config, granter)
        .max_connections(usize::MAX)
        .max_startups(MaxStartups {
            full: 2 * AT_ONCE,
            start: 2 * AT_ONCE,
            ..MaxStartups::default()
        });
    runtime()?.block_on(async {
        let server = Server::new(options).bind("127.0.0.1:0").await?;
        println!("listening on {}", server.address());
        end_with_stdin();
        server.wait().await;
        Ok(())
    })
}

/// The client: `count` connections with a channel each, which then do nothing.
pub(super) fn client(keys: &Keys, address: SocketAddr, count: usize) -> io::Result<()> {
    let config = Arc::new(ClientConfig::new());
    println!("ready");
    io::stdin().read_exact(&mut [0])?;
    end_with_stdin();
    runtime()?.block_on(async {
        let mut connecting = JoinSet::new();
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            if connecting.len() == AT_ONCE
                && let Some(connection) = connecting.join_next().await
            {
                connections.push(connection??);
            }
            let policy = HostKeyPolicy::key(keys.host.public().clone());
            let options = ClientOptions::new(policy).config(Arc::clone(&config));
            let key = Arc::clone(&keys.user);
            connecting.spawn(async move {
                let client = Client::connect_spawn(address, options).await?;
                if !client.auth_public_key("user", key).await?.success() {
                    return Err(Error::Refused("the key"));
                }
                let (channel, _) = client.open_custom("session", b"").await?;
                Ok::<(Client, Channel), Error>((client, channel))
            });
        }
        while let Some(connection) = connecting.join_next().await {
            connections.push(connection??);
        }
        println!("connected");
        io::stdout().flush()?;
        for (client, channel) in connections {
            channel.wait_closed().await;
            drop(client);
        }
        Err(io::Error::other("the connections have ended"))
    })
}
