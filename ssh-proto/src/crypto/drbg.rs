//! The connection's own random generator: a seed in, every random byte of the connection out.
//!
//! Cookies, padding and ephemeral keys are all drawn here, so that the same seed and the same inputs
//! give the same bytes (rule 2 of the house). It is an AES-256-CTR keystream with fast key erasure
//! (Bernstein, "Fast-key-erasure random-number generators", 2017): what was served cannot be
//! computed from what is left in memory.

use std::fmt;

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use zeroize::Zeroize;

use super::CryptoFault;
use crate::secret::Secret;

/// The 32 bytes that all randomness of one connection comes from.
///
/// They must come from the operating system's generator (or be as unpredictable), and **a seed must
/// never be used twice**: two connections with the same seed draw the same ephemeral keys and cookies,
/// and who knows the seed reads the traffic. That is why a seed has no default and can be neither
/// copied nor cloned. Repeating one on purpose is for tests and replays, never for real traffic.
///
/// The bytes are wiped when the value is dropped; [`Debug`](fmt::Debug) shows nothing of them.
pub struct Seed([u8; KEY]);

impl Seed {
    /// Takes the bytes over. The caller's own copy is the caller's to wipe.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

#[cfg(any(test, feature = "replay"))]
impl Seed {
    pub(crate) const fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// AES-256's key length.
const KEY: usize = 32;
/// Bytes served per refill: some 60 packets of padding for one key schedule.
const POOL: usize = 512;

/// The generator.
///
/// ```text
/// state  | key: 32 bytes | served, wiped ... | yet to be served ... |
///                                            ^ at
/// ```
pub(crate) struct Drbg {
    state: [u8; KEY + POOL],
    /// Where the unserved bytes start; the state's length when there are none.
    at: usize,
    #[cfg(any(test, feature = "replay"))]
    foreign: Foreign,
}

/// What becomes of [`foreign`](Drbg::foreign) draws. `None` in a list is one that failed.
#[cfg(any(test, feature = "replay"))]
#[derive(Default)]
pub(crate) enum Foreign {
    /// They are made and forgotten.
    #[default]
    Off,
    /// They are made, and kept until they are taken.
    Recorded(Vec<Option<Secret>>),
    /// They come from a recording; `missed` counts those that it did not have.
    Played {
        draws: std::collections::VecDeque<Option<Secret>>,
        missed: usize,
    },
}

impl Drbg {
    pub(crate) fn new(seed: Seed) -> Self {
        let mut state = [0; KEY + POOL];
        if let Some(key) = state.first_chunk_mut() {
            *key = seed.0;
        }
        let at = state.len();
        Self {
            state,
            at,
            #[cfg(any(test, feature = "replay"))]
            foreign: Foreign::Off,
        }
    }

    /// Something that the cryptographic library insists on drawing for itself: ML-KEM's keys and secrets, ECDSA's
    /// nonces. All of it goes through here, so that a recording keeps what came out, and its replay puts that in its
    /// place. `None`: it could not be made.
    #[cfg_attr(
        not(any(test, feature = "replay")),
        expect(
            clippy::needless_pass_by_ref_mut,
            reason = "the recording is part of it"
        )
    )]
    pub(crate) fn foreign<E>(
        &mut self,
        make: impl FnOnce() -> Result<Secret, E>,
    ) -> Option<Secret> {
        #[cfg(any(test, feature = "replay"))]
        match &mut self.foreign {
            Foreign::Off => {}
            Foreign::Recorded(draws) => {
                let made = make().ok();
                draws.push(made.clone());
                return made;
            }
            Foreign::Played { draws, missed } => {
                return draws.pop_front().unwrap_or_else(|| {
                    *missed = missed.saturating_add(1);
                    None
                });
            }
        }
        make().ok()
    }

    /// How foreign draws are dealt with.
    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn foreign_draws(&mut self) -> &mut Foreign {
        &mut self.foreign
    }

    /// Serves these bytes first: for tests that need a known key.
    #[cfg(test)]
    pub(crate) fn serving(bytes: &[u8]) -> Self {
        let mut rng = Self::new(Seed::new([0; KEY]));
        rng.refill();
        rng.at = rng.state.len() - bytes.len();
        rng.state[rng.at..].copy_from_slice(bytes);
        rng
    }

