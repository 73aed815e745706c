//! `schemas/{record,mapping,aliases,manifest,lineage}.schema.json`, for editors and other tools: made from the very
//! types that read the files.

use serde_json::Value;

use crate::build::aliases::Aliases;
use crate::build::mapping::Mapping;
use crate::lineage::Lineage;
use crate::manifest::PageEntry;
use crate::record::Record;

/// The schema of one line of JSONL. Refreshed by `VLFT_UPDATE=1 cargo test -p vlft-dataset schema`.
pub fn record_schema() -> Value {
    schemars::schema_for!(Record).to_value()
}

/// The schema of a mapping file (TOML, seen as JSON).
pub fn mapping_schema() -> Value {
    schemars::schema_for!(Mapping).to_value()
}

/// The schema of an alias file (TOML, seen as JSON).
pub fn aliases_schema() -> Value {
    schemars::schema_for!(Aliases).to_value()
}

/// The schema of one line of `manifest.jsonl`.
pub fn manifest_schema() -> Value {
    schemars::schema_for!(PageEntry).to_value()
}

/// The schema of `F.lineage.json` and `lineage.json`.
pub fn lineage_schema() -> Value {
    schemars::schema_for!(Lineage).to_value()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn the_committed_schemas_are_fresh() {
        for (name, schema) in [
            ("record", record_schema()),
            ("mapping", mapping_schema()),
            ("aliases", aliases_schema()),
            ("manifest", manifest_schema()),
            ("lineage", lineage_schema()),
        ] {
            let path = repository().join(format!("schemas/{name}.schema.json"));
            let fresh = format!("{schema:#}\n");
            if std::env::var_os("VLFT_UPDATE").is_some() {
                fs::write(&path, &fresh).unwrap();
            }
            let committed = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed.replace('\r', "") == fresh,
                "{} is stale: VLFT_UPDATE=1 cargo test -p vlft-dataset schema",
                path.display()
            );
        }
    }

    #[test]
    fn the_record_schema_says_what_the_reader_says() {
        let schema = jsonschema::validator_for(&record_schema()).unwrap();
        let good = r#"{"id":"a","messages":[{"role":"user","content":[{"type":"image","image":"p.png"},{"type":"text","text":"x"}]}],"meta":{"document":"d","pages":[1],"weight":2,"own":[1]}}"#;
        for (from, to, is_record) in [
            ("", "", true),
            (r#","meta""#, r#","other":1,"meta""#, false),
            (r#""id":"a","#, "", false),
            (r#""role":"user""#, r#""role":"human""#, false),
            (
                r#""type":"text","text":"x""#,
                r#""type":"text","text":"x","image":"y""#,
                false,
            ),
            (
                r#""type":"text","text":"x""#,
                r#""type":"text","image":"x""#,
                false,
            ),
            (
                r#""type":"text","text":"x""#,
                r#""type":"text","text":7"#,
                false,
            ),
            (r#"{"type":"text","text":"x"}"#, r#""x""#, false),
        ] {
            let text = good.replacen(from, to, 1);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                serde_json::from_str::<Record>(&text).is_ok(),
                is_record,
                "{text}"
            );
            assert_eq!(schema.is_valid(&value), is_record, "{text}");
        }
        let bad_meta = good.replace(r#""weight":2"#, r#""weight":"2""#);
        assert!(!schema.is_valid(&serde_json::from_str(&bad_meta).unwrap()));
    }

    #[test]
    fn the_manifest_schema_says_what_the_reader_says() {
        let schema = jsonschema::validator_for(&manifest_schema()).unwrap();
        let good = crate::manifest::tests::LINE;
        for (from, to, is_entry) in [
            ("", "", true),
            (
                r#""requested":{"dpi":150}"#,
                r#""requested":{"max_pixels":99}"#,
                true,
            ),
            (r#","text_chars":7"#, "", true),
            (
                r#""requested":{"dpi":150}"#,
                r#""requested":{"inch":150}"#,
                false,
            ),
            (r#""format":"png""#, r#""format":"gif""#, false),
            (r#""page":2"#, r#""page":"2""#, false),
            (r#""page":2"#, r#""page":2,"own":1"#, false),
            (r#""page":2,"#, "", false),
        ] {
            let text = good.replacen(from, to, 1);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                serde_json::from_str::<PageEntry>(&text).is_ok(),
                is_entry,
                "{text}"
            );
            assert_eq!(schema.is_valid(&value), is_entry, "{text}");
        }
    }

    #[test]
    fn the_shipped_files_satisfy_their_schemas() {
        let record = jsonschema::validator_for(&record_schema()).unwrap();
        let example = fs::read_to_string(repository().join("examples/example.jsonl")).unwrap();
        for line in example.lines() {
            assert!(record.is_valid(&serde_json::from_str(line).unwrap()));
        }
        let mapping = jsonschema::validator_for(&mapping_schema()).unwrap();
        let path = repository().join("configs/bill-of-lading.mapping.toml");
        let text = fs::read_to_string(&path).unwrap();
        Mapping::parse(&text, &path).unwrap();
        let value: Value = toml::from_str(&text).unwrap();
        assert!(mapping.is_valid(&value));
        let broken: Value = toml::from_str(&text.replace("doc_type", "doctype")).unwrap();
        assert!(!mapping.is_valid(&broken));
    }
}
