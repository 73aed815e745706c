//! What the manifest beside an image says about it: its hash without reading it, its resolution.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::image_path::base_of;
use crate::manifest::{Manifest, PageEntry};

/// Manifests by directory, each read once.
#[derive(Default)]
pub(crate) struct PageFacts {
    /// Directories as they were asked for, and what they really are.
    real: HashMap<PathBuf, Option<PathBuf>>,
    manifests: HashMap<PathBuf, Option<HashMap<PathBuf, PageEntry>>>,
}

/// A manifest stands beside its images or a little above them.
const LEVELS_UP: usize = 4;

impl PageFacts {
    /// The manifest's entry for an image; `None` when there is no manifest, or when the file is no
    /// longer the one that was written (its size differs).
    pub(crate) fn find(&mut self, image: &Path) -> Option<&PageEntry> {
        let asked = base_of(image);
        if !self.real.contains_key(asked) {
            self.real
                .insert(asked.to_owned(), asked.canonicalize().ok());
        }
        let file = self.real[asked].as_ref()?.join(image.file_name()?);
        let directory = file
            .ancestors()
            .skip(1)
            .take(LEVELS_UP)
            .find(|dir| self.manifest(dir).is_some_and(|m| m.contains_key(&file)))?
            .to_owned();
        let entry = self.manifests[&directory].as_ref()?.get(&file)?;
        let size = std::fs::metadata(&file).ok()?.len();
        (entry.bytes == size).then_some(entry)
    }

    fn manifest(&mut self, directory: &Path) -> Option<&HashMap<PathBuf, PageEntry>> {
        if !self.manifests.contains_key(directory) {
            // A manifest that cannot be read is no help; `rasterize` and `build` say what is wrong.
            let read = Manifest::read(directory).ok().flatten();
            let by_file = read.map(|manifest| {
                let entry = |page: PageEntry| (directory.join(&page.file), page);
                manifest.pages.into_iter().map(entry).collect()
            });
            self.manifests.insert(directory.to_owned(), by_file);
        }
        self.manifests[directory].as_ref()
    }
}
