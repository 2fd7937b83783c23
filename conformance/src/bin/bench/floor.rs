//! The floor: the least work that moves bulk data over an encrypted connection, and the commands around every row.
//!
//! `seal` reads a pipe straight into packets, seals them in place and writes them to a socket; `open` reads a socket, opens
//! packets in place and writes their data to a pipe or file. There is no handshake, window, channel or event: what is left
//! is what nobody can avoid with this cryptographic library. Packets look like SSH's (RFC 4253 section 6), so both loops
//! do the framing and carry the overhead that an SSH implementation has to.
//!
//! `source` and `sink` are the commands that SSH runs in every row, and the two ends of the floor's pipeline: the same
//! programs, so that all rows have the same neighbours. Each says [`MOVED`] on stderr when all bytes have passed and then
//! stays, so that the processes under test can be measured while they are alive and have nothing left to do.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use aws_lc_rs::aead::chacha20_poly1305_openssh as chacha;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ssh_proto::Input;

/// The line on stderr which says that all bytes have been moved.
pub(crate) const MOVED: &str = "bench: all bytes moved";
/// What `open` prints before the address on which it listens.
pub(crate) const LISTENING: &str = "listening on ";

/// Bytes of channel data per packet: the wire packet takes 32,676 bytes, and two of them fit the loopback's segment.
const DATA_LEN: usize = 32_640;
/// `packet_length`, `padding_length`, then CHANNEL_DATA's number, channel and length.
const HEADER_LEN: usize = 4 + 1 + 1 + 4 + 4;
const MAX_PADDING: usize = 20;
const TAG_LEN: usize = 16;
/// Distance between packets in the sealing buffer when they are full.
const SLOT_LEN: usize = HEADER_LEN + DATA_LEN + MAX_PADDING + TAG_LEN;
/// Most packets per write: two make 65,352 bytes.
pub(crate) const BATCH: usize = 2;
const READ_LEN: usize = 256 * 1024;
/// Most packets opened per read. With full packets, `READ_LEN` is reached first.
const MAX_OPENED: usize = 16;

/// The packet protection of one direction, keyed with constants: the floor measures time, it keeps no secrets.
enum Keys {
    Gcm(LessSafeKey),
    ChaCha(Box<(chacha::SealingKey, chacha::OpeningKey)>),
}

impl Keys {
    fn new(cipher: &str) -> io::Result<Self> {
        let gcm = |algorithm, key: &[u8]| {
            let key =
                UnboundKey::new(algorithm, key).map_err(|_| io::Error::other("key refused"))?;
            Ok(Self::Gcm(LessSafeKey::new(key)))
        };
        match cipher {
            "aes128-gcm@openssh.com" => gcm(&AES_128_GCM, &[7; 16]),
            "aes256-gcm@openssh.com" => gcm(&AES_256_GCM, &[7; 32]),
            "chacha20-poly1305@openssh.com" => {
                let key = [7; chacha::KEY_LEN];
                Ok(Self::ChaCha(Box::new((
                    chacha::SealingKey::new(&key),
                    chacha::OpeningKey::new(&key),
                ))))
            }
            _ => Err(io::Error::other(format!("no floor for cipher {cipher}"))),
        }
    }

    fn block_len(&self) -> usize {
        match self {
            Self::Gcm(_) => 16,
            Self::ChaCha(_) => 8,
        }
    }

