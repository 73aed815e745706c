//! `vlft unpack`: images and labels out of zips, and nothing outside the output directory.
//!
//! A zip is foreign data whose names and sizes may lie. Everything that can be known without
//! decompressing is checked for all archives first; what is good is then written below a temporary
//! name, checked again while it is read (sizes, checksums), and renamed as a whole. So a bad archive
//! means that nothing was written.

mod entry;
mod names;
mod origin;
mod report;
mod target;
mod write;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::file_names::folded;
use crate::jsonl::shown;
use entry::Archive;
use report::{Cause, Faults};
use vlft_base::format::bytes;
use vlft_base::output::{Existing, cannot, check_folder, check_free};
use vlft_base::paths::{example_in, nearest_sibling};
use vlft_base::{Diagnostic, Kind, Result};

pub use names::Encoding;
pub(crate) use origin::entry_of;
pub use report::{Kinds, Report};

#[derive(Clone, Debug)]
pub struct Options {
    pub archives: Vec<PathBuf>,
    pub out: PathBuf,
    /// `Replace` replaces the whole directory.
    pub existing: Existing,
    pub limits: Limits,
    /// Of names that are not UTF-8; guessed for each archive when absent.
    pub encoding: Option<Encoding>,
    /// Check only.
    pub dry_run: bool,
}

/// What an honest archive of images and labels does not pass.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one entry, unpacked.
    pub entry_bytes: u64,
    /// Of all archives together, unpacked.
    pub total_bytes: u64,
    /// Unpacked to packed, for entries above [`Limits::RATIO_FROM_BYTES`].
    pub ratio: u64,
}

impl Limits {
    /// Small files compress to almost nothing and harm nobody.
    const RATIO_FROM_BYTES: u64 = 16 << 20;
}

impl Default for Limits {
    /// A blank page as an uncompressed image shrinks a thousandfold, but has less than 64 MiB.
    fn default() -> Self {
        Self {
            entry_bytes: 1 << 30,
            total_bytes: 64 << 30,
            ratio: 200,
        }
    }
}

/// Unpacks all archives into one directory. `progress` gets (bytes done, bytes in all).
///
/// # Errors
/// Every fault of every archive in one message; nothing was written then. [`Kind::NothingToDo`] when
/// the archives hold no files.
pub fn unpack(options: &Options, progress: &dyn Fn(u64, u64)) -> Result<Report> {
    check_archives(&options.archives)?;
    let mut archives = Vec::new();
    let mut faults = Faults::default();
    for path in &options.archives {
        match Archive::open(path, &options.limits, options.encoding, &mut faults) {
            Ok(archive) => archives.push(archive),
            Err((cause, why)) => faults.add_archive(path, cause, why),
        }
    }
    let plan = Plan::new(&archives, &options.limits, &mut faults)?;
    faults.into_result()?;
    let mut report = Report::new(options, &archives, &plan);
    if plan.files.is_empty() {
        let nothing = Diagnostic::error("there is nothing to unpack").with_kind(Kind::NothingToDo);
        return Err(options
            .archives
            .iter()
            .fold(nothing, |all, path| all.at(path)));
    }
    if options.existing == Existing::Refuse && plan.is_there(&archives, &options.out)? {
        report.already_there = true;
        return Ok(report);
    }
    check_out(options)?;
    if !options.dry_run {
        write::write(&plan, &archives, options, progress)?;
    }
    Ok(report)
}

