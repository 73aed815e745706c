//! The record: one training example, one line of JSONL. Parsing is strict (no other keys), so that
//! whatever holds a `Record` holds a valid shape; what JSON cannot say (unique ids, images that
//! exist, turns in order) is checked by `validate`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// One training example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Unique in its file, and not empty.
    #[schemars(length(min = 1))]
    pub id: String,
    /// At most one system message first, then user and assistant in turn.
    pub messages: Vec<Message>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::json::unique_object"
    )]
    #[schemars(with = "Option<KnownMeta>")]
    pub meta: Option<Meta>,
}

/// Free-form facts about a record. Known keys: `document`, `pages`, `doc_type`, `source_sha256`,
/// `weight`.
pub type Meta = serde_json::Map<String, serde_json::Value>;

/// The keys of `meta` that this program reads; any other key is free.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only the schema is made of it")]
struct KnownMeta {
    /// The document that the record shows. Records of one document stay on one side of a split.
    document: Option<String>,
    /// Which pages of it, counted from 1, in the order of the images.
    pages: Option<Vec<u32>>,
    doc_type: Option<String>,
    /// SHA-256 of the source file, lower-case hex.
    source_sha256: Option<String>,
    /// How much each trained token of the record counts in the loss of a step, 1 if absent; 0 leaves
    /// the record out. Evaluation counts all records the same.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    weight: Option<f64>,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub role: Role,
    pub content: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One part of a message: `{"type":"image","image":path}` or `{"type":"text","text":str}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A path relative to the JSONL file, with `/` on every system.
    Image(String),
    Text(String),
}

impl Record {
    /// Image paths in the order the model sees them.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.messages
            .iter()
            .flat_map(|m| &m.content)
            .filter_map(|part| match part {
                Part::Image(path) => Some(path.as_str()),
                Part::Text(_) => None,
            })
    }

    /// How much the record counts in training: `meta.weight`, or 1.
    pub fn weight(&self) -> f64 {
        let meta = self.meta.as_ref();
        meta.and_then(|meta| meta.get("weight")?.as_f64())
            .unwrap_or(1.0)
    }

    /// The document this record was made from, if `meta.document` says so.
    pub fn document(&self) -> Option<&str> {
        self.meta.as_ref()?.get("document")?.as_str()
    }
}

impl Message {
    /// All text parts, joined. An assistant's text is its target.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Image(_) => None,
        });
        let first = texts.next().unwrap_or_default();
        let mut all = Cow::Borrowed(first);
        texts.for_each(|text| all += text);
        all
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, value) = match self {
            Part::Image(path) => ("image", path),
            Part::Text(text) => ("text", text),
        };
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", kind)?;
        map.serialize_entry(kind, value)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartVisitor;

        impl<'de> Visitor<'de> for PartVisitor {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"{"type":"image","image":path} or {"type":"text","text":string}"#)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
                let (mut kind, mut image, mut text) = (None::<Word<'_>>, None, None);
                while let Some(Word(key)) = map.next_key()? {
                    let twice = match &*key {
                        "type" => kind.replace(map.next_value()?).is_some(),
                        "image" => image.replace(map.next_value()?).is_some(),
                        "text" => text.replace(map.next_value()?).is_some(),
                        other => {
                            return Err(de::Error::unknown_field(
                                other,
                                &["type", "image", "text"],
                            ));
                        }
                    };
                    if twice {
                        return Err(de::Error::custom(format!("duplicate key `{key}`")));
                    }
                }
                match (kind.as_ref().map(|kind| &*kind.0), image, text) {
                    (Some("image"), Some(path), None) => Ok(Part::Image(path)),
                    (Some("text"), None, Some(text)) => Ok(Part::Text(text)),
                    (Some("image"), None, _) => Err(de::Error::missing_field("image")),
                    (Some("text"), _, None) => Err(de::Error::missing_field("text")),
                    (Some("image"), Some(_), Some(_)) => Err(de::Error::custom(
                        "an image part has `image` only, found `text` beside it",
                    )),
                    (Some("text"), Some(_), Some(_)) => Err(de::Error::custom(
                        "a text part has `text` only, found `image` beside it",
                    )),
                    (Some(other), ..) => Err(de::Error::unknown_variant(other, &["image", "text"])),
                    (None, ..) => Err(de::Error::missing_field("type")),
                }
            }
        }

        deserializer.deserialize_map(PartVisitor)
    }
}

/// A text that is only compared: borrowed from the line where it has no escapes.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

impl JsonSchema for Part {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Part".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let part = |kind: &str, about: &str| {
            json_schema!({
                "type": "object",
                "additionalProperties": false,
                "required": ["type", kind],
                "properties": {
                    "type": { "const": kind },
                    kind: { "type": "string", "description": about },
                },
            })
        };
        json_schema!({
            "description": "An image or a text.",
            "oneOf": [
                part("image", "a path relative to the JSONL file, with `/` on every system"),
                part("text", "in an assistant's turn: the target JSON and nothing else"),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id":"a","messages":[{"role":"user","content":[{"type":"image","image":"p/1.png"},{"type":"text","text":"Read."}]},{"role":"assistant","content":[{"type":"text","text":"{}"}]}],"meta":{"document":"d"}}"#;

    #[test]
    fn a_record_reads_and_writes_the_same_line() {
        let record: Record = serde_json::from_str(LINE).unwrap();
        assert_eq!(record.images().collect::<Vec<_>>(), ["p/1.png"]);
        assert_eq!(record.document(), Some("d"));
        assert_eq!(record.messages[1].text(), "{}");
        assert_eq!(serde_json::to_string(&record).unwrap(), LINE);
    }

    #[test]
    fn other_keys_and_kinds_are_refused_by_name() {
        for (from, to, expected) in [
            (r#""id":"a""#, r#""id":"a","x":1"#, "unknown field `x`"),
            (
                r#""type":"image","image""#,
                r#""type":"video","image""#,
                "unknown variant `video`",
            ),
            (
                r#""type":"text","text":"{}""#,
                r#""type":"text""#,
                "missing field `text`",
            ),
            (
                r#""role":"user""#,
                r#""role":"human""#,
                "unknown variant `human`",
            ),
            (
                r#"{"type":"text","text":"{}"}"#,
                r#""{}""#,
                "invalid type: string",
            ),
        ] {
            let error = serde_json::from_str::<Record>(&LINE.replace(from, to)).unwrap_err();
            assert!(
                error.to_string().contains(expected),
                "{error} lacks {expected}"
            );
        }
    }
}
