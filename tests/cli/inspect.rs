//! `vlft inspect` on PDFs of every kind.

use std::fs;

use serde_json::Value;

use crate::support::pdf::{Page, first_more, pdf, pdf_with, stream};
use crate::support::{repository, run_in};

const TEXT: &str = "BT /F1 12 Tf 20 50 Td (A born digital line of text) Tj ET";
const INVISIBLE: &str = "BT 3 Tr /F1 12 Tf 20 50 Td (What the OCR program read here) Tj ET";
const WHOLE: &str = "q 200 0 0 100 0 0 cm /I Do Q";

/// A document of pages whose content may draw the image `/I` and the form `/F`, which draws the
/// image on the unit square.
fn with_image(pages: &[(&str, u32)]) -> Vec<u8> {
    let page = |(content, degrees): &(&str, u32)| Page::new(200, 100, content).rotated(*degrees);
    let first = first_more(&pages.iter().map(page).collect::<Vec<_>>());
    let resources = format!("/XObject << /I {first} 0 R /F {} 0 R >>", first + 1);
    let pages: Vec<Page> = pages
        .iter()
        .map(|p| page(p).resources(&resources))
        .collect();
    let image = "/Type /XObject /Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8 \
                 /ColorSpace /DeviceGray";
    let form = format!(
        "/Type /XObject /Subtype /Form /BBox [0 0 1 1] /Resources << /XObject << /I {first} 0 R >> >>"
    );
    pdf_with(&pages, &[stream(image, "x"), stream(&form, "/I Do")])
}

fn inspect(files: &[(&str, Vec<u8>)], args: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("pw"), "schlüssel\n").unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join("in").join(name), bytes).unwrap();
    }
    let said = run_in(dir.path(), &[&["inspect", "in"], args].concat());
    (said.code, said.stdout, said.stderr)
}

