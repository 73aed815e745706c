//! The output directory: images, `manifest.jsonl`, `rejects.jsonl`.
//!
//! While a run is under way its pages go to the journal `manifest.jsonl.journal`, a line each, so
//! that a killed run loses nothing it finished. At the end the sorted manifest takes its own name
//! and the journal goes. With `--shard 2/8` the names are `manifest.2-of-8.jsonl` and so on, so that
//! shards may share a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use vlft_base::output::{Existing, cannot, check_folder, write_atomic};
use vlft_base::{Diagnostic, Result};

use super::report::Tally;
use super::{Options, Shard};
use crate::manifest::{
    ImageFormat, Manifest, PageEntry, Resolution, Torn, manifests_in, read_lines,
    read_lines_if_there,
};
use crate::pdf::protocol::Known;
use crate::pdf::{Engine, Reject};

pub(super) struct Output {
    dir: PathBuf,
    shard: Option<Shard>,
    /// Of all runs into this directory, other shards' included; sorted.
    known: Vec<PageEntry>,
    /// Of this run and of earlier runs of this shard: what its manifest will hold.
    own: Vec<PageEntry>,
    /// `None` when only looking.
    journal: Option<File>,
}

impl Output {
    /// Reads what is there without changing anything.
    pub(super) fn look(options: &Options) -> Result<Self> {
        check_folder(&options.out)?;
        // Another shard that ends meanwhile takes its journal away: its manifest has the pages then.
        loop {
            if let Some(output) = Self::look_once(options)? {
                return Ok(output);
            }
        }
    }

    /// `None` when a file went away between being found and being read.
    fn look_once(options: &Options) -> Result<Option<Self>> {
        let dir = options.out.clone();
        let mut output = Self {
            shard: options.shard,
            known: Vec::new(),
            own: Vec::new(),
            journal: None,
            dir,
        };
        let found = manifests_in(&output.dir)?;
        let has_manifest = !(found.complete.is_empty() && found.journals.is_empty());
        if options.existing == Existing::Refuse && !has_manifest {
            refuse_foreign(&output.dir)?;
        }
        let own_files = [output.manifest_path(), output.journal_path()];
        for path in found.complete.iter().chain(&found.journals) {
            // Only a journal may end in the middle of a line.
            let torn = match found.journals.contains(path) {
                true => Torn::Ignore,
                false => Torn::Error,
            };
            let replaced = options.existing == Existing::Replace
                && (own_files.contains(path) || options.shard.is_none());
            let pages = match read_lines_if_there(path, torn) {
                // A manifest that nobody can read is no reason to keep it.
                Err(_) if replaced => Vec::new(),
                other => match other? {
                    Some(pages) => pages,
                    None => return Ok(None),
                },
            };
            if replaced {
                continue;
            }
            check_settings(path, &pages, options)?;
            if own_files.contains(path) {
                output.own.extend(pages.iter().cloned());
            }
            output.known.extend(pages);
        }
        output.own = latest(std::mem::take(&mut output.own));
        output.known = latest(std::mem::take(&mut output.known));
        Ok(Some(output))
    }

    /// Prepares for writing: takes the directory for this run, and with `--force` clears it of
    /// earlier ones.
    pub(super) fn open(options: &Options) -> Result<Self> {
        let mut output = Self::look(options)?;
        fs::create_dir_all(&output.dir).map_err(|e| cannot("create", &output.dir, e))?;
        let path = output.journal_path();
        let mut journal = open_alone(&path)?;
        if options.existing == Existing::Replace {
            output.clear(options.shard.is_none())?;
            journal.set_len(0).map_err(|e| cannot("clear", &path, e))?;
        }
        // A torn last line must not run into the next one.
        if ends_torn(&path)? {
            writeln!(journal).map_err(|e| cannot("write", &path, e))?;
        }
        output.journal = Some(journal);
        Ok(output)
    }

    /// Removes the images of earlier runs, then the manifests that list them: in this order, so
    /// that nothing is left unlisted when this is interrupted.
    fn clear(&self, all_shards: bool) -> Result<()> {
        let found = manifests_in(&self.dir)?;
        let journal = self.journal_path();
        for path in found.complete.iter().chain(&found.journals) {
            if !all_shards && ![self.manifest_path(), journal.clone()].contains(path) {
                continue;
            }
            for page in read_lines(path, Torn::Ignore).unwrap_or_default() {
                let image = self.dir.join(&page.file);
                if is_below(&page.file) && image.is_file() {
                    fs::remove_file(&image).map_err(|e| cannot("remove", &image, e))?;
                }
            }
            if *path != journal {
                fs::remove_file(path).map_err(|e| cannot("remove", path, e))?;
            }
        }
        Ok(())
    }

    pub(super) fn pages(&self) -> &[PageEntry] {
        &self.known
    }

