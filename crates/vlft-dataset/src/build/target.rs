//! From the rows of one document to its target: values take the types that the mapping asks for,
//! and whatever contradicts itself is a fault of the document, never settled in silence.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::cell::{convert, is_null};
use super::labels::Row;
use super::mapping::{Field, FieldKind, Item, Mapping};
use crate::json::kind;

/// The answer for one document.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    /// Keys in the mapping's order.
    pub(crate) value: Value,
    /// Rows that repeated an item of a list with `unique`, and added nothing.
    pub(crate) merged_rows: u64,
    /// Keys whose value is the mapping's default, once per value.
    pub(crate) defaults: Vec<String>,
}

/// Why the labels of a document make no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LabelFault {
    /// Rows of one document disagree about a value of the document.
    ConflictingValues,
    /// Two items of a list have the same unique value and differ.
    ConflictingItems,
    /// A value cannot be read as its type.
    BadValue,
    /// A required value is null or not there.
    MissingValue,
}

/// What making a target tells besides its value.
#[derive(Default)]
struct Notes {
    faults: Vec<Fault>,
    merged_rows: u64,
    defaults: Vec<String>,
}

/// A fault with its places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) reason: LabelFault,
    pub(crate) detail: String,
    pub(crate) places: Vec<String>,
}

impl Fault {
    fn new(reason: LabelFault, detail: String, rows: &[&Row]) -> Self {
        let places = rows.iter().map(|row| row.place()).collect();
        Self {
            reason,
            detail,
            places,
        }
    }
}

/// Makes the target of one document from its rows, or names every fault.
pub(crate) fn target(mapping: &Mapping, rows: &[&Row]) -> Result<Target, Vec<Fault>> {
    let mut map = Map::new();
    let mut notes = Notes::default();
    for field in &mapping.fields {
        let value = if field.kind == FieldKind::List {
            list(mapping, field, rows, &mut notes)
        } else {
            scalar(mapping, field, rows, &mut notes)
        };
        map.insert(field.name.clone(), value);
    }
    if notes.faults.is_empty() {
        Ok(Target {
            value: Value::Object(map),
            merged_rows: notes.merged_rows,
            defaults: notes.defaults,
        })
    } else {
        Err(notes.faults)
    }
}

/// A value of the document: every row must say the same.
fn scalar(mapping: &Mapping, field: &Field, rows: &[&Row], notes: &mut Notes) -> Value {
    let faults = &mut notes.faults;
    let rules = field.rules(mapping);
    let mut by_default = false;
    let mut seen: Vec<(Value, &Row)> = Vec::new();
    for row in rows {
        let cell = row.values.get(field.column()).unwrap_or(&Value::Null);
        by_default |= rules.default.is_some() && is_null(cell, rules.null);
        match convert(cell, rules) {
            Ok(value) if seen.iter().any(|(known, _)| *known == value) => {}
            Ok(value) => seen.push((value, row)),
            Err(problem) => {
                let detail = format!("`{}`: {problem}", field.column());
                faults.push(Fault::new(LabelFault::BadValue, detail, &[row]));
                return Value::Null;
            }
        }
    }
    if seen.len() > 1 {
        let values: Vec<String> = seen.iter().map(|(value, _)| format!("`{value}`")).collect();
        let rows: Vec<&Row> = seen.iter().map(|(_, row)| *row).collect();
        let detail = format!("`{}` is {}", field.column(), values.join(" and "));
        faults.push(Fault::new(LabelFault::ConflictingValues, detail, &rows));
    }
    let value = seen
        .into_iter()
        .next()
        .map_or(Value::Null, |(value, _)| value);
    if value.is_null() && field.required {
        let detail = format!("`{}` is required and empty", field.column());
        faults.push(Fault::new(LabelFault::MissingValue, detail, &rows[..1]));
    }
    if by_default {
        notes.defaults.push(field.name.clone());
    }
    value
}

