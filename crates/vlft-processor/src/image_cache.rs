//! Decoded and resized pixels on disk, so that a page is decoded once and not once per epoch and run.
//!
//! An entry is named by the hash of the image file's bytes and of everything that decides what they
//! become, so nothing in it can be stale. It is written under another name and renamed: processes
//! may share a folder. Its own hash is checked when it is read; a damaged one is made anew.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use vlft_base::digest::{Hasher, sha256};
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result, format};

use crate::resample::Planes;

/// Raise it when decoding or resizing gives other bytes than before.
const VERSION: u32 = 2; // 1 held JPEGs of several scans as they were misread
/// First in every entry.
const MAGIC: &[u8; 8] = b"vlftpix1";
/// Magic, width, height, SHA-256 of the pixels in hexadecimal.
const HEADER: usize = 8 + 4 + 4 + 64;

pub(crate) struct ImageCache {
    dir: PathBuf,
    /// Hash of what decides, beside the file's bytes, what an image becomes.
    contract: String,
    found: AtomicU64,
    made: AtomicU64,
    /// For unique names within this process.
    written: AtomicU64,
    problems: Mutex<Problems>,
}

/// What is to be told, once.
#[derive(Default)]
struct Problems {
    damaged: Vec<PathBuf>,
    /// Why nothing is written any more.
    unwritable: Option<Diagnostic>,
    told: bool,
}

/// What a cache was good for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheReport {
    pub dir: PathBuf,
    /// Images whose pixels were there.
    pub found: u64,
    /// Images that had to be decoded.
    pub made: u64,
    /// What the folder occupies, other runs' entries included.
    pub bytes: u64,
}