    /// What earlier runs left of a document.
    pub(super) fn known(&self, document: &str) -> Option<Known> {
        let entries = pages_of(&self.known, document);
        let first = entries.first()?;
        // The size tells a file that was cut short by a power failure.
        let whole = |entry: &&PageEntry| {
            fs::metadata(self.dir.join(&entry.file)).is_ok_and(|m| m.len() == entry.bytes)
        };
        let present: Vec<u32> = entries.iter().filter(whole).map(|e| e.page).collect();
        // Who removes all images of a document wants it drawn anew, from whatever it is now.
        (!present.is_empty()).then(|| Known {
            sha256: first.source_sha256.clone(),
            pages: first.pages,
            present,
            is_foreign: pages_of(&self.own, document) != entries,
        })
    }

    /// Notes a page whose image is written.
    pub(super) fn add(&mut self, entry: PageEntry) -> Result<()> {
        let mut line = serde_json::to_string(&entry).expect("a page entry is plain data");
        line.push('\n');
        let journal = self.journal.as_mut().expect("opened for writing");
        let written = journal.write_all(line.as_bytes());
        written.map_err(|e| cannot("write", &self.journal_path(), e))?;
        self.own.push(entry);
        Ok(())
    }

    /// Writes the manifest and the list of rejects; returns the manifest's path and
    /// the hash of each document in it.
    pub(super) fn finish(
        mut self,
        tally: &mut Tally,
    ) -> Result<(PathBuf, BTreeMap<String, String>)> {
        tally
            .rejects
            .sort_by(|a, b| (&a.document, a.page).cmp(&(&b.document, b.page)));
        self.write_rejects(&tally.rejects)?;
        let pages = latest(std::mem::take(&mut self.own));
        self.remove_outdated(&pages)?;
        tally.pages.without_facts = pages.iter().filter(|p| p.version == 1).count() as u64;
        let manifest = self.manifest_path();
        let hash = |p: &PageEntry| (p.document.clone(), p.source_sha256.clone());
        let hashes = pages.iter().map(hash).collect();
        Manifest::from_pages(&self.dir, pages)?.write(&manifest)?;
        let journal = self.journal_path();
        drop(self.journal);
        remove_if_there(&journal)?;
        Ok((manifest, hashes))
    }

    /// Removes images of documents that have changed since: a page less, or another name. Before the
    /// manifest is written, so that none is left that no manifest lists.
    fn remove_outdated(&self, pages: &[PageEntry]) -> Result<()> {
        let listed: BTreeSet<&str> = pages.iter().map(|p| p.file.as_str()).collect();
        let changed = |old: &&PageEntry| {
            let now = pages_of(pages, &old.document);
            now.first()
                .is_some_and(|p| p.source_sha256 != old.source_sha256)
        };
        for old in self.known.iter().filter(changed) {
            if !listed.contains(old.file.as_str()) && is_below(&old.file) {
                remove_if_there(&self.dir.join(&old.file))?;
            }
        }
        Ok(())
    }

    fn write_rejects(&self, rejects: &[Reject]) -> Result<()> {
        let path = self.file("rejects", "jsonl");
        if rejects.is_empty() {
            return remove_if_there(&path);
        }
        let mut text = String::new();
        for reject in rejects {
            text += &serde_json::to_string(reject).expect("a reject is plain data");
            text.push('\n');
        }
        write_atomic(&path, text.as_bytes())
    }

    fn manifest_path(&self) -> PathBuf {
        self.file("manifest", "jsonl")
    }

    fn journal_path(&self) -> PathBuf {
        self.file("manifest", "jsonl.journal")
    }

    /// `manifest.jsonl`, or of a shard `manifest.2-of-8.jsonl`.
    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(match self.shard {
            Some(Shard { index, count }) => format!("{name}.{index}-of-{count}.{extension}"),
            None => format!("{name}.{extension}"),
        })
    }
}

/// Those of one document, of sorted pages.
fn pages_of<'a>(pages: &'a [PageEntry], document: &str) -> &'a [PageEntry] {
    let start = pages.partition_point(|p| p.document.as_str() < document);
    let end = pages.partition_point(|p| p.document.as_str() <= document);
    &pages[start..end]
}

/// Sorted; of several entries for one page the last, and of a document only what was made from its
/// latest source.
fn latest(mut pages: Vec<PageEntry>) -> Vec<PageEntry> {
    let sources: BTreeMap<String, String> = pages
        .iter()
        .map(|p| (p.document.clone(), p.source_sha256.clone()))
        .collect();
    pages.retain(|p| sources[&p.document] == p.source_sha256);
    pages.reverse();
    let mut seen = BTreeSet::new();
    pages.retain(|p| seen.insert((p.document.clone(), p.page)));
    pages.sort_by(|a, b| (&a.document, a.page).cmp(&(&b.document, b.page)));
    pages
}

