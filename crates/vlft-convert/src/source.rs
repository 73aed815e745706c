//! The examples of a source in their order, a batch at a time, and what becomes of each: a sample, or
//! why there is none, and where it stands.

use std::path::{Path, PathBuf};

use parquet::record::Row;
use serde_json::Value;
use vlft_base::Result;
use vlft_dataset::image_path::base_of;
use vlft_dataset::json;
use vlft_dataset::jsonl::shown;

use crate::dataset_info::{self, Entry};
use crate::elements::{Element, Elements};
use crate::fields::Fallible;
use crate::format::Format;
use crate::formats::{
    alpaca, label_studio, llama_factory, olmocr, openai, parquet as hf, qwen, swift, vlft,
};
use crate::images::Finder;
use crate::rules::BAD_JSON;
use crate::sample::{Refusal, Sample};

/// One example as it was found, not looked at yet.
pub(crate) enum Raw {
    Json(Element),
    Row(u64, Row),
    Pair(PathBuf),
}

impl Raw {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        match self {
            Raw::Json(element) => element.text.as_ref().map_or(0, String::len),
            // Images, mostly; their sizes are not asked for.
            Raw::Row(..) => 1 << 20,
            Raw::Pair(_) => 1 << 16,
        }
    }
}

/// A sample or a refusal, and its place for people.
pub(crate) struct Found {
    pub(crate) place: String,
    /// The example's number, and which part of it when several are packed in one: for ids.
    pub(crate) number: String,
    pub(crate) sample: Fallible<Sample>,
}

/// Where examples come from.
pub(crate) enum Source {
    Json(Elements),
    Parquet {
        rows: hf::Rows,
        number: u64,
    },
    Pairs {
        rest: std::vec::IntoIter<PathBuf>,
        done: u64,
    },
}

impl Source {
    pub(crate) fn open(path: &Path, format: Format) -> Result<Self> {
        Ok(match format {
            Format::OlmOcr => Self::Pairs {
                rest: olmocr::pairs(path)?.into_iter(),
                done: 0,
            },
            Format::Trl | Format::TrlMessages => Self::Parquet {
                rows: hf::Rows::open(path)?,
                number: 0,
            },
            _ => Self::Json(Elements::open(path)?),
        })
    }

    fn next(&mut self) -> Result<Option<Raw>> {
        Ok(match self {
            Self::Json(elements) => elements.next()?.map(Raw::Json),
            Self::Pairs { rest, done } => {
                *done += 1;
                rest.next().map(Raw::Pair)
            }
            Self::Parquet { rows, number } => rows.next()?.map(|row| {
                *number += 1;
                Raw::Row(*number, row)
            }),
        })
    }

    /// How many bytes of `size` are done. Of rows and pairs it is a share of their number.
    pub(crate) fn position(&self, size: u64) -> u64 {
        let share = |done: u64, all: u64| {
            let part = u128::from(size) * u128::from(done) / u128::from(all.max(1));
            u64::try_from(part).unwrap_or(size)
        };
        let position = match self {
            Self::Json(elements) => elements.position(),
            Self::Pairs { rest, done } => share(*done, rest.len() as u64 + done),
            Self::Parquet { rows, number } => share(*number, rows.total()),
        };
        position.min(size)
    }

    /// At most `most` examples, and few when they are large. Empty at the end.
    pub(crate) fn batch(&mut self, most: usize) -> Result<Vec<Raw>> {
        const BATCH_BYTES: usize = 16 << 20;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most && bytes < BATCH_BYTES {
            let Some(raw) = self.next()? else { break };
            bytes += raw.bytes();
            batch.push(raw);
        }
        Ok(batch)
    }
}

/// What reading an example needs to know besides.
pub(crate) struct Reading {
    pub(crate) format: Format,
    file: PathBuf,
    shown: String,
    entry: Option<Entry>,
    prompt: Option<String>,
    drawn: olmocr::Drawn,
    finder: Finder,
}

impl Reading {
    pub(crate) fn new(
        file: &Path,
        format: Format,
        prompt: Option<String>,
        folders: &[PathBuf],
    ) -> Result<Self> {
        let entry = match format {
            Format::LlamaFactory | Format::Alpaca => dataset_info::entry_of(file)?,
            _ => None,
        };
        let drawn = match format {
            Format::OlmOcr => olmocr::Drawn::read(folders)?,
            _ => olmocr::Drawn::default(),
        };
        Ok(Self {
            format,
            file: file.to_path_buf(),
            shown: shown(file),
            entry: entry.map(|(_, entry)| entry),
            prompt,
            drawn,
            finder: Finder::new(source_base(file, format), folders),
        })
    }

