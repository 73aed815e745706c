//! Which keys the targets have, how often they are filled, with what types and with what values. A
//! key that is a number here and a text there teaches the model to guess; one that is nearly always
//! the same teaches it to say that.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::report::{KeyReport, Lengths, Numbers, ValueCount};
use crate::json::kind;

/// Keys in the order in which they first appear: `bl_number`, `containers[]`, `containers[].size`.
/// Parts of a file can be counted apart and put together with [`Coverage::merge`].
#[derive(Default)]
pub(crate) struct Coverage {
    root: Node,
}

/// One place in the targets: a key, the items of a list, or the target itself.
#[derive(Default)]
struct Node {
    key: String,
    /// How often something is here.
    seen: u64,
    /// Objects here: each could have every key below.
    objects: u64,
    filled: u64,
    types: BTreeMap<&'static str, u64>,
    values: Values,
    keys: Vec<Node>,
    places: HashMap<String, usize>,
    items: Option<Box<Node>>,
}

/// Deeper than this a target is no table of fields; it would only make a long list.
const MAX_DEPTH: usize = 6;
/// Different values that are told apart for one key. More are no enumeration.
const MOST_VALUES: usize = 10_000;
/// Values that are listed.
const TOP: usize = 10;
/// Longer values are told apart by their beginnings.
const VALUE_CHARS: usize = 80;

/// How many of the leaves of one target are filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) filled: u32,
    pub(crate) of: u32,
}

impl Coverage {
    pub(crate) fn add(&mut self, target: &Value) -> Filled {
        let mut filled = Filled::default();
        self.root.add(target, 0, &mut filled);
        filled
    }

    /// What `later` counted further down in the file.
    pub(crate) fn merge(&mut self, later: Coverage) {
        self.root.merge(later.root);
    }

    pub(crate) fn report(&self) -> Vec<KeyReport> {
        let mut keys = Vec::new();
        self.root.report_below("", &mut keys);
        keys
    }
}

impl Node {
    fn add(&mut self, value: &Value, depth: usize, leaves: &mut Filled) {
        self.seen += 1;
        let empty = is_empty(value);
        if !empty {
            self.filled += 1;
            let kind = kind(value);
            let kind = kind
                .strip_prefix("a ")
                .or(kind.strip_prefix("an "))
                .unwrap_or(kind);
            *self.types.entry(kind).or_default() += 1;
        }
        match value {
            Value::Object(object) => {
                self.objects += 1;
                if depth < MAX_DEPTH {
                    for (key, value) in object {
                        self.key(key).add(value, depth + 1, leaves);
                    }
                }
            }
            Value::Array(items) if depth < MAX_DEPTH => {
                let node = self.items.get_or_insert_default();
                for item in items {
                    node.add(item, depth + 1, leaves);
                }
            }
            Value::Array(_) => {}
            leaf => {
                leaves.of += 1;
                leaves.filled += u32::from(!empty);
                if !empty {
                    self.values.add(leaf);
                }
            }
        }
    }

