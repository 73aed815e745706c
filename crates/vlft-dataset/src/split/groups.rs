//! Records in groups that must not be parted. Two documents are in one group when a record has them
//! both, when they come from one source file, share a page (the same bytes, or the same looks), show
//! the same pages, or have the same answer.
//!
//! What many documents have (a blank sheet, the terms on the back of a form, an answer of two words)
//! ties nothing together: it would make one group of everything. More than [`COMMON`] documents make
//! it common; two records with exactly the same pages are tied however common these are.

use super::facts::{RecordFacts, Shared};
use crate::disjoint::Sets;
use crate::perceptual::{PageHash, near_pairs};
use crate::seen::{ByHash, hash128};

/// In more documents than this, a page is a form and not a copy.
pub(crate) const COMMON: usize = 8;

pub(crate) struct Groups {
    /// Per document: the document that names its group.
    pub(crate) of_document: Vec<u32>,
    /// Documents that were tied to another one, by what tied them.
    pub(crate) joined: Joined,
    /// What is too common to tie, each with a record that has it: (index of the record, of its image).
    pub(crate) common_images: Vec<(usize, usize)>,
    pub(crate) common_targets: Vec<usize>,
    /// Documents in the largest group, and the one that names it.
    pub(crate) largest: (usize, u32),
}

#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Joined {
    pub by_source: u64,
    pub by_image: u64,
    pub by_looks: u64,
    pub by_target: u64,
}

pub(crate) fn group(records: &[RecordFacts], shared: &Shared) -> Groups {
    let mut sets = Sets::new(shared.documents.len());
    let mut joined = Joined::default();
    let mut before = 0;
    let mut count = |sets: &Sets| {
        let new = sets.joins - before;
        before = sets.joins;
        new as u64
    };

    let with_source = records.iter().filter(|record| record.source > 0);
    tie(
        with_source.map(|record| (record.source, record.document)),
        &mut sets,
    );
    joined.by_source = count(&sets);

    tie_same_pages(records, shared, &mut sets);
    let images = images(records, shared);
    let hash = |seen: &SeenImage| shared.images.hashes[seen.image as usize];
    let mut by_bytes: Vec<(u128, u32, usize)> = images
        .iter()
        .enumerate()
        .filter_map(|(at, seen)| Some((hash(seen)?, seen.document, at)))
        .collect();
    let mut common_images: Vec<(usize, usize)> = tie_unless_common(&mut by_bytes, &mut sets)
        .into_iter()
        .map(|at| (images[at].record, images[at].place))
        .collect();
    joined.by_image = count(&sets);

    let mut by_looks: Vec<(u128, u32, usize)> = Vec::new();
    let clusters = clusters(shared);
    for (at, seen) in images.iter().enumerate() {
        if let Some(cluster) = hash(seen).and_then(|hash| clusters.get(&hash)) {
            by_looks.push((u128::from(*cluster), seen.document, at));
        }
    }
    let common = tie_unless_common(&mut by_looks, &mut sets);
    common_images.extend(
        common
            .into_iter()
            .map(|at| (images[at].record, images[at].place)),
    );
    common_images.sort_unstable();
    joined.by_looks = count(&sets);

    let mut by_target: Vec<(u128, u32, usize)> = records
        .iter()
        .enumerate()
        .filter(|(_, record)| record.target > 0)
        .map(|(index, record)| (record.target, record.document, index))
        .collect();
    let mut common_targets = tie_unless_common(&mut by_target, &mut sets);
    common_targets.sort_unstable();
    joined.by_target = count(&sets);

    let (of_document, largest) = name(&mut sets, shared);
    Groups {
        of_document,
        joined,
        common_images,
        common_targets,
        largest,
    }
}

/// The shortest name of a group's documents, and of these the first in the alphabet, names the group,
/// whatever the order of the records. A copy has a longer name than the original, so it does not move
/// the group: `x (1).pdf` goes where `x.pdf` is.
fn name(sets: &mut Sets, shared: &Shared) -> (Vec<u32>, (usize, u32)) {
    let count = shared.documents.len();
    let rank = |document: u32| {
        let name = shared.documents.get(document);
        (name.len(), name)
    };
    let mut names: Vec<u32> = (0..count as u32).collect();
    let mut sizes = vec![0usize; count];
    for document in 0..count {
        let root = sets.root(document);
        sizes[root] += 1;
        if rank(document as u32) < rank(names[root]) {
            names[root] = document as u32;
        }
    }
    let largest = (0..count).max_by_key(|root| (sizes[*root], count - root));
    let largest = largest.map_or((0, 0), |root| (sizes[root], names[root]));
    let of_document = (0..count)
        .map(|document| names[sets.root(document)])
        .collect();
    (of_document, largest)
}

/// Ties all documents that have the same value.
fn tie(values: impl Iterator<Item = (u128, u32)>, sets: &mut Sets) {
    let mut first: ByHash<u32> = ByHash::default();
    for (value, document) in values {
        let first = *first.entry(value).or_insert(document);
        sets.join(first as usize, document as usize);
    }
}

/// Ties the documents of each value but those of values that are common; of these it returns the
/// smallest third number each. (value, document, what the caller knows it by)
pub(crate) fn tie_unless_common(values: &mut [(u128, u32, usize)], sets: &mut Sets) -> Vec<usize> {
    values.sort_unstable();
    let mut common = Vec::new();
    for same in values.chunk_by(|a, b| a.0 == b.0) {
        let mut roots: Vec<usize> = same
            .iter()
            .map(|(_, document, _)| sets.root(*document as usize))
            .collect();
        roots.sort_unstable();
        roots.dedup();
        if roots.len() > COMMON {
            common.extend(same.iter().map(|(.., at)| *at).min());
            continue;
        }
        for pair in roots.windows(2) {
            sets.join(pair[0], pair[1]);
        }
    }
    common
}

struct SeenImage {
    record: usize,
    /// Which of the record's images.
    place: usize,
    image: u32,
    document: u32,
}

fn images(records: &[RecordFacts], shared: &Shared) -> Vec<SeenImage> {
    let records = records.iter().enumerate();
    records
        .flat_map(|(index, record)| {
            let images = shared.images_of(record).iter().enumerate();
            images.map(move |(place, image)| SeenImage {
                record: index,
                place,
                image: *image,
                document: record.document,
            })
        })
        .collect()
}

fn tie_same_pages(records: &[RecordFacts], shared: &Shared, sets: &mut Sets) {
    let pages = records.iter().filter_map(|record| {
        let images = shared.images_of(record);
        let hashes: Option<Vec<u128>> = images
            .iter()
            .map(|i| shared.images.hashes[*i as usize])
            .collect();
        let hashes = hashes.filter(|hashes| !hashes.is_empty())?;
        Some((hash128(&hashes), record.document))
    });
    tie(pages, sets);
}

/// Images that look the same as another one: their bytes' hash -> a number of what they look like.
pub(crate) fn clusters(shared: &Shared) -> ByHash<u32> {
    let known: Vec<(u128, PageHash)> = shared
        .images
        .looks
        .iter()
        .filter_map(|(image, looks)| Some((shared.images.hashes[*image as usize]?, *looks)))
        .collect();
    let looks: Vec<PageHash> = known.iter().map(|(_, looks)| *looks).collect();
    let mut sets = Sets::new(looks.len());
    let mut members = Vec::new();
    for pair in near_pairs(&looks) {
        sets.join(pair.first, pair.second);
        members.extend([pair.first, pair.second]);
    }
    members
        .into_iter()
        .map(|at| (known[at].0, sets.root(at) as u32))
        .collect()
}
