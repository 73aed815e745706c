//! The whole of `split` and of `split --check` on small files.

use std::fs;

use serde_json::json;

use vlft_base::Kind;

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    /// Records given as (id, document, images); the images are files with the bytes of their name up
    /// to a `#`, so `a#1.png` and `a#2.png` are two files with the same bytes.
    fn new(records: &[(&str, Option<&str>, &[&str])]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path("pages")).unwrap();
        let mut text = String::new();
        for (id, document, images) in records {
            for image in *images {
                let bytes = image.split('#').next().unwrap();
                fs::write(folder.path("pages").join(image), bytes).unwrap();
            }
            text += &format!("{}\n", record(id, *document, images));
        }
        fs::write(folder.path("all.jsonl"), text).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> Options {
        Options {
            file: self.path("all.jsonl"),
            out: self.path("splits"),
            fractions: Fractions::new(0.8, 0.1, 0.1).unwrap(),
            by: "document".into(),
            seed: 42,
            existing: Existing::Refuse,
        }
    }

    /// The ids of a side.
    fn ids(&self, side: &str) -> Vec<String> {
        let records = jsonl::load(&self.path(&format!("splits/{side}.jsonl"))).unwrap();
        records.into_iter().map(|n| n.record.id).collect()
    }

    fn side_of(&self, id: &str) -> &'static str {
        NAMES
            .into_iter()
            .find(|side| self.ids(side).iter().any(|i| i == id))
            .unwrap()
    }
}

fn record(id: &str, document: Option<&str>, images: &[&str]) -> serde_json::Value {
    let mut content: Vec<_> = images
        .iter()
        .map(|i| json!({"type": "image", "image": format!("pages/{i}")}))
        .collect();
    content.push(json!({"type": "text", "text": "Read."}));
    let mut record = json!({"id": id, "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": [{"type": "text", "text": "{}"}]}]});
    if let Some(document) = document {
        record["meta"] = json!({"document": document});
    }
    record
}

fn forty() -> Vec<(String, String)> {
    (0..40)
        .map(|n| (format!("r{n}"), format!("d{}", n / 2)))
        .collect()
}

#[test]
fn documents_stay_together_and_nothing_is_lost() {
    let named = forty();
    let records: Vec<_> = named
        .iter()
        .map(|(id, doc)| (id.as_str(), Some(doc.as_str()), &[][..]))
        .collect();
    let folder = Folder::new(&records);
    let report = split(&folder.options()).unwrap();
    assert_eq!(report.sides.iter().map(|s| s.records).sum::<u64>(), 40);
    assert_eq!(report.sides.iter().map(|s| s.documents).sum::<u64>(), 20);
    let mut all: Vec<String> = NAMES.iter().flat_map(|side| folder.ids(side)).collect();
    all.sort();
    let mut expected: Vec<String> = named.iter().map(|(id, _)| id.clone()).collect();
    expected.sort();
    assert_eq!(all, expected);
    for pair in named.chunks(2) {
        assert_eq!(folder.side_of(&pair[0].0), folder.side_of(&pair[1].0));
    }
    assert!(
        check(&[folder.path("splits")], "document")
            .unwrap()
            .is_clean()
    );

    // The same again is refused; with `--force` it gives the same files.
    assert_eq!(
        split(&folder.options()).unwrap_err().message(),
        "output exists already"
    );
    let before = fs::read(folder.path("splits/train.jsonl")).unwrap();
    let replace = Options {
        existing: Existing::Replace,
        ..folder.options()
    };
    split(&replace).unwrap();
    assert_eq!(fs::read(folder.path("splits/train.jsonl")).unwrap(), before);

    // Without a share there is no file, and an old one does not stay.
    let no_test = Options {
        fractions: Fractions::new(0.9, 0.1, 0.0).unwrap(),
        ..replace
    };
    assert_eq!(split(&no_test).unwrap().sides.len(), 2);
    assert!(!folder.path("splits/test.jsonl").exists());
}

#[test]
fn documents_that_share_a_page_or_a_source_go_to_one_side() {
    let ids: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
    let images: Vec<String> = (0..30).map(|n| format!("page{n}.png")).collect();
    // r0 and r1 show the same bytes under two names; r2 is another scan of r3's file.
    let pairs: Vec<[&str; 2]> = (0..30)
        .map(|n| match n {
            0 => ["same#1.png", "page0.png"],
            1 => ["same#2.png", "page1.png"],
            _ => [images[n].as_str(), "blank.png"],
        })
        .collect();
    let mut records: Vec<(&str, Option<&str>, &[&str])> = Vec::new();
    for (id, pair) in ids.iter().zip(&pairs) {
        records.push((id, Some(id), pair));
    }
    let folder = Folder::new(&records);
    let text = fs::read_to_string(folder.path("all.jsonl")).unwrap();
    let text = text
        .replace(
            r#""document":"r2""#,
            r#""document":"r2","source_sha256":"ab""#,
        )
        .replace(
            r#""document":"r3""#,
            r#""document":"r3","source_sha256":"ab""#,
        );
    fs::write(folder.path("all.jsonl"), text).unwrap();
    let report = split(&folder.options()).unwrap();
    assert_eq!((report.joined_by_source, report.joined_by_image), (1, 1));
    assert_eq!(
        report.common_images.len(),
        1,
        "the blank page ties nothing together"
    );
    assert_eq!(folder.side_of("r0"), folder.side_of("r1"));
    assert_eq!(folder.side_of("r2"), folder.side_of("r3"));
    // Image paths lead from the new place to the same files.
    let train = jsonl::load(&folder.path("splits/train.jsonl")).unwrap();
    let image = train[0].record.images().next().unwrap();
    assert!(image.starts_with("../pages/") && folder.path("splits").join(image).is_file());
}

