//! JSON, read more strictly than `serde_json` does by itself: a key that appears twice is an error
//! (one of the two values would silently win), and a value can be pointed at by its column.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// Parses one JSON value; a duplicate key anywhere inside is an error that names it.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Unique>(text).map(|unique| unique.0)
}

/// For `#[serde(deserialize_with)]`: an optional object whose keys are unique at every depth.
pub(crate) fn unique_object<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Map<String, Value>>, D::Error> {
    match Unique::deserialize(deserializer)?.0 {
        Value::Null => Ok(None),
        Value::Object(map) => Ok(Some(map)),
        other => Err(de::Error::custom(format!(
            "expected an object, found {}",
            kind(&other)
        ))),
    }
}

/// What a person calls the type of a value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether nothing in it is filled: null, empty texts, and what holds only these.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(keys) => keys.values().all(is_nothing),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The value as text, the same for any order of keys and any white space.
pub(crate) fn canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<(&String, &Value)> = object.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            text.push(b'{');
            for (key, value) in keys {
                print(key, text);
                text.push(b':');
                canonical(value, text);
                text.push(b',');
            }
            text.push(b'}');
        }
        Value::Array(items) => {
            text.push(b'[');
            for item in items {
                canonical(item, text);
                text.push(b',');
            }
            text.push(b']');
        }
        scalar => print(scalar, text),
    }
}

fn print(value: &impl serde::Serialize, text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("plain data, and memory takes all");
}

/// A [`Value`] whose objects have no duplicate keys.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // The parser refuses numbers beyond f64 before it comes here.
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            match map.entry(key) {
                Entry::Occupied(same) => {
                    let key = same.key();
                    return Err(de::Error::custom(format!("duplicate key `{key}`")));
                }
                Entry::Vacant(free) => {
                    let Unique(value) = access.next_value()?;
                    free.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// One step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// Where in `text` the value at `path` starts, as a byte offset. `None` when there is no such value
/// or `text` is not JSON up to there.
pub fn offset_of(text: &str, path: &[Step]) -> Option<usize> {
    let mut cursor = Cursor {
        bytes: text.as_bytes(),
        at: 0,
    };
    for step in path {
        cursor.skip_space();
        match step {
            Step::Key(key) => cursor.enter_key(text, key)?,
            Step::Index(index) => cursor.enter_index(*index)?,
        }
    }
    cursor.skip_space();
    (cursor.at < text.len()).then_some(cursor.at)
}

/// The 1-based column, in characters, of a byte offset within one line.
pub fn column(line: &str, offset: usize) -> u64 {
    let end = (0..=offset.min(line.len()))
        .rev()
        .find(|&i| line.is_char_boundary(i))
        .unwrap_or(0);
    line[..end].chars().count() as u64 + 1
}

/// The 1-based column in characters of an error of `serde_json`, which counts bytes.
pub fn error_column(line: &str, error: &serde_json::Error) -> u64 {
    column(line, error.column().saturating_sub(1))
}

/// Walks over JSON text without building anything. It trusts the text to be valid; on text that is
/// not, it ends with `None` or at a wrong place, never with a panic.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.bytes.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Steps over one string and returns its byte range, quotes included.
    fn string(&mut self) -> Option<std::ops::Range<usize>> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(start..self.at)
    }

    /// Steps over one value of any kind.
    fn value(&mut self) -> Option<()> {
        self.skip_space();
        let mut depth = 0usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' => self.at += 1,
                _ => self.scalar(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn scalar(&mut self) {
        while let Some(byte) = self.bytes.get(self.at) {
            if b",:]} \t\r\n".contains(byte) {
                break;
            }
            self.at += 1;
        }
    }

    fn enter_key(&mut self, text: &str, wanted: &str) -> Option<()> {
        self.expect(b'{')?;
        loop {
            self.skip_space();
            let key = self.string()?;
            let key: String = serde_json::from_str(text.get(key)?).ok()?;
            self.expect(b':')?;
            if key == wanted {
                return Some(());
            }
            self.value()?;
            self.expect(b',')?;
        }
    }

    fn enter_index(&mut self, index: usize) -> Option<()> {
        self.expect(b'[')?;
        for _ in 0..index {
            self.value()?;
            self.expect(b',')?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duplicate_keys_are_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"[{"x":{"a":1,"b":2,"a":1}}]"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("duplicate key `a`"), "{error}");
        }
        assert_eq!(parse(r#"{"a":{"a":1}}"#).unwrap()["a"]["a"], 1);
    }

    #[test]
    fn a_path_leads_to_the_column_of_its_value() {
        let text =
            r#"{"id": "ä\"{", "messages": [ {"content":[{"x":-1.5e3},  {"image":"p.png"}]} ]}"#;
        let path = [
            "messages".into(),
            0.into(),
            "content".into(),
            1.into(),
            "image".into(),
        ];
        let at = offset_of(text, &path).unwrap();
        assert!(text[at..].starts_with(r#""p.png""#));
        // One character of two bytes stands before it.
        assert_eq!(column(text, at) as usize, at);
        assert_eq!(offset_of(text, &["id".into()]), Some(7));
        assert_eq!(offset_of(text, &["none".into()]), None);
        assert_eq!(offset_of(text, &["messages".into(), 3.into()]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_walked_without_panic(text in ".{0,60}") {
            for path in [vec!["a".into()], vec![0.into(), "b".into()], vec!["a".into(), 2.into()]] {
                let _ = offset_of(&text, &path);
            }
        }

        #[test]
        fn any_json_text_of_braces_is_walked_without_panic(text in "[\\[\\]{}\",:\\\\ a0]{0,40}") {
            let _ = offset_of(&text, &["a".into(), 1.into()]);
            let _ = parse(&text);
        }
    }
}
