//! `vlft show`: one record as the model sees it. The rendered conversation, what is trained on
//! marked in the margin, the thousands of image tokens as a number; or (`mask`) token by token, also
//! as a page (`page`).

mod mask;
mod page;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::format::{count, grouped, printable};
use vlft_base::{Diagnostic, Result, did_you_mean};
use vlft_dataset::jsonl::{self, Lines};
use vlft_dataset::record::{Meta, Part, Record, Role};
use vlft_dataset::token_counter::TokenCounter;

use crate::image_file;
use crate::processor::{Options as Limits, Processor, image_path};
use crate::tokenizer::IMAGE_PAD;

pub use mask::{Marks, Masked, Piece};
pub use page::{Picture, page};

/// What to show, and with which model's eyes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The JSONL file.
    pub file: PathBuf,
    /// An id, or `:N` for line N; `None` for the first record.
    pub which: Option<String>,
    /// A model directory; without one there are no tokens to show.
    pub model: Option<PathBuf>,
    pub limits: Limits,
    /// How much more than the conversation; for all of it a model is needed.
    pub detail: Detail,
}

/// What is shown beside the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    Conversation,
    /// .. and every token.
    Mask,
    /// .. and the images as the model gets them, for [`page()`].
    Pictures,
}

/// One record, ready to print.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    pub file: String,
    /// 1-based.
    pub line: u64,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    pub images: Vec<ShownImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<ShownTokens>,
    /// The conversation, cut where training starts and stops.
    pub text: Vec<Span>,
    /// The row token by token, if it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<Piece>,
    /// The images after the resize, if they were asked for.
    #[serde(skip)]
    pub pictures: Vec<Picture>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownImage {
    pub path: String,
    /// (width, height) on disk; `None` if the file cannot be read, which only happens without a model.
    pub original: Option<(u32, u32)>,
    /// (width, height) as the model sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resized: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownTokens {
    pub total: usize,
    pub image: usize,
    pub supervised: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    pub text: String,
    pub trained: bool,
}

/// Finds the record and, with a model, renders and counts it.
pub fn show(options: &Options) -> Result<Shown> {
    let processor = match &options.model {
        Some(model) => Some(Processor::from_dir(model, &options.limits)?),
        None => None,
    };
    let (line, record) = find(&options.file, options.which.as_deref())?;
    let base = options.file.parent().unwrap_or(Path::new(""));
    let (images, tokens, text) = match &processor {
        Some(processor) => {
            seen_by(processor, &record, base).map_err(|e| e.at_line(&options.file, line))?
        }
        None => as_written(&record, base),
    };
    let mut shown = Shown {
        file: jsonl::shown(&options.file),
        line,
        id: record.id.clone(),
        meta: record.meta.clone(),
        images,
        tokens,
        text,
        mask: Vec::new(),
        pictures: Vec::new(),
    };
    if let Some(processor) = &processor {
        if options.detail >= Detail::Mask {
            shown.mask = mask::pieces(processor, &record, &shown.images)?;
        }
        if options.detail >= Detail::Pictures {
            let paths = record.images().map(|image| image_path(base, image));
            shown.pictures = paths
                .map(|path| processor.picture(&path))
                .collect::<Result<_>>()?;
        }
    }
    Ok(shown)
}

/// The record and its line. Other lines may be broken; they are not what was asked for.
fn find(path: &Path, which: Option<&str>) -> Result<(u64, Record)> {
    let file = jsonl::shown(path);
    let wanted_line = which.and_then(|which| which.strip_prefix(':')?.parse::<u64>().ok());
    let (mut ids, mut n_broken) = (Vec::new(), 0);
    for line in Lines::open(path)? {
        let is_wanted = |number| wanted_line == Some(number) || which.is_none();
        let line = match line? {
            Ok(line) if line.is_empty() => continue,
            Ok(line) => line,
            Err(problem) if is_wanted(problem.line) => return Err(problem.into()),
            Err(_) => {
                n_broken += 1;
                continue;
            }
        };
        let at_wanted_line = is_wanted(line.number);
        match jsonl::parse(&line.text, &file, line.number) {
            Ok(record) if at_wanted_line || which == Some(record.id.as_str()) => {
                return Ok((line.number, record));
            }
            Ok(record) => ids.push(record.id),
            Err(problems) if at_wanted_line => {
                let problems = problems.into_iter().map(Diagnostic::from);
                return Err(
                    Diagnostic::all(problems).expect("a line that was refused has a problem")
                );
            }
            Err(_) => n_broken += 1,
        }
    }
    let Some(which) = which else {
        return Err(jsonl::no_records(path));
    };
    let mut missing = Diagnostic::error(format!("no record `{which}`")).at(path);
    if n_broken > 0 {
        let lines = count(n_broken, "broken line");
        missing = missing.caused_by(format!("{lines} passed over; `vlft validate` names them"));
    }
    Err(match did_you_mean(which, ids.iter().map(String::as_str)) {
        Some(id) => missing.hint(format!("did you mean `{id}`?")),
        None => missing.hint("name an id, or a line as `:12`"),
    })
}

type Content = (Vec<ShownImage>, Option<ShownTokens>, Vec<Span>);

