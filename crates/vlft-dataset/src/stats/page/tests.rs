//! The page of a small folder: what is on it, in which order, and that nothing foreign gets out of
//! its place. What a browser makes of it is tested in `tests/browser`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::stats::{Options as StatsOptions, stats};

fn record(id: &str, image: &str, answer: &str) -> String {
    json!({"id": id, "messages": [
        {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "Read </script>."}]},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    ]})
    .to_string()
}

fn options(dir: &Path, records: usize, dry_run: bool) -> StatsOptions {
    StatsOptions {
        file: dir.join("d.jsonl"),
        max_pixels: vec![50_176],
        max_tokens: vec![4096],
        page: Some(Options {
            out: dir.join("out/d.html"),
            existing: Existing::Replace,
            records,
            target_schema: None,
            dry_run,
        }),
    }
}

/// What `page.js` gets.
fn data_of(html: &str) -> Value {
    let (_, rest) = html.split_once("id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn the_worst_come_first_with_their_reasons() {
    let dir = tempfile::tempdir().unwrap();
    // The shape of A4 at 30 dpi, and at 200.
    image::GrayImage::new(248, 351)
        .save(dir.path().join("small.png"))
        .unwrap();
    image::RgbImage::new(1654, 2339)
        .save(dir.path().join("large.png"))
        .unwrap();
    let lines = [
        record("good", "large.png", r#"{"a":"1","b":2}"#),
        record("small", "small.png", r#"{"a":"2","b":2}"#),
        record("twice", "large.png", r#"{"a":"1","b":2}"#),
        record(
            "missing",
            "none.png",
            r#"{"a":"</script><script>alert(1)</script>","b":2}"#,
        ),
        "{\"id\":\"cut".to_owned(),
    ];
    fs::write(dir.path().join("d.jsonl"), lines.join("\n")).unwrap();

    let dry = stats(&options(dir.path(), 10, true), None, &|_| {}).unwrap();
    assert!(!dir.path().join("out").exists());
    let report = stats(&options(dir.path(), 10, false), None, &|_| {}).unwrap();
    let (dry, page) = (dry.page.unwrap(), report.page.unwrap());
    assert_eq!((dry.bytes, dry.records), (page.bytes, page.records));
    assert_eq!((page.records, page.thumbnails, page.errors), (5, 2, 2));

    let html = fs::read_to_string(dir.path().join("out/d.html")).unwrap();
    assert_eq!(html.len() as u64, page.bytes);
    // Elements of ours only: what a record holds opens or closes none.
    assert_eq!(
        html.matches("</script>").count(),
        3,
        "data, thumbnails, code"
    );
    assert!(!html.contains("alert(1)</script>"));

    let data = data_of(&html);
    let rows: Vec<(i64, &str)> = data["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["line"].as_i64().unwrap(), row["id"].as_str().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            (4, "missing"),
            (5, ""),
            (3, "twice"),
            (2, "small"),
            (1, "good")
        ]
    );
    let marks = |row: usize| -> Vec<&str> {
        let marks = data["rows"][row]["marks"].as_array().unwrap();
        let rule = |mark: &Value| mark[0].as_u64().unwrap() as usize;
        let rules = marks
            .iter()
            .map(|mark| data["rules"][rule(mark)][0].as_str());
        rules.map(Option::unwrap).collect()
    };
    assert_eq!(marks(0), ["image-missing"]);
    assert_eq!(marks(1), ["cut-line"]);
    assert_eq!(marks(2), ["duplicate-record"]);
    assert_eq!(marks(3), ["low-dpi"]);
    assert!(marks(4).is_empty());
    assert_eq!(data["rows"][3]["dpi"], 30.1);
    assert_eq!(data["prompts"], json!(["Read </script>."]));
    // From the folder of the page.
    let large = data["images"].as_array().unwrap();
    let large = large.iter().find(|image| image[1] == 1654).unwrap();
    assert_eq!(
        (&large[5], &large[7]),
        (&json!("A4"), &json!("../large.png"))
    );

    let few = stats(&options(dir.path(), 2, false), None, &|_| {}).unwrap();
    assert_eq!(few.page.unwrap().records, 2);
    let data = data_of(&fs::read_to_string(dir.path().join("out/d.html")).unwrap());
    assert_eq!((&data["shown"], &data["of"]), (&json!(2), &json!(5)));
}

#[test]
fn thumbnails_keep_to_their_bound() {
    assert_eq!(Thumbnails::new(1).side_for_test(), 440);
    let each = |images: usize| {
        let side = f64::from(Thumbnails::new(images).side_for_test());
        side * side * 0.09 * images as f64
    };
    assert!(each(10_000) <= THUMBNAIL_BYTES as f64);
    assert_eq!(Thumbnails::new(1_000_000).side_for_test(), 96);
}
