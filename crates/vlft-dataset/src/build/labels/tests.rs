//! Labels of every kind, good and broken.

use std::fs;

use super::*;

fn read_as(name: &str, text: &[u8]) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    read_rows(&path)
}

#[test]
fn every_kind_of_labels_gives_the_same_rows() {
    let json = "[\n {\"F\": \"a.pdf\", \"n\": \"1\"},\n\n {\"F\": \"b;c.pdf\",\n \"n\": \"\"}]";
    let jsonl = "{\"F\":\"a.pdf\",\"n\":\"1\"}\n\n\n{\"F\":\"b;c.pdf\",\"n\":\"\"}\n";
    let csv = "\u{feff}F;n\r\na.pdf;1\r\n\r\n\"b;c.pdf\";\r\n";
    for (name, text) in [("l.json", json), ("l.JSONL", jsonl), ("l.csv", csv)] {
        let rows = read_as(name, text.as_bytes()).unwrap();
        let seen: Vec<_> = rows
            .iter()
            .map(|r| {
                (
                    r.line,
                    r.values["F"].as_str().unwrap(),
                    r.values["n"].as_str().unwrap(),
                )
            })
            .collect();
        let lines = if name == "l.JSONL" { [1, 4] } else { [2, 4] };
        assert_eq!(
            seen,
            [(lines[0], "a.pdf", "1"), (lines[1], "b;c.pdf", "")],
            "{name}"
        );
    }
}

#[test]
fn one_json_file_per_document() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("b (1).pdf.json"), "{\"x\":1}").unwrap();
    fs::write(dir.path().join("sub/a.json"), "{\"x\":2}").unwrap();
    let rows = read_rows(dir.path()).unwrap();
    let names: Vec<_> = rows.iter().map(|r| r.file_stem.clone().unwrap()).collect();
    assert_eq!(names, ["b (1).pdf", "a"]);
}

#[test]
fn broken_labels_are_named_at_their_line() {
    for (name, text, expected) in [
        (
            "l.json",
            &b"[{\"a\":1},\n{\"a\":NaN}]"[..],
            "the labels are not valid JSON: expected value in l.json:2:6",
        ),
        (
            "l.json",
            b"[{\"a\":1},\n{\"a\":1",
            "the labels are not valid JSON: EOF while parsing an object in l.json:2:6",
        ),
        (
            "l.json",
            b"[{\"a\":1},\n {\"a\":1,\"a\":2}]",
            "the labels are not valid JSON: duplicate key `a` in l.json:2:11",
        ),
        (
            "l.json",
            b"[\n7]",
            "a row of labels is not an object (expected an object with one key per column, found an integer) in l.json:2",
        ),
        (
            "l.csv",
            b"a,b\n1,2\n3\n",
            "a row has another number of columns than the header (expected 2 columns, found 1) in l.csv:3",
        ),
        (
            "l.csv",
            b"a,a\n1,2\n",
            "the column `a` appears twice in l.csv:1",
        ),
        (
            "l.csv",
            b"a,b\n1,\xE4\n",
            "the labels are not UTF-8 in l.csv:2",
        ),
        (
            "l.xlsx",
            b"",
            "labels of an unknown kind (expected a `.json`, `.jsonl` or `.csv` file, or a directory of JSON files) in l.xlsx",
        ),
    ] {
        let error = read_as(name, text).unwrap_err().to_string();
        let start = error.find(" in /").unwrap();
        let end = error.rfind('/').unwrap();
        let error = format!("{} in {}", &error[..start], &error[end + 1..]);
        assert_eq!(error, expected);
    }
}

proptest::proptest! {
    #[test]
    fn any_labels_are_read_or_refused_without_panic(
        name in "l\\.(json|jsonl|csv)",
        text in "(\\[|\\{|\"a\"|:|,|;|1|\\}|\\]|\n|\r|\t|\"|é| ){0,30}",
    ) {
        let _ = read_as(&name, text.as_bytes());
    }
}
