//! The committed example is what the generator makes, to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vlft_base::output::Existing;
use vlft_example::documents::{Options, PROMPT, generate, showcase, write_smallest};

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bill-of-lading")
}

/// Every file below `dir` by its path inside, with `/`.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![(dir.to_path_buf(), String::new())];
    while let Some((dir, prefix)) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                pending.push((entry.path(), format!("{name}/")));
            } else {
                found.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

#[test]
fn generating_again_gives_the_committed_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("example");
    let summary = generate(&Options::default(), &out).unwrap();
    let (made, kept) = (files(&out), files(&committed()));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made), names(&kept));
    let differing: Vec<&String> = made
        .keys()
        .filter(|name| made[*name] != kept[*name])
        .collect();
    assert!(
        differing.is_empty(),
        "{differing:?} differ; `cargo run -p vlft-example --example write_example` writes them anew"
    );
    assert!(made.values().map(Vec::len).sum::<usize>() < 3_000_000);
    assert_eq!(summary.documents, 48);
    assert!(
        (14..=18).contains(&summary.scanned),
        "about a third is scanned"
    );
}

#[test]
fn the_smallest_dataset_is_the_committed_one() {
    let scratch = tempfile::tempdir().unwrap();
    write_smallest(scratch.path()).unwrap();
    let examples = committed().join("..");
    for (name, bytes) in files(scratch.path()) {
        assert!(
            fs::read(examples.join(&name)).unwrap() == bytes,
            "{name} differs"
        );
    }
    let picture = examples.join("../docs/pictures/page-and-answer.jpg");
    assert!(
        fs::read(picture).unwrap() == showcase(),
        "the README's picture differs"
    );
}

#[test]
fn the_mapping_asks_the_same_question() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/bill-of-lading.mapping.toml");
    let mapping: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    assert_eq!(mapping["prompt"]["user"].as_str(), Some(PROMPT));
}

#[test]
fn an_existing_folder_is_kept_unless_it_may_be_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("example");
    let few = |documents, existing| Options {
        documents,
        seed: 1,
        existing,
    };
    generate(&few(3, Existing::Refuse), &out).unwrap();
    let before = files(&out);
    let refused = generate(&few(4, Existing::Refuse), &out).unwrap_err();
    assert_eq!(refused.message(), "output exists already");
    assert_eq!(files(&out), before);
    generate(&few(4, Existing::Replace), &out).unwrap();
    assert_ne!(files(&out), before);
}

/// A longer set begins with the documents of a shorter one: only names may differ, and here none does.
#[test]
fn documents_do_not_depend_on_how_many_there_are() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |documents: usize| {
        let out = scratch.path().join(documents.to_string());
        let options = Options {
            documents,
            seed: 11,
            existing: Existing::Refuse,
        };
        generate(&options, &out).unwrap();
        files(&out)
    };
    let (few, more) = (make(4), make(7));
    for (name, bytes) in few.iter().filter(|(name, _)| name.starts_with("pdfs/")) {
        assert_eq!(more.get(name), Some(bytes), "{name}");
    }
}