fn list(mapping: &Mapping, field: &Field, rows: &[&Row], notes: &mut Notes) -> Value {
    let mut items: Vec<Map<String, Value>> = Vec::new();
    let mut by_unique: HashMap<String, (usize, &Row)> = HashMap::new();
    for (source, row) in sources(field, rows, &mut notes.faults) {
        let Some(item) = item(mapping, field, &source, row, notes) else {
            continue;
        };
        let unique = field
            .unique
            .as_ref()
            .map(|name| &item[name])
            .filter(|v| !v.is_null());
        let Some(unique) = unique.map(Value::to_string) else {
            items.push(item);
            continue;
        };
        match by_unique.get(&unique) {
            None => {
                by_unique.insert(unique, (items.len(), row));
                items.push(item);
            }
            Some((known, _)) if items[*known] == item => notes.merged_rows += 1,
            Some((known, first)) => {
                let detail = format!(
                    "`{}` has {unique} twice: {} and {}",
                    field.name,
                    Value::Object(items[*known].clone()),
                    Value::Object(item)
                );
                notes.faults.push(Fault::new(
                    LabelFault::ConflictingItems,
                    detail,
                    &[first, row],
                ));
            }
        }
    }
    if items.is_empty() && field.required {
        let detail = format!("`{}` is required and empty", field.name);
        notes
            .faults
            .push(Fault::new(LabelFault::MissingValue, detail, &rows[..1]));
    }
    Value::Array(items.into_iter().map(Value::Object).collect())
}

/// The objects that the items are made from: the rows, or what is nested in them.
fn sources<'a>(
    field: &Field,
    rows: &[&'a Row],
    faults: &mut Vec<Fault>,
) -> Vec<(Cow<'a, Map<String, Value>>, &'a Row)> {
    if field.is_list_of_rows() {
        return rows
            .iter()
            .map(|row| (Cow::Borrowed(&row.values), *row))
            .collect();
    }
    let mut found = Vec::new();
    for row in rows {
        let nested = match row.values.get(field.column()) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(nested)) => nested,
            Some(other) => {
                let detail = format!(
                    "`{}`: expected an array, found {}",
                    field.column(),
                    kind(other)
                );
                faults.push(Fault::new(LabelFault::BadValue, detail, &[row]));
                continue;
            }
        };
        for value in nested {
            match (value, &field.items[..]) {
                (Value::Object(object), _) => found.push((Cow::Borrowed(object), *row)),
                // A list of plain values is a list of items with one key.
                (value, [only]) if !value.is_array() => {
                    let item = Map::from_iter([(only.column().to_owned(), value.clone())]);
                    found.push((Cow::Owned(item), *row));
                }
                (other, _) => {
                    let detail = format!(
                        "an item of `{}`: expected an object, found {}",
                        field.column(),
                        kind(other)
                    );
                    faults.push(Fault::new(LabelFault::BadValue, detail, &[row]));
                }
            }
        }
    }
    found
}

