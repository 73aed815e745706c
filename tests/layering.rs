//! The drawing of ARCHITECTURE.md, enforced: which crate may use which, where tensors may be, where
//! `unsafe` may be, and who may write to the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::repository;

/// Every edge there may be. ARCHITECTURE.md has the same table with the reasons; a new edge is a
/// decision, so it changes both.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("vlft-base", &[]),
    ("vlft-dataset", &["vlft-base"]),
    ("vlft-processor", &["vlft-base", "vlft-dataset"]),
    ("vlft-convert", &["vlft-base", "vlft-dataset"]),
    ("vlft-kernels", &[]),
    ("vlft-checkpoint", &["vlft-base"]),
    (
        "vlft-model",
        &["vlft-base", "vlft-checkpoint", "vlft-kernels"],
    ),
    (
        "vlft-train",
        &[
            "vlft-base",
            "vlft-dataset",
            "vlft-processor",
            "vlft-checkpoint",
            "vlft-kernels",
            "vlft-model",
        ],
    ),
    ("vlft-example", &["vlft-base", "vlft-dataset"]),
    (
        "vlft",
        &[
            "vlft-base",
            "vlft-dataset",
            "vlft-processor",
            "vlft-checkpoint",
            "vlft-convert",
            "vlft-example",
            "vlft-model",
            "vlft-train",
        ],
    ),
];

/// Behind the feature `train`: the tensor column.
const ONLY_WITH_TRAIN: [&str; 2] = ["vlft-model", "vlft-train"];

/// What makes a build slow and a laptop unable to prepare data.
const TENSOR_LIBRARIES: [&str; 2] = ["burn", "cubecl"];

/// Crates that must stay free of them, whatever they depend on.
const WITHOUT_TENSORS: [&str; 6] = [
    "vlft-base",
    "vlft-dataset",
    "vlft-processor",
    "vlft-checkpoint",
    "vlft-convert",
    "vlft-example",
];

#[test]
fn no_edge_is_outside_the_drawing() {
    let metadata = metadata();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(crate_name, _)| *crate_name == name)
            .unwrap_or_else(|| panic!("`{name}` is not in the drawing"));
        seen.insert(name);
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"] == "dev";
            // Tests may make their data with the example generator.
            let fine = allowed.contains(&used) || (for_tests && used == "vlft-example");
            assert!(
                !used.starts_with("vlft") || fine,
                "`{name}` uses `{used}`: not in the drawing of ARCHITECTURE.md"
            );
            if name == "vlft" && ONLY_WITH_TRAIN.contains(&used) {
                assert_eq!(
                    dependency["optional"], true,
                    "`{used}` comes with `train` only"
                );
            }
        }
    }
    assert_eq!(
        seen.len(),
        MAY_USE.len(),
        "the drawing has a crate that does not exist"
    );
}

#[test]
fn the_architecture_page_has_the_same_table() {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    for (name, used) in MAY_USE {
        let used: Vec<String> = used.iter().map(|u| format!("`{u}`")).collect();
        let row = format!("| `{name}` | {} |", used.join(", ")).replace("|  |", "| nothing |");
        assert!(page.contains(&row), "ARCHITECTURE.md lacks the row\n{row}");
    }
}

/// Over the lock file, so that a tensor library hidden behind some other crate is found too.
#[test]
fn the_data_column_never_reaches_a_tensor_library() {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let mut uses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let listed = package.get("dependencies").and_then(|d| d.as_array());
        // "name" or "name version" when there are several; versions may be mixed up harmlessly.
        let names = listed
            .into_iter()
            .flatten()
            .filter_map(|d| d.as_str()?.split(' ').next());
        uses.entry(package["name"].as_str().unwrap())
            .or_default()
            .extend(names);
    }
    let is_tensor = |name: &str| {
        TENSOR_LIBRARIES
            .iter()
            .any(|t| name == *t || name.starts_with(&format!("{t}-")))
    };
    for start in WITHOUT_TENSORS {
        let mut reached = BTreeSet::new();
        let mut pending = vec![start];
        while let Some(name) = pending.pop() {
            assert!(!is_tensor(name), "`{start}` reaches `{name}`");
            for next in uses.get(name).into_iter().flatten() {
                if reached.insert(*next) {
                    pending.push(next);
                }
            }
        }
        assert!(start == "vlft-base" || reached.contains("vlft-base"));
    }
    // The check can fail: the trainer does reach it.
    assert!(uses["vlft-train"].iter().any(|name| is_tensor(name)));
}

