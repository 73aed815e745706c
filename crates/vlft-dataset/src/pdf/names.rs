//! What image files are called: `2019/0117.pdf`, page 1 -> `2019/0117-p001.png`.
//!
//! The name is for people; the manifest is what maps a file back to its page. Two documents never
//! get the same name, also where the file system ignores case or Unicode normalisation: documents
//! whose names would meet (`a.pdf` and `a.PDF`, or `A.pdf`) all get a hash of their own
//! (`a~1b2c3d4e-p001.png`).

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::file_names::folded;
use crate::manifest::PageEntry;

/// File systems allow 255 bytes a name; `~12345678-p001.webp.partial` and more must fit behind.
const MAX_NAME_BYTES: usize = 180;

/// The image's path relative to the output directory. Numbers have as many digits as the last
/// page's, at least three, so that names sort by page.
pub(crate) fn page_file(stem: &str, page: u32, pages: u32, extension: &str) -> String {
    let digits = pages.to_string().len().max(3);
    format!("{stem}-p{page:0digits$}.{extension}")
}

/// The inverse: `2019/0117-p001.png` -> `2019/0117`.
fn stem_of(file: &str) -> Option<&str> {
    let (name, _extension) = file.rsplit_once('.')?;
    let (stem, number) = name.rsplit_once("-p")?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(stem)
}

/// A stem for each document. Documents with pages in the manifest keep theirs.
pub(crate) fn stems(documents: &[&str], existing: &[PageEntry]) -> BTreeMap<String, String> {
    let mut stems = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for entry in existing {
        if let Some(stem) = stem_of(&entry.file) {
            taken.insert(folded(stem));
            stems.insert(entry.document.clone(), stem.to_owned());
        }
    }
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for document in documents {
        if !stems.contains_key(*document) {
            groups
                .entry(folded(&plain_stem(document)))
                .or_default()
                .push(document);
        }
    }
    for (key, group) in groups {
        let alone = group.len() == 1 && !taken.contains(&key);
        for document in group {
            let plain = plain_stem(document);
            let stem = match alone && !is_cut(document) {
                true => plain,
                false => hashed(&plain, document, &taken),
            };
            taken.insert(folded(&stem));
            stems.insert(document.to_owned(), stem);
        }
    }
    stems
}

/// The document's path without `.pdf`, with every part made fit for every file system.
fn plain_stem(document: &str) -> String {
    let stem = match document
        .len()
        .checked_sub(4)
        .and_then(|at| document.split_at_checked(at))
    {
        Some((stem, extension)) if extension.eq_ignore_ascii_case(".pdf") => stem,
        _ => document,
    };
    let mut parts: Vec<String> = stem.split('/').map(fit).collect();
    let last = parts.len() - 1;
    for directory in &mut parts[..last] {
        *directory = fit_directory(directory);
    }
    parts.join("/")
}

