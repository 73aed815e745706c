//! Lines on their way into a file.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use vlft_base::Result;
use vlft_base::digest::Hasher;
use vlft_base::output::{Existing, PartialFile, cannot};

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