impl std::fmt::Display for CacheReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}`: {} of {} found, {} on disk",
            self.dir.display(),
            format::grouped(self.found),
            format::count(self.found + self.made, "image"),
            format::bytes(self.bytes),
        )
    }
}

impl ImageCache {
    /// Makes the folder if need be. `contract`: all settings that decide what pixels come out.
    pub(crate) fn open(dir: &Path, contract: &str) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| cannot("create", dir, e))?;
        remove_left_overs(dir);
        Ok(Self {
            dir: dir.to_path_buf(),
            contract: sha256(format!("{VERSION}\n{contract}")),
            found: AtomicU64::new(0),
            made: AtomicU64::new(0),
            written: AtomicU64::new(0),
            problems: Mutex::default(),
        })
    }

    /// Where the pixels of a file with these bytes are, or will be.
    pub(crate) fn entry(&self, bytes: &[u8]) -> PathBuf {
        let mut hasher = Hasher::default();
        hasher.add(&self.contract);
        hasher.add(bytes);
        let name = hasher.finish();
        self.dir.join(&name[..2]).join(&name[2..])
    }

    /// (width, height) of an entry that looks whole; the pixels are not read.
    pub(crate) fn size(&self, entry: &Path) -> Option<(usize, usize)> {
        let mut file = match File::open(entry) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return None,
            Err(_) => return self.damaged(entry),
        };
        let mut header = [0; HEADER];
        let whole = file.read_exact(&mut header).ok().and_then(|()| {
            let (width, height, _) = parse(&header)?;
            let length = file.metadata().ok()?.len();
            (length == (HEADER + width * height * 3) as u64).then_some((width, height))
        });
        if whole.is_none() {
            return self.damaged(entry);
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        whole
    }

    /// The pixels, if they are there and undamaged.
    pub(crate) fn get(&self, entry: &Path) -> Option<Planes> {
        let mut bytes = match fs::read(entry) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return None,
            Err(_) => return self.damaged(entry),
        };
        let Some((width, height, hash)) = parse(&bytes) else {
            return self.damaged(entry);
        };
        let pixels = bytes.split_off(HEADER);
        if pixels.len() != width * height * 3 || sha256(&pixels) != hash {
            return self.damaged(entry);
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        Some(Planes::from_bytes(width, height, pixels))
    }

    /// Keeps pixels that had to be made. A folder that cannot be written is told once and costs time
    /// only.
    pub(crate) fn put(&self, entry: &Path, planes: &Planes) {
        self.made.fetch_add(1, Ordering::Relaxed);
        if self.problems().unwritable.is_some() {
            return;
        }
        if let Err(error) = self.write(entry, planes) {
            self.problems().unwritable = Some(error);
        }
    }

    fn write(&self, entry: &Path, planes: &Planes) -> Result<()> {
        let folder = entry
            .parent()
            .expect("an entry lies in a folder of the cache");
        fs::create_dir_all(folder).map_err(|e| cannot("create", folder, e))?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // Unique also among machines that share a disk.
        let partial = folder.join(format!(
            "{}-{number}-{}{PARTIAL}",
            std::process::id(),
            now.unwrap_or_default().as_nanos()
        ));
        let mut bytes = Vec::with_capacity(HEADER + planes.bytes().len());
        bytes.extend_from_slice(MAGIC);
        for side in [planes.width, planes.height] {
            bytes.extend_from_slice(&(side as u32).to_le_bytes());
        }
        bytes.extend_from_slice(sha256(planes.bytes()).as_bytes());
        bytes.extend_from_slice(planes.bytes());
        // No sync: after a power cut a torn entry is found by its hash.
        let written = File::create(&partial)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&partial, entry));
        written.map_err(|e| {
            let _ = fs::remove_file(&partial);
            cannot("write", entry, e)
        })
    }

    fn damaged<T>(&self, entry: &Path) -> Option<T> {
        self.problems().damaged.push(entry.to_path_buf());
        None
    }

    /// What went wrong since the last call, and does not stop a run.
    pub(crate) fn warnings(&self) -> Vec<Diagnostic> {
        let mut problems = self.problems();
        let mut warnings = Vec::new();
        let damaged = std::mem::take(&mut problems.damaged);
        if let Some(first) = damaged.first() {
            let count = match damaged.len() {
                1 => "an entry of `data.cache` was damaged and is made anew".to_owned(),
                n => format!("{n} entries of `data.cache` were damaged and are made anew"),
            };
            warnings.push(Diagnostic::warning(count).at(first));
        }
        if !problems.told
            && let Some(error) = &problems.unwritable
        {
            let warning =
                Diagnostic::warning("`data.cache` cannot be written; images are decoded each time");
            warnings.push(warning.at(&self.dir).caused_by(error));
            problems.told = true;
        }
        warnings
    }

    pub(crate) fn report(&self) -> CacheReport {
        CacheReport {
            dir: self.dir.clone(),
            found: self.found.load(Ordering::Relaxed),
            made: self.made.load(Ordering::Relaxed),
            bytes: files(&self.dir).map(|(_, length)| length).sum(),
        }
    }

    fn problems(&self) -> std::sync::MutexGuard<'_, Problems> {
        // A thread that panicked while it held the list left it whole: every change is one push.
        self.problems.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The end of the name of an entry that is being written.
const PARTIAL: &str = ".partial";

/// Width, height and hash.
fn parse(bytes: &[u8]) -> Option<(usize, usize, String)> {
    let header = bytes.get(..HEADER)?;
    if &header[..8] != MAGIC {
        return None;
    }
    let side = |at: usize| {
        let bytes: [u8; 4] = header[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    // What does not even fit in memory was not written by us.
    let (width, height) = (side(8), side(12));
    u64::from(width)
        .checked_mul(u64::from(height))?
        .checked_mul(3)?;
    let hash = std::str::from_utf8(&header[16..]).ok()?;
    Some((width as usize, height as usize, hash.to_owned()))
}

/// Every file of the cache, with its length.
fn files(dir: &Path) -> impl Iterator<Item = (fs::DirEntry, u64)> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    entries(dir)
        .flat_map(move |folder| entries(&folder.path()))
        .filter_map(|entry| {
            let length = entry.metadata().ok()?.len();
            Some((entry, length))
        })
}

/// What killed processes left. Whatever is a day old is nobody's work in progress.
fn remove_left_overs(dir: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for (entry, _) in files(dir) {
        let is_partial = entry.file_name().to_string_lossy().ends_with(PARTIAL);
        let age = entry
            .metadata()
            .and_then(|m| m.modified())
            .map(|m| m.elapsed());
        if is_partial && matches!(age, Ok(Ok(age)) if age > DAY) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
