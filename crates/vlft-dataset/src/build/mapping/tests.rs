//! Faults of mapping files.

use std::path::Path;

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
            "m.toml",
            "the prompt has neither `user` nor `user_file`",
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
        let error = Mapping::parse(&GOOD.replacen(from, to, 1), Path::new("m.toml")).unwrap_err();
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
