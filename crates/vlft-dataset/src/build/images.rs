//! The images in the `--images` directories and every way to read them as pages of documents. What
//! `rasterize` wrote is read from its manifest; for loose images the file name is all there is, so
//! each file keeps all its possible readings and `matching` decides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use walkdir::WalkDir;

use super::names::{Pattern, readings};
use crate::jsonl::shown;
use crate::manifest::{Manifest, PageEntry};

/// All images of all directories.
#[derive(Debug, Default)]
pub(crate) struct Images {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) readings: Vec<Reading>,
    /// Files whose names are not Unicode cannot stand in a JSONL file.
    pub(crate) unnameable: Vec<String>,
}

/// One way to read some files as the pages of one document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The document's name as the files tell it: with its extension from a manifest, usually
    /// without one from image names.
    pub(crate) name: String,
    /// Directories above the name, relative to `--images` or as in the manifest, with `/`.
    pub(crate) folder: String,
    /// Which `--images` directory, in the order given.
    pub(crate) root: usize,
    pub(crate) pattern: Pattern,
    /// Indices into [`Images::files`], in page order.
    pub(crate) files: Vec<usize>,
    /// 1-based page numbers, beside `files`.
    pub(crate) pages: Vec<u32>,
    pub(crate) source_sha256: Option<String>,
    pub(crate) fault: Option<PageFault>,
}

/// Why a set of pages is not a whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PageFault {
    Missing { missing: Vec<u32>, of: u32 },
    Twice { page: u32 },
}

impl Reading {
    /// A set of files that could well be this document, although it is not whole. A single image
    /// with a high number is more likely a name that ends in a number.
    pub(crate) fn is_plausible(&self) -> bool {
        self.fault.is_none() || self.pages.len() > 1 || self.pages.first().is_some_and(|p| *p <= 1)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.fault.is_none()
    }
}

/// What to say of a directory of images that is not there.
pub(crate) fn missing(root: &Path) -> Option<Diagnostic> {
    (!root.is_dir()).then(|| {
        Diagnostic::error("no such directory of images")
            .at(root)
            .hint("`--images` takes what `vlft rasterize` or `vlft unpack` wrote with `--out`")
    })
}

/// Finds the images below each directory; all of them exist. A directory with a manifest is read through it; images
/// beside it that it does not list are loose.
pub(crate) fn index(roots: &[PathBuf]) -> Result<Images> {
    let mut images = Images::default();
    let mut seen = BTreeSet::new();
    for (number, root) in roots.iter().enumerate() {
        index_root(&mut images, number, root, &mut seen)?;
    }
    Ok(images)
}

/// `seen` holds what an earlier root, which may contain this one, has already given.
fn index_root(
    images: &mut Images,
    number: usize,
    root: &Path,
    seen: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let whole = root.canonicalize().map_err(|e| cannot("read", root, e))?;
    let first_time = |path: &Path, seen: &mut BTreeSet<PathBuf>| {
        seen.insert(whole.join(path.strip_prefix(root).unwrap_or(path)))
    };
    let mut listed = BTreeSet::new();
    let mut loose = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(root).to_path_buf();
            cannot("read", &path, e.into())
        })?;
        if entry.file_type().is_dir() {
            if let Some(manifest) = Manifest::read(entry.path())?
                && first_time(entry.path(), seen)
            {
                add_manifest(images, number, entry.path(), &manifest, &mut listed)?;
            }
        } else if is_image(entry.path()) && first_time(entry.path(), seen) {
            loose.push(entry.into_path());
        }
    }
    loose.retain(|path| !listed.contains(path));
    add_loose(images, number, root, loose);
    Ok(())
}

fn is_image(path: &Path) -> bool {
    // `._a.jpg`: what macOS puts beside `a.jpg` into zips. It is no image.
    let is_shadow = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("._"));
    !is_shadow
        && path.extension().and_then(|e| e.to_str()).is_some_and(|e| {
            ["png", "jpg", "jpeg", "webp"]
                .iter()
                .any(|known| e.eq_ignore_ascii_case(known))
        })
}

fn add_manifest(
    images: &mut Images,
    root: usize,
    dir: &Path,
    manifest: &Manifest,
    listed: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    for (document, pages) in manifest.by_document() {
        let (folder, name) = document.rsplit_once('/').unwrap_or(("", document));
        let start = images.files.len();
        for page in &pages {
            let path = dir.join(&page.file);
            if !path.is_file() {
                return Err(lost_page(dir, page));
            }
            listed.insert(path.clone());
            images.files.push(path);
        }
        let numbers: Vec<u32> = pages.iter().map(|p| p.page).collect();
        images.readings.push(Reading {
            name: name.to_owned(),
            folder: folder.to_owned(),
            root,
            pattern: Pattern::Manifest,
            files: (start..images.files.len()).collect(),
            // What `--pages` left out is not missing.
            fault: missing_pages(&numbers, pages[0].pages, |page| {
                pages.iter().any(|p| p.is_wanted(page))
            }),
            pages: numbers,
            source_sha256: Some(pages[0].source_sha256.clone()),
        });
    }
    Ok(())
}

fn lost_page(dir: &Path, page: &PageEntry) -> Diagnostic {
    Diagnostic::error("an image of the manifest is not there")
        .at(dir.join(&page.file))
        .detail(format!("page {} of `{}`", page.page, page.document))
        .hint("run the same `vlft rasterize` command again; it does only what is missing")
}

