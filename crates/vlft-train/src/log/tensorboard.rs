//! `RUN/tensorboard/`: the curves as TensorBoard reads them. One event file, made of nothing but the
//! lines of `metrics.jsonl`: a resumed run cuts it back with them and leaves no stale point.
//!
//! An event file is a row of records, each its length, the length's checksum, the bytes and their
//! checksum. The bytes are a protobuf `Event` (tensorflow/core/util/event.proto), of which five
//! fields are needed here; they are written out below.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use vlft_base::Result;
use vlft_base::output::{cannot, write_atomic};

use super::{EvalLine, Line, StepLine};

/// The name of the folder inside a run directory.
pub(crate) const TENSORBOARD_DIR: &str = "tensorboard";
/// TensorBoard looks for `tfevents` in names. No time in it: a resumed run writes the same file.
const FILE: &str = "events.out.tfevents.vlft";

/// The open event file, at its end.
#[derive(Debug)]
pub(crate) struct TensorBoard {
    path: PathBuf,
    file: File,
    clock: Clock,
}

/// Times of the events: when the run began, and the seconds that its lines say. They rise without
/// the pauses between an interruption and its resumption, and are the same when written again.
#[derive(Clone, Copy, Debug)]
struct Clock {
    seconds: f64,
}

impl TensorBoard {
    /// Writes the file of a run anew from the lines that were kept, none for a run that begins.
    pub(crate) fn create(run_dir: &Path, lines: &[Line]) -> Result<Self> {
        let path = run_dir.join(TENSORBOARD_DIR).join(FILE);
        let begun = match lines {
            [] => None,
            _ => fs::read(&path).ok().and_then(|bytes| first_time(&bytes)),
        };
        let mut clock = Clock {
            seconds: begun.unwrap_or_else(|| now() - lines.iter().map(seconds).sum::<f64>()),
        };
        let mut bytes = record(&version_event(clock.seconds));
        for line in lines {
            bytes.extend(clock.records(line));
        }
        write_atomic(&path, &bytes)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|e| cannot("open", &path, e))?;
        Ok(Self { path, file, clock })
    }

    /// Appends what a line has to show, in one write.
    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        let bytes = self.clock.records(line);
        self.file
            .write_all(&bytes)
            .map_err(|e| cannot("write", &self.path, e))
    }
}

impl Clock {
    /// The record of a line, if it has values to show, at the time when it was done.
    fn records(&mut self, line: &Line) -> Vec<u8> {
        self.seconds += seconds(line);
        let (Some(step), values) = (line.step(), values(line)) else {
            return Vec::new();
        };
        match values.is_empty() {
            true => Vec::new(),
            false => record(&scalars_event(self.seconds, step, &values)),
        }
    }
}

/// The curves, by the names under which TensorBoard groups them. What is not finite is left out.
fn values(line: &Line) -> Vec<(&'static str, f64)> {
    let mut values = match line {
        Line::Step(StepLine {
            loss,
            grad_norm,
            lr,
            tokens,
            seconds,
            data_seconds,
            ..
        }) => vec![
            ("train/loss", *loss),
            ("train/grad_norm", *grad_norm),
            ("train/learning_rate", *lr),
            (
                "train/tokens_per_second",
                *tokens as f64 / seconds.max(1e-9),
            ),
            ("train/data_wait_seconds", *data_seconds),
        ],
        Line::Eval(EvalLine {
            loss,
            field_accuracy,
            ..
        }) => {
            let accuracy = field_accuracy.map(|share| ("eval/field_accuracy", share));
            [("eval/loss", *loss)].into_iter().chain(accuracy).collect()
        }
        Line::Sample(_) | Line::Summary(_) => Vec::new(),
    };
    values.retain(|(_, value)| value.is_finite());
    values
}

fn seconds(line: &Line) -> f64 {
    match line {
        Line::Step(line) => line.seconds,
        Line::Eval(line) => line.seconds,
        Line::Sample(_) | Line::Summary(_) => 0.0,
    }
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0.0, |since| since.as_secs_f64())
}

/// The time in the first event of a file that [`version_event`] began.
fn first_time(file: &[u8]) -> Option<f64> {
    let event = file.get(12..)?;
    let time: [u8; 8] = event.get(1..9)?.try_into().ok()?;
    let time = f64::from_le_bytes(time);
    let begins_so = record(&version_event(time));
    file.starts_with(&begins_so).then_some(time)
}

/// The first event of every file.
fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

fn scalars_event(wall_time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, tag.as_bytes());
        float(&mut entry, 2, *value as f32);
        bytes(&mut summary, 1, &entry);
    }
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    event
}

/// The frame of a TFRecord (tensorflow/core/lib/io/record_writer.h).
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked_checksum(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked_checksum(data).to_le_bytes());
    out
}

/// CRC-32C, turned and shifted (tensorflow/core/lib/hash/crc32c.h), so that checksums of data that
/// holds checksums stay different.
fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Protobuf: the number of a field and how its value is written: 0 varint, 1 eight bytes, 2 a length
/// and so many bytes, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, field: u64, value: f32) {
    key(out, field, 5);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
