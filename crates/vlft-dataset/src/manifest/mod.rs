//! The manifest: what `rasterize` wrote, one page per line, in `manifest.jsonl` beside the images.
//! Whoever asks "which page of which document is this image" reads it here and never guesses from
//! the file name. A sharded run writes one manifest per shard; reading merges them.

mod content;
mod entry;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vlft_base::input;
use vlft_base::output::{Existing, PartialFile, cannot};
use vlft_base::{Diagnostic, Result};

pub(crate) use content::{Coverage, count_chars};
pub use content::{PageContent, Verdict, VisionReason};
pub use entry::{ImageFormat, PageEntry, Resolution, VERSION};

/// All pages of a directory, ordered by document, then page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    pub pages: Vec<PageEntry>,
}

impl Manifest {
    /// Reads `manifest.jsonl` and the manifests of shards in `dir`; `None` when there is none, that
    /// is when the images do not come from `rasterize`. A run that has not finished is an error.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let found = manifests_in(dir)?;
        // A journal beside a manifest is of a later run, which may have drawn pages anew.
        // An empty one is of a run that failed before its first page.
        let is_empty = |journal: &&PathBuf| fs::metadata(journal).is_ok_and(|m| m.len() == 0);
        let mut journals = found.journals.iter();
        if let Some(journal) = journals.find(|j| found.complete.is_empty() || !is_empty(j)) {
            return Err(unfinished(journal));
        }
        if found.complete.is_empty() {
            return Ok(None);
        }
        let mut pages = Vec::new();
        for path in &found.complete {
            pages.extend(read_lines(path, Torn::Error)?);
        }
        check_shards(dir, &found.complete)?;
        Self::from_pages(dir, pages).map(Some)
    }

    /// Sorts, and refuses two different entries for one page.
    pub(crate) fn from_pages(dir: &Path, mut pages: Vec<PageEntry>) -> Result<Self> {
        pages.sort_by(|a, b| (&a.document, a.page).cmp(&(&b.document, b.page)));
        pages.dedup();
        for pair in pages.windows(2) {
            if (&pair[0].document, pair[0].page) == (&pair[1].document, pair[1].page) {
                return Err(Diagnostic::error("two manifests disagree about one page")
                    .at(dir)
                    .detail(format!("page {} of `{}`", pair[0].page, pair[0].document))
                    .expected(format!("`{}`", pair[0].file))
                    .found(format!("`{}`", pair[1].file))
                    .hint("pass `--force` to rasterize again, or choose another `--out`"));
            }
        }
        Ok(Self { pages })
    }

    /// The pages of each document, in order. A document with a failed page has a gap.
    pub fn by_document(&self) -> BTreeMap<&str, Vec<&PageEntry>> {
        let mut documents: BTreeMap<&str, Vec<&PageEntry>> = BTreeMap::new();
        for page in &self.pages {
            documents.entry(&page.document).or_default().push(page);
        }
        documents
    }

    /// Writes the whole manifest atomically.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut file = PartialFile::create(path, Existing::Replace)?;
        for page in &self.pages {
            let line = serde_json::to_string(page).expect("a page entry is plain data");
            writeln!(file, "{line}").map_err(|e| cannot("write", path, e))?;
        }
        file.commit()
    }
}

/// What to do with a last line that a killed process left without its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Torn {
    Error,
    Ignore,
}

/// The entries of one manifest file.
pub(crate) fn read_lines(path: &Path, torn: Torn) -> Result<Vec<PageEntry>> {
    let text = input::read_to_string(path).map_err(|e| cannot("read", path, e))?;
    parse_lines(path, &text, torn)
}

/// The same; `None` where there is no such file any more.
pub(crate) fn read_lines_if_there(path: &Path, torn: Torn) -> Result<Option<Vec<PageEntry>>> {
    match input::read_to_string(path) {
        // A link that leads nowhere will not go away by itself.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        Err(e) => Err(cannot("read", path, e)),
        Ok(text) => parse_lines(path, &text, torn).map(Some),
    }
}

fn parse_lines(path: &Path, text: &str, torn: Torn) -> Result<Vec<PageEntry>> {
    let mut pages = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let whole = line.ends_with('\n');
        if line.trim().is_empty() || (!whole && torn == Torn::Ignore) {
            continue;
        }
        pages.push(parse_line(line).map_err(|e| e.at_line(path, index as u64 + 1))?);
    }
    Ok(pages)
}

fn parse_line(line: &str) -> Result<PageEntry> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let broken = |e: serde_json::Error| {
        Diagnostic::error("broken line in the manifest")
            .caused_by(e)
            .hint("rasterize again with `--force`")
    };
    let Versioned { version } = serde_json::from_str(line).map_err(broken)?;
    if version > VERSION {
        return Err(
            Diagnostic::error("the manifest was written by a newer vlft")
                .expected(format!("version {VERSION}"))
                .found(format!("version {version}"))
                .hint("update vlft"),
        );
    }
    serde_json::from_str(line).map_err(broken)
}

/// Manifest files by kind, sorted.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) complete: Vec<PathBuf>,
    /// `*.journal`: of a run that is under way or was killed.
    pub(crate) journals: Vec<PathBuf>,
}

