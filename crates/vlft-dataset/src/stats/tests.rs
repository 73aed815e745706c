//! The whole of `stats` on a small folder.

use std::fs;

use serde_json::json;

use vlft_base::Diagnostic;

use super::*;
use crate::record::Record;
use crate::token_counter::TokenCount;

/// 18 tokens an image, a token per letter of the id.
struct Half;

impl TokenCounter for Half {
    fn count(&self, record: &Record, _base: &Path) -> Result<TokenCount> {
        let sizes: Vec<(u32, u32)> = record.images().map(|_| (100, 200)).collect();
        self.count_sized(record, &sizes)
    }

    fn count_sized(&self, record: &Record, sizes: &[(u32, u32)]) -> Result<TokenCount> {
        if record.id == "bad" {
            return Err(Diagnostic::error("no"));
        }
        Ok(TokenCount {
            total: 40 + record.id.len() + 18 * sizes.len(),
            image: 18 * sizes.len(),
            supervised: 10,
            images: Vec::new(),
        })
    }

    fn resize(&self) -> Resize {
        Resize {
            factor: 16,
            min_pixels: 256,
            max_pixels: 4900,
        }
    }
}

fn options(file: &Path) -> Options {
    Options {
        file: file.to_owned(),
        max_pixels: vec![1024],
        max_tokens: vec![40, 60],
        page: None,
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

    let report = stats(&options(&file), Some(&Half), &|_| {}).unwrap();
    assert_eq!((report.records, report.documents, report.images), (3, 1, 3));
    // How wide the columns are is for the eye; what stands in them is for the test.
    let text = report.to_string().replace(&shown(&file), "d.jsonl");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: Vec<String> = text.lines().map(words).filter(|l| !l.is_empty()).collect();
    assert_eq!(
        said,
        [
            "records 3 documents 1 images 3 (1 png) trained tokens 20 (17 % of 121)",
            "p5 p50 p95 p99 max",
            "tokens 59 59 62 62 62",
            "image tokens 18 18 18 18 18",
            "prompt tokens 31 31 34 34 34",
            "trained tokens 10 10 10 10 10",
            "images a record 1 1 1 1 1",
            "width 100 100 100 100 100",
            "height 200 200 200 200 200",
            "image KiB 1 1 1 1 1",
            "dpi 150 150 150 150 150",
            "effective dpi 72 72 72 72 72",
            "target chars 7 16 17 17 17",
            "longest: d.jsonl:5 (62 tokens)",
            "shortest target: d.jsonl:1 (10 tokens)",
            "image tokens effective dpi records over a limit of tokens",
            "max_pixels p5 p50 p95 p5 p50 p95 under 100 >40 >60",
            "1 024 2 2 2 24 24 24 100 % 2 0",
            "* 4 900 18 18 18 72 72 72 100 % 2 1",
            "dpi of image files: 1 from the manifest",
            "cut at 40 tokens, 2 records would lose the end of the answer, 2 of them all of it",
            "cut at 60 tokens, 1 record would lose the end of the answer, 0 of them all of it",
            "target key filled of types values",
            "n 2 2 100 % integer 1, string 1 7 100 %",
            "s 1 2 50 % string 1 different",
            "2 records show pages that another shows, in 1 group (such as line 1, line 5)",
            "2 records have the images and prompt of another but not its answer, in 1 group (such as line 1, line 5)",
            "1 image could not be read: `vlft validate d.jsonl` says which",
            "1 answer is not JSON: `vlft validate d.jsonl` says which",
            "1 record could not be counted: `vlft validate d.jsonl` says which",
            "half of the pages reach the model at 72 dpi or less; small print needs about 100",
        ]
    );

    // An image that was replaced since is no longer what the manifest speaks of.
    image::RgbImage::new(64, 64).save(&image).unwrap();
    let report = stats(&options(&file), None, &|_| {}).unwrap();
    assert!(report.spreads.iter().all(|s| s.name != "dpi"));
    assert_eq!(report.total_tokens, None);

    // A broken line is left out, counted and told; a file of nothing else is refused.
    let records = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{records}\n{{\n")).unwrap();
    let report = stats(&options(&file), None, &|_| {}).unwrap();
    assert_eq!(
        (report.records, report.broken_lines, report.empty_lines),
        (3, 1, 2)
    );
    assert_eq!(report.problem().unwrap().rule(), Some("cut-line"));
    fs::write(&file, "{\n{").unwrap();
    let refused = stats(&options(&file), None, &|_| {}).unwrap_err();
    assert_eq!(refused.further().len(), 1);
}
