//! Where a file came from: a page of a PDF by the manifest beside it, or an entry of a zip by the
//! lineage that `unpack` left. Both are looked for in the folders above the file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::Result;
use vlft_base::digest::sha256_file;
use vlft_base::output::cannot;

use crate::image_path::{base_of, shown_short};
use crate::jsonl::shown;
use crate::lineage::{Lineage, Now, Source, place_of};
use crate::manifest::{Manifest, PageEntry};
use crate::unpack::entry_of;

/// Where a file came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Origin {
    /// `rasterize` drew it.
    Page {
        /// The PDF as the manifest names it.
        document: String,
        page: u32,
        pages: u32,
        source_sha256: String,
        /// The PDF itself, where the lineage of the pages leads to it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pdf: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pdf_now: Option<Now>,
        rasterizer: String,
        dpi: f64,
    },
    /// `unpack` wrote it.
    Entry {
        archive: String,
        /// From 1, in the archive's directory; absent when the archive no longer has it.
        #[serde(skip_serializing_if = "Option::is_none")]
        entry: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        archive_now: Now,
    },
    /// Nothing in the folders above says so.
    Unknown,
}

/// What was read on the way, so that a manifest is read once for all pages of a record.
#[derive(Default)]
pub(super) struct Origins {
    manifests: HashMap<PathBuf, HashMap<String, PageEntry>>,
    lineages: HashMap<PathBuf, Option<Lineage>>,
}

/// Folders above a file that are looked at.
const MOST_LEVELS: usize = 8;

impl Origins {
    /// How a file is now, as far as its origin tells, and where it came from.
    pub(super) fn of(&mut self, file: &Path) -> Result<(Now, Origin)> {
        let whole = file.canonicalize().map_err(|e| cannot("read", file, e))?;
        // Folders are named as the file was, as far as that goes.
        let mut given = Some(base_of(file));
        for dir in whole.ancestors().skip(1).take(MOST_LEVELS) {
            let shown_dir = given.unwrap_or(dir);
            let below = shown(whole.strip_prefix(dir).unwrap_or(&whole));
            if let Some(entry) = self.page(dir, &below)? {
                return self.of_page(&entry, &whole, dir);
            }
            if let Some(lineage) = self.lineage(dir)?
                && lineage.command == "unpack"
            {
                return of_entry(&lineage, shown_dir, &below, &whole);
            }
            given = given
                .and_then(Path::parent)
                .filter(|parent| !parent.as_os_str().is_empty());
        }
        Ok((Now::Same, Origin::Unknown))
    }

    fn page(&mut self, dir: &Path, below: &str) -> Result<Option<PageEntry>> {
        if !self.manifests.contains_key(dir) {
            // A manifest that cannot be read now tells nothing.
            let manifest = Manifest::read(dir).ok().flatten().unwrap_or_default();
            let pages = manifest.pages.into_iter();
            let by_file = pages.map(|page| (page.file.clone(), page)).collect();
            self.manifests.insert(dir.to_path_buf(), by_file);
        }
        Ok(self.manifests[dir].get(below).cloned())
    }

    fn lineage(&mut self, dir: &Path) -> Result<Option<Lineage>> {
        if let Some(known) = self.lineages.get(dir) {
            return Ok(known.clone());
        }
        let found = match place_of(dir).is_file() {
            true => Lineage::of(dir).ok().flatten(),
            false => None,
        };
        self.lineages.insert(dir.to_path_buf(), found.clone());
        Ok(found)
    }

    fn of_page(&mut self, entry: &PageEntry, file: &Path, dir: &Path) -> Result<(Now, Origin)> {
        let now = compare(file, &entry.sha256)?;
        let pdf = self.pdf(entry, dir)?;
        let origin = Origin::Page {
            document: entry.document.clone(),
            page: entry.page,
            pages: entry.pages,
            source_sha256: entry.source_sha256.clone(),
            pdf_now: pdf
                .as_ref()
                .map(|pdf| compare(pdf, &entry.source_sha256))
                .transpose()?,
            pdf: pdf.map(|pdf| shown_short(&pdf)),
            rasterizer: entry.rasterizer.clone(),
            dpi: entry.dpi,
        };
        Ok((now, origin))
    }

    /// The PDF of a page, if the lineage of the pages names it or a folder that holds it.
    fn pdf(&mut self, entry: &PageEntry, dir: &Path) -> Result<Option<PathBuf>> {
        let Some(lineage) = self.lineage(dir)? else {
            return Ok(None);
        };
        let base = base_of(&place_of(dir)).to_path_buf();
        // Named by its hash, also when it is gone or has changed since; of copies the one with its name.
        let name = Path::new(&entry.document);
        let same = |input: &&Source| input.sha256 == entry.source_sha256;
        let places = lineage.inputs.iter().filter(same);
        let mut places: Vec<PathBuf> = places.map(|input| input.place(&base)).collect();
        places.sort_by_key(|place| !place.ends_with(name));
        if let Some(place) = places.into_iter().next() {
            return Ok(Some(place));
        }
        Ok(lineage.inputs.iter().find_map(|input| {
            let place = input.place(&base);
            // The document is named relative to the deepest folder of all inputs, which may be one
            // of those above the input.
            let roots = place.ancestors().take(MOST_LEVELS);
            let mut pdfs = roots.map(|root| root.join(name));
            match place.ends_with(name) && place.is_file() {
                true => Some(place.clone()),
                false => pdfs.find(|pdf| pdf.is_file()),
            }
        }))
    }
}

fn of_entry(lineage: &Lineage, dir: &Path, below: &str, file: &Path) -> Result<(Now, Origin)> {
    let base = base_of(&place_of(dir)).to_path_buf();
    let archives = || lineage.inputs.iter().filter(|i| i.role == "archive");
    for input in archives() {
        let archive = input.place(&base);
        let Some(entry) = entry_of(&archive, below) else {
            continue;
        };
        let now = match entry.is(file)? {
            true => Now::Same,
            false => Now::Changed,
        };
        let origin = Origin::Entry {
            archive: shown_short(&archive),
            entry: Some(entry.number),
            name: Some(entry.name),
            archive_now: input.look(&base)?,
        };
        return Ok((now, origin));
    }
    // None of them has it: it was put there later, or an archive is gone.
    let mut states =
        archives().map(|input| Ok::<_, vlft_base::Diagnostic>((input, input.look(&base)?)));
    let changed = states.find(|state| !matches!(state, Ok((_, Now::Same))));
    Ok(match changed.transpose()? {
        Some((input, archive_now)) => (
            Now::Same,
            Origin::Entry {
                archive: shown_short(&input.place(&base)),
                entry: None,
                name: None,
                archive_now,
            },
        ),
        None => (Now::Same, Origin::Unknown),
    })
}

fn compare(file: &Path, sha256: &str) -> Result<Now> {
    if !file.is_file() {
        return Ok(Now::Gone);
    }
    let found = sha256_file(file).map_err(|e| cannot("read", file, e))?;
    Ok(match found == sha256 {
        true => Now::Same,
        false => Now::Changed,
    })
}
