//! What manifests say of images, for a million of them: which bytes and what looks a file has,
//! without opening it. [`crate::page_facts`] tells more of an image and needs ten times the memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::iter;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use serde::Deserialize;

use crate::image_path::base_of;
use crate::manifest::manifests_in;
use crate::perceptual::PageHash;
use crate::seen::hash;
use crate::spread::Spread;
use vlft_base::input;

/// Manifests by directory, each read once. Shared between threads.
#[derive(Default)]
pub(crate) struct KnownPages {
    folders: RwLock<HashMap<PathBuf, Arc<Vec<Place>>>>,
    tables: Mutex<HashMap<PathBuf, Option<Arc<Vec<Page>>>>>,
}

/// The folder that was asked for last, by one thread: images of one folder come one after the other, and
/// need not look it up each time. Good for one [`KnownPages`] only, while it forgets nothing.
#[derive(Default)]
pub(crate) struct Nearby {
    folder: PathBuf,
    places: Option<Arc<Vec<Place>>>,
}

/// A manifest that lists files of a folder, under this prefix.
struct Place {
    table: Arc<Vec<Page>>,
    prefix: String,
    /// Of `table`: the pages whose folder has the same hash.
    range: Range<usize>,
    spread: Spread,
}

impl Place {
    /// `None` where the manifest lists nothing under this prefix.
    fn of(table: Arc<Vec<Page>>, prefix: &str) -> Option<Self> {
        let folder = hash(prefix) as u32;
        let start = table.partition_point(|page| page.folder < folder);
        let count = table[start..].partition_point(|page| page.folder == folder);
        let range = start..start + count;
        let spread = Spread::of(table[range.clone()].iter().map(|page| page.key));
        let prefix = prefix.to_owned();
        (count > 0).then_some(Self {
            table,
            prefix,
            range,
            spread,
        })
    }

    fn page(&self, name: &str) -> Option<&Page> {
        let pages = &self.table[self.range.clone()];
        let key = key(&self.prefix, name);
        let at = self.spread.place(pages, key, |page| page.key.cmp(&key))?;
        Some(&pages[at])
    }
}

/// What a manifest says of a file. Pages of one folder stand side by side in the table, as they are asked
/// for one after the other.
struct Page {
    /// Of the whole name in the manifest.
    key: u64,
    /// Two halves, so that it needs no alignment.
    sha256: [u64; 2],
    /// Hash of the name's folder.
    folder: u32,
    /// The size of the file, but for multiples of 4 GiB.
    bytes: u32,
}

/// The keys of a manifest's line that matter here.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    file: Cow<'a, str>,
    sha256: &'a str,
    bytes: u64,
    #[serde(default)]
    page_hash: Option<&'a str>,
}

/// A manifest stands beside its images or a little above them.
const LEVELS_UP: usize = 4;

impl KnownPages {
    /// The first half of the SHA-256 of an image file of `bytes` bytes: enough to tell images apart.
    /// `None` when no manifest lists it, or when the file is no longer the one that was written (its
    /// size differs).
    pub(crate) fn sha256(&self, image: &Path, bytes: u64, near: &mut Nearby) -> Option<u128> {
        let folder = base_of(image);
        if near.folder.as_os_str() != folder.as_os_str() || near.places.is_none() {
            near.folder = folder.to_owned();
            near.places = Some(self.places(folder));
        }
        let places = near.places.as_ref().filter(|places| !places.is_empty())?;
        let name = image.file_name()?.to_str()?;
        places.iter().find_map(|place| {
            let page = place.page(name)?;
            (page.bytes == bytes as u32)
                .then(|| u128::from(page.sha256[0]) << 64 | u128::from(page.sha256[1]))
        })
    }

    /// Reads the manifests that were of use again and gives what they say of pages' looks, by the first
    /// half of the image's SHA-256. (To keep them would cost more memory than all the rest.)
    pub(crate) fn each_look(&self, mut take: impl FnMut(u128, PageHash)) {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folders: Vec<&PathBuf> = tables
            .iter()
            .filter(|(_, t)| t.is_some())
            .map(|(f, _)| f)
            .collect();
        folders.sort();
        for folder in folders {
            let looks = |line: &[u8]| {
                let line: Line<'_> = serde_json::from_slice(line).ok()?;
                Some((
                    half(line.sha256)?,
                    line.page_hash.and_then(PageHash::from_hex)?,
                ))
            };
            // They could be read a moment ago; if they cannot now, they are no help any more.
            let _ = each_line(
                folder,
                |line| Some(looks(line)),
                |looks| {
                    if let Some((sha256, looks)) = looks {
                        take(sha256, looks);
                    }
                },
            );
        }
    }

