//! The whole of `build` on small folders.

use std::fs;

use serde_json::json;

use super::*;
use crate::jsonl::load_for_training;

const MAPPING: &str = r#"
version = 1
document = "Filename"
doc_type = "bill-of-lading"
[prompt]
system = "JSON only."
user = "Read the bill of lading."
[[fields]]
name = "bl_number"
type = "string"
[[fields]]
name = "free_days"
type = "integer"
[[fields]]
name = "containers"
type = "list"
unique = "number"
items = [{ name = "number", column = "Container_Number", type = "string" }, { name = "size", column = "Container_Size", type = "string" }]
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(labels: &Value, images: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path("pages")).unwrap();
        for image in images {
            fs::write(folder.path("pages").join(image), b"not opened").unwrap();
        }
        fs::write(folder.path("m.toml"), MAPPING).unwrap();
        fs::write(
            folder.path("results.json"),
            labels.to_string().replace("},{", "},\n{"),
        )
        .unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn build(&self, existing: Existing) -> Result<BuildReport> {
        build(&self.options(existing), &|_, _| {})
    }

    fn options(&self, existing: Existing) -> Options {
        Options {
            labels: self.path("results.json"),
            images: vec![self.path("pages")],
            mapping: self.path("m.toml"),
            aliases: None,
            out: self.path("data/all.jsonl"),
            existing,
            dry_run: false,
        }
    }

    /// The rejects: type, name, reason, detail, without the directory's name.
    fn rejects(&self) -> Vec<[String; 4]> {
        let text = fs::read_to_string(self.path("data/all.rejects.jsonl")).unwrap();
        let prefix = format!("{}/", shown(self.0.path()));
        text.lines()
            .map(|line| {
                let value: Value = serde_json::from_str(&line.replace(&prefix, "")).unwrap();
                ["type", "name", "reason", "detail"]
                    .map(|k| value[k].as_str().unwrap_or("").to_owned())
            })
            .collect()
    }
}

fn row(file: &str, bl: &str, days: Value, container: &str) -> Value {
    json!({"Filename": file, "bl_number": bl, "free_days": days, "Container_Number": container, "Container_Size": 20, "note": ""})
}

#[test]
fn rows_of_a_document_become_one_record_with_all_its_pages() {
    let labels = json!([
        row("B 1 (1).PDF", "BL1", json!("14"), "MSKU1"),
        row("c.pdf", "BL2", Value::Null, ""),
        row("B 1 (1).PDF", "BL1", json!(14), "MSKU2"),
        row("B 1 (1).PDF", "BL1", json!(14), "MSKU2"),
    ]);
    let folder = Folder::new(
        &labels,
        &["B_1_1__2.jpg", "B_1_1__1.jpg", "c_single_page.png"],
    );
    let report = folder.build(Existing::Refuse).unwrap();
    assert!(report.is_clean());
    assert_eq!(
        report.to_string(),
        "documents 2   records 2   rejected 0   pages 3   rows 4 (1 merged as repeated)\n\
         matched by stem 1   copy-number 1\ncolumns that the mapping does not read: `note`"
    );
    let text = fs::read_to_string(folder.path("data/all.jsonl")).unwrap();
    assert_eq!(
        text.lines().next().unwrap(),
        concat!(
            r#"{"id":"B 1 (1).PDF","messages":[{"role":"system","content":[{"type":"text","text":"JSON only."}]},"#,
            r#"{"role":"user","content":[{"type":"image","image":"../pages/B_1_1__1.jpg"},{"type":"image","image":"../pages/B_1_1__2.jpg"},"#,
            r#"{"type":"text","text":"Read the bill of lading."}]},{"role":"assistant","content":[{"type":"text","text":"#,
            r#""{\"bl_number\":\"BL1\",\"free_days\":14,\"containers\":[{\"number\":\"MSKU1\",\"size\":\"20\"},{\"number\":\"MSKU2\",\"size\":\"20\"}]}"}]}],"#,
            r#""meta":{"document":"B 1 (1).PDF","pages":[1,2],"doc_type":"bill-of-lading","matched_by":"copy-number","label_rows":["results.json:1,3-4"]}}"#
        )
    );
    assert_eq!(
        load_for_training(&folder.path("data/all.jsonl"))
            .unwrap()
            .len(),
        2
    );
    assert!(!folder.path("data/all.rejects.jsonl").exists());
    assert_eq!(
        folder.build(Existing::Refuse).unwrap_err().message(),
        "output exists already"
    );
}