    /// Fills `out` with random bytes.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            if self.at >= self.state.len() {
                self.refill();
            }
            let pool = self.state.get_mut(self.at..).unwrap_or_default();
            let len = pool.len().min(rest.len());
            let Some((now, later)) = rest.split_at_mut_checked(len) else {
                return;
            };
            if let Some(served) = pool.get_mut(..len) {
                now.copy_from_slice(served);
                served.fill(0);
            }
            self.at = self.at.saturating_add(len);
            rest = later;
        }
    }

    /// `N` random bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    #[expect(
        clippy::expect_used,
        reason = "only a wrong key length can fail, and the type has it; going on without randomness would be worse"
    )]
    fn refill(&mut self) {
        self.advance()
            .expect("AES-256 takes a key of 32 bytes and any length of data");
    }

    /// Replaces the whole state by keystream. The first bytes of it are the next key: they lie where
    /// the old one was, which is gone.
    fn advance(&mut self) -> Result<(), CryptoFault> {
        let key = self.state.get(..KEY).ok_or(CryptoFault)?;
        let aes = EncryptingKey::ctr(UnboundCipherKey::new(&AES_256, key)?)?;
        self.state.fill(0);
        // The key is used once, so the counter may always start at 0.
        aes.less_safe_encrypt(&mut self.state, EncryptionContext::Iv128([0; 16].into()))?;
        self.at = KEY;
        Ok(())
    }
}

impl Drop for Drbg {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

impl fmt::Debug for Drbg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drbg(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::HashKind;
    use super::super::testing::{count, hex};
    use super::*;
    use proptest::prelude::*;

    fn drbg(first: u8) -> Drbg {
        let mut seed = count();
        seed[0] = first;
        Drbg::new(Seed::new(seed))
    }

    #[test]
    fn the_bytes_are_those_of_aes_256_ctr_with_the_key_replaced() {
        // Computed with OpenSSL: two keystreams of 544 bytes, the second under the first's head.
        let mut rng = drbg(0);
        let first: [u8; POOL] = rng.array();
        let second: [u8; POOL] = rng.array();
        assert_eq!(
            first[..32],
            hex("0ebcb5deb52c83bd08a8a935182c9199d24356532881602f809eb383c5ff5d56")
        );
        assert_eq!(
            second[..32],
            hex("9720e40516407d2c249a9b756a46f71a80de909711cfa30bcd151fce144c5d56")
        );
        // The hash of everything that the two serve.
        assert_eq!(
            HashKind::Sha256.digest(&[&first, &second]).as_ref(),
            hex("f1c53dae594ee96c66c8843c8b4dab8dde80effa1c28f17aa4c730c9287f5434")
        );
    }

    proptest! {
        #[test]
        fn the_stream_does_not_depend_on_how_it_is_cut(cuts in prop::collection::vec(0usize..700, 1..12)) {
            let total: usize = cuts.iter().sum();
            let mut whole = vec![0; total];
            drbg(1).fill(&mut whole);
            let mut rng = drbg(1);
            let mut pieces = Vec::new();
            for cut in cuts {
                let mut piece = vec![0; cut];
                rng.fill(&mut piece);
                pieces.extend(piece);
            }
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn another_seed_gives_other_bytes() {
        assert_ne!(drbg(0).array::<32>(), drbg(1).array::<32>());
    }

    #[test]
    fn served_bytes_and_the_old_key_are_gone() {
        let mut rng = drbg(0);
        let served: [u8; 100] = rng.array();
        assert!(rng.state[KEY..KEY + 100].iter().all(|&byte| byte == 0));
        assert!(rng.state[KEY + 100..].iter().any(|&byte| byte != 0));
        assert!(!rng.state.windows(8).any(|part| part == &served[..8]));
        assert!(!rng.state.windows(8).any(|part| part == count::<8>()));
    }

    #[test]
    fn bits_and_bytes_are_evenly_spread() {
        let mut rng = drbg(3);
        let mut bytes = vec![0; 1 << 18];
        rng.fill(&mut bytes);
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        // 2^21 bits: the standard deviation is 724; six of them.
        assert!(ones.abs_diff(1 << 20) < 4344, "{ones}");
        let mut seen = [0u32; 256];
        for &byte in &bytes {
            seen[usize::from(byte)] += 1;
        }
        // Chi-squared with 255 degrees of freedom: mean 255, deviation 22.6; six of them.
        let chi: f64 = seen
            .iter()
            .map(|&n| (f64::from(n) - 1024.0).powi(2) / 1024.0)
            .sum();
        assert!((119.0..391.0).contains(&chi), "{chi}");
        let mut blocks: Vec<_> = bytes.chunks(16).collect();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), 1 << 14);
    }

    #[test]
    fn nothing_is_shown() {
        assert_eq!(format!("{:?}", Seed::new([7; 32])), "Seed(..)");
        assert_eq!(format!("{:?}", drbg(0)), "Drbg(..)");
    }
}
