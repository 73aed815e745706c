//! Which keys the targets have, how often they are filled, and with what types. A key that is a
//! number here and a text there teaches the model to guess.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::report::KeyReport;
use crate::json::kind;

/// Keys in the order in which they first appear: `bl_number`, `containers[]`, `containers[].size`.
#[derive(Default)]
pub(crate) struct Coverage {
    keys: Vec<(String, Counts)>,
    known: HashMap<String, usize>,
}

#[derive(Default)]
struct Counts {
    /// Targets or items that could have it.
    possible: u64,
    filled: u64,
    types: BTreeMap<&'static str, u64>,
}

/// Deeper than this a target is no table of fields; it would only make a long list.
const MAX_DEPTH: usize = 6;

impl Coverage {
    pub(crate) fn add(&mut self, target: &Value) {
        self.walk(target, "", 0);
    }

    fn walk(&mut self, value: &Value, path: &str, depth: usize) {
        if depth >= MAX_DEPTH {
            return;
        }
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    self.note(&path, value);
                    self.walk(value, &path, depth + 1);
                }
                self.count_possible(path);
            }
            Value::Array(items) => {
                let path = format!("{path}[]");
                for item in items {
                    self.note(&path, item);
                    self.walk(item, &path, depth + 1);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, path: &str, value: &Value) {
        let next = self.keys.len();
        let index = *self.known.entry(path.to_owned()).or_insert(next);
        if index == next {
            self.keys.push((path.to_owned(), Counts::default()));
        }
        let counts = &mut self.keys[index].1;
        if !is_empty(value) {
            counts.filled += 1;
            let kind = kind(value);
            let kind = kind
                .strip_prefix("a ")
                .or(kind.strip_prefix("an "))
                .unwrap_or(kind);
            *counts.types.entry(kind).or_default() += 1;
        }
    }

    /// One more object at this path: all its keys could have been there.
    fn count_possible(&mut self, path: &str) {
        let index = self.known.get(path).copied();
        match index {
            Some(index) => self.keys[index].1.possible += 1,
            None => {
                // The target itself, under the empty name, which is not reported.
                self.known.insert(path.to_owned(), self.keys.len());
                self.keys.push((
                    path.to_owned(),
                    Counts {
                        possible: 1,
                        ..Counts::default()
                    },
                ));
            }
        }
    }

    pub(crate) fn report(&self) -> Vec<KeyReport> {
        let objects = |path: &str| -> u64 {
            self.known
                .get(path)
                .map_or(0, |index| self.keys[*index].1.possible)
        };
        self.keys
            .iter()
            .filter(|(path, _)| !path.is_empty() && !path.ends_with("[]"))
            .map(|(path, counts)| {
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                KeyReport {
                    key: path.clone(),
                    filled: counts.filled,
                    of: objects(parent),
                    types: counts
                        .types
                        .iter()
                        .map(|(kind, n)| ((*kind).to_owned(), *n))
                        .collect(),
                }
            })
            .collect()
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_counted_where_they_could_be() {
        let mut coverage = Coverage::default();
        for target in [
            json!({"bl": "B1", "days": 7, "containers": [{"n": "M1", "size": "20"}, {"n": "M2", "size": null}]}),
            json!({"bl": "", "days": "7", "containers": [], "extra": {"x": 1}}),
            json!(7),
        ] {
            coverage.add(&target);
        }
        let lines: Vec<String> = coverage
            .report()
            .iter()
            .map(|key| {
                let types: Vec<String> = key
                    .types
                    .iter()
                    .map(|(kind, n)| format!("{kind} {n}"))
                    .collect();
                format!("{} {}/{} {}", key.key, key.filled, key.of, types.join(" "))
            })
            .collect();
        assert_eq!(
            lines,
            [
                "bl 1/2 string 1",
                "days 2/2 integer 1 string 1",
                "containers 1/2 array 1",
                "containers[].n 2/2 string 2",
                "containers[].size 1/2 string 1",
                "extra 1/2 object 1",
                "extra.x 1/1 integer 1",
            ]
        );
    }
}
