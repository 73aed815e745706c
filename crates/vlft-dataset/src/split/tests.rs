//! The whole of `split` and of `split --check` on small files.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use vlft_base::Kind;

use super::*;
use crate::jsonl::shown;
use crate::perceptual::tests::page_of_boxes;

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
            exact: false,
            stratify: None,
            looks: true,
            existing: Existing::Refuse,
            dry_run: false,
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

fn split(options: &Options) -> Result<SplitReport> {
    super::split(options, &|_, _| {})
}

fn check(inputs: &[PathBuf], by: &str) -> Result<CheckReport> {
    super::check(inputs, by, true, &|_, _| {})
}

/// As [`record`], with an answer.
fn answered(id: &str, document: &str, images: &[&str], answer: &str) -> String {
    let mut record = record(id, Some(document), images);
    record["messages"][1]["content"][0]["text"] = answer.into();
    format!("{record}\n")
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
    assert_eq!((report.joined.by_source, report.joined.by_image), (1, 1));
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
fn exactly_the_sides_of_a_small_set_have_the_shares_that_were_asked() {
    let named = forty();
    let records: Vec<_> = named
        .iter()
        .map(|(id, doc)| (id.as_str(), Some(doc.as_str()), &[][..]))
        .collect();
    let folder = Folder::new(&records);
    for seed in 0..10 {
        let options = Options {
            seed,
            exact: true,
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
fn a_seed_that_deals_badly_is_told_with_a_better_one() {
    let named = forty();
    let records: Vec<_> = named
        .iter()
        .map(|(id, doc)| (id.as_str(), Some(doc.as_str()), &[][..]))
        .collect();
    let folder = Folder::new(&records);
    let mut bad = 0;
    for seed in 0..10 {
        let options = Options {
            seed,
            existing: Existing::Replace,
            ..folder.options()
        };
        let report = split(&options).unwrap();
        let Some(suggested) = &report.suggested else {
            continue;
        };
        bad += 1;
        assert!(
            report
                .warning()
                .unwrap()
                .hint_text()
                .unwrap()
                .contains("--seed")
        );
        let better = split(&Options {
            seed: suggested.seed,
            ..options
        })
        .unwrap();
        let sizes: Vec<u64> = better.sides.iter().map(|side| side.records).collect();
        assert_eq!(sizes, suggested.records);
        assert!(better.warning().is_none(), "{better}");
    }
    assert!(bad > 2, "{bad}");
}

#[test]
fn the_same_answer_ties_documents_but_an_empty_or_common_one_does_not() {
    let folder = Folder::new(&[]);
    let mut text = String::new();
    for n in 0..40 {
        let answer = match n {
            // The same in another order of keys.
            0 => r#"{"bl":"X1","days":7}"#.to_owned(),
            1 => r#"{ "days": 7, "bl": "X1" }"#.to_owned(),
            2..10 => r#"{"bl":null,"days":""}"#.to_owned(),
            10..20 => r#"{"kind":"invoice"}"#.to_owned(),
            _ => format!(r#"{{"bl":"Y{n}"}}"#),
        };
        text += &answered(&format!("r{n}"), &format!("d{n}"), &[], &answer);
    }
    fs::write(folder.path("all.jsonl"), text).unwrap();
    let report = split(&folder.options()).unwrap();
    assert_eq!(report.joined.by_target, 1);
    assert_eq!(report.common_targets, ["r10"]);
    assert_eq!(folder.side_of("r0"), folder.side_of("r1"));
}

#[test]
fn pages_that_look_the_same_tie_documents_and_leak() {
    let folder = Folder::new(&[]);
    // A smaller copy of the first page is the second.
    let mut text = String::new();
    for n in 0..30u32 {
        let mut image = page_of_boxes(n);
        if n == 1 {
            let half = image::imageops::FilterType::Triangle;
            image = image::imageops::resize(&page_of_boxes(0), 240, 336, half);
        }
        image.save(folder.path(&format!("pages/{n}.png"))).unwrap();
        text += &answered(
            &format!("r{n}"),
            &format!("d{n}"),
            &[&format!("{n}.png")],
            &format!("{{\"n\":{n}}}"),
        );
    }
    fs::write(folder.path("all.jsonl"), &text).unwrap();
    let report = split(&folder.options()).unwrap();
    assert_eq!((report.joined.by_image, report.joined.by_looks), (0, 1));
    assert_eq!(folder.side_of("r0"), folder.side_of("r1"));
    let bytes_only = Options {
        looks: false,
        existing: Existing::Replace,
        ..folder.options()
    };
    assert_eq!(split(&bytes_only).unwrap().joined.by_looks, 0);

    // On two sides they are a leak of their own kind.
    fs::create_dir(folder.path("theirs")).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.replace("pages/", "../pages/") + "\n")
        .collect();
    fs::write(
        folder.path("theirs/train.jsonl"),
        lines[0].clone() + &lines[2],
    )
    .unwrap();
    fs::write(
        folder.path("theirs/val.jsonl"),
        lines[1].clone() + &lines[3],
    )
    .unwrap();
    let report = check(&[folder.path("theirs")], "document").unwrap();
    let kinds: Vec<LeakKind> = report.leaks.iter().map(|leak| leak.kind).collect();
    assert_eq!(kinds, [LeakKind::NearImage]);
    assert!(
        report.leaks[0].places[0].ends_with("train.jsonl:1")
            && report.leaks[0].places[1].ends_with("val.jsonl:1")
    );
    assert!(
        report.leaks[0].what.contains("pages/0.png` and `"),
        "{}",
        report.leaks[0].what
    );
}

#[test]
fn the_spread_of_a_value_is_told_and_kept_exactly() {
    let folder = Folder::new(&[]);
    let mut text = String::new();
    for n in 0..120 {
        let carrier = ["A", "B", "C"][n % 3];
        text += &answered(
            &format!("r{n}"),
            &format!("d{n}"),
            &[],
            &format!(r#"{{"carrier":"{carrier}","n":{n}}}"#),
        );
    }
    fs::write(folder.path("all.jsonl"), text).unwrap();
    let by = Stratify::parse("target.carrier").unwrap();
    let pure = Options {
        stratify: Some(by),
        ..folder.options()
    };
    let report = split(&pure).unwrap();
    assert_eq!(
        report
            .strata
            .iter()
            .map(|s| s.records.iter().sum::<u64>())
            .sum::<u64>(),
        120
    );
    assert!(report.strata.iter().any(|stratum| stratum.deviation > 0.0));
    let exact = Options {
        exact: true,
        existing: Existing::Replace,
        ..pure
    };
    let report = split(&exact).unwrap();
    for stratum in &report.strata {
        assert_eq!(stratum.records, [32, 4, 4], "{:?}", stratum.value);
    }
    assert!(
        report
            .to_string()
            .contains("target.carrier: 3 values; furthest"),
        "{report}"
    );
}

#[test]
fn shares_that_too_many_values_do_not_allow_are_warned_of() {
    let folder = Folder::new(&[]);
    let text: String = (0..40)
        .map(|n| {
            answered(
                &format!("r{n}"),
                &format!("d{n}"),
                &[],
                &format!(r#"{{"n":{n}}}"#),
            )
        })
        .collect();
    fs::write(folder.path("all.jsonl"), text).unwrap();
    let report = split(&Options {
        exact: true,
        stratify: Some(Stratify::parse("target.n").unwrap()),
        ..folder.options()
    });
    // A value of one document goes to train, the largest share.
    let warning = report.unwrap().warning().unwrap();
    let hint = warning.hint_text().unwrap();
    assert!(hint.starts_with("values that few documents have"), "{hint}");
}

#[test]
fn a_copy_does_not_move_its_document() {
    let ids: Vec<String> = (0..60).map(|n| format!("r{n}")).collect();
    let documents: Vec<String> = (0..30)
        .flat_map(|n| [format!("bl{n}.pdf"), format!("bl{n} (1).pdf")])
        .collect();
    let images: Vec<String> = (0..60).map(|n| format!("page{}#{n}.png", n / 2)).collect();
    let image_of: Vec<[&str; 1]> = images.iter().map(|image| [image.as_str()]).collect();
    let records: Vec<(&str, Option<&str>, &[&str])> = (0..60)
        .map(|n| {
            (
                ids[n].as_str(),
                Some(documents[n].as_str()),
                &image_of[n][..],
            )
        })
        .collect();
    let originals: Vec<_> = records.iter().step_by(2).copied().collect();
    let (small, large) = (Folder::new(&originals), Folder::new(&records));
    split(&small.options()).unwrap();
    assert_eq!(split(&large.options()).unwrap().joined.by_image, 30);
    for n in (0..60).step_by(2) {
        assert_eq!(small.side_of(&ids[n]), large.side_of(&ids[n]));
        assert_eq!(large.side_of(&ids[n]), large.side_of(&ids[n + 1]));
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
    split(&small.options()).unwrap();
    split(&large.options()).unwrap();
    let sides = |folder: &Folder| -> BTreeMap<String, &str> {
        let ids_of = |side| folder.ids(side).into_iter().map(move |id| (id, side));
        NAMES.into_iter().flat_map(ids_of).collect()
    };
    let (before, after) = (sides(&small), sides(&large));
    assert_eq!(before.len(), 800);
    assert!(before.iter().all(|(id, side)| after[id] == *side));
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
         2 images could not be decoded: compared by bytes only\n\
         1 image could not be read and were not compared\n\
         leaks: 1 by id, 1 by document, 1 by image"
    );
    let error = check(&[folder.path("splits/val.jsonl")], "document").unwrap_err();
    assert_eq!(error.kind(), Kind::NothingToDo);
}