#[test]
fn everything_that_is_left_out_is_listed_with_its_reason_and_the_counts_reconcile() {
    let labels = json!([
        row("good.pdf", "BL1", json!(7), "M1"),
        row("conflict.pdf", "BL1", json!(7), "M1"),
        row("conflict.pdf", "BL2", json!(7), "M2"),
        row("bad.pdf", "BL3", json!("seven"), "M1"),
        row("gap.pdf", "BL4", json!(7), "M1"),
        row("lost_31.pdf", "BL5", json!(7), "M1"),
        row("x.pdf", "BL6", json!(7), "M1"),
        row("x_1.pdf", "BL7", json!(7), "M1"),
        row("", "BL8", json!(7), "M1"),
    ]);
    let images = [
        "good.png",
        "conflict.png",
        "bad.png",
        "gap_1.png",
        "gap_2.png",
        "gap_4.png",
        "lost_3l.png",
        "x_1.png",
        "other.png",
    ];
    let folder = Folder::new(&labels, &images);
    let report = folder.build(Existing::Refuse).unwrap();
    assert!(!report.is_clean());
    assert_eq!(
        (report.documents, report.records, report.rejected),
        (7, 1, 6)
    );
    let expected = [
        [
            "row",
            "",
            "no-document-name",
            "the row in results.json:9 names no document",
        ],
        [
            "document",
            "conflict.pdf",
            "conflicting-values",
            "`bl_number` is `\"BL1\"` and `\"BL2\"`",
        ],
        [
            "document",
            "bad.pdf",
            "bad-value",
            "`free_days`: expected a whole number, found `\"seven\"`",
        ],
        [
            "document",
            "gap.pdf",
            "incomplete-pages",
            "`pages/gap_1.png` to `pages/gap_4.png`: page 3 of 4 missing",
        ],
        [
            "document",
            "lost_31.pdf",
            "no-image",
            "no image has this name; the nearest is `lost_3l`",
        ],
        [
            "document",
            "x.pdf",
            "ambiguous-image",
            "`pages/x_1.png` could be its pages, or those of `x_1.pdf` (by step `stem`)",
        ],
        [
            "document",
            "x_1.pdf",
            "ambiguous-image",
            "`pages/x_1.png` could be its pages, or those of `x.pdf` (by step `stem`)",
        ],
        [
            "image",
            "pages/bad.png",
            "not-used",
            "its document was rejected",
        ],
        [
            "image",
            "pages/conflict.png",
            "not-used",
            "its document was rejected",
        ],
        [
            "image",
            "pages/gap_1.png",
            "not-used",
            "its document was rejected",
        ],
        [
            "image",
            "pages/gap_2.png",
            "not-used",
            "its document was rejected",
        ],
        [
            "image",
            "pages/gap_4.png",
            "not-used",
            "its document was rejected",
        ],
        [
            "image",
            "pages/lost_3l.png",
            "no-label",
            "no label's document has these pages",
        ],
        [
            "image",
            "pages/other.png",
            "no-label",
            "no label's document has these pages",
        ],
        [
            "image",
            "pages/x_1.png",
            "not-used",
            "its document was rejected",
        ],
    ];
    assert_eq!(
        folder.rejects(),
        expected.map(|line| line.map(str::to_owned))
    );
    let text = fs::read_to_string(folder.path("data/all.rejects.jsonl")).unwrap();
    assert!(text.contains(r#""places":["#) && text.contains(r#""candidates":["lost_3l"]"#));

    // With the labels mended and `--force`, what was said of the first run does not stay behind.
    fs::write(
        folder.path("results.json"),
        json!([row("good.pdf", "BL1", json!(7), "M1")]).to_string(),
    )
    .unwrap();
    for image in &images[1..] {
        fs::remove_file(folder.path("pages").join(image)).unwrap();
    }
    assert!(folder.build(Existing::Replace).unwrap().is_clean());
    assert!(!folder.path("data/all.rejects.jsonl").exists());
}

#[test]
fn what_cannot_run_is_said_before_anything_is_written() {
    let folder = Folder::new(
        &json!([{"Filename": "a.pdf", "bl_no": "B", "free_days": 1, "Container_Number": "", "Container_Size": ""}]),
        &[],
    );
    let error = folder.build(Existing::Refuse).unwrap_err();
    assert_eq!(
        error.message(),
        "no row of the labels has a column `bl_number`"
    );
    fs::write(folder.path("results.json"), "[]").unwrap();
    assert_eq!(
        folder.build(Existing::Refuse).unwrap_err().kind(),
        Kind::NothingToDo
    );
    fs::remove_dir(folder.path("pages")).unwrap();
    fs::write(
        folder.path("results.json"),
        json!([row("a.pdf", "B", json!(1), "")]).to_string(),
    )
    .unwrap();
    assert_eq!(
        folder.build(Existing::Refuse).unwrap_err().message(),
        "no such directory of images"
    );
    assert!(!folder.path("data").exists());
}

#[test]
fn pages_of_rasterized_documents_come_from_the_manifest() {
    let folder = Folder::new(
        &json!([
            row("inv_1.pdf", "B1", json!(1), ""),
            row("inv_10.pdf", "B2", json!(1), "")
        ]),
        &["p-1.png", "p-2.png", "p-3.png"],
    );
    let entry = |document: &str, page: u32, pages: u32, file: &str| {
        json!({"version": 1, "document": document, "source_sha256": format!("sha of {document}"), "page": page, "pages": pages,
            "file": file, "width": 10, "height": 10, "dpi": 150.0, "requested": {"dpi": 150}, "format": "png", "sha256": "00", "bytes": 10, "rasterizer": "pdfium 1"})
    };
    let lines = [
        entry("in/inv_10.pdf", 2, 2, "p-1.png"),
        entry("in/inv_1.pdf", 1, 1, "p-2.png"),
        entry("in/inv_10.pdf", 1, 2, "p-3.png"),
    ];
    let manifest = lines.map(|line| line.to_string()).join("\n") + "\n";
    fs::write(folder.path("pages/manifest.jsonl"), &manifest).unwrap();
    assert!(folder.build(Existing::Refuse).unwrap().is_clean());
    let records = load_for_training(&folder.path("data/all.jsonl")).unwrap();
    let seen: Vec<Vec<&str>> = records
        .iter()
        .map(|n| n.record.images().collect())
        .collect();
    assert_eq!(
        seen,
        [
            vec!["../pages/p-2.png"],
            vec!["../pages/p-3.png", "../pages/p-1.png"]
        ]
    );
    let meta = records[1].record.meta.as_ref().unwrap();
    assert_eq!(meta["source_sha256"], "sha of in/inv_10.pdf");
    assert_eq!(meta["matched_by"], "exact");

    fs::write(
        folder.path("pages/manifest.jsonl"),
        manifest.replace(r#""pages":1,"#, r#""pages":4,"#),
    )
    .unwrap();
    folder.build(Existing::Replace).unwrap();
    assert_eq!(
        folder.rejects()[0][3],
        "document `in/inv_1.pdf`: pages 2, 3, 4 of 4 missing"
    );
    fs::remove_file(folder.path("pages/p-3.png")).unwrap();
    assert_eq!(
        folder.build(Existing::Replace).unwrap_err().message(),
        "an image of the manifest is not there"
    );
}

#[test]
fn one_json_file_per_document_is_named_by_its_file() {
    let folder = Folder::new(&json!([]), &["a b.png", "c.png", "._a b.png"]);
    let labels = folder.path("labels");
    fs::create_dir(&labels).unwrap();
    let label = |bl: &str| {
        json!({"bl_number": bl, "free_days": 7, "details": [{"number": "M1", "size": "20"}]})
            .to_string()
    };
    fs::write(labels.join("A b.json"), label("B1")).unwrap();
    fs::write(labels.join("c.pdf.json"), label("B2")).unwrap();
    let mapping = MAPPING
        .replace("type = \"list\"", "type = \"list\"\ncolumn = \"details\"")
        .replace(", column = \"Container_Number\"", "")
        .replace(", column = \"Container_Size\"", "");
    fs::write(folder.path("m.toml"), mapping).unwrap();
    let options = Options {
        labels,
        ..folder.options(Existing::Refuse)
    };
    let report = build(&options, &|_, _| {}).unwrap();
    assert!(report.is_clean());
    assert_eq!((report.unused_images, report.images), (0, 2));
    let records = load_for_training(&folder.path("data/all.jsonl")).unwrap();
    let ids: Vec<&str> = records.iter().map(|n| n.record.id.as_str()).collect();
    assert_eq!(ids, ["A b", "c.pdf"]);
    assert!(
        records[0].record.messages[2]
            .text()
            .contains(r#""containers":[{"number":"M1","size":"20"}]"#)
    );
}

#[test]
fn twenty_thousand_documents_are_built_in_seconds() {
    let labels: Vec<Value> = (0..20_000)
        .map(|n| row(&format!("SCAN {n:05} (1).PDF"), "B", json!(7), "M1"))
        .collect();
    let folder = Folder::new(&json!(labels), &[]);
    for n in 0..20_000 {
        // Every tenth has no image, or one with another name.
        let name = if n % 10 == 0 {
            format!("SCAN_{n:05}x.png")
        } else {
            format!("SCAN_{n:05}_1__1.png")
        };
        fs::write(folder.path("pages").join(name), "").unwrap();
    }
    let start = std::time::Instant::now();
    let report = folder.build(Existing::Refuse).unwrap();
    assert_eq!((report.records, report.rejected), (18_000, 2_000));
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}
