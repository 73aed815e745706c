//! Reading and writing, and what is said of broken lines.

use proptest::prelude::*;
use vlft_base::output::Existing;

use super::*;

const GOOD: &str = r#"{"id":"a","messages":[{"role":"user","content":[{"type":"text","text":"Read."}]},{"role":"assistant","content":[{"type":"text","text":"{}"}]}]}"#;

fn lines(bytes: &[u8]) -> Vec<Result<std::result::Result<Line, Problem>>> {
    Lines::new(bytes, Path::new("f.jsonl")).collect()
}

#[test]
fn byte_order_marks_line_ends_and_empty_lines() {
    let read: Vec<Line> = lines(b"\xEF\xBB\xBF{}\r\n\n  \n[]")
        .into_iter()
        .map(|l| l.unwrap().unwrap())
        .collect();
    let seen: Vec<_> = read
        .iter()
        .map(|l| (l.number, l.text.as_str(), l.had_byte_order_mark, l.ended))
        .collect();
    assert_eq!(
        seen,
        [
            (1, "{}", true, true),
            (2, "", false, true),
            (3, "  ", false, true),
            (4, "[]", false, false)
        ]
    );
    assert!(read[1].is_empty() && read[2].is_empty());
    assert!(lines(b"").is_empty());
}

#[test]
fn a_line_that_is_not_text_is_named_and_reading_goes_on() {
    let mut read = lines("{}\nä\u{0}".as_bytes()).into_iter();
    assert!(read.next().unwrap().unwrap().is_ok());
    let mut read = lines(b"{}\n\xC3\xA4b\xFF\n{}").into_iter().skip(1);
    let problem = read.next().unwrap().unwrap().unwrap_err();
    assert_eq!(
        problem.to_string(),
        "f.jsonl:2:3: error[not-utf8]: byte 0xFF is not UTF-8"
    );
    assert!(read.next().unwrap().unwrap().is_ok());
}

#[test]
fn files_of_another_kind_are_named() {
    for (bytes, message) in [
        (&b"\xFF\xFE{\0"[..], "the file is UTF-16, not UTF-8"),
        (b" [{\"id\":1}]", "the file is a JSON array, not JSON Lines"),
        (b"PK\x03\x04\0\0", "the file is binary, not JSON Lines"),
        (b"\x9f\x01\xE4\x8a", "the file is binary, not JSON Lines"),
    ] {
        let read = lines(bytes);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].as_ref().unwrap_err().message(), message);
    }
}

#[test]
fn broken_lines_say_where_and_what() {
    for (text, expected) in [
        (
            &GOOD[..40],
            "f:7:41: error[cut-line]: the line ends in the middle of its JSON, after `:[{\"role\":\"user\",\"co`",
        ),
        (
            r#"{"id":"ä" "x"}"#,
            "f:7:11: error[bad-json]: not valid JSON: expected `,` or `}`",
        ),
        (
            r#"{"id":"a","messages":[],"id":"b"}"#,
            "f:7:28: error[duplicate-key]: duplicate key `id`",
        ),
        (
            r#"{"id":"a","messages":[],"meta":{"k":1,"k":2}}"#,
            "f:7:41: error[duplicate-key]: duplicate key `k`",
        ),
        (
            r#"{"id":"a","messages":[],"meta":{"w":NaN}}"#,
            "f:7:37: error[bad-json]: not valid JSON: expected value",
        ),
        (
            "7",
            "f:7: error[wrong-type]: expected an object, found an integer",
        ),
    ] {
        let problems = parse(text, "f", 7).unwrap_err();
        assert_eq!(problems[0].to_string(), expected);
    }
}

#[test]
fn loading_gives_the_records_or_all_problems() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.jsonl");
    std::fs::write(
        &path,
        format!("{GOOD}\n\n{}\n", GOOD.replace(r#""a""#, r#""b""#)),
    )
    .unwrap();
    let records = load_for_training(&path).unwrap();
    assert_eq!(records.iter().map(|n| n.line).collect::<Vec<_>>(), [1, 3]);

    let no_answer =
        r#"{"id":"c","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}"#;
    std::fs::write(&path, format!("{GOOD}\n{GOOD}\n{{\n{no_answer}\n")).unwrap();
    let rules = |error: Diagnostic| -> Vec<&str> {
        std::iter::once(&error)
            .chain(error.further())
            .filter_map(Diagnostic::rule)
            .collect()
    };
    assert_eq!(
        rules(load(&path).unwrap_err()),
        ["duplicate-id", "cut-line"]
    );
    assert_eq!(
        rules(load_for_training(&path).unwrap_err()),
        ["duplicate-id", "cut-line", "no-assistant"]
    );
    let error = load(&dir.path().join("e.jsonl")).unwrap_err();
    assert_eq!(error.hint_text(), Some("did you mean `d.jsonl`?"));
}

proptest! {
    #[test]
    fn any_bytes_give_lines_or_problems_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for line in lines(&bytes).into_iter().flatten().flatten() {
            let _ = parse(&line.text, "f", line.number);
        }
    }

    /// Any damage to a good line is a problem at a column inside it, or still a good record.
    #[test]
    fn a_damaged_line_is_told_at_its_column(at in 0..GOOD.len(), with in "[\\PC\\n]{0,3}", cut in 0usize..4) {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{with}{}", &GOOD[..at], &GOOD[end..]).replace('\n', " ");
        if let Err(problems) = parse(&text, "f", 1) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let column = problem.column.unwrap_or(1);
                prop_assert!((1..=text.chars().count() as u64 + 1).contains(&column), "{problem}");
            }
        }
    }
}

#[test]
fn fifty_thousand_lines_stream_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.jsonl");
    let mut writer = Writer::create(&path, Existing::Refuse).unwrap();
    let mut record: Record = serde_json::from_str(GOOD).unwrap();
    for number in 0..50_000 {
        record.id = format!("r{number}");
        writer.write(&record).unwrap();
    }
    assert_eq!(writer.lines(), 50_000);
    writer.commit().unwrap();
    let start = std::time::Instant::now();
    assert_eq!(load(&path).unwrap().len(), 50_000);
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}
