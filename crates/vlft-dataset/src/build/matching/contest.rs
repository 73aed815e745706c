//! Labels that want the same files: who they are, and the one way in which all get what is theirs.

use std::collections::{BTreeSet, HashMap};

use super::{Wants, files_of};
use crate::build::images::Images;

/// Labels in groups: two labels that want a file in common are in one group.
pub(super) fn connected(wants: &Wants, images: &Images) -> Vec<Vec<usize>> {
    let mut by_file: HashMap<usize, Vec<usize>> = HashMap::new();
    for (label, readings) in wants {
        for file in files_of(readings, images) {
            by_file.entry(file).or_default().push(*label);
        }
    }
    let mut groups = Vec::new();
    let mut seen = BTreeSet::new();
    for start in wants.keys() {
        let mut group = Vec::new();
        let mut pending = vec![*start];
        while let Some(label) = pending.pop() {
            if seen.insert(label) {
                group.push(label);
                let files = files_of(&wants[&label], images);
                pending.extend(files.flat_map(|f| by_file[&f].iter().copied()));
            }
        }
        if !group.is_empty() {
            group.sort_unstable();
            groups.push(group);
        }
    }
    groups
}

/// The one way to give each label one of its readings so that no file is used twice; `None` when
/// there is no way or more than one, or when it would take too long to know.
pub(super) fn only_solution(
    wants: &[(usize, Vec<usize>)],
    images: &Images,
) -> Option<Vec<(usize, usize)>> {
    // Real groups have two or three labels. This bounds what a hostile folder can cost.
    const MAX_STEPS: usize = 20_000;
    const MAX_LABELS: usize = 64;
    if wants.len() > MAX_LABELS {
        return None;
    }
    let mut search = Search {
        wants,
        images,
        used: BTreeSet::new(),
        chosen: Vec::new(),
        found: Vec::new(),
        steps: 0,
    };
    search.go();
    if search.steps >= MAX_STEPS || search.found.len() != 1 {
        return None;
    }
    return search.found.pop();

    struct Search<'a> {
        wants: &'a [(usize, Vec<usize>)],
        images: &'a Images,
        used: BTreeSet<usize>,
        chosen: Vec<(usize, usize)>,
        found: Vec<Vec<(usize, usize)>>,
        steps: usize,
    }

    impl Search<'_> {
        fn go(&mut self) {
            self.steps += 1;
            if self.steps >= MAX_STEPS || self.found.len() > 1 {
                return;
            }
            let Some((label, readings)) = self.wants.get(self.chosen.len()) else {
                self.found.push(self.chosen.clone());
                return;
            };
            for &reading in readings {
                let files = &self.images.readings[reading].files;
                if files.iter().any(|f| self.used.contains(f)) {
                    continue;
                }
                self.used.extend(files);
                self.chosen.push((*label, reading));
                self.go();
                self.chosen.pop();
                for file in files {
                    self.used.remove(file);
                }
            }
        }
    }
}
