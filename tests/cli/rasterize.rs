//! `vlft rasterize` with real PDFs and real worker processes.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::pdf::{Page, pdf};
use crate::support::{Said, repository, run_in};

pub(super) fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

/// A document of `pages` small pages; each has its number drawn on it, one is in colour.
pub(super) fn document(pages: u32) -> Vec<u8> {
    let page = |n: u32| {
        let colour = if n == 2 { "1 0 0 rg" } else { "" };
        Page::new(
            144,
            72,
            &format!("{colour} BT /F1 20 Tf 20 30 Td (Page {n}) Tj ET"),
        )
    };
    pdf(&(1..=pages).map(page).collect::<Vec<_>>())
}

pub(super) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(super) fn json(said: &Said) -> Value {
    serde_json::from_str(&said.stdout)
        .unwrap_or_else(|e| panic!("{e}\n{}\n{}", said.stdout, said.stderr))
}

#[test]
fn a_folder_becomes_images_and_a_manifest() {
    let dir = folder(&[
        ("in/A 1.PDF", document(2)),
        ("in/sub/b.pdf", document(1)),
        ("in/notes.txt", b"x".to_vec()),
    ]);
    let args = ["rasterize", "in", "--out", "out", "--dpi", "100"];
    let said = run_in(dir.path(), &args);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.starts_with(
        "documents  2 found: 2 rasterized, 0 unchanged, 0 rejected\n\
         pages      3 written, 0 kept, 0 rejected\n"
    ));
    assert_eq!(
        said.stderr,
        "Wrote 3 pages of 2 documents to `out` (manifest `out/manifest.jsonl`)\n"
    );
    let manifest = dir.path().join("out/manifest.jsonl");
    let pages = lines(&manifest);
    let files: Vec<_> = pages.iter().map(|p| p["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["A 1-p001.png", "A 1-p002.png", "sub/b-p001.png"]);
    for page in &pages {
        assert_eq!(
            (&page["width"], &page["height"]),
            (&200.into(), &100.into())
        );
        assert_eq!((&page["dpi"], &page["version"]), (&100.0.into(), &2.into()));
        assert_eq!(page["content"]["text_chars"], 5);
        assert_eq!(page["content"]["verdict"], "born_digital");
        let png = fs::read(dir.path().join("out").join(page["file"].as_str().unwrap())).unwrap();
        assert_eq!(page["bytes"], png.len());
        // Of the header: width, height, bits, colour type (0 gray, 2 RGB).
        let is_gray = page["page"] == 1;
        assert_eq!(
            png[16..26],
            [0, 0, 0, 200, 0, 0, 0, 100, 8, if is_gray { 0 } else { 2 }]
        );
    }
    assert_eq!(
        (&pages[0]["document"], &pages[0]["pages"]),
        (&"A 1.PDF".into(), &2.into())
    );
    assert!(!dir.path().join("out/rejects.jsonl").exists());
    let lineage = fs::read_to_string(dir.path().join("out/lineage.json")).unwrap();
    let lineage: Value = serde_json::from_str(&lineage).unwrap();
    assert_eq!(
        lineage["options"]["resolution"],
        serde_json::json!({"dpi": 100})
    );
    for (input, (path, page)) in lineage["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .zip([("../in/A 1.PDF", &pages[0]), ("../in/sub/b.pdf", &pages[2])])
    {
        assert_eq!(
            (&input["path"], &input["sha256"]),
            (&path.into(), &page["source_sha256"])
        );
    }

    // Again: nothing is missing, and nothing changes.
    let before = fs::read(&manifest).unwrap();
    let again = run_in(dir.path(), &args);
    assert_eq!(again.code, Some(0));
    assert!(again.stdout.contains("2 unchanged") && again.stdout.contains("0 written, 3 kept"));
    assert_eq!(fs::read(&manifest).unwrap(), before);

    // An image that is gone or cut short is drawn again, and only that one.
    let image = dir.path().join("out/A 1-p002.png");
    let whole = fs::read(&image).unwrap();
    fs::write(&image, &whole[..50]).unwrap();
    let again = run_in(dir.path(), &args);
    assert!(
        again.stdout.contains("1 written, 2 kept"),
        "{}",
        again.stdout
    );
    assert_eq!(fs::read(&image).unwrap(), whole);
    assert_eq!(fs::read(&manifest).unwrap(), before);

    // Other settings over it are refused; `--force` starts over.
    let other = [
        "rasterize",
        "in",
        "--out",
        "out",
        "--dpi",
        "100",
        "--format",
        "webp",
    ];
    let refused = run_in(dir.path(), &other);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .stderr
            .contains("expected `--dpi 100 --format webp`, found `--dpi 100 --format png`")
    );
    assert_eq!(fs::read(&manifest).unwrap(), before);
    let forced = run_in(dir.path(), &[&other[..], &["--force"]].concat());
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    assert!(!image.exists() && dir.path().join("out/A 1-p002.webp").exists());
}

#[test]
fn bad_documents_cost_only_themselves_and_are_listed() {
    let encrypted = fs::read(repository().join("tests/fixtures/pdf/encrypted.pdf")).unwrap();
    let dir = folder(&[
        ("in/broken.pdf", b"hello".to_vec()),
        ("in/empty.pdf", Vec::new()),
        ("in/good.pdf", document(3)),
        ("in/locked.pdf", encrypted),
        ("in/nopages.pdf", pdf(&[])),
        (
            "in/partly.pdf",
            pdf(&[
                Page::new(50, 50, ""),
                Page::missing(),
                Page::new(50, 50, ""),
            ]),
        ),
        ("pw", "one\nschlüssel\n".into()),
    ]);
    let said = run_in(
        dir.path(),
        &["rasterize", "in", "--out", "out", "--format", "json"],
    );
    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.stderr,
        "error: 4 of 6 documents could not be rasterized, and 1 lacks pages\n  \
         --> in/broken.pdf, not a PDF, or damaged beyond repair\n  \
         --> in/empty.pdf, not a PDF, or damaged beyond repair\n  \
         --> in/locked.pdf, encrypted with a password\n  \
         --> in/nopages.pdf, the PDF has no pages\n  \
         --> in/partly.pdf, page 2: pdfium cannot read the page\n\n\
         hint: broken: open the files in a viewer; if it repairs them, save them anew and run again\n      \
         password: pass `--password-file FILE` with the password, one per line\n      \
         no-pages: leave these files out, or save them anew with their pages\n      \
         page: open the page in a viewer; printing it to a new PDF often repairs it\n\
         Wrote 5 pages of 2 documents to `out` (manifest `out/manifest.jsonl`)\n"
    );
    let report = json(&said);
    let documents = &report["documents"];
    assert_eq!(
        documents["found"].as_u64(),
        ["rasterized", "unchanged", "rejected"]
            .iter()
            .map(|k| documents[k].as_u64())
            .sum()
    );
    assert_eq!(report["pages"]["written"], 5);
    let rejects = lines(&dir.path().join("out/rejects.jsonl"));
    let rules: Vec<_> = rejects
        .iter()
        .map(|r| r["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["broken", "broken", "password", "no-pages", "page"]);
    assert_eq!(rejects[4]["page"], 2);

    // With the password, the same command does only that document.
    let args = ["rasterize", "in", "--out", "out", "--password-file", "pw"];
    let said = run_in(dir.path(), &args);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout
            .contains("1 rasterized, 2 unchanged, 3 rejected"),
        "{}",
        said.stdout
    );
    let manifest = fs::read_to_string(dir.path().join("out/manifest.jsonl")).unwrap();
    assert!(manifest.contains("locked.pdf") && !manifest.contains("schl"));
}

#[test]
fn nothing_to_do_and_what_cannot_be_done() {
    let dir = folder(&[
        ("in/a.pdf", document(1)),
        ("none/a.txt", b"x".to_vec()),
        ("mine/thesis.docx", b"x".to_vec()),
        ("empty-pw", b"\n".to_vec()),
    ]);
    for (args, code, expected) in [
        (&["none", "--out", "out"][..], 3, "no PDF was found"),
        (&["in", "missing", "--out", "out"], 2, "input not found"),
        (
            &["in", "--out", "mine"],
            2,
            "the output directory holds something else",
        ),
        (
            &["in", "--out", "out", "--shard", "0/2"],
            2,
            "shards are counted from 1",
        ),
        (
            &[
                "in",
                "--out",
                "out",
                "--dpi",
                "100",
                "--max-pixels",
                "99999",
            ],
            2,
            "cannot be used together",
        ),
        (
            &[
                "in",
                "--out",
                "out",
                "--max-pixels",
                "99999",
                "--model-size",
            ],
            2,
            "too few pixels for `--model-size`",
        ),
        (
            &["in", "--out", "out", "--shard", "auto"],
            2,
            "finds nothing in the environment",
        ),
        (
            &["in", "--out", "out", "--password-file", "empty-pw"],
            2,
            "the password file is empty",
        ),
        (
            &["in", "--out", "out", "--pdfium", "/nonexistent/x.so"],
            2,
            "no libpdfium that works",
        ),
        (
            &["in", "--out", "in/a.pdf"],
            2,
            "the output is a file, not a folder",
        ),
    ] {
        let said = run_in(dir.path(), &[&["rasterize"], args].concat());
        assert_eq!(said.code, Some(code), "{args:?}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "{args:?}: {}", said.stderr);
        assert!(!dir.path().join("out").exists(), "{args:?} wrote something");
    }
    let said = run_in(dir.path(), &["pdf-worker"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("started by other commands only"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_dry_run_names_the_files_and_writes_none() {
    let dir = folder(&[("in/a.pdf", document(1)), ("in/b.pdf", document(1))]);
    let said = run_in(
        dir.path(),
        &["rasterize", "in", "--out", "out", "--dry-run"],
    );
    assert_eq!(
        said.stdout,
        "a.pdf -> a-p*.png\nb.pdf -> b-p*.png\n2 documents; nothing was written\n"
    );
    assert!(!dir.path().join("out").exists());
}

#[test]
fn formats_and_sizes() {
    let dir = folder(&[("a4.pdf", pdf(&[Page::new(595, 842, "")]))]);
    for (format, extension, magic) in [
        ("png", "png", &b"\x89PNG"[..]),
        ("jpeg", "jpg", b"\xff\xd8"),
        ("webp", "webp", b"RIFF"),
    ] {
        let args = [
            "rasterize",
            "a4.pdf",
            "--out",
            format,
            "--format",
            format,
            "--max-pixels",
            "500000",
        ];
        assert_eq!(run_in(dir.path(), &args).code, Some(0));
        let page = &lines(&dir.path().join(format).join("manifest.jsonl"))[0];
        let (width, height) = (
            page["width"].as_u64().unwrap(),
            page["height"].as_u64().unwrap(),
        );
        assert!(
            (490_000..=500_000).contains(&(width * height)),
            "{width} x {height}"
        );
        let image = fs::read(dir.path().join(format).join(format!("a4-p001.{extension}"))).unwrap();
        assert!(image.starts_with(magic));
    }
}

#[test]
fn shards_do_each_document_once_and_agree_with_the_whole() {
    let names: Vec<String> = (0..12).map(|n| format!("in/scan {n}.pdf")).collect();
    let files: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), document(1)))
        .collect();
    let dir = folder(&files);
    for shard in ["1/3", "2/3", "3/3"] {
        let said = run_in(
            dir.path(),
            &["rasterize", "in", "--out", "parts", "--shard", shard],
        );
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    assert_eq!(
        run_in(dir.path(), &["rasterize", "in", "--out", "whole"]).code,
        Some(0)
    );
    let mut parts = String::new();
    for shard in 1..=3 {
        let name = format!("parts/manifest.{shard}-of-3.jsonl");
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text.lines().count() < 12, "one shard did all");
        parts += &text;
    }
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let whole = fs::read_to_string(dir.path().join("whole/manifest.jsonl")).unwrap();
    assert_eq!(sorted(&parts), sorted(&whole));
}

/// Linux alone has file systems where these two names differ by default.
#[cfg(target_os = "linux")]
#[test]
fn documents_whose_names_differ_only_in_case_keep_apart() {
    let dir = folder(&[("in/a.pdf", document(1)), ("in/A.PDF", document(2))]);
    assert_eq!(
        run_in(dir.path(), &["rasterize", "in", "--out", "out"]).code,
        Some(0)
    );
    let pages = lines(&dir.path().join("out/manifest.jsonl"));
    let mut files: Vec<String> = pages
        .iter()
        .map(|p| p["file"].as_str().unwrap().to_lowercase())
        .collect();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), 3, "{files:?}");
}

#[test]
fn a_pdf_that_has_changed_is_drawn_anew() {
    let dir = folder(&[("one/a.pdf", document(2)), ("one/b.pdf", document(1))]);
    let args = ["rasterize", "one", "--out", "out"];
    assert_eq!(run_in(dir.path(), &args).code, Some(0));
    fs::write(dir.path().join("one/a.pdf"), pdf(&[Page::new(50, 50, "")])).unwrap();
    let said = run_in(dir.path(), &args);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.starts_with(
            "documents  2 found: 1 rasterized, 1 unchanged, 0 rejected\n\
             pages      1 written, 1 kept, 0 rejected\n\
             changed    1 PDF since the last run, all pages drawn anew\n"
        ),
        "{}",
        said.stdout
    );
    let pages = lines(&dir.path().join("out/manifest.jsonl"));
    assert_eq!((pages.len(), &pages[0]["pages"]), (2, &1.into()));
    // The page it no longer has is gone, so that nobody takes it for a loose image.
    assert!(!dir.path().join("out/a-p002.png").exists());

    // What is no PDF any more is said, and what was drawn of it stays until it is one again.
    fs::write(dir.path().join("one/a.pdf"), "gone").unwrap();
    let said = run_in(dir.path(), &args);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr
            .contains("the file has changed, and its earlier pages are kept"),
        "{}",
        said.stderr
    );
    assert_eq!(lines(&dir.path().join("out/manifest.jsonl")).len(), 2);

    // Two folders with equal names have their places in one command.
    fs::create_dir(dir.path().join("two")).unwrap();
    fs::write(dir.path().join("two/b.pdf"), document(2)).unwrap();
    let said = run_in(
        dir.path(),
        &["rasterize", "one/b.pdf", "two/b.pdf", "--out", "both"],
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(lines(&dir.path().join("both/manifest.jsonl")).len(), 3);
}

