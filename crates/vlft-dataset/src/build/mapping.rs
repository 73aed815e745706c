//! The mapping file: which column becomes which key of the target, and what the model is asked.
//! TOML, strict: an unknown key is an error that names the nearest known one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result, did_you_mean, one_of};

/// The version of the format that this program reads.
pub const VERSION: u32 = 1;

/// How rows of labels become records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The version of this format: 1.
    pub version: u32,
    /// The column that names the document. Rows with the same name form one record.
    pub document: String,
    /// Goes into `meta.doc_type` of every record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc_type: Option<String>,
    /// Texts that mean "no value" and become `null`. White space around a text is always removed
    /// before it is compared.
    #[serde(default = "default_null")]
    pub null: Vec<String>,
    pub prompt: Prompt,
    /// The keys of the target, in this order.
    pub fields: Vec<Field>,
}

/// What stands in every record before the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The system message; no system message when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The user's text, after the page images.
    pub user: String,
}

/// One key of the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The key in the target.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: FieldKind,
    /// The column of the labels; `name` when it is absent. For a list: the key of a nested array.
    /// A list without it is made from the rows themselves, one item per row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Instead of the mapping's own `null` texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null: Option<Vec<String>>,
    /// A document without this value is rejected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The keys of a list's items, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// The item key whose values are unique within a list: equal items are merged and counted, and
    /// different items with one value are a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// A text. Numbers become their text.
    String,
    /// A whole number; `"14"` and `14.0` are 14.
    Integer,
    /// A number; `"2.5"` is 2.5.
    Number,
    /// `true`, `"yes"`, `1`; `false`, `"no"`, `0`.
    Boolean,
    /// A date as the labels write it: a text.
    Date,
    /// An array of objects with the keys of `items`.
    List,
}

/// One key of a list's items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The key in the item.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: FieldKind,
    /// The column of the labels, or the key in the nested object; `name` when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Instead of the mapping's own `null` texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null: Option<Vec<String>>,
    /// A document with an item that lacks this value is rejected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

fn default_null() -> Vec<String> {
    ["", "-", "N/A", "n/a"].map(str::to_owned).to_vec()
}

impl Field {
    pub(crate) fn column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }

    /// A list whose items are the rows themselves.
    pub(crate) fn is_list_of_rows(&self) -> bool {
        self.kind == FieldKind::List && self.column.is_none()
    }
}

impl Item {
    pub(crate) fn column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }
}

impl Mapping {
    /// Reads and checks a mapping file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| cannot("read", path, e))?;
        Self::parse(&text, path)
    }

    /// `path` is only named in messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mapping: Self = toml::from_str(text).map_err(|e| {
            missing_keys(text)
                .map(|problem| problem.at(path))
                .unwrap_or_else(|| explain(&e, text, path))
        })?;
        match Diagnostic::all(
            mapping
                .problems()
                .into_iter()
                .map(|problem| problem.at(path)),
        ) {
            Some(error) => Err(error),
            None => Ok(mapping),
        }
    }

    /// What the types cannot say.
    fn problems(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        if self.version != VERSION {
            problems.push(
                Diagnostic::error("the mapping has a version that this vlft does not read")
                    .expected(format!("`version = {VERSION}`"))
                    .found(format!("`version = {}`", self.version)),
            );
        }
        if self.fields.is_empty() {
            problems.push(Diagnostic::error("the mapping has no `[[fields]]`"));
        }
        if self.prompt.user.trim().is_empty() {
            problems.push(Diagnostic::error("`prompt.user` is empty"));
        }
        twice(
            self.fields.iter().map(|f| f.name.as_str()),
            "fields",
            &mut problems,
        );
        for field in &self.fields {
            list_problems(field, &mut problems);
        }
        problems
    }

    /// Every column that the mapping reads from the rows, with who reads it.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let mut columns = vec![self.document.as_str()];
        for field in &self.fields {
            if field.is_list_of_rows() {
                columns.extend(field.items.iter().map(Item::column));
            } else {
                columns.push(field.column());
            }
        }
        columns
    }
}

fn list_problems(field: &Field, problems: &mut Vec<Diagnostic>) {
    let name = &field.name;
    if field.kind != FieldKind::List {
        if !field.items.is_empty() || field.unique.is_some() {
            problems.push(
                Diagnostic::error(format!(
                    "field `{name}` has `items` or `unique` but is no list"
                ))
                .hint("set `type = \"list\"`"),
            );
        }
        return;
    }
    if field.items.is_empty() {
        problems.push(
            Diagnostic::error(format!("the list `{name}` has no `items`"))
                .hint("`items = [{ name = \"..\", column = \"..\", type = \"string\" }]`"),
        );
    }
    if field.null.is_some() {
        problems.push(
            Diagnostic::error(format!("the list `{name}` has `null` texts"))
                .hint("put `null` on its items"),
        );
    }
    if let Some(nested) = field.items.iter().find(|i| i.kind == FieldKind::List) {
        problems.push(Diagnostic::error(format!(
            "item `{}` of `{name}` is a list in a list, which the mapping cannot express",
            nested.name
        )));
    }
    twice(
        field.items.iter().map(|i| i.name.as_str()),
        &format!("items of `{name}`"),
        problems,
    );
    if let Some(unique) = &field.unique
        && !field.items.iter().any(|i| i.name == *unique)
    {
        let names = || field.items.iter().map(|i| i.name.as_str());
        let problem = Diagnostic::error(format!("`unique` of `{name}` names no item: `{unique}`"))
            .expected(one_of(names()));
        problems.push(match did_you_mean(unique, names()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
}

fn twice<'a>(names: impl Iterator<Item = &'a str>, what: &str, problems: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() {
            problems.push(Diagnostic::error(format!("an empty name in {what}")));
        } else if !seen.insert(name) {
            problems.push(Diagnostic::error(format!(
                "the name `{name}` twice in {what}"
            )));
        }
    }
}

/// What every mapping has at its top.
const REQUIRED: [&str; 4] = ["version", "document", "prompt", "fields"];

/// The top-level keys that are not there, all at once; the TOML reader knows only the first.
fn missing_keys(text: &str) -> Option<Diagnostic> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let is_required = |key: &String| REQUIRED.contains(&key.as_str());
    // A misspelt key is told as such: then its right name is not missing.
    if !table
        .keys()
        .all(|key| is_required(key) || ["doc_type", "null"].contains(&key.as_str()))
    {
        return None;
    }
    let missing: Vec<String> = REQUIRED
        .iter()
        .filter(|key| !table.contains_key(**key))
        .map(|key| format!("`{key}`"))
        .collect();
    let problem = Diagnostic::error(match missing.len() {
        0 => return None,
        _ if table.is_empty() => "the mapping is empty".to_owned(),
        1 => format!("missing key {}", missing[0]),
        _ => format!("missing keys {}", missing.join(", ")),
    });
    Some(
        problem
            .expected("`version = 1`, `document = \"COLUMN\"`, `[prompt]` and `[[fields]]`")
            .hint("start from `configs/bill-of-lading.mapping.toml`"),
    )
}

