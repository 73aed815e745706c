//! `vlft show --mask`: the row token by token, what is trained on marked. Tokens come from the very
//! calls that make a sample, so what is marked here is what the loss sees.

use std::fmt;

use serde::Serialize;
use vlft_base::Result;
use vlft_base::format::{count, printable};
use vlft_dataset::record::Record;

use super::{Shown, ShownImage};
use crate::labels;
use crate::processor::Processor;
use crate::tokenizer::IMAGE_PAD;

/// A stretch of the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    Text(TextPiece),
    Image(ImagePiece),
}

/// A token; or several that share a character, whose bytes they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TextPiece {
    /// Where it stands in the row, from 0.
    pub at: usize,
    pub ids: Vec<u32>,
    pub text: String,
    pub trained: bool,
}

/// All tokens of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImagePiece {
    /// Where the first stands in the row, from 0.
    pub at: usize,
    /// Index into [`Shown::images`].
    pub image: usize,
    pub tokens: usize,
}

/// The row of a record.
pub(super) fn pieces(
    processor: &Processor,
    record: &Record,
    images: &[ShownImage],
) -> Result<Vec<Piece>> {
    let conversation = processor.conversation(record)?;
    let tokens = processor.encode(&conversation.text)?;
    let trained = labels::trained_tokens(&tokens, &conversation.trained, record)?;
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut at, mut end, mut image) = (0, 0, 0);
    for ((&id, span), &trained) in tokens.ids.iter().zip(&tokens.spans).zip(&trained) {
        // The first token of a row is never predicted.
        let trained = trained && at > 0;
        if conversation.text.get(span.clone()) == Some(IMAGE_PAD) {
            let tokens = images.get(image).and_then(|i| i.tokens).unwrap_or_default();
            pieces.push(Piece::Image(ImagePiece { at, image, tokens }));
            (at, end, image) = (at + tokens, span.end, image + 1);
            continue;
        }
        match pieces.last_mut() {
            // Bytes of a character that an earlier token has begun.
            Some(Piece::Text(last)) if span.end <= end && last.trained == trained => {
                last.ids.push(id);
            }
            _ => {
                // What a tokenizer leaves out of its spans belongs to the token behind it.
                let text = conversation.text.get(end..span.end.max(end));
                pieces.push(Piece::Text(TextPiece {
                    at,
                    ids: vec![id],
                    text: text.unwrap_or_default().to_owned(),
                    trained,
                }));
            }
        }
        (at, end) = (at + 1, end.max(span.end));
    }
    Ok(pieces)
}

/// How tokens are marked on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// By ANSI colours.
    Colour,
    /// `⟦so⟧`: for files, pipes and people who want no colour.
    Brackets,
}

/// A record with its mask, for a terminal.
pub struct Masked<'a> {
    pub shown: &'a Shown,
    pub marks: Marks,
}

impl Serialize for Masked<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown.serialize(serializer)
    }
}

/// Two shades, so that one sees where a token ends and the next begins.
const TRAINED: [&str; 2] = ["\x1b[30;42m", "\x1b[30;102m"];
const IMAGE: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.write_head(f)?;
        let mut shade = 0;
        for piece in &self.shown.mask {
            match piece {
                Piece::Image(image) => self.write_image(f, image)?,
                Piece::Text(text) if text.trained => {
                    self.write_trained(f, &text.text, TRAINED[shade % 2])?;
                    shade += 1;
                }
                Piece::Text(text) => f.write_str(&printable(&text.text))?,
            }
        }
        match self.marks {
            Marks::Colour => write!(f, "\n{}such{RESET} tokens are trained on", TRAINED[0]),
            Marks::Brackets => write!(
                f,
                "\n`⟦` and `⟧` stand around each token that is trained on"
            ),
        }
    }
}

impl Masked<'_> {
    fn write_image(&self, f: &mut fmt::Formatter<'_>, piece: &ImagePiece) -> fmt::Result {
        let tokens = count(piece.tokens as u64, "token");
        let text = match self.shown.images.get(piece.image) {
            Some(image) => format!("({tokens} of image {image})"),
            None => format!("({tokens} of an image)"),
        };
        match self.marks {
            Marks::Colour => write!(f, "{IMAGE}{text}{RESET}"),
            Marks::Brackets => f.write_str(&text),
        }
    }

    /// A line end is drawn, or nobody would see that it is trained on; a colour stops before it, or
    /// terminals would fill the line.
    fn write_trained(&self, f: &mut fmt::Formatter<'_>, text: &str, colour: &str) -> fmt::Result {
        let (open, close) = match self.marks {
            Marks::Colour => (colour, RESET),
            Marks::Brackets => ("⟦", "⟧"),
        };
        for line in printable(text).split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => writeln!(f, "{open}{line}⏎{close}")?,
                None => write!(f, "{open}{line}{close}")?,
            }
        }
        Ok(())
    }
}
