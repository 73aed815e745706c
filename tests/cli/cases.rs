//! Whole-program tests as data: every `cases/*.txt` is files, commands, and what they say.
//!
//! ```text
//! Free text up to the first marker says what the case is about.
//! ==> c.toml
//! the content of a file that is made before the commands run
//! $ vlft train c.toml --out run
//! what it prints to stdout
//! ! what it prints to stderr
//! [exit 2]
//! $ ls
//! every file that exists now, sorted
//! $ mkfifo a-named-pipe
//! ```
//! An argument may stand in single quotes, and begin with `MODELS/`, the committed models and adapters. `[..]` in an expected line matches anything. A code of 0
//! is not written. `VLFT_UPDATE=1 cargo test -p vlft --test suite cases` writes what is said now
//! into the files: then read the difference before you commit it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{fixtures, repository, run_in};

#[test]
fn every_case_says_what_is_written() {
    let dir = repository().join("tests/cli/cases");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut failed = Vec::new();
    for path in &paths {
        let name = path.file_stem().unwrap().to_string_lossy();
        let needs_the_trainer = ["train", "demo"]
            .iter()
            .any(|start| name.starts_with(start));
        if needs_the_trainer && !cfg!(feature = "train") {
            continue;
        }
        // Windows has no `mkfifo`, nor pipes among its files.
        if name == "pipes" && !cfg!(unix) {
            continue;
        }
        let expected = fs::read_to_string(path).unwrap().replace('\r', "");
        let actual = play(&expected);
        if lines_match(&expected, &actual) {
            continue;
        }
        if std::env::var_os("VLFT_UPDATE").is_some() {
            fs::write(path, &actual).unwrap();
        } else {
            failed.push(format!(
                "--- {name}: expected\n{expected}--- {name}: said\n{actual}"
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(!paths.is_empty());
}

/// Runs a case in an empty directory and writes it down again with what was said.
fn play(case: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut played = String::new();
    let mut lines = case.lines().peekable();
    while let Some(line) = lines.next() {
        played += &format!("{line}\n");
        let mut block = Vec::new();
        while let Some(next) = lines.next_if(|l| !l.starts_with("==> ") && !l.starts_with("$ ")) {
            block.push(next);
        }
        if let Some(command) = line.strip_prefix("$ ") {
            played += &said(dir.path(), command);
            continue;
        }
        for line in &block {
            played += &format!("{line}\n");
        }
        if let Some(file) = line.strip_prefix("==> ") {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, block.join("\n") + "\n").unwrap();
        }
    }
    played
}

fn said(dir: &Path, command: &str) -> String {
    let models = fixtures();
    let command = command.replace(" MODELS/", &format!(" {models}/"));
    let arguments = split(&command);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (program, arguments) = arguments.split_first().expect("a command has a name");
    match *program {
        "ls" => files_below(dir, dir)
            .iter()
            .map(|file| format!("{file}\n"))
            .collect(),
        "vlft" => {
            let said = run_in(dir, arguments);
            let mut text = said.stdout;
            for line in said.stderr.lines() {
                text += format!("! {line}").trim_end();
                text += "\n";
            }
            match said.code {
                Some(0) => {}
                Some(code) => text += &format!("[exit {code}]\n"),
                None => text += "[killed]\n",
            }
            text.replace(&models, "MODELS")
        }
        "mkfifo" => {
            let made = Command::new("mkfifo")
                .args(arguments)
                .current_dir(dir)
                .status();
            assert!(made.unwrap().success());
            String::new()
        }
        other => panic!("a case runs `vlft`, `ls` or `mkfifo`, not `{other}`"),
    }
}

/// Splits at spaces outside single quotes.
fn split(command: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    for (i, part) in command.split('\'').enumerate() {
        if i % 2 == 1 {
            arguments.push(part.to_owned());
        } else {
            arguments.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    arguments
}

fn files_below(root: &Path, dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(root, &path));
        } else {
            let path = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            files.push(path);
        }
    }
    files.sort();
    files
}

fn lines_match(expected: &str, actual: &str) -> bool {
    expected.lines().count() == actual.lines().count()
        && expected
            .lines()
            .zip(actual.lines())
            .all(|(e, a)| line_matches(e, a))
}

/// `[..]` stands for any text.
fn line_matches(expected: &str, actual: &str) -> bool {
    let mut parts = expected.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = actual.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn the_wildcard_matches_only_what_it_should() {
    assert!(line_matches("a [..] b [..]", "a 12 b 3"));
    assert!(line_matches("plain", "plain"));
    assert!(!line_matches("plain", "plainer"));
    assert!(!line_matches("a [..] b", "a 12 c"));
}
