//! Sealing packets: header, padding, encryption, MAC, in place at the tail of the output (RFC 4253 section 6).

use crate::crypto::drbg::Drbg;
use crate::error::Error;

/// `packet_length` and `padding_length`.
pub(crate) const HEADER_LEN: usize = 5;

/// Turns payloads into packets with the keys of one direction.
#[derive(Debug, Default)]
pub(crate) struct Sealer {
    sequence: u32,
}

impl Sealer {
    /// Seals what lies behind `start` in `buf`: [`HEADER_LEN`] bytes of room, then the payload.
    pub(crate) fn seal(
        &mut self,
        buf: &mut Vec<u8>,
        start: usize,
        rng: &mut Drbg,
    ) -> Result<(), Error> {
        let payload = buf.len().saturating_sub(start).saturating_sub(HEADER_LEN);
        let padding = 4_usize.saturating_add(
            8_usize.saturating_sub(payload.wrapping_add(HEADER_LEN).wrapping_add(4) % 8) % 8,
        );
        let total = payload.saturating_add(padding).saturating_add(1);
        let at = buf.len();
        buf.resize(at.saturating_add(padding), 0);
        rng.fill(buf.get_mut(at..).unwrap_or_default());
        if let Some(header) = buf.get_mut(start..start.saturating_add(HEADER_LEN)) {
            let len = u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes();
            header.copy_from_slice(&[
                len[0],
                len[1],
                len[2],
                len[3],
                u8::try_from(padding).unwrap_or(u8::MAX),
            ]);
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }
}
