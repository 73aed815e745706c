//! One archive: its entries as they will be written, and what is wrong with the others. It is read
//! where it lies, through a memory map: a stored entry is a slice of it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vlft_base::copy;
use vlft_base::format::bytes;
use vlft_base::mmap::{self, Mmap};
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use zip::read::ZipFileEntry;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipArchive};

use super::names::{self, Encodings, Name};
use super::report::{Cause, Faults};
use super::{Limits, target};

/// The archive's bytes, for several readers at once.
#[derive(Clone)]
pub(super) struct Bytes(Arc<Mmap>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

pub(super) type Zip = ZipArchive<Cursor<Bytes>>;

pub(super) struct Archive {
    pub(super) path: PathBuf,
    file: File,
    bytes: Bytes,
    zip: Zip,
    /// Regular files that pass all checks.
    pub(super) entries: Vec<Entry>,
    pub(super) directories: u64,
    /// `__MACOSX/..`, `.DS_Store` and the like.
    pub(super) junk: u64,
    /// Entries whose names were read with `\` as `/`, in a guessed encoding, or cannot be unpacked on
    /// Windows; and archives inside the archive.
    pub(super) odd: Vec<(String, String)>,
}

pub(super) struct Entry {
    /// In the central directory, from 0.
    index: usize,
    /// As in the archive.
    pub(super) name: String,
    /// Relative, with `/`, safe to join.
    pub(super) target: String,
    /// Unpacked.
    pub(super) bytes: u64,
    pub(super) crc32: u32,
    is_stored: bool,
}

impl Entry {
    /// As people count them.
    pub(super) fn number(&self) -> u64 {
        self.index as u64 + 1
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} `{}`", self.number(), shown(&self.name))
    }
}

/// Maps a file and reads the directory at its end.
fn open_zip(path: &Path) -> Result<(File, Bytes, Zip), (Cause, String)> {
    let size = std::fs::metadata(path).map_err(|e| (Cause::Unreadable, e.to_string()))?;
    if size.is_file() && size.len() == 0 {
        return Err((Cause::Damaged, "not a zip: the file is empty".to_owned()));
    }
    let (file, map) = mmap::open(path).map_err(|e| {
        let cause = e.causes().first().cloned().unwrap_or_default();
        (Cause::Unreadable, cause)
    })?;
    let bytes = Bytes(Arc::new(map));
    let zip = ZipArchive::new(Cursor::new(bytes.clone()))
        .map_err(|e| (Cause::Damaged, format!("not a zip, or cut short: {e}")))?;
    Ok((file, bytes, zip))
}

