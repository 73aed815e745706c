//! Looking up readings by name at one step of the ladder.

use std::collections::HashMap;

use crate::build::images::Reading;
use crate::build::names::{Pattern, Step, base_name, stem};

/// Readings by their key at one step.
pub(super) struct Index(HashMap<String, Vec<usize>>);

impl Index {
    pub(super) fn new(step: Step, readings: &[Reading]) -> Self {
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, reading) in readings.iter().enumerate() {
            let key = step.key(&reading.name);
            if !key.is_empty() {
                index.entry(key).or_default().push(number);
            }
        }
        Self(index)
    }

    pub(super) fn find(&self, step: Step, label: &str, readings: &[Reading]) -> Vec<usize> {
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
