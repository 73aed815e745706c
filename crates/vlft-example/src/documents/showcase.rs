//! The picture of the README: one scanned page beside the answer that belongs to it.

use serde_json::Value;

use super::file_names::Names;
use super::{Document, LOOKS, Options, labels};
use crate::dice::Dice;
use crate::page::raster::{self, Bitmap};
use crate::page::scan::{Scanner, encode, picture};
use crate::page::{BLACK, Font, Ink, Page, Style, Turn};

/// A scan in colour, with a stamp.
const DOCUMENT: usize = 34;
const DPI: i64 = 84;
const MARGIN: u32 = 24;
/// Width of the answer's side, in tenths of a point.
const ANSWER_WIDTH: i32 = 4700;

/// A JPEG file.
pub fn showcase() -> Vec<u8> {
    let seed = Options::default().seed;
    let document = Document::draw(DOCUMENT, seed, &mut Names::default());
    let scanner = Scanner {
        dpi: DPI,
        quality: 78,
        colour: true,
        worn: true,
    };
    let mut dice = Dice::new(seed, LOOKS);
    let page = picture(&document.pages[0], &scanner, &mut dice);
    let height = page.height as i32 * 720 / DPI as i32;
    let answer = answer(&labels::answer(&document.bill), height);
    let answer = raster::draw(&answer, DPI, Turn::NONE);

    let width = page.width + answer.width + 3 * MARGIN;
    let mut sheet = Bitmap::new(width, page.height + 2 * MARGIN, Ink(214, 218, 224));
    sheet.paste(&page, MARGIN, MARGIN);
    sheet.paste(&answer, page.width + 2 * MARGIN, MARGIN);
    encode(&sheet, &scanner)
}

/// The answer, indented, keys in one ink and values in another.
fn answer(answer: &Value, height: i32) -> Page {
    let key = Style::new(Font::Mono, 98).ink(Ink(90, 96, 110));
    let value = Style::new(Font::MonoBold, 98).ink(Ink(16, 78, 160));
    let mut page = Page::new((ANSWER_WIDTH, height));
    page.text(
        300,
        480,
        Style::new(Font::SansBold, 130),
        "The answer it is trained to give",
    );
    let text = serde_json::to_string_pretty(answer).expect("plain JSON values");
    let mut y = 800;
    for line in text.lines() {
        let (name, rest) = line.split_at(line.find(": ").map_or(line.len(), |at| at + 2));
        let ink = if rest.is_empty() { key.ink(BLACK) } else { key };
        page.text(300, y, ink, name);
        page.text(300 + key.width(name), y, value, rest);
        y += 150;
    }
    page
}
