//! Names and images on small tables.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::build::images::{add_loose, document};

/// `x.pdf*2` is a rasterized document of two pages, `x_1.jpg` a loose image.
fn images(files: &[&str]) -> Images {
    let mut images = Images::default();
    let (documents, loose): (Vec<&str>, Vec<&str>) = files.iter().partition(|f| f.contains('*'));
    for name in documents {
        let (name, pages) = name.split_once('*').unwrap();
        document(&mut images, name, pages.parse().unwrap());
    }
    let loose = loose.into_iter().map(|f| Path::new("d").join(f)).collect();
    add_loose(&mut images, 0, Path::new("d"), loose);
    images
}

/// What each label got, as `step: files` or the reason why it got nothing.
fn assigned(labels: &[&str], files: &[&str]) -> Vec<String> {
    let images = images(files);
    let names: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
    let file_names = |reading: usize| -> Vec<String> {
        let files = &images.readings[reading].files;
        files
            .iter()
            .map(|f| {
                images.files[*f]
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    assign(&names, &images, &BTreeMap::new())
        .into_iter()
        .map(|found| match found {
            Match::Found { reading, step } => {
                format!("{}: {}", step.id(), file_names(reading).join(" "))
            }
            Match::Ambiguous { .. } => "ambiguous".into(),
            Match::NotWhole { .. } => "not whole".into(),
            Match::Taken { by, .. } => format!("taken by {}", labels[by]),
            Match::Nothing => "nothing".into(),
        })
        .collect()
}

#[test]
fn names_and_images_meet_exactly_or_explained_or_not_at_all() {
    for (labels, files, expected) in [
        // Plain cases.
        (
            &["a.pdf"][..],
            &["a.pdf*2"][..],
            &["exact: a.pdf-1 a.pdf-2"][..],
        ),
        (&["a.PDF"], &["a.pdf*1"], &["stem: a.pdf-1"]),
        (
            &["a.pdf"],
            &["a_1.jpg", "a_2.jpg"],
            &["stem: a_1.jpg a_2.jpg"],
        ),
        (
            &["a.pdf"],
            &["a_single_page.jpg"],
            &["stem: a_single_page.jpg"],
        ),
        (&["a.pdf"], &["A.JPG"], &["case: A.JPG"]),
        (&["a.pdf"], &["b.jpg"], &["nothing"]),
        // Never by prefix.
        (&["inv_1.pdf"], &["inv_10.jpg"], &["nothing"]),
        (
            &["inv_1.pdf", "inv_10.pdf"],
            &["inv_10.jpg"],
            &["nothing", "stem: inv_10.jpg"],
        ),
        (
            &["inv_1.pdf", "inv_10.pdf"],
            &["inv_10.pdf*3", "inv_1.pdf*1"],
            &[
                "exact: inv_1.pdf-1",
                "exact: inv_10.pdf-1 inv_10.pdf-2 inv_10.pdf-3",
            ],
        ),
        (
            &["inv.pdf", "inv_10.pdf"],
            &["inv.jpg", "inv_10.jpg"],
            &["stem: inv.jpg", "stem: inv_10.jpg"],
        ),
        (&["inv.pdf"], &["inv_10.jpg"], &["not whole"]),
        // A page of one, or a document of its own?
        (
            &["a.pdf", "a_1.pdf"],
            &["a_1.jpg"],
            &["ambiguous", "ambiguous"],
        ),
        (
            &["a.pdf", "a_1.pdf"],
            &["a.jpg", "a_1.jpg"],
            &["stem: a.jpg", "stem: a_1.jpg"],
        ),
        (
            &["a.pdf", "a_1.pdf"],
            &["a_1.jpg", "a_2.jpg", "a_1_1.jpg"],
            &["stem: a_1.jpg a_2.jpg", "stem: a_1_1.jpg"],
        ),
        (
            &["a.pdf", "a_1.pdf"],
            &["a_1.jpg", "a_2.jpg", "a_4.jpg"],
            &["not whole", "ambiguous"],
        ),
        (
            &["a.pdf", "a_1.pdf"],
            &["a.pdf*1", "a_1.jpg"],
            &["exact: a.pdf-1", "stem: a_1.jpg"],
        ),
        (&["a_1.pdf"], &["a_1.jpg", "a_2.jpg"], &["stem: a_1.jpg"]),
        // Pages.
        (
            &["a.pdf"],
            &["a_1.jpg", "a_2.jpg", "a_4.jpg"],
            &["not whole"],
        ),
        (&["a.pdf"], &["a_2.jpg", "a_3.jpg"], &["not whole"]),
        (&["a.pdf"], &["a_1.jpg", "a-p1.jpg"], &["ambiguous"]),
        (&["a.pdf"], &["a.jpg", "a.png"], &["ambiguous"]),
        (&["a.pdf"], &["x/a_1.jpg", "y/a_1.jpg"], &["ambiguous"]),
        (
            &["y/a.pdf"],
            &["x/a_1.jpg", "y/a_1.jpg"],
            &["stem: a_1.jpg"],
        ),
        (&["C:\\scan\\a.pdf"], &["a_1.jpg"], &["stem: a_1.jpg"]),
        // A normalised name that two share.
        (
            &["a b.pdf", "a_b.pdf"],
            &["a  b.jpg"],
            &["ambiguous", "ambiguous"],
        ),
        (
            &["a b.pdf", "a_b.pdf"],
            &["a b.jpg"],
            &["stem: a b.jpg", "taken by a b.pdf"],
        ),
        (&["a b.pdf"], &["a_b.jpg", "a__b.jpg"], &["ambiguous"]),
        // A copy's pages are pages, not copies.
        (
            &["a.pdf"],
            &["a - Copy_1.jpg", "a - Copy_2.jpg"],
            &["copy-word: a - Copy_1.jpg a - Copy_2.jpg"],
        ),
        (&["a.pdf"], &["a copy 2.jpg"], &["copy-word: a copy 2.jpg"]),
        // Copies keep apart from pages.
        (&["a (1).pdf"], &["a_1.jpg"], &["nothing"]),
        (
            &["a (1).pdf", "a.pdf"],
            &["a_1.jpg", "a_1_.jpg"],
            &["copy-number: a_1_.jpg", "stem: a_1.jpg"],
        ),
        (
            &["a _1_.PDF"],
            &["a (1).pdf*2"],
            &["copy-number: a (1).pdf-1 a (1).pdf-2"],
        ),
    ] {
        assert_eq!(assigned(labels, files), expected, "{labels:?} in {files:?}");
    }
}

#[test]
fn the_first_directory_that_has_a_document_gives_it() {
    let mut images = images(&["a_1.jpg"]);
    add_loose(
        &mut images,
        1,
        Path::new("e"),
        vec!["e/a_1.jpg".into(), "e/b.jpg".into()],
    );
    let found = assign(&["a.pdf".into(), "b.pdf".into()], &images, &BTreeMap::new());
    let roots: Vec<usize> = found
        .iter()
        .map(|m| match m {
            Match::Found { reading, .. } => images.readings[*reading].root,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(roots, [0, 1]);
}

#[test]
fn a_hostile_folder_costs_little() {
    let labels: Vec<String> = (0..400)
        .map(|n| format!("{}a{}.pdf", " ".repeat(n % 20 + 1), " ".repeat(n / 20)))
        .collect();
    let files: Vec<String> = (1..400)
        .map(|n| format!("a {}.jpg", " ".repeat(n)))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let start = std::time::Instant::now();
    let found = assign(&labels, &images(&files), &BTreeMap::new());
    assert!(found.iter().all(|m| !matches!(m, Match::Found { .. })));
    assert!(start.elapsed().as_secs() < 120);
}

proptest! {
    /// Whatever the names: no file goes to two labels, and a label's files carry its name.
    #[test]
    fn no_file_is_used_twice_and_none_by_prefix(
        labels in prop::collection::btree_set("(inv|a)(_|-| )?1?0?( \\(1\\)|_1_)?", 1..6),
        files in prop::collection::btree_set("(inv|a|A)(_|-| )?1?0?(_[0-3]|-p1|_single_page| \\(1\\)_1|_1_)?", 1..8),
    ) {
        let labels: Vec<String> = labels.into_iter().collect();
        let files: Vec<String> = files.into_iter().map(|f| f + ".jpg").collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let images = images(&files);
        let mut used = BTreeSet::new();
        for (label, found) in labels.iter().zip(assign(&labels, &images, &BTreeMap::new())) {
            if let Match::Found { reading, step } = found {
                let reading = &images.readings[reading];
                prop_assert_eq!(step.key(label), step.key(&reading.name));
                prop_assert!(reading.is_whole());
                for file in &reading.files {
                    prop_assert!(used.insert(*file));
                }
            }
        }
    }
}
