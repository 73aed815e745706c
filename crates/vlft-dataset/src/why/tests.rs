//! From labels and images to splits, and back.

use std::fs;

use serde_json::json;
use vlft_base::digest::sha256;
use vlft_base::output::Existing;

use super::*;
use crate::build;

const MAPPING: &str = r#"
version = 1
document = "F"
prompt = { user = "Read." }
[[fields]]
name = "bl"
type = "string"
"#;

#[test]
fn a_record_is_followed_back_and_changes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["pages", "scans", "splits"] {
        fs::create_dir(at(folder)).unwrap();
    }
    fs::write(at("scans/a.pdf"), "pdf").unwrap();
    fs::write(at("pages/a-1.png"), "png").unwrap();
    let page = json!({"version": 1, "document": "a.pdf", "source_sha256": sha256("pdf"), "page": 1, "pages": 1,
        "file": "a-1.png", "width": 10, "height": 10, "dpi": 150.0, "requested": {"dpi": 150}, "format": "png",
        "sha256": sha256("png"), "bytes": 3, "rasterizer": "pdfium 1"});
    fs::write(at("pages/manifest.jsonl"), format!("{page}\n")).unwrap();
    let lineage = Lineage::new("rasterize").input("documents", &at("scans"));
    lineage.unwrap().save_in(&at("pages")).unwrap();
    fs::write(at("labels.csv"), "F,bl\nb.pdf,B0\na.pdf,B1\na.pdf,B1\n").unwrap();
    fs::write(at("m.toml"), MAPPING).unwrap();
    let options = build::Options {
        labels: at("labels.csv"),
        images: vec![at("pages")],
        mapping: at("m.toml"),
        aliases: None,
        out: at("all.jsonl"),
        existing: Existing::Refuse,
        dry_run: false,
    };
    build::build(&options, &|_, _| {}).unwrap();
    let record = fs::read_to_string(at("all.jsonl")).unwrap();
    let moved = record.replace("pages/", "../pages/");
    fs::write(at("splits/train.jsonl"), moved).unwrap();
    Lineage::new("split")
        .option("seed", 42)
        .input("records", &at("all.jsonl"))
        .unwrap()
        .save_in(&at("splits"))
        .unwrap();

    let ask = |which: &str| {
        why(&Options {
            file: at("splits/train.jsonl"),
            which: which.to_owned(),
        })
    };
    let found = ask("a.pdf").unwrap();
    let commands: Vec<&str> = found.stages.iter().map(|s| s.command.as_str()).collect();
    assert_eq!(commands, ["split", "build-jsonl"]);
    assert_eq!(found.stages[1].line, Some(1));
    let places: Vec<&str> = found
        .labels
        .iter()
        .map(|l| l.place.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(places, ["labels.csv:3", "labels.csv:4"]);
    assert_eq!(found.labels[0].row, Some(json!({"F": "a.pdf", "bl": "B1"})));
    let Origin::Page {
        pdf, pdf_now, page, ..
    } = &found.images[0].origin
    else {
        panic!("{:?}", found.images[0].origin)
    };
    assert!(pdf.as_ref().is_some_and(|pdf| pdf.ends_with("scans/a.pdf")));
    assert_eq!((pdf_now, *page), (&Some(Now::Same), 1));
    assert!(found.problem().is_none(), "{:?}", found.changes());
    assert_eq!(ask(":1").unwrap().id, "a.pdf");

    fs::write(at("scans/a.pdf"), "other").unwrap();
    fs::write(at("pages/a-1.png"), "other").unwrap();
    fs::remove_file(at("labels.csv")).unwrap();
    let found = ask("a.pdf").unwrap();
    let short = format!("{}/", shown(dir.path()));
    let changes: Vec<String> = found
        .changes()
        .iter()
        .map(|change| change.replace(&short, ""))
        .collect();
    assert_eq!(
        changes,
        [
            "`labels.csv` is gone",
            "`pages/a-1.png` has changed",
            "`scans/a.pdf` has changed"
        ]
    );
    assert_eq!(found.labels[0].row, None);
    assert_eq!(found.problem().unwrap().kind(), Kind::Verdict);

    let error = ask("a.pfd").unwrap_err();
    assert_eq!(error.hint_text(), Some("did you mean `a.pdf`?"));
    assert_eq!(ask(":7").unwrap_err().message(), "no record in line 7");
    fs::remove_file(at("splits/lineage.json")).unwrap();
    let found = ask("a.pdf").unwrap();
    assert!(found.ends_without_lineage.is_some() && found.stages.is_empty());
}

/// Two PDFs with the same bytes: the page came from the one with its name.
#[test]
fn of_copies_of_a_pdf_the_one_with_its_name_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["pages", "scans"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let mut lineage = Lineage::new("rasterize");
    let mut manifest = String::new();
    for name in ["a", "b"] {
        let pdf = at(&format!("scans/{name}.pdf"));
        fs::write(&pdf, "pdf").unwrap();
        lineage = lineage.input("document", &pdf).unwrap();
        fs::write(at(&format!("pages/{name}-p001.png")), "png").unwrap();
        let page = json!({"version": 1, "document": format!("{name}.pdf"), "source_sha256": sha256("pdf"),
            "page": 1, "pages": 1, "file": format!("{name}-p001.png"), "width": 10, "height": 10, "dpi": 150.0,
            "requested": {"dpi": 150}, "format": "png", "sha256": sha256("png"), "bytes": 3,
            "rasterizer": "pdfium 1"});
        manifest += &format!("{page}\n");
    }
    fs::write(at("pages/manifest.jsonl"), manifest).unwrap();
    lineage.save_in(&at("pages")).unwrap();
    for name in ["a", "b"] {
        let page = at(&format!("pages/{name}-p001.png"));
        let (_, origin) = Origins::default().of(&page).unwrap();
        let Origin::Page { pdf, .. } = origin else {
            panic!("{origin:?}")
        };
        let pdf = pdf.unwrap();
        assert!(pdf.ends_with(&format!("scans/{name}.pdf")), "{pdf}");
    }
}
