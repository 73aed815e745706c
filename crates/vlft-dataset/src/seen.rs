//! Which lines had a key before, in 11 to 23 bytes a line, so that a million lines are no matter.
//!
//! A slot holds a line and 32 bits of the key's hash, so two keys may look the same. Whether they are
//! is asked of the caller, who reads the earlier line again; nothing is decided by a hash alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

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

    /// Brings the slots of these hashes near the processor, all at once: to wait for each in turn is most
    /// of the time that [`Seen::earlier`] takes in a large table. The sum is of no meaning.
    pub(crate) fn bring(&self, hashes: impl Iterator<Item = u64>) -> u64 {
        match self.slots.is_empty() {
            true => 0,
            false => hashes
                .map(|hash| u64::from(self.slots[self.place((hash >> 32) as u32)].tag))
                .fold(0, u64::wrapping_add),
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
    let mut hasher = hasher();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The hash of a path: the same for two that [`Path`] holds for equal.
pub(crate) fn hash_path(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut pairs = bytes.windows(2);
    let is_plain = !bytes.ends_with(b"/") && !pairs.any(|pair| pair == b"//" || pair == b"/.");
    match is_plain && !cfg!(windows) {
        true => hash(bytes),
        false => {
            // As it would be written plainly.
            let plain: PathBuf = path.components().collect();
            hash(plain.as_os_str().as_encoded_bytes())
        }
    }
}

/// What makes a [`hash`] of a key in pieces. Texts are hashed by the million: the one of the standard
/// library takes several times as long.
pub(crate) fn hasher() -> foldhash::quality::FoldHasher<'static> {
    foldhash::quality::FixedState::default().build_hasher()
}

/// A hash of 128 bits: two of a million keys are equal by chance with a probability of 1e-27.
pub(crate) fn hash128(key: &(impl Hash + ?Sized)) -> u128 {
    let half = |key: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        key(&mut hasher);
        u128::from(hasher.finish())
    };
    half(&|hasher| key.hash(hasher)) << 64 | half(&|hasher| (0x5eed_u16, key).hash(hasher))
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
    fn equal_paths_have_one_hash() {
        let paths = [
            "a", "a/", "a/b", "a//b", "a/./b", "a/b/.", "./a/b", "/a/b", "//a/b", "a/../b",
            "a/..b", "a/.b", "", ".", "/",
        ];
        for a in paths.map(Path::new) {
            for b in paths.map(Path::new) {
                assert_eq!(hash_path(a) == hash_path(b), a == b, "{a:?} {b:?}");
            }
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
