//! JSON Lines with line numbers, read and written one line at a time, so that a file larger than
//! memory is no different from a small one.
//!
//! [`Lines`] gives the text of each line, [`parse`] makes a [`Record`] of it, [`load`] does both for
//! a whole file and reports everything that is wrong with it at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::Serialize;
use vlft_base::digest::Hasher;
use vlft_base::input;
use vlft_base::output::{Existing, PartialFile, cannot};
use vlft_base::paths::example_in;
use vlft_base::{Diagnostic, Kind, Result};

use crate::json;
use crate::problem::Problem;
use crate::record::Record;
use crate::rules::Rule;
use crate::structure;

/// A record and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    /// 1-based.
    pub line: u64,
    pub record: Record,
}

/// Reads all records, or says everything that is wrong: broken lines, ids that are empty or appear
/// twice. Empty lines are skipped. For data to train on, see [`load_for_training`].
pub fn load(path: &Path) -> Result<Vec<Numbered>> {
    load_with(path, |_| Vec::new())
}

/// [`load`], and every record must be trainable: turns in order, an answer in the last one, no
/// image where the chat template would drop it (all of [`structure::check`]). Images are not looked at.
pub fn load_for_training(path: &Path) -> Result<Vec<Numbered>> {
    load_with(path, structure::check)
}

/// How many problems an error carries; a file of the wrong kind has one on every line.
const MAX_REPORTED: usize = 50;

fn load_with(
    path: &Path,
    check: impl Fn(&Record) -> Vec<crate::problem::Finding>,
) -> Result<Vec<Numbered>> {
    let file = shown(path);
    let mut records = Vec::new();
    let mut problems = Vec::new();
    let mut ids = HashMap::new();
    for line in Lines::open(path)? {
        let line = match line? {
            Ok(line) if line.is_empty() => continue,
            Ok(line) => line,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let record = match parse(&line.text, &file, line.number) {
            Ok(record) => record,
            Err(found) => {
                problems.extend(found);
                continue;
            }
        };
        let place = |finding| Problem::of(finding, &file, line.number, &line.text);
        problems.extend(structure::check_id(&record).into_iter().map(place));
        problems.extend(check(&record).into_iter().map(place));
        if let Some(first) = ids.insert(record.id.clone(), line.number) {
            problems.push(duplicate_id(
                &record.id,
                first,
                &file,
                line.number,
                &line.text,
            ));
        }
        records.push(Numbered {
            line: line.number,
            record,
        });
    }
    match as_error(problems, path) {
        Some(error) => Err(error),
        None => Ok(records),
    }
}

/// The errors among the problems as one value; `None` when there is none.
pub(crate) fn as_error(problems: Vec<Problem>, path: &Path) -> Option<Diagnostic> {
    let errors: Vec<Diagnostic> = problems
        .into_iter()
        .filter(Problem::is_error)
        .map(Diagnostic::from)
        .collect();
    let hidden = errors.len().saturating_sub(MAX_REPORTED);
    let more = (hidden > 0).then(|| {
        Diagnostic::error(format!("{hidden} more problems in the same file"))
            .at(path)
            .hint(format!("`vlft validate {}` lists all of them", shown(path)))
    });
    Diagnostic::all(errors.into_iter().take(MAX_REPORTED).chain(more))
}

pub(crate) fn duplicate_id(id: &str, first: u64, file: &str, line: u64, text: &str) -> Problem {
    let finding = crate::problem::Finding::new(
        Rule::DuplicateId,
        ["id".into()],
        format!("id `{id}` is already used in line {first}"),
    )
    .hint("give every record its own id; predictions and errors are named by it");
    Problem::of(finding, file, line, text)
}

/// What every command says of a file without a single record.
pub fn no_records(path: &Path) -> Diagnostic {
    Diagnostic::error("the file has no records")
        .at(path)
        .with_kind(Kind::NothingToDo)
}

/// A path as messages and reports show it: as it was given, with `/`.
pub fn shown(path: &Path) -> String {
    path.display().to_string().replace('\\', "/")
}

/// One line without its end and without a byte order mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// 1-based.
    pub number: u64,
    pub text: String,
    /// A byte order mark stood before it.
    pub had_byte_order_mark: bool,
    /// It ended in a line break (the last line of a file may not).
    pub ended: bool,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// Streams the lines of a file. The outer `Err` ends the file (it cannot be read, or is no JSONL at
/// all), the inner one is a line that is not text.
pub struct Lines<R = BufReader<File>> {
    reader: R,
    file: String,
    path: std::path::PathBuf,
    number: u64,
    /// Bytes read so far.
    offset: u64,
    buffer: Vec<u8>,
    /// A line with something on it has been seen, and it was no other kind of file.
    is_text: bool,
    done: bool,
}

/// A line longer than this is no record; reading on would only fill the memory.
const MAX_LINE_BYTES: u64 = 256 << 20;

impl Lines {
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let example = example_in(path, "jsonl").unwrap_or_else(|| path.join("NAME.jsonl"));
            return Err(Diagnostic::error("expected a JSONL file, found a folder")
                .at(path)
                .hint(format!("name a file in it, such as `{}`", shown(&example))));
        }
        let file = input::open(path).map_err(|e| cannot("open", path, e))?;
        Ok(Self::new(BufReader::with_capacity(1 << 18, file), path))
    }
}

