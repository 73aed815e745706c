//! Records to measure with: pages of a given size, prompts and answers of a given number of tokens, all
//! from a seed. They mean nothing; what a step costs depends on sizes alone.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use vlft_base::digest::sha256_file;
use vlft_base::output::{Existing, PartialDir, cannot, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_dataset::jsonl::Writer;
use vlft_dataset::record::{Message, Part, Record, Role};
use vlft_dataset::token_counter::TokenCounter;
use vlft_processor::processor::{Options, Processor};

/// What the records are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub records: usize,
    /// Of each record; 0: text alone.
    pub images: usize,
    /// Pages are a little larger, so that the model sees them at this size.
    pub max_pixels: u64,
    /// Of the user's text, without what the template puts around it.
    pub prompt_tokens: usize,
    /// Of the answer, without its end.
    pub answer_tokens: usize,
    pub seed: u64,
}

const RECORDS: &str = "train.jsonl";
/// What the folder was made from.
const MARK: &str = "bench-data.json";

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    shape: Shape,
    /// SHA-256 of `tokenizer.json`: tokens are counted with it.
    tokenizer: String,
}

/// Makes `dir` with the records in it, or leaves it if the same ones are there. Returns their file.
pub fn write(dir: &Path, model: &Path, shape: &Shape) -> Result<PathBuf> {
    let processor = Processor::from_dir(
        model,
        &Options {
            min_pixels: None,
            max_pixels: (shape.images > 0).then_some(shape.max_pixels),
        },
    )?;
    let tokenizer = model.join("tokenizer.json");
    let mark = Mark {
        shape: *shape,
        tokenizer: sha256_file(&tokenizer).map_err(|e| cannot("read", &tokenizer, e))?,
    };
    let there = fs::read_to_string(dir.join(MARK));
    let there = there.ok().and_then(|text| serde_json::from_str(&text).ok());
    if there.as_ref() == Some(&mark) {
        return Ok(dir.join(RECORDS));
    }
    let partial = PartialDir::create(dir, Existing::Replace)?;
    let root = partial.path();
    let mut writer = Writer::create(&root.join(RECORDS), Existing::Refuse)?;
    for number in 0..shape.records {
        let mut rng = ChaCha8Rng::seed_from_u64(shape.seed);
        rng.set_stream(number as u64);
        let mut images = Vec::new();
        for image in 0..shape.images {
            let name = format!("page-{number:04}-{image}.jpg");
            let path = root.join(&name);
            page(shape.max_pixels, &mut rng).save(&path).map_err(|e| {
                Diagnostic::error("cannot write a page")
                    .at(&path)
                    .caused_by(e)
            })?;
            images.push(name);
        }
        let prompt = text(shape.prompt_tokens, &processor, &mut rng)?;
        let answer = text(shape.answer_tokens, &processor, &mut rng)?;
        writer.write(&record(number, images, prompt, answer))?;
    }
    writer.commit()?;
    let json = serde_json::to_string_pretty(&mark).expect("plain values") + "\n";
    write_atomic(&root.join(MARK), json.as_bytes())?;
    partial.commit()?;
    Ok(dir.join(RECORDS))
}

fn record(number: usize, images: Vec<String>, prompt: String, answer: String) -> Record {
    let mut content: Vec<Part> = images.into_iter().map(Part::Image).collect();
    content.push(Part::Text(prompt));
    Record {
        id: format!("bench-{number:04}"),
        messages: vec![
            Message {
                role: Role::User,
                content,
            },
            Message {
                role: Role::Assistant,
                content: vec![Part::Text(answer)],
            },
        ],
        meta: None,
    }
}

/// Names that a form may have.
const WORDS: [&str; 12] = [
    "vessel",
    "port of loading",
    "consignee",
    "shipper",
    "container",
    "seal number",
    "gross weight",
    "notify party",
    "freight",
    "voyage",
    "packages",
    "measurement",
];

