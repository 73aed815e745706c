//! The one place outside the kernels with `unsafe`: mapping a file into memory. Checkpoints are read
//! through it tensor by tensor, and zips entry by entry.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::path::Path;

pub use memmap2::Mmap;

use crate::input::check_regular;
use crate::{Diagnostic, Result};

/// Maps a file read-only. Pages come in as they are touched and leave under memory pressure, so a
/// file larger than the memory can be read piece by piece.
///
/// # Errors
/// A file that cannot be opened or mapped; an empty one cannot be mapped on every system.
pub fn map(path: &Path) -> Result<Mmap> {
    open(path).map(|(_, map)| map)
}

/// [`map`], and the file itself, for who copies parts of it ([`crate::copy`]).
pub fn open(path: &Path) -> Result<(File, Mmap)> {
    let cannot = |e| Diagnostic::error("cannot read file").at(path).caused_by(e);
    check_regular(path).map_err(cannot)?;
    let file = File::open(path).map_err(cannot)?;
    // SAFETY: the mapping is read-only and private to us. Another process that truncates the file
    // while we read it would end us with SIGBUS; what we read is not written while it is used.
    let map = unsafe { Mmap::map(&file) }.map_err(cannot)?;
    Ok((file, map))
}

/// Says that these bytes will not be read again soon: their pages no longer count as ours. If they
/// are read again, they come from the file again.
pub fn release(map: &Mmap, range: &Range<usize>) {
    #[cfg(unix)]
    {
        use memmap2::UncheckedAdvice::DontNeed;
        // SAFETY: the mapping is read-only and backed by a file, so pages that are dropped come back
        // with the same bytes, also for a slice that is still borrowed.
        let advised = unsafe { map.unchecked_advise_range(DontNeed, range.start, range.len()) };
        // A system that cannot do it keeps the pages, as without asking.
        let _ = advised;
    }
    #[cfg(not(unix))]
    let _ = (map, range);
}
