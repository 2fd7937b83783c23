//! SOCKS in front of a connection: where it is to go is asked of the connection itself.

use std::io;
use std::time::Duration;

use ssh_proto::ForwardTarget;
use ssh_proto::socks::{SocksEvent, SocksFailure, SocksProxy};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the talk about the target may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What was asked for: it is to be answered.
pub(super) struct Asked {
    proxy: SocksProxy,
    pub(super) target: ForwardTarget,
    /// Bytes of the connection itself, which came along.
    pub(super) rest: Vec<u8>,
}

/// Asks where the connection is to go.
///
/// Cancellation: the connection is of no use any more.
pub(super) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Asked> {
    tokio::time::timeout(TIMEOUT, talk(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Asked> {
    let mut proxy = SocksProxy::new();
    let mut buf = [0; 512];
    loop {
        let len = stream.read(&mut buf).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = buf.get(..len).unwrap_or_default();
        let taken = proxy.handle_bytes(bytes);
        let rest = bytes.get(taken..).unwrap_or_default();
        say(&mut proxy, stream).await?;
        match proxy.poll_event() {
            Some(SocksEvent::Connect { host, port }) => {
                return Ok(Asked {
                    proxy,
                    target: (host, port).into(),
                    rest: rest.to_vec(),
                });
            }
            Some(SocksEvent::Failed(error)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            _ => {}
        }
    }
}

impl Asked {
    /// Says whether the connection was made.
    pub(super) async fn answer(
        &mut self,
        outcome: Result<(), SocksFailure>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let answered = match outcome {
            Ok(()) => self.proxy.accept(),
            Err(failure) => self.proxy.refuse(failure),
        };
        answered.map_err(io::Error::other)?;
        say(&mut self.proxy, stream).await
    }
}

async fn say(proxy: &mut SocksProxy, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(proxy.output()).await?;
    proxy.consume_output(usize::MAX);
    Ok(())
}
