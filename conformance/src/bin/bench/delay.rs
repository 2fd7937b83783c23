//! A proxy that delays: what a long path does to a connection, without its other sides. Each byte is handed on so long after
//! it came; nothing limits how many do so at a time but the memory that is set aside for them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes per piece at the most, and pieces that are under way in one direction: 256 MiB, which is 2.5 GB/s at 100 ms.
const PIECE: usize = 128 * 1024;
const PIECES: usize = 2_048;

/// What was read at once, and when it is to be written.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    len: usize,
}

/// Hands every connection on to `target`, each direction half of `round_trip` late, until the process is ended.
pub(crate) fn run(target: &str, round_trip: Duration) -> io::Result<()> {
    let target: SocketAddr = target.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("{}{}", crate::floor::LISTENING, listener.local_addr()?);
    loop {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect(target)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
        }
        delay(near.try_clone()?, far.try_clone()?, round_trip / 2);
        delay(far, near, round_trip / 2);
    }
}

/// One direction. It ends, and the stream that it writes to with it, when the one that it reads has ended.
fn delay(from: TcpStream, to: TcpStream, time: Duration) {
    let (under_way, arriving) = sync_channel(PIECES);
    let (done, free) = channel();
    // Either may fail because an end has gone away: so has the connection then.
    thread::spawn(move || _ = read(from, &under_way, &free, time));
    thread::spawn(move || _ = write(to, &arriving, &done));
}

fn read(
    mut from: TcpStream,
    under_way: &SyncSender<Piece>,
    free: &Receiver<Vec<u8>>,
    time: Duration,
) -> io::Result<()> {
    loop {
        let mut bytes = free.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
        let len = from.read(&mut bytes)?;
        let due = Instant::now() + time;
        if len == 0 || under_way.send(Piece { due, bytes, len }).is_err() {
            return Ok(());
        }
    }
}

fn write(mut to: TcpStream, arriving: &Receiver<Piece>, done: &Sender<Vec<u8>>) -> io::Result<()> {
    for piece in arriving {
        thread::sleep(piece.due.saturating_duration_since(Instant::now()));
        to.write_all(&piece.bytes[..piece.len])?;
        // Nobody wants it when everything was read.
        _ = done.send(piece.bytes);
    }
    to.shutdown(Shutdown::Write)
}
