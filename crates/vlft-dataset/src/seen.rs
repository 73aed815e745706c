//! Which lines had a key before, in 11 to 23 bytes a line, so that a million lines are no matter.
//!
//! A slot holds a line and 32 bits of the key's hash, so two keys may look the same. Whether they are
//! is asked of the caller, who reads the earlier line again; nothing is decided by a hash alone.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

/// Lines by the hash of a key of theirs.
#[derive(Default)]
pub(crate) struct Seen {
    /// A power of two of them, at most 7 in 10 filled. Line 0 is an empty slot.
    slots: Vec<Slot>,
    filled: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    line: u32,
    tag: u32,
}

impl Seen {
    /// The earlier line for which `is_same` holds, among those with this hash. When there is none the
    /// line is noted. `is_same` is asked for a line that has the key, and of a million lines about 200
    /// times for another one.
    pub(crate) fn earlier<E>(
        &mut self,
        hash: u64,
        line: u64,
        mut is_same: impl FnMut(u64) -> Result<bool, E>,
    ) -> Result<Option<u64>, E> {
        if (self.filled + 1) * 10 > self.slots.len() * 7 {
            self.grow();
        }
        let tag = (hash >> 32) as u32;
        let mut at = self.place(tag);
        loop {
            let slot = self.slots[at];
            if slot.line == 0 {
                // Lines beyond 2^32 are not told apart from later ones: no disk holds so many.
                self.slots[at] = Slot {
                    line: u32::try_from(line).unwrap_or(u32::MAX),
                    tag,
                };
                self.filled += 1;
                return Ok(None);
            }
            if slot.tag == tag && is_same(u64::from(slot.line))? {
                return Ok(Some(u64::from(slot.line)));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Where a tag is looked for first. It follows from the tag alone, so that a table can grow.
    fn place(&self, tag: u32) -> usize {
        let mixed = u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(1 << 10);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        for slot in old.into_iter().filter(|slot| slot.line > 0) {
            let mut at = self.place(slot.tag);
            while self.slots[at].line > 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }
}

/// The hash of a key, as [`Seen`] takes it.
pub(crate) fn hash(key: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// A hash of 128 bits: two of a million keys are equal by chance with a probability of 1e-27.
pub(crate) fn hash128(key: &(impl Hash + ?Sized)) -> u128 {
    u128::from(hash(key)) << 64 | u128::from(hash(&(0x5eed_u16, key)))
}

/// A map by keys that are hashes of 128 bits, which are not hashed again.
pub(crate) type ByHash<V> = HashMap<u128, V, BuildHasherDefault<AsItIs>>;

#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write_u128(&mut self, hash: u128) {
        self.0 = (hash >> 64) as u64;
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn every_repetition_is_found_and_nothing_else() {
        let mut seen = Seen::default();
        let key_of = |line: u64| line % 50_000;
        for line in 1..=100_000u64 {
            let key = key_of(line);
            let found = seen.earlier(hash(&key), line, |earlier| {
                Ok::<_, Infallible>(key_of(earlier) == key)
            });
            assert_eq!(found, Ok((line > 50_000).then(|| line - 50_000)), "{line}");
        }
    }

    #[test]
    fn keys_with_one_hash_are_told_apart_by_the_caller() {
        let mut seen = Seen::default();
        for round in 0..2 {
            for line in 1..=3000u64 {
                let found = seen.earlier(7, line, |earlier| Ok::<_, Infallible>(earlier == line));
                assert_eq!(found, Ok((round == 1).then_some(line)));
            }
        }
    }
}
