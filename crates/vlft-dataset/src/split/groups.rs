//! Records in groups that must not be parted. Two records are in one group when they have the same
//! document, come from one source file, show the same pages, or share a page.
//!
//! A page that many documents have (a blank sheet, the terms on the back of a form) ties nothing
//! together: it would make one group of everything. More than [`COMMON`] documents make a page
//! common; two records with exactly the same pages are tied however common these are.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::facts::{Images, RecordFacts};

/// In more documents than this, a page is a form and not a copy.
pub(crate) const COMMON: usize = 8;

pub(crate) struct Groups {
    /// Per record, in order: the key of its group. Records with one key stay together.
    pub(crate) of_record: Vec<String>,
    /// How many different documents (values of the grouping key) there are.
    pub(crate) documents: usize,
    /// Records without the grouping key: each counts as a document of its own.
    pub(crate) without_key: usize,
    /// Documents that were tied to another one, by what tied them.
    pub(crate) joined_by_source: usize,
    pub(crate) joined_by_image: usize,
    /// An image for each page that is too common to tie.
    pub(crate) common_images: Vec<usize>,
}

pub(crate) fn group(records: &[RecordFacts], images: &Images) -> Groups {
    let mut keys: Vec<String> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut document_of = Vec::with_capacity(records.len());
    let mut without_key = 0;
    for record in records {
        let key = record.group.clone().unwrap_or_else(|| {
            without_key += 1;
            // Cannot collide with a value of the key: those of files do not start like this.
            format!("\u{0}record {}", record.id)
        });
        let next = keys.len();
        let index = *known.entry(key.clone()).or_insert(next);
        if index == next {
            keys.push(key);
        }
        document_of.push(index);
    }

    let mut sets = Sets::new(keys.len());
    let mut by_source: HashMap<&str, usize> = HashMap::new();
    for (record, document) in records.iter().zip(&document_of) {
        if let Some(source) = &record.source_sha256 {
            sets.join(*by_source.entry(source).or_insert(*document), *document);
        }
    }
    let joined_by_source = sets.joins;
    let common_images = join_by_images(records, &document_of, images, &mut sets);

    // The first key in the alphabet names the group, whatever the order of the records.
    let mut names: HashMap<usize, &String> = HashMap::new();
    for (document, key) in keys.iter().enumerate() {
        let name = names.entry(sets.root(document)).or_insert(key);
        *name = (*name).min(key);
    }
    let of_record = document_of
        .iter()
        .map(|document| names[&sets.root(*document)].clone())
        .collect();
    Groups {
        of_record,
        documents: keys.len(),
        without_key,
        joined_by_source,
        joined_by_image: sets.joins - joined_by_source,
        common_images,
    }
}

fn join_by_images(
    records: &[RecordFacts],
    document_of: &[usize],
    images: &Images,
    sets: &mut Sets,
) -> Vec<usize> {
    let mut by_pages: HashMap<Vec<u128>, usize> = HashMap::new();
    let mut by_page: BTreeMap<u128, (usize, HashSet<usize>)> = BTreeMap::new();
    for (record, document) in records.iter().zip(document_of) {
        let hashes: Vec<(usize, u128)> = record
            .images
            .iter()
            .filter_map(|i| Some((*i, images.hashes[*i]?)))
            .collect();
        for (image, hash) in &hashes {
            by_page
                .entry(*hash)
                .or_insert_with(|| (*image, HashSet::new()))
                .1
                .insert(*document);
        }
        if !hashes.is_empty() {
            let pages = hashes.iter().map(|(_, hash)| *hash).collect();
            sets.join(*by_pages.entry(pages).or_insert(*document), *document);
        }
    }
    let mut common = Vec::new();
    for (image, documents) in by_page.into_values() {
        let sets_with_it: HashSet<usize> = documents.iter().map(|d| sets.root(*d)).collect();
        if sets_with_it.len() > COMMON {
            common.push(image);
            continue;
        }
        let mut documents = documents.into_iter();
        if let Some(first) = documents.next() {
            documents.for_each(|other| sets.join(first, other));
        }
    }
    common.sort_unstable();
    common
}

/// Disjoint sets of documents.
struct Sets {
    parent: Vec<usize>,
    /// How many joins brought two sets together.
    joins: usize,
}

impl Sets {
    fn new(count: usize) -> Self {
        Self {
            parent: (0..count).collect(),
            joins: 0,
        }
    }

    fn root(&mut self, mut item: usize) -> usize {
        while self.parent[item] != item {
            self.parent[item] = self.parent[self.parent[item]];
            item = self.parent[item];
        }
        item
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent[a.max(b)] = a.min(b);
            self.joins += 1;
        }
    }
}