/// An error of the TOML reader at its line, with the nearest known name.
fn explain(error: &toml::de::Error, text: &str, path: &Path) -> Diagnostic {
    let message = error.message().trim_end();
    // "unknown field `nmae`, expected one of `name`, `type`"
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let mut diagnostic = match message.split_once(", expected ") {
        Some((what, expected)) => {
            let what = what.replacen("unknown field", "unknown key", 1);
            Diagnostic::error(what).expected(expected)
        }
        None => Diagnostic::error(message.replacen("missing field", "missing key", 1)),
    };
    diagnostic = match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() as u64 + 1;
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            diagnostic
                .at_line(path, line)
                .column(before[start..].chars().count() as u64 + 1)
        }
        None => diagnostic.at(path),
    };
    let near = quoted
        .split_first()
        .filter(|_| message.starts_with("unknown"))
        .and_then(|(word, known)| did_you_mean(word, known.iter().copied()));
    match near {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"version = 1
document = "Filename"
[prompt]
user = "Read."
[[fields]]
name = "days"
type = "integer"
[[fields]]
name = "containers"
type = "list"
items = [{ name = "number", column = "Container_Number", type = "string" }]
unique = "number"
"#;

    #[test]
    fn a_mapping_says_what_it_reads() {
        let mapping = Mapping::parse(GOOD, Path::new("m.toml")).unwrap();
        assert_eq!(mapping.columns(), ["Filename", "days", "Container_Number"]);
        assert!(mapping.null.contains(&"N/A".to_owned()));
    }

    #[test]
    fn faults_of_a_mapping_are_named_at_their_place() {
        for (from, to, place, message, hint) in [
            (
                "document =",
                "documnt =",
                "m.toml:2:1",
                "unknown key `documnt`",
                "did you mean `document`?",
            ),
            (
                "type = \"integer\"",
                "typ = \"integer\"",
                "m.toml:7:1",
                "unknown key `typ`",
                "did you mean `type`?",
            ),
            (
                "\"integer\"",
                "\"int\"",
                "m.toml:7:8",
                "unknown variant `int`",
                "",
            ),
            (
                "user = \"Read.\"\n",
                "",
                "m.toml:3:1",
                "missing key `user`",
                "",
            ),
            (
                "version = 1",
                "version = 2",
                "m.toml",
                "the mapping has a version that this vlft does not read",
                "",
            ),
            (
                "unique = \"number\"",
                "unique = \"numbr\"",
                "m.toml",
                "`unique` of `containers` names no item: `numbr`",
                "did you mean `number`?",
            ),
            (
                "\"days\"",
                "\"containers\"",
                "m.toml",
                "the name `containers` twice in fields",
                "",
            ),
            (
                "type = \"list\"",
                "type = \"string\"",
                "m.toml",
                "field `containers` has `items` or `unique` but is no list",
                "set `type = \"list\"`",
            ),
            ("user =", "user ==", "m.toml:4:7", "extra `=`", ""),
            (
                "version = 1\ndocument = \"Filename\"\n",
                "",
                "m.toml",
                "missing keys `version`, `document`",
                "start from `configs/bill-of-lading.mapping.toml`",
            ),
            (
                GOOD,
                "",
                "m.toml",
                "the mapping is empty",
                "start from `configs/bill-of-lading.mapping.toml`",
            ),
        ] {
            let error =
                Mapping::parse(&GOOD.replacen(from, to, 1), Path::new("m.toml")).unwrap_err();
            let found = (
                error.places()[0].to_string(),
                error.message().to_owned(),
                error.hint_text().unwrap_or("").to_owned(),
            );
            assert_eq!(
                found,
                (place.into(), message.into(), hint.into()),
                "{from} -> {to}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_mapping_is_read_or_refused_without_panic(at in 0..GOOD.len(), with in "\\PC{0,3}", cut in 0usize..9) {
            let end = (at + cut).min(GOOD.len());
            let _ = Mapping::parse(&format!("{}{with}{}", &GOOD[..at], &GOOD[end..]), Path::new("m.toml"));
        }
    }
}
