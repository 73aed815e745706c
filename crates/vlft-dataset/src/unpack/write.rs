//! Writing what the plan says, on several threads: an archive of page images is as fast as the disk
//! takes it, and the archives are hashed for the lineage beside it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use vlft_base::digest::sha256;
use vlft_base::output::{PartialDir, cannot};
use vlft_base::{Diagnostic, Result};

use super::entry::Archive;
use super::{Options, Origin, Plan};
use crate::file_names::folded;
use crate::lineage::{IN_DIRECTORY, Lineage};

/// More only wait for the disk.
const MOST_THREADS: usize = 4;

pub(super) fn write(
    plan: &Plan<'_>,
    archives: &[Archive],
    options: &Options,
    progress: &dyn Fn(u64, u64),
) -> Result<()> {
    let out = PartialDir::create(&options.out, options.existing)?;
    make_folders(plan, out.path())?;
    let hashes = write_files(plan, archives, out.path(), progress)?;

    let mut lineage = Lineage::new("unpack")
        .option("max_entry_bytes", options.limits.entry_bytes)
        .option("max_total_bytes", options.limits.total_bytes)
        .option("max_ratio", options.limits.ratio);
    for (archive, hash) in archives.iter().zip(hashes) {
        let bytes = archive.content().len() as u64;
        lineage = lineage.hashed_input("archive", &archive.path, hash, bytes)?;
    }
    // An archive may hold a file of that name; then ours stands beside the directory.
    let is_taken = plan.files.keys().any(|name| folded(name) == IN_DIRECTORY);
    if !is_taken {
        lineage.save_in(out.path())?;
        return out.commit();
    }
    out.commit()?;
    lineage.save_beside(&options.out)
}

fn make_folders(plan: &Plan<'_>, out: &Path) -> Result<()> {
    let folders: BTreeSet<&str> = plan
        .files
        .keys()
        .filter_map(|name| name.rsplit_once('/').map(|(folder, _)| folder))
        .collect();
    for folder in folders {
        let path = out.join(folder);
        fs::create_dir_all(&path).map_err(|e| cannot("create", &path, e))?;
    }
    Ok(())
}

/// What the threads share.
struct Work<'a> {
    archives: &'a [Archive],
    out: &'a Path,
    /// In the order in which they lie in the archives.
    files: Vec<(&'a str, Origin)>,
    next: AtomicUsize,
    done: Mutex<u64>,
    failed: AtomicBool,
}

/// Writes all files; the hash of every archive.
fn write_files(
    plan: &Plan<'_>,
    archives: &[Archive],
    out: &Path,
    progress: &dyn Fn(u64, u64),
) -> Result<Vec<String>> {
    let mut files: Vec<(&str, Origin)> = plan.files.iter().map(|(n, o)| (*n, *o)).collect();
    files.sort_by_key(|(_, origin)| (origin.archive, origin.entry));
    let work = Work {
        archives,
        out,
        files,
        next: AtomicUsize::new(0),
        done: Mutex::new(0),
        failed: AtomicBool::new(false),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..cores.min(MOST_THREADS).min(work.files.len()))
            .map(|_| scope.spawn(|| work.write()))
            .collect();
        let hashes = scope.spawn(|| {
            let contents = archives.iter().map(Archive::content);
            contents.map(sha256).collect::<Vec<_>>()
        });
        // Progress is drawn by this thread only.
        while !writers.iter().all(|writer| writer.is_finished()) {
            progress(work.bytes_done(), plan.bytes);
            thread::sleep(std::time::Duration::from_millis(5));
        }
        progress(work.bytes_done(), plan.bytes);
        let mut problems: Vec<Diagnostic> = Vec::new();
        for writer in writers {
            match writer.join() {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => problems.push(problem),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match (Diagnostic::all(problems), hashes.join()) {
            (Some(problem), _) => Err(problem),
            (None, Ok(hashes)) => Ok(hashes),
            (None, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}

impl Work<'_> {
    /// Takes one file after the other until none is left.
    fn write(&self) -> Result<()> {
        let mut readers: Vec<_> = self.archives.iter().map(Archive::reader).collect();
        while !self.failed.load(Ordering::Relaxed) {
            let Some((name, origin)) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed))
            else {
                return Ok(());
            };
            let path = self.out.join(name);
            let written = File::create_new(&path)
                .map_err(|e| cannot("create", &path, e))
                .and_then(|mut file| readers[origin.archive].copy(origin.entry, &mut file, &path));
            if let Err(problem) = written {
                self.failed.store(true, Ordering::Relaxed);
                return Err(problem);
            }
            if let Ok(mut done) = self.done.lock() {
                *done += self.archives[origin.archive].entries[origin.entry].bytes;
            }
        }
        Ok(())
    }

    fn bytes_done(&self) -> u64 {
        self.done.lock().map_or(0, |done| *done)
    }
}