/// What cannot be an archive because of its path alone, all of it at once.
fn check_archives(archives: &[PathBuf]) -> Result<()> {
    let problems = archives.iter().filter_map(|path| {
        if path.is_dir() {
            let example = example_in(path, "zip").unwrap_or_else(|| path.join("NAME.zip"));
            return Some(
                Diagnostic::error("expected a zip, found a folder")
                    .at(path)
                    .hint(format!(
                        "name the zips in it, such as `{}`",
                        shown(&example)
                    )),
            );
        }
        let error = fs::metadata(path).err()?;
        Some(match error.kind() {
            io::ErrorKind::NotFound => match nearest_sibling(path) {
                Some(name) => Diagnostic::error("no such zip")
                    .at(path)
                    .hint(format!("did you mean `{name}`?")),
                None => Diagnostic::error("no such zip")
                    .at(path)
                    .hint("check the paths; they are relative to the working directory"),
            },
            _ => cannot("read", path, error),
        })
    });
    match Diagnostic::all(problems) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Which entry becomes which file.
struct Plan<'a> {
    /// Target, relative to the output directory -> where it comes from.
    files: BTreeMap<&'a str, Origin>,
    /// Entries of another archive with the same name and content as one in `files`.
    duplicates: u64,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Origin {
    archive: usize,
    entry: usize,
}

impl<'a> Plan<'a> {
    /// Merges the archives. Names that a file system may take for the same are faults, unless they
    /// are equal and so is the content.
    fn new(archives: &'a [Archive], limits: &Limits, faults: &mut Faults) -> Result<Self> {
        let mut plan = Self {
            files: BTreeMap::new(),
            duplicates: 0,
            bytes: 0,
        };
        let mut by_name: BTreeMap<String, Origin> = BTreeMap::new();
        for (index, archive) in archives.iter().enumerate() {
            for (number, entry) in archive.entries.iter().enumerate() {
                let here = Origin {
                    archive: index,
                    entry: number,
                };
                let there = *by_name.entry(folded(&entry.target)).or_insert(here);
                if (there.archive, there.entry) == (index, number) {
                    plan.files.insert(&entry.target, here);
                    plan.bytes += entry.bytes;
                    continue;
                }
                let other = &archives[there.archive].entries[there.entry];
                let same_name = there.archive != index && other.target == entry.target;
                if same_name && same_content(archives, there, here)? {
                    plan.duplicates += 1;
                } else {
                    let other_place = match there.archive == index {
                        true => other.to_string(),
                        false => format!("{other} of `{}`", archives[there.archive].path.display()),
                    };
                    let why = match other.target == entry.target {
                        true => format!("has the name of {other_place}, and other content"),
                        false => format!("differs only in case or accents from {other_place}"),
                    };
                    faults.add(&archive.path, entry, Cause::Meets, why);
                }
            }
        }
        plan.check_directories(archives, faults);
        if plan.bytes > limits.total_bytes
            && let Some(last) = archives.last()
        {
            let (all, limit) = (bytes(plan.bytes), bytes(limits.total_bytes));
            let why = format!("with it, all unpacks to {all}, more than the limit of {limit}");
            faults.add_archive(&last.path, Cause::Large, why);
        }
        Ok(plan)
    }

    /// `a` cannot be a file when `a/b` is one too.
    fn check_directories(&self, archives: &[Archive], faults: &mut Faults) {
        let names: BTreeMap<String, Origin> = self
            .files
            .iter()
            .map(|(name, origin)| (folded(name), *origin))
            .collect();
        for name in names.keys() {
            for (at, _) in name.match_indices('/') {
                if let Some(file) = names.get(&name[..at]) {
                    let archive = &archives[file.archive];
                    let entry = &archive.entries[file.entry];
                    let why = "is a file, and a directory for other entries";
                    faults.add(&archive.path, entry, Cause::Meets, why);
                }
            }
        }
    }

    /// Whether the output directory holds all of it already, byte for byte.
    fn is_there(&self, archives: &[Archive], out: &Path) -> Result<bool> {
        for (name, origin) in &self.files {
            let path = out.join(name);
            let entry = &archives[origin.archive].entries[origin.entry];
            if !fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == entry.bytes) {
                return Ok(false);
            }
        }
        for (name, origin) in &self.files {
            let path = out.join(name);
            let mut file = File::open(&path).map_err(|e| cannot("read", &path, e))?;
            let mut reader = archives[origin.archive].reader();
            if !reader.is_content(origin.entry, &mut file)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Checksums first; they may be forged, so equal ones are compared by what is really inside.
fn same_content(archives: &[Archive], a: Origin, b: Origin) -> Result<bool> {
    let entry = |o: Origin| &archives[o.archive].entries[o.entry];
    if (entry(a).bytes, entry(a).crc32) != (entry(b).bytes, entry(b).crc32) {
        return Ok(false);
    }
    let mut whole = Vec::new();
    archives[a.archive].reader().append(a.entry, &mut whole)?;
    archives[b.archive]
        .reader()
        .is_content(b.entry, &mut whole.as_slice())
}

fn check_out(options: &Options) -> Result<()> {
    check_folder(&options.out)?;
    check_free(&options.out, options.existing)?;
    // Replacing removes the old directory, and what somebody works in must not vanish.
    let Ok(out) = options.out.canonicalize() else {
        return Ok(());
    };
    let here = std::env::current_dir()
        .and_then(|dir| dir.canonicalize())
        .into_iter();
    let archives = options
        .archives
        .iter()
        .filter_map(|path| path.canonicalize().ok());
    match here.chain(archives).find(|path| path.starts_with(&out)) {
        Some(inside) => Err(Diagnostic::error("cannot replace this directory")
            .at(&options.out)
            .caused_by(format!("`{}` is inside it", inside.display()))
            .hint("choose another `--out`")),
        None => Ok(()),
    }
}
