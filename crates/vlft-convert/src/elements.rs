//! The examples of a JSON file, one after the other and never all at once: the lines of JSONL, or the
//! elements of one array, however it is broken into lines. Nothing is parsed here, so a million
//! brackets in a row cost no more than any other million bytes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::jsonl::Lines;

use crate::rules::{BAD_JSON, NOT_UTF8};
use crate::sample::Refusal;

/// The text of one example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// 1-based, counting examples.
    pub(crate) number: u64,
    /// 1-based, where it starts.
    pub(crate) line: u64,
    /// Characters before it in that line.
    pub(crate) indent: u64,
    pub(crate) text: Result<String, Refusal>,
}

/// An element longer than this is no example; reading on would only fill the memory.
const MAX_ELEMENT_BYTES: usize = 256 << 20;

pub(crate) enum Elements<R = BufReader<File>> {
    Lines {
        lines: Lines<R>,
        number: u64,
        bytes: u64,
    },
    Array(Array<R>),
}

impl Elements {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = input::open(path).map_err(|e| cannot("open", path, e))?;
        Self::new(BufReader::with_capacity(1 << 18, file), path)
    }
}

impl<R: BufRead> Elements<R> {
    /// `path` is only named in messages.
    pub(crate) fn new(mut reader: R, path: &Path) -> Result<Self> {
        let start = reader.fill_buf().map_err(|e| cannot("read", path, e))?;
        let text = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
        Ok(match text.trim_ascii_start().first() {
            Some(b'[') => Self::Array(Array::new(reader, path)),
            _ => Self::Lines {
                lines: Lines::new(reader, path),
                number: 0,
                bytes: 0,
            },
        })
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        match self {
            Self::Lines { bytes, .. } => *bytes,
            Self::Array(array) => array.bytes,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Element>> {
        match self {
            Self::Array(array) => array.next(),
            Self::Lines {
                lines,
                number,
                bytes,
            } => loop {
                let Some(line) = lines.next() else {
                    return Ok(None);
                };
                let (line, text) = match line? {
                    Ok(line) if line.is_empty() => continue,
                    Ok(line) => {
                        *bytes += line.text.len() as u64 + 1;
                        (line.number, Ok(line.text))
                    }
                    Err(problem) => {
                        let mut refusal = Refusal::new(NOT_UTF8, problem.message);
                        refusal.column = problem.column;
                        (problem.line, Err(refusal))
                    }
                };
                *number += 1;
                return Ok(Some(Element {
                    number: *number,
                    line,
                    indent: 0,
                    text,
                }));
            },
        }
    }
}

/// The elements of one JSON array.
pub(crate) struct Array<R> {
    reader: R,
    path: PathBuf,
    number: u64,
    line: u64,
    /// Characters before the next byte in its line.
    column: u64,
    bytes: u64,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Start,
    Inside,
    End,
}

impl<R: BufRead> Array<R> {
    fn new(reader: R, path: &Path) -> Self {
        Self {
            reader,
            path: path.to_path_buf(),
            number: 0,
            line: 1,
            column: 0,
            bytes: 0,
            state: State::Start,
        }
    }

    fn fill(&mut self) -> Result<&[u8]> {
        self.reader
            .fill_buf()
            .map_err(|e| cannot("read", &self.path, e))
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.fill()?.first().copied())
    }

    /// Steps over one byte.
    fn step(&mut self, byte: u8) {
        self.reader.consume(1);
        self.count(&[byte]);
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for byte in bytes {
            match byte {
                b'\n' => (self.line, self.column) = (self.line + 1, 0),
                // Bytes that go on with a character do not begin one.
                0x80..=0xBF => {}
                _ => self.column += 1,
            }
        }
    }

    fn next(&mut self) -> Result<Option<Element>> {
        loop {
            let Some(byte) = self.peek()? else {
                return self.ended_early();
            };
            match (&self.state, byte) {
                (State::End, b' ' | b'\t' | b'\r' | b'\n')
                | (_, b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF) => self.step(byte),
                (State::End, _) => {
                    return Err(self.broken("something stands behind the end of the array"));
                }
                (State::Start, _) => {
                    self.step(byte);
                    self.state = State::Inside;
                }
                (State::Inside, b',') => self.step(byte),
                (State::Inside, b']') => {
                    self.step(byte);
                    self.state = State::End;
                }
                (State::Inside, b'}') => return Err(self.broken("a `}` that closes nothing")),
                (State::Inside, _) => return self.element().map(Some),
            }
        }
    }

    /// The file is at its end: fine behind the array, else the missing rest is told once.
    fn ended_early(&mut self) -> Result<Option<Element>> {
        if self.state == State::End {
            return Ok(None);
        }
        self.state = State::End;
        self.number += 1;
        Ok(Some(Element {
            number: self.number,
            line: self.line,
            indent: self.column,
            text: Err(Refusal::new(
                BAD_JSON,
                "the file ends before its array does: it was cut off",
            )),
        }))
    }

    fn broken(&self, message: &str) -> Diagnostic {
        Diagnostic::error(message)
            .with_rule(BAD_JSON)
            .at_line(&self.path, self.line)
            .column(self.column + 1)
    }

    /// From its first byte to its last: brackets are counted, strings are skipped.
    fn element(&mut self) -> Result<Element> {
        let (line, indent) = (self.line, self.column);
        let mut bytes = Vec::new();
        let mut scan = Scan::default();
        let mut whole = false;
        while !whole {
            let chunk = self.fill()?;
            if chunk.is_empty() {
                break;
            }
            let (taken, ended) = scan.over(chunk);
            bytes.extend_from_slice(&chunk[..taken]);
            whole = ended;
            self.reader.consume(taken);
            if bytes.len() > MAX_ELEMENT_BYTES {
                return Err(Diagnostic::error("an example is longer than 256 MiB")
                    .at_line(&self.path, line));
            }
        }
        self.count(&bytes);
        self.number += 1;
        let text = match String::from_utf8(bytes) {
            Ok(text) if whole => Ok(text),
            Ok(_) => {
                self.state = State::End;
                let reason = "the file ends in the middle of an example: it was cut off";
                Err(Refusal::new(BAD_JSON, reason))
            }
            Err(e) => {
                let byte = e.as_bytes()[e.utf8_error().valid_up_to()];
                let reason = format!("byte 0x{byte:02X} is not UTF-8");
                Err(Refusal::new(NOT_UTF8, reason))
            }
        };
        Ok(Element {
            number: self.number,
            line,
            indent,
            text,
        })
    }
}

/// Where one JSON value ends.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// How many bytes belong to the value, and whether it ends with them.
    fn over(&mut self, chunk: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < chunk.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
                continue;
            }
            if self.in_string {
                // Data URLs of megabytes: this is where the time goes.
                let Some(found) = memchr::memchr2(b'"', b'\\', &chunk[at..]) else {
                    return (chunk.len(), false);
                };
                at += found + 1;
                match chunk[at - 1] {
                    b'\\' => self.escaped = true,
                    _ => self.in_string = false,
                }
                if !self.in_string && self.depth == 0 {
                    return (at, true);
                }
                continue;
            }
            match chunk[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => return (at, true),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                // The end of a bare number or word.
                b',' if self.depth == 0 => return (at, true),
                _ => {}
            }
            at += 1;
        }
        (chunk.len(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// With a buffer of `size` bytes, so that every border is met.
    fn elements(bytes: &[u8], size: usize) -> Vec<Result<Element>> {
        let reader = BufReader::with_capacity(size, bytes);
        let mut elements = match Elements::new(reader, Path::new("f.json")) {
            Ok(elements) => elements,
            Err(error) => return vec![Err(error)],
        };
        let mut found = Vec::new();
        loop {
            match elements.next() {
                Ok(Some(element)) => found.push(Ok(element)),
                Ok(None) => return found,
                Err(error) => {
                    found.push(Err(error));
                    return found;
                }
            }
        }
    }

    #[test]
    fn an_array_gives_its_elements_at_their_places() {
        let text = "\u{feff} [ {\"a\":\"]}\\\"\"},\n\n  [1,\n2], 7 , \"x,\"\n]\n";
        for size in 1..=text.len() {
            // The kind is told by the first buffer, as it is in files.
            if size < 5 {
                continue;
            }
            let seen: Vec<_> = elements(text.as_bytes(), size)
                .into_iter()
                .map(|e| e.unwrap())
                .map(|e| (e.number, e.line, e.indent, e.text.unwrap()))
                .collect();
            assert_eq!(
                seen,
                [
                    (1, 1, 4, "{\"a\":\"]}\\\"\"}".to_owned()),
                    (2, 3, 2, "[1,\n2]".to_owned()),
                    (3, 4, 4, "7 ".to_owned()),
                    (4, 4, 8, "\"x,\"".to_owned()),
                ]
            );
        }
    }

    #[test]
    fn lines_and_arrays_are_cut_off_in_words() {
        let refused = |text: &str| -> Vec<String> {
            elements(text.as_bytes(), 64)
                .into_iter()
                .filter_map(|e| Some(e.ok()?.text.err()?.reason))
                .collect()
        };
        assert!(refused("[{\"a\":1},{\"b\":")[0].contains("in the middle of an example"));
        assert!(refused("[{\"a\":1},")[0].contains("before its array"));
        assert!(refused("[{\"a\":1}]").is_empty());
        assert!(elements(b"[1] 2", 64).pop().unwrap().is_err());
    }

    #[test]
    fn a_million_brackets_are_one_element() {
        let deep = format!("[{}{}]", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(elements(deep.as_bytes(), 1 << 16).len(), 1);
    }

    proptest! {
        /// The slow twin: serde_json reads the whole array.
        #[test]
        fn elements_are_what_a_parser_of_the_whole_finds(
            items in proptest::collection::vec("[\\PC\"\\\\{}\\[\\],]{0,12}", 0..6),
            size in 5usize..40,
        ) {
            let values: Vec<serde_json::Value> = items
                .iter()
                .enumerate()
                .map(|(i, text)| serde_json::json!({ "k": [text, i], "x": text }))
                .collect();
            let text = serde_json::to_string_pretty(&values).unwrap();
            let found: Vec<serde_json::Value> = elements(text.as_bytes(), size)
                .into_iter()
                .map(|e| serde_json::from_str(&e.unwrap().text.unwrap()).unwrap())
                .collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..80), size in 1usize..20) {
            let mut text = b"[".to_vec();
            text.extend(bytes);
            let _ = elements(&text, size);
        }
    }
}
