//! One archive: its entries as they will be written, and what is wrong with the others.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use vlft_base::format::bytes;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use zip::read::ZipFileEntry;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipArchive};

use super::report::{Cause, Faults};
use super::target::{self, Name};
use super::{Limits, open_zip, sha256};

pub(super) struct Archive {
    pub(super) path: PathBuf,
    zip: RefCell<ZipArchive<BufReader<File>>>,
    /// Regular files that pass all checks.
    pub(super) entries: Vec<Entry>,
    pub(super) directories: u64,
    /// `__MACOSX/..`, `.DS_Store` and the like.
    pub(super) junk: u64,
    /// Entries whose names were read with `\` as `/`, or are in no known encoding, or cannot be
    /// unpacked on Windows.
    pub(super) odd_names: Vec<(String, &'static str)>,
}

pub(super) struct Entry {
    /// In the central directory, from 0.
    index: usize,
    /// As in the archive.
    name: String,
    /// Relative, with `/`, safe to join.
    pub(super) target: String,
    /// Unpacked.
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} `{}`", self.index + 1, shown(&self.name))
    }
}

impl Archive {
    /// Reads the directory of the archive and checks every entry of it.
    ///
    /// # Errors
    /// A file that is no zip. Faults of entries go to `faults`.
    pub(super) fn open(
        path: &Path,
        limits: &Limits,
        faults: &mut Faults,
    ) -> Result<Self, (Cause, String)> {
        let mut zip = open_zip(path)?;
        if zip.has_duplicate_names() {
            for name in duplicate_names(path) {
                let text = format!("two entries are named `{}`", shown(&name));
                faults.add_archive(path, Cause::Meets, text);
            }
        }
        match zip.has_overlapping_files() {
            Ok(false) => {}
            Ok(true) => {
                let text = "its entries overlap, as in a decompression bomb".to_owned();
                faults.add_archive(path, Cause::Large, text);
            }
            Err(e) => faults.add_archive(path, Cause::Damaged, e.to_string()),
        }
        let mut archive = Self {
            path: path.to_path_buf(),
            entries: Vec::new(),
            directories: 0,
            junk: 0,
            odd_names: Vec::new(),
            zip: RefCell::new(zip),
        };
        let metadata = archive.zip.borrow().metadata();
        for index in 0..metadata.len() {
            match metadata.entry(index) {
                Ok(entry) => archive.take(index, &entry, limits, faults),
                Err(e) => faults.add_archive(path, Cause::Damaged, e.to_string()),
            }
        }
        Ok(archive)
    }

    /// Sorts one entry: a file to write, something to skip, or a fault.
    fn take(
        &mut self,
        index: usize,
        zipped: &ZipFileEntry<'_>,
        limits: &Limits,
        faults: &mut Faults,
    ) {
        let Name { name, not_unicode } = target::read_name(zipped);
        let mut entry = Entry {
            index,
            name,
            target: String::new(),
            bytes: zipped.size(),
            crc32: zipped.crc32(),
        };
        if target::is_junk(&entry.name) {
            self.junk += 1;
            return;
        }
        match target::safe(&entry.name) {
            Ok(safe) => {
                let odd = safe
                    .odd
                    .or(not_unicode.then_some("is in no known encoding"));
                if let Some(why) = odd {
                    self.odd_names.push((entry.to_string(), why));
                }
                entry.target = safe.path;
            }
            Err(why) => return faults.add(&self.path, &entry, Cause::Unsafe, why),
        }
        if let Some((cause, why)) = wrong(zipped, limits) {
            return faults.add(&self.path, &entry, cause, why);
        }
        match zipped.is_dir() || entry.name.ends_with('\\') {
            true => self.directories += 1,
            false if entry.target.is_empty() => {
                faults.add(&self.path, &entry, Cause::Unsafe, "has no name");
            }
            false => self.entries.push(entry),
        }
    }

