//! Both sides in one task.

use std::io;
use std::sync::Arc;

use ssh_proto::key::PublicKey;
use ssh_proto::{LoginAttempt, OpenKind};
use ssh_tokio::{
    Client, ClientOptions, Error, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server,
    ServerChannel, ServerOptions, Task, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::line::{Cut, Line};
use crate::side::{
    CONNECTED, ENDED, LET_IN, PROVEN, STARTED, Session, Side, WORDS, Who, client_config, keys,
    server_config,
};

/// Over a pipe in memory.
pub(crate) fn play(cut: Option<(Who, Cut)>) -> Session {
    let (client, server) = (Side::default(), Side::default());
    let (near, far) = tokio::io::duplex(64 * 1024);
    let line = |stream, who, side: &Side| {
        let cut = cut.filter(|cut| cut.0 == who).map(|cut| cut.1);
        Line::new(stream, cut, side.heard.clone())
    };
    let near = line(near, Who::Client, &client);
    let far = line(far, Who::Server, &server);
    let host = Host(server.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (client_end, server_end) = runtime.block_on(async {
        let options = ServerOptions::new(server_config(), move |_| host.clone());
        let serving = Server::new(options);
        tokio::join!(visit(near, &client), serving.serve_stream(far, None))
    });
    Session {
        client,
        server,
        client_end,
        server_end,
    }
}

/// The client's side.
async fn visit(stream: Line<DuplexStream>, side: &Side) -> Result<(), Error> {
    let policy = HostKeyPolicy::key(keys().0.public().clone());
    let options = ClientOptions::new(policy).config(client_config());
    let (client, mut driver) = Client::connect_stream(stream, options).await?;
    side.did(CONNECTED);
    driver.drive(work(client, side)).await?;
    driver.await
}

async fn work(client: Client, side: &Side) -> Result<(), Error> {
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).await?.success());
    side.did(LET_IN);
    let mut child = client.exec("echo").spawn().await?;
    side.did(STARTED);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    for word in WORDS {
        stdin.write_all(word.as_bytes()).await?;
        let mut said = [0; 3];
        stdout.read_exact(&mut said).await?;
        assert_eq!(said, word.as_bytes());
        side.did(word);
    }
    drop(stdin);
    assert_eq!(stdout.read(&mut [0; 3]).await?, 0);
    assert!(child.wait().await?.success());
    side.did(ENDED);
    client.disconnect();
    Ok(())
}

/// The server's side.
#[derive(Clone)]
struct Host(Side);

impl Handler for Host {
    async fn check_key_offer(&mut self, _: &str, _: &PublicKey) -> bool {
        true
    }

    async fn check_auth_public_key(&mut self, _: &LoginAttempt, _: &PublicKey) -> Verdict {
        self.0.did(PROVEN);
        Verdict::Accept
    }

    fn authenticated(&mut self, _: &str) {
        self.0.did(LET_IN);
    }

    async fn check_channel_open(&mut self, _: &OpenKind) -> OpenVerdict {
        OpenVerdict::Accept
    }

    async fn check_exec(&mut self, _: &ssh_tokio::Session, _: &[u8]) -> Option<Task> {
        self.0.did(STARTED);
        let side = self.0.clone();
        Some(Task::new(async move |channel| {
            let end = echo(channel, &side).await;
            side.program_ended(end.map_err(Error::from));
            ExitStatus::Code(0)
        }))
    }
}

async fn echo(mut channel: ServerChannel, side: &Side) -> io::Result<()> {
    for word in WORDS {
        let mut said = [0; 3];
        channel.read_exact(&mut said).await?;
        assert_eq!(said, word.as_bytes());
        side.did(word);
        channel.write_all(&said).await?;
    }
    assert_eq!(channel.read(&mut [0; 3]).await?, 0);
    side.did(ENDED);
    Ok(())
}
