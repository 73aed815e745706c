//! `--stratify`: the value that should be spread evenly over the sides: a key of `meta`, or a field of
//! the answer.

use serde_json::Value;
use vlft_base::{Diagnostic, Result};

use super::facts::text_of;
use crate::record::Record;

/// Where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stratify {
    /// `meta.KEY`
    Meta(String),
    /// `target.KEY.KEY`: in the last answer.
    Target(Vec<String>),
}

impl Stratify {
    pub fn parse(text: &str) -> Result<Self> {
        let unknown = || {
            Diagnostic::error(format!("cannot stratify by `{text}`"))
                .expected("`meta.KEY` or `target.KEY`")
                .hint("`--stratify meta.doc_type`, or `--stratify target.carrier` for a field of the answer")
        };
        let (place, key) = text.split_once('.').ok_or_else(unknown)?;
        match place {
            _ if key.is_empty() => Err(unknown()),
            "meta" => Ok(Self::Meta(key.to_owned())),
            "target" => Ok(Self::Target(key.split('.').map(str::to_owned).collect())),
            _ => Err(unknown()),
        }
    }

    /// `None` when the record has no such value.
    pub(crate) fn value(&self, record: &Record, answer: Option<&Value>) -> Option<String> {
        match self {
            Self::Meta(key) => text_of(record.meta.as_ref()?.get(key)?),
            Self::Target(keys) => {
                let found = keys.iter().try_fold(answer?, |value, key| value.get(key));
                text_of(found?)
            }
        }
    }
}

impl std::fmt::Display for Stratify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Meta(key) => write!(f, "meta.{key}"),
            Self::Target(keys) => write!(f, "target.{}", keys.join(".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_meta_and_in_answers() {
        let record: Record =
            serde_json::from_str(r#"{"id":"a","messages":[],"meta":{"kind":3}}"#).unwrap();
        let answer: Value =
            serde_json::from_str(r#"{"carrier":{"name":"X"},"none":null}"#).unwrap();
        for (text, expected) in [
            ("meta.kind", Some("3")),
            ("meta.other", None),
            ("target.carrier.name", Some("X")),
            ("target.none", None),
            ("target.carrier.name.more", None),
        ] {
            let by = Stratify::parse(text).unwrap();
            assert_eq!(by.to_string(), text);
            assert_eq!(
                by.value(&record, Some(&answer)).as_deref(),
                expected,
                "{text}"
            );
        }
        for text in ["kind", "meta.", "file.kind"] {
            assert!(Stratify::parse(text).is_err());
        }
    }
}
