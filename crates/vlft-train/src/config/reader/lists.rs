//! Values of several parts: pairs, lists of names, tables of patterns.

use std::ops::RangeInclusive;

use vlft_base::Diagnostic;
use vlft_base::format::grouped;
use vlft_checkpoint::LoraTargets;

use super::{Bound, Section, Shape};
use crate::config::source::{Kind, Value};

impl Section<'_> {
    pub(in crate::config) fn pair(
        &mut self,
        key: &'static str,
        default: [f64; 2],
        bound: Bound,
        about: &'static str,
    ) -> [f64; 2] {
        let Some(value) = self.known(key, about, Shape::Pair(bound), false) else {
            return default;
        };
        let expected = format!("a list of two numbers such as `{default:?}`");
        match &value.kind {
            Kind::List(list) if list.len() == 2 => {
                let first = self.bounded(key, &list[0], bound);
                let second = self.bounded(key, &list[1], bound);
                [first.unwrap_or(default[0]), second.unwrap_or(default[1])]
            }
            _ => {
                self.wrong_type(key, &expected, &value);
                default
            }
        }
    }

    pub(in crate::config) fn names(
        &mut self,
        key: &'static str,
        default: &[String],
        known: &[&'static str],
        about: &'static str,
    ) -> Vec<String> {
        let Some(value) = self.known(key, about, Shape::Names(known.to_vec()), false) else {
            return default.to_vec();
        };
        self.list_of_names(key, &value, known)
    }

    /// A list of known names, or a regular expression as a string.
    pub(in crate::config) fn names_or_pattern(
        &mut self,
        key: &'static str,
        default: &LoraTargets,
        known: &[&'static str],
        about: &'static str,
    ) -> LoraTargets {
        let shape = Shape::NamesOrPattern(known.to_vec());
        match self.known(key, about, shape, false) {
            None => default.clone(),
            Some(Value {
                kind: Kind::String(pattern),
                ..
            }) => LoraTargets::Pattern(pattern),
            Some(value) => LoraTargets::Names(self.list_of_names(key, &value, known)),
        }
    }

    /// Patterns with a whole number each, in the order of their text.
    pub(in crate::config) fn integer_table(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        about: &'static str,
    ) -> Vec<(String, usize)> {
        let value = self.known(key, about, Shape::IntegerTable(range.clone()), false);
        self.entries(key, value, |section, entry| {
            let number = match entry.kind {
                Kind::Integer(integer) => u64::try_from(integer).ok(),
                _ => None,
            };
            let number = number.filter(|n| range.contains(n));
            if number.is_none() {
                let (least, most) = (range.start(), grouped(*range.end()));
                section.out_of_range(key, &format!("{least} to {most}"), entry);
            }
            number.map(|n| n as usize)
        })
    }

    /// Patterns with a number each.
    pub(in crate::config) fn number_table(
        &mut self,
        key: &'static str,
        bound: Bound,
        about: &'static str,
    ) -> Vec<(String, f64)> {
        let value = self.known(key, about, Shape::NumberTable(bound), false);
        self.entries(key, value, |section, entry| {
            section.bounded(key, entry, bound)
        })
    }

    fn entries<T>(
        &mut self,
        key: &'static str,
        value: Option<Value>,
        mut read: impl FnMut(&mut Self, &Value) -> Option<T>,
    ) -> Vec<(String, T)> {
        match value {
            None => Vec::new(),
            Some(Value {
                kind: Kind::Table(entries),
                ..
            }) => {
                let entries = entries.iter();
                entries
                    .filter_map(|(pattern, value)| Some((pattern.clone(), read(self, value)?)))
                    .collect()
            }
            Some(other) => {
                self.wrong_type(key, "a table such as `{ \"q_proj\" = 32 }`", &other);
                Vec::new()
            }
        }
    }

    fn list_of_names(
        &mut self,
        key: &'static str,
        value: &Value,
        known: &[&'static str],
    ) -> Vec<String> {
        let Kind::List(list) = &value.kind else {
            let expected = format!("a list of strings such as `[\"{}\"]`", known[0]);
            self.wrong_type(key, &expected, value);
            return Vec::new();
        };
        let mut names: Vec<String> = Vec::new();
        for item in list {
            let Kind::String(name) = &item.kind else {
                self.wrong_type(key, "strings", item);
                continue;
            };
            if !known.contains(&name.as_str()) {
                self.unknown_value(key, name, known.iter().copied(), &item.origin);
            } else if names.contains(name) {
                let twice =
                    Diagnostic::error(format!("`{name}` stands twice in `{}.{key}`", self.name));
                self.note(&item.origin, twice);
            } else {
                names.push(name.clone());
            }
        }
        names
    }
}
