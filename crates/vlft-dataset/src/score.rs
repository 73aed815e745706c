//! How right an answer is, field by field: the answer and its target are read as JSON, both are
//! flattened to paths (`containers[0].size`), and the values at each path are compared exactly.
//!
//! A field is a value that holds no other: text, number, boolean, null, or an empty list or object.
//! A field of the target that the answer lacks is wrong, and so is one that the answer made up: both
//! count in [`Score::fields`]. Items of a list are compared in their order.

use std::collections::HashMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use unicode_normalization::UnicodeNormalization;

use crate::json;

/// Counts over one answer, or over many by adding up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    pub answers: u64,
    /// Answers that are not JSON although their target is: all their fields are wrong.
    pub unparsable: u64,
    /// Answers without a wrong, missing or made-up field.
    pub exact: u64,
    /// Fields of the target, and fields that only the answer has.
    pub fields: u64,
    /// Fields that are in both with the same value.
    pub correct: u64,
}

impl Score {
    /// The share of fields that are right, 0 to 1; none without fields.
    pub fn field_accuracy(&self) -> Option<f64> {
        (self.fields > 0).then(|| self.correct as f64 / self.fields as f64)
    }
}

impl AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.answers += other.answers;
        self.unparsable += other.unparsable;
        self.exact += other.exact;
        self.fields += other.fields;
        self.correct += other.correct;
    }
}

/// Compares one answer with its target. A target that is not JSON is one field, the text itself.
pub fn score(target: &str, answer: &str) -> Score {
    let Ok(expected) = json::parse(target) else {
        let correct = u64::from(target.trim() == answer.trim());
        return Score {
            answers: 1,
            unparsable: 0,
            exact: correct,
            fields: 1,
            correct,
        };
    };
    let expected = flatten(&expected);
    let Ok(found) = json::parse(answer) else {
        return Score {
            answers: 1,
            unparsable: 1,
            exact: 0,
            fields: expected.len() as u64,
            correct: 0,
        };
    };
    let found = flatten(&found);
    let by_path: HashMap<&str, &Value> = found.iter().map(|(p, v)| (p.as_str(), *v)).collect();
    let (mut correct, mut shared) = (0, 0);
    for (path, value) in &expected {
        if let Some(other) = by_path.get(path.as_str()) {
            shared += 1;
            correct += u64::from(same(value, other));
        }
    }
    let fields = (expected.len() + found.len() - shared) as u64;
    Score {
        answers: 1,
        unparsable: 0,
        exact: u64::from(correct == fields),
        fields,
        correct,
    }
}

/// Every field with its path, in the order of the text. Paths are unique: a `.`, `[`, `]`, `"` or `\`
/// inside of a key is escaped.
pub fn flatten(value: &Value) -> Vec<(String, &Value)> {
    let mut fields = Vec::new();
    collect(value, String::new(), &mut fields);
    fields
}

fn collect<'a>(value: &'a Value, path: String, fields: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let key = escaped(key);
                let path = match path.is_empty() {
                    true => key,
                    false => format!("{path}.{key}"),
                };
                collect(value, path, fields);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{path}[{index}]"), fields);
            }
        }
        _ => fields.push((path, value)),
    }
}

