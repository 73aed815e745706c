use image::RgbImage;
use vlft_dataset::jsonl::Numbered;

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
        detail: Detail::Conversation,
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
        mask: Vec::new(),
        pictures: Vec::new(),
    };
    assert_eq!(
        shown.to_string(),
        "record   `a\\u{1b}[31m`, f:1\n\n    head:  \\\n  > {\n\n  > \\u{202e}}\n\n`>` marks what is trained on\n"
    );
}

fn seen(file: &str, which: Option<&str>) -> Shown {
    let mut shown = show(&Options {
        file: fixture(file),
        which: which.map(str::to_owned),
        model: Some(fixture("tiny")),
        limits: Limits::default(),
        detail: Detail::Pictures,
    })
    .unwrap();
    shown.file = "f.jsonl".to_owned();
    shown
}

/// What is marked is what the loss sees: the mask says of every position what the sample says.
#[test]
fn the_mask_is_that_of_the_sample() {
    let processor = Processor::from_dir(&fixture("tiny"), &Limits::default()).unwrap();
    let records = jsonl::load(&fixture("data/train.jsonl")).unwrap();
    assert!(records.iter().any(|n| n.record.images().count() > 1));
    assert!(records.iter().any(|n| n.record.images().count() == 0));
    for Numbered { record, .. } in &records {
        let shown = seen("data/train.jsonl", Some(&record.id));
        let sample = processor.sample(record, &fixture("data")).unwrap();
        let mut trained = vec![false; sample.len()];
        let mut ids = vec![None; sample.len()];
        let mut text = String::new();
        for piece in &shown.mask {
            match piece {
                Piece::Text(piece) => {
                    for (i, id) in piece.ids.iter().enumerate() {
                        trained[piece.at + i] = piece.trained;
                        ids[piece.at + i] = Some(*id);
                    }
                    text += &piece.text;
                }
                Piece::Image(piece) => {
                    let row = piece.at..piece.at + piece.tokens;
                    assert!(
                        sample.mm_token_type_ids[row.clone()]
                            .iter()
                            .all(|kind| *kind == 1)
                    );
                    for (id, expected) in ids[row.clone()].iter_mut().zip(&sample.input_ids[row]) {
                        *id = Some(*expected);
                    }
                    text += IMAGE_PAD;
                }
            }
        }
        let ids: Vec<u32> = ids
            .into_iter()
            .map(|id| id.expect("no position is left out"))
            .collect();
        assert_eq!(ids, sample.input_ids, "{}", record.id);
        let expected: Vec<bool> = sample
            .labels
            .iter()
            .map(|l| *l != crate::sample::IGNORED)
            .collect();
        assert_eq!(trained, expected, "{}", record.id);
        assert_eq!(text, processor.conversation(record).unwrap().text);
    }
}

#[test]
fn a_mask_without_colour_keeps_what_it_says() {
    let shown = seen("data/train.jsonl", Some("sample-003"));
    let masked = |marks| {
        Masked {
            shown: &shown,
            marks,
        }
        .to_string()
    };
    let brackets = masked(Marks::Brackets);
    assert!(brackets.contains("user\n<|vision_start|>(4 tokens of image `images/003_006.png` 130 x 45 -> 128 x 32)<|vision_end|>"), "{brackets}");
    assert!(
        brackets.contains("<|im_start|>assistant\n⟦{\"⟧⟦i⟧"),
        "{brackets}"
    );
    assert!(brackets.contains("⟦<|im_end|>⟧\n"), "{brackets}");
    assert!(!brackets.contains('\x1b'));
    // The same tokens by colour, and nothing else is coloured but the images and the legend.
    let colour = masked(Marks::Colour);
    let coloured = colour.matches("\x1b[30;").count() - 1;
    assert_eq!(coloured, brackets.matches('⟦').count() - 1);
    assert_eq!(coloured, shown.tokens.unwrap().supervised);
}

#[test]
fn a_page_is_whole_and_escapes_what_is_foreign() {
    let dir = tempfile::tempdir().unwrap();
    RgbImage::from_fn(70, 40, |x, y| image::Rgb([x as u8, y as u8, 0]))
        .save(dir.path().join("<b>.png"))
        .unwrap();
    let file = dir.path().join("d.jsonl");
    let record = r#"{"id":"<script>\u202e","messages":[{"role":"user","content":[{"type":"image","image":"<b>.png"},{"type":"text","text":"</span>&\"é🙂"},{"type":"image","image":"<b>.png"}]},{"role":"assistant","content":[{"type":"text","text":"{\"a\":\"<b>\"}"}]},{"role":"user","content":[{"type":"text","text":"again"}]},{"role":"assistant","content":[{"type":"text","text":"{}\n\n{}"}]}],"meta":{"weight":2,"x":"</table>"}}"#;
    std::fs::write(&file, record).unwrap();
    let shown = seen(file.to_str().unwrap(), None);
    assert!(shown.to_string().contains("weight   2\n"));
    let page = page(&shown).unwrap();
    for (text, times) in [
        ("<script", 0),
        ("</table>", 1),
        ("<figure>", 2),
        ("id=\"p2\"", 1),
        ("data:image/png;base64,iVBOR", 2),
        ("&lt;script&gt;\\u{202e}", 2),
        ("<td>2</td>", 2),    // images, weight
        ("&lt;/span&gt;", 0), // several tokens
        ("http", 1),          // the policy's http-equiv
    ] {
        assert_eq!(page.matches(text).count(), times, "{text}");
    }
    let trained = page.matches("\"token trained").count() - 1;
    assert_eq!(trained, shown.tokens.unwrap().supervised);
    // Every element that is opened is closed.
    for tag in [
        "span", "figure", "svg", "table", "tr", "td", "div", "pattern", "defs", "g",
    ] {
        let closed = page.matches(&format!("</{tag}>")).count();
        let opened =
            page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, closed, "{tag}");
    }
}
