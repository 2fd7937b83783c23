//! Whole streams from and to channels, without a buffer in between.
//!
//! Up: blocks that the driver has read and the state machine has decrypted in place are taken out of the channel and
//! written elsewhere. Down: data is read to where it will be sealed. So no byte is copied but by the system.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ssh_proto::limits::PACKET_DATA_LEN;
use ssh_proto::{Draft, Received, Role, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::channel::Channel;

/// How many pieces of received data are written at a time: more than a read of full packets has.
const PIECES: usize = 16;

/// Hands out everything that is unread of a stream and what comes, until EOF, to `writer`.
pub(crate) async fn copy_to<R: Role>(
    channel: &Channel<R>,
    stream: Stream,
    writer: &mut (impl AsyncWrite + Unpin + ?Sized),
) -> io::Result<u64> {
    let mut total = 0;
    // The block that was written goes back under the same lock under which the next one is taken.
    let mut done: Option<Received> = None;
    while let Some(taken) = poll_fn(|cx| channel.poll_take(stream, cx, &mut done)).await? {
        write_pieces(writer, &taken).await?;
        total += taken.len() as u64;
        done = Some(taken);
    }
    writer.flush().await?;
    Ok(total)
}

/// Writes everything that `reader` has to a stream of the channel, until its end.
pub(crate) async fn copy_from<R: Role>(
    channel: &Channel<R>,
    stream: Stream,
    reader: &mut (impl AsyncRead + Unpin + ?Sized),
) -> io::Result<u64> {
    let mut draft = Draft::new();
    channel.lay_out(stream, &mut draft)?;
    let mut total = 0;
    let mut whole = false;
    loop {
        let len = if whole {
            let len = poll_fn(|cx| poll_room(reader, cx, draft.whole())).await?;
            draft.fill_whole(len);
            len
        } else {
            let len = poll_fn(|cx| poll_slices(reader, cx, &mut draft)).await?;
            draft.fill(len);
            len
        };
        if len == 0 {
            return Ok(total);
        }
        // A second read for what comes in one piece costs more than moving half of it: mostly, who writes on the other
        // side is let run in between.
        whole = len > PACKET_DATA_LEN;
        while !draft.is_empty() {
            poll_fn(|cx| channel.poll_send(stream, cx, &mut draft)).await?;
        }
        total += len as u64;
    }
}

/// Reads what there is, as far as it fits.
fn poll_room(
    reader: &mut (impl AsyncRead + Unpin + ?Sized),
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(room);
    ready!(Pin::new(reader).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

/// The same, packet by packet. Whoever asks again after an end or an error is told again.
fn poll_slices(
    reader: &mut (impl AsyncRead + Unpin + ?Sized),
    cx: &mut Context<'_>,
    draft: &mut Draft,
) -> Poll<io::Result<usize>> {
    let mut len = 0;
    for mut slice in draft.slices() {
        if slice.is_empty() {
            break;
        }
        match poll_room(reader, cx, &mut slice) {
            Poll::Ready(Ok(read)) => len += read,
            other if len == 0 => return other,
            _ => break,
        }
        if len % PACKET_DATA_LEN > 0 {
            break;
        }
    }
    Poll::Ready(Ok(len))
}

/// Writes all pieces, as many at a time as the writer takes.
async fn write_pieces(
    writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    data: &Received,
) -> io::Result<()> {
    let mut pieces = data.pieces().filter(|piece| !piece.is_empty());
    let mut batch = [IoSlice::new(&[]); PIECES];
    loop {
        let mut count = 0;
        for (slot, piece) in batch.iter_mut().zip(&mut pieces) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        let mut rest = &mut batch[..count];
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            match poll_fn(|cx| Pin::new(&mut *writer).poll_write_vectored(cx, rest)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                len => IoSlice::advance_slices(&mut rest, len),
            }
        }
    }
}
