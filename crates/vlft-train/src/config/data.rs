//! `[data]`: the records, what becomes of them, and how they are loaded.

use std::path::PathBuf;

use serde::Serialize;

use super::reader::{ANY, Choice, Section};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataConfig {
    pub train: PathBuf,
    /// None: no evaluation, whatever `[eval]` says.
    pub val: Option<PathBuf>,
    /// None: the model's own `size.shortest_edge`.
    pub min_pixels: Option<u64>,
    /// None: the model's own `size.longest_edge`.
    pub max_pixels: Option<u64>,
    pub max_tokens: Option<usize>,
    pub too_long: TooLong,
    /// What happens when a record cannot be made into a sample while the run goes on.
    pub on_error: OnError,
    pub shuffle: bool,
    /// Several samples end to end in one row.
    pub packing: bool,
    /// Tokens of a packed row. None: `max_tokens`.
    pub pack_tokens: Option<usize>,
    /// Micro-batches of samples of similar lengths.
    pub group_by_length: bool,
    /// Threads that make samples ahead; 0: none, samples are made when they are needed.
    pub workers: usize,
    /// Micro-batches that may wait beside the one in work.
    pub prefetch: usize,
    /// Where decoded and resized images are kept. None: nowhere.
    pub cache: Option<PathBuf>,
}

impl DataConfig {
    /// All defaults around the file to train on.
    pub fn new(train: impl Into<PathBuf>) -> Self {
        Self {
            train: train.into(),
            val: None,
            min_pixels: None,
            max_pixels: None,
            max_tokens: None,
            too_long: TooLong::Error,
            on_error: OnError::Error,
            shuffle: true,
            packing: false,
            pack_tokens: None,
            group_by_length: false,
            workers: 2,
            prefetch: 4,
            cache: None,
        }
    }

    /// What a packed row holds at most.
    pub fn row_tokens(&self) -> Option<usize> {
        self.pack_tokens.or(self.max_tokens)
    }
}

/// What happens when an image vanishes or breaks under a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run stops, with a checkpoint.
    Error,
    /// The step goes on without the record, which is listed in `RUN/skipped.jsonl`.
    Skip,
}

/// What happens to a sample of more than `max_tokens`. It is never cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    Error,
    Drop,
}

impl DataConfig {
    pub(super) fn read(s: &mut Section) -> Self {
        let d = Self::new("");
        Self {
            train: s.required_path("train", "records to train on, JSON Lines"),
            val: s.optional_path("val", "records to evaluate on; absent: no evaluation"),
            min_pixels: s.optional_count("min_pixels", 1..=ANY, "absent: the model's own"),
            max_pixels: s.optional_count("max_pixels", 1..=ANY, "absent: the model's own"),
            max_tokens: s.optional_size("max_tokens", 1..=ANY, "of one sample; absent: no limit"),
            too_long: s.choice(
                "too_long",
                d.too_long,
                "drop: counted and listed; never cut",
            ),
            on_error: s.choice(
                "on_error",
                d.on_error,
                "a record that breaks while training; skip: listed and counted",
            ),
            shuffle: s.boolean(
                "shuffle",
                d.shuffle,
                "the order is a function of (seed, epoch)",
            ),
            packing: s.boolean("packing", d.packing, "several samples in one row"),
            pack_tokens: s.optional_size(
                "pack_tokens",
                1..=ANY,
                "of one packed row; absent: max_tokens",
            ),
            group_by_length: s.boolean(
                "group_by_length",
                d.group_by_length,
                "micro-batches of similar lengths: less padding",
            ),
            workers: s.size(
                "workers",
                d.workers,
                0..=1024,
                "threads that load data ahead; 0: none",
            ),
            prefetch: s.size(
                "prefetch",
                d.prefetch,
                0..=1_000_000,
                "micro-batches loaded ahead; a page of 1280 tokens is 30 MiB",
            ),
            cache: s.optional_path(
                "cache",
                "folder for decoded images, 4 MiB per page of 1280 tokens",
            ),
        }
    }
}

impl Choice for OnError {
    const ALL: &[(&str, Self)] = &[("error", OnError::Error), ("skip", OnError::Skip)];
}

impl Choice for TooLong {
    const ALL: &[(&str, Self)] = &[("error", TooLong::Error), ("drop", TooLong::Drop)];
}
