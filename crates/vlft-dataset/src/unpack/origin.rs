//! Which entry of an archive became a file: for `vlft why`.

use std::io::{BufReader, Read};
use std::path::Path;

use vlft_base::Result;
use vlft_base::input;
use vlft_base::output::cannot;

use super::Limits;
use super::entry::Archive;
use super::report::Faults;

/// An entry as the archive's directory has it.
pub(crate) struct FoundEntry {
    /// From 1.
    pub(crate) number: u64,
    /// As in the archive.
    pub(crate) name: String,
    bytes: u64,
    crc32: u32,
}

/// The entry that `unpack` writes as `target`; `None` also where the archive cannot be read.
pub(crate) fn entry_of(archive: &Path, target: &str) -> Option<FoundEntry> {
    let mut faults = Faults::default();
    let archive = Archive::open(archive, &Limits::default(), None, &mut faults).ok()?;
    let entry = archive.entries.iter().find(|e| e.target == target)?;
    Some(FoundEntry {
        number: entry.number(),
        name: entry.name.clone(),
        bytes: entry.bytes,
        crc32: entry.crc32,
    })
}

impl FoundEntry {
    /// Whether a file still has the size and the checksum of the entry.
    pub(crate) fn is(&self, file: &Path) -> Result<bool> {
        let failed = |e| cannot("read", file, e);
        let open = input::open(file).map_err(failed)?;
        if open.metadata().map_err(failed)?.len() != self.bytes {
            return Ok(false);
        }
        let mut from = BufReader::with_capacity(1 << 18, open);
        let mut hasher = crc32fast::Hasher::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            match from.read(&mut chunk).map_err(failed)? {
                0 => return Ok(hasher.finalize() == self.crc32),
                n => hasher.update(&chunk[..n]),
            }
        }
    }
}