fn seen_by(processor: &Processor, record: &Record, base: &Path) -> Result<Content> {
    // The whole sample and not only its count: this also finds images that do not decode.
    let sample = processor.sample(record, base)?;
    let tokens = ShownTokens {
        total: sample.len(),
        image: sample
            .mm_token_type_ids
            .iter()
            .filter(|kind| **kind == 1)
            .count(),
        supervised: sample.supervised(),
    };
    let sizes = processor.count(record, base)?.images;
    let images: Vec<ShownImage> = record
        .images()
        .zip(sizes)
        .map(|(path, size)| ShownImage {
            path: path.to_owned(),
            original: Some(size.original),
            resized: Some(size.resized),
            tokens: Some(processor.image_tokens(size.resized)),
        })
        .collect();
    let conversation = processor.conversation(record)?;
    let mut unseen = images.iter();
    let mut spans = Vec::new();
    let mut at = 0;
    for range in conversation.trained {
        let before = with_counts(&conversation.text[at..range.start], &mut unseen);
        at = range.end;
        spans.push(Span {
            text: before,
            trained: false,
        });
        spans.push(Span {
            text: conversation.text[range].to_owned(),
            trained: true,
        });
    }
    spans.push(Span {
        text: with_counts(&conversation.text[at..], &mut unseen),
        trained: false,
    });
    Ok((images, Some(tokens), spans))
}

/// Says after each placeholder how many tokens it becomes, and of which image.
fn with_counts<'a>(text: &str, images: &mut impl Iterator<Item = &'a ShownImage>) -> String {
    let mut out = String::new();
    for (i, piece) in text.split(IMAGE_PAD).enumerate() {
        if i > 0 {
            out.push_str(IMAGE_PAD);
            if let Some(image) = images.next() {
                let tokens = image.tokens.unwrap_or_default() as u64;
                out.push_str(&format!(" x {} (image {image})", grouped(tokens)));
            }
        }
        out.push_str(piece);
    }
    out
}

fn as_written(record: &Record, base: &Path) -> Content {
    let images = record
        .images()
        .map(|path| ShownImage {
            path: path.to_owned(),
            original: image_file::size(&image_path(base, path)).ok(),
            resized: None,
            tokens: None,
        })
        .collect::<Vec<_>>();
    let mut unseen = images.iter();
    let mut spans = Vec::new();
    for message in &record.messages {
        spans.push(Span {
            text: format!("{}:\n", message.role.as_str()),
            trained: false,
        });
        let trained = message.role == Role::Assistant;
        for part in &message.content {
            let text = match part {
                Part::Text(text) => format!("{text}\n"),
                Part::Image(_) => match unseen.next() {
                    Some(image) => format!("(image {image})\n"),
                    None => continue,
                },
            };
            spans.push(Span { text, trained });
        }
    }
    (images, None, spans)
}

/// `pages/1.png` 1240 x 1754 -> 992 x 1408
impl fmt::Display for ShownImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", printable(&self.path))?;
        match self.original {
            Some((width, height)) => write!(f, " {width} x {height}")?,
            None => write!(f, " (cannot be read)")?,
        }
        match self.resized {
            Some((width, height)) => write!(f, " -> {width} x {height}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        write_margined(f, &self.text)?;
        writeln!(f, "\n`>` marks what is trained on")
    }
}

impl Shown {
    /// All that is said before the conversation.
    fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "record   `{}`, {}:{}",
            printable(&self.id),
            self.file,
            self.line
        )?;
        if let Some(meta) = &self.meta {
            let json = serde_json::to_string(meta).map_err(|_| fmt::Error)?;
            writeln!(f, "meta     {}", printable(&json))?;
        }
        for (i, image) in self.images.iter().enumerate() {
            let head = if i == 0 { "images" } else { "" };
            write!(f, "{head:9}{image}")?;
            match image.tokens {
                Some(tokens) => writeln!(f, ", {}", count(tokens as u64, "token"))?,
                None => writeln!(f)?,
            }
        }
        let weight = self.meta.as_ref().and_then(|meta| meta.get("weight"));
        if let Some(weight) = weight {
            writeln!(f, "weight   {weight}")?;
        }
        if let Some(tokens) = &self.tokens {
            let number = |n: usize| grouped(n as u64);
            writeln!(
                f,
                "tokens   {}: {} of images, {} of text; {} trained on",
                number(tokens.total),
                number(tokens.image),
                number(tokens.total - tokens.image),
                number(tokens.supervised)
            )?;
        }
        writeln!(f)
    }
}

/// Each line behind a margin. A line that training divides is shown as two, the first ending in ` \`.
fn write_margined(f: &mut fmt::Formatter<'_>, spans: &[Span]) -> fmt::Result {
    let margin = |span: &Span| if span.trained { "  > " } else { "    " };
    let mut at_line_start = true;
    for span in spans.iter().filter(|span| !span.text.is_empty()) {
        if !at_line_start && !span.text.starts_with('\n') {
            writeln!(f, " \\")?;
            at_line_start = true;
        }
        for line in span.text.split_inclusive('\n') {
            if at_line_start && line != "\n" {
                f.write_str(margin(span))?;
            }
            at_line_start = line.ends_with('\n');
            f.write_str(&printable(line))?;
        }
    }
    if at_line_start { Ok(()) } else { writeln!(f) }
}

#[cfg(test)]
mod tests;