/// Text of exactly so many tokens: as many words as fit, and then digits, each of which is a token by
/// itself.
fn text(tokens: usize, processor: &Processor, rng: &mut ChaCha8Rng) -> Result<String> {
    let in_record = |text: &str| -> Result<usize> {
        let record = record(0, Vec::new(), text.to_owned(), "1".to_owned());
        Ok(processor.count(&record, Path::new(""))?.total)
    };
    // A digit is a token.
    let around = in_record("1")?.saturating_sub(1);
    let count = |text: &str| -> Result<usize> {
        match text.is_empty() {
            true => Ok(0),
            false => Ok(in_record(text)?.saturating_sub(around)),
        }
    };
    let words: Vec<&str> = (0..tokens)
        .map(|_| WORDS[rng.next_u32() as usize % WORDS.len()])
        .collect();
    // Every word has a token at least, so all of them are enough.
    let (mut fits, mut too_many) = (0, words.len() + 1);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        match count(&words[..middle].join(" "))? <= tokens {
            true => fits = middle,
            false => too_many = middle,
        }
    }
    let mut text = words[..fits].join(" ");
    for _ in count(&text)?..tokens {
        text.push(char::from(b'0' + (rng.next_u32() % 10) as u8));
    }
    let made = count(&text)?;
    if made != tokens {
        return Err(
            Diagnostic::error("this tokenizer makes no text of a given length")
                .expected(format!("{tokens} tokens"))
                .found(made.to_string())
                .hint("measure with records of your own: `--config`"),
        );
    }
    Ok(text)
}

/// A page of A4's shape with lines of dark marks on it: as much for a decoder to do as a scan of print.
fn page(max_pixels: u64, rng: &mut ChaCha8Rng) -> RgbImage {
    let area = 1.3 * max_pixels as f64;
    let width = (area / std::f64::consts::SQRT_2).sqrt().ceil() as u32;
    let height = (f64::from(width) * std::f64::consts::SQRT_2).ceil() as u32;
    let paper = 236 + (rng.next_u32() % 20) as u8;
    let mut page = RgbImage::from_pixel(width, height, Rgb([paper; 3]));
    let (margin, line, letter) = (width / 12, height / 70 + 1, width / 110 + 1);
    let mut y = margin;
    while y + line < height.saturating_sub(margin) {
        let end = margin + (width - 2 * margin) * (30 + rng.next_u32() % 71) / 100;
        let mut x = margin;
        while x + letter < end {
            let ink = rng.next_u32();
            // A word ends now and then.
            if !ink.is_multiple_of(6) {
                mark(&mut page, [x, y], [letter * 3 / 4, line * 3 / 5], ink);
            }
            x += letter;
        }
        y += line;
    }
    page
}

/// A letter's worth of strokes: which ones, the bits of `ink` say.
fn mark(page: &mut RgbImage, [x, y]: [u32; 2], [width, height]: [u32; 2], ink: u32) {
    let dark = Rgb([(ink >> 24) as u8 / 4; 3]);
    for row in 0..height {
        for column in 0..width {
            let stroke = (3 * row / height.max(1)) * 3 + 3 * column / width.max(1);
            if ink >> (8 + stroke) & 1 == 1 && x + column < page.width() && y + row < page.height()
            {
                page.put_pixel(x + column, y + row, dark);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vlft_example::tiny_model;

    use super::*;

    #[test]
    fn records_have_the_tokens_that_were_asked_for_and_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        fs::create_dir(&model).unwrap();
        tiny_model::write_files(&model, &tiny_model::Size::default()).unwrap();
        let shape = Shape {
            records: 3,
            images: 1,
            max_pixels: 60_000,
            prompt_tokens: 70,
            answer_tokens: 41,
            seed: 1,
        };
        let folder = dir.path().join("data");
        let path = write(&folder, &model, &shape).unwrap();
        let options = Options {
            min_pixels: None,
            max_pixels: Some(shape.max_pixels),
        };
        let processor = Processor::from_dir(&model, &options).unwrap();
        let records = vlft_dataset::jsonl::load_for_training(&path).unwrap();
        assert_eq!(records.len(), 3);
        let mut totals = Vec::new();
        for numbered in &records {
            let count = processor.count(&numbered.record, &folder).unwrap();
            // The answer's end is trained too.
            assert_eq!(count.supervised, 42);
            assert!((50..=58).contains(&count.image), "{}", count.image);
            totals.push(count.total);
        }
        assert!(totals.iter().all(|total| *total == totals[0]), "{totals:?}");
        assert_ne!(records[0].record.messages, records[1].record.messages);

        let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let before = written(&path);
        write(&folder, &model, &shape).unwrap();
        assert_eq!(written(&path), before);
        let other = Shape { seed: 2, ..shape };
        write(&folder, &model, &other).unwrap();
        let changed = vlft_dataset::jsonl::load_for_training(&path).unwrap();
        assert_ne!(changed[0].record.messages, records[0].record.messages);
    }
}