    fn key(&mut self, key: &str) -> &mut Node {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => {
                self.places.insert(key.to_owned(), self.keys.len());
                self.keys.push(Node {
                    key: key.to_owned(),
                    ..Node::default()
                });
                self.keys.len() - 1
            }
        };
        &mut self.keys[place]
    }

    fn merge(&mut self, later: Node) {
        self.seen += later.seen;
        self.objects += later.objects;
        self.filled += later.filled;
        for (kind, n) in later.types {
            *self.types.entry(kind).or_default() += n;
        }
        self.values.merge(later.values);
        for node in later.keys {
            self.key(&node.key.clone()).merge(node);
        }
        if let Some(items) = later.items {
            self.items.get_or_insert_default().merge(*items);
        }
    }

    fn report_below(&self, path: &str, out: &mut Vec<KeyReport>) {
        for node in &self.keys {
            let path = match path.is_empty() {
                true => node.key.clone(),
                false => format!("{path}.{}", node.key),
            };
            out.push(node.report(path.clone(), self.objects));
            node.report_items(&path, out);
            node.report_below(&path, out);
        }
    }

    /// A list of objects is shown by the keys of its items, a list of plain values by those.
    fn report_items(&self, path: &str, out: &mut Vec<KeyReport>) {
        let Some(items) = &self.items else { return };
        let path = format!("{path}[]");
        if items.objects < items.filled && items.items.is_none() {
            out.push(items.report(path.clone(), items.seen));
        }
        items.report_items(&path, out);
        items.report_below(&path, out);
    }

    fn report(&self, key: String, of: u64) -> KeyReport {
        let types = self.types.iter();
        KeyReport {
            key,
            filled: self.filled,
            of,
            types: types.map(|(kind, n)| ((*kind).to_owned(), *n)).collect(),
            distinct: self.values.counts.len() as u64,
            distinct_at_least: self.values.overflown,
            top: self.values.top(),
            numbers: self.values.numbers(),
            chars: self.values.lengths(),
        }
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

/// The values of one key. Memory has a bound: what comes after [`MOST_VALUES`] different ones is
/// only counted.
#[derive(Default)]
struct Values {
    counts: HashMap<String, u64>,
    overflown: bool,
    numbers: Running,
    lengths: Running,
}

/// Least, largest and mean of what came by.
#[derive(Default)]
struct Running {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Running {
    fn add(&mut self, value: f64) {
        self.merge(&Running {
            count: 1,
            sum: value,
            min: value,
            max: value,
        });
    }

    fn merge(&mut self, other: &Running) {
        if other.count == 0 {
            return;
        }
        let first = self.count == 0;
        self.min = if first {
            other.min
        } else {
            self.min.min(other.min)
        };
        self.max = if first {
            other.max
        } else {
            self.max.max(other.max)
        };
        self.count += other.count;
        self.sum += other.sum;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

impl Values {
    fn add(&mut self, leaf: &Value) {
        match leaf {
            Value::String(text) => {
                let text = text.trim();
                self.lengths.add(text.chars().count() as f64);
                match text.char_indices().nth(VALUE_CHARS) {
                    Some((end, _)) => self.count(&format!("{}…", &text[..end]), 1),
                    None => self.count(text, 1),
                }
            }
            Value::Number(number) => {
                if let Some(number) = number.as_f64() {
                    self.numbers.add(number);
                }
                self.count(&number.to_string(), 1);
            }
            other => self.count(&other.to_string(), 1),
        }
    }

    fn count(&mut self, value: &str, n: u64) {
        let is_full = self.counts.len() >= MOST_VALUES;
        match self.counts.get_mut(value) {
            Some(count) => *count += n,
            None if is_full => self.overflown = true,
            None => {
                self.counts.insert(value.to_owned(), n);
            }
        }
    }

    fn merge(&mut self, later: Values) {
        self.overflown |= later.overflown;
        // In one order, so that the bound cuts the same values every time.
        let mut counts: Vec<(String, u64)> = later.counts.into_iter().collect();
        counts.sort();
        for (value, n) in counts {
            self.count(&value, n);
        }
        self.numbers.merge(&later.numbers);
        self.lengths.merge(&later.lengths);
    }

    fn top(&self) -> Vec<ValueCount> {
        let mut all: Vec<(&String, u64)> = self.counts.iter().map(|(v, n)| (v, *n)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        // Of values that are all different none is worth showing as the most frequent.
        let some_repeat = all.first().is_some_and(|(_, n)| *n > 1);
        let shown = if some_repeat || all.len() <= TOP {
            TOP
        } else {
            0
        };
        all.into_iter()
            .take(shown)
            .map(|(value, count)| ValueCount {
                value: value.clone(),
                count,
            })
            .collect()
    }

    fn numbers(&self) -> Option<Numbers> {
        (self.numbers.count > 0).then(|| Numbers {
            min: self.numbers.min,
            mean: self.numbers.mean(),
            max: self.numbers.max,
        })
    }

    fn lengths(&self) -> Option<Lengths> {
        (self.lengths.count > 0).then(|| Lengths {
            min: self.lengths.min as u64,
            mean: self.lengths.mean(),
            max: self.lengths.max as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn targets() -> [Value; 3] {
        [
            json!({"bl": "B1", "days": 7, "containers": [{"n": "M1", "size": "20"}, {"n": "M2", "size": null}], "tags": ["a", "b"]}),
            json!({"bl": "", "days": "7", "containers": [], "tags": ["a"], "extra": {"x": 1}}),
            json!(7),
        ]
    }

    fn lines(coverage: &Coverage) -> Vec<String> {
        let types = |key: &KeyReport| -> Vec<String> {
            let types = key.types.iter();
            types.map(|(kind, n)| format!("{kind} {n}")).collect()
        };
        coverage
            .report()
            .iter()
            .map(|key| {
                format!(
                    "{} {}/{} {}; {} different",
                    key.key,
                    key.filled,
                    key.of,
                    types(key).join(" "),
                    key.distinct
                )
            })
            .collect()
    }

    #[test]
    fn keys_are_counted_where_they_could_be() {
        let mut coverage = Coverage::default();
        let filled: Vec<Filled> = targets().iter().map(|t| coverage.add(t)).collect();
        assert_eq!(filled[0], Filled { filled: 7, of: 8 });
        assert_eq!(
            lines(&coverage),
            [
                "bl 1/2 string 1; 1 different",
                "days 2/2 integer 1 string 1; 1 different",
                "containers 1/2 array 1; 0 different",
                "containers[].n 2/2 string 2; 2 different",
                "containers[].size 1/2 string 1; 1 different",
                "tags 2/2 array 2; 0 different",
                "tags[] 3/3 string 3; 2 different",
                "extra 1/2 object 1; 0 different",
                "extra.x 1/1 integer 1; 1 different",
            ]
        );
        let report = coverage.report();
        let tags = report.iter().find(|key| key.key == "tags[]").unwrap();
        let top: Vec<(&str, u64)> = tags
            .top
            .iter()
            .map(|v| (v.value.as_str(), v.count))
            .collect();
        assert_eq!(top, [("a", 2), ("b", 1)]);
    }

    /// Parts counted apart are what one pass counts.
    #[test]
    fn merging_parts_is_counting_the_whole() {
        let mut whole = Coverage::default();
        let mut parts = Coverage::default();
        for round in 0..50 {
            let mut part = Coverage::default();
            for target in targets() {
                whole.add(&target);
                part.add(&target);
            }
            let own = json!({"n": round, "text": format!("value {round}"), "bl": round % 3});
            whole.add(&own);
            part.add(&own);
            parts.merge(part);
        }
        assert_eq!(whole.report(), parts.report());
    }

    #[test]
    fn values_have_a_bound() {
        let mut coverage = Coverage::default();
        for n in 0..MOST_VALUES + 5 {
            coverage.add(&json!({"n": n, "s": "same"}));
        }
        let report = coverage.report();
        assert_eq!(report[0].distinct, MOST_VALUES as u64);
        assert!(report[0].distinct_at_least && report[0].top.is_empty());
        assert_eq!(
            report[0].numbers.as_ref().unwrap().max,
            (MOST_VALUES + 4) as f64
        );
        assert_eq!((report[1].distinct, report[1].top.len()), (1, 1));
    }
}