impl<R: BufRead> Lines<R> {
    /// `path` is only named in messages.
    pub fn new(reader: R, path: &Path) -> Self {
        Self {
            reader,
            file: shown(path),
            path: path.to_path_buf(),
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
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|e| cannot("read", &self.path, e))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let offset = self.offset;
        self.offset += read as u64;
        let ended = self.buffer.ends_with(b"\n");
        if read as u64 == MAX_LINE_BYTES && !ended {
            return Err(self.not_jsonl("a line is longer than 256 MiB", None));
        }
        let mut bytes = self.buffer.as_slice();
        if ended {
            bytes = &bytes[..bytes.len() - 1];
            bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        }
        let mut had_byte_order_mark = false;
        if !self.is_text && !bytes.trim_ascii().is_empty() {
            self.check_kind(bytes)?;
            self.is_text = true;
        }
        if self.number == 1
            && let Some(rest) = bytes.strip_prefix(b"\xEF\xBB\xBF")
        {
            (bytes, had_byte_order_mark) = (rest, true);
        }
        Ok(Some(match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Line {
                number: self.number,
                text: text.to_owned(),
                had_byte_order_mark,
                ended,
                offset,
            }),
            Err(e) => {
                let valid = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
                let message = format!("byte 0x{:02X} is not UTF-8", bytes[e.valid_up_to()]);
                Err(
                    Problem::new(Rule::NotUtf8, &self.file, self.number, message)
                        .column(valid.chars().count() as u64 + 1)
                        .hint("save the file as UTF-8"),
                )
            }
        }))
    }

    /// The first line with something on it shows the files that are commonly mistaken for JSONL.
    fn check_kind(&self, first: &[u8]) -> Result<()> {
        if first.starts_with(b"\xFF\xFE") || first.starts_with(b"\xFE\xFF") {
            return Err(self.not_jsonl(
                "the file is UTF-16, not UTF-8",
                Some("PowerShell's `>` writes UTF-16: use `| Out-File -Encoding utf8`, or save the file as UTF-8"),
            ));
        }
        let text = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first);
        match text.trim_ascii_start().first() {
            Some(b'[') => Err(self.not_jsonl(
                "the file is a JSON array, not JSON Lines",
                Some("write one object per line: `jq -c '.[]' FILE > FILE.jsonl`; for a label export use `vlft build-jsonl`"),
            )),
            // What begins like a record is one, and its faults are told at their columns.
            Some(b'{') => Ok(()),
            _ if is_binary(text) => Err(self.not_jsonl(
                "the file is binary, not JSON Lines",
                Some("give the JSONL file that `vlft build-jsonl` or `vlft split` wrote"),
            )),
            _ => Ok(()),
        }
    }

    fn not_jsonl(&self, message: &str, hint: Option<&str>) -> Diagnostic {
        let diagnostic = Diagnostic::error(message)
            .with_rule(Rule::NotJsonl.id())
            .at_line(&self.path, self.number);
        match hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    }
}

