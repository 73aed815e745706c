//! How many tokens a conversation has, for those who need the number and not the tokens. The text is
//! taken apart at the structural tokens; pieces that are trained on are tokenized with their places,
//! as in training, and all others (the prompt, the same in most records) are counted once and
//! remembered.
//!
//! The slow twin is [`Tokenizer::encode`] of the whole text, which is also what is done where a
//! tokenizer does not keep the pieces apart. A test compares them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::RwLock;

use vlft_base::Result;
use vlft_dataset::record::Record;

use crate::labels::{Conversation, trained_tokens};
use crate::tokenizer::{Encoded, STRUCTURAL, Tokenizer};

/// Pieces that were counted before.
#[derive(Default)]
pub(crate) struct Memo(RwLock<HashMap<Box<str>, usize>>);

/// More different prompts than this are counted anew every time.
const MOST_PIECES: usize = 4096;

impl Memo {
    /// All tokens of the conversation, each image one; and those that are trained on and predicted
    /// (the first token of a row never is).
    pub(crate) fn count(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
        record: &Record,
    ) -> Result<(usize, usize)> {
        let Conversation { text, trained } = conversation;
        if !tokenizer.splits {
            return count_whole(tokenizer, conversation, record);
        }
        let (mut all, mut supervised) = (0, 0);
        for piece in pieces(text) {
            let is_trained = trained
                .iter()
                .any(|range| range.start < piece.end && piece.start < range.end);
            if !is_trained {
                all += self.remembered(tokenizer, &text[piece])?;
                continue;
            }
            let mut tokens = tokenizer.encode(&text[piece.clone()])?;
            for span in &mut tokens.spans {
                *span = span.start + piece.start..span.end + piece.start;
            }
            let first = usize::from(all == 0);
            supervised += count_trained(&tokens, trained, record, first)?;
            all += tokens.ids.len();
        }
        Ok((all, supervised))
    }

    fn remembered(&self, tokenizer: &Tokenizer, piece: &str) -> Result<usize> {
        let known = self.0.read().ok().and_then(|memo| memo.get(piece).copied());
        if let Some(known) = known {
            return Ok(known);
        }
        let count = tokenizer.count(piece)?;
        if let Ok(mut memo) = self.0.write()
            && memo.len() < MOST_PIECES
        {
            memo.insert(piece.into(), count);
        }
        Ok(count)
    }
}

pub(crate) fn count_whole(
    tokenizer: &Tokenizer,
    conversation: &Conversation,
    record: &Record,
) -> Result<(usize, usize)> {
    let tokens = tokenizer.encode(&conversation.text)?;
    let supervised = count_trained(&tokens, &conversation.trained, record, 1)?;
    Ok((tokens.ids.len(), supervised))
}

fn count_trained(
    tokens: &Encoded,
    trained: &[Range<usize>],
    record: &Record,
    skip: usize,
) -> Result<usize> {
    let trained = trained_tokens(tokens, trained, record)?;
    Ok(trained.iter().skip(skip).filter(|t| **t).count())
}

/// The structural tokens of a text and what stands between them, in order.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(found) = text[at..].find("<|") {
        let start = at + found;
        let token = STRUCTURAL
            .iter()
            .find(|token| text[start..].starts_with(**token));
        let Some(token) = token else {
            at = start + 2;
            continue;
        };
        if start > begin {
            pieces.push(begin..start);
        }
        begin = start + token.len();
        pieces.push(start..begin);
        at = begin;
    }
    if begin < text.len() {
        pieces.push(begin..text.len());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_at_its_structure_only() {
        let text = "<|im_start|>user\na <|x|> <|<|im_end|>\n";
        let cut: Vec<&str> = pieces(text).into_iter().map(|piece| &text[piece]).collect();
        assert_eq!(
            cut,
            ["<|im_start|>", "user\na <|x|> <|", "<|im_end|>", "\n"]
        );
        assert!(pieces("").is_empty());
    }
}
