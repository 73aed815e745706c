//! Which pages belong to which label. A match is exact or explained by one step of the ladder in
//! `names`; what could be read in two ways is refused with both named, never guessed.
//!
//! Step by step, and within a step directory by directory, every label that is still open looks for
//! readings with its key whose files are still free. Labels that want the same files are decided
//! together: if there is exactly one way to give each of them a whole document, that is it;
//! otherwise all of them are ambiguous. So of the documents `a` and `a_1`, `a_1.jpg` goes to `a`
//! when `a_1_1.jpg` is there for the other, to `a_1` when `a.jpg` is, and to nobody when it is alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::images::{Images, PageFault, Reading};
use super::names::{Pattern, STEPS, Step, base_name, stem};

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

/// One answer per label, in order. `labels` are the names in the label file, each once.
pub(crate) fn assign(labels: &[String], images: &Images) -> Vec<Match> {
    let mut state = State {
        owner: vec![None; images.files.len()],
        matches: vec![None; labels.len()],
        broken: vec![None; labels.len()],
    };
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
            let readings = without_copies(readings, images);
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

/// Readings by their key at one step.
struct Index(HashMap<String, Vec<usize>>);

impl Index {
    fn new(step: Step, readings: &[Reading]) -> Self {
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, reading) in readings.iter().enumerate() {
            let key = step.key(&reading.name);
            if !key.is_empty() {
                index.entry(key).or_default().push(number);
            }
        }
        Self(index)
    }

    fn find(&self, step: Step, label: &str, readings: &[Reading]) -> Vec<usize> {
        let found = self.0.get(&step.key(base_name(label)));
        let mut found = found.cloned().unwrap_or_default();
        if step == Step::Exact {
            found.retain(|&r| readings[r].has_extension());
        }
        let in_folder: Vec<usize> = found
            .iter()
            .copied()
            .filter(|&r| readings[r].lies_as(label))
            .collect();
        // A label with directories prefers the document that lies as it says.
        if in_folder.is_empty() {
            found
        } else {
            in_folder
        }
    }
}

impl Reading {
    /// Whether the name is the document's own file name and not what is left of an image's.
    fn has_extension(&self) -> bool {
        self.pattern == Pattern::Manifest || stem(&self.name) != self.name
    }

