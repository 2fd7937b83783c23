//! What is drawn in a world.

use ssh_proto::Seed;

use crate::wire::draw;

/// Numbers that follow from a seed.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A number from 0 to `max`.
    pub(super) fn up_to(&mut self, max: u64) -> u64 {
        draw(&mut self.0) % (max + 1)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (draw(&mut self.0) % bound.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, odds: u64) -> bool {
        draw(&mut self.0).is_multiple_of(odds)
    }

    /// A length: short ones are likely, long ones come.
    pub(super) fn len(&mut self, max: u64) -> usize {
        let bound = [10, 1_000, max][self.below(3)].min(max);
        self.up_to(bound) as usize
    }

    /// The seed of a connection.
    pub(super) fn seed(&mut self) -> Seed {
        let mut bytes = [0; 32];
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&draw(&mut self.0).to_le_bytes());
        }
        Seed::new(bytes)
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
