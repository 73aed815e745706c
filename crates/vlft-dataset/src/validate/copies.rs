//! The rules about records and images that are there twice, and ids that are. They need the whole
//! file, so little is kept of each line: see [`Seen`]. What a hash says is the same is read again and
//! compared before anything is said.

use std::hash::{Hash, Hasher};
use std::path::Path;

use serde_json::Value;
use smallvec::SmallVec;
use vlft_base::{Diagnostic, Result};

use super::Again;
use super::images::{ImageId, ImageIds};
use crate::earlier::Earlier;
use crate::json;
use crate::problem::Finding;
use crate::record::{Message, Part, Record, Role};
use crate::rules::Rule;
use crate::seen::{Seen, hasher};

/// Mostly one.
pub(crate) type Prompts = SmallVec<[u64; 1]>;

/// Per answer of a record: the hash of all that stands before it, images by what they are.
pub(crate) fn prompts(record: &Record, images: &[ImageId]) -> Prompts {
    let mut images = images.iter();
    let mut before = hasher();
    let mut prompts = Prompts::new();
    for message in &record.messages {
        if message.role == Role::Assistant {
            prompts.push(before.clone().finish());
        }
        (message.role as u8, message.content.len()).hash(&mut before);
        for part in &message.content {
            Key::of(part, &mut images).hash(&mut before);
        }
    }
    prompts
}

#[derive(Hash)]
enum Key<'a> {
    Text(&'a str),
    Sha256(u128),
    Path(u64),
}

impl<'a> Key<'a> {
    fn of<'b>(part: &'a Part, images: &mut impl Iterator<Item = &'b ImageId>) -> Self {
        match part {
            Part::Text(text) => Key::Text(text),
            Part::Image(_) => match images.next() {
                Some(ImageId {
                    sha256: Some(sha256),
                    ..
                }) => Key::Sha256(*sha256),
                Some(id) => Key::Path(id.path),
                None => Key::Path(0),
            },
        }
    }
}

fn answers(record: &Record) -> impl Iterator<Item = (usize, &Message)> {
    let messages = record.messages.iter().enumerate();
    messages.filter(|(_, message)| message.role == Role::Assistant)
}

/// What is remembered of all lines so far.
pub(crate) struct Copies {
    ids: Seen,
    prompts: Seen,
    earlier: Earlier,
}

/// A record whose line has passed, with what its images are.
type Known<'a> = &'a dyn Fn(&Record) -> ImageIds;

impl Copies {
    pub(crate) fn new(file: &Path) -> Result<Self> {
        Ok(Self {
            ids: Seen::default(),
            prompts: Seen::default(),
            earlier: Earlier::open(file)?,
        })
    }

    /// To be told every line that is read, in order, and where in the file it starts.
    pub(crate) fn line(&mut self, line: u64, offset: u64) {
        self.earlier.note(line, offset);
    }

    /// To be told of some lines a little before each is compared: of their ids' hashes and their prompts.
    pub(super) fn bring(&self, ids: impl Iterator<Item = u64>, prompts: impl Iterator<Item = u64>) {
        std::hint::black_box(
            self.ids
                .bring(ids)
                .wrapping_add(self.prompts.bring(prompts)),
        );
    }

    /// Forgets what lines were seen; they can still be read again.
    pub(crate) fn forget(&mut self) {
        self.ids = Seen::default();
        self.prompts = Seen::default();
    }

    /// A line that has passed, as text and as record.
    pub(crate) fn record(&mut self, line: u64) -> Result<Option<(String, Record)>> {
        let record = self.earlier.record(line)?.cloned();
        Ok(record.map(|record| (self.earlier.text().to_owned(), record)))
    }

    /// The line that has the record's id already; `id` is the hash of it.
    pub(super) fn same_id(
        &mut self,
        again: &mut Again<'_>,
        id: u64,
        line: u64,
    ) -> Result<Option<u64>> {
        let earlier = &mut self.earlier;
        self.ids.earlier(id, line, |line| {
            let Some(earlier) = earlier.record(line)? else {
                return Ok(false);
            };
            Ok(again
                .record()
                .is_some_and(|(_, record)| earlier.id == record.id))
        })
    }