/// Windows forbids these characters, and dots and spaces at the end.
fn fit(name: &str) -> String {
    let mut fit: String = name
        .chars()
        .map(|c| match c {
            '<' | '>' | ':' | '"' | '\\' | '|' | '?' | '*' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect();
    if fit.len() > MAX_NAME_BYTES {
        fit.truncate(fit.floor_char_boundary(MAX_NAME_BYTES));
    }
    let kept = fit.trim_end_matches(['.', ' ']).len();
    let dropped = fit.len() - kept;
    fit.truncate(kept);
    fit.extend(std::iter::repeat_n('_', dropped));
    if fit.is_empty() {
        fit.push('_');
    }
    fit
}

/// A directory has its name to itself: no device of Windows (`con`, `lpt1`), and nothing that looks
/// like a file we write.
fn fit_directory(name: &str) -> String {
    const OURS: [&str; 6] = [".png", ".jpg", ".webp", ".jsonl", ".journal", ".partial"];
    let lower = name.to_ascii_lowercase();
    match crate::file_names::is_reserved(name) || OURS.iter().any(|end| lower.ends_with(end)) {
        true => format!("{name}_"),
        false => name.to_owned(),
    }
}

/// Whether [`fit`] cut a part, so that another document may have been cut to the same.
fn is_cut(document: &str) -> bool {
    document.split('/').any(|part| part.len() > MAX_NAME_BYTES)
}

fn hashed(stem: &str, document: &str, taken: &BTreeSet<String>) -> String {
    let digest = Sha256::digest(document.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    [8, 64]
        .into_iter()
        .map(|digits| format!("{stem}~{}", &hex[..digits]))
        .find(|name| !taken.contains(&folded(name)))
        .expect("no two documents share a SHA-256")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(documents: &[&str]) -> Vec<String> {
        let stems = stems(documents, &[]);
        documents.iter().map(|d| stems[*d].clone()).collect()
    }

    #[test]
    fn names_stay_readable() {
        for (document, expected) in [
            ("0117.pdf", "0117"),
            (
                "2019/ABCDR2017000001_C _2_.PDF",
                "2019/ABCDR2017000001_C _2_",
            ),
            (
                "FWD_(S)SOME RICE CO.LTD.(C)A BUYER (1).pdf",
                "FWD_(S)SOME RICE CO.LTD.(C)A BUYER (1)",
            ),
            ("no extension", "no extension"),
            ("a.pdf.pdf", "a.pdf"),
            ("a:b?.pdf", "a_b_"),
            ("ends. .pdf", "ends__"),
            ("con/nul.pdf", "con_/nul"),
            ("scans.png/x.pdf", "scans.png_/x"),
            ("Über 東京.pdf", "Über 東京"),
            ("d/.pdf", "d/_"),
        ] {
            assert_eq!(named(&[document]), [expected]);
        }
    }

    #[test]
    fn names_that_would_meet_are_told_apart() {
        let long = "x".repeat(300);
        for pair in [
            ["a.pdf", "a.PDF"],
            ["a.pdf", "A.pdf"],
            ["d/a.pdf", "D/a.pdf"],
            ["e\u{301}.pdf", "\u{e9}.pdf"],
            ["a:.pdf", "a?.pdf"],
            [&format!("{long}1.pdf"), &format!("{long}2.pdf")],
        ] {
            let names = named(&pair);
            assert_ne!(folded(&names[0]), folded(&names[1]), "{pair:?}");
            assert!(
                names.iter().all(|n| n.contains('~') && n.len() < 200),
                "{names:?}"
            );
            // The order of the inputs has no say.
            assert_eq!(
                named(&[pair[1], pair[0]]),
                [names[1].clone(), names[0].clone()]
            );
        }
        // A document that is called like the other's way out.
        let first = &named(&["a.pdf", "a.PDF"])[0];
        let third = format!("{first}.pdf");
        let all = named(&["a.pdf", "a.PDF", &third]);
        assert_eq!(BTreeSet::from_iter(&all).len(), 3, "{all:?}");
    }

    #[test]
    fn documents_keep_the_names_they_have() {
        let entry = |document: &str, file: &str| PageEntry {
            document: document.to_owned(),
            file: file.to_owned(),
            ..crate::manifest::tests::entry("", 1)
        };
        let existing = [entry("a.pdf", "a-p001.png")];
        let names = stems(&["a.pdf", "A.pdf", "b-p2.pdf"], &existing);
        assert_eq!(names["a.pdf"], "a");
        assert!(names["A.pdf"].starts_with("A~"));
        assert_eq!(names["b-p2.pdf"], "b-p2");
    }

    #[test]
    fn a_stem_is_read_back_from_its_file() {
        for (stem, page, pages, file) in [
            ("a", 1, 9, "a-p001.png"),
            ("d/a-p001", 7, 999, "d/a-p001-p007.png"),
            ("a.b", 12, 1000, "a.b-p0012.png"),
        ] {
            assert_eq!(page_file(stem, page, pages, "png"), file);
            assert_eq!(stem_of(file), Some(stem));
        }
        assert_eq!(stem_of("photo.png"), None);
        assert_eq!(stem_of("a-px.png"), None);
    }
}