/// One item; `None` when all its values are null, that is when the row has no item, or after a fault.
fn item(
    mapping: &Mapping,
    field: &Field,
    source: &Map<String, Value>,
    row: &Row,
    notes: &mut Notes,
) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    let mut defaults = Vec::new();
    let faults = &mut notes.faults;
    let faults_before = faults.len();
    for item in &field.items {
        let cell = source.get(item.column()).unwrap_or(&Value::Null);
        let rules = item.rules(mapping);
        match convert(cell, rules) {
            Ok(value) => {
                if rules.default.is_some() && is_null(cell, rules.null) {
                    defaults.push(item.name.clone());
                }
                map.insert(item.name.clone(), value);
            }
            Err(problem) => {
                let detail = format!("`{}`: {problem}", item.column());
                faults.push(Fault::new(LabelFault::BadValue, detail, &[row]));
            }
        }
    }
    // A row whose values are all absent has no item, whatever its defaults are.
    let is_there = |(name, value): (&String, &Value)| !value.is_null() && !defaults.contains(name);
    if faults.len() > faults_before || !map.iter().any(is_there) {
        return None;
    }
    let missing = |item: &&Item| item.required && map[&item.name].is_null();
    for item in field.items.iter().filter(missing) {
        let detail = format!(
            "`{}` is required and empty in an item of `{}`",
            item.column(),
            field.name
        );
        faults.push(Fault::new(LabelFault::MissingValue, detail, &[row]));
    }
    for name in defaults {
        notes.defaults.push(format!("{}.{name}", field.name));
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn made(
        mapping: &str,
        rows: &[Value],
    ) -> Result<Target, Vec<(LabelFault, std::string::String, Vec<std::string::String>)>> {
        let head = "version = 1\ndocument = \"F\"\nprompt = { user = \"Read.\" }\n";
        let mapping = Mapping::parse(&format!("{head}{mapping}"), Path::new("m.toml")).unwrap();
        let rows: Vec<Row> = rows
            .iter()
            .zip(1..)
            .map(|(row, line)| Row {
                file: "l.json".into(),
                line,
                file_stem: None,
                values: row.as_object().unwrap().clone(),
            })
            .collect();
        target(&mapping, &rows.iter().collect::<Vec<_>>()).map_err(|faults| {
            faults
                .into_iter()
                .map(|f| (f.reason, f.detail, f.places))
                .collect()
        })
    }

    const CONTAINERS: &str = r#"
[[fields]]
name = "days"
type = "integer"
[[fields]]
name = "bl"
type = "string"
[[fields]]
name = "containers"
type = "list"
unique = "number"
items = [{ name = "number", column = "N", type = "string" }, { name = "size", column = "S", type = "string" }]
"#;

    #[test]
    fn rows_become_one_target_with_keys_in_order() {
        let target = made(
            CONTAINERS,
            &[
                json!({"bl": "B1", "days": "7", "N": "MSKU1", "S": 20}),
                json!({"bl": "B1 ", "days": 7, "N": "MSKU2", "S": "40"}),
                json!({"bl": "B1", "days": 7.0, "N": "MSKU1", "S": "20"}),
                json!({"bl": "B1", "days": 7, "N": "", "S": null}),
            ],
        )
        .unwrap();
        assert_eq!(
            target.value.to_string(),
            r#"{"days":7,"bl":"B1","containers":[{"number":"MSKU1","size":"20"},{"number":"MSKU2","size":"40"}]}"#
        );
        assert_eq!(target.merged_rows, 1);
    }

    #[test]
    fn contradictions_are_faults_with_both_values_and_rows() {
        let faults = made(
            CONTAINERS,
            &[
                json!({"bl": "B1", "days": 7, "N": "MSKU1", "S": "20"}),
                json!({"bl": "B2", "days": "x", "N": "MSKU1", "S": "40"}),
                json!({"bl": null, "days": 7, "N": "MSKU3", "S": "40"}),
            ],
        )
        .unwrap_err();
        assert_eq!(
            faults,
            [
                (LabelFault::BadValue, "`days`: expected a whole number, found `\"x\"`".into(), vec!["l.json:2".into()]),
                (
                    LabelFault::ConflictingValues,
                    "`bl` is `\"B1\"` and `\"B2\"` and `null`".into(),
                    vec!["l.json:1".into(), "l.json:2".into(), "l.json:3".into()]
                ),
                (
                    LabelFault::ConflictingItems,
                    "`containers` has \"MSKU1\" twice: {\"number\":\"MSKU1\",\"size\":\"20\"} and {\"number\":\"MSKU1\",\"size\":\"40\"}".into(),
                    vec!["l.json:1".into(), "l.json:2".into()]
                ),
            ]
        );
    }

    #[test]
    fn nested_lists_and_required_values() {
        let mapping = r#"
[[fields]]
name = "bl"
type = "string"
required = true
[[fields]]
name = "containers"
type = "list"
column = "details"
items = [{ name = "number", type = "string", required = true }, { name = "size", type = "string" }]
"#;
        let target = made(
            mapping,
            &[json!({"bl": "B", "details": [{"number": "M1"}, {"number": null}]})],
        )
        .unwrap();
        assert_eq!(
            target.value["containers"],
            json!([{"number": "M1", "size": null}])
        );
        let faults = made(
            mapping,
            &[json!({"bl": "", "details": [{"size": "20"}, 5]})],
        )
        .unwrap_err();
        let details: Vec<_> = faults
            .iter()
            .map(|(_, detail, _)| detail.as_str())
            .collect();
        assert_eq!(
            details,
            [
                "`bl` is required and empty",
                "an item of `details`: expected an object, found an integer",
                "`number` is required and empty in an item of `containers`"
            ]
        );
        let faults = made(mapping, &[json!({"bl": "B", "details": "x"})]).unwrap_err();
        assert_eq!(faults[0].1, "`details`: expected an array, found a string");
    }
}
