//! The server: accounts, commands of `/bin/sh`, forwarding on loopback.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{PublicKey, load_secret_key};
use russh::server::{
    self, Auth, ChannelOpenHandle, Handle, Msg, PublicKeyOffer, Response, Session,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelMsg, ChannelOpenFailure, Sig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::AbortHandle;

use super::accounts::{Accounts, Progress};
use super::{BUFFER_SIZE, Fields, options, pump};
use crate::Failure;

/// RFC 4254 section 5.2: SSH_EXTENDED_DATA_STDERR.
const STDERR: u32 = 1;

/// A task that ends with this value.
pub(super) struct Running(AbortHandle);

impl Running {
    fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn start(fields: &Fields) -> Result<(Running, Fields), Failure> {
    let accounts = Arc::new(Accounts::parse(fields)?);
    let keys = fields.members("host_keys");
    let keys = keys.iter().map(|path| load_secret_key(path, None));
    let config = Arc::new(server::Config {
        keys: keys.collect::<Result<_, _>>()?,
        methods: accounts.methods(),
        preferred: options::preferred(fields)?,
        limits: options::limits(fields)?,
        auth_rejection_time: Duration::from_millis(1),
        channel_buffer_size: BUFFER_SIZE,
        nodelay: true,
        ..server::Config::default()
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let running = Running::start(async move {
        // Connections end with the listener.
        let mut connections = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            let user = User {
                accounts: Arc::clone(&accounts),
                progress: Progress::default(),
                sessions: HashMap::new(),
                listeners: HashMap::new(),
            };
            let config = Arc::clone(&config);
            connections.push(Running::start(async move {
                let ended = match server::run_stream(config, stream, user).await {
                    Ok(session) => session.await,
                    Err(error) => Err(error),
                };
                if let Err(error) = ended {
                    eprintln!("russh-peer: a connection ended: {error}");
                }
            }));
        }
    });
    Ok((running, Fields::new([("port", port.to_string())])))
}

/// One connection.
struct User {
    accounts: Arc<Accounts>,
    progress: Progress,
    /// Those without a command.
    sessions: HashMap<ChannelId, Channel<Msg>>,
    listeners: HashMap<(String, u32), Running>,
}

impl server::Handler for User {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        Ok(self.accounts.none(&mut self.progress))
    }

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.accounts.password(&mut self.progress, password))
    }

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let key: &PublicKey = offer.public_key;
        Ok(if self.accounts.knows(key) {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.accounts.key(&mut self.progress, key.public_key))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let answers = response.map(|answers| {
            answers
                .map(|answer| String::from_utf8_lossy(&answer).into_owned())
                .collect()
        });
        Ok(self.accounts.answers(&mut self.progress, answers))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.sessions.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.sessions.remove(&id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let command = String::from_utf8_lossy(command).into_owned();
        let handle = session.handle();
        tokio::spawn(async move {
            if let Err(error) = shell(&command, channel, &handle).await {
                eprintln!("russh-peer: {command}: {error}");
            }
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let port = u16::try_from(port).unwrap_or(0);
        match TcpStream::connect((host, port)).await {
            Ok(stream) => {
                reply.accept().await;
                tokio::spawn(pump(channel, stream));
            }
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        if !["", "localhost", "127.0.0.1"].contains(&address) {
            return Ok(false);
        }
        let wanted = u16::try_from(*port).unwrap_or(0);
        let Ok(listener) = TcpListener::bind(("127.0.0.1", wanted)).await else {
            return Ok(false);
        };
        *port = listener.local_addr()?.port().into();
        let (address, bound, handle) = (address.to_owned(), *port, session.handle());
        let key = (address.clone(), bound);
        let listening = Running::start(async move {
            while let Ok((stream, origin)) = listener.accept().await {
                let (address, handle) = (address.clone(), handle.clone());
                tokio::spawn(async move {
                    let (host, port) = (origin.ip().to_string(), origin.port().into());
                    let opened = handle.channel_open_forwarded_tcpip(address, bound, host, port);
                    if let Ok(channel) = opened.await {
                        pump(channel, stream).await;
                    }
                });
            }
        });
        self.listeners.insert(key, listening);
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, russh::Error> {
        Ok(self.listeners.remove(&(address.to_owned(), port)).is_some())
    }
}

async fn shell(command: &str, channel: Channel<Msg>, handle: &Handle) -> Result<(), Failure> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err("no pipes".into());
    };
    let id = channel.id();
    let (mut input, output) = channel.split();
    let feed = Running::start(async move {
        while let Some(message) = input.wait().await {
            match message {
                // The command may end without having read everything.
                ChannelMsg::Data { data } if stdin.write_all(&data).await.is_err() => break,
                ChannelMsg::Eof => break,
                _ => {}
            }
        }
    });
    let send = async |mut pipe: Box<dyn AsyncRead + Send + Unpin>, kind: Option<u32>| {
        let mut block = vec![0; 32 * 1024];
        while let Ok(len @ 1..) = pipe.read(&mut block).await {
            let data = block[..len].to_vec();
            let sent = match kind {
                Some(kind) => output.extended_data_bytes(kind, data).await,
                None => output.data_bytes(data).await,
            };
            if sent.is_err() {
                break;
            }
        }
    };
    tokio::join!(
        send(Box::new(stdout), None),
        send(Box::new(stderr), Some(STDERR))
    );
    let status: ExitStatus = child.wait().await?;
    drop(feed);
    // These fail when the channel is gone already.
    match (status.code(), status.signal()) {
        (Some(code), _) => _ = output.exit_status(code.cast_unsigned()).await,
        (None, signal) => {
            let name = match signal {
                Some(15) => Sig::TERM,
                Some(9) => Sig::KILL,
                other => Sig::Custom(format!("{}@example.com", other.unwrap_or(0))),
            };
            let (message, language) = (String::new(), String::new());
            _ = handle
                .exit_signal_request(id, name, false, message, language)
                .await;
        }
    }
    _ = output.eof().await;
    _ = output.close().await;
    Ok(())
}
