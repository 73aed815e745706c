//! Bytes that lie: whatever comes in, every format ends with samples, reasons or one error, in a bounded
//! time and memory, and never with a panic.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use vlft_base::output::Existing;
use vlft_convert::{Format, Options, convert, read_bytes};

fn refused(format: Format, text: &str) -> &'static str {
    read_bytes(format, text.as_bytes())
        .unwrap()
        .into_iter()
        .find_map(Result::err)
        .unwrap_or_else(|| panic!("{text} was read"))
        .rule
}

#[test]
fn lies_are_refused_by_their_rule() {
    let deep = format!(
        "{{\"messages\":{}1{}}}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    for (format, text, rule) in [
        (Format::Swift, deep.as_str(), "bad-json"),
        (
            Format::OpenAi,
            r#"{"messages":[{"role":"user","content":"x""#,
            "bad-json",
        ),
        (
            Format::OpenAi,
            r#"{"messages":[],"messages":[]}"#,
            "bad-json",
        ),
        (Format::OpenAi, r#"{"messages":{}}"#, "wrong-type"),
        (Format::OpenAi, r#"{"x":1}"#, "missing-key"),
        (Format::OpenAi, r#"{"messages":[]}"#, "turns"),
        (
            Format::OpenAi,
            r#"{"messages":[{"role":"user","content":7}]}"#,
            "wrong-type",
        ),
        (
            Format::OpenAi,
            r#"{"messages":[{"role":"king","content":"x"}]}"#,
            "unknown-role",
        ),
        (
            Format::OpenAi,
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,%%%"}}]}]}"#,
            "image-unreadable",
        ),
        (
            Format::OpenAi,
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png,x"}}]}]}"#,
            "image-unreadable",
        ),
        (
            Format::OpenAi,
            r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"image_url","image_url":"a.png"}]}]}"#,
            "image-role",
        ),
        (
            Format::Qwen,
            r#"{"conversations":[{"from":"human","value":"<image>"},{"from":"gpt","value":"x"}]}"#,
            "image-count",
        ),
        (
            Format::Qwen,
            r#"{"image":"a","conversations":[{"from":"human","value":"x"},{"from":"gpt","value":"x"}]}"#,
            "image-count",
        ),
        (Format::Qwen, r#"[[{"conversations":[]}],7]"#, "turns"),
        (
            Format::LlamaFactory,
            r#"{"conversations":[{"from":"function_call","value":"x"}]}"#,
            "unknown-role",
        ),
        (
            Format::LlamaFactory,
            r#"{"messages":[{"role":"user","content":"x"}],"tools":"[..]"}"#,
            "unsupported",
        ),
        (
            Format::Alpaca,
            r#"{"instruction":"x","output":"y","history":[["a"]]}"#,
            "wrong-type",
        ),
        (
            Format::Alpaca,
            r#"{"instruction":"x","output":"y","images":[7]}"#,
            "wrong-type",
        ),
        (
            Format::Alpaca,
            r#"{"instruction":"","input":"","output":"y"}"#,
            "empty-turn",
        ),
        (
            Format::Swift,
            r#"{"messages":[{"role":"user","content":"<image>"},{"role":"assistant","content":"x"}],"objects":{"bbox":[1]}}"#,
            "unsupported",
        ),
        (
            Format::LabelStudio,
            r#"[{"data":{"image":"a.png"}}]"#,
            "unsupported",
        ),
        (
            Format::LabelStudio,
            r#"[{"data":7,"annotations":[{"result":[]}]}]"#,
            "wrong-type",
        ),
        (
            Format::LabelStudio,
            r#"[{"data":{},"annotations":[{"result":{}}]}]"#,
            "wrong-type",
        ),
        (Format::OlmOcr, "---\na: 1\n", "wrong-type"),
        (
            Format::Vlft,
            r#"{"id":"a","messages":[],"x":1}"#,
            "unknown-key",
        ),
    ] {
        assert_eq!(
            refused(format, text),
            rule,
            "{format}: {}",
            &text[..text.len().min(90)]
        );
    }
}

#[test]
fn a_tail_that_was_cut_off_costs_only_itself() {
    let text = r#"[{"instruction":"x","output":"y"},{"instruction":"#;
    let read = read_bytes(Format::Alpaca, text.as_bytes()).unwrap();
    assert!(read.len() == 2 && read[0].is_ok() && read[1].is_err());
    let text =
        "{\"instruction\":\"x\",\"output\":\"y\"}\n{\n{\"instruction\":\"x\",\"output\":\"y\"}";
    let read = read_bytes(Format::Alpaca, text.as_bytes()).unwrap();
    assert_eq!(read.iter().filter(|sample| sample.is_ok()).count(), 2);
}

fn parquet() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    image::RgbImage::new(9, 9).save(at("a.png")).unwrap();
    let line = r#"{"id":"a","messages":[{"role":"user","content":[{"type":"image","image":"a.png"},{"type":"text","text":"Read."}]},{"role":"assistant","content":[{"type":"text","text":"{}"}]}],"meta":{"n":1}}"#;
    fs::write(at("a.jsonl"), line).unwrap();
    convert_to(&at("a.jsonl"), Format::Trl, &at("a.parquet"));
    fs::read(at("a.parquet")).unwrap()
}

fn convert_to(input: &Path, to: Format, out: &Path) {
    let options = Options {
        input: input.to_path_buf(),
        from: None,
        to,
        out: out.to_path_buf(),
        images: Vec::new(),
        copy_images: false,
        prompt: None,
        strict: true,
        existing: Existing::Refuse,
        dry_run: false,
    };
    assert!(convert(&options, &|_, _| {}).unwrap().is_clean());
}

#[test]
fn a_parquet_file_that_is_cut_anywhere_is_an_error() {
    let whole = parquet();
    assert_eq!(read_bytes(Format::Trl, &whole).unwrap().len(), 1);
    for end in (0..whole.len()).step_by(37) {
        assert!(read_bytes(Format::Trl, &whole[..end]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_in_samples_or_reasons(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in Format::ALL {
            let _ = read_bytes(format, &bytes);
        }
    }

    /// JSON that has the right keys and the wrong everything else.
    #[test]
    fn any_json_of_known_words_ends_in_samples_or_reasons(text in "(\\{|\\}|\\[|\\]|,|:|1|null|\"(messages|role|content|user|assistant|type|text|image|images|image_url|url|<image>|conversations|from|value|human|gpt|data|annotations|result|instruction|output|history|id|meta)\"){0,60}") {
        for format in Format::ALL {
            let _ = read_bytes(format, text.as_bytes());
        }
    }

    #[test]
    fn a_parquet_file_with_wrong_bytes_is_no_panic(hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = parquet();
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_bytes(Format::Trl, &bytes);
    }
}