    /// Seals `packet`, which ends in room for the tag.
    fn seal(&self, sequence: u32, packet: &mut [u8]) -> io::Result<()> {
        let failed = |_| io::Error::other("sealing failed");
        let (body, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or_else(short)?;
        match self {
            Self::Gcm(key) => {
                let (length, body) = body.split_first_chunk_mut::<4>().ok_or_else(short)?;
                let sealed =
                    key.seal_in_place_separate_tag(nonce(sequence), Aad::from(*length), body);
                tag.copy_from_slice(sealed.map_err(failed)?.as_ref());
            }
            Self::ChaCha(keys) => keys.0.seal_in_place(sequence, body, tag),
        }
        Ok(())
    }

    /// The length of the wire packet that starts with `start`.
    fn wire_len(&self, sequence: u32, start: [u8; 4]) -> usize {
        let length = match self {
            Self::Gcm(_) => start,
            Self::ChaCha(keys) => keys.1.decrypt_packet_length(sequence, start),
        };
        4 + u32::from_be_bytes(length) as usize + TAG_LEN
    }

    /// Opens the wire packet in place.
    fn open(&self, sequence: u32, packet: &mut [u8]) -> io::Result<()> {
        let failed = |_| io::Error::other("a packet failed to open");
        let (body, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or_else(short)?;
        match self {
            Self::Gcm(key) => {
                let (length, body) = body.split_first_chunk_mut::<4>().ok_or_else(short)?;
                key.open_in_place_separate_tag(nonce(sequence), Aad::from(*length), tag, body)
                    .map_err(failed)?;
            }
            Self::ChaCha(keys) => {
                keys.1.open_in_place(sequence, body, tag).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn nonce(sequence: u32) -> Nonce {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn short() -> io::Error {
    io::Error::other("packet too short")
}

/// A standard stream without std's buffer and lock.
fn raw(fd: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(fd.try_clone_to_owned()?))
}

fn say(line: &str) {
    eprintln!("{line}");
}

/// Standard input sealed into a connection to `address`, up to `batch` packets per write, until the end of the input.
/// With a size, so many zeros instead; then it stays until standard input ends.
pub(crate) fn seal(cipher: &str, address: &str, batch: usize, size: Option<u64>) -> io::Result<()> {
    if !(1..=BATCH).contains(&batch) {
        return Err(io::Error::other("that many packets do not go into a write"));
    }
    let mut stdin = raw(io::stdin().as_fd())?;
    match size {
        None => seal_all(cipher, address, batch, &mut stdin),
        Some(left) => seal_all(cipher, address, batch, &mut Zeros { left, stdin }),
    }
}

/// So many zeros, copied from memory as a command within a server would; the end comes with that of standard input.
struct Zeros {
    left: u64,
    stdin: File,
}

impl Read for Zeros {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // Constant zeros would be made without being read.
        let zeros: &[u8; DATA_LEN] = std::hint::black_box(&[0; DATA_LEN]);
        if self.left == 0 {
            io::copy(&mut self.stdin, &mut io::sink())?;
        }
        let mut total = 0;
        for buf in bufs {
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let len = buf.len().min(left).min(DATA_LEN);
            buf[..len].copy_from_slice(&zeros[..len]);
            self.left -= len as u64;
            total += len;
        }
        Ok(total)
    }
}

fn seal_all(cipher: &str, address: &str, batch: usize, input: &mut impl Read) -> io::Result<()> {
    let keys = Keys::new(cipher)?;
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut buffer = vec![0; BATCH * SLOT_LEN];
    let wire_len = wire_len(DATA_LEN, keys.block_len());
    let mut sequence = 0_u32;
    loop {
        // The packets lie next to each other, each with room before and after its data, so one read fills several.
        let mut slots = buffer.chunks_mut(wire_len);
        let mut parts: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| {
            let slot = slots.next().unwrap_or_default();
            IoSliceMut::new(
                slot.get_mut(HEADER_LEN..HEADER_LEN + DATA_LEN)
                    .unwrap_or_default(),
            )
        });
        let mut unsealed = input.read_vectored(&mut parts[..batch])?;
        if unsealed == 0 {
            return Ok(());
        }
        let mut end = 0;
        while unsealed > 0 {
            let data_len = unsealed.min(DATA_LEN);
            unsealed -= data_len;
            let packet = &mut buffer[end..end + self::wire_len(data_len, keys.block_len())];
            end += packet.len();
            frame(packet, data_len)?;
            keys.seal(sequence, packet)?;
            sequence = sequence.wrapping_add(1);
        }
        socket.write_all(&buffer[..end])?;
    }
}

/// The length of a packet with `data_len` bytes of channel data.
fn wire_len(data_len: usize, block_len: usize) -> usize {
    // RFC 5647 section 7.2 and PROTOCOL.chacha20poly1305: the length field is not part of what is padded.
    let unpadded = HEADER_LEN - 4 + data_len;
    let padded = (unpadded + 4).next_multiple_of(block_len);
    4 + padded + TAG_LEN
}

/// Writes the fields around the data of a packet.
fn frame(packet: &mut [u8], data_len: usize) -> io::Result<()> {
    let length = packet.len() - 4 - TAG_LEN;
    let padding = length - (HEADER_LEN - 4) - data_len;
    let field = |value: usize| {
        u32::try_from(value)
            .map(u32::to_be_bytes)
            .map_err(io::Error::other)
    };
    packet[..4].copy_from_slice(&field(length)?);
    packet[4] = u8::try_from(padding).map_err(io::Error::other)?;
    packet[5] = 94;
    packet[6..10].copy_from_slice(&[0; 4]);
    packet[10..14].copy_from_slice(&field(data_len)?);
    Ok(())
}

/// One connection opened to standard output, until its end. Says [`MOVED`] after `size` bytes.
pub(crate) fn open(cipher: &str, size: u64) -> io::Result<()> {
    let keys = Keys::new(cipher)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    say(&format!("{LISTENING}{}", listener.local_addr()?));
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let mut output = raw(io::stdout().as_fd())?;
    // Memory that starts with a page: the kernel's copies would cost more otherwise.
    let mut memory = Input::with_capacity(READ_LEN);
    let buffer = memory.unfilled();
    let (mut filled, mut moved, mut sequence) = (0, 0, 0_u32);
    loop {
        let read = socket.read(&mut buffer[filled..])?;
        if read == 0 {
            return if filled == 0 { Ok(()) } else { Err(short()) };
        }
        filled += read;
        loop {
            let mut opened = [(0, 0); MAX_OPENED];
            let (mut packets, mut start) = (0, 0);
            while let Some(&length) = buffer[start..filled].first_chunk::<4>() {
                let end = start + keys.wire_len(sequence, length);
                if end - start > SLOT_LEN {
                    return Err(io::Error::other("packet too long"));
                }
                if end > filled || packets == MAX_OPENED {
                    break;
                }
                let packet = &mut buffer[start..end];
                keys.open(sequence, packet)?;
                opened[packets] = (start + HEADER_LEN, data_end(packet)? + start);
                sequence = sequence.wrapping_add(1);
                packets += 1;
                start = end;
            }
            let mut parts = opened.map(|(from, to)| IoSlice::new(&buffer[from..to]));
            moved += write_parts(&mut output, &mut parts[..packets])?;
            // What is left is less than a packet, or all there is was more than `MAX_OPENED` packets.
            buffer.copy_within(start..filled, 0);
            filled -= start;
            if packets < MAX_OPENED {
                break;
            }
        }
        if moved == size {
            say(MOVED);
        }
    }
}

/// Where the data of an opened packet ends.
fn data_end(packet: &[u8]) -> io::Result<usize> {
    let length = packet
        .get(10..14)
        .and_then(|field| field.try_into().ok())
        .map(u32::from_be_bytes);
    let end = HEADER_LEN + length.ok_or_else(short)? as usize;
    if packet[5] == 94 && end + usize::from(packet[4]) + TAG_LEN == packet.len() {
        Ok(end)
    } else {
        Err(short())
    }
}

fn write_parts(output: &mut File, mut parts: &mut [IoSlice<'_>]) -> io::Result<u64> {
    let mut total = 0;
    while parts.iter().any(|part| !part.is_empty()) {
        let written = output.write_vectored(parts)?;
        total += written as u64;
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(total)
}

/// Writes `size` bytes to standard output, 64 KiB at a time, says so, and stays until standard input ends.
pub(crate) fn source(size: u64) -> io::Result<()> {
    let mut output = raw(io::stdout().as_fd())?;
    let zeros = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        let written = output.write(&zeros[..len])?;
        left -= written as u64;
    }
    say(MOVED);
    io::copy(&mut raw(io::stdin().as_fd())?, &mut io::sink())?;
    Ok(())
}

/// Reads standard input to its end, says when `size` bytes have come, and fails when there were more or fewer.
pub(crate) fn sink(size: u64) -> io::Result<()> {
    let mut input = raw(io::stdin().as_fd())?;
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        total += read as u64;
        if total == size {
            say(MOVED);
        }
    }
    if total == size {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{total} bytes came instead of {size}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 3] = [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
    ];

    #[test]
    fn a_sealed_packet_opens_to_its_data_and_a_changed_one_does_not() {
        for cipher in ALL {
            let keys = Keys::new(cipher).unwrap();
            for data_len in [1, 15, 16, 1000, DATA_LEN] {
                let mut packet = vec![b'x'; wire_len(data_len, keys.block_len())];
                frame(&mut packet, data_len).unwrap();
                keys.seal(7, &mut packet).unwrap();
                assert_eq!(
                    keys.wire_len(7, *packet.first_chunk().unwrap()),
                    packet.len()
                );
                assert!(!packet[HEADER_LEN..].starts_with(&[b'x'; 16]));
                let mut changed = packet.clone();
                changed[HEADER_LEN] ^= 1;
                assert!(keys.open(7, &mut changed).is_err());
                keys.open(7, &mut packet).unwrap();
                let data = &packet[HEADER_LEN..data_end(&packet).unwrap()];
                assert_eq!(data, vec![b'x'; data_len], "{cipher}");
            }
        }
    }

    #[test]
    fn a_write_fills_no_more_than_a_segment_of_the_loopback() {
        for cipher in ALL {
            let keys = Keys::new(cipher).unwrap();
            let wire_len = wire_len(DATA_LEN, keys.block_len());
            assert!(
                wire_len <= SLOT_LEN && BATCH * wire_len <= 65_483,
                "{wire_len}"
            );
        }
    }
}