impl Archive {
    /// Reads the directory of the archive and checks every entry of it.
    ///
    /// # Errors
    /// A file that is no zip. Faults of entries go to `faults`.
    pub(super) fn open(
        path: &Path,
        limits: &Limits,
        encoding: Option<names::Encoding>,
        faults: &mut Faults,
    ) -> Result<Self, (Cause, String)> {
        let (file, bytes, mut zip) = open_zip(path)?;
        if zip.has_duplicate_names() {
            for name in duplicate_names(&bytes) {
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
        let metadata = zip.metadata();
        let mut archive = Self {
            path: path.to_path_buf(),
            file,
            bytes,
            zip,
            entries: Vec::new(),
            directories: 0,
            junk: 0,
            odd: Vec::new(),
        };
        let entries: Vec<_> = (0..metadata.len()).map(|i| metadata.entry(i)).collect();
        let raw = entries.iter().flatten().map(ZipFileEntry::name_raw);
        let encodings = Encodings::of(raw, encoding);
        for (index, entry) in entries.iter().enumerate() {
            match entry {
                Ok(entry) => archive.take(index, entry, &encodings, limits, faults),
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
        encodings: &Encodings,
        limits: &Limits,
        faults: &mut Faults,
    ) {
        let Name { name, read_as } = encodings.read(zipped.name_raw());
        let mut entry = Entry {
            index,
            name,
            target: String::new(),
            bytes: zipped.size(),
            crc32: zipped.crc32(),
            is_stored: zipped.compression() == CompressionMethod::Stored,
        };
        if target::is_junk(&entry.name) {
            self.junk += 1;
            return;
        }
        match target::safe(&entry.name) {
            Ok(safe) => {
                if let Some(why) = safe.odd.map(str::to_owned).or(read_as) {
                    self.odd.push((entry.to_string(), why));
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
            false => {
                if target::is_archive(&entry.target) {
                    let why = "an archive in the archive, written as it is: unpack it by itself";
                    self.odd.push((entry.to_string(), why.to_owned()));
                }
                self.entries.push(entry);
            }
        }
    }

    /// A reader of its own: several may read one archive at once.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            archive: self,
            zip: self.zip.clone(),
        }
    }

    /// The whole file.
    pub(super) fn content(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Reads entries; see [`Archive::reader`].
pub(super) struct Reader<'a> {
    archive: &'a Archive,
    zip: Zip,
}

impl Reader<'_> {
    /// Writes the content of an entry to `to`, a file at `path`.
    pub(super) fn copy(&mut self, entry: usize, to: &mut File, path: &Path) -> Result<()> {
        let archive = self.archive;
        if let Some((start, content)) = self.stored(entry)? {
            let from = &archive.file;
            return copy::part(from, start, content, to).map_err(|e| cannot("write", path, e));
        }
        let mut failed_write = None;
        self.read(entry, &mut |content| {
            let mut chunk = vec![0; 256 * 1024];
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

    /// The content of an entry in memory; its size is within the limits.
    pub(super) fn append(&mut self, entry: usize, to: &mut Vec<u8>) -> Result<()> {
        self.read(entry, &mut |content| content.read_to_end(to).map(|_| ()))
    }

    /// Whether a file has the content of an entry.
    pub(super) fn is_content(&mut self, entry: usize, file: &mut dyn Read) -> Result<bool> {
        let mut same = true;
        self.read(entry, &mut |content| {
            let (mut here, mut there) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
            loop {
                let n = content.read(&mut here)?;
                if n == 0 {
                    same &= file.read(&mut there)? == 0;
                    return Ok(());
                }
                if same {
                    let is_there = file.read_exact(&mut there[..n]).is_ok();
                    same = is_there && here[..n] == there[..n];
                }
            }
        })?;
        Ok(same)
    }

    /// Where a stored entry lies, and its content, its checksum compared; `None` when it is compressed.
    fn stored(&mut self, number: usize) -> Result<Option<(u64, &[u8])>> {
        let entry = &self.archive.entries[number];
        if !entry.is_stored {
            return Ok(None);
        }
        let zipped = self.zip.by_index_raw(entry.index);
        let zipped = zipped.map_err(|e| self.archive.damaged(entry, &e))?;
        let (start, size) = (zipped.data_start(), zipped.compressed_size());
        let found = start.and_then(|start| {
            let (first, size) = (usize::try_from(start).ok()?, usize::try_from(size).ok()?);
            let slice = self
                .archive
                .content()
                .get(first..first.checked_add(size)?)?;
            Some((start, slice))
        });
        let Some((start, slice)) = found else {
            return Err(self.archive.damaged(entry, &"it lies outside the archive"));
        };
        if slice.len() as u64 != entry.bytes {
            let (found, said) = (slice.len(), entry.bytes);
            let why = format!("{found} instead of {said} bytes stored");
            return Err(self.archive.damaged(entry, &why));
        }
        if crc32fast::hash(slice) != entry.crc32 {
            return Err(self.archive.damaged(entry, &"Invalid checksum"));
        }
        Ok(Some((start, slice)))
    }

    /// Decompresses; size and checksum are compared on the way.
    fn read(
        &mut self,
        number: usize,
        with: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> Result<()> {
        let entry = &self.archive.entries[number];
        let damaged = |cause: &dyn fmt::Display| self.archive.damaged(entry, cause);
        let mut content = self.zip.by_index(entry.index).map_err(|e| damaged(&e))?;
        let mut counted = Counted {
            from: &mut content,
            bytes: 0,
            most: entry.bytes,
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

impl Archive {
    fn damaged(&self, entry: &Entry, cause: &dyn fmt::Display) -> Diagnostic {
        Diagnostic::error("damaged entry")
            .at(&self.path)
            .detail(entry.to_string())
            .caused_by(cause)
            .hint("download or copy the archive again; nothing was written")
    }
}

/// Stops as soon as there is more than the directory said: a bomb may lie about its size.
struct Counted<R> {
    from: R,
    bytes: u64,
    most: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.bytes += n as u64;
        match self.bytes > self.most {
            true => Err(io::Error::other(format!(
                "more than the {} bytes that the directory says",
                self.most
            ))),
            false => Ok(n),
        }
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
        return Some((Cause::Method, why));
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
fn duplicate_names(bytes: &Bytes) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    let entries = ZipIterable::try_new(Cursor::new(bytes.clone()), zip::read::Config::default());
    if let Ok(mut entries) = entries
        && let Ok(files) = entries.files()
    {
        for entry in files.flatten() {
            if !seen.insert(entry.name_raw().to_vec()) {
                twice.insert(Encodings::default().read(entry.name_raw()).name);
            }
        }
    }
    if twice.is_empty() {
        twice.insert("?".to_owned());
    }
    twice
}
