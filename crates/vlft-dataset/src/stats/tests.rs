//! The whole of `stats` on a small folder.

use std::fs;

use serde_json::json;

use vlft_base::Diagnostic;

use super::*;
use crate::token_counter::ImageSize;

/// Halves every image; a token per 100 letters of an answer.
struct Half;

impl TokenCounter for Half {
    fn count(&self, record: &Record, _base: &Path) -> Result<TokenCount> {
        if record.id == "bad" {
            return Err(Diagnostic::error("no"));
        }
        let images = record.images().map(|_| ImageSize {
            original: (100, 200),
            resized: (50, 96),
        });
        Ok(TokenCount {
            total: 100 + record.id.len(),
            image: 60,
            supervised: 10,
            images: images.collect(),
        })
    }
}

#[test]
fn a_dataset_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("pages")).unwrap();
    let image = dir.path().join("pages/a.png");
    image::GrayImage::new(100, 200).save(&image).unwrap();
    let bytes = fs::metadata(&image).unwrap().len();
    let entry = json!({"version": 1, "document": "a.pdf", "source_sha256": "00", "page": 1, "pages": 1, "file": "a.png", "width": 100, "height": 200,
        "dpi": 150.0, "requested": {"dpi": 150}, "format": "png", "sha256": "00", "bytes": bytes, "rasterizer": "pdfium 1"});
    fs::write(
        dir.path().join("pages/manifest.jsonl"),
        format!("{entry}\n"),
    )
    .unwrap();
    let record = |id: &str, image: &str, answer: &str| {
        json!({"id": id, "messages": [
            {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "x"}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        ], "meta": {"document": "d"}})
    };
    let file = dir.path().join("d.jsonl");
    let lines = [
        record("a", "pages/a.png", r#"{"n":7,"s":null}"#),
        record("bad", "pages/none.png", r#"{"n":"7","s":"x"}"#),
        record("long", "pages/a.png", "no JSON"),
    ];
    fs::write(&file, lines.map(|l| l.to_string()).join("\n\n")).unwrap();

    let report = stats(&file, Some(&Half), &|_| {}).unwrap();
    assert_eq!((report.records, report.documents, report.images), (3, 1, 3));
    let shown = shown(&file);
    assert_eq!(
        report.to_string().replace(&shown, "d.jsonl"),
        "\
records 3    documents 1    images 3    trained tokens 20 (10 % of 205)
                       p5       p50       p95       max
tokens                101       101       104       104
image tokens           60        60        60        60
prompt tokens          31        31        34        34
trained tokens         10        10        10        10
images a record         1         1         1         1
width                 100       100       100       100
height                200       200       200       200
dpi                   150       150       150       150
effective dpi          72        72        72        72
target chars            7        16        17        17
longest: d.jsonl:5 (104 tokens)
shortest target: d.jsonl:1 (10 tokens)
target key    filled        of         types
n                  2         2   100 %  integer 1, string 1
s                  1         2    50 %  string
1 images could not be read: `vlft validate d.jsonl` says which
1 answers are not JSON: `vlft validate d.jsonl` says which
1 records could not be counted: `vlft validate d.jsonl` says which
half of the pages reach the model at 72 dpi or less; small print needs about 100
"
    );

    // An image that was replaced since is no longer what the manifest speaks of.
    image::RgbImage::new(64, 64).save(&image).unwrap();
    let report = stats(&file, None, &|_| {}).unwrap();
    assert!(report.spreads.iter().all(|s| s.name != "dpi"));
    assert_eq!(report.total_tokens, None);

    fs::write(&file, "{\n{").unwrap();
    assert_eq!(stats(&file, None, &|_| {}).unwrap_err().further().len(), 1);
}
