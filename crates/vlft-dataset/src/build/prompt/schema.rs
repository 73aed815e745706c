//! The JSON Schema of the target: made from the mapping's fields, or somebody's file compared with
//! them.

use std::path::Path;

use serde_json::{Map, Value, json};
use vlft_base::{Diagnostic, Result};

use super::Finding;
use crate::build::mapping::{FieldKind, Mapping};
use crate::json;

/// The schema that the fields amount to. Its keys stand in the order of the target's.
pub(super) fn of(mapping: &Mapping) -> Value {
    let mut properties = Map::new();
    for field in &mapping.fields {
        let value = match field.kind {
            FieldKind::List => {
                let items = field.items.iter().map(|i| {
                    (
                        i.name.clone(),
                        plain(i.kind, i.required || i.default.is_some()),
                    )
                });
                json!({"type": "array", "items": object(items.collect())})
            }
            kind => plain(kind, field.required || field.default.is_some()),
        };
        properties.insert(field.name.clone(), value);
    }
    object(properties)
}

fn object(properties: Map<String, Value>) -> Value {
    let required: Vec<String> = properties.keys().cloned().collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn plain(kind: FieldKind, never_null: bool) -> Value {
    let kind = json_type(kind);
    match never_null {
        true => json!({"type": kind}),
        false => json!({"type": [kind, "null"]}),
    }
}

fn json_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::String | FieldKind::Date => "string",
        FieldKind::Integer => "integer",
        FieldKind::Number => "number",
        FieldKind::Boolean => "boolean",
        FieldKind::List => "array",
    }
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Value> {
    json::parse(text).map_err(|e| {
        Diagnostic::error("the target schema is not valid JSON")
            .at_line(path, e.line() as u64)
            .caused_by(e)
    })
}

/// Where a schema asks for something else than the fields give.
pub(super) fn contradictions(schema: &Value, mapping: &Mapping) -> Vec<Finding> {
    let mut findings = Vec::new();
    let fields: Vec<(String, FieldKind)> = mapping
        .fields
        .iter()
        .map(|f| (f.name.clone(), f.kind))
        .collect();
    compare(schema, &fields, "", &mut findings);
    for field in &mapping.fields {
        let items: Vec<(String, FieldKind)> = field
            .items
            .iter()
            .map(|i| (i.name.clone(), i.kind))
            .collect();
        let of_items = schema
            .pointer("/properties")
            .and_then(|p| p.get(&field.name)?.get("items"));
        if let Some(of_items) = of_items {
            compare(of_items, &items, &format!("{}.", field.name), &mut findings);
        }
    }
    findings
}

fn compare(
    schema: &Value,
    fields: &[(String, FieldKind)],
    before: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let mut push = |rule, detail| findings.push(Finding { rule, detail });
    for (name, kind) in fields {
        let Some(property) = properties.get(name) else {
            push(
                "schema-key",
                format!("the target has `{before}{name}`, the schema has no such key"),
            );
            continue;
        };
        let asked = types(property);
        let given = json_type(*kind);
        let fits = |asked: &str| asked == given || (asked, given) == ("number", "integer");
        if !asked.is_empty() && !asked.iter().any(|a| fits(a)) {
            let asked = asked.join(" or ");
            push(
                "schema-type",
                format!("the schema asks for {asked} in `{before}{name}`, the target has {given}"),
            );
        }
    }
    for name in properties.keys() {
        if !fields.iter().any(|(known, _)| known == name) {
            push(
                "schema-key",
                format!("the schema has `{before}{name}`, the target has no such key"),
            );
        }
    }
}

/// The types that a schema names, `null` left out; none when it does not say.
fn types(property: &Value) -> Vec<&str> {
    let named: Vec<&str> = match property.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    named.into_iter().filter(|name| *name != "null").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPING: &str = r#"
version = 1
document = "F"
prompt = { user = "x" }
[[fields]]
name = "bl"
type = "string"
required = true
[[fields]]
name = "days"
type = "integer"
[[fields]]
name = "boxes"
type = "list"
items = [{ name = "number", type = "string" }]
"#;

    #[test]
    fn a_schema_is_compared_with_the_fields_key_by_key() {
        let mapping = Mapping::parse(MAPPING, Path::new("m.toml")).unwrap();
        let own = of(&mapping);
        assert_eq!(own.pointer("/properties/bl/type"), Some(&json!("string")));
        assert_eq!(contradictions(&own, &mapping), []);
        let other = json!({"properties": {"days": {"type": ["string", "null"]}, "vessel": {},
            "boxes": {"type": "array", "items": {"properties": {"number": {"type": "integer"}}}}, "bl": {"enum": ["x"]}}});
        let found: Vec<String> = contradictions(&other, &mapping)
            .into_iter()
            .map(|f| f.detail)
            .collect();
        assert_eq!(
            found,
            [
                "the schema asks for string in `days`, the target has integer",
                "the schema has `vessel`, the target has no such key",
                "the schema asks for integer in `boxes.number`, the target has string",
            ]
        );
    }

    #[test]
    fn the_shipped_mapping_and_schema_agree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = root.join("configs/bill-of-lading.mapping.toml");
        let mapping = Mapping::read(&path).unwrap();
        let schema = root.join("schemas/bill-of-lading.schema.json");
        let schema = parse(&std::fs::read_to_string(schema).unwrap(), &path).unwrap();
        assert_eq!(contradictions(&schema, &mapping), []);
    }
}