    /// Writes the content of an entry to `to`, a file at `path`.
    pub(super) fn copy(&self, entry: usize, to: &mut File, path: &Path) -> Result<()> {
        let mut failed_write = None;
        self.read(entry, &mut |content| {
            let mut chunk = vec![0; 64 * 1024];
            loop {
                let n = content.read(&mut chunk)?;
                if n == 0 {
                    return Ok(());
                }
                if let Err(e) = to.write_all(&chunk[..n]) {
                    failed_write = Some(e);
                    return Ok(());
                }
            }
        })?;
        match failed_write {
            Some(e) => Err(cannot("write", path, e)),
            None => Ok(()),
        }
    }

    /// Of the content of an entry.
    pub(super) fn sha256(&self, entry: usize) -> Result<[u8; 32]> {
        let mut digest = [0; 32];
        self.read(entry, &mut |content| {
            digest = sha256(content)?;
            Ok(())
        })?;
        Ok(digest)
    }

    /// Decompresses; size and checksum are compared on the way.
    fn read(
        &self,
        entry: usize,
        with: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> Result<()> {
        let entry = &self.entries[entry];
        let damaged = |cause: &dyn fmt::Display| {
            Diagnostic::error("damaged entry")
                .at(&self.path)
                .detail(entry.to_string())
                .caused_by(cause)
                .hint("download or copy the archive again; nothing was written")
        };
        let mut zip = self.zip.borrow_mut();
        let mut content = zip.by_index(entry.index).map_err(|e| damaged(&e))?;
        let mut counted = Counted {
            from: &mut content,
            bytes: 0,
        };
        with(&mut counted).map_err(|e| damaged(&e))?;
        match counted.bytes == entry.bytes {
            true => Ok(()),
            false => Err(damaged(&format!(
                "{} instead of {} bytes unpacked",
                counted.bytes, entry.bytes
            ))),
        }
    }
}

struct Counted<R> {
    from: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

/// What is wrong with an entry, its name aside.
fn wrong(entry: &ZipFileEntry<'_>, limits: &Limits) -> Option<(Cause, String)> {
    const TYPE: u32 = 0o170_000;
    let kind = entry.unix_mode().unwrap_or(0) & TYPE;
    let what = match kind {
        0 | 0o100_000 | 0o040_000 => None,
        0o120_000 => Some("is a symbolic link"),
        0o010_000 => Some("is a named pipe"),
        0o020_000 | 0o060_000 => Some("is a device"),
        0o140_000 => Some("is a socket"),
        _ => Some("is neither a file nor a directory"),
    };
    if let Some(what) = what {
        return Some((Cause::Unsafe, what.to_owned()));
    }
    if entry.encrypted() {
        return Some((Cause::Encrypted, "is encrypted".to_owned()));
    }
    if !matches!(
        entry.compression(),
        CompressionMethod::Stored | CompressionMethod::Deflated
    ) {
        let method = entry.compression();
        let why = format!("is compressed with {method}; stored and deflated entries can be read");
        return Some((Cause::Encrypted, why));
    }
    let (packed, unpacked) = (entry.compressed_size(), entry.size());
    if unpacked > limits.entry_bytes {
        let limit = bytes(limits.entry_bytes);
        let why = format!(
            "unpacks to {}, more than the limit of {limit}",
            bytes(unpacked)
        );
        return Some((Cause::Large, why));
    }
    if unpacked > Limits::RATIO_FROM_BYTES && unpacked / packed.max(1) > limits.ratio {
        let (packed, unpacked) = (bytes(packed), bytes(unpacked));
        let why = format!("unpacks from {packed} to {unpacked}, as a decompression bomb does");
        return Some((Cause::Large, why));
    }
    None
}

/// For a message: of bounded length, and nothing in it that a terminal obeys.
fn shown(name: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut shown: String = name
        .chars()
        .take(MAX_CHARS)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        shown += "..";
    }
    shown
}

/// `ZipArchive` keeps the last of several entries with one name; this finds what it hides.
fn duplicate_names(path: &Path) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    let entries = File::open(path).ok().and_then(|file| {
        ZipIterable::try_new(BufReader::new(file), zip::read::Config::default()).ok()
    });
    if let Some(mut entries) = entries
        && let Ok(files) = entries.files()
    {
        for entry in files.flatten() {
            if !seen.insert(entry.name_raw().to_vec()) {
                twice.insert(target::read_name(&entry).name);
            }
        }
    }
    if twice.is_empty() {
        twice.insert("?".to_owned());
    }
    twice
}
