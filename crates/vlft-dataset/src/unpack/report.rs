//! What was found in the archives. The counts reconcile: entries = written + duplicates + junk +
//! directories.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::format::{bytes, count, grouped};
use vlft_base::{Diagnostic, Result};

use super::entry::{Archive, Entry};
use super::{Options, Plan, target};

/// So many faults and odd names are shown.
const SHOWN: usize = 1000;
const SHOWN_ODD: usize = 10;

/// Why something cannot be unpacked; each has its own advice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The entry would leave the directory, or is no plain file.
    Unsafe,
    /// Names that a file system takes for the same.
    Meets,
    Large,
    Encrypted,
    /// Compressed in a way that is not read here.
    Method,
    Damaged,
    /// The archive itself cannot be read.
    Unreadable,
}

impl Cause {
    fn hint(self) -> &'static str {
        match self {
            Cause::Unsafe => {
                "if you trust the archive, unpack it by hand, rename what is listed, and pack it anew"
            }
            Cause::Meets => {
                "unpack the archives into directories of their own, or rename what is listed"
            }
            Cause::Large => {
                "if you trust the archive, raise `--max-entry-mib` or `--max-total-gib`, or unpack it by hand"
            }
            Cause::Encrypted => "decrypt the archive by other means and pack it anew",
            Cause::Method => {
                "unpack the archive by other means and pack it anew, stored or deflated"
            }
            Cause::Damaged => "download or copy the archive again",
            Cause::Unreadable => "check the paths; they are relative to the working directory",
        }
    }
}

/// Everything that is wrong, collected over all archives.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

struct Fault {
    cause: Cause,
    archive: PathBuf,
    text: String,
}

impl Faults {
    pub(super) fn add(
        &mut self,
        archive: &Path,
        entry: &Entry,
        cause: Cause,
        why: impl fmt::Display,
    ) {
        self.add_archive(archive, cause, format!("{entry} {why}"));
    }

    pub(super) fn add_archive(&mut self, archive: &Path, cause: Cause, text: String) {
        self.0.push(Fault {
            cause,
            archive: archive.to_path_buf(),
            text,
        });
    }

    pub(super) fn into_result(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let error = Diagnostic::error(format!(
            "{} in the archives; nothing was written",
            count(self.0.len() as u64, "fault")
        ))
        .with_rule("archive-refused")
        .hint(self.hints());
        let shown = self.0.iter().take(SHOWN);
        let error = shown.fold(error, |all, fault| {
            all.at(&fault.archive).detail(&fault.text)
        });
        Err(match self.0.len().checked_sub(SHOWN) {
            Some(more @ 1..) => error.caused_by(format!("{} more", grouped(more as u64))),
            _ => error,
        })
    }
}

impl Faults {
    /// The advice for each cause, in the order in which the causes are told.
    fn hints(&self) -> String {
        let mut hints: Vec<&str> = Vec::new();
        for fault in &self.0 {
            if !hints.contains(&fault.cause.hint()) {
                hints.push(fault.cause.hint());
            }
        }
        hints.join("\n      ")
    }
}

/// The result of [`super::unpack`].
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub archives: u64,
    /// Of all kinds, in all archives.
    pub entries: u64,
    pub written: u64,
    pub bytes: u64,
    /// Same name and same content as an entry of another archive.
    pub duplicates: u64,
    /// `__MACOSX`, `.DS_Store` and the like, left out.
    pub junk: u64,
    pub directories: u64,
    pub kinds: Kinds,
    pub out: PathBuf,
    /// All of it was there before, byte for byte, and nothing was written.
    pub already_there: bool,
    pub dry_run: bool,
    /// Names that were read in another way than they are written, or fit only some systems, and
    /// archives inside the archives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub odd_names: Vec<String>,
}

/// Files by what they are for, told by their extension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kinds {
    pub images: u64,
    pub labels: u64,
    pub pdfs: u64,
    pub archives: u64,
    pub other: u64,
}

impl Report {
    pub(super) fn new(options: &Options, archives: &[Archive], plan: &Plan<'_>) -> Self {
        let mut kinds = Kinds::default();
        for name in plan.files.keys() {
            let extension = name
                .rsplit_once('.')
                .map_or("", |(_, e)| e)
                .to_ascii_lowercase();
            *match extension.as_str() {
                "png" | "jpg" | "jpeg" | "webp" | "tif" | "tiff" | "bmp" | "gif" => {
                    &mut kinds.images
                }
                "json" | "jsonl" | "ndjson" | "csv" | "tsv" | "txt" | "xml" => &mut kinds.labels,
                "pdf" => &mut kinds.pdfs,
                _ if target::is_archive(name) => &mut kinds.archives,
                _ => &mut kinds.other,
            } += 1;
        }
        let sum = |of: fn(&Archive) -> u64| archives.iter().map(of).sum::<u64>();
        let files = sum(|a| a.entries.len() as u64);
        Self {
            archives: archives.len() as u64,
            entries: files + sum(|a| a.junk) + sum(|a| a.directories),
            written: plan.files.len() as u64,
            bytes: plan.bytes,
            duplicates: plan.duplicates,
            junk: sum(|a| a.junk),
            directories: sum(|a| a.directories),
            kinds,
            out: options.out.clone(),
            already_there: false,
            dry_run: options.dry_run,
            odd_names: archives
                .iter()
                .flat_map(|a| {
                    let path = a.path.display();
                    a.odd
                        .iter()
                        .map(move |(entry, why)| format!("{path}, {entry}: {why}"))
                })
                .collect(),
        }
    }

    /// One warning for all odd names; `None` when there are none.
    pub fn warning(&self) -> Option<Diagnostic> {
        let total = self.odd_names.len();
        if total == 0 {
            return None;
        }
        let mut message = Diagnostic::warning(format!(
            "{} to look at",
            count(total as u64, "entry").replace("entrys", "entries")
        ));
        for name in self.odd_names.iter().take(SHOWN_ODD) {
            message = message.caused_by(name);
        }
        if total > SHOWN_ODD {
            message =
                message.caused_by(format!("and {} more", grouped((total - SHOWN_ODD) as u64)));
        }
        Some(message.hint("check that labels and images still match by name"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = match (self.already_there, self.dry_run) {
            (true, _) => "there already",
            (_, true) => "to be written",
            _ => "written",
        };
        writeln!(
            f,
            "{} in {}: {} {written} ({}), {}, {} of the system left out, {}",
            count(self.entries, "entry").replace("entrys", "entries"),
            count(self.archives, "archive"),
            grouped(self.written),
            bytes(self.bytes),
            count(self.duplicates, "duplicate"),
            grouped(self.junk),
            count(self.directories, "directory").replace("directorys", "directories"),
        )?;
        let k = &self.kinds;
        let kinds: Vec<String> = [
            (k.images, "image"),
            (k.labels, "label file"),
            (k.pdfs, "PDF"),
            (k.archives, "archive"),
            (k.other, "other file"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, noun)| count(n, noun))
        .collect();
        writeln!(f, "{}", kinds.join(", "))
    }
}
