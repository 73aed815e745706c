//! From the rows of one document to its target: values take the types that the mapping asks for,
//! and whatever contradicts itself is a fault of the document, never settled in silence.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Number, Value};

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
    let mut faults = Vec::new();
    let mut merged_rows = 0;
    for field in &mapping.fields {
        let value = if field.kind == FieldKind::List {
            list(mapping, field, rows, &mut faults, &mut merged_rows)
        } else {
            scalar(mapping, field, rows, &mut faults)
        };
        map.insert(field.name.clone(), value);
    }
    if faults.is_empty() {
        let value = Value::Object(map);
        Ok(Target { value, merged_rows })
    } else {
        Err(faults)
    }
}

/// A value of the document: every row must say the same.
fn scalar(mapping: &Mapping, field: &Field, rows: &[&Row], faults: &mut Vec<Fault>) -> Value {
    let null = field.null.as_ref().unwrap_or(&mapping.null);
    let mut seen: Vec<(Value, &Row)> = Vec::new();
    for row in rows {
        let cell = row.values.get(field.column()).unwrap_or(&Value::Null);
        match convert(cell, field.kind, null) {
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
    value
}

fn list(
    mapping: &Mapping,
    field: &Field,
    rows: &[&Row],
    faults: &mut Vec<Fault>,
    merged_rows: &mut u64,
) -> Value {
    let mut items: Vec<Map<String, Value>> = Vec::new();
    let mut by_unique: HashMap<String, (usize, &Row)> = HashMap::new();
    for (source, row) in sources(field, rows, faults) {
        let Some(item) = item(mapping, field, source, row, faults) else {
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
            Some((known, _)) if items[*known] == item => *merged_rows += 1,
            Some((known, first)) => {
                let detail = format!(
                    "`{}` has {unique} twice: {} and {}",
                    field.name,
                    Value::Object(items[*known].clone()),
                    Value::Object(item)
                );
                faults.push(Fault::new(
                    LabelFault::ConflictingItems,
                    detail,
                    &[first, row],
                ));
            }
        }
    }
    if items.is_empty() && field.required {
        let detail = format!("`{}` is required and empty", field.name);
        faults.push(Fault::new(LabelFault::MissingValue, detail, &rows[..1]));
    }
    Value::Array(items.into_iter().map(Value::Object).collect())
}

/// The objects that the items are made from: the rows, or what is nested in them.
fn sources<'a>(
    field: &Field,
    rows: &[&'a Row],
    faults: &mut Vec<Fault>,
) -> Vec<(&'a Map<String, Value>, &'a Row)> {
    if field.is_list_of_rows() {
        return rows.iter().map(|row| (&row.values, *row)).collect();
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
            match value {
                Value::Object(object) => found.push((object, *row)),
                other => {
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
    faults: &mut Vec<Fault>,
) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    let faults_before = faults.len();
    for item in &field.items {
        let null = item.null.as_ref().unwrap_or(&mapping.null);
        let cell = source.get(item.column()).unwrap_or(&Value::Null);
        match convert(cell, item.kind, null) {
            Ok(value) => {
                map.insert(item.name.clone(), value);
            }
            Err(problem) => {
                let detail = format!("`{}`: {problem}", item.column());
                faults.push(Fault::new(LabelFault::BadValue, detail, &[row]));
            }
        }
    }
    if faults.len() > faults_before || map.values().all(Value::is_null) {
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
    Some(map)
}

/// A cell as the type of its field. White space around texts goes; what means "no value" is null.
pub(crate) fn convert(cell: &Value, wanted: FieldKind, null: &[String]) -> Result<Value, String> {
    let cell = match cell {
        Value::String(text) => {
            let text = text.trim();
            if null.iter().any(|n| n.trim() == text) {
                return Ok(Value::Null);
            }
            Value::from(text)
        }
        other => other.clone(),
    };
    let value = match (wanted, &cell) {
        (_, Value::Null) => Some(Value::Null),
        (FieldKind::String | FieldKind::Date, Value::String(_)) => Some(cell.clone()),
        (FieldKind::String, Value::Number(number)) => Some(Value::from(plain(number))),
        (FieldKind::Integer, Value::Number(number)) => integer(number),
        (FieldKind::Integer, Value::String(text)) => text
            .parse::<i64>()
            .ok()
            .map(Value::from)
            .or_else(|| integer(&decimal(text)?)),
        // One spelling per number: the model should not learn that 2 and 2.0 differ.
        (FieldKind::Number, Value::Number(n)) => integer(n).or_else(|| Some(cell.clone())),
        (FieldKind::Number, Value::String(text)) => {
            let number = text
                .parse::<i64>()
                .ok()
                .map(Number::from)
                .or_else(|| decimal(text));
            number.map(|n| integer(&n).unwrap_or(Value::Number(n)))
        }
        (FieldKind::Boolean, Value::Bool(_)) => Some(cell.clone()),
        (FieldKind::Boolean, other) => {
            let text = other
                .as_str()
                .map_or_else(|| other.to_string(), str::to_lowercase);
            match text.as_str() {
                "true" | "yes" | "1" => Some(Value::Bool(true)),
                "false" | "no" | "0" => Some(Value::Bool(false)),
                _ => None,
            }
        }
        _ => None,
    };
    value.ok_or_else(|| {
        let wanted = match wanted {
            FieldKind::String => "a text",
            FieldKind::Integer => "a whole number",
            FieldKind::Number => "a number",
            FieldKind::Boolean => "yes or no",
            FieldKind::Date => "a date as text",
            FieldKind::List => "a list",
        };
        format!("expected {wanted}, found `{cell}`")
    })
}

/// Spreadsheets write 14 as 14.0: a whole number is one whatever its spelling.
fn integer(number: &Number) -> Option<Value> {
    if number.is_i64() || number.is_u64() {
        return Some(Value::Number(number.clone()));
    }
    let value = number.as_f64()?;
    // Above 2^53 a float no longer says which whole number was meant.
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0)
        .then(|| Value::from(value as i64))
}

/// Digits with a point. What `f64` also parses (`inf`, `1e9`) is more likely a text in a wrong column.
fn decimal(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.len() < 16;
    Number::from_f64(text.parse().ok().filter(|_| is_plain)?)
}

/// A number as a text: 20.0 of a spreadsheet is "20".
fn plain(number: &Number) -> String {
    match integer(number) {
        Some(whole) => whole.to_string(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn cells_take_the_type_of_their_field() {
        use FieldKind::{Boolean, Date, Integer, Number, String};
        let null: Vec<std::string::String> = ["", "N/A", "-"].map(Into::into).to_vec();
        for (cell, wanted, expected) in [
            (json!(" 14 "), Integer, Ok(json!(14))),
            (json!(14.0), Integer, Ok(json!(14))),
            (json!("14.0"), Integer, Ok(json!(14))),
            (json!(-3), Integer, Ok(json!(-3))),
            (
                json!(14.5),
                Integer,
                Err("expected a whole number, found `14.5`"),
            ),
            (
                json!("14 days"),
                Integer,
                Err("expected a whole number, found `\"14 days\"`"),
            ),
            (
                json!("1e3"),
                Integer,
                Err("expected a whole number, found `\"1e3\"`"),
            ),
            (
                json!("inf"),
                Number,
                Err("expected a number, found `\"inf\"`"),
            ),
            (json!("2.50"), Number, Ok(json!(2.5))),
            (json!("2"), Number, Ok(json!(2))),
            (json!(2.0), Number, Ok(json!(2))),
            (json!(" N/A"), Integer, Ok(Value::Null)),
            (json!(""), String, Ok(Value::Null)),
            (json!(null), Date, Ok(Value::Null)),
            (json!(" MV GRACE "), String, Ok(json!("MV GRACE"))),
            (json!(20.0), String, Ok(json!("20"))),
            (json!(2.5), String, Ok(json!("2.5"))),
            (json!(true), String, Err("expected a text, found `true`")),
            (json!("Yes"), Boolean, Ok(json!(true))),
            (json!(0), Boolean, Ok(json!(false))),
            (
                json!("maybe"),
                Boolean,
                Err("expected yes or no, found `\"maybe\"`"),
            ),
            (json!("2026-01-02"), Date, Ok(json!("2026-01-02"))),
            (
                json!(45000),
                Date,
                Err("expected a date as text, found `45000`"),
            ),
            (
                json!([1]),
                Integer,
                Err("expected a whole number, found `[1]`"),
            ),
        ] {
            assert_eq!(
                convert(&cell, wanted, &null),
                expected.map_err(Into::into),
                "{cell}"
            );
        }
    }

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
