//! The lines of a file by the thousand, side by side in the bytes as they were read: nothing is made for
//! each, and threads take them apart. [`Lines`](super::Lines) is the slow twin.

use std::fs::File;
use std::io::Read;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use vlft_base::Result;
use vlft_base::output::cannot;

use super::lines::{Line, Source, is_blank, open};
use crate::problem::Problem;

/// Reads a file in blocks of whole lines.
pub(crate) struct Blocks<R = File> {
    reader: R,
    source: Arc<Source>,
    /// What was read, and how far it has been given away.
    piece: Arc<Vec<u8>>,
    at: usize,
    /// All lines of `piece` end before here; what comes then goes on in the next piece.
    whole: usize,
    piece_bytes: usize,
    /// Of the next block's first line: its number, and where it starts in the file.
    number: u64,
    offset: u64,
    is_text: bool,
    is_read: bool,
}

/// Lines that follow each other.
pub(crate) struct Block {
    source: Arc<Source>,
    piece: Arc<Vec<u8>>,
    /// Where in `piece` each line ends, and before them where the first one starts.
    bounds: Vec<u32>,
    /// Of the first line.
    number: u64,
    offset: u64,
}

/// So many bytes are read at once, usually.
pub(crate) const PIECE_BYTES: usize = 2 << 20;

/// A file of empty lines must not have a million of them in a block.
const MAX_LINES: usize = 4096;

impl Blocks {
    /// `piece_bytes` are read at once; with one byte a block is one line.
    pub(crate) fn open(path: &Path, piece_bytes: usize) -> Result<Self> {
        Ok(Self::new(open(path)?, path, piece_bytes))
    }
}

impl<R: Read> Blocks<R> {
    fn new(reader: R, path: &Path, piece_bytes: usize) -> Self {
        Self {
            reader,
            source: Arc::new(Source::new(path)),
            piece: Arc::default(),
            at: 0,
            whole: 0,
            piece_bytes,
            number: 1,
            offset: 0,
            is_text: false,
            is_read: false,
        }
    }

    /// The next lines; `None` at the end of the file. An error ends it: the file cannot be read, or is no
    /// JSONL at all.
    pub(crate) fn next(&mut self) -> Result<Option<Block>> {
        if self.at == self.whole && !self.read()? {
            return Ok(None);
        }
        let start = self.at;
        let mut bounds = vec![start as u32];
        let rest = &self.piece[start..self.whole];
        // The last line of a file may have no end.
        let last = (!rest.ends_with(b"\n")).then_some(rest.len());
        let ends = memchr::memchr_iter(b'\n', rest).map(|at| at + 1);
        bounds.extend(
            ends.chain(last)
                .take(MAX_LINES)
                .map(|end| (start + end) as u32),
        );
        let block = Block {
            source: Arc::clone(&self.source),
            piece: Arc::clone(&self.piece),
            bounds,
            number: self.number,
            offset: self.offset,
        };
        for line in 0..block.len() {
            let number = block.number(line);
            self.source.check_length(block.bytes(line), number)?;
            if !self.is_text && !is_blank(block.bytes(line)) {
                self.source.check_kind(block.bytes(line), number)?;
                self.is_text = true;
            }
        }
        self.at = block.end();
        self.number += block.len() as u64;
        self.offset += (self.at - start) as u64;
        Ok(Some(block))
    }

    /// Whether there is another line.
    fn read(&mut self) -> Result<bool> {
        let mut piece = Vec::with_capacity(self.piece.len() - self.whole + self.piece_bytes);
        piece.extend_from_slice(&self.piece[self.whole..]);
        self.piece = Arc::default();
        (self.at, self.whole) = (0, 0);
        // A line that is too long is told as soon as that is known.
        while self.whole == 0 && !self.is_read && piece.len() < self.source.max_line {
            let before = piece.len();
            let most = self.piece_bytes as u64;
            let read = (&mut self.reader)
                .take(most)
                .read_to_end(&mut piece)
                .map_err(|e| cannot("read", &self.source.path, e))?;
            self.is_read = read == 0;
            self.whole = memchr::memrchr(b'\n', &piece[before..]).map_or(0, |at| before + at + 1);
        }
        if self.whole == 0 {
            self.whole = piece.len();
        }
        self.piece = Arc::new(mem::take(&mut piece));
        Ok(self.whole > 0)
    }
}

