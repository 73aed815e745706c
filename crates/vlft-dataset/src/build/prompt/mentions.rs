//! Keys and types that a prompt names in words, beside those that the target has. A prompt that asks
//! for `"days": integer` while every answer has a text teaches the model to ignore its instructions.
//!
//! Only what looks like a key counts: in quotes or backticks, or at the start of a line, and followed
//! by a colon or with an underscore in it. Prose is not read.

use std::collections::BTreeSet;

use super::Finding;
use crate::build::mapping::{FieldKind, Mapping};

/// A key as the prompt names it, with the text behind it up to the end of the line.
#[derive(Debug, PartialEq)]
struct Mention<'a> {
    name: &'a str,
    after: &'a str,
    line: usize,
}

/// What the prompt says of the answer's keys that the answer does not keep.
pub(super) fn contradictions(prompt: &str, mapping: &Mapping) -> Vec<Finding> {
    let mut kinds: Vec<(&str, FieldKind)> = Vec::new();
    for field in &mapping.fields {
        kinds.push((&field.name, field.kind));
        kinds.extend(field.items.iter().map(|i| (i.name.as_str(), i.kind)));
    }
    let kind_of = |name: &str| {
        let found = kinds.iter().filter(|(known, _)| *known == name);
        found.map(|(_, kind)| *kind).collect::<Vec<_>>()
    };
    let mut findings = Vec::new();
    let mut told = BTreeSet::new();
    for mention in mentions(prompt, &kinds) {
        let (name, line) = (mention.name, mention.line);
        let known = kind_of(name);
        if known.is_empty() {
            if told.insert(name) {
                let detail =
                    format!("the prompt names `{name}` in line {line}, the target has no such key");
                findings.push(Finding {
                    rule: "prompt-absent-key",
                    detail,
                });
            }
            continue;
        }
        if let Some(asked) = asked_type(mention.after)
            && !known.iter().any(|kind| asked.fits(*kind))
            && told.insert(name)
        {
            let given = noun(known[0]);
            let detail = format!(
                "the prompt asks for {} in `{name}` in line {line}, the target has {given}",
                asked.noun()
            );
            findings.push(Finding {
                rule: "prompt-type",
                detail,
            });
        }
    }
    findings.extend(missing_keys(prompt, mapping));
    findings
}

/// A prompt that lists the keys and leaves some out. One that names only few in passing lists none.
fn missing_keys(prompt: &str, mapping: &Mapping) -> Option<Finding> {
    if ["{{schema}}", "{{keys}}"]
        .iter()
        .any(|all| prompt.contains(all))
    {
        return None;
    }
    let words: BTreeSet<&str> = prompt.split(|c: char| !is_key_sign(c)).collect();
    let is_named = |name: &str| words.contains(name) || prompt.contains(&format!("\"{name}\""));
    let all = mapping.fields.len();
    let missing: Vec<String> = mapping
        .fields
        .iter()
        .filter(|f| !is_named(&f.name))
        .map(|f| format!("`{}`", f.name))
        .collect();
    let named = all - missing.len();
    (!missing.is_empty() && named >= 2 && named * 2 >= all).then(|| Finding {
        rule: "prompt-missing-key",
        detail: format!(
            "the prompt names {named} of the target's {all} keys, but not {}",
            missing.join(", ")
        ),
    })
}

fn is_key_sign(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn mentions<'a>(prompt: &'a str, kinds: &[(&str, FieldKind)]) -> Vec<Mention<'a>> {
    let mut found = Vec::new();
    for (line, number) in prompt.lines().zip(1..) {
        let mut at = 0;
        while at < line.len() {
            let Some((start, name, end)) = next_name(line, at) else {
                break;
            };
            let before = line[..start].trim_end_matches(['"', '`', '\'']);
            let behind = line[end..].trim_start_matches(['"', '`', '\'']);
            let is_quoted = before.len() < start && behind.len() < line.len() - end;
            let is_first = before
                .trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_')
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .trim_matches([' ', '.', ')', '-', '*'])
                .is_empty();
            let has_colon = behind.trim_start().starts_with(':');
            // `"type": "rated_load"`: what stands behind a colon is a value.
            let is_value = before.trim_end().ends_with([':', '=']);
            let is_known = kinds.iter().any(|(known, _)| *known == name);
            let is_key = match is_known {
                true => is_quoted || is_first || name.contains('_'),
                false if is_quoted => has_colon || name.contains('_'),
                false => is_first && has_colon && name.contains('_'),
            };
            if is_key && !is_value {
                found.push(Mention {
                    name,
                    after: behind,
                    line: number,
                });
            }
            at = end;
        }
    }
    found
}