#[test]
fn the_sides_of_a_small_set_have_the_shares_that_were_asked() {
    let named = forty();
    let records: Vec<_> = named
        .iter()
        .map(|(id, doc)| (id.as_str(), Some(doc.as_str()), &[][..]))
        .collect();
    let folder = Folder::new(&records);
    for seed in 0..10 {
        let options = Options {
            seed,
            existing: Existing::Replace,
            ..folder.options()
        };
        let report = split(&options).unwrap();
        let sizes: Vec<u64> = report.sides.iter().map(|side| side.records).collect();
        assert_eq!(sizes, [32, 4, 4], "seed {seed}");
        assert!(report.warning().is_none());
    }
}

#[test]
fn shares_that_documents_do_not_allow_are_warned_of() {
    let ids: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
    // Two documents of 15 records each.
    let documents = ["a", "b"];
    let records: Vec<(&str, Option<&str>, &[&str])> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| (id.as_str(), Some(documents[n % 2]), &[][..]))
        .collect();
    let report = split(&Folder::new(&records).options()).unwrap();
    let warning = report.warning().unwrap();
    assert_eq!(warning.message(), "the shares are far from what was asked");
    assert_eq!(
        warning.causes()[0],
        "train has 50.0 % of the records, asked was 80.0 %"
    );
}

#[test]
fn a_growing_dataset_keeps_its_sides() {
    let named: Vec<(String, String)> = (0..900)
        .map(|n| (format!("r{n}"), format!("d{n}")))
        .collect();
    let records: Vec<_> = named
        .iter()
        .map(|(id, doc)| (id.as_str(), Some(doc.as_str()), &[][..]))
        .collect();
    let small = Folder::new(&records[..800]);
    let large = Folder::new(&records);
    let moved = split(&small.options()).unwrap().moved + split(&large.options()).unwrap().moved;
    let sides = |folder: &Folder| -> BTreeMap<String, &str> {
        let ids_of = |side| folder.ids(side).into_iter().map(move |id| (id, side));
        NAMES.into_iter().flat_map(ids_of).collect()
    };
    let (before, after) = (sides(&small), sides(&large));
    let changed = before
        .iter()
        .filter(|(id, side)| after[*id] != **side)
        .count();
    assert!(
        changed as u64 <= moved && changed < 20,
        "{changed} of 800, {moved}"
    );
}

#[test]
fn nothing_is_written_when_a_record_or_an_image_is_bad() {
    let folder = Folder::new(&[("a", Some("a"), &["1.png"]), ("b", None, &["2.png"])]);
    fs::remove_file(folder.path("pages/2.png")).unwrap();
    let error = split(&folder.options()).unwrap_err();
    assert_eq!(
        (error.rule(), error.places()[0].line),
        (Some("image-missing"), Some(2))
    );
    assert!(!folder.path("splits").exists());

    fs::write(folder.path("pages/2.png"), "x").unwrap();
    let report = split(&folder.options()).unwrap();
    assert_eq!(report.without_key, 1);
    let by_type = Options {
        by: "doc_type".into(),
        existing: Existing::Replace,
        ..folder.options()
    };
    assert_eq!(
        split(&by_type).unwrap_err().message(),
        "no record has `meta.doc_type`"
    );

    fs::write(folder.path("all.jsonl"), "{\"id\":\"a\"}\n\n{").unwrap();
    let error = split(&Options {
        existing: Existing::Replace,
        ..folder.options()
    })
    .unwrap_err();
    assert_eq!(
        (error.rule(), error.further().len()),
        (Some("missing-key"), 1)
    );
}

#[test]
fn leaks_of_foreign_splits_are_named_by_kind_and_place() {
    let folder = Folder::new(&[]);
    fs::create_dir(folder.path("splits")).unwrap();
    for image in ["p1.png", "p2.png"] {
        fs::write(folder.path("pages").join(image), "same bytes").unwrap();
    }
    let line = |id: &str, document: &str, image: &str| {
        record(id, Some(document), &[image])
            .to_string()
            .replace("pages/", "../pages/")
            + "\n"
    };
    fs::write(
        folder.path("splits/train.jsonl"),
        line("a", "d1", "p1.png") + &line("b", "d2", "p1.png"),
    )
    .unwrap();
    fs::write(folder.path("splits/val.jsonl"), line("c", "d3", "p2.png")).unwrap();
    fs::write(
        folder.path("splits/test.jsonl"),
        line("b", "d4", "none.png") + &line("e", "d3", "none.png"),
    )
    .unwrap();
    let report = check(&[folder.path("splits")], "document").unwrap();
    let prefix = format!("{}/", shown(folder.0.path()));
    assert_eq!(
        report.to_string().replace(&prefix, ""),
        "        2 records   splits/test.jsonl\n        2 records   splits/train.jsonl\n        1 record    splits/val.jsonl\n\
         id `b` in splits/test.jsonl:1 and splits/train.jsonl:2\n\
         document `d3` in splits/test.jsonl:2 and splits/val.jsonl:1\n\
         image `pages/p1.png` in splits/train.jsonl:1 and splits/val.jsonl:1\n\
         1 image could not be read and were not compared\n\
         leaks: 1 by id, 1 by document, 1 by image"
    );
    let error = check(&[folder.path("splits/val.jsonl")], "document").unwrap_err();
    assert_eq!(error.kind(), Kind::NothingToDo);
}