/// Control characters that no text has.
fn is_binary(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
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

/// One line as a record, or everything that is wrong with its shape. `file` and `line` are for the
/// messages.
pub fn parse(text: &str, file: &str, line: u64) -> std::result::Result<Record, Vec<Problem>> {
    // The strict types are the fast path. What they refuse is looked at again, slowly, to name
    // every fault of the line and not only the first.
    let error = match serde_json::from_str::<Record>(text) {
        Ok(record) => return Ok(record),
        Err(error) => error,
    };
    if error.is_syntax() || error.is_eof() {
        return Err(vec![broken(text, file, line, &error)]);
    }
    let place = |finding| Problem::of(finding, file, line, text);
    let found = match json::parse(text) {
        Ok(value) => structure::check_shape(&value)
            .into_iter()
            .map(place)
            .collect(),
        Err(error) => vec![broken(text, file, line, &error)],
    };
    if found.is_empty() {
        // The slow look must be at least as strict; if it is not, the first error still stands.
        return Err(vec![broken(text, file, line, &error)]);
    }
    Err(found)
}

/// A line that is not JSON, at its column.
fn broken(text: &str, file: &str, line: u64, error: &serde_json::Error) -> Problem {
    let full = error.to_string();
    // The error ends in its own "at line 1 column 7", which would contradict the file's line.
    let message = full.split(" at line ").next().unwrap_or(&full);
    let column = json::error_column(text, error);
    if message.starts_with("duplicate key") || message.starts_with("duplicate field") {
        return Problem::new(Rule::DuplicateKey, file, line, message)
            .column(column)
            .hint("keep one of the two");
    }
    if error.is_eof() {
        let end = text.chars().rev().take(20).collect::<Vec<_>>();
        let end: String = end.into_iter().rev().collect();
        return Problem::new(
            Rule::CutLine,
            file,
            line,
            format!("the line ends in the middle of its JSON, after `{end}`"),
        )
        .column(text.chars().count() as u64 + 1)
        .hint("a record is one whole line; this one was cut off, or broken over several lines");
    }
    let problem = Problem::new(
        Rule::BadJson,
        file,
        line,
        format!("not valid JSON: {message}"),
    )
    .column(column);
    let word = text.get(error.column().saturating_sub(1)..).unwrap_or("");
    if word.starts_with("NaN") || word.starts_with("Infinity") || word.starts_with("aN") {
        problem.hint("JSON has no NaN or Infinity: write `null`")
    } else if text.trim_start().starts_with("{'") {
        problem.hint("JSON uses double quotes; this looks like Python's `print` of a dict: write it with `json.dumps`")
    } else {
        problem
    }
}

/// Writes JSONL under a temporary name; [`Writer::commit`] gives it its name.
#[derive(Debug)]
pub struct Writer {
    file: PartialFile,
    path: std::path::PathBuf,
    lines: u64,
}

/// What a file has become.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Lower-case hex.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

impl Writer {
    pub fn create(path: &Path, existing: Existing) -> Result<Self> {
        Ok(Self {
            file: PartialFile::create(path, existing)?,
            path: path.to_path_buf(),
            lines: 0,
        })
    }

    /// Hashes the lines on their way, so that they need not be read again.
    pub(crate) fn hashing(self) -> HashingWriter {
        HashingWriter {
            writer: self,
            hasher: Hasher::default(),
            bytes: 0,
        }
    }

    /// Appends one value as one line.
    pub fn write(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.file, value)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|e| cannot("write", &self.path, e))?;
        self.lines += 1;
        Ok(())
    }

    /// Appends a line as it is, without its end.
    pub(crate) fn write_line(&mut self, line: &[u8]) -> Result<()> {
        let written = self
            .file
            .write_all(line)
            .and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|e| cannot("write", &self.path, e))?;
        self.lines += 1;
        Ok(())
    }

    /// Lines written so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    pub fn commit(self) -> Result<()> {
        self.file.commit()
    }
}

/// A [`Writer`] of lines that knows what it has written.
pub(crate) struct HashingWriter {
    writer: Writer,
    hasher: Hasher,
    bytes: u64,
}

impl HashingWriter {
    /// Appends a line as it is, without its end.
    pub(crate) fn write_line(&mut self, line: &[u8]) -> Result<()> {
        self.writer.write_line(line)?;
        self.hasher.add(line);
        self.hasher.add(b"\n");
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }

