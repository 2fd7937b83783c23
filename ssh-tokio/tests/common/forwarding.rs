//! A server for the tests of forwarding, targets for its clients, and what goes through.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ssh_tokio::ssh_proto::config::ServerConfig;
use ssh_tokio::ssh_proto::key::PublicKey;
use ssh_tokio::ssh_proto::socks::{SocksClient, SocksReply, SocksVersion};
use ssh_tokio::ssh_proto::{ForwardAddress, LoginAttempt, OpenKind};
use ssh_tokio::{
    Client, ForwardPolicy, Forwarding, Handler, OpenVerdict, Server, ServerConnection,
    ServerHandle, ServerOptions, Verdict,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::common::{config, keys, log_in, options, soon};

/// A port of ours.
pub(crate) const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

struct User(Forwarding);

impl Handler for User {
    fn connected(&mut self, connection: &ServerConnection) {
        self.0.connected(connection);
    }
    async fn check_key_offer(&mut self, _: &str, _: &PublicKey) -> bool {
        true
    }
    async fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        assert_eq!(key, keys().1.public());
        Verdict::Accept
    }
    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            other => self.0.check_open(other),
        }
    }
    async fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.0.check_forward(address).await
    }
    fn forward_granted(&mut self, address: &ForwardAddress) {
        self.0.granted(address);
    }
    async fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
        self.0.cancel(address).await
    }
}

/// A server that forwards what the policy grants, and does nothing else.
pub(crate) fn server_with(config: impl Into<Arc<ServerConfig>>, policy: ForwardPolicy) -> Server {
    Server::new(ServerOptions::new(config, move |_| {
        User(Forwarding::new(policy.clone()))
    }))
}

pub(crate) async fn server(policy: ForwardPolicy) -> ServerHandle {
    server_with(config(), policy).bind(ANY).await.unwrap()
}

pub(crate) fn generous() -> ForwardPolicy {
    ForwardPolicy::new()
        .listen_on_loopback()
        .listen_on_paths(|_| true)
        .connect(|_| true)
}

/// Connected and authenticated.
pub(crate) async fn client(server: &ServerHandle) -> Client {
    let connecting = Client::connect_spawn(server.address(), options());
    let client = soon(connecting).await.unwrap();
    log_in(&client).await;
    client
}

/// Sends back what it gets, reversed, after it has got all of it: only half-close makes that end.
async fn mirror(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    all.reverse();
    stream.write_all(&all).await?;
    stream.shutdown().await
}

pub(crate) async fn tcp_target() -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    serve_mirror(listener);
    address
}

pub(crate) fn serve_mirror(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(mirror(stream));
        }
    });
}

pub(crate) fn path(name: &str) -> PathBuf {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).unwrap();
    let name = format!("ssh-{name}-{:016x}", u64::from_ne_bytes(unique));
    std::env::temp_dir().join(name)
}

pub(crate) fn unix_target() -> PathBuf {
    let path = path("target");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(mirror(stream));
        }
    });
    path
}

/// Sends so many bytes, then EOF, and wants them back in reverse.
pub(crate) async fn try_exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    len: u32,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    writer.write_all(&sent).await?;
    writer.shutdown().await?;
    let mut back = Vec::new();
    reader.read_to_end(&mut back).await?;
    back.reverse();
    if back != sent {
        let text = format!("{} of {} bytes came back", back.len(), sent.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(())
}

/// The same with a few megabytes, and it works.
pub(crate) async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin) {
    soon(try_exchange(stream, 3_000_000)).await.unwrap();
}

pub(crate) async fn exchange_unix(path: &Path) {
    exchange(UnixStream::connect(path).await.unwrap()).await;
}

pub(crate) async fn connect(port: Option<u16>) -> TcpStream {
    let address = (Ipv4Addr::LOCALHOST, port.unwrap());
    TcpStream::connect(address).await.unwrap()
}

/// Whether the connection ends without a byte.
pub(crate) async fn is_cut(stream: &mut TcpStream) -> bool {
    match soon(stream.read(&mut [0])).await {
        Ok(len) => len == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

pub(crate) async fn socks(
    port: Option<u16>,
    version: SocksVersion,
    host: &str,
    target: u16,
) -> Result<TcpStream, SocksReply> {
    let mut stream = connect(port).await;
    let mut socks = SocksClient::new(version, host, target).unwrap();
    stream.write_all(socks.output()).await.unwrap();
    loop {
        let byte = soon(stream.read_u8()).await.unwrap();
        socks.handle_bytes(&[byte]);
        match socks.poll_event() {
            Some(SocksReply::Connected) => return Ok(stream),
            Some(other) => return Err(other),
            None => {}
        }
    }
}

/// A port to listen on: below those that the system gives to connections and to whoever leaves the choice to it, so that
/// it is free again afterwards, and never the same one twice.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 16_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Waits until nobody listens there.
pub(crate) async fn until_closed(port: u16) {
    soon(async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_ok()
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}
