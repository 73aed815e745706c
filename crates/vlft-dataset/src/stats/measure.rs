//! What one record contributes. Records are measured apart from each other, on all cores.

use std::path::{Path, PathBuf};

use super::coverage::{Coverage, Filled};
use super::image_head::{self, ImageHead};
use crate::image_path::find;
use crate::json;
use crate::record::{Part, Record, Role};
use crate::token_counter::TokenCounter;

/// Numbers of one record, and what to compare it by.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) line: u64,
    pub(crate) document: Option<String>,
    pub(crate) images: Vec<MeasuredImage>,
    pub(crate) unreadable_images: u32,
    pub(crate) turns: u32,
    pub(crate) targets_not_json: u32,
    pub(crate) target_chars: u64,
    /// Leaves of the targets.
    pub(crate) filled: Filled,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) uncountable: bool,
    /// Hashes of the text of the other turns and of the answers.
    pub(crate) prompt: u128,
    pub(crate) target: u128,
}

#[derive(Clone, Debug)]
pub(crate) struct MeasuredImage {
    pub(crate) path: PathBuf,
    pub(crate) head: ImageHead,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    pub(crate) total: u64,
    pub(crate) image: u64,
    pub(crate) supervised: u64,
}

pub(crate) fn measure(
    record: &Record,
    line: u64,
    base: &Path,
    counter: Option<&dyn TokenCounter>,
    coverage: &mut Coverage,
) -> Measured {
    let mut measured = Measured {
        line,
        document: record.document().map(str::to_owned),
        images: Vec::new(),
        unreadable_images: 0,
        turns: record.messages.len() as u32,
        targets_not_json: 0,
        target_chars: 0,
        filled: Filled::default(),
        tokens: None,
        uncountable: false,
        prompt: text_of(record, |role| role != Role::Assistant),
        target: text_of(record, |role| role == Role::Assistant),
    };
    for image in record.images() {
        let found = find(base, image).map(|found| found.path);
        let image = found.and_then(|path| {
            let head = image_head::read(&path)?;
            Some(MeasuredImage { path, head })
        });
        match image {
            Some(image) => measured.images.push(image),
            None => measured.unreadable_images += 1,
        }
    }
    for message in record.messages.iter().filter(|m| m.role == Role::Assistant) {
        let text = message.text();
        measured.target_chars += text.chars().count() as u64;
        match json::parse(&text) {
            Ok(value) => {
                let filled = coverage.add(&value);
                measured.filled.filled += filled.filled;
                measured.filled.of += filled.of;
            }
            Err(_) => measured.targets_not_json += 1,
        }
    }
    if let Some(counter) = counter {
        measured.tokens = tokens(record, &measured, counter);
        measured.uncountable = measured.tokens.is_none();
    }
    measured
}

fn tokens(record: &Record, measured: &Measured, counter: &dyn TokenCounter) -> Option<Tokens> {
    if measured.unreadable_images > 0 {
        return None;
    }
    let sizes: Vec<(u32, u32)> = measured.images.iter().map(|i| i.head.size).collect();
    let count = counter.count_sized(record, &sizes).ok()?;
    Some(Tokens {
        total: count.total as u64,
        image: count.image as u64,
        supervised: count.supervised as u64,
    })
}

/// A hash of the turns of some roles, their order and what is image in them included. Whose text is
/// the same in 128 bits of SHA-256 is the same.
fn text_of(record: &Record, of: impl Fn(Role) -> bool) -> u128 {
    let mut hasher = vlft_base::digest::Hasher::default();
    for message in record.messages.iter().filter(|m| of(m.role)) {
        hasher.add(message.role.as_str());
        for part in &message.content {
            match part {
                Part::Text(text) => {
                    hasher.add(b"\0t");
                    hasher.add(text);
                }
                // Which image it is, is compared apart from the text.
                Part::Image(_) => hasher.add(b"\0i"),
            }
        }
        hasher.add(b"\0");
    }
    let hex = hasher.finish();
    u128::from_str_radix(&hex[..32], 16).expect("SHA-256 has 64 hexadecimal digits")
}
