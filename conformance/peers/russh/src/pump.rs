//! Data between channels and the streams of processes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::BytesMut;
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};
use rustix::fs::{FileType, fstat};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// Data is read so many bytes at a time.
const READ_LEN: usize = 64 * 1024;

/// Sends what `from` gives until its end. Stops early when the channel is gone.
pub(crate) async fn send<S>(
    mut from: impl AsyncRead + Unpin,
    channel: &ChannelWriteHalf<S>,
    ext: Option<u32>,
) -> Result<(), russh::Error>
where
    S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_LEN);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let data = buffer.split().freeze();
        match ext {
            None => channel.data_bytes(data).await?,
            Some(ext) => channel.extended_data_bytes(ext, data).await?,
        }
    }
}

/// Where a stream of bytes goes.
pub(crate) enum Output {
    Pipe(pipe::Sender),
    /// Takes what it is given at once.
    File(File),
}

impl Output {
    pub(crate) fn new(stream: impl AsFd) -> io::Result<Self> {
        let stream = stream.as_fd().try_clone_to_owned()?;
        Ok(if is_pipe(stream.as_fd())? {
            Self::Pipe(pipe::Sender::from_owned_fd(stream)?)
        } else {
            Self::File(File::from(stream))
        })
    }

    pub(crate) async fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(data).await,
            Self::File(file) => file.write_all(data),
        }
    }
}

/// Standard input: a pipe is read without a thread.
pub(crate) fn stdin() -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    let stream: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(if is_pipe(stream.as_fd())? {
        Box::new(pipe::Receiver::from_owned_fd(stream)?)
    } else {
        Box::new(tokio::io::stdin())
    })
}

fn is_pipe(stream: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(stream)?.st_mode) == FileType::Fifo)
}
