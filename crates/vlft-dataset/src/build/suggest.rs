//! Suggested lines for the alias file: for a document without pages, those that are nearest and free;
//! for one whose pages could be several, each of them. A person decides.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use vlft_base::format::one_line;
use vlft_base::output::{cannot, write_atomic};
use vlft_base::{Diagnostic, Result};

use super::images::{Images, Reading};
use super::matching::Match;
use super::names::Pattern;
use super::report::Reject;
use super::{Options, aliases};
use crate::jsonl::shown;

const HEAD: &str = "\
# Lines that `vlft build-jsonl` suggests for documents without pages of their own. None counts yet:
# copy the file, take the `#` from the lines that are right, and pass it with `--aliases`.
version = 1
[aliases]
";

#[derive(Default)]
pub(super) struct Suggestions {
    /// Names of readings whose images no other document has.
    free: BTreeSet<String>,
    text: String,
}

/// `data/all.jsonl` -> `data/all.aliases.suggested.toml`
fn path(out: &Path) -> PathBuf {
    out.with_extension("aliases.suggested.toml")
}

/// Somebody may have edited the suggestions in place: they must not be overwritten.
pub(super) fn check(options: &Options) -> Result<()> {
    let path = path(&options.out);
    let is_read = options.aliases.as_ref().is_some_and(|aliases| {
        aliases
            .canonicalize()
            .is_ok_and(|aliases| path.canonicalize().is_ok_and(|path| path == aliases))
    });
    match is_read {
        true => Err(
            Diagnostic::error("the aliases would be overwritten by new suggestions")
                .at(&path)
                .hint("copy the file to another name and pass that"),
        ),
        false => Ok(()),
    }
}

impl Suggestions {
    pub(super) fn new(matches: &[Match], images: &Images) -> Self {
        let used: BTreeSet<usize> = matches
            .iter()
            .filter_map(|found| match found {
                Match::Found { reading, .. } => Some(&images.readings[*reading].files),
                _ => None,
            })
            .flatten()
            .copied()
            .collect();
        let is_free = |r: &&Reading| r.is_whole() && r.files.iter().all(|f| !used.contains(f));
        let free = images.readings.iter().filter(is_free);
        Self {
            free: free.map(|r| r.name.clone()).collect(),
            text: String::new(),
        }
    }

    /// Puts the lines for a rejected document into its reject, and notes them.
    pub(super) fn add(&mut self, reject: &mut Reject, found: &Match, images: &Images) {
        let Some(label) = &reject.name else { return };
        reject.aliases = match found {
            Match::Nothing => reject
                .candidates
                .iter()
                .filter(|name| self.free.contains(*name))
                .map(|name| aliases::line(label, name))
                .collect(),
            Match::Ambiguous { readings, .. } => readings
                .iter()
                .map(|&r| aliases::line(label, &called(&images.readings[r], images)))
                .collect(),
            _ => Vec::new(),
        };
        if !reject.aliases.is_empty() {
            let why = reject.also.last().unwrap_or(&reject.detail);
            self.text += &format!("\n# {}\n", one_line(why));
            for line in &reject.aliases {
                self.text += &format!("# {line}\n");
            }
        }
    }

    /// Where the suggestions are, if there are any. Those of an earlier run do not stay.
    pub(super) fn write(self, options: &Options) -> Result<Option<String>> {
        let path = path(&options.out);
        if self.text.is_empty() {
            if path.exists() {
                fs::remove_file(&path).map_err(|e| cannot("remove", &path, e))?;
            }
            return Ok(None);
        }
        write_atomic(&path, format!("{HEAD}{}", self.text).as_bytes())?;
        Ok(Some(shown(&path)))
    }
}

/// How an alias names a reading, so that it means this one.
fn called(reading: &Reading, images: &Images) -> String {
    match (&reading.pattern, &reading.files[..]) {
        (pattern, [only]) if *pattern != Pattern::Manifest => shown(&images.files[*only]),
        _ if reading.folder.is_empty() => reading.name.clone(),
        _ => format!("{}/{}", reading.folder, reading.name),
    }
}
