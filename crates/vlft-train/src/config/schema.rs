//! `schemas/config.schema.json`, for editors: made from the same calls that read a config.

use serde_json::{Map, Value, json};

use super::reader::{Bound, Known, Shape};
use super::{Base, Config};

/// The JSON Schema of the config file. Regenerate the committed copy with
/// `VLFT_UPDATE=1 cargo test -p vlft-train schema`.
pub fn config_schema() -> Value {
    let defaults = serde_json::to_value(Config::new("", Base::F32, ""))
        .expect("plain structs of numbers and strings");
    let mut tables = Map::new();
    for known in Config::keys() {
        let table = tables.entry(known.table).or_insert_with(|| {
            json!({"type": "object", "additionalProperties": false, "properties": {}, "required": []})
        });
        if known.required {
            let required = table["required"].as_array_mut().expect("made above");
            required.push(json!(known.key));
        }
        table["properties"][known.key] = key_schema(&known, &defaults[known.table][known.key]);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vlft training config",
        "type": "object",
        "additionalProperties": false,
        "required": ["model", "data"],
        "properties": tables,
    })
}

fn key_schema(known: &Known, default: &Value) -> Value {
    let mut schema = match &known.shape {
        Shape::Text => json!({"type": "string", "minLength": 1}),
        Shape::Choice(names) => json!({"enum": names}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer(range) if *range.end() == u64::MAX => {
            json!({"type": "integer", "minimum": range.start()})
        }
        Shape::Integer(range) => {
            json!({"type": "integer", "minimum": range.start(), "maximum": range.end()})
        }
        Shape::Number(bound) => number(*bound),
        Shape::Pair(bound) => {
            json!({"type": "array", "items": number(*bound), "minItems": 2, "maxItems": 2})
        }
        Shape::Names(names) => list_of(names),
        Shape::NamesOrPattern(names) => {
            json!({"anyOf": [list_of(names), {"type": "string"}]})
        }
        Shape::IntegerTable(range) => json!({"type": "object", "additionalProperties":
            {"type": "integer", "minimum": range.start(), "maximum": range.end()}}),
        Shape::NumberTable(bound) => {
            json!({"type": "object", "additionalProperties": number(*bound)})
        }
    };
    schema["description"] = json!(known.about);
    if !known.required && !default.is_null() {
        schema["default"] = default.clone();
    }
    schema
}

fn list_of(names: &[&str]) -> Value {
    json!({"type": "array", "items": {"enum": names}, "uniqueItems": true})
}

fn number(bound: Bound) -> Value {
    match bound {
        Bound::Positive => json!({"type": "number", "exclusiveMinimum": 0}),
        Bound::NotNegative => json!({"type": "number", "minimum": 0}),
        Bound::Fraction => json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1}),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::config::{Base, Config};

    /// The schema is for editors, the reader decides: on single keys they must agree.
    #[test]
    fn schema_and_reader_agree() {
        let schema = super::config_schema();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let whole = Config::new("m", Base::Bf16, "t.jsonl").to_toml(Path::new("r"));
        let whole: Value = serde_json::to_value(whole.parse::<toml::Table>().unwrap()).unwrap();
        assert!(validator.is_valid(&whole));
        // Packed rows need a length, and groups of similar lengths more than one sample.
        let mut whole = whole;
        whole["data"]["max_tokens"] = json!(4096);
        whole["train"]["micro_batch"] = json!(2);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let values = [
            json!(true),
            json!(""),
            json!("x"),
            json!("f32"),
            json!("linear"),
            json!(-1),
            json!(0),
            json!(1),
            json!(70_000),
            json!(2_000_000),
            json!(0.5),
            json!(-0.5),
            json!([]),
            json!(["q_proj"]),
            json!(["q_proj", "q_proj"]),
            json!(["lm_head"]),
            json!([0.5, 0.5]),
            json!([0.5, 1.5]),
            json!({}),
        ];
        let (mut good, mut bad) = (0, 0);
        for (table, keys) in schema["properties"].as_object().unwrap() {
            for key in keys["properties"].as_object().unwrap().keys() {
                for value in &values {
                    let mut config = whole.clone();
                    config[table][key] = value.clone();
                    // The one rule between keys that an empty list meets.
                    config["lora"]["vision"] = if key == "vision" {
                        value.clone()
                    } else {
                        json!(true)
                    };
                    std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
                    let read = Config::load(&path, &[]);
                    let valid = validator.is_valid(&config);
                    assert_eq!(read.is_ok(), valid, "{table}.{key} = {value}: {read:?}");
                    *(if valid { &mut good } else { &mut bad }) += 1;
                }
            }
        }
        assert!(good > 60 && bad > 300, "{good} {bad}");
    }

    #[test]
    fn the_committed_configs_are_read() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let mut read = 0;
        for entry in std::fs::read_dir(configs).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".toml") && !name.ends_with(".mapping.toml") {
                let config = Config::load(&path, &[]);
                assert!(config.is_ok(), "{name}: {config:?}");
                read += 1;
            }
        }
        assert!(read >= 2);
    }

    #[test]
    fn the_committed_schema_is_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/config.schema.json");
        let fresh = format!("{:#}\n", super::config_schema());
        if std::env::var_os("VLFT_UPDATE").is_some() {
            std::fs::write(&path, &fresh).unwrap();
        }
        let committed = std::fs::read_to_string(&path)
            .unwrap_or_default()
            .replace('\r', "");
        assert!(
            committed == fresh,
            "{} is stale: VLFT_UPDATE=1 cargo test -p vlft-train schema",
            path.display()
        );
    }
}
