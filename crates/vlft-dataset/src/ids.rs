//! Which ids were seen, in a few bytes each.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Ids by a 128-bit hash: two ids of a million would collide with a probability of 1e-27.
#[derive(Default)]
pub(crate) struct Ids(HashMap<u128, u64>);

impl Ids {
    /// Notes the id; the line where it was first seen, if it was.
    pub(crate) fn first_line(&mut self, id: &str, line: u64) -> Option<u64> {
        let first = *self.0.entry(hash(id)).or_insert(line);
        (first != line).then_some(first)
    }
}

fn hash(id: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, id).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