#[test]
fn every_kind_of_page_gets_its_verdict() {
    let strips: String = (0..10)
        .map(|n| format!("q 200 0 0 10 0 {} cm /I Do Q ", n * 10))
        .collect();
    let in_a_form = "q 2 0 0 1 0 0 cm q 100 0 0 100 0 0 cm /F Do Q Q";
    let ocr = format!("{WHOLE} {INVISIBLE}");
    let under = format!("{TEXT} {WHOLE}");
    let over = format!("{WHOLE} {TEXT}");
    let pages = [
        (TEXT, 0, "born_digital", 22, 0),
        (WHOLE, 0, "scanned", 0, 0),
        (WHOLE, 90, "scanned", 0, 0),
        (&strips, 270, "scanned", 0, 0),
        (in_a_form, 0, "scanned", 0, 0),
        (&ocr, 0, "scanned_with_ocr", 25, 25),
        // Written first and painted over.
        (&under, 180, "scanned_with_ocr", 22, 22),
        (&over, 0, "mixed", 22, 0),
        ("0 0 50 50 re f", 0, "drawn", 0, 0),
        ("", 0, "empty", 0, 0),
        (TEXT, 90, "born_digital", 22, 0),
    ];
    let document = with_image(&pages.map(|(content, degrees, ..)| (content, degrees)));
    let (code, stdout, stderr) = inspect(&[("all.pdf", document)], &["--format", "json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let seen = report["documents"][0]["inspected"].as_array().unwrap();
    for (page, (content, degrees, verdict, chars, invisible)) in seen.iter().zip(pages) {
        let found = &page["content"];
        assert_eq!(found["verdict"], verdict, "{content}: {page}");
        assert_eq!(found["text_chars"], chars, "{content}: {page}");
        assert_eq!(found["invisible_chars"], invisible, "{content}: {page}");
        assert_eq!(page["rotation"], degrees, "{content}: {page}");
        let is_high = degrees == 90 || degrees == 270;
        assert_eq!(page["width"], if is_high { 100.0 } else { 200.0 });
    }
    assert_eq!(seen.len(), pages.len());
    assert_eq!(report["documents"][0]["verdict"], "mixed");
    assert_eq!(report["pages"]["by_verdict"]["scanned"], 4);
}

#[test]
fn the_table_says_which_documents_need_a_model_that_looks() {
    let encrypted = fs::read(repository().join("tests/fixtures/pdf/encrypted.pdf")).unwrap();
    let files = [
        (
            "ABCDR2017000001_C _2_.PDF",
            with_image(&[(WHOLE, 0), (WHOLE, 0)]),
        ),
        ("digital.pdf", pdf(&[Page::new(200, 100, TEXT)])),
        ("locked.pdf", encrypted),
        ("half.pdf", with_image(&[(TEXT, 0), (TEXT, 0), (WHOLE, 90)])),
        ("broken.pdf", b"hello".to_vec()),
        (
            "partly.pdf",
            pdf(&[Page::new(200, 100, TEXT), Page::missing()]),
        ),
    ];
    let (code, stdout, stderr) = inspect(&files, &["--password-file", "pw"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        stdout,
        "document                   pages  verdict           vision  notes\n\
         ABCDR2017000001_C _2_.PDF      2  scanned           yes     no text layer\n\
         digital.pdf                    1  born-digital      no\n\
         half.pdf                       3  mixed             yes     pages 1-2 born-digital, 3 scanned, no text layer, turned pages\n\
         locked.pdf                     1  empty             no      opened with a password\n\
         partly.pdf                     2  born-digital      no\n\
         \n\
         documents  6 found: 5 inspected, 1 rejected\n           \
         2 born-digital, 1 scanned, 1 mixed, 1 empty\n\
         pages      9: 4 born-digital, 3 scanned, 1 empty, 1 rejected\n\
         vision     2 of 5 documents and 3 of 8 pages need a model that looks\n"
    );
    assert_eq!(
        stderr,
        "error: 1 of 6 documents could not be inspected, nor 1 page of others\n  \
         --> in/broken.pdf, not a PDF, or damaged beyond repair\n  \
         --> in/partly.pdf, page 2: pdfium cannot read the page\n\n\
         hint: broken: open the files in a viewer; if it repairs them, save them anew and run again\n      \
         page: open the page in a viewer; printing it to a new PDF often repairs it\n"
    );
}

#[test]
fn some_pages_only() {
    let document = with_image(&[(WHOLE, 0), (TEXT, 0), (TEXT, 0)]);
    let (code, stdout, _) = inspect(&[("a.pdf", document)], &["--pages", "2-"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.ends_with(
            "pages      3: 2 born-digital, 1 not asked for\n\
             vision     0 of 1 document and 0 of 2 pages need a model that looks\n"
        ),
        "{stdout}"
    );
}

/// A form of ten forms of ten forms, twelve deep: 10^12 objects in two kilobytes.
#[test]
fn a_page_that_claims_countless_objects_costs_only_itself() {
    let page = || Page::new(72, 72, "/F Do");
    let first = first_more(&[page()]);
    let page = page().resources(&format!("/XObject << /F {first} 0 R >>"));
    let forms: Vec<String> = (0..12)
        .map(|level| {
            let form = "/Type /XObject /Subtype /Form /BBox [0 0 72 72]";
            let inner = format!(
                "{form} /Resources << /XObject << /F {} 0 R >> >>",
                first + level + 1
            );
            match level {
                11 => stream(form, "0 0 9 9 re f"),
                _ => stream(&inner, &"/F Do ".repeat(10)),
            }
        })
        .collect();
    let files = [
        ("bad.pdf", pdf_with(&[page], &forms)),
        ("good.pdf", pdf(&[Page::new(200, 100, TEXT)])),
    ];
    let limits = ["--timeout-secs", "60", "--worker-memory-mib", "400"];
    let (code, stdout, stderr) = inspect(&files, &limits);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stdout.contains("pages      2: 1 born-digital, 1 rejected"),
        "{stdout}"
    );
    assert!(stderr.contains("took more than 400.0 MiB"), "{stderr}");
}

#[test]
fn forms_and_annotations_are_counted_and_links_are_not() {
    let annotation = |more: &str| format!("<< /Type /Annot /Rect [10 10 60 30] {more} >>");
    let blank = || Page::new(200, 100, TEXT);
    let first = first_more(&[blank()]);
    let page = blank().annotations(&format!("{first} 0 R {} 0 R {} 0 R", first + 1, first + 2));
    let document = pdf_with(
        &[page],
        &[
            annotation("/Subtype /Widget /FT /Tx /T (name) /V (value)"),
            annotation("/Subtype /Highlight /QuadPoints [10 30 60 30 10 10 60 10]"),
            annotation("/Subtype /Link"),
        ],
    );
    let (code, stdout, stderr) = inspect(&[("form.pdf", document)], &["--format", "json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let content = &report["documents"][0]["inspected"][0]["content"];
    assert_eq!(
        (&content["form_fields"], &content["annotations"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        report["documents"][0]["reasons"],
        serde_json::json!(["forms_or_annotations"])
    );
}
