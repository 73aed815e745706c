//! A task that can be solved only by looking: the prompt never changes, and the answer is the digit
//! or the colour on a small picture. A tiny model learns it in seconds; with the pictures shuffled between
//! the records it must do worse, or it never looked.

use std::fs;
use std::path::Path;

use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use serde_json::json;
use vlft_base::output::{Existing, PartialDir, cannot};
use vlft_base::{Diagnostic, Result};

use crate::dice::Dice;
use crate::page::{Font, Ink, Page, Style, Turn, area, raster};

/// Pictures are 64 x 64 pixels: four image tokens, drawn at one pixel per point.
const SIDE: i32 = 640;
const DPI: i64 = 72;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A large digit, dark on light: `{"digit":7}`. Takes a tiny model about 1200 samples.
    Digit,
    /// A coloured square: `{"colour":"red"}`. Takes about 500.
    Colour,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub task: Task,
    /// Records in `train.jsonl` and in `val.jsonl`; every answer comes equally often, up to one.
    pub train: usize,
    pub val: usize,
    pub seed: u64,
    pub existing: Existing,
}

const COLOURS: [(&str, Ink); 6] = [
    ("red", Ink(215, 35, 35)),
    ("green", Ink(30, 150, 60)),
    ("blue", Ink(35, 70, 215)),
    ("yellow", Ink(240, 215, 30)),
    ("black", Ink(15, 15, 15)),
    ("purple", Ink(140, 40, 170)),
];

/// Writes `train.jsonl`, `val.jsonl` and `images/` into the new folder `out`.
///
/// # Errors
/// If `out` exists and may not be replaced, or cannot be written.
pub fn generate(options: &Options, out: &Path) -> Result<()> {
    let folder = PartialDir::create(out, options.existing)?;
    let images = folder.path().join("images");
    fs::create_dir(&images).map_err(|e| cannot("create", &images, e))?;
    let splits = [("train", options.train, 0), ("val", options.val, 1)];
    for (split, count, stream) in splits {
        let mut dice = Dice::new(options.seed, stream);
        let classes = match options.task {
            Task::Digit => 10,
            Task::Colour => COLOURS.len(),
        };
        let mut answers: Vec<usize> = (0..count).map(|i| i % classes).collect();
        dice.shuffle(&mut answers);
        let mut lines = String::new();
        for (i, class) in answers.into_iter().enumerate() {
            let name = format!("{split}-{i:04}.png");
            let (prompt, answer, page) = match options.task {
                Task::Digit => (
                    "Which digit is it?",
                    json!({ "digit": class }),
                    digit(class, &mut dice),
                ),
                Task::Colour => {
                    let (name, ink) = COLOURS[class];
                    (
                        "Which colour is it?",
                        json!({ "colour": name }),
                        square(ink, &mut dice),
                    )
                }
            };
            write_png(&page, &images.join(&name))?;
            let record = json!({
                "id": format!("{split}-{i:04}"),
                "messages": [
                    { "role": "user", "content": [
                        { "type": "image", "image": format!("images/{name}") },
                        { "type": "text", "text": prompt }
                    ] },
                    { "role": "assistant", "content": [
                        { "type": "text", "text": answer.to_string() }
                    ] }
                ]
            });
            lines.push_str(&record.to_string());
            lines.push('\n');
        }
        let file = folder.path().join(format!("{split}.jsonl"));
        fs::write(&file, lines).map_err(|e| cannot("write", &file, e))?;
    }
    folder.commit()
}

fn paper(dice: &mut Dice) -> Page {
    let mut page = Page::new((SIDE, SIDE));
    let shade = dice.between(225, 255) as u8;
    page.fill(area(0, 0, SIDE, SIDE), Ink(shade, shade, shade));
    page
}

fn digit(digit: usize, dice: &mut Dice) -> Page {
    let mut page = paper(dice);
    let dark = dice.between(0, 30) as u8;
    let size = dice.between(660, 700);
    let style = Style::new(Font::SansBold, size).ink(Ink(dark, dark, dark));
    let text = digit.to_string();
    // A capital's height is 0.72 of the size.
    let x = (SIDE - style.width(&text)) / 2 + dice.between(-10, 10);
    let y = SIDE / 2 + size * 36 / 100 + dice.between(-10, 10);
    page.text(x, y, style, &text);
    page
}

fn square(ink: Ink, dice: &mut Dice) -> Page {
    let mut page = paper(dice);
    let side = dice.between(300, 480);
    let (x, y) = (dice.between(0, SIDE - side), dice.between(0, SIDE - side));
    let mut vary = |value: u8| (i32::from(value) + dice.between(-15, 15)).clamp(0, 255) as u8;
    let ink = Ink(vary(ink.0), vary(ink.1), vary(ink.2));
    page.fill(area(x, y, side, side), ink);
    page
}

fn write_png(page: &Page, path: &Path) -> Result<()> {
    let bitmap = raster::draw(page, DPI, Turn::NONE);
    let samples: Vec<u8> = bitmap.pixels.into_iter().flatten().collect();
    let mut png = Vec::new();
    let colour = image::ExtendedColorType::Rgb8;
    PngEncoder::new(&mut png)
        .write_image(&samples, bitmap.width, bitmap.height, colour)
        .map_err(|e| {
            Diagnostic::error("cannot encode a picture")
                .at(path)
                .caused_by(e)
        })?;
    fs::write(path, png).map_err(|e| cannot("write", path, e))
}