fn escaped(key: &str) -> String {
    // An empty key must not look like no key.
    if key.is_empty() {
        return "\"\"".to_owned();
    }
    let mut out = String::with_capacity(key.len());
    for c in key.chars() {
        if matches!(c, '.' | '[' | ']' | '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// `1` and `1.0` are the same number, as they are for whoever reads the JSON; `"1"` is not. An accent
/// may be a letter's part or a character of its own: tokenizers compose them, so an answer cannot
/// repeat a target that does not.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || same_across_kinds(a, b),
        (Value::String(a), Value::String(b)) => a.nfc().eq(b.nfc()),
        _ => a == b,
    }
}

/// An integer beside a fraction; two integers are compared exactly, beyond what f64 can tell apart.
fn same_across_kinds(a: &Number, b: &Number) -> bool {
    a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (fields, correct, unparsable, exact)
    fn counts(target: &str, answer: &str) -> (u64, u64, u64, u64) {
        let score = score(target, answer);
        assert_eq!(score.answers, 1);
        (score.fields, score.correct, score.unparsable, score.exact)
    }

    const TARGET: &str = r#"{"no":"B-1","lines":[{"n":2,"kg":1.5},{"n":3,"kg":null}],"notes":[]}"#;

    #[test]
    fn answers_are_counted_field_by_field() {
        for (answer, expected) in [
            (TARGET, (6, 6, 0, 1)),
            // Order of keys and white space do not matter, nor how a number is written.
            (
                r#" {"notes":[],"lines":[{"kg":1.50,"n":2.0},{"kg":null,"n":3}], "no":"B-1"}"#,
                (6, 6, 0, 1),
            ),
            // One wrong, one of another type, one missing.
            (
                r#"{"no":"B-2","lines":[{"n":"2","kg":1.5},{"n":3}],"notes":[]}"#,
                (6, 3, 0, 0),
            ),
            // Two made up: everything else is right, but it is not the answer.
            (
                r#"{"no":"B-1","lines":[{"n":2,"kg":1.5},{"n":3,"kg":null},{"n":4}],"notes":[],"x":0}"#,
                (8, 6, 0, 0),
            ),
            // A list that should be empty and is not: its one field is missing, another is made up.
            (
                r#"{"no":"B-1","lines":[{"n":2,"kg":1.5},{"n":3,"kg":null}],"notes":["a"]}"#,
                (7, 5, 0, 0),
            ),
            ("[]", (7, 0, 0, 0)),
            (r#"{"no":"B-1","lines":["#, (6, 0, 1, 0)),
            ("", (6, 0, 1, 0)),
            (r#"{"no":"B-1","no":"B-1"}"#, (6, 0, 1, 0)),
            ("```json\n{}\n```", (6, 0, 1, 0)),
        ] {
            assert_eq!(counts(TARGET, answer), expected, "{answer}");
        }
    }

    #[test]
    fn a_target_that_is_no_json_is_one_field() {
        assert_eq!(counts("twelve crates", " twelve crates\n"), (1, 1, 0, 1));
        assert_eq!(counts("twelve crates", "{}"), (1, 0, 0, 0));
    }

    #[test]
    fn large_integers_are_not_rounded() {
        assert_eq!(counts("9007199254740993", "9007199254740992"), (1, 0, 0, 0));
        assert_eq!(counts("1e2", "100"), (1, 1, 0, 1));
        assert_eq!(counts("true", "1"), (1, 0, 0, 0));
    }

    #[test]
    fn accents_may_be_composed_or_not() {
        assert_eq!(
            counts("\"Ma\u{30a}l\u{f8}\"", "\"M\u{e5}l\u{f8}\""),
            (1, 1, 0, 1)
        );
        assert_eq!(counts("\"Mal\"", "\"M\u{e5}l\""), (1, 0, 0, 0));
    }

    #[test]
    fn paths_are_unique_whatever_the_keys() {
        let value =
            json::parse(r#"{"a":{"b":1},"a.b":2,"":3,"\"\"":4,"c":[5],"c[0]":6,"d\\":{"e":7}}"#)
                .unwrap();
        let mut paths: Vec<String> = flatten(&value).into_iter().map(|(path, _)| path).collect();
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!((all, paths.len()), (7, 7), "{paths:?}");
    }

    #[test]
    fn scores_add_up() {
        let mut sum = Score::default();
        assert_eq!(sum.field_accuracy(), None);
        sum += score(TARGET, TARGET);
        sum += score(r#"{"a":1,"b":2}"#, "nothing");
        assert_eq!(
            (sum.answers, sum.unparsable, sum.exact, sum.fields),
            (2, 1, 1, 8)
        );
        assert_eq!(sum.field_accuracy(), Some(0.75));
    }
}
