//! Reading foreign JSON: the keys of an object are taken one by one, each with its type, and what is
//! wrong is told at its place. What nobody took is kept in `meta.columns`.

use serde_json::{Map, Value};
use vlft_dataset::json::{self, Step, kind};

use crate::rules::{MISSING_KEY, UNSUPPORTED, WRONG_TYPE};
use crate::sample::{Refusal, Sample};

pub(crate) type Fallible<T> = std::result::Result<T, Refusal>;

/// An object whose keys are being taken, and where it stands.
pub(crate) struct Object {
    map: Map<String, Value>,
    path: Vec<Step>,
}

impl Object {
    pub(crate) fn new(value: Value, path: &[Step]) -> Fallible<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path: path.to_vec(),
            }),
            other => Err(wrong(path, "an object", &other)),
        }
    }

    pub(crate) fn path(&self, key: &str) -> Vec<Step> {
        let mut path = self.path.clone();
        path.push(key.into());
        path
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// `null` counts as absent: tools that make tables of rows fill gaps with it.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    pub(crate) fn need(&mut self, key: &str) -> Fallible<Value> {
        self.take(key)
            .ok_or_else(|| Refusal::new(MISSING_KEY, format!("there is no `{key}`")).at(&self.path))
    }

    pub(crate) fn text(&mut self, key: &str) -> Fallible<Option<String>> {
        let path = self.path(key);
        self.take(key).map(|value| text(value, &path)).transpose()
    }

    pub(crate) fn need_text(&mut self, key: &str) -> Fallible<String> {
        let path = self.path(key);
        text(self.need(key)?, &path)
    }

    pub(crate) fn need_array(&mut self, key: &str) -> Fallible<Vec<Value>> {
        let path = self.path(key);
        array(self.need(key)?, &path)
    }

    /// One value or an array of them.
    pub(crate) fn one_or_many(&mut self, key: &str) -> Vec<Value> {
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
        }
    }

    /// Keys that change what is learned there and that a record cannot say.
    pub(crate) fn refuse(&mut self, keys: &[&str]) -> Fallible<()> {
        for key in keys {
            if let Some(value) = self.take(key)
                && !is_empty(&value)
            {
                let reason = format!("`{key}` has something in it, and records have no such thing");
                return Err(Refusal::new(UNSUPPORTED, reason).at(&self.path(key)));
            }
        }
        Ok(())
    }

    /// What is left, without empty values.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map.into_iter().filter(|(_, v)| !is_empty(v)).collect()
    }

    /// The id, our own `meta` where we wrote one, and every other column into `meta.columns`.
    pub(crate) fn besides(mut self, sample: &mut Sample) {
        match self.take("id") {
            Some(Value::String(id)) if !id.trim().is_empty() => sample.id = Some(id),
            Some(Value::Number(id)) => sample.id = Some(id.to_string()),
            Some(other) => {
                self.map.insert("id".to_owned(), other);
            }
            None => {}
        }
        let meta = self.take("meta");
        let mut columns = self.rest();
        sample.meta = match meta {
            Some(Value::Object(meta)) => Some(meta),
            // As we write it: a text, because loaders want one type for a column in all rows.
            Some(Value::String(text)) => match json::parse(&text) {
                Ok(Value::Object(meta)) => Some(meta),
                _ => {
                    columns.insert("meta".to_owned(), Value::String(text));
                    None
                }
            },
            Some(other) => {
                columns.insert("meta".to_owned(), other);
                None
            }
            None => None,
        };
        if !columns.is_empty() {
            let meta = sample.meta.get_or_insert_default();
            match meta.get_mut("columns") {
                Some(Value::Object(known)) => known.extend(columns),
                _ => {
                    meta.insert("columns".to_owned(), Value::Object(columns));
                }
            }
        }
    }
}

pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(crate) fn wrong(path: &[Step], expected: &str, found: &Value) -> Refusal {
    let reason = format!("expected {expected}, found {}", kind(found));
    Refusal::new(WRONG_TYPE, reason).at(path)
}

pub(crate) fn text(value: Value, path: &[Step]) -> Fallible<String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(path, "a string", &other)),
    }
}

pub(crate) fn array(value: Value, path: &[Step]) -> Fallible<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(wrong(path, "an array", &other)),
    }
}

/// `path` and one more step.
pub(crate) fn below(path: &[Step], step: impl Into<Step>) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(step.into());
    path
}
