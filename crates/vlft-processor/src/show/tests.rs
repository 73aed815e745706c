use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

fn shown(which: Option<&str>, model: Option<&str>) -> Result<Shown> {
    let mut shown = show(&Options {
        file: fixture("data/train.jsonl"),
        which: which.map(str::to_owned),
        model: model.map(fixture),
        limits: Limits::default(),
    })?;
    shown.file = "train.jsonl".to_owned();
    Ok(shown)
}

#[test]
fn a_record_as_the_model_sees_it() {
    let record = shown(Some("sample-003"), Some("tiny")).unwrap();
    let tokens = record.tokens.clone().unwrap();
    assert_eq!(tokens.image, record.images[0].tokens.unwrap());
    let expected = "\
record   `sample-003`, train.jsonl:4
images   `images/003_006.png` 130 x 45 -> 128 x 32, 4 tokens
tokens   132: 4 of images, 128 of text; 50 trained on
";
    let text = record.to_string();
    assert!(text.starts_with(expected), "{text}");
    let expected = "
    <|im_start|>user
    <|vision_start|><|image_pad|> x 4 (image `images/003_006.png` 130 x 45 -> 128 x 32)<|vision_end|>What is on it?<|im_end|>
    <|im_start|>assistant
  > {\"id\": 3, ";
    assert!(text.contains(expected), "{text}");
    let expected = "\
    <|im_start|>assistant
  > {\"total\": 869.73}<|im_end|>

`>` marks what is trained on
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn a_record_without_a_model() {
    let text = shown(None, None).unwrap().to_string();
    let expected = "\
record   `sample-000`, train.jsonl:1
images   `images/000_000.png` 40 x 28

    system:
    Return JSON.
    user:
    (image `images/000_000.png` 40 x 28)
    What is on it?
    assistant:
  > {\"id\": 0";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn records_are_found_by_id_and_by_line() {
    assert_eq!(shown(Some(":3"), None).unwrap().id, "sample-002");
    assert_eq!(shown(Some("sample-004"), None).unwrap().line, 5);
    let error = shown(Some("sample-04"), None).unwrap_err();
    assert_eq!(error.message(), "no record `sample-04`");
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("did you mean `sample-0"))
    );
    assert!(shown(Some(":99"), None).is_err());
}

#[test]
fn lines_that_training_divides_and_tricky_characters() {
    let span = |text: &str, trained| Span {
        text: text.to_owned(),
        trained,
    };
    let shown = Shown {
        file: "f".into(),
        line: 1,
        id: "a\u{1b}[31m".into(),
        meta: None,
        images: Vec::new(),
        tokens: None,
        text: vec![
            span("head: ", false),
            span("{\n\n\u{202e}}", true),
            span("\n", false),
        ],
    };
    assert_eq!(
        shown.to_string(),
        "record   `a\\u{1b}[31m`, f:1\n\n    head:  \\\n  > {\n\n  > \\u{202e}}\n\n`>` marks what is trained on\n"
    );
}
