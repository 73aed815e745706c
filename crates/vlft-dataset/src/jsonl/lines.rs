//! The lines of a file, one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::paths::example_in;
use vlft_base::{Diagnostic, Result};

use super::shown;
use crate::problem::Problem;
use crate::rules::Rule;

/// One line without its end and without a byte order mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<T = String> {
    /// 1-based.
    pub number: u64,
    pub text: T,
    /// A byte order mark stood before it.
    pub had_byte_order_mark: bool,
    /// It ended in a line break (the last line of a file may not).
    pub ended: bool,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
}

impl<T: AsRef<str>> Line<T> {
    pub fn is_empty(&self) -> bool {
        self.text.as_ref().trim().is_empty()
    }
}

/// Streams the lines of a file. The outer `Err` ends the file (it cannot be read, or is no JSONL at
/// all), the inner one is a line that is not text.
pub struct Lines<R = BufReader<File>> {
    reader: R,
    source: Source,
    number: u64,
    /// Bytes read so far.
    offset: u64,
    buffer: Vec<u8>,
    /// A line with something on it has been seen, and it was no other kind of file.
    is_text: bool,
    done: bool,
}

/// A line longer than this is no record; reading on would only fill the memory.
const MAX_LINE_BYTES: usize = 256 << 20;

impl Lines {
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        Ok(Self::new(BufReader::with_capacity(1 << 18, file), path))
    }
}

pub(super) fn open(path: &Path) -> Result<File> {
    if path.is_dir() {
        let example = example_in(path, "jsonl").unwrap_or_else(|| path.join("NAME.jsonl"));
        return Err(Diagnostic::error("expected a JSONL file, found a folder")
            .at(path)
            .hint(format!("name a file in it, such as `{}`", shown(&example))));
    }
    input::open(path).map_err(|e| cannot("open", path, e))
}

impl<R: BufRead> Lines<R> {
    /// `path` is only named in messages.
    pub fn new(reader: R, path: &Path) -> Self {
        Self {
            reader,
            source: Source::new(path),
            number: 0,
            offset: 0,
            buffer: Vec::new(),
            is_text: false,
            done: false,
        }
    }

    fn read(&mut self) -> Result<Option<std::result::Result<Line, Problem>>> {
        self.buffer.clear();
        let read = (&mut self.reader)
            .take(self.source.max_line as u64)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|e| cannot("read", &self.source.path, e))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let offset = self.offset;
        self.offset += read as u64;
        self.source.check_length(&self.buffer, self.number)?;
        if !self.is_text && !is_blank(&self.buffer) {
            self.source.check_kind(&self.buffer, self.number)?;
            self.is_text = true;
        }
        let line = self.source.line(&self.buffer, self.number, offset);
        let line = line.map(|line| Line {
            number: line.number,
            text: line.text.to_owned(),
            had_byte_order_mark: line.had_byte_order_mark,
            ended: line.ended,
            offset: line.offset,
        });
        Ok(Some(line.map_err(|problem| *problem)))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<std::result::Result<Line, Problem>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

/// The file that lines come from, for what is said about them.
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// As messages show it.
    file: String,
    pub(super) max_line: usize,
}

impl Source {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            file: shown(path),
            max_line: MAX_LINE_BYTES,
        }
    }

    /// The text of the bytes of one line, its end included.
    pub(super) fn line<'a>(
        &self,
        bytes: &'a [u8],
        number: u64,
        offset: u64,
    ) -> std::result::Result<Line<&'a str>, Box<Problem>> {
        let (mut bytes, ended) = match bytes.strip_suffix(b"\n") {
            Some(bytes) => (bytes.strip_suffix(b"\r").unwrap_or(bytes), true),
            None => (bytes, false),
        };
        let mut had_byte_order_mark = false;
        if number == 1
            && let Some(rest) = bytes.strip_prefix(b"\xEF\xBB\xBF")
        {
            (bytes, had_byte_order_mark) = (rest, true);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Line {
                number,
                text,
                had_byte_order_mark,
                ended,
                offset,
            }),
            Err(e) => {
                let valid = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
                let message = format!("byte 0x{:02X} is not UTF-8", bytes[e.valid_up_to()]);
                let problem = Problem::new(Rule::NotUtf8, &self.file, number, message)
                    .column(valid.chars().count() as u64 + 1)
                    .hint("save the file as UTF-8");
                Err(Box::new(problem))
            }
        }
    }

    /// `line` with its end.
    pub(super) fn check_length(&self, line: &[u8], number: u64) -> Result<()> {
        let most = self.max_line;
        match line.len() >= most && !line[..most].ends_with(b"\n") {
            true => Err(self.not_jsonl("a line is longer than 256 MiB", number, None)),
            false => Ok(()),
        }
    }

    /// The first line with something on it shows the files that are commonly mistaken for JSONL.
    pub(super) fn check_kind(&self, first: &[u8], number: u64) -> Result<()> {
        let not_jsonl =
            |message: &str, hint: &'static str| Err(self.not_jsonl(message, number, Some(hint)));
        let first = first.strip_suffix(b"\n").unwrap_or(first);
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        if first.starts_with(b"\xFF\xFE") || first.starts_with(b"\xFE\xFF") {
            return not_jsonl(
                "the file is UTF-16, not UTF-8",
                "PowerShell's `>` writes UTF-16: use `| Out-File -Encoding utf8`, or save the file as UTF-8",
            );
        }
        let text = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first);
        match text.trim_ascii_start().first() {
            Some(b'[') => not_jsonl(
                "the file is a JSON array, not JSON Lines",
                "write one object per line: `jq -c '.[]' FILE > FILE.jsonl`; for a label export use `vlft build-jsonl`",
            ),
            // What begins like a record is one, and its faults are told at their columns.
            Some(b'{') => Ok(()),
            _ if is_binary(text) => not_jsonl(
                "the file is binary, not JSON Lines",
                "give the JSONL file that `vlft build-jsonl` or `vlft split` wrote",
            ),
            _ => Ok(()),
        }
    }

    fn not_jsonl(&self, message: &str, number: u64, hint: Option<&str>) -> Diagnostic {
        let diagnostic = Diagnostic::error(message)
            .with_rule(Rule::NotJsonl.id())
            .at_line(&self.path, number);
        match hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    }
}

pub(super) fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

/// Control characters that no text has.
fn is_binary(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}
