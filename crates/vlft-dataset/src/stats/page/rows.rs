//! The records of the page, as `page.js` reads them: lists instead of objects where there are many.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use vlft_base::Result;

use super::judge::{Judged, Level};
use crate::image_path::{Relative, base_of};
use crate::jsonl::{self, Lines, shown};
use crate::record::Role;
use crate::stats::{Dataset, Dpi, Image};

pub(super) struct Gathered {
    pub(super) rules: Vec<RuleRow>,
    pub(super) prompts: Vec<String>,
    pub(super) images: Vec<ImageRow>,
    pub(super) rows: Vec<Row>,
}

/// (id, level, meaning)
#[derive(Serialize)]
pub(super) struct RuleRow(&'static str, u8, &'static str);

/// (path, width, height, bytes, dpi, where that is from, thumbnail, link)
#[derive(Serialize)]
pub(super) struct ImageRow(
    String,
    u32,
    u32,
    u64,
    Option<f64>,
    &'static str,
    Option<u32>,
    Option<String>,
);

#[derive(Serialize)]
pub(super) struct Row {
    line: u64,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
    /// Into the prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<u32>,
    answer: String,
    /// Characters that were left out of `answer`.
    #[serde(skip_serializing_if = "is_zero")]
    cut: usize,
    /// Into the images.
    images: Vec<u32>,
    #[serde(skip_serializing_if = "is_zero_u32")]
    unreadable: u32,
    /// (all, image, trained)
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<(u64, u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dpi: Option<f64>,
    chars: u64,
    filled: (u32, u32),
    /// (into the rules, message, hint)
    marks: Vec<(u32, String, Option<String>)>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

/// A longer answer, prompt or broken line is shown by its beginning, and says so.
const MOST_CHARS: usize = 8000;

/// Reads the texts of the judged records; rows come out in the order of `judged`. `out` is the
/// folder of the page.
pub(super) fn gather(
    dataset: &Dataset,
    judged: &[Judged],
    file: &Path,
    out: &Path,
    thumbnails: &HashMap<u32, u32>,
) -> Result<Gathered> {
    let mut texts = read_texts(judged, file)?;
    let mut links = Links::from(out);
    let mut gathered = Gathered {
        rules: Vec::new(),
        prompts: Vec::new(),
        images: Vec::new(),
        rows: Vec::new(),
    };
    let mut rules: HashMap<&'static str, u32> = HashMap::new();
    let mut images: HashMap<u32, u32> = HashMap::new();
    for judged in judged {
        let text = texts.texts.remove(&judged.line).unwrap_or_default();
        let kept = judged.record.map(|index| &dataset.records[index]);
        let marks = judged.marks.iter().map(|mark| {
            let next = gathered.rules.len() as u32;
            let rule = *rules.entry(mark.rule).or_insert(next);
            if rule == next {
                let level = match mark.level {
                    Level::Error => 0,
                    Level::Warning => 1,
                    Level::Note => 2,
                };
                gathered.rules.push(RuleRow(mark.rule, level, mark.meaning));
            }
            (rule, mark.message.clone(), mark.hint.clone())
        });
        let marks = marks.collect();
        let shown_images = kept
            .map_or(&[][..], |kept| &kept.images)
            .iter()
            .map(|index| {
                let next = gathered.images.len() as u32;
                let place = *images.entry(*index).or_insert(next);
                if place == next {
                    let image = &dataset.images[*index as usize];
                    let thumbnail = thumbnails.get(index).copied();
                    let row = image_row(image, thumbnail, &mut links);
                    gathered.images.push(row);
                }
                place
            });
        let images = shown_images.collect();
        gathered.rows.push(Row {
            line: judged.line,
            id: text.id,
            document: text.document,
            prompt: text.prompt,
            answer: text.answer,
            cut: text.cut,
            images,
            unreadable: kept.map_or(0, |kept| kept.unreadable_images),
            tokens: kept
                .and_then(|kept| kept.tokens)
                .map(|t| (t.total, t.image, t.supervised)),
            dpi: judged.dpi.map(|dpi| (dpi * 10.0).round() / 10.0),
            chars: kept.map_or(0, |kept| kept.target_chars),
            filled: kept.map_or((0, 0), |kept| (kept.filled.filled, kept.filled.of)),
            marks,
        });
    }
    gathered.prompts = texts.prompts;
    Ok(gathered)
}

fn image_row(image: &Image, thumbnail: Option<u32>, links: &mut Links) -> ImageRow {
    let (dpi, from) = match image.dpi {
        Dpi::Manifest(dpi) => (Some(dpi), "manifest"),
        Dpi::Assumed(sheet, dpi) => (Some(dpi), sheet.name()),
        Dpi::Unknown => (None, ""),
    };
    let (width, height) = image.head.size;
    ImageRow(
        shown(&image.path),
        width,
        height,
        image.head.bytes,
        dpi.map(|dpi| (dpi * 10.0).round() / 10.0),
        from,
        thumbnail,
        links.to(&image.path),
    )
}

/// The way from the page to an image. Its folder may not be there yet; then it is the way from the
/// nearest one above that is, with as many steps up.
struct Links {
    relative: Option<Relative>,
    up: String,
}

impl Links {
    fn from(folder: &Path) -> Self {
        let mut there = folder;
        let mut up = String::new();
        while !there.is_dir() && there != Path::new("") {
            there = base_of(there);
            up += "../";
            if there == Path::new(".") {
                break;
            }
        }
        Self {
            relative: Relative::to(there).ok(),
            up,
        }
    }

    fn to(&mut self, image: &Path) -> Option<String> {
        let path = self.relative.as_mut()?.path(image).ok()?;
        Some(format!("{}{path}", self.up))
    }
}

#[derive(Default)]
struct Text {
    id: String,
    document: Option<String>,
    prompt: Option<u32>,
    answer: String,
    cut: usize,
}

struct Texts {
    texts: HashMap<u64, Text>,
    prompts: Vec<String>,
}

fn read_texts(judged: &[Judged], file: &Path) -> Result<Texts> {
    let wanted: HashMap<u64, bool> = judged
        .iter()
        .map(|judged| (judged.line, judged.record.is_some()))
        .collect();
    let mut texts = Texts {
        texts: HashMap::new(),
        prompts: Vec::new(),
    };
    let mut known: HashMap<String, u32> = HashMap::new();
    for line in Lines::open(file)? {
        // A line that is no text has nothing to show but its problem.
        let Ok(line) = line? else { continue };
        let Some(is_record) = wanted.get(&line.number) else {
            continue;
        };
        let mut text = Text::default();
        match jsonl::parse(&line.text, "", line.number) {
            Ok(record) if *is_record => {
                let of = |keep: &dyn Fn(Role) -> bool| {
                    let messages = record.messages.iter().filter(|m| keep(m.role));
                    messages.map(|m| m.text()).collect::<Vec<_>>().join("\n\n")
                };
                let (prompt, _) = beginning(&of(&|role| role != Role::Assistant));
                let next = texts.prompts.len() as u32;
                let place = *known.entry(prompt.clone()).or_insert(next);
                if place == next {
                    texts.prompts.push(prompt);
                }
                text.prompt = Some(place);
                (text.answer, text.cut) = beginning(&of(&|role| role == Role::Assistant));
                text.document = record.document().map(str::to_owned);
                text.id = record.id;
            }
            _ => (text.answer, text.cut) = beginning(&line.text),
        }
        texts.texts.insert(line.number, text);
    }
    Ok(texts)
}

/// At most [`MOST_CHARS`], and how many are left out.
fn beginning(text: &str) -> (String, usize) {
    match text.char_indices().nth(MOST_CHARS) {
        None => (text.to_owned(), 0),
        Some((end, _)) => (text[..end].to_owned(), text[end..].chars().count()),
    }
}
