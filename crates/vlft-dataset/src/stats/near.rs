//! Pages that look the same although their bytes differ: saved again, scaled, scanned again. Images
//! have the hash of the manifest; the others are known only where they were drawn for a page.

use std::collections::{HashMap, HashSet};

use super::Dataset;
use super::duplicates::Groups;
use crate::disjoint::Sets;
use crate::jsonl::shown;
use crate::perceptual::{PageHash, near_pairs};

pub(crate) struct Near {
    /// Image -> the line of the first record that shows one like it, and that one's path.
    pub(crate) looks_like: HashMap<u32, (u64, String)>,
    pub(crate) groups: Groups,
    /// Images that could be compared: nothing is known of the others.
    pub(crate) compared: u64,
}

/// `contents` has per image a number that those with the same bytes share, `drawn` what else is
/// known of their looks.
pub(crate) fn find(dataset: &Dataset, contents: &[u32], drawn: &HashMap<u32, PageHash>) -> Near {
    let content = |image: u32| contents[image as usize];
    let hash = |image: u32| {
        let look = dataset.images[image as usize].look;
        look.or(drawn.get(&image).copied())
    };
    let all = (0..dataset.images.len() as u32).filter_map(|image| Some((image, hash(image)?)));
    let all: Vec<(u32, PageHash)> = all.collect();
    let compared = all.len() as u64;
    // One of each content: equal bytes are told elsewhere.
    let mut seen = HashSet::new();
    let (known, hashes): (Vec<u32>, Vec<PageHash>) = all
        .into_iter()
        .filter(|(image, _)| seen.insert(content(*image)))
        .unzip();
    let mut first_line: HashMap<u32, u64> = HashMap::new();
    for record in &dataset.records {
        for image in &record.images {
            first_line.entry(content(*image)).or_insert(record.line);
        }
    }
    let line_of = |index: usize| first_line[&content(known[index])];
    let path_of = |index: usize| shown(&dataset.images[known[index] as usize].path);
    let mut sets = Sets::new(known.len());
    for pair in near_pairs(&hashes) {
        sets.join(pair.first, pair.second);
    }
    let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
    for index in 0..known.len() {
        groups.entry(sets.root(index)).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|g| g.len() > 1).collect();
    for group in &mut groups {
        group.sort_by_key(|index| line_of(*index));
    }
    groups.sort_by_key(|group| line_of(group[0]));
    let mut looks_like = HashMap::new();
    for group in &groups {
        let first = (line_of(group[0]), path_of(group[0]));
        for index in &group[1..] {
            looks_like.insert(known[*index], first.clone());
        }
    }
    Near {
        looks_like,
        compared,
        groups: Groups::of(groups.into_iter(), path_of),
    }
}
