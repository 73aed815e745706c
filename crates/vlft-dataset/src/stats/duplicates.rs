//! What is there twice: images, answers, whole records. Of images only those are read whose length
//! another file has too, and of these only what no manifest has the hash of.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use vlft_base::digest::sha256_file;

/// What the report says about it. Lines and files are examples: the first of the largest group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Image files whose bytes another file of this dataset has.
    pub same_images: Groups,
    /// Image files that look like another, though their bytes differ.
    pub near_images: Groups,
    /// Image files whose looks are known: from the manifest, or because a page was written.
    pub near_compared: u64,
    /// Records that show the very same images.
    pub same_pages: Groups,
    /// Records with the same images, prompt and answer.
    pub same_records: Groups,
    /// Records with the same images and prompt, but other answers.
    pub conflicts: Groups,
    /// Records with the same answer to other images.
    pub same_answers: Groups,
}

/// Things that are alike: `members` of them in `groups`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Groups {
    pub groups: u64,
    pub members: u64,
    /// Of the largest group: the first few, by line or file.
    pub example: Vec<String>,
}

/// One record, by what it is compared with.
pub(crate) struct Compared {
    pub(crate) line: u64,
    /// Ids of image contents, in order; empty for a record without images.
    pub(crate) images: Vec<u32>,
    pub(crate) prompt: u128,
    pub(crate) target: u128,
    /// It has an answer that says something.
    pub(crate) answers: bool,
}

/// A record's place among its like, for the page: the first line of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alike {
    pub(crate) same_record_as: Option<u64>,
    pub(crate) same_pages_as: Option<u64>,
    pub(crate) same_answer_as: Option<u64>,
}

/// One image file.
pub(crate) struct ImageFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) bytes: u64,
    /// From the manifest.
    pub(crate) sha256: Option<&'a str>,
}

/// Per file a number that equal files share, and the groups of equal ones. A file that cannot be
/// read any more equals none.
pub(crate) fn contents(
    files: &[ImageFile<'_>],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> (Vec<u32>, Groups) {
    let mut by_length: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        by_length.entry(file.bytes).or_default().push(index);
    }
    let mut doubtful: Vec<usize> = by_length
        .into_values()
        .filter(|same| same.len() > 1)
        .flatten()
        .collect();
    doubtful.sort_unstable();
    let done = std::sync::atomic::AtomicU64::new(0);
    let hashes: Vec<Option<String>> = doubtful
        .par_iter()
        .map(|index| {
            let file = &files[*index];
            let hash = match file.sha256 {
                Some(known) => Some(known.to_owned()),
                None => sha256_file(file.path).ok(),
            };
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            progress(done, doubtful.len() as u64);
            hash
        })
        .collect();
    let mut ids: Vec<u32> = (0..files.len() as u32).collect();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, hash) in doubtful.into_iter().zip(hashes) {
        if let Some(hash) = hash {
            groups.entry(hash).or_default().push(index);
        }
    }
    for group in groups.values() {
        for index in group {
            ids[*index] = group[0] as u32;
        }
    }
    let name = |index: usize| crate::jsonl::shown(files[index].path);
    (ids, Groups::of(groups.into_values(), name))
}

impl Groups {
    /// Of groups of indices in their order; single ones do not count.
    pub(crate) fn of(
        groups: impl Iterator<Item = Vec<usize>>,
        name: impl Fn(usize) -> String,
    ) -> Self {
        const EXAMPLES: usize = 3;
        let mut out = Self::default();
        let mut largest: Vec<usize> = Vec::new();
        for group in groups.filter(|group| group.len() > 1) {
            out.groups += 1;
            out.members += group.len() as u64;
            if group.len() > largest.len()
                || (group.len() == largest.len() && group[0] < largest[0])
            {
                largest = group;
            }
        }
        out.example = largest.into_iter().take(EXAMPLES).map(name).collect();
        out
    }
}

