//! SOCKS in front of a connection: where it is to go is asked of the connection itself.

use std::io;
use std::time::{Duration, Instant};

use ssh_proto::socks::{SocksEvent, SocksFailure, SocksProxy};

/// How long the talk about the target may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What was asked for: it is to be answered.
pub(super) struct Asked {
    pub(super) proxy: SocksProxy,
    pub(super) host: String,
    pub(super) port: u16,
    /// Bytes of the connection itself, which came along.
    pub(super) rest: Vec<u8>,
}

/// Asks where the connection is to go. `read` gets the time that is left.
pub(super) fn ask(
    mut read: impl FnMut(&mut [u8], Duration) -> io::Result<usize>,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Asked> {
    let deadline = Instant::now() + TIMEOUT;
    let mut proxy = SocksProxy::new();
    let mut buf = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let len = match read(&mut buf, left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buf.get(..len).unwrap_or_default();
        let taken = proxy.handle_bytes(bytes);
        let rest = bytes.get(taken..).unwrap_or_default().to_vec();
        say(&mut proxy, &mut write)?;
        match proxy.poll_event() {
            Some(SocksEvent::Connect { host, port }) => {
                return Ok(Asked {
                    proxy,
                    host,
                    port,
                    rest,
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
    pub(super) fn answer(
        &mut self,
        outcome: Result<(), SocksFailure>,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let answered = match outcome {
            Ok(()) => self.proxy.accept(),
            Err(failure) => self.proxy.refuse(failure),
        };
        answered.map_err(io::Error::other)?;
        say(&mut self.proxy, &mut write)
    }
}

fn say(proxy: &mut SocksProxy, write: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    if !proxy.output().is_empty() {
        write(proxy.output())?;
        proxy.consume_output(usize::MAX);
    }
    Ok(())
}