/// Opens the journal for this run alone.
fn open_alone(path: &Path) -> Result<File> {
    let taken = || {
        Diagnostic::error("another `vlft rasterize` is writing here")
            .at(path)
            .hint("wait for it, choose another `--out`, or split the work with `--shard`")
    };
    let mut options = File::options();
    options.create(true).append(true);
    // Windows refuses the second writer by itself when the first one says so. A lock would also
    // keep readers out there.
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        const FILE_SHARE_READ: u32 = 1;
        const ERROR_SHARING_VIOLATION: i32 = 32;
        options
            .share_mode(FILE_SHARE_READ)
            .open(path)
            .map_err(|e| match e.raw_os_error() {
                Some(ERROR_SHARING_VIOLATION) => taken(),
                _ => cannot("create", path, e),
            })
    }
    #[cfg(not(windows))]
    {
        use std::fs::TryLockError;
        let journal = options.open(path).map_err(|e| cannot("create", path, e))?;
        match journal.try_lock() {
            Err(TryLockError::WouldBlock) => Err(taken()),
            // Some network file systems have no locks; then people take care themselves.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(journal),
        }
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(cannot("remove", path, e)),
        _ => Ok(()),
    }
}

/// A directory that is not ours stays as it is.
fn refuse_foreign(dir: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cannot("use", dir, e)),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(
            Diagnostic::error("the output directory holds something else")
                .at(dir)
                .expected("no directory, an empty one, or one that `vlft rasterize` wrote")
                .hint("choose another `--out`, or pass `--force` to write into this one"),
        ),
    }
}

/// Pages of two resolutions or engines in one data set are a mistake that nothing else would show.
fn check_settings(path: &Path, pages: &[PageEntry], options: &Options) -> Result<()> {
    let differs = |p: &&PageEntry| {
        p.requested != options.resolution
            || p.format != options.format
            || !options.engine.is(&p.rasterizer)
    };
    let Some(page) = pages.iter().find(differs) else {
        return Ok(());
    };
    let drawn_by = match options.engine.is(&page.rasterizer) {
        true => options.engine,
        false => options.engine.other(),
    };
    Err(
        Diagnostic::error("the output directory has pages made with other settings")
            .at(path)
            .expected(describe(options.resolution, options.format, options.engine))
            .found(describe(page.requested, page.format, drawn_by))
            .hint("pass `--force` to start over, or choose another `--out`"),
    )
}

fn describe(resolution: Resolution, format: ImageFormat, engine: Engine) -> String {
    let format = match format {
        ImageFormat::Png => "png",
        ImageFormat::Jpeg => "jpeg",
        ImageFormat::Webp => "webp",
    };
    let size = match resolution {
        Resolution::Dpi(dpi) => format!("--dpi {dpi}"),
        Resolution::MaxPixels(pixels) => format!("--max-pixels {pixels}"),
        Resolution::ModelPixels(pixels) => format!("--max-pixels {pixels} --model-size"),
    };
    let engine = match engine {
        Engine::Pdfium => "",
        Engine::Hayro => " --engine hayro",
    };
    format!("`{size} --format {format}{engine}`")
}

/// A manifest is data: it must not make us remove a file elsewhere.
fn is_below(file: &str) -> bool {
    use std::path::Component::Normal;
    Path::new(file)
        .components()
        .all(|part| matches!(part, Normal(_)))
}

fn ends_torn(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).map_err(|e| cannot("read", path, e))?;
    Ok(bytes.last().is_some_and(|&byte| byte != b'\n'))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::pdf::{WorkerProgram, Workers};

    #[test]
    fn a_shard_may_end_while_another_looks() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            inputs: Vec::new(),
            out: dir.path().to_owned(),
            resolution: Resolution::Dpi(72),
            format: ImageFormat::Png,
            engine: Engine::Pdfium,
            selected: None,
            shard: Some(Shard { index: 2, count: 2 }),
            existing: Existing::Refuse,
            workers: Workers {
                program: WorkerProgram {
                    program: PathBuf::new(),
                    args: Vec::new(),
                },
                jobs: None,
                timeout: Duration::from_secs(1),
                memory_bytes: 0,
                passwords: Vec::new(),
                pdfium: None,
            },
        };
        let manifest = dir.path().join("manifest.1-of-2.jsonl");
        let journal = dir.path().join("manifest.1-of-2.jsonl.journal");
        fs::write(&manifest, "").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::write(&journal, "").unwrap();
                    fs::remove_file(&journal).unwrap();
                }
            });
            let looks: Vec<Result<Output>> = (0..2000).map(|_| Output::look(&options)).collect();
            done.store(true, Ordering::Relaxed);
            for look in looks {
                look.unwrap();
            }
        });
    }
}
