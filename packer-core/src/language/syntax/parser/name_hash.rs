//! A hash for names: short words, very many of them. Seeded, so that no text can be made to collide.

use std::hash::{BuildHasher, Hasher, RandomState};

pub(super) struct NameHash(u64);

impl Default for NameHash {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for NameHash {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher { seed: self.0, state: self.0 }
    }
}

pub(super) struct NameHasher {
    seed: u64,
    state: u64,
}

impl NameHasher {
    /// Both halves of a product with an operand nobody knows.
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.seed | 1);
        self.state = (product as u64) ^ ((product >> 64) as u64) ^ self.seed.rotate_left(32);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word) ^ (chunk.len() as u64).rotate_right(8));
        }
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