/// Groups loose images by every name they may have.
pub(super) fn add_loose(images: &mut Images, root: usize, dir: &Path, loose: Vec<PathBuf>) {
    let mut groups: BTreeMap<(String, String, Pattern), Vec<(u32, usize)>> = BTreeMap::new();
    for path in loose {
        let relative = path.strip_prefix(dir).unwrap_or(&path);
        let (Some(stem), Some(text)) =
            (path.file_stem().and_then(|s| s.to_str()), relative.to_str())
        else {
            images.unnameable.push(shown(&path));
            continue;
        };
        let text = text.replace('\\', "/");
        let folder = text.rsplit_once('/').map_or("", |(folder, _)| folder);
        let file = images.files.len();
        for (name, page, pattern) in readings(stem) {
            groups
                .entry((folder.to_owned(), name.to_owned(), pattern))
                .or_default()
                .push((page, file));
        }
        images.files.push(path);
    }
    for ((folder, name, pattern), mut pages) in groups {
        pages.sort_unstable();
        let reading = |pages: &[(u32, usize)], fault| Reading {
            name: name.clone(),
            folder: folder.clone(),
            root,
            pattern: pattern.clone(),
            files: pages.iter().map(|(_, file)| *file).collect(),
            pages: pages.iter().map(|(page, _)| *page).collect(),
            source_sha256: None,
            fault,
        };
        if let Pattern::Numbered(_) = pattern {
            let numbers: Vec<u32> = pages.iter().map(|(page, _)| *page).collect();
            images.readings.push(reading(&pages, page_fault(&numbers)));
        } else {
            // `a.jpg` and `a.png` are two readings, not two pages.
            for page in &pages {
                images
                    .readings
                    .push(reading(std::slice::from_ref(page), None));
            }
        }
    }
}

/// `numbers` is sorted. Pages count from 1; a set that starts at 0 counts from 0.
fn page_fault(numbers: &[u32]) -> Option<PageFault> {
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        return Some(PageFault::Twice { page: pair[0] });
    }
    let first = numbers[0].min(1);
    let last = *numbers.last().expect("a group has a file");
    missing_between(numbers, first, last, |_| true)
}

fn missing_pages(numbers: &[u32], of: u32, wanted: impl Fn(u32) -> bool) -> Option<PageFault> {
    missing_between(numbers, 1, of, wanted)
}

fn missing_between(
    numbers: &[u32],
    first: u32,
    last: u32,
    wanted: impl Fn(u32) -> bool,
) -> Option<PageFault> {
    let missing: Vec<u32> = (first..=last)
        .filter(|p| wanted(*p) && numbers.binary_search(p).is_err())
        .collect();
    (!missing.is_empty()).then_some(PageFault::Missing { missing, of: last })
}

/// A rasterized document, for tests.
#[cfg(test)]
pub(super) fn document(images: &mut Images, name: &str, pages: u32) {
    let start = images.files.len();
    images
        .files
        .extend((1..=pages).map(|page| PathBuf::from(format!("{name}-{page}"))));
    images.readings.push(Reading {
        name: name.to_owned(),
        folder: String::new(),
        root: 0,
        pattern: Pattern::Manifest,
        files: (start..images.files.len()).collect(),
        pages: (1..=pages).collect(),
        source_sha256: Some(name.to_owned()),
        fault: None,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading_of(files: &[&str], name: &str) -> Vec<String> {
        let mut images = Images::default();
        let paths = files.iter().map(|f| Path::new("d").join(f)).collect();
        add_loose(&mut images, 0, Path::new("d"), paths);
        images
            .readings
            .iter()
            .filter(|r| r.name == name)
            .map(|r| {
                let files: Vec<String> = r
                    .files
                    .iter()
                    .map(|f| shown(&images.files[*f])[2..].to_owned())
                    .collect();
                format!(
                    "{}{}",
                    files.join(" "),
                    if r.is_whole() { "" } else { " (not whole)" }
                )
            })
            .collect()
    }

    #[test]
    fn loose_images_keep_all_their_readings() {
        for (files, name, expected) in [
            (
                &["a_1.jpg", "a_2.jpg", "a_10.jpg"][..],
                "a",
                &["a_1.jpg a_2.jpg a_10.jpg (not whole)"][..],
            ),
            (&["a_2.jpg", "a_1.jpg"], "a", &["a_1.jpg a_2.jpg"]),
            (&["a_1.jpg", "a_2.jpg"], "a_1", &["a_1.jpg"]),
            (&["a_0.png", "a_1.png"], "a", &["a_0.png a_1.png"]),
            (
                &["a_01.png", "a_1.png"],
                "a",
                &["a_01.png a_1.png (not whole)"],
            ),
            (
                &["a.png", "a_single_page.jpg", "a-p1.png"],
                "a",
                &["a.png", "a_single_page.jpg", "a-p1.png"],
            ),
            (&["a.png", "a.jpg"], "a", &["a.png", "a.jpg"]),
            (
                &["x/a_1.png", "y/a_2.png"],
                "a",
                &["x/a_1.png", "y/a_2.png (not whole)"],
            ),
        ] {
            assert_eq!(reading_of(files, name), expected, "{name} in {files:?}");
        }
    }

    #[test]
    fn what_is_missing_is_listed() {
        assert_eq!(
            page_fault(&[1, 2, 4]),
            Some(PageFault::Missing {
                missing: vec![3],
                of: 4
            })
        );
        assert_eq!(
            missing_pages(&[1], 3, |_| true),
            Some(PageFault::Missing {
                missing: vec![2, 3],
                of: 3
            })
        );
        assert_eq!(page_fault(&[1, 1]), Some(PageFault::Twice { page: 1 }));
        assert_eq!(page_fault(&[0, 1]), None);
    }
}
