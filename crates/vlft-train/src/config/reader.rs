//! Typed reading of the tree. Each call names one key, so the calls together are the list of known
//! keys: unknown ones are what is left. Problems are collected, never returned one by one.

mod getters;
mod lists;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use vlft_base::{Diagnostic, Result, did_you_mean, one_of};

use super::source::{Kind, Origin, Source, Value};

/// No upper limit.
pub(super) const ANY: u64 = u64::MAX;

pub(super) struct Reader {
    source: Source,
    problems: Vec<(Origin, Diagnostic)>,
    known: Vec<Known>,
    /// Where the values that were set stood, by table and key.
    read: Vec<(&'static str, &'static str, Origin)>,
}

/// A key that may be set, for the lists in messages, the schema and the written config.
pub(super) struct Known {
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    pub(super) about: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
}

pub(super) enum Shape {
    Text,
    Choice(Vec<&'static str>),
    Boolean,
    Integer(RangeInclusive<u64>),
    Number(Bound),
    Pair(Bound),
    Names(Vec<&'static str>),
    /// Names, or one string that is a regular expression.
    NamesOrPattern(Vec<&'static str>),
    /// Patterns with a number each.
    IntegerTable(RangeInclusive<u64>),
    NumberTable(Bound),
}

/// What a number may be. NaN and infinities never are.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    Positive,
    NotNegative,
    /// 0 <= x < 1.
    Fraction,
}

/// An enum whose values have names in the config.
pub(super) trait Choice: Copy + PartialEq + 'static {
    const ALL: &[(&str, Self)];
}

/// One table while it is read. A getter that meets a problem notes it and returns a stand-in:
/// no config leaves [`super::Config::load`] when there is a problem.
pub(super) struct Section<'a> {
    name: &'static str,
    reader: &'a mut Reader,
}

impl Reader {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            problems: Vec::new(),
            known: Vec::new(),
            read: Vec::new(),
        }
    }

    /// Every key there is, in the order of reading.
    pub(super) fn into_known(self) -> Vec<Known> {
        self.known
    }

    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        Section { name, reader: self }
    }

    /// Everything that is wrong, in the order of the file; unknown keys included.
    pub(super) fn problems(mut self) -> Option<Diagnostic> {
        self.find_unknown();
        self.problems.sort_by(|a, b| a.0.cmp(&b.0));
        Diagnostic::all(self.problems.into_iter().map(|(_, diagnostic)| diagnostic))
    }

    fn find_unknown(&mut self) {
        let mut tables: Vec<&str> = self.known.iter().map(|k| k.table).collect();
        tables.dedup();
        let mut unknown = Vec::new();
        for stray in &self.source.strays {
            let problem = if tables.contains(&stray.key.as_str()) {
                Diagnostic::error(format!("wrong type for `{}`", stray.key))
                    .expected(format!("a table `[{}]`", stray.key))
            } else {
                self.unknown_key(&stray.key, &stray.key, tables.iter().copied())
            };
            unknown.push((stray.key_origin.clone(), problem));
        }
        for table in &self.source.tables {
            if !tables.contains(&table.name.as_str()) {
                let problem = Diagnostic::error(format!("unknown table `[{}]`", table.name))
                    .expected(one_of(tables.iter().copied()));
                let problem = match did_you_mean(&table.name, tables.iter().copied()) {
                    Some(near) => problem.hint(format!("did you mean `[{near}]`?")),
                    None => problem,
                };
                unknown.push((table.origin.clone(), problem));
                continue;
            }
            for entry in &table.entries {
                let keys = self
                    .known
                    .iter()
                    .filter(|k| k.table == table.name)
                    .map(|k| k.key);
                let full = format!("{}.{}", table.name, entry.key);
                let problem = self.unknown_key(&full, &entry.key, keys);
                unknown.push((entry.key_origin.clone(), problem));
            }
        }
        self.problems.extend(
            unknown
                .into_iter()
                .map(|(origin, problem)| (origin.clone(), self.source.place(problem, &origin))),
        );
    }

    fn unknown_key<'a>(
        &self,
        full: &str,
        key: &str,
        keys: impl Iterator<Item = &'a str> + Clone,
    ) -> Diagnostic {
        let problem =
            Diagnostic::error(format!("unknown key `{full}`")).expected(one_of(keys.clone()));
        if let Some(near) = did_you_mean(key, keys) {
            return problem.hint(format!("did you mean `{near}`?"));
        }
        match self.known.iter().find(|k| k.key == key) {
            Some(elsewhere) => {
                problem.hint(format!("`{key}` belongs under `[{}]`", elsewhere.table))
            }
            None => problem,
        }
    }
}

