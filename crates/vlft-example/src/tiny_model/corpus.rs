//! What the tiny tokenizer learns its merges from: answers like those of the example (of other
//! seeds), and the words of the prompts.

use crate::documents::{PROMPT, answers};

/// Not the seed of the committed set: a tokenizer must not know a document by heart.
const SEED: u64 = 90_210;
const ANSWERS: usize = 400;

/// Of the other small tasks.
const MORE: &str = "What is in the picture? Which digit is it? Which colour is it? {\"digit\":7} {\"colour\":\"red\"} \
    green blue yellow black purple. Extract the fields of this document as JSON. You are a helpful assistant.";

pub(super) fn texts() -> Vec<String> {
    let mut texts = answers(SEED, ANSWERS);
    // Prompts are rare among the texts; without weight their words would stay in letters.
    texts.extend(std::iter::repeat_n(format!("{PROMPT} {MORE}"), 20));
    texts
}
