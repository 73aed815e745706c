//! What the tiny tokenizer learns its merges from: answers like those of the example (of other
//! seeds), and the words of the prompts.

use crate::documents::answers;

/// Not the seed of the committed set: a tokenizer must not know a document by heart.
const SEED: u64 = 90_210;
const ANSWERS: usize = 400;

const PROMPTS: &str = "You are given the pages of one bill of lading. Read them and answer with one JSON object and \
    nothing else. Use null for what the pages do not say. Keys: consignee_name, bl_number, port_of_loading, \
    port_of_discharge, vessel_name, detention_free_days, demurrage_free_days, combined_free_days, \
    containers (number, size, type). Extract the fields of this document as JSON. What is in the picture? \
    Which digit and which colour is it? {\"digit\":7,\"colour\":\"red\"} green blue yellow purple orange black white";

pub(super) fn texts() -> Vec<String> {
    let mut texts = answers(SEED, ANSWERS);
    // Prompts are rare among the texts; without weight their words would stay in letters.
    texts.extend(std::iter::repeat_n(PROMPTS.to_owned(), 20));
    texts
}