    /// An earlier record with the same images and prompt: a copy, or a contradiction.
    pub(super) fn same_prompt(
        &mut self,
        again: &mut Again<'_>,
        images: &[ImageId],
        prompts: &[u64],
        line: u64,
        known: Known<'_>,
    ) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (nth, prompt) in prompts.iter().enumerate() {
            let earlier = &mut self.earlier;
            // Within one record the same prompt cannot come twice: each holds the one before.
            let found = self.prompts.earlier(*prompt, line, |line| {
                let Some((other, (_, record))) = earlier.record(line)?.zip(again.record()) else {
                    return Ok(false);
                };
                Ok::<_, Diagnostic>(answers(record).nth(nth).is_some_and(|(index, _)| {
                    is_prompt_of(other, index)
                        && is_same(
                            &record.messages[..index],
                            images,
                            &other.messages[..index],
                            &known(other),
                        )
                }))
            })?;
            let Some(first) = found else { continue };
            let Some((other, (_, record))) = self.earlier.record(first)?.zip(again.record()) else {
                continue;
            };
            let Some((index, answer)) = answers(record).nth(nth) else {
                continue;
            };
            let last = record.messages.len() - 1;
            let path = ["messages".into(), index.into(), "content".into()];
            if let Some(difference) = difference(&answer.text(), &other.messages[index].text()) {
                let what = format!(
                    "line {first} has the same images and prompt, but another answer: {difference}"
                );
                findings.push(
                    Finding::new(Rule::ConflictingAnswers, path, what)
                        .hint("compare the two labels and keep one; where both are right, the prompt must say which is asked for"),
                );
            } else if index == last && other.messages.len() == record.messages.len() {
                let what = format!("the record is the same as that in line {first}");
                findings.push(
                    Finding::new(Rule::DuplicateRecord, [], what)
                        .hint("it counts twice in training: remove one, or say so with `meta.weight`; `--fix-out` keeps the first"),
                );
            }
        }
        Ok(findings)
    }
}

fn is_prompt_of(record: &Record, index: usize) -> bool {
    record
        .messages
        .get(index)
        .is_some_and(|message| message.role == Role::Assistant)
}

fn is_same(a: &[Message], a_images: &[ImageId], b: &[Message], b_images: &[ImageId]) -> bool {
    let parts = |messages: &[Message]| {
        messages
            .iter()
            .map(|m| (m.role, m.content.len()))
            .collect::<Vec<_>>()
    };
    let mut images = a_images.iter().zip(b_images);
    parts(a) == parts(b)
        && a.iter().zip(b).all(|(a, b)| {
            a.content.iter().zip(&b.content).all(|(a, b)| match (a, b) {
                (Part::Text(a), Part::Text(b)) => a == b,
                (Part::Image(_), Part::Image(_)) => {
                    images.next().is_some_and(|(a, b)| a.is_same(b))
                }
                _ => false,
            })
        })
}

/// The first place where two answers differ; `None` when they say the same. The order of keys and
/// white space do not count.
fn difference(here: &str, there: &str) -> Option<String> {
    if here == there {
        return None;
    }
    match (json::parse(here), json::parse(there)) {
        (Ok(here), Ok(there)) => differs(&here, &there, String::new()),
        _ => Some("the texts differ".to_owned()),
    }
}

fn differs(here: &Value, there: &Value, at: String) -> Option<String> {
    match (here, there) {
        (Value::Object(a), Value::Object(b)) => {
            let missing = b.keys().find(|key| !a.contains_key(*key));
            a.iter()
                .find_map(|(key, value)| match b.get(key) {
                    Some(other) => differs(value, other, format!("{at}/{key}")),
                    None => Some(format!("`{at}/{key}` is only here")),
                })
                .or_else(|| missing.map(|key| format!("`{at}/{key}` is only there")))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| differs(a, b, format!("{at}/{i}")))
        }
        (Value::Array(a), Value::Array(b)) => Some(format!(
            "{} has {} items here and {} there",
            named(&at),
            a.len(),
            b.len()
        )),
        (here, there) if here == there => None,
        (here, there) => {
            let at = named(&at);
            Some(format!(
                "{at} is {} here and {} there",
                short(here),
                short(there)
            ))
        }
    }
}

fn named(at: &str) -> String {
    match at.is_empty() {
        true => "the answer".to_owned(),
        false => format!("`{at}`"),
    }
}

fn short(value: &Value) -> String {
    const SHOWN: usize = 40;
    let text = value.to_string();
    match text.chars().count() > SHOWN {
        true => format!("`{}..`", text.chars().take(SHOWN).collect::<String>()),
        false => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        for (here, there, expected) in [
            (r#"{"a":1}"#, r#"{ "a": 1 }"#, None),
            (r#"{"a":1,"b":[2]}"#, r#"{"b":[2],"a":1}"#, None),
            (
                r#"{"a":1}"#,
                r#"{"a":"1"}"#,
                Some("`/a` is `1` here and `\"1\"` there"),
            ),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, Some("`/b` is only there")),
            (
                r#"{"l":[{"x":1},{"x":2}]}"#,
                r#"{"l":[{"x":1},{"x":3}]}"#,
                Some("`/l/1/x` is `2` here and `3` there"),
            ),
            ("[]", "[1]", Some("the answer has 0 items here and 1 there")),
            ("7", "8", Some("the answer is `7` here and `8` there")),
            ("yes", "no", Some("the texts differ")),
        ] {
            assert_eq!(difference(here, there).as_deref(), expected);
        }
    }
}
