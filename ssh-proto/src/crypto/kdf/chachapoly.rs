//! `chacha20-poly1305@openssh.com` as a private key file has it: sequence number 0, and no length in
//! front of the text, so nothing but the ciphertext is authenticated (OpenSSH's
//! PROTOCOL.chacha20poly1305 and PROTOCOL.key).
//!
//! AWS-LC has this cipher for packets alone, whose tag always covers an encrypted length. The two
//! primitives are small (RFC 8439 sections 2.3 and 2.5), and a file is short and opened once, so they
//! stand here and aim at being read. No packet ever comes this way.

use crypto_bigint::{NonZero, U256};

use crate::crypto::sign::Refused;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Checks the tag, then decrypts in place. Of the 64 bytes of key material the first 32 are the key of
/// the text; the others are for the length that is not there.
pub(super) fn open(key: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), Refused> {
    let (key, _) = key.split_first_chunk::<32>().ok_or(Refused)?;
    let first = Zeroizing::new(block(key, 0));
    if !bool::from(poly1305(&first, data).ct_eq(tag)) {
        return Err(Refused);
    }
    for (counter, part) in (1_u64..).zip(data.chunks_mut(64)) {
        let stream = Zeroizing::new(block(key, counter));
        for (byte, mask) in part.iter_mut().zip(stream.iter()) {
            *byte ^= mask;
        }
    }
    Ok(())
}

/// One block of ChaCha20's key stream, with a counter of 64 bits and a nonce of 0.
fn block(key: &[u8; 32], counter: u64) -> [u8; 64] {
    let mut start = [0_u32; 16];
    let words = b"expand 32-byte k".iter().chain(key);
    let words = words.copied().chain(counter.to_le_bytes());
    for (i, byte) in words.enumerate() {
        if let Some(word) = start.get_mut(i / 4) {
            // Little-endian: the first byte of a word ends up lowest.
            *word = (*word >> 8) | (u32::from(byte) << 24);
        }
    }
    let mut s = start;
    macro_rules! quarter_round {
        ($a:literal, $b:literal, $c:literal, $d:literal) => {
            s[$a] = s[$a].wrapping_add(s[$b]);
            s[$d] = (s[$d] ^ s[$a]).rotate_left(16);
            s[$c] = s[$c].wrapping_add(s[$d]);
            s[$b] = (s[$b] ^ s[$c]).rotate_left(12);
            s[$a] = s[$a].wrapping_add(s[$b]);
            s[$d] = (s[$d] ^ s[$a]).rotate_left(8);
            s[$c] = s[$c].wrapping_add(s[$d]);
            s[$b] = (s[$b] ^ s[$c]).rotate_left(7);
        };
    }
    for _ in 0..10 {
        quarter_round!(0, 4, 8, 12);
        quarter_round!(1, 5, 9, 13);
        quarter_round!(2, 6, 10, 14);
        quarter_round!(3, 7, 11, 15);
        quarter_round!(0, 5, 10, 15);
        quarter_round!(1, 6, 11, 12);
        quarter_round!(2, 7, 8, 13);
        quarter_round!(3, 4, 9, 14);
    }
    let mut stream = [0; 64];
    let words = s
        .iter()
        .zip(start)
        .map(|(end, start)| end.wrapping_add(start));
    for (to, word) in stream.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    stream
}

/// Poly1305 under the first 32 of `key`'s bytes: r and s.
fn poly1305(key: &[u8; 64], data: &[u8]) -> [u8; 16] {
    // RFC 8439 section 2.5: "The r is [...] clamped".
    const CLAMP: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
    const PRIME: NonZero<U256> =
        NonZero::<U256>::new_unwrap(U256::ONE.shl_vartime(130).wrapping_sub(&U256::from_u8(5)));
    let mut halves = key
        .chunks_exact(16)
        .map(|half| half.try_into().map_or(0, u128::from_le_bytes));
    let r = U256::from_u128(halves.next().unwrap_or_default() & CLAMP);
    let s = U256::from_u128(halves.next().unwrap_or_default());

    let mut sum = U256::ZERO;
    for part in data.chunks(16) {
        // A part is a little-endian number with a 1 behind its last byte.
        let mut number = [0; 32];
        for (to, from) in number.iter_mut().zip(part.iter().chain(&[1])) {
            *to = *from;
        }
        // Below 2^131 times below 2^124: nothing is cut off.
        sum = sum
            .wrapping_add(&U256::from_le_slice(&number))
            .wrapping_mul(&r)
            .rem(&PRIME);
    }
    let mut tag = [0; 16];
    for (to, from) in tag
        .iter_mut()
        .zip(sum.wrapping_add(&s).to_le_bytes().as_ref())
    {
        *to = *from;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stream_is_that_of_rfc_8439() {
        // Appendix A.1, vectors 1 and 2.
        let first = block(&[0; 32], 0);
        assert_eq!(&first[..8], b"\x76\xb8\xe0\xad\xa0\xf1\x3d\x90");
        assert_eq!(&first[56..], b"\xc3\x87\xb6\x69\xb2\xee\x65\x86");
        let second = block(&[0; 32], 1);
        assert_eq!(&second[..8], b"\x9f\x07\xe7\xbe\x55\x51\x38\x7a");
    }

    #[test]
    fn the_tag_is_that_of_rfc_8439() {
        // Section 2.5.2.
        let mut key = [0; 64];
        key[..32].copy_from_slice(
            b"\x85\xd6\xbe\x78\x57\x55\x6d\x33\x7f\x44\x52\xfe\x42\xd5\x06\xa8\
              \x01\x03\x80\x8a\xfb\x0d\xb2\xfd\x4a\xbf\xf6\xaf\x41\x49\xf5\x1b",
        );
        assert_eq!(
            &poly1305(&key, b"Cryptographic Forum Research Group"),
            b"\xa8\x06\x1d\xc1\x30\x51\x36\xc6\xc2\x2b\x8b\xaf\x0c\x01\x27\xa9"
        );
    }

    #[test]
    fn the_tag_holds_where_the_sum_passes_the_prime() {
        // RFC 8439 appendix A.3, vectors 7 to 9: r = 1 and r = 2.
        let mut key = [0; 64];
        key[0] = 1;
        let mut data = [0xff; 48];
        data[16] = 0xf0;
        data[32] = 0x11;
        data[33..].fill(0);
        assert_eq!(poly1305(&key, &data)[..2], [5, 0]);
        data[16] = 0xfb;
        data[17..32].fill(0xfe);
        data[32..].fill(1);
        assert_eq!(poly1305(&key, &data), [0; 16]);
        key[0] = 2;
        let mut data = [0xff; 16];
        data[0] = 0xfd;
        let tag = poly1305(&key, &data);
        assert_eq!((tag[0], &tag[1..]), (0xfa, &[0xff; 15][..]));
    }
}
