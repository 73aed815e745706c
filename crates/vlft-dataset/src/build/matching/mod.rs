//! Which pages belong to which label. A match is exact or explained by one step of the ladder in
//! `names`; what could be read in two ways is refused with both named, never guessed.
//!
//! Step by step, and within a step directory by directory, every label that is still open looks for
//! readings with its key whose files are still free. Labels that want the same files are decided
//! together: if there is exactly one way to give each of them a whole document, that is it;
//! otherwise all of them are ambiguous. So of the documents `a` and `a_1`, `a_1.jpg` goes to `a`
//! when `a_1_1.jpg` is there for the other, to `a_1` when `a.jpg` is, and to nobody when it is alone.

mod contest;
mod index;

use std::collections::{BTreeMap, BTreeSet};

use super::images::{Images, PageFault, Reading};
use super::names::{Pattern, STEPS, Step};
use contest::{connected, only_solution};
use index::Index;

/// What was found for one label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Match {
    /// An index into [`Images::readings`] and the step that found it.
    Found {
        reading: usize,
        step: Step,
    },
    /// Several readings, or several labels for one reading.
    Ambiguous {
        step: Step,
        readings: Vec<usize>,
        /// Other labels that want the same files.
        rivals: Vec<usize>,
    },
    /// The only reading is not a whole document.
    NotWhole {
        reading: usize,
        fault: PageFault,
    },
    /// Its name fits only files that belong to another label by a stricter step.
    Taken {
        reading: usize,
        by: usize,
    },
    Nothing,
}

impl Match {
    /// The files that this label matched, whether it gets them or not.
    pub(crate) fn files(&self, images: &Images) -> Vec<usize> {
        match self {
            Match::Found { reading, .. } | Match::NotWhole { reading, .. } => {
                images.readings[*reading].files.clone()
            }
            Match::Ambiguous { readings, .. } => files_of(readings, images).collect(),
            Match::Taken { .. } | Match::Nothing => Vec::new(),
        }
    }
}

/// One answer per label, in order. `labels` are the names in the label file, each once. `aliases`
/// have the reading of some labels; these get it before any name is compared.
pub(crate) fn assign(
    labels: &[String],
    images: &Images,
    aliases: &BTreeMap<usize, usize>,
) -> Vec<Match> {
    let mut state = State {
        owner: vec![None; images.files.len()],
        matches: vec![None; labels.len()],
        broken: vec![None; labels.len()],
    };
    for (&label, &reading) in aliases {
        state.take(label, &images.readings[reading]);
        state.matches[label] = Some(Match::Found {
            reading,
            step: Step::Alias,
        });
    }
    let roots = images
        .readings
        .iter()
        .map(|r| r.root + 1)
        .max()
        .unwrap_or(0);
    for step in STEPS {
        let index = Index::new(step, &images.readings);
        for root in 0..roots {
            let wants = state.wants(labels, images, &index, step, root);
            for group in connected(&wants, images) {
                state.decide(&group, &wants, images, step);
            }
        }
        state.close_broken(images);
    }
    state.finish(labels, images)
}

struct State {
    /// Per file: the label that has it, or that may have it.
    owner: Vec<Option<usize>>,
    matches: Vec<Option<Match>>,
    /// Per label: a plausible reading of this step that is not whole.
    broken: Vec<Option<usize>>,
}

/// The readings that one label could have at one step.
type Wants = BTreeMap<usize, Vec<usize>>;

impl State {
    fn wants(
        &self,
        labels: &[String],
        images: &Images,
        index: &Index,
        step: Step,
        root: usize,
    ) -> Wants {
        let mut wants = Wants::new();
        for (label, name) in labels.iter().enumerate() {
            if self.matches[label].is_some() {
                continue;
            }
            let readings: Vec<usize> = index
                .find(step, name, &images.readings)
                .into_iter()
                .filter(|&r| images.readings[r].root == root)
                .filter(|&r| images.readings[r].is_plausible())
                .filter(|&r| {
                    images.readings[r]
                        .files
                        .iter()
                        .all(|f| self.owner[*f].is_none())
                })
                .collect();
            let readings = without_pages(without_copies(readings, images), images);
            if !readings.is_empty() {
                wants.insert(label, readings);
            }
        }
        wants
    }

