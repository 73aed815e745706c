//! What lies beside the runbook of the rented GPU. Its commands are run in `readme.rs`.

use std::collections::BTreeSet;
use std::fs;

use crate::support::repository;

/// No daemon is at hand in a test, so what a build would do is not seen; that each line is an instruction,
/// and that what it copies is there, is.
#[test]
fn the_dockerfile_is_made_of_instructions() {
    let text = fs::read_to_string(repository().join("runbooks/runpod-a6000/Dockerfile")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let mut stages = BTreeSet::new();
    let mut seen = Vec::new();
    for line in joined.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (instruction, rest) = words.split_first().unwrap();
        seen.push(*instruction);
        match *instruction {
            "FROM" => {
                assert!(rest[0].contains(':'), "an image without a version: {line}");
                if let [_, "AS", name] = rest {
                    stages.insert(*name);
                }
            }
            "COPY" => {
                assert!(rest.len() > 1, "{line}");
                if let Some(stage) = rest[0].strip_prefix("--from=") {
                    assert!(stages.contains(stage), "{line}");
                }
            }
            "CMD" => {
                let json = line.trim_start_matches("CMD").trim();
                let words: Vec<String> = serde_json::from_str(json).unwrap();
                assert_eq!(words[..2], ["bash", "-c"]);
            }
            "ENV" => assert!(rest.iter().all(|word| word.contains('=')), "{line}"),
            "WORKDIR" | "EXPOSE" => assert_eq!(rest.len(), 1, "{line}"),
            "RUN" => assert!(!line.trim_end().ends_with("&&"), "{line}"),
            other => panic!("not an instruction that is used here: {other}"),
        }
    }
    assert_eq!(seen[0], "FROM");
    assert_eq!(
        seen.iter()
            .filter(|instruction| **instruction == "FROM")
            .count(),
        2
    );
}

/// One model, wherever it is named; the configs and files that the page names exist.
#[test]
fn the_runbook_names_one_revision_and_files_that_exist() {
    let text = fs::read_to_string(repository().join("runbooks/runpod-a6000.md")).unwrap();
    let revisions: BTreeSet<&str> = text
        .split("--revision ")
        .skip(1)
        .map(|rest| &rest[..40])
        .collect();
    assert_eq!(revisions.len(), 1, "{revisions:?}");
    assert!(
        revisions
            .iter()
            .all(|r| r.chars().all(|c| c.is_ascii_hexdigit()))
    );
    for word in text.split_whitespace() {
        let word = word.trim_matches(['`', '(', ')', ',', '.']);
        if word.starts_with("configs/") && word.ends_with(".toml") {
            assert!(repository().join(word).exists(), "{word}");
        }
    }
    assert!(
        repository()
            .join("runbooks/runpod-a6000/Dockerfile")
            .exists()
    );
}