    /// For bytes that are no file.
    pub(crate) fn of_bytes(format: Format) -> Self {
        Self {
            format,
            file: PathBuf::from("bytes"),
            shown: "bytes".to_owned(),
            entry: None,
            prompt: None,
            drawn: olmocr::Drawn::default(),
            finder: Finder::new(Path::new("."), &[]),
        }
    }

    pub(crate) fn samples(&self, raw: Raw) -> Vec<Found> {
        match raw {
            Raw::Json(element) => self.element(element),
            Raw::Row(number, row) => vec![Found {
                place: format!("{}, row {number}", self.shown),
                number: format!("{number:06}"),
                sample: hf::sample(row),
            }],
            Raw::Pair(file) => {
                let prompt = self.prompt.as_deref().unwrap_or(olmocr::PROMPT);
                vec![Found {
                    place: shown(&file),
                    number: shown(&file),
                    sample: olmocr::read(&self.file, &file, prompt, &self.drawn, &self.finder),
                }]
            }
        }
    }

    fn element(&self, element: Element) -> Vec<Found> {
        let number = element.number;
        let found = |at: String, sample| Found {
            place: self.place(&element, &sample),
            number: at,
            sample,
        };
        let text = match &element.text {
            Ok(text) => text,
            Err(refusal) => return vec![found(format!("{number:06}"), Err(refusal.clone()))],
        };
        if self.format == Format::Vlft {
            return vec![found(format!("{number:06}"), vlft::read(text))];
        }
        match (parse(text), self.format) {
            (Err(refusal), _) => vec![found(format!("{number:06}"), Err(refusal))],
            // Several examples that its trainer makes one sequence of; ours are packed by the trainer.
            (Ok(Value::Array(packed)), Format::Qwen) => packed
                .into_iter()
                .enumerate()
                .map(|(index, value)| {
                    let sample = self.read(value).map_err(|mut refusal| {
                        refusal.path.insert(0, index.into());
                        refusal
                    });
                    found(format!("{number:06}-{}", index + 1), sample)
                })
                .collect(),
            (Ok(value), _) => vec![found(format!("{number:06}"), self.read(value))],
        }
    }

    fn read(&self, value: Value) -> Fallible<Sample> {
        match self.format {
            Format::LlamaFactory => llama_factory::read(value, self.entry.as_ref()),
            Format::Alpaca => alpaca::read(value, self.entry.as_ref()),
            Format::Swift => swift::read(value),
            Format::Qwen => qwen::read(value),
            Format::OpenAi => openai::read(value),
            Format::LabelStudio => {
                let prompt = self.prompt.as_deref().unwrap_or(label_studio::PROMPT);
                label_studio::read(value, prompt, &self.finder)
            }
            Format::Vlft | Format::Trl | Format::TrlMessages | Format::OlmOcr => {
                unreachable!("these are not read from JSON values")
            }
        }
    }

    /// File, line and column, as exactly as they are known.
    fn place(&self, element: &Element, sample: &Fallible<Sample>) -> String {
        let (file, line) = (&self.shown, element.line);
        let (Err(refusal), Ok(text)) = (sample, &element.text) else {
            return format!("{file}:{line}");
        };
        if let Some(column) = refusal.column {
            return format!("{file}:{line}:{}", column + element.indent);
        }
        let offset = match refusal.path.is_empty() {
            true => None,
            false => json::offset_of(text, &refusal.path),
        };
        let Some(offset) = offset else {
            return format!("{file}:{line}");
        };
        let before = &text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let further = before.matches('\n').count() as u64;
        let indent = if further == 0 { element.indent } else { 0 };
        let column = before[start..].chars().count() as u64 + 1 + indent;
        format!("{file}:{}:{column}", line + further)
    }
}

/// The folder that relative paths of a source start from.
pub(crate) fn source_base(file: &Path, format: Format) -> &Path {
    match format {
        Format::OlmOcr => file,
        _ => base_of(file),
    }
}

fn parse(text: &str) -> Fallible<Value> {
    json::parse(text).map_err(|e| {
        let full = e.to_string();
        let message = full.split(" at line ").next().unwrap_or(&full);
        let mut refusal = Refusal::new(BAD_JSON, format!("not valid JSON: {message}"));
        // Only for one line: a column of another line would mislead.
        if e.line() == 1 {
            let first = text.lines().next().unwrap_or_default();
            refusal.column = Some(json::error_column(first, &e));
        }
        refusal
    })
}