#[test]
fn unsafe_is_in_the_kernels_and_in_one_mmap() {
    let mut mmaps = 0;
    for (path, code) in our_code() {
        if !code
            .lines()
            .any(|line| words(line).any(|word| word == "unsafe"))
        {
            continue;
        }
        if path.starts_with("crates/vlft-kernels") {
            continue;
        }
        assert!(path.ends_with("mmap.rs"), "`unsafe` in {}", path.display());
        mmaps += 1;
    }
    assert!(mmaps <= 1, "there is one mmap.rs");
    for (path, source) in sources() {
        let lines: Vec<&str> = source.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if words(without_comment(line)).any(|word| word == "unsafe") {
                let said = lines[i.saturating_sub(8)..=i]
                    .iter()
                    .any(|l| l.contains("SAFETY"));
                assert!(
                    said,
                    "{}:{}: `unsafe` without SAFETY",
                    path.display(),
                    i + 1
                );
            }
        }
    }
}

#[test]
fn one_file_writes_to_the_terminal() {
    let written = [
        "println!",
        "eprintln!",
        "print!(",
        "eprint!(",
        "io::stdout",
        "io::stderr",
    ];
    for (path, code) in our_code() {
        // Examples are programs of their own, for developers.
        let is_example = path.components().any(|part| part.as_os_str() == "examples");
        if path.ends_with("vlft/src/terminal.rs") || is_example {
            continue;
        }
        for (i, line) in code.lines().enumerate() {
            for writes in written {
                assert!(
                    !line.contains(writes),
                    "{}:{}: `{writes}` outside terminal.rs",
                    path.display(),
                    i + 1
                );
            }
        }
    }
}

/// The project stands alone: nothing in it may point at the machine it was written on.
#[test]
fn no_file_names_a_path_of_the_workshop() {
    let forbidden = [["/wo", "rk/"].concat(), ["../sha", "red"].concat()];
    let mut pending = vec![repository()];
    let mut looked_at = 0;
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let ours = !name.starts_with('.') || name == ".ci";
                let made = ["target", "runs", "models", "vlft-demo"].contains(&name.as_str());
                if ours && !made {
                    pending.push(path);
                }
            // In a linked worktree `.git` is a file that names its repository.
            } else if name != ".git"
                && let Ok(text) = fs::read_to_string(&path)
            {
                looked_at += 1;
                for word in &forbidden {
                    assert!(!text.contains(word), "{} mentions `{word}`", path.display());
                }
            }
        }
    }
    assert!(looked_at > 50);
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every source file of the crates with its text, relative to the repository.
fn sources() -> Vec<(PathBuf, String)> {
    let root = repository();
    let mut found = Vec::new();
    let mut pending = vec![root.join("crates")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_path_buf(), text));
            }
        }
    }
    assert!(found.len() > 30, "the sources were found");
    found
}

/// The sources without comments and without tests: `tests.rs`, `tests/`, and what follows a
/// `#[cfg(test)]`, which stands last in our files.
fn our_code() -> Vec<(PathBuf, String)> {
    sources()
        .into_iter()
        .filter(|(path, _)| {
            !path
                .iter()
                .any(|part| part == "tests" || part == "tests.rs")
        })
        .map(|(path, text)| {
            let code = text
                .split("\n#[cfg(test)]\nmod ")
                .next()
                .unwrap_or_default();
            let code: Vec<&str> = code.lines().map(without_comment).collect();
            (path, code.join("\n"))
        })
        .collect()
}

fn without_comment(line: &str) -> &str {
    match line.find("//") {
        Some(start) => &line[..start],
        None => line,
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[test]
fn the_helpers_of_these_tests_see_code_and_skip_comments() {
    assert_eq!(without_comment("a // unsafe"), "a ");
    assert!(words("    unsafe { x }").any(|w| w == "unsafe"));
    assert!(!words("#![allow(unsafe_code)]").any(|w| w == "unsafe"));
    assert!(
        our_code()
            .iter()
            .any(|(path, _)| path == Path::new("crates/vlft/src/main.rs"))
    );
}