    pub(crate) fn commit(self) -> Result<Written> {
        self.writer.commit()?;
        Ok(Written {
            sha256: self.hasher.finish(),
            bytes: self.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"a","messages":[{"role":"user","content":[{"type":"text","text":"Read."}]},{"role":"assistant","content":[{"type":"text","text":"{}"}]}]}"#;

    fn lines(bytes: &[u8]) -> Vec<Result<std::result::Result<Line, Problem>>> {
        Lines::new(bytes, Path::new("f.jsonl")).collect()
    }

    #[test]
    fn byte_order_marks_line_ends_and_empty_lines() {
        let read: Vec<Line> = lines(b"\xEF\xBB\xBF{}\r\n\n  \n[]")
            .into_iter()
            .map(|l| l.unwrap().unwrap())
            .collect();
        let seen: Vec<_> = read
            .iter()
            .map(|l| (l.number, l.text.as_str(), l.had_byte_order_mark, l.ended))
            .collect();
        assert_eq!(
            seen,
            [
                (1, "{}", true, true),
                (2, "", false, true),
                (3, "  ", false, true),
                (4, "[]", false, false)
            ]
        );
        assert!(read[1].is_empty() && read[2].is_empty());
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_that_is_not_text_is_named_and_reading_goes_on() {
        let mut read = lines("{}\nä\u{0}".as_bytes()).into_iter();
        assert!(read.next().unwrap().unwrap().is_ok());
        let mut read = lines(b"{}\n\xC3\xA4b\xFF\n{}").into_iter().skip(1);
        let problem = read.next().unwrap().unwrap().unwrap_err();
        assert_eq!(
            problem.to_string(),
            "f.jsonl:2:3: error[not-utf8]: byte 0xFF is not UTF-8"
        );
        assert!(read.next().unwrap().unwrap().is_ok());
    }

    #[test]
    fn files_of_another_kind_are_named() {
        for (bytes, message) in [
            (&b"\xFF\xFE{\0"[..], "the file is UTF-16, not UTF-8"),
            (b" [{\"id\":1}]", "the file is a JSON array, not JSON Lines"),
            (b"PK\x03\x04\0\0", "the file is binary, not JSON Lines"),
            (b"\x9f\x01\xE4\x8a", "the file is binary, not JSON Lines"),
        ] {
            let read = lines(bytes);
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].as_ref().unwrap_err().message(), message);
        }
    }

    #[test]
    fn broken_lines_say_where_and_what() {
        for (text, expected) in [
            (
                &GOOD[..40],
                "f:7:41: error[cut-line]: the line ends in the middle of its JSON, after `:[{\"role\":\"user\",\"co`",
            ),
            (
                r#"{"id":"ä" "x"}"#,
                "f:7:11: error[bad-json]: not valid JSON: expected `,` or `}`",
            ),
            (
                r#"{"id":"a","messages":[],"id":"b"}"#,
                "f:7:28: error[duplicate-key]: duplicate key `id`",
            ),
            (
                r#"{"id":"a","messages":[],"meta":{"k":1,"k":2}}"#,
                "f:7:41: error[duplicate-key]: duplicate key `k`",
            ),
            (
                r#"{"id":"a","messages":[],"meta":{"w":NaN}}"#,
                "f:7:37: error[bad-json]: not valid JSON: expected value",
            ),
            (
                "7",
                "f:7: error[wrong-type]: expected an object, found an integer",
            ),
        ] {
            let problems = parse(text, "f", 7).unwrap_err();
            assert_eq!(problems[0].to_string(), expected);
        }
    }

    #[test]
    fn loading_gives_the_records_or_all_problems() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.jsonl");
        std::fs::write(
            &path,
            format!("{GOOD}\n\n{}\n", GOOD.replace(r#""a""#, r#""b""#)),
        )
        .unwrap();
        let records = load_for_training(&path).unwrap();
        assert_eq!(records.iter().map(|n| n.line).collect::<Vec<_>>(), [1, 3]);

        let no_answer =
            r#"{"id":"c","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}"#;
        std::fs::write(&path, format!("{GOOD}\n{GOOD}\n{{\n{no_answer}\n")).unwrap();
        let rules = |error: Diagnostic| -> Vec<&str> {
            std::iter::once(&error)
                .chain(error.further())
                .filter_map(Diagnostic::rule)
                .collect()
        };
        assert_eq!(
            rules(load(&path).unwrap_err()),
            ["duplicate-id", "cut-line"]
        );
        assert_eq!(
            rules(load_for_training(&path).unwrap_err()),
            ["duplicate-id", "cut-line", "no-assistant"]
        );
        let error = load(&dir.path().join("e.jsonl")).unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean `d.jsonl`?"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_lines_or_problems_and_no_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for line in lines(&bytes).into_iter().flatten().flatten() {
                let _ = parse(&line.text, "f", line.number);
            }
        }

        /// Any damage to a good line is a problem at a column inside it, or still a good record.
        #[test]
        fn a_damaged_line_is_told_at_its_column(at in 0..GOOD.len(), with in "[\\PC\\n]{0,3}", cut in 0usize..4) {
            let end = (at + cut).min(GOOD.len());
            let text = format!("{}{with}{}", &GOOD[..at], &GOOD[end..]).replace('\n', " ");
            if let Err(problems) = parse(&text, "f", 1) {
                proptest::prop_assert!(!problems.is_empty());
                for problem in problems {
                    let column = problem.column.unwrap_or(1);
                    proptest::prop_assert!((1..=text.chars().count() as u64 + 1).contains(&column), "{problem}");
                }
            }
        }
    }

    #[test]
    fn fifty_thousand_lines_stream_in_seconds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.jsonl");
        let mut writer = Writer::create(&path, Existing::Refuse).unwrap();
        let mut record: Record = serde_json::from_str(GOOD).unwrap();
        for number in 0..50_000 {
            record.id = format!("r{number}");
            writer.write(&record).unwrap();
        }
        assert_eq!(writer.lines(), 50_000);
        writer.commit().unwrap();
        let start = std::time::Instant::now();
        assert_eq!(load(&path).unwrap().len(), 50_000);
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
