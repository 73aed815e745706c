//! Lines of a JSONL file that have passed, read again: to compare what a hash says is the same, and to
//! name what is worth naming, without keeping a million records in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use vlft_base::Result;
use vlft_base::input;
use vlft_base::output::cannot;

use crate::jsonl;
use crate::record::Record;

/// Reads lines again that have passed.
pub(crate) struct Earlier {
    file: File,
    path: PathBuf,
    /// Where every [`STEP`]th line starts.
    offsets: Vec<u64>,
    /// The one read last: of many copies all ask for the first.
    last: Option<(u64, Option<Record>)>,
    /// .. and its text.
    text: String,
}

/// Half a byte of memory a line; the lines between are read over.
const STEP: u64 = 16;

impl Earlier {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: input::open(path).map_err(|e| cannot("open", path, e))?,
            path: path.to_owned(),
            offsets: Vec::new(),
            last: None,
            text: String::new(),
        })
    }

    /// To be told the lines that are read, in order, and where in the file they start.
    pub(crate) fn note(&mut self, line: u64, offset: u64) {
        // Lines may be left out: the steps count on from the last one before.
        while self.offsets.len() as u64 * STEP < line {
            let known = (self.offsets.len() as u64 * STEP + 1 == line).then_some(offset);
            self.offsets.push(known.unwrap_or(u64::MAX));
        }
    }

    /// `None` when the line is no record any more: the file was changed meanwhile.
    pub(crate) fn record(&mut self, line: u64) -> Result<Option<&Record>> {
        if self.last.as_ref().is_none_or(|(known, _)| *known != line) {
            let record = self.read(line).map_err(|e| cannot("read", &self.path, e))?;
            self.last = Some((line, record));
        }
        Ok(self.last.as_ref().and_then(|(_, record)| record.as_ref()))
    }

    /// The text of the line that was asked for last.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn read(&mut self, line: u64) -> std::io::Result<Option<Record>> {
        let mut step = ((line - 1) / STEP) as usize;
        while step > 0
            && self
                .offsets
                .get(step)
                .is_none_or(|offset| *offset == u64::MAX)
        {
            step -= 1;
        }
        let offset = if step == 0 { 0 } else { self.offsets[step] };
        self.file.seek(SeekFrom::Start(offset))?;
        let mut reader = BufReader::new(&self.file);
        let mut bytes = Vec::new();
        for _ in step as u64 * STEP..line {
            bytes.clear();
            reader.read_until(b'\n', &mut bytes)?;
        }
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        self.text = String::from_utf8_lossy(bytes)
            .trim_end_matches(['\r', '\n'])
            .to_owned();
        Ok(jsonl::parse(&self.text, "", line).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonl::Lines;

    #[test]
    fn any_line_is_read_again_also_after_lines_that_are_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.jsonl");
        let mut bytes = b"\xEF\xBB\xBF".to_vec();
        for number in 1..=100 {
            match number % 16 {
                1 if number > 1 => bytes.extend(b"\xff\n"),
                7 => bytes.extend(b"\r\n"),
                _ => bytes.extend(format!("{{\"id\":\"r{number}\",\"messages\":[]}}\r\n").bytes()),
            }
        }
        std::fs::write(&path, bytes).unwrap();
        let mut earlier = Earlier::open(&path).unwrap();
        for line in Lines::open(&path).unwrap() {
            if let Ok(line) = line.unwrap() {
                earlier.note(line.number, line.offset);
            }
        }
        for number in (1..=100).rev() {
            let id = earlier
                .record(number)
                .unwrap()
                .map(|record| record.id.clone());
            let expected = (number % 16 != 7 && (number % 16 != 1 || number == 1))
                .then(|| format!("r{number}"));
            assert_eq!(id, expected, "line {number}");
        }
    }
}