/// The next name at or after `from`: where it starts, it, where it ends.
fn next_name(line: &str, from: usize) -> Option<(usize, &str, usize)> {
    let rest = &line[from..];
    let start = from + rest.find(|c: char| c.is_alphabetic() || c == '_')?;
    // `{{keys}}` is filled in later; the rest of a word that begins with a digit is no name.
    let end = line[start..]
        .find(|c: char| !is_key_sign(c))
        .map_or(line.len(), |at| start + at);
    Some((start, &line[start..end], end))
}

/// A type as prompts name it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Text,
    Integer,
    Number,
    Boolean,
    List,
}

impl Asked {
    fn fits(self, kind: FieldKind) -> bool {
        match self {
            Asked::Text => matches!(kind, FieldKind::String | FieldKind::Date),
            Asked::Integer => kind == FieldKind::Integer,
            Asked::Number => matches!(kind, FieldKind::Integer | FieldKind::Number),
            Asked::Boolean => kind == FieldKind::Boolean,
            Asked::List => kind == FieldKind::List,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Asked::Text => "a text",
            Asked::Integer => "an integer",
            Asked::Number => "a number",
            Asked::Boolean => "a boolean",
            Asked::List => "a list",
        }
    }
}

fn noun(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::String | FieldKind::Date => "a text",
        FieldKind::Integer => "an integer",
        FieldKind::Number => "a number",
        FieldKind::Boolean => "a boolean",
        FieldKind::List => "a list",
    }
}

/// The type that stands right behind a key: `: (integer)`, `: <int>`, ` as a string`. A sentence
/// about it is no type: `number of days`.
fn asked_type(after: &str) -> Option<Asked> {
    let after = after.trim_start_matches(|c: char| c.is_whitespace() || ":-–—=(<\"'`".contains(c));
    if after.starts_with('[') {
        return Some(Asked::List);
    }
    let mut words = after
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .filter(|w| !["a", "an", "as", "the", "optional", "nullable"].contains(&w.as_str()));
    let (first, second) = (words.next()?, words.next());
    let asked = match first.as_str() {
        "integer" | "int" => Asked::Integer,
        "whole" if second.as_deref() == Some("number") => return Some(Asked::Integer),
        "number" | "float" | "decimal" | "double" => Asked::Number,
        "string" | "str" | "text" => Asked::Text,
        "boolean" | "bool" => Asked::Boolean,
        "list" | "array" => return Some(Asked::List),
        _ => return None,
    };
    (second.as_deref() != Some("of")).then_some(asked)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const MAPPING: &str = r#"
version = 1
document = "F"
prompt = { user = "x" }
[[fields]]
name = "bl_number"
type = "string"
[[fields]]
name = "free_days"
type = "string"
[[fields]]
name = "vessel"
type = "string"
[[fields]]
name = "containers"
type = "list"
items = [{ name = "size", type = "integer" }]
"#;

    fn found(prompt: &str) -> Vec<String> {
        let mapping = Mapping::parse(MAPPING, Path::new("m.toml")).unwrap();
        contradictions(prompt, &mapping)
            .into_iter()
            .map(|f| format!("{}: {}", f.rule, f.detail))
            .collect()
    }

    #[test]
    fn contradictions_are_found_and_prose_is_left_alone() {
        let type_of = |line| {
            vec![format!(
                "prompt-type: the prompt asks for an integer in `free_days` in line {line}, the target has a text"
            )]
        };
        let absent = |name: &str| {
            vec![format!(
                "prompt-absent-key: the prompt names `{name}` in line 1, the target has no such key"
            )]
        };
        for (prompt, expected) in [
            ("Read the bill.\n- free_days: (integer)", type_of(2)),
            ("{\"free_days\": <int>}", type_of(1)),
            ("`free_days` as an integer", type_of(1)),
            ("1. free_days: whole number", type_of(1)),
            ("`free_days`: string or null", vec![]),
            ("free_days: number of days as printed", vec![]),
            ("`size`: integer; `containers`: [", vec![]),
            ("`vessle`: the ship", absent("vessle")),
            ("Give `bl_no` as printed.", absent("bl_no")),
            ("Note: answer in JSON. \"Yes\" is no answer.", vec![]),
            ("{\"vessel\": \"MV_GRACE\"}", vec![]),
            (
                "Keys: bl_number, free_days, vessel",
                vec![
                    "prompt-missing-key: the prompt names 3 of the target's 4 keys, but not `containers`".to_owned(),
                ],
            ),
            ("Keys: bl_number, free_days, vessel, {{keys}}", vec![]),
            ("Use null where the bl_number is not there.", vec![]),
        ] {
            assert_eq!(found(prompt), expected, "{prompt}");
        }
    }

    proptest! {
        #[test]
        fn any_prompt_is_read_without_panic(prompt in "(\\PC|\n|\"|`|_|:|free_days|é| ){0,40}") {
            let _ = found(&prompt);
        }
    }
}