    /// Whether the directories that the label names are those of the reading.
    fn lies_as(&self, label: &str) -> bool {
        let label = label.replace('\\', "/");
        let Some((wanted, _)) = label.rsplit_once('/') else {
            return false;
        };
        let mut own = self.folder.rsplit('/');
        wanted
            .rsplit('/')
            .all(|directory| own.next() == Some(directory))
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

/// Labels in groups: two labels that want a file in common are in one group.
fn connected(wants: &Wants, images: &Images) -> Vec<Vec<usize>> {
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
fn only_solution(wants: &[(usize, Vec<usize>)], images: &Images) -> Option<Vec<(usize, usize)>> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::build::images::{add_loose, document};

    /// `x.pdf*2` is a rasterized document of two pages, `x_1.jpg` a loose image.
    fn images(files: &[&str]) -> Images {
        let mut images = Images::default();
        let (documents, loose): (Vec<&str>, Vec<&str>) =
            files.iter().partition(|f| f.contains('*'));
        for name in documents {
            let (name, pages) = name.split_once('*').unwrap();
            document(&mut images, name, pages.parse().unwrap());
        }
        let loose = loose.into_iter().map(|f| Path::new("d").join(f)).collect();
        add_loose(&mut images, 0, Path::new("d"), loose);
        images
    }

    /// What each label got, as `step: files` or the reason why it got nothing.
    fn assigned(labels: &[&str], files: &[&str]) -> Vec<String> {
        let images = images(files);
        let names: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
        let file_names = |reading: usize| -> Vec<String> {
            let files = &images.readings[reading].files;
            files
                .iter()
                .map(|f| {
                    images.files[*f]
                        .file_name()
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned()
                })
                .collect()
        };
        assign(&names, &images)
            .into_iter()
            .map(|found| match found {
                Match::Found { reading, step } => {
                    format!("{}: {}", step.id(), file_names(reading).join(" "))
                }
                Match::Ambiguous { .. } => "ambiguous".into(),
                Match::NotWhole { .. } => "not whole".into(),
                Match::Taken { by, .. } => format!("taken by {}", labels[by]),
                Match::Nothing => "nothing".into(),
            })
            .collect()
    }

    #[test]
    fn names_and_images_meet_exactly_or_explained_or_not_at_all() {
        for (labels, files, expected) in [
            // Plain cases.
            (
                &["a.pdf"][..],
                &["a.pdf*2"][..],
                &["exact: a.pdf-1 a.pdf-2"][..],
            ),
            (&["a.PDF"], &["a.pdf*1"], &["stem: a.pdf-1"]),
            (
                &["a.pdf"],
                &["a_1.jpg", "a_2.jpg"],
                &["stem: a_1.jpg a_2.jpg"],
            ),
            (
                &["a.pdf"],
                &["a_single_page.jpg"],
                &["stem: a_single_page.jpg"],
            ),
            (&["a.pdf"], &["A.JPG"], &["case: A.JPG"]),
            (&["a.pdf"], &["b.jpg"], &["nothing"]),
            // Never by prefix.
            (&["inv_1.pdf"], &["inv_10.jpg"], &["nothing"]),
            (
                &["inv_1.pdf", "inv_10.pdf"],
                &["inv_10.jpg"],
                &["nothing", "stem: inv_10.jpg"],
            ),
            (
                &["inv_1.pdf", "inv_10.pdf"],
                &["inv_10.pdf*3", "inv_1.pdf*1"],
                &[
                    "exact: inv_1.pdf-1",
                    "exact: inv_10.pdf-1 inv_10.pdf-2 inv_10.pdf-3",
                ],
            ),
            (
                &["inv.pdf", "inv_10.pdf"],
                &["inv.jpg", "inv_10.jpg"],
                &["stem: inv.jpg", "stem: inv_10.jpg"],
            ),
            (&["inv.pdf"], &["inv_10.jpg"], &["not whole"]),
            // A page of one, or a document of its own?
            (
                &["a.pdf", "a_1.pdf"],
                &["a_1.jpg"],
                &["ambiguous", "ambiguous"],
            ),
            (
                &["a.pdf", "a_1.pdf"],
                &["a.jpg", "a_1.jpg"],
                &["stem: a.jpg", "stem: a_1.jpg"],
            ),
            (
                &["a.pdf", "a_1.pdf"],
                &["a_1.jpg", "a_2.jpg", "a_1_1.jpg"],
                &["stem: a_1.jpg a_2.jpg", "stem: a_1_1.jpg"],
            ),
            (
                &["a.pdf", "a_1.pdf"],
                &["a_1.jpg", "a_2.jpg", "a_4.jpg"],
                &["not whole", "ambiguous"],
            ),
            (
                &["a.pdf", "a_1.pdf"],
                &["a.pdf*1", "a_1.jpg"],
                &["exact: a.pdf-1", "stem: a_1.jpg"],
            ),
            (&["a_1.pdf"], &["a_1.jpg", "a_2.jpg"], &["stem: a_1.jpg"]),
            // Pages.
            (
                &["a.pdf"],
                &["a_1.jpg", "a_2.jpg", "a_4.jpg"],
                &["not whole"],
            ),
            (&["a.pdf"], &["a_2.jpg", "a_3.jpg"], &["not whole"]),
            (&["a.pdf"], &["a_1.jpg", "a-p1.jpg"], &["ambiguous"]),
            (&["a.pdf"], &["a.jpg", "a.png"], &["ambiguous"]),
            (&["a.pdf"], &["x/a_1.jpg", "y/a_1.jpg"], &["ambiguous"]),
            (
                &["y/a.pdf"],
                &["x/a_1.jpg", "y/a_1.jpg"],
                &["stem: a_1.jpg"],
            ),
            (&["C:\\scan\\a.pdf"], &["a_1.jpg"], &["stem: a_1.jpg"]),
            // A normalised name that two share.
            (
                &["a b.pdf", "a_b.pdf"],
                &["a  b.jpg"],
                &["ambiguous", "ambiguous"],
            ),
            (
                &["a b.pdf", "a_b.pdf"],
                &["a b.jpg"],
                &["stem: a b.jpg", "taken by a b.pdf"],
            ),
            (&["a b.pdf"], &["a_b.jpg", "a__b.jpg"], &["ambiguous"]),
            // Copies keep apart from pages.
            (&["a (1).pdf"], &["a_1.jpg"], &["nothing"]),
            (
                &["a (1).pdf", "a.pdf"],
                &["a_1.jpg", "a_1_.jpg"],
                &["copy-number: a_1_.jpg", "stem: a_1.jpg"],
            ),
            (
                &["a _1_.PDF"],
                &["a (1).pdf*2"],
                &["copy-number: a (1).pdf-1 a (1).pdf-2"],
            ),
        ] {
            assert_eq!(assigned(labels, files), expected, "{labels:?} in {files:?}");
        }
    }

    #[test]
    fn the_first_directory_that_has_a_document_gives_it() {
        let mut images = images(&["a_1.jpg"]);
        add_loose(
            &mut images,
            1,
            Path::new("e"),
            vec!["e/a_1.jpg".into(), "e/b.jpg".into()],
        );
        let found = assign(&["a.pdf".into(), "b.pdf".into()], &images);
        let roots: Vec<usize> = found
            .iter()
            .map(|m| match m {
                Match::Found { reading, .. } => images.readings[*reading].root,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(roots, [0, 1]);
    }

    #[test]
    fn a_hostile_folder_costs_little() {
        let labels: Vec<String> = (0..400)
            .map(|n| format!("{}a{}.pdf", " ".repeat(n % 20 + 1), " ".repeat(n / 20)))
            .collect();
        let files: Vec<String> = (1..400)
            .map(|n| format!("a {}.jpg", " ".repeat(n)))
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let start = std::time::Instant::now();
        let found = assign(&labels, &images(&files));
        assert!(found.iter().all(|m| !matches!(m, Match::Found { .. })));
        assert!(start.elapsed().as_secs() < 20);
    }

    proptest! {
        /// Whatever the names: no file goes to two labels, and a label's files carry its name.
        #[test]
        fn no_file_is_used_twice_and_none_by_prefix(
            labels in prop::collection::btree_set("(inv|a)(_|-| )?1?0?( \\(1\\)|_1_)?", 1..6),
            files in prop::collection::btree_set("(inv|a|A)(_|-| )?1?0?(_[0-3]|-p1|_single_page| \\(1\\)_1|_1_)?", 1..8),
        ) {
            let labels: Vec<String> = labels.into_iter().collect();
            let files: Vec<String> = files.into_iter().map(|f| f + ".jpg").collect();
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let images = images(&files);
            let mut used = BTreeSet::new();
            for (label, found) in labels.iter().zip(assign(&labels, &images)) {
                if let Match::Found { reading, step } = found {
                    let reading = &images.readings[reading];
                    prop_assert_eq!(step.key(label), step.key(&reading.name));
                    prop_assert!(reading.is_whole());
                    for file in &reading.files {
                        prop_assert!(used.insert(*file));
                    }
                }
            }
        }
    }
}