#[test]
fn only_the_pages_asked_for_and_later_the_others() {
    let dir = folder(&[("in/a.pdf", document(5)), ("in/b.pdf", document(1))]);
    let args = ["rasterize", "in", "--out", "out"];
    let some = [&args[..], &["--pages", "2-3,5"]].concat();
    let said = run_in(dir.path(), &some);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.starts_with(
            "documents  2 found: 1 rasterized, 0 unchanged, 0 rejected, 1 without a page asked for\n\
             pages      3 written, 0 kept, 0 rejected, 3 not asked for\n"
        ),
        "{}",
        said.stdout
    );
    let manifest = dir.path().join("out/manifest.jsonl");
    let drawn = || -> Vec<Value> {
        lines(&manifest)
            .iter()
            .map(|page| page["page"].clone())
            .collect()
    };
    assert_eq!(drawn(), [2, 3, 5]);
    assert_eq!(lines(&manifest)[0]["selected"], "2-3,5");
    let again = run_in(dir.path(), &some);
    assert!(
        again.stdout.contains("0 written, 3 kept"),
        "{}",
        again.stdout
    );
    // It is a whole document for what comes after: nobody asked for the rest.
    fs::write(
        dir.path().join("labels.json"),
        r#"[{"filename": "a.pdf", "x": "y"}]"#,
    )
    .unwrap();
    let mapping = "version = 1\ndocument = \"filename\"\n[prompt]\nuser = \"Read.\"\n\
                   [[fields]]\nname = \"x\"\ntype = \"string\"\n";
    fs::write(dir.path().join("m.toml"), mapping).unwrap();
    let build = [
        "build-jsonl",
        "--labels",
        "labels.json",
        "--images",
        "out",
        "--mapping",
        "m.toml",
    ];
    let built = run_in(dir.path(), &[&build[..], &["--out", "all.jsonl"]].concat());
    assert_eq!(built.code, Some(0), "{}\n{}", built.stdout, built.stderr);
    assert!(built.stdout.contains("pages 3"), "{}", built.stdout);
    let all = run_in(dir.path(), &args);
    assert!(all.stdout.contains("3 written, 3 kept"), "{}", all.stdout);
    assert_eq!(drawn(), [1, 2, 3, 4, 5, 1]);
}