/// Finds `manifest.jsonl`, `manifest.I-of-N.jsonl` and their journals. A directory that does not
/// exist has none.
pub(crate) fn manifests_in(dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(cannot("read", dir, e)),
    };
    for entry in entries {
        let name = entry.map_err(|e| cannot("read", dir, e))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.strip_suffix(".journal").is_some_and(is_manifest) {
            found.journals.push(dir.join(name));
        } else if is_manifest(name) {
            found.complete.push(dir.join(name));
        }
    }
    found.complete.sort();
    found.journals.sort();
    Ok(found)
}

fn is_manifest(name: &str) -> bool {
    name == "manifest.jsonl" || shard_of(name).is_some()
}

/// `manifest.2-of-8.jsonl` -> (2, 8).
fn shard_of(name: &str) -> Option<(u32, u32)> {
    let middle = name.strip_prefix("manifest.")?.strip_suffix(".jsonl")?;
    let (index, count) = middle.split_once("-of-")?;
    Some((index.parse().ok()?, count.parse().ok()?))
}

/// Shards that wrote here must all be here: a missing one is a missing part of the data.
fn check_shards(dir: &Path, complete: &[PathBuf]) -> Result<()> {
    let shards: Vec<(u32, u32)> = complete
        .iter()
        .filter_map(|path| shard_of(path.file_name()?.to_str()?))
        .collect();
    for &(_, count) in &shards {
        if let Some(missing) = (1..=count).find(|index| !shards.contains(&(*index, count))) {
            return Err(Diagnostic::error("the manifest of a shard is missing")
                .at(dir.join(format!("manifest.{missing}-of-{count}.jsonl")))
                .hint(format!(
                    "run `vlft rasterize` with `--shard {missing}/{count}` into the same directory"
                )));
        }
    }
    Ok(())
}

fn unfinished(journal: &Path) -> Diagnostic {
    Diagnostic::error("`vlft rasterize` has not finished in this directory")
        .at(journal)
        .hint("run the same `vlft rasterize` command again; it does only what is missing")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const LINE: &str = r#"{"version":1,"document":"a/B (1).PDF","source_sha256":"00","page":2,"pages":3,"file":"a/B (1)-p002.png","width":1240,"height":1754,"dpi":150.0,"requested":{"dpi":150},"format":"png","sha256":"11","bytes":512,"text_chars":7,"rasterizer":"pdfium 8149"}"#;

    pub(crate) fn entry(document: &str, page: u32) -> PageEntry {
        let mut entry: PageEntry = serde_json::from_str(LINE).unwrap();
        (entry.document, entry.page) = (document.into(), page);
        entry
    }

    #[test]
    fn a_line_reads_and_writes_the_same() {
        let page = parse_line(LINE).unwrap();
        assert_eq!(
            (page.page, page.pages, page.format),
            (2, 3, ImageFormat::Png)
        );
        assert_eq!(serde_json::to_string(&page).unwrap(), LINE);
    }

    #[test]
    fn a_line_of_version_2_has_the_facts_of_the_page() {
        let page = PageEntry {
            version: 2,
            selected: Some("1-3,7".parse().unwrap()),
            content: Some(content::tests::content(1500, 0, 0.6)),
            ..entry("a", 1)
        };
        let line = serde_json::to_string(&page).unwrap();
        assert!(line.contains(r#""verdict":"mixed""#), "{line}");
        assert_eq!(parse_line(&line).unwrap(), page);
        assert_eq!(page.text_chars(), Some(1500));
        assert_eq!(entry("a", 1).text_chars(), Some(7));
        assert!(page.is_wanted(7) && !page.is_wanted(4) && entry("a", 1).is_wanted(4));
    }

    #[test]
    fn newer_versions_and_unknown_keys_are_refused() {
        for (from, to, expected) in [
            (
                r#""version":1"#,
                r#""version":3,"new":1"#,
                "written by a newer vlft",
            ),
            (r#""page":2"#, r#""page":2,"x":1"#, "unknown field `x`"),
            (
                r#""format":"png""#,
                r#""format":"gif""#,
                "unknown variant `gif`",
            ),
            (r#""page":2,"#, "", "missing field `page`"),
        ] {
            let error = parse_line(&LINE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    #[test]
    fn shards_merge_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        let write = |name: &str, pages: Vec<PageEntry>| {
            Manifest { pages }.write(&dir.path().join(name)).unwrap()
        };
        write("manifest.1-of-2.jsonl", vec![entry("b", 2), entry("b", 1)]);
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(error.hint_text().unwrap().contains("--shard 2/2"));

        write("manifest.2-of-2.jsonl", vec![entry("a", 1)]);
        let manifest = Manifest::read(dir.path()).unwrap().unwrap();
        let order: Vec<_> = manifest
            .pages
            .iter()
            .map(|p| (p.document.as_str(), p.page))
            .collect();
        assert_eq!(order, [("a", 1), ("b", 1), ("b", 2)]);
        assert_eq!(manifest.by_document()["b"].len(), 2);

        let mut other = entry("a", 1);
        other.file = "elsewhere.png".into();
        write("manifest.jsonl", vec![other]);
        let error = Manifest::read(dir.path()).unwrap_err();
        assert_eq!(error.message(), "two manifests disagree about one page");
    }

    #[test]
    fn a_killed_run_is_said_and_its_torn_line_ignored_on_resume() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("manifest.jsonl.journal");
        fs::write(&journal, format!("{LINE}\n{}", &LINE[..40])).unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(error.message().contains("has not finished"));
        assert_eq!(read_lines(&journal, Torn::Ignore).unwrap().len(), 1);
        assert!(read_lines(&journal, Torn::Error).is_err());
    }
}