/// Compares records with each other. `same_images` comes from [`contents`].
pub(crate) fn compare(records: &[Compared], same_images: Groups) -> (Duplicates, Vec<Alike>) {
    let mut alike = vec![Alike::default(); records.len()];
    let shown: Vec<usize> = with(records, |r| !r.images.is_empty());
    let pages = group(&shown, |i| &records[i].images);
    let all: Vec<usize> = (0..records.len()).collect();
    let asked = group(&all, |i| (&records[i].images, records[i].prompt));
    let answering = with(records, |r| r.answers);
    let answers = group(&answering, |i| records[i].target);

    let line = |index: usize| records[index].line;
    for group in &pages {
        for index in &group[1..] {
            alike[*index].same_pages_as = Some(line(group[0]));
        }
    }
    let (mut same, mut conflicts) = (Vec::new(), Vec::new());
    for asked in asked {
        let answered = group(&asked, |i| records[i].target);
        if answered.len() > 1 {
            conflicts.push(asked);
        }
        for group in answered.into_iter().filter(|group| group.len() > 1) {
            for index in &group[1..] {
                alike[*index].same_record_as = Some(line(group[0]));
            }
            same.push(group);
        }
    }
    // The same answer to the same pages is a double, told above.
    let mut same_answers = Vec::new();
    for answers in answers {
        let first = answers[0];
        let others = |i: &usize| records[*i].images != records[first].images;
        if answers.iter().any(others) {
            for index in &answers[1..] {
                alike[*index].same_answer_as = Some(line(first));
            }
            same_answers.push(answers);
        }
    }
    let named = |index: usize| format!("line {}", line(index));
    let duplicates = Duplicates {
        same_images,
        near_images: Groups::default(),
        near_compared: 0,
        same_pages: Groups::of(pages.into_iter(), named),
        same_records: Groups::of(same.into_iter(), named),
        conflicts: Groups::of(conflicts.into_iter(), named),
        same_answers: Groups::of(same_answers.into_iter(), named),
    };
    (duplicates, alike)
}

fn with(records: &[Compared], keep: impl Fn(&Compared) -> bool) -> Vec<usize> {
    let indices = records.iter().enumerate();
    indices
        .filter(|(_, record)| keep(record))
        .map(|(index, _)| index)
        .collect()
}

/// Indices with equal keys, groups in the order of their first members.
fn group<K: std::hash::Hash + Eq>(indices: &[usize], key: impl Fn(usize) -> K) -> Vec<Vec<usize>> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in indices {
        let place = *places.entry(key(*index)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(*index),
            None => groups.push(vec![*index]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: u64, images: &[u32], prompt: u128, target: u128) -> Compared {
        Compared {
            line,
            images: images.to_vec(),
            prompt,
            target,
            answers: target != 0,
        }
    }

    #[test]
    fn records_are_compared_by_pages_prompt_and_answer() {
        let records = [
            record(1, &[1], 7, 10),
            record(2, &[1], 7, 10),
            record(3, &[1], 7, 11),
            record(4, &[2], 7, 10),
            record(5, &[1], 8, 12),
            record(6, &[], 7, 0),
            record(7, &[3], 7, 0),
        ];
        let (found, alike) = compare(&records, Groups::default());
        let told = |groups: &Groups| (groups.groups, groups.members, groups.example.join(", "));
        assert_eq!(
            told(&found.same_pages),
            (1, 4, "line 1, line 2, line 3".into())
        );
        assert_eq!(told(&found.same_records), (1, 2, "line 1, line 2".into()));
        assert_eq!(
            told(&found.conflicts),
            (1, 3, "line 1, line 2, line 3".into())
        );
        assert_eq!(
            told(&found.same_answers),
            (1, 3, "line 1, line 2, line 4".into())
        );
        assert_eq!(alike[1].same_record_as, Some(1));
        assert_eq!(alike[3].same_answer_as, Some(1));
        assert_eq!(alike[5], Alike::default());
    }

    #[test]
    fn equal_files_are_found_by_their_bytes_or_the_manifest_s_hash() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|name| dir.path().join(name))
            .into();
        for (path, bytes) in paths.iter().zip(["xx", "xx", "yy", "xxx", "zz"]) {
            std::fs::write(path, bytes).unwrap();
        }
        let file = |index: usize, bytes, sha256| ImageFile {
            path: &paths[index],
            bytes,
            sha256,
        };
        let y = vlft_base::digest::sha256("yy");
        let files = [
            file(0, 2, None),
            file(1, 2, None),
            file(2, 2, None),
            file(3, 3, None),
            // The manifest knows; the file is not opened.
            file(4, 2, Some(y.as_str())),
        ];
        let (ids, groups) = contents(&files, &|_, _| {});
        assert_eq!(ids, [0, 0, 2, 3, 2]);
        assert_eq!((groups.groups, groups.members), (2, 4));
    }
}