    /// Forgets which bytes the files have, when nobody will ask any more: room for the looks.
    pub(crate) fn forget_bytes(&self) {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        folders.clear();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for table in tables.values_mut().flatten() {
            *table = Arc::default();
        }
    }

    fn places(&self, folder: &Path) -> Arc<Vec<Place>> {
        let known = self.folders.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = known.get(folder) {
            return Arc::clone(places);
        }
        drop(known);
        let places = Arc::new(self.look_for(folder));
        let mut known = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(folder.to_owned()).or_insert(places))
    }

    fn look_for(&self, folder: &Path) -> Vec<Place> {
        let Ok(real) = folder.canonicalize() else {
            return Vec::new();
        };
        let mut places = Vec::new();
        let mut prefix = String::new();
        for above in real.ancestors().take(LEVELS_UP) {
            if let Some(table) = self.table(above) {
                places.extend(Place::of(table, &prefix));
            }
            match above.file_name().and_then(|name| name.to_str()) {
                Some(name) => prefix = format!("{name}/{prefix}"),
                None => break,
            }
        }
        places
    }

    fn table(&self, folder: &Path) -> Option<Arc<Vec<Page>>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if !tables.contains_key(folder) {
            tables.insert(folder.to_owned(), read(folder).map(Arc::new));
        }
        tables[folder].clone()
    }
}

/// All manifests of a folder. One that cannot be read is no help; `rasterize` and `build-jsonl` say
/// what is wrong with it.
fn read(folder: &Path) -> Option<Vec<Page>> {
    let mut pages: Vec<Page> = Vec::new();
    each_line(folder, parse, |page| pages.push(page))?;
    // Not by rayon: see `each_line`.
    pages.sort_unstable_by_key(|page| (page.folder, page.key));
    // Two files of one key, be it by two manifests or by chance: nothing is said of either.
    let mut kept = 0;
    let mut next = 0;
    while next < pages.len() {
        let page = &pages[next];
        let same = |other: &&Page| (other.folder, other.key) == (page.folder, page.key);
        let count = pages[next..].iter().take_while(same).count();
        let is = |page: &Page| (page.sha256, page.bytes);
        let agree = pages[next..next + count]
            .iter()
            .all(|other| is(other) == is(page));
        if agree {
            pages.swap(kept, next);
            kept += 1;
        }
        next += count;
    }
    pages.truncate(kept);
    pages.shrink_to_fit();
    (!pages.is_empty()).then_some(pages)
}

/// Gives what `read` makes of each line of a folder's manifests, in order. They are read in pieces, so
/// that the text of one is never in memory as a whole. `None` when a file cannot be read, or `read` says
/// so of a line.
///
/// The threads are its own, as many as rayon has: who asks is often one of rayon's, holds the lock of the
/// tables, and while it waited for rayon could be given the next image to ask for.
fn each_line<T: Send>(
    folder: &Path,
    read: impl Fn(&[u8]) -> Option<T> + Sync,
    mut take: impl FnMut(T),
) -> Option<()> {
    let all = |part: &[u8]| -> Option<Vec<T>> {
        let lines = part.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.trim_ascii().is_empty());
        lines.map(&read).collect()
    };
    let mut pieces = Pieces::of(folder).ok()?;
    let mut next = pieces.next().ok()?;
    let mut found = Vec::new();
    while let Some(piece) = next {
        let (parts, following) = thread::scope(|scope| {
            let parts = parts(&piece, rayon::current_num_threads());
            let threads = parts.map(|part| scope.spawn(|| all(part)));
            let threads: Vec<_> = threads.collect();
            // Meanwhile what was found before is taken, and the next piece read.
            found.drain(..).for_each(&mut take);
            let following = pieces.next();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            (joined.collect::<Option<Vec<_>>>(), following)
        });
        found.extend(parts?.into_iter().flatten());
        next = following.ok()?;
    }
    found.drain(..).for_each(&mut take);
    Some(())
}

/// The text of a folder's manifests in pieces of whole lines.
struct Pieces {
    files: std::vec::IntoIter<PathBuf>,
    file: Option<fs::File>,
    /// The beginning of a line that goes on in the next piece.
    rest: Vec<u8>,
}