impl Block {
    /// How many lines.
    pub(crate) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The number of a line in the file, counted from 1; `line` counts from 0 in the block.
    pub(crate) fn number(&self, line: usize) -> u64 {
        self.number + line as u64
    }

    /// Where in the file a line starts.
    pub(crate) fn offset(&self, line: usize) -> u64 {
        self.offset + u64::from(self.bounds[line] - self.bounds[0])
    }

    /// How many bytes all lines have.
    pub(crate) fn byte_len(&self) -> u64 {
        self.bytes_of(0, self.len()).len() as u64
    }

    /// A line as text, or that it is none.
    pub(crate) fn line(&self, line: usize) -> std::result::Result<Line<&str>, Box<Problem>> {
        let (number, offset) = (self.number(line), self.offset(line));
        self.source.line(self.bytes(line), number, offset)
    }

    fn bytes(&self, line: usize) -> &[u8] {
        self.bytes_of(line, line + 1)
    }

    fn bytes_of(&self, first: usize, end: usize) -> &[u8] {
        &self.piece[self.bounds[first] as usize..self.bounds[end] as usize]
    }

    /// Where in `piece` the last line ends.
    fn end(&self) -> usize {
        self.bounds[self.len()] as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jsonl::Lines;

    /// All lines of a file by blocks, and the error it ends in.
    fn of_blocks(
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<std::result::Result<Line, String>>, Option<String>) {
        // A reader that gives little at a time.
        let reader = bytes.chain(&b""[..]);
        let mut blocks = Blocks::new(reader, Path::new("f.jsonl"), piece);
        let mut lines = Vec::new();
        loop {
            let block = match blocks.next() {
                Ok(Some(block)) => block,
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error.to_string())),
            };
            for number in 0..block.len() {
                let line = block.line(number).map_err(|problem| problem.to_string());
                lines.push(line.map(|line| Line {
                    number: line.number,
                    text: line.text.to_owned(),
                    had_byte_order_mark: line.had_byte_order_mark,
                    ended: line.ended,
                    offset: line.offset,
                }));
            }
        }
    }

    #[test]
    fn a_block_has_a_limit_of_lines_and_a_line_one_of_bytes() {
        let empty = vec![b'\n'; 10_000];
        let mut blocks = Blocks::new(empty.as_slice(), Path::new("f"), 1 << 20);
        let mut counts = Vec::new();
        while let Some(block) = blocks.next().unwrap() {
            assert_eq!(block.offset(0), counts.iter().sum::<usize>() as u64);
            assert_eq!(block.number(0), block.offset(0) + 1);
            assert_eq!(block.byte_len(), block.len() as u64);
            counts.push(block.len());
        }
        assert_eq!(counts, [4096, 4096, 1808]);

        // Told before the rest of it is read, too.
        let endless = b"{}\n".chain(std::io::repeat(b' '));
        let mut blocks = Blocks::new(endless, Path::new("f"), 7);
        Arc::get_mut(&mut blocks.source).unwrap().max_line = 100;
        assert_eq!(blocks.next().unwrap().unwrap().len(), 1);
        let error = blocks.next().err().unwrap();
        assert_eq!(error.message(), "a line is longer than 256 MiB");
    }

    proptest! {
        /// Whatever the file, and wherever it is cut into pieces.
        #[test]
        fn blocks_are_the_lines(
            good in proptest::collection::vec(0usize..9, 0..40),
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            at in 0usize..400,
            piece in 1usize..70,
        ) {
            let parts: [&[u8]; 9] = [b"{}\n", b"\n", b"\r\n", b" \n", b"\xEF\xBB\xBF", b"{\"a\":\"\xC3\xA4\"}\r\n", b"\xFF{\n", b"{\"id\"", b"[1]\n"];
            let mut file: Vec<u8> = good.into_iter().flat_map(|part| parts[part].iter().copied()).collect();
            let at = at.min(file.len());
            file.splice(at..at, bytes);
            let (read, error) = of_blocks(&file, piece);
            let mut expected: Vec<_> = Lines::new(file.as_slice(), Path::new("f.jsonl")).collect();
            let wrong = expected.pop_if(|line| line.is_err()).map(|line| line.unwrap_err().to_string());
            let expected: Vec<_> = expected.into_iter().map(|line| line.unwrap().map_err(|p| p.to_string())).collect();
            prop_assert_eq!(&error, &wrong);
            // The block with the line of the error is not given.
            match error {
                None => prop_assert_eq!(read, expected),
                Some(_) => prop_assert!(expected.starts_with(&read)),
            }
        }
    }
}