    /// Decides labels that want the same files, all together.
    fn decide(&mut self, group: &[usize], wants: &Wants, images: &Images, step: Step) {
        let whole: Vec<(usize, Vec<usize>)> = group
            .iter()
            .map(|label| {
                let readings = wants[label].iter().copied();
                (
                    *label,
                    readings
                        .filter(|r| images.readings[*r].is_whole())
                        .collect(),
                )
            })
            .collect();
        if let Some(solution) = only_solution(&whole, images) {
            for (label, reading) in solution {
                self.take(label, &images.readings[reading]);
                self.matches[label] = Some(Match::Found { reading, step });
            }
            return;
        }
        for (label, readings) in &whole {
            if readings.is_empty() {
                // Another directory may have it whole; if none has, this is the reason.
                self.broken[*label].get_or_insert(wants[label][0]);
                continue;
            }
            let files: BTreeSet<usize> = files_of(&wants[label], images).collect();
            let rivals = group
                .iter()
                .copied()
                .filter(|other| {
                    other != label && files_of(&wants[other], images).any(|f| files.contains(&f))
                })
                .collect();
            self.matches[*label] = Some(Match::Ambiguous {
                step,
                readings: readings.clone(),
                rivals,
            });
        }
        // Nobody may take at a weaker step what was contested here.
        for (label, _) in whole {
            if self.matches[label].is_some() {
                for reading in &wants[&label] {
                    self.take(label, &images.readings[*reading]);
                }
            }
        }
    }

    fn take(&mut self, label: usize, reading: &Reading) {
        for file in &reading.files {
            self.owner[*file].get_or_insert(label);
        }
    }

    /// After a step: a document that is there but not whole is not looked for by weaker names.
    fn close_broken(&mut self, images: &Images) {
        for (found, broken) in self.matches.iter_mut().zip(&mut self.broken) {
            if let (None, Some(reading)) = (&found, broken.take()) {
                *found = Some(not_whole(reading, images));
            }
        }
    }

    /// Names what stood in the way of the labels that are still open.
    fn finish(self, labels: &[String], images: &Images) -> Vec<Match> {
        let last = *STEPS.last().expect("the ladder has steps");
        let index = Index::new(last, &images.readings);
        let matches = self.matches.into_iter().enumerate();
        matches
            .map(|(label, found)| match found {
                Some(found) => found,
                None => {
                    let near = index.find(last, &labels[label], &images.readings);
                    let taken = near.iter().find_map(|&reading| {
                        let files = &images.readings[reading].files;
                        files
                            .iter()
                            .find_map(|f| self.owner[*f])
                            .map(|by| (reading, by))
                    });
                    match (taken, near.first()) {
                        (Some((reading, by)), _) => Match::Taken { reading, by },
                        (None, Some(&reading)) => not_whole(reading, images),
                        (None, None) => Match::Nothing,
                    }
                }
            })
            .collect()
    }
}

fn not_whole(reading: usize, images: &Images) -> Match {
    match images.readings[reading].fault.clone() {
        Some(fault) => Match::NotWhole { reading, fault },
        None => Match::Nothing,
    }
}

fn files_of<'a>(readings: &'a [usize], images: &'a Images) -> impl Iterator<Item = usize> + 'a {
    readings
        .iter()
        .flat_map(|r| images.readings[*r].files.iter().copied())
}

/// Copies of one PDF under one name in several directories are one document: the first is used.
fn without_copies(mut readings: Vec<usize>, images: &Images) -> Vec<usize> {
    let mut sources = BTreeSet::new();
    readings.retain(|&r| match &images.readings[r].source_sha256 {
        Some(source) => sources.insert(source),
        None => true,
    });
    readings
}

/// At a step that ignores the number of a copy, `a - Copy_1.jpg` is page 1 of a copy of `a`, and copy 1
/// itself. What has a page number is a page.
fn without_pages(mut readings: Vec<usize>, images: &Images) -> Vec<usize> {
    let is_paged = |r: &&usize| matches!(images.readings[**r].pattern, Pattern::Numbered(_));
    let paged: Vec<usize> = readings.iter().filter(is_paged).copied().collect();
    let pages: BTreeSet<usize> = files_of(&paged, images).collect();
    readings.retain(|&r| {
        let reading = &images.readings[r];
        reading.pattern != Pattern::Whole || !reading.files.iter().any(|f| pages.contains(f))
    });
    readings
}

#[cfg(test)]
mod tests;
