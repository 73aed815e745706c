//! The mapping file: which column becomes which key of the target, and what the model is asked.
//! TOML, strict: an unknown key is an error that names the nearest known one.

mod check;
mod read;

pub(crate) use read::explain_toml;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// How numbers are written as text. Absent: digits with a point, no thousands; whatever else is
    /// refused, because `1.234` is two numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    pub prompt: Prompt,
    /// Which pages of a document its record shows; all of them when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<Pages>,
    /// Normalisation tables by name: what the labels say -> what the target says. White space and
    /// the case of letters do not count when a value is looked up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, BTreeMap<String, String>>,
    /// How a Label Studio export is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_studio: Option<LabelStudio>,
    /// The keys of the target, in this order.
    pub fields: Vec<Field>,
}

/// What stands in every record before the answer. `{{schema}}` in a text is replaced by the JSON
/// Schema of the target, `{{keys}}` by its keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The system message; no system message when it and `system_file` are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// A text file with the system message, relative to the mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_file: Option<String>,
    /// The user's text, after the page images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A text file with the user's text, relative to the mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_file: Option<String>,
    /// The JSON Schema that `{{schema}}` quotes, relative to the mapping; its keys and types must be
    /// those of `fields`. Absent: the schema that `fields` amount to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_schema: Option<String>,
}

/// Which pages of a document its record shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pages {
    pub take: Take,
    /// With `take = "list"`: page numbers, from 1; -1 is the last page, -2 the one before it. A
    /// document without one of them is rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<i64>,
    /// With `take = "column"`: the column with the row's page, or its pages as `1-3,7`. The record
    /// shows the pages of all its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    All,
    First,
    Last,
    /// The pages of `list`.
    List,
    /// The pages that the rows name.
    Column,
}

/// How a Label Studio export is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelStudio {
    /// Which annotations of a task count when none is marked as ground truth.
    pub annotations: Annotations,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Annotations {
    /// All of them, and they must agree: where they differ, the document is rejected. The default.
    #[default]
    Agree,
    /// The one that was updated last.
    Latest,
}

/// How numbers are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decimal {
    /// `1,234.5`
    Point,
    /// `1.234,5`
    Comma,
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
    /// The value where the labels have none; how often is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The name of one of `tables`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Values that the table does not have, neither to look up nor as a result, are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// Instead of the mapping's own `decimal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// Of a date: how the labels write it, such as `"%d.%m.%Y"` (strftime); the first that fits is
    /// taken, and a date that fits none is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<String>,
    /// Of a date with `dates`: how the target writes it; `"%Y-%m-%d"` when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_date: Option<String>,
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
    /// A date: a text as the labels write it, or with `dates` always written in one way.
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
    /// The value where the labels have none; how often is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The name of one of `tables`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Values that the table does not have, neither to look up nor as a result, are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// Instead of the mapping's own `decimal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// Of a date: how the labels write it, such as `"%d.%m.%Y"` (strftime); the first that fits is
    /// taken, and a date that fits none is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<String>,
    /// Of a date with `dates`: how the target writes it; `"%Y-%m-%d"` when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_date: Option<String>,
    /// A document with an item that lacks this value is rejected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// Everything that decides what becomes of one cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellRules<'a> {
    pub(crate) kind: FieldKind,
    pub(crate) null: &'a [String],
    pub(crate) decimal: Option<Decimal>,
    pub(crate) dates: &'a [String],
    pub(crate) write_date: &'a str,
    pub(crate) table: Option<&'a BTreeMap<String, String>>,
    pub(crate) strict: bool,
    pub(crate) default: Option<&'a Value>,
}

/// ISO 8601, and what JSON Schema calls a date.
const WRITE_DATE: &str = "%Y-%m-%d";

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

    pub(crate) fn rules<'a>(&'a self, mapping: &'a Mapping) -> CellRules<'a> {
        CellRules {
            kind: self.kind,
            null: self.null.as_ref().unwrap_or(&mapping.null),
            decimal: self.decimal.or(mapping.decimal),
            dates: &self.dates,
            write_date: self.write_date.as_deref().unwrap_or(WRITE_DATE),
            table: self.table.as_ref().and_then(|t| mapping.tables.get(t)),
            strict: self.strict,
            default: self.default.as_ref(),
        }
    }
}

impl Item {
    pub(crate) fn column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }

    pub(crate) fn rules<'a>(&'a self, mapping: &'a Mapping) -> CellRules<'a> {
        CellRules {
            kind: self.kind,
            null: self.null.as_ref().unwrap_or(&mapping.null),
            decimal: self.decimal.or(mapping.decimal),
            dates: &self.dates,
            write_date: self.write_date.as_deref().unwrap_or(WRITE_DATE),
            table: self.table.as_ref().and_then(|t| mapping.tables.get(t)),
            strict: self.strict,
            default: self.default.as_ref(),
        }
    }
}

impl Mapping {
    /// Every column that the mapping reads from the rows.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let mut columns = vec![self.document.as_str()];
        for field in &self.fields {
            if field.is_list_of_rows() {
                columns.extend(field.items.iter().map(Item::column));
            } else {
                columns.push(field.column());
            }
        }
        let page = self
            .pages
            .as_ref()
            .and_then(|pages| pages.column.as_deref());
        columns.extend(page);
        columns
    }

    pub(crate) fn annotations(&self) -> Annotations {
        self.label_studio
            .as_ref()
            .map(|l| l.annotations)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
