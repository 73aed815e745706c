//! Images of different documents that are the same, by bytes or by looks. That is known in the end,
//! so these problems come after those of the lines, in the order of the lines again.
//!
//! A page that more than [`COMMON`] documents have is the back of a form and no copy: it is told once.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::disjoint::Sets;
use crate::perceptual::{PageHash, near_pairs};
use crate::record::Record;
use crate::rules::{Rule, Selection};
use crate::seen::hash;
use crate::split::COMMON;
use crate::spread::Spread;

use super::images::ImageId;

/// Every image so far, in 32 bytes.
#[derive(Default)]
pub(crate) struct Twins {
    images: Vec<Image>,
    /// Of images that were opened.
    looks: Vec<(u64, PageHash)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Image {
    path: u64,
    /// Two halves, so that it needs no alignment; 0 where it is not known.
    sha256: [u64; 2],
    line: u32,
    /// Hash of the document's name, or of the record's id.
    document: u32,
}

/// What is left of an image while looks are compared, so that there is room for them.
#[derive(Clone, Copy)]
struct Seen {
    path: u64,
    line: u32,
    document: u32,
}

impl From<Image> for Seen {
    fn from(image: Image) -> Self {
        let Image {
            path,
            sha256: _,
            line,
            document,
        } = image;
        Self {
            path,
            line,
            document,
        }
    }
}

/// An image that has a twin in an earlier line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Twin {
    pub(crate) line: u64,
    /// Hash of the image's path.
    pub(crate) path: u64,
    pub(crate) rule: Rule,
    pub(crate) first_line: u64,
    pub(crate) first_path: u64,
    /// In so many documents; above [`COMMON`] this one twin stands for all.
    pub(crate) documents: usize,
}

impl Twins {
    /// The images of one line; `document` from [`document`].
    pub(crate) fn add(&mut self, document: u32, line: u64, images: &[ImageId]) {
        for image in images {
            self.images.push(Image {
                path: image.path,
                sha256: halves(image.sha256.unwrap_or(0)),
                line: u32::try_from(line).unwrap_or(u32::MAX),
                document,
            });
            self.looks
                .extend(image.looks.as_ref().map(|looks| (image.path, **looks)));
        }
    }

    /// All twins, by line. `each_look` tells what is known of looks by the image's bytes.
    pub(crate) fn find(
        mut self,
        rules: &Selection,
        each_look: impl FnOnce(&mut dyn FnMut(u128, PageHash)),
    ) -> Vec<Twin> {
        self.images
            .par_sort_unstable_by_key(|image| (image.path, image.line));
        self.images.dedup_by_key(|image| image.path);
        self.images.shrink_to_fit();
        // Of files with the same bytes the first one stands for all.
        self.images
            .par_sort_unstable_by_key(|image| (image.sha256, image.line, image.path));
        let mut twins = Vec::new();
        let same = |a: &Image, b: &Image| a.sha256 != [0; 2] && a.sha256 == b.sha256;
        if rules.has(Rule::DuplicateImage) {
            for group in self.images.chunk_by(same).filter(|group| group.len() > 1) {
                let group: Vec<Seen> = group.iter().copied().map(Seen::from).collect();
                told(Rule::DuplicateImage, &group, &mut twins);
            }
        }
        if rules.has(Rule::NearImage) {
            self.images.dedup_by(|b, a| same(a, b));
            self.near(each_look, &mut twins);
        }
        twins.sort_unstable();
        twins
    }

    fn near(self, each_look: impl FnOnce(&mut dyn FnMut(u128, PageHash)), twins: &mut Vec<Twin>) {
        let Self {
            mut images,
            looks: opened,
        } = self;
        // The look of every image that has one, in the order of `images`: most do, and nothing else is
        // kept beside it.
        let mut has_look = vec![false; images.len()];
        let mut looks: Vec<PageHash> = Vec::new();
        if opened.is_empty() {
            let spread = Spread::of(images.iter().map(|image| image.sha256[0]));
            each_look(&mut |sha256, page| {
                let wanted = halves(sha256);
                if let Some(at) =
                    spread.place(&images, wanted[0], |image| image.sha256.cmp(&wanted))
                    && sha256 > 0
                    && !std::mem::replace(&mut has_look[at], true)
                {
                    looks.resize(images.len(), PageHash::default());
                    looks[at] = page;
                }
            });
        } else {
            let known: HashMap<u64, PageHash> = opened.into_iter().collect();
            looks.resize(images.len(), PageHash::default());
            for (at, image) in images.iter().enumerate() {
                if let Some(page) = known.get(&image.path) {
                    has_look[at] = true;
                    looks[at] = *page;
                }
            }
        }
        let mut has = has_look.iter();
        images.retain(|_| has.next() == Some(&true));
        let mut has = has_look.iter();
        looks.retain(|_| has.next() == Some(&true));
        drop(has_look);
        let mut seen: Vec<Seen> = images.into_iter().map(Seen::from).collect();
        seen.shrink_to_fit();
        // Whatever is near over others is one group.
        let pairs = near_pairs(&looks);
        let mut sets = Sets::new(looks.len());
        let mut members: Vec<usize> = Vec::with_capacity(2 * pairs.len());
        for pair in pairs {
            sets.join(pair.first, pair.second);
            members.extend([pair.first, pair.second]);
        }
        members.sort_unstable();
        members.dedup();
        let mut grouped: Vec<(usize, Seen)> = members
            .into_iter()
            .map(|index| (sets.root(index), seen[index]))
            .collect();
        grouped.sort_unstable_by_key(|(root, image)| (*root, image.line, image.path));
        for group in grouped.chunk_by(|a, b| a.0 == b.0) {
            let group: Vec<Seen> = group.iter().map(|(_, image)| *image).collect();
            told(Rule::NearImage, &group, twins);
        }
    }
}

/// What tells the document of a record from others: its name, or the record's id.
pub(crate) fn document(record: &Record) -> u32 {
    hash(record.document().unwrap_or(&record.id)) as u32
}

fn halves(sha256: u128) -> [u64; 2] {
    [(sha256 >> 64) as u64, sha256 as u64]
}

/// `group`: the same image in different files, by line.
fn told(rule: Rule, group: &[Seen], twins: &mut Vec<Twin>) {
    let Some((first, rest)) = group.split_first() else {
        return;
    };
    let mut documents: Vec<u32> = group.iter().map(|image| image.document).collect();
    documents.sort_unstable();
    documents.dedup();
    let others = rest.iter().filter(|image| image.document != first.document);
    let shown = if documents.len() > COMMON {
        1
    } else {
        usize::MAX
    };
    twins.extend(others.take(shown).map(|image| Twin {
        line: u64::from(image.line),
        path: image.path,
        rule,
        first_line: u64::from(first.line),
        first_path: first.path,
        documents: documents.len(),
    }));
}
