//! A shard from one file to another in bounded memory: one thread reads, one changes, one writes,
//! pieces of a few MiB in a few buffers that go round.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use vlft_base::digest::Hasher;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

/// What is read, changed and written at a time, at least a row.
const PIECE: usize = 8 << 20;
/// Pieces on the way between two threads.
const AHEAD: usize = 3;

/// A run of bytes of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) bytes: Range<usize>,
    /// The tensor it is, if it is to be changed, and the bytes of one of its rows.
    pub(crate) change: Option<(String, usize)>,
}

/// One piece on its way.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    /// The section it is of, and how far into it.
    pub(crate) section: usize,
    pub(crate) offset: usize,
}

/// Takes a file section by section through `change`, and returns the SHA-256 of what was read. With
/// no `out` (a writer, and what it is called) nothing is written: `change` only looks.
pub(crate) fn through(
    path: &Path,
    sections: &[Section],
    out: Option<(&mut (dyn Write + Send), &Path)>,
    mut change: impl FnMut(&mut Piece) -> Result<()>,
) -> Result<String> {
    let (to_change, pieces) = sync_channel::<Piece>(AHEAD);
    let (to_write, changed) = sync_channel::<Piece>(AHEAD);
    let (give_back, free) = sync_channel::<Vec<u8>>(4 * AHEAD);
    let (out, target) = out.map_or((None, path), |(out, target)| (Some(out), target));
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(path, sections, &to_change, &free));
        let writer = scope.spawn(move || write(out, &changed, &give_back));
        let mut result = Ok(());
        for mut piece in &pieces {
            result = change(&mut piece);
            if result.is_err() || to_write.send(piece).is_err() {
                break;
            }
        }
        // The others see closed channels and end.
        drop((pieces, to_write));
        let read = reader.join().unwrap_or_else(|_| Err(stopped()));
        let written = writer.join();
        let written = written.unwrap_or_else(|_| Err(io::Error::other("the writer stopped")));
        written.map_err(|e| cannot("write", target, e))?;
        result?;
        read
    })
}

fn stopped() -> Diagnostic {
    Diagnostic::error("the thread that reads stopped; this is a bug of vlft")
}

fn read(
    path: &Path,
    sections: &[Section],
    to_change: &SyncSender<Piece>,
    free: &Receiver<Vec<u8>>,
) -> Result<String> {
    let cannot_read = |e: io::Error| cannot("read", path, e);
    let mut file = File::open(path).map_err(cannot_read)?;
    let mut hasher = Hasher::default();
    for (section, Section { bytes, change }) in sections.iter().enumerate() {
        let row = change.as_ref().map_or(1, |(_, row)| *row);
        let piece = (PIECE / row).max(1) * row;
        let mut offset = 0;
        while offset < bytes.len() {
            let length = piece.min(bytes.len() - offset);
            let mut buffer = free.try_recv().unwrap_or_default();
            buffer.resize(length, 0);
            file.read_exact(&mut buffer).map_err(cannot_read)?;
            hasher.add(&buffer);
            let piece = Piece {
                bytes: buffer,
                section,
                offset,
            };
            if to_change.send(piece).is_err() {
                return Ok(String::new()); // somebody else failed and says why
            }
            offset += length;
        }
    }
    Ok(hasher.finish())
}

fn write(
    mut out: Option<&mut (dyn Write + Send)>,
    changed: &Receiver<Piece>,
    give_back: &SyncSender<Vec<u8>>,
) -> io::Result<()> {
    for piece in changed {
        if let Some(out) = out.as_deref_mut() {
            out.write_all(&piece.bytes)?;
        }
        let _ = give_back.try_send(piece.bytes);
    }
    match out {
        Some(out) => out.flush(),
        None => Ok(()),
    }
}