#[test]
fn pages_of_the_models_own_size() {
    let dir = folder(&[("a4.pdf", pdf(&[Page::new(595, 842, "")]))]);
    let args = [
        "rasterize",
        "a4.pdf",
        "--out",
        "out",
        "--max-pixels",
        "1310720",
        "--model-size",
    ];
    assert_eq!(run_in(dir.path(), &args).code, Some(0));
    let page = &lines(&dir.path().join("out/manifest.jsonl"))[0];
    assert_eq!(
        (&page["width"], &page["height"]),
        (&960.into(), &1344.into())
    );
    // It is another request than the cap alone.
    let capped = run_in(dir.path(), &args[..6]);
    assert_eq!(capped.code, Some(2));
    assert!(
        capped.stderr.contains(
            "expected `--max-pixels 1310720 --format png`, found `--max-pixels 1310720 --model-size --format png`"
        ),
        "{}",
        capped.stderr
    );
}

#[test]
fn hayro_draws_only_when_it_is_asked_to_and_is_marked() {
    let dir = folder(&[("in/a.pdf", document(2))]);
    let args = ["rasterize", "in", "--out", "out", "--engine", "hayro"];
    let said = run_in(dir.path(), &args);
    if !cfg!(feature = "hayro") {
        assert_eq!(said.code, Some(2));
        assert!(
            said.stderr.contains("built without the engine `hayro`"),
            "{}",
            said.stderr
        );
        assert!(!dir.path().join("out").exists());
        return;
    }
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let pages = lines(&dir.path().join("out/manifest.jsonl"));
    assert_eq!(pages.len(), 2);
    for page in &pages {
        assert_eq!(page["rasterizer"], "hayro 0.9.0");
        assert_eq!(
            (&page["width"], &page["height"]),
            (&300.into(), &150.into())
        );
        let file = dir.path().join("out").join(page["file"].as_str().unwrap());
        let png = fs::read(file).unwrap();
        // The second page has red letters, the first has black ones.
        assert_eq!(png[25], if page["page"] == 1 { 0 } else { 2 });
    }
    let mixed = run_in(dir.path(), &args[..4]);
    assert_eq!(mixed.code, Some(2));
    assert!(
        mixed.stderr.contains(
            "expected `--dpi 150 --format png`, found `--dpi 150 --format png --engine hayro`"
        ),
        "{}",
        mixed.stderr
    );
}

/// What version 1 wrote is resumed, and its pages without facts are counted.
#[test]
fn a_manifest_of_version_1_is_read() {
    let dir = folder(&[("in/a.pdf", document(2))]);
    let args = ["rasterize", "in", "--out", "out"];
    assert_eq!(run_in(dir.path(), &args).code, Some(0));
    let path = dir.path().join("out/manifest.jsonl");
    let mut pages = lines(&path);
    for page in &mut pages {
        let page = page.as_object_mut().unwrap();
        page.remove("content");
        page.insert("version".into(), 1.into());
        page.insert("text_chars".into(), 5.into());
    }
    let text: Vec<String> = pages.iter().map(Value::to_string).collect();
    fs::write(&path, text.join("\n") + "\n").unwrap();
    let said = run_in(dir.path(), &args);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("0 written, 2 kept")
            && said
                .stdout
                .contains("2 pages of an older vlft without text-layer facts"),
        "{}",
        said.stdout
    );
}
