//! The client: logs in, runs commands, forwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse as Asked, Msg};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, Names};
use tokio::net::TcpStream;

use super::{BUFFER_SIZE, Fields, options, pump};
use crate::Failure;

/// What is sent at a time.
const CHUNK: usize = 32 * 1024;

/// What the handler and the commands share.
#[derive(Default)]
struct Shared {
    /// The targets of the server's listeners, by their ports.
    targets: HashMap<u32, u16>,
    /// The ciphers and MACs of both directions.
    sends: String,
    receives: String,
}

type SharedState = Arc<Mutex<Shared>>;

fn with<T>(shared: &SharedState, act: impl FnOnce(&mut Shared) -> T) -> T {
    act(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Handler {
    pinned: Vec<String>,
    shared: SharedState,
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return Ok(false);
        };
        Ok(self.pinned.contains(&key.to_openssh()?))
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &Names,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        let cipher = names.cipher.as_ref();
        with(&self.shared, |shared| {
            shared.sends = format!("{cipher} {}", names.client_mac.as_ref());
            shared.receives = format!("{cipher} {}", names.server_mac.as_ref());
        });
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        let target = with(&self.shared, |shared| shared.targets.get(&port).copied());
        let Some(target) = target else {
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return Ok(());
        };
        match TcpStream::connect(("127.0.0.1", target)).await {
            Ok(stream) => {
                reply.accept().await;
                tokio::spawn(pump(channel, stream));
            }
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }
}

pub(super) struct Client {
    handle: Handle<Handler>,
    shared: SharedState,
}

pub(super) async fn connect(fields: &Fields) -> Result<(Client, Fields), Failure> {
    let config = Arc::new(client::Config {
        preferred: options::preferred(fields)?,
        limits: options::limits(fields)?,
        channel_buffer_size: BUFFER_SIZE,
        nodelay: true,
        ..client::Config::default()
    });
    let shared = SharedState::default();
    let handler = Handler {
        pinned: fields.members("pinned"),
        shared: Arc::clone(&shared),
    };
    let address = ("127.0.0.1", fields.number("port")?);
    let handle = client::connect(config, address, handler).await?;
    let mut client = Client { handle, shared };
    let methods = fields.members("methods");
    let (mut said, mut success) = (Vec::new(), false);
    let none = ["none".to_owned()];
    for method in if methods.is_empty() {
        &none[..]
    } else {
        &methods
    } {
        let result = client.log_in(method, fields).await?;
        success = result.success();
        said.push(format!("{method}: {result:?}"));
    }
    let (sends, receives) = with(&client.shared, |shared| {
        (shared.sends.clone(), shared.receives.clone())
    });
    let answer = Fields::new([
        ("success", u8::from(success).to_string()),
        ("said", said.join("\n")),
        ("sends", sends),
        ("receives", receives),
    ]);
    Ok((client, answer))
}

impl Client {
    async fn log_in(&mut self, method: &str, fields: &Fields) -> Result<AuthResult, Failure> {
        let user = fields.some("user").unwrap_or("tester");
        let result = match method {
            "none" => self.handle.authenticate_none(user).await?,
            "password" => {
                let password = fields.text("password");
                self.handle.authenticate_password(user, password).await?
            }
            "publickey" => {
                let key = load_secret_key(fields.text("key"), None)?;
                let hash = match fields.text("signature") {
                    "rsa-sha2-512" => Some(HashAlg::Sha512),
                    "rsa-sha2-256" => Some(HashAlg::Sha256),
                    _ => self.handle.best_supported_rsa_hash().await?.flatten(),
                };
                let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
                self.handle.authenticate_publickey(user, key).await?
            }
            "keyboard-interactive" => {
                let mut asked = self
                    .handle
                    .authenticate_keyboard_interactive_start(user, None)
                    .await?;
                let mut answers = fields.rows("answers").into_iter();
                loop {
                    match asked {
                        Asked::Success => break AuthResult::Success,
                        Asked::Failure {
                            remaining_methods,
                            partial_success,
                        } => {
                            break AuthResult::Failure {
                                remaining_methods,
                                partial_success,
                            };
                        }
                        Asked::InfoRequest { .. } => {
                            let answers = answers.next().unwrap_or_default();
                            asked = self
                                .handle
                                .authenticate_keyboard_interactive_respond(answers)
                                .await?;
                        }
                    }
                }
            }
            other => return Err(format!("no method {other}").into()),
        };
        Ok(result)
    }

    pub(super) async fn command(
        &mut self,
        command: &str,
        fields: &Fields,
    ) -> Result<Fields, Failure> {
        match command {
            "exec" => self.exec(fields).await,
            "direct" => self.direct(fields).await,
            "listen" => self.listen(fields).await,
            "cancel" => {
                let (address, port) = (fields.text("address"), fields.number("port")?);
                self.handle.cancel_tcpip_forward(address, port).await?;
                Ok(Fields::new([]))
            }
            other => Err(format!("no command {other}").into()),
        }
    }

    /// Runs a command with random bytes on its standard input.
    async fn exec(&self, fields: &Fields) -> Result<Fields, Failure> {
        let channel = self.handle.channel_open_session().await?;
        channel.exec(true, fields.text("command")).await?;
        let data = random(
            fields
                .some("size")
                .map_or(Ok(0), |_| fields.number("size"))?,
        );
        let ended = exchange(channel, data.clone()).await;
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).into_owned();
        Ok(Fields::new([
            ("stdout", text(&ended.stdout)),
            ("stdout_sha256", sha256(&ended.stdout)),
            ("stderr", text(&ended.stderr)),
            ("stderr_len", ended.stderr.len().to_string()),
            ("sent_sha256", sha256(&data)),
            (
                "status",
                ended
                    .status
                    .map_or("-1".into(), |status| status.to_string()),
            ),
            ("signal", ended.signal),
        ]))
    }

    /// Sends bytes through the server to a port that sends them back.
    async fn direct(&self, fields: &Fields) -> Result<Fields, Failure> {
        let port = fields.number("port")?;
        let opened = self
            .handle
            .channel_open_direct_tcpip("127.0.0.1", port, "127.0.0.1", 7)
            .await;
        let channel = match opened {
            Ok(channel) => channel,
            Err(russh::Error::ChannelOpenFailure(failure)) => {
                // RFC 4254 section 5.1: the reason codes.
                let code = match failure {
                    ChannelOpenFailure::AdministrativelyProhibited => 1,
                    ChannelOpenFailure::ConnectFailed => 2,
                    ChannelOpenFailure::UnknownChannelType => 3,
                    ChannelOpenFailure::ResourceShortage => 4,
                    ChannelOpenFailure::Other { code, .. } => code,
                };
                return Ok(Fields::new([("refused", code.to_string())]));
            }
            Err(error) => return Err(error.into()),
        };
        let data = random(fields.number("size")?);
        let ended = exchange(channel, data.clone()).await;
        Ok(Fields::new([
            ("sent", sha256(&data)),
            ("received", sha256(&ended.stdout)),
            ("len", ended.stdout.len().to_string()),
        ]))
    }

    /// Has the server listen, and connects what comes with a port of this machine.
    async fn listen(&self, fields: &Fields) -> Result<Fields, Failure> {
        let (address, wanted) = (fields.text("address"), fields.number("port")?);
        let target = fields.number("target")?;
        let port = self.handle.tcpip_forward(address, wanted).await?;
        let port = if wanted == 0 { port } else { wanted };
        with(&self.shared, |shared| shared.targets.insert(port, target));
        Ok(Fields::new([("port", port.to_string())]))
    }
}

/// What came on a channel.
#[derive(Default)]
struct Ended {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<u32>,
    signal: String,
}

/// Sends everything and EOF while it reads to the end.
async fn exchange(channel: Channel<Msg>, data: Bytes) -> Ended {
    let (mut input, output) = channel.split();
    let sender = tokio::spawn(async move {
        let mut rest = data;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            // The other side may want no more.
            if output.data_bytes(chunk).await.is_err() {
                break;
            }
        }
        _ = output.eof().await;
        output
    });
    let mut ended = Ended::default();
    let mut eof = false;
    while let Some(message) = input.wait().await {
        match message {
            ChannelMsg::Data { data } => ended.stdout.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, .. } => ended.stderr.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => ended.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                ended.signal = format!("{signal_name:?}");
            }
            ChannelMsg::Eof => eof = true,
            _ => {}
        }
    }
    // Who is closed on before the end shows it by what is missing.
    if let (true, Ok(output)) = (eof, sender.await) {
        _ = output.close().await;
    }
    ended
}

/// Bytes that are different each time; any will do.
fn random(len: usize) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut state = now.map_or(1, |now| now.as_nanos() as u64) | 1;
    let next = |_| {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect::<Vec<u8>>().into()
}

fn sha256(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
