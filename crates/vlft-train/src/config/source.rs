//! A TOML file and `--set` overrides as one tree of values, each knowing where it came from.

use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

pub(super) struct Source {
    path: PathBuf,
    pub(super) tables: Vec<Table>,
    /// Top-level keys that are no tables.
    pub(super) strays: Vec<Entry>,
}

pub(super) struct Table {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) entries: Vec<Entry>,
}

pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_origin: Origin,
    pub(super) value: Value,
}

pub(super) struct Value {
    pub(super) kind: Kind,
    pub(super) origin: Origin,
    /// As it was typed.
    pub(super) text: String,
}

pub(super) enum Kind {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Value>),
    /// In the order of its keys.
    Table(Vec<(String, Value)>),
    /// A date, an integer beyond 64 bits: never what a key wants.
    Other(&'static str),
}

/// Where something was typed. The order is the order in which problems are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// 1-based; the column counts characters.
    File { line: u64, column: u64 },
    /// The text after `--set`.
    Set(String),
    /// Something that is missing: it has no line.
    Nowhere,
}

impl Source {
    /// As if an empty file had been read.
    pub(super) fn empty() -> Self {
        Self {
            path: PathBuf::new(),
            tables: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// Adds the place to a diagnostic.
    pub(super) fn place(&self, diagnostic: Diagnostic, origin: &Origin) -> Diagnostic {
        match origin {
            Origin::File { line, column } => diagnostic.at_line(&self.path, *line).column(*column),
            Origin::Set(text) => diagnostic.at(format!("--set {text}")),
            Origin::Nowhere => diagnostic.at(&self.path),
        }
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == name)
    }

    pub(super) fn take(&mut self, table: &str, key: &str) -> Option<Value> {
        let table = self.tables.iter_mut().find(|t| t.name == table)?;
        let index = table.entries.iter().position(|e| e.key == key)?;
        Some(table.entries.swap_remove(index).value)
    }

    fn set(&mut self, text: &str) -> Result<()> {
        let origin = Origin::Set(text.to_owned());
        let malformed = |what: &str| {
            Diagnostic::error(what)
                .at(format!("--set {text}"))
                .expected("`TABLE.KEY=VALUE`")
                .hint("for example `--set train.learning_rate=2e-4`")
        };
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| malformed("override without `=`"))?;
        let (table, key) = name
            .trim()
            .split_once('.')
            .ok_or_else(|| malformed("override without a table"))?;
        let entry = Entry {
            key: key.to_owned(),
            key_origin: origin.clone(),
            value: override_value(value.trim(), &origin),
        };
        let index = match self.tables.iter().position(|t| t.name == table) {
            Some(index) => index,
            None => {
                self.tables.push(Table {
                    name: table.to_owned(),
                    origin,
                    entries: Vec::new(),
                });
                self.tables.len() - 1
            }
        };
        let entries = &mut self.tables[index].entries;
        entries.retain(|e| e.key != entry.key);
        entries.push(entry);
        Ok(())
    }
}

/// Reads the file and applies the overrides; the only errors here are those of form.
pub(super) fn load(path: &Path, overrides: &[String]) -> Result<Source> {
    let bytes = fs::read(path).map_err(|e| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let error = cannot("read", path, e);
        if missing {
            error
                .hint("the first argument is the path of a config file such as `configs/NAME.toml`")
        } else {
            error
        }
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count() as u64;
        Diagnostic::error("config is not UTF-8 text").at_line(path, line)
    })?;
    let mut source = parse(path, &text)?;
    let mut problems = Vec::new();
    for text in overrides {
        problems.extend(source.set(text).err());
    }
    match Diagnostic::all(problems) {
        Some(problems) => Err(problems),
        None => Ok(source),
    }
}

fn parse(path: &Path, text: &str) -> Result<Source> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let at = |span: Option<Range<usize>>| origin_of(text, span.map_or(0, |s| s.start));
    let mut source = Source {
        path: path.to_path_buf(),
        ..Source::empty()
    };
    let errors = errors.iter().map(|e| {
        let wrong = Diagnostic::error("config is not valid TOML").caused_by(e.message());
        source.place(wrong, &at(e.span()))
    });
    if let Some(problems) = Diagnostic::all(errors.collect::<Vec<_>>()) {
        return Err(problems);
    }
    for (key, value) in document.into_inner() {
        let origin = origin_of(text, key.span().start);
        match value.into_inner() {
            DeValue::Table(table) => source.tables.push(Table {
                name: key.into_inner().into_owned(),
                origin,
                entries: table
                    .into_iter()
                    .map(|(key, value)| entry(text, key, value))
                    .collect(),
            }),
            other => source.strays.push(Entry {
                key: key.into_inner().into_owned(),
                key_origin: origin.clone(),
                value: Value {
                    kind: Kind::Other(other.type_str()),
                    origin,
                    text: String::new(),
                },
            }),
        }
    }
    Ok(source)
}

fn entry(text: &str, key: Spanned<Cow<str>>, value: Spanned<DeValue>) -> Entry {
    Entry {
        key_origin: origin_of(text, key.span().start),
        key: key.into_inner().into_owned(),
        value: value_of(text, value, None),
    }
}

/// `set` overrides the place: values of an override all come from its one line.
fn value_of(text: &str, value: Spanned<DeValue>, set: Option<&Origin>) -> Value {
    let span = value.span();
    let kind = match value.into_inner() {
        DeValue::String(s) => Kind::String(s.into_owned()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => Kind::Integer(i),
            Err(_) => Kind::Other("an integer beyond 64 bits"),
        },
        DeValue::Float(f) => match f.as_str().parse() {
            Ok(f) => Kind::Float(f),
            Err(_) => Kind::Other("a number"),
        },
        DeValue::Boolean(b) => Kind::Boolean(b),
        DeValue::Array(list) => Kind::List(
            list.into_iter()
                .map(|item| value_of(text, item, set))
                .collect(),
        ),
        DeValue::Table(table) => Kind::Table(
            table
                .into_iter()
                .map(|(key, value)| (key.into_inner().into_owned(), value_of(text, value, set)))
                .collect(),
        ),
        DeValue::Datetime(_) => Kind::Other("a date"),
    };
    Value {
        kind,
        origin: set.cloned().unwrap_or_else(|| origin_of(text, span.start)),
        text: text.get(span).unwrap_or_default().to_owned(),
    }
}

/// TOML where it is TOML; anything else is a bare string, so that paths and names need no quotes
/// inside the shell's quotes.
fn override_value(text: &str, origin: &Origin) -> Value {
    match DeValue::parse(text) {
        Ok(value) => Value {
            text: text.to_owned(),
            ..value_of(text, value, Some(origin))
        },
        Err(_) => Value {
            kind: Kind::String(text.to_owned()),
            origin: origin.clone(),
            text: text.to_owned(),
        },
    }
}

fn origin_of(text: &str, offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    Origin::File {
        line: 1 + before.matches('\n').count() as u64,
        column: 1 + before[line_start..].chars().count() as u64,
    }
}