impl Pieces {
    fn of(folder: &Path) -> vlft_base::Result<Self> {
        Ok(Self {
            files: manifests_in(folder)?.complete.into_iter(),
            file: None,
            rest: Vec::new(),
        })
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        const PIECE: u64 = 4 << 20;
        loop {
            let Some(file) = &mut self.file else {
                let Some(path) = self.files.next() else {
                    return Ok(None);
                };
                self.file = Some(input::open(&path)?);
                continue;
            };
            let mut piece = mem::take(&mut self.rest);
            if file.take(PIECE).read_to_end(&mut piece)? == 0 {
                self.file = None;
                return Ok(Some(piece));
            }
            let whole = memchr::memrchr(b'\n', &piece).map_or(0, |at| at + 1);
            self.rest = piece.split_off(whole);
            return Ok(Some(piece));
        }
    }
}

/// Cuts a text into `count` parts of whole lines, or fewer.
fn parts(text: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    let size = text.len().div_ceil(count.max(1)).max(1);
    let mut rest = text;
    iter::from_fn(move || {
        let cut = match rest.get(size..) {
            Some(more) => size + memchr::memchr(b'\n', more).map_or(more.len(), |at| at + 1),
            None => rest.len(),
        };
        let part;
        (part, rest) = rest.split_at(cut);
        (!part.is_empty()).then_some(part)
    })
}

fn parse(line: &[u8]) -> Option<Page> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let sha256 = half(line.sha256)?;
    let name = line.file.rfind('/').map_or(0, |at| at + 1);
    let (folder, name) = line.file.split_at(name);
    Some(Page {
        key: key(folder, name),
        sha256: [(sha256 >> 64) as u64, sha256 as u64],
        folder: hash(folder) as u32,
        bytes: line.bytes as u32,
    })
}

/// The first half of a SHA-256 in hexadecimal.
fn half(sha256: &str) -> Option<u128> {
    u128::from_str_radix(sha256.get(..32)?, 16).ok()
}

/// Of a file `name` in the folder `prefix`, which ends in `/` or is empty.
fn key(prefix: &str, name: &str) -> u64 {
    hash(&(prefix, name))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn parts_are_whole_lines_and_leave_nothing_out() {
        for text in ["", "\n", "a", "a\n", "aaa\nb\n\ncccccc\nd", "\n\n\n\n"] {
            for count in 0..9 {
                let parts: Vec<&[u8]> = parts(text.as_bytes(), count).collect();
                assert!(parts.len() <= count.max(1), "{text:?}");
                assert_eq!(parts.concat(), text.as_bytes());
                let (_, before) = parts.split_last().unwrap_or((&&b""[..], &[]));
                assert!(before.iter().all(|part| part.ends_with(b"\n")), "{text:?}");
            }
        }
    }

    #[test]
    fn pages_are_found_from_their_folder_and_from_above() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("pages/sub")).unwrap();
        let mut lines = String::new();
        for (file, sha, bytes) in [
            ("a.png", "11", 3),
            ("sub/b.png", "22", 3),
            ("gone.png", "33", 4),
        ] {
            fs::write(root.join("pages").join(file), "xyz").unwrap();
            let line = crate::manifest::tests::LINE
                .replace("a/B (1)-p002.png", file)
                .replace(
                    r#""sha256":"11""#,
                    &format!(r#""sha256":"{}""#, sha.repeat(32)),
                )
                .replace(r#""bytes":512"#, &format!(r#""bytes":{bytes}"#));
            writeln!(lines, "{line}").unwrap();
        }
        fs::write(root.join("pages/manifest.jsonl"), lines).unwrap();
        let known = KnownPages::default();
        let sha = |path: &str| {
            let path = root.join(path);
            let bytes = fs::metadata(&path).map_or(0, |is| is.len());
            known.sha256(&path, bytes, &mut Nearby::default())
        };
        assert_eq!(
            sha("pages/a.png"),
            Some(0x1111_1111_1111_1111_1111_1111_1111_1111)
        );
        assert_eq!(sha("pages/../pages/a.png"), sha("pages/a.png"));
        assert_eq!(
            sha("pages/sub/b.png"),
            Some(0x2222_2222_2222_2222_2222_2222_2222_2222)
        );
        assert_eq!(sha("pages/gone.png"), None, "its size is another");
        assert_eq!(sha("pages/none.png"), None);
        assert_eq!(sha("a.png"), None);
    }
}