impl Section<'_> {
    /// A problem found after reading, placed where the key stands.
    pub(super) fn problem(&mut self, key: &str, problem: Diagnostic) {
        let mut read = self.reader.read.iter();
        let origin = match read.find(|(table, k, _)| *table == self.name && *k == key) {
            Some((_, _, origin)) => origin.clone(),
            None => self.table_origin(),
        };
        self.note(&origin, problem);
    }

    /// Registers the key and takes its value out of the tree.
    fn known(
        &mut self,
        key: &'static str,
        about: &'static str,
        shape: Shape,
        required: bool,
    ) -> Option<Value> {
        self.reader.known.push(Known {
            table: self.name,
            key,
            about,
            shape,
            required,
        });
        let value = self.reader.source.take(self.name, key)?;
        self.reader
            .read
            .push((self.name, key, value.origin.clone()));
        Some(value)
    }

    fn path(&mut self, key: &str, value: Value) -> PathBuf {
        match self.text(key, "a path", &value) {
            Some(text) if text.is_empty() => {
                let empty =
                    Diagnostic::error(format!("`{}.{key}` is empty", self.name)).expected("a path");
                self.note(&value.origin, empty);
                PathBuf::new()
            }
            Some(text) => PathBuf::from(text),
            None => PathBuf::new(),
        }
    }

    /// `--set data.train=2024` means the path `2024`, whatever TOML thinks of it.
    fn text(&mut self, key: &str, expected: &str, value: &Value) -> Option<String> {
        match (&value.kind, &value.origin) {
            (Kind::String(text), _) => Some(text.clone()),
            (_, Origin::Set(_)) => Some(value.text.clone()),
            _ => {
                self.wrong_type(key, expected, value);
                None
            }
        }
    }

    fn pick<C: Choice>(&mut self, key: &str, value: Value) -> Option<C> {
        let text = self.text(key, &one_of(names_of::<C>()), &value)?;
        let found = C::ALL.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            self.unknown_value(key, &text, names_of::<C>().into_iter(), &value.origin);
        }
        found.map(|(_, choice)| *choice)
    }

    fn bounded(&mut self, key: &str, value: &Value, bound: Bound) -> Option<f64> {
        let number = match value.kind {
            Kind::Float(number) => number,
            Kind::Integer(integer) => integer as f64,
            _ => {
                self.wrong_type(key, "a number", value);
                return None;
            }
        };
        if bound.allows(number) {
            return Some(number);
        }
        self.out_of_range(key, bound.words(), value);
        None
    }

    fn missing(&mut self, key: &str, expected: &str) {
        let problem = Diagnostic::error(format!("missing key `{}.{key}`", self.name))
            .expected(expected.to_owned())
            .hint(format!("add `{key} = \"..\"` under `[{}]`", self.name));
        let origin = self.table_origin();
        self.note(&origin, problem);
    }

    fn table_origin(&self) -> Origin {
        match self.reader.source.table(self.name) {
            Some(table) => table.origin.clone(),
            None => Origin::Nowhere,
        }
    }

    fn wrong_type(&mut self, key: &str, expected: &str, value: &Value) {
        let problem = Diagnostic::error(format!("wrong type for `{}.{key}`", self.name))
            .expected(expected.to_owned())
            .found(value.describe());
        self.note(&value.origin, problem);
    }

    fn out_of_range(&mut self, key: &str, expected: &str, value: &Value) {
        let problem = Diagnostic::error(format!("`{}.{key}` is out of range", self.name))
            .expected(expected.to_owned())
            .found(format!("`{}`", value.text));
        self.note(&value.origin, problem);
    }

    fn unknown_value<'n>(
        &mut self,
        key: &str,
        found: &str,
        known: impl Iterator<Item = &'n str> + Clone,
        origin: &Origin,
    ) {
        let problem = Diagnostic::error(format!("unknown value for `{}.{key}`", self.name))
            .expected(one_of(known.clone()))
            .found(format!("`{found}`"));
        let problem = match did_you_mean(found, known) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        };
        self.note(origin, problem);
    }

    fn note(&mut self, origin: &Origin, problem: Diagnostic) {
        let placed = self.reader.source.place(problem, origin);
        self.reader.problems.push((origin.clone(), placed));
    }
}

/// A choice by its name, outside of a file.
pub(super) fn named<C: Choice>(name: &str) -> Result<C> {
    match C::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, choice)) => Ok(*choice),
        None => {
            Err(Diagnostic::error(format!("unknown name `{name}`"))
                .expected(one_of(names_of::<C>())))
        }
    }
}

fn names_of<C: Choice>() -> Vec<&'static str> {
    C::ALL.iter().map(|(name, _)| *name).collect()
}

impl Bound {
    fn allows(self, x: f64) -> bool {
        x.is_finite()
            && match self {
                Bound::Positive => x > 0.0,
                Bound::NotNegative => x >= 0.0,
                Bound::Fraction => (0.0..1.0).contains(&x),
            }
    }

    fn words(self) -> &'static str {
        match self {
            Bound::Positive => "a number above 0",
            Bound::NotNegative => "a number of at least 0",
            Bound::Fraction => "a number of at least 0 and below 1",
        }
    }
}

impl Value {
    /// "a string `"x"`", short enough for one line.
    fn describe(&self) -> String {
        let kind = match &self.kind {
            Kind::String(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a number",
            Kind::Boolean(_) => "a boolean",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
            Kind::Other(what) => what,
        };
        let line = self.text.lines().next().unwrap_or_default();
        if line.chars().count() > 40 || line.len() < self.text.len() {
            let start: String = line.chars().take(40).collect();
            format!("{kind} `{start}..`")
        } else {
            format!("{kind} `{line}`")
        }
    }
}
