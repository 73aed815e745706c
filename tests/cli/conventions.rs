//! What every data command keeps to, checked over all of them: JSON on stdout with `--format json`,
//! silence with `-q`, no progress where nobody watches, `--dry-run` where it writes, counts that
//! reconcile, and a help with examples. A new command needs a row here, or a reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::pdf::{Page, pdf};
use crate::support::zip::{file, zip};
use crate::support::{Said, run_in};

/// A data command on the small folder of [`folder`].
struct Row {
    name: &'static str,
    args: &'static [&'static str],
    /// Then it has `--dry-run`, and never replaces what is there unasked.
    writes: bool,
    /// Its exit code here: one thing in the folder is always wrong.
    code: i32,
    /// Whether what went in came out or was rejected, from its JSON.
    reconciles: fn(&[Value]) -> bool,
    /// Where it lists what it rejected.
    rejects: Option<&'static str>,
}

fn number(json: &Value, path: &str) -> u64 {
    let value = path.split('.').fold(json, |json, key| &json[key]);
    let given = value.as_u64().or(value.as_array().map(|a| a.len() as u64));
    given.unwrap_or_else(|| panic!("no `{path}` in {json}"))
}

const ROWS: &[Row] = &[
    Row {
        name: "rasterize",
        args: &["pdfs", "--out", "out"],
        writes: true,
        code: 1,
        reconciles: |json| {
            let of = |key: &str| number(&json[0], &format!("documents.{key}"));
            let done = of("rasterized") + of("unchanged") + of("rejected") + of("not_asked");
            of("found") == 2 && done == 2
        },
        rejects: Some("out/rejects.jsonl"),
    },
    Row {
        name: "unpack",
        args: &["labels.zip", "--out", "out"],
        writes: true,
        code: 0,
        reconciles: |json| {
            let of = |key: &str| number(&json[0], key);
            of("entries") == of("written") + of("duplicates") + of("junk") + of("directories")
        },
        rejects: None,
    },
    Row {
        name: "build-jsonl",
        args: &[
            "--labels",
            "labels.csv",
            "--images",
            "pages",
            "--mapping",
            "m.toml",
            "--out",
            "out.jsonl",
        ],
        writes: true,
        code: 1,
        reconciles: |json| {
            let of = |key: &str| number(&json[0], key);
            of("documents") == 2 && of("records") + of("rejected") == 2
        },
        rejects: Some("out.rejects.jsonl"),
    },
    Row {
        name: "validate",
        args: &["d.jsonl", "--fix-out", "out.jsonl"],
        writes: true,
        code: 1,
        reconciles: |json| {
            let summary = json.last().expect("the summary is the last line");
            let of = |key: &str| number(summary, key);
            of("records") == 4 && of("valid") + of("invalid") == 4
        },
        rejects: None,
    },
    Row {
        name: "split",
        args: &["good.jsonl", "--out", "out"],
        writes: true,
        code: 0,
        reconciles: |json| {
            let sides = json[0]["sides"].as_array().expect("a list of sides");
            let sum: u64 = sides.iter().map(|side| number(side, "records")).sum();
            number(&json[0], "records") == 20 && sum == 20
        },
        rejects: None,
    },
    Row {
        name: "stats",
        args: &["d.jsonl", "--html", "out.html"],
        writes: true,
        code: 1,
        reconciles: |json| {
            let of = |key: &str| number(&json[0], key);
            of("records") + of("broken_lines") + of("empty_lines") == 4 && of("page.records") == 4
        },
        rejects: None,
    },
    Row {
        name: "convert",
        args: &["d.jsonl", "--to", "llama-factory", "--out", "lf/d.jsonl"],
        writes: true,
        code: 1,
        reconciles: |json| {
            let of = |key: &str| number(&json[0], key);
            of("read") == 4 && of("written") + of("rejected") == 4
        },
        rejects: Some("lf/d.rejects.jsonl"),
    },
    Row {
        name: "inspect",
        args: &["pdfs"],
        writes: false,
        code: 1,
        reconciles: |_| true,
        rejects: None,
    },
    Row {
        name: "show",
        args: &["good.jsonl"],
        writes: false,
        code: 0,
        reconciles: |_| true,
        rejects: None,
    },
];

/// Commands that take no data through: what they are instead.
const OTHERS: &[(&str, &str)] = &[
    ("why", "reads lineage and says where a record came from"),
    ("demo", "runs the others"),
    ("train", "tests/train.rs"),
    ("bench", "tests/bench.rs"),
    ("eval", "tests/evaluating.rs"),
    ("doctor", "looks at the machine"),
    ("completions", "prints a script"),
    ("man", "writes manual pages"),
    ("help", "clap's own"),
    ("check-adapter", "files of adapters, no data"),
    ("verify", "files of models, no data"),
    ("info", "files of models, no data"),
    ("merge", "files of models, no data"),
    ("plan", "computes memory"),
];

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("pdfs/a.pdf", &pdf(&[Page::new(144, 72, "0 0 9 9 re f")]));
    write("pdfs/broken.pdf", b"no PDF at all");
    write("labels.zip", &zip(&[file("labels/a.json", b"{}")]));
    write("pages/a.jpg", &image_bytes());
    write("labels.csv", b"Filename,bl\na.pdf,B1\nb.pdf,B2\n");
    write(
        "m.toml",
        b"version = 1\ndocument = \"Filename\"\n[prompt]\nuser = \"Read.\"\n[[fields]]\nname = \"bl\"\ntype = \"string\"\n",
    );
    let record = |id: &str, image: Option<&str>, question: &str, answer: &str| {
        let image = image.map(|path| serde_json::json!({"type": "image", "image": path}));
        let text = serde_json::json!({"type": "text", "text": question});
        let asked: Vec<Value> = image.into_iter().chain([text]).collect();
        serde_json::json!({"id": id, "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        ], "meta": {"document": id}})
        .to_string()
    };
    // One image would tie all documents together, so these have none.
    let good = (0..20).map(|n| {
        let answer = format!("{{\"n\":{n}}}");
        record(&format!("t{n}"), None, &format!("Question {n}."), &answer)
    });
    let good: Vec<String> = good.collect();
    write("good.jsonl", format!("{}\n", good.join("\n")).as_bytes());
    let pages = ["a", "b", "c"].map(|id| {
        let answer = format!("{{\"n\":\"{id}\"}}");
        record(id, Some("pages/a.jpg"), &format!("Page {id}?"), &answer)
    });
    write(
        "d.jsonl",
        format!("{}\n{{\"id\":\n", pages.join("\n")).as_bytes(),
    );
    dir
}

/// A page of the example.
fn image_bytes() -> Vec<u8> {
    let images = crate::support::repository().join("examples/images");
    fs::read(images.join("NPCS25320333.jpg")).expect("the example has it")
}

fn all_files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                out.insert(name, Vec::new());
                walk(root, &path, out);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                out.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(dir, dir, &mut out);
    out
}

fn run(row: &Row, dir: &Path, more: &[&str]) -> Said {
    run_in(dir, &[&[row.name], row.args, more].concat())
}

#[test]
fn every_command_has_a_row_or_a_reason() {
    let help = run_in(Path::new("."), &["--help"]).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 8, "{help}");
    for command in &commands {
        let known = ROWS.iter().any(|row| row.name == *command)
            || OTHERS.iter().any(|(name, _)| name == command);
        assert!(
            known,
            "`vlft {command}` has no row in tests/cli/conventions.rs"
        );
    }
    for row in ROWS {
        assert!(commands.contains(&row.name), "{}", row.name);
    }
}

#[test]
fn json_is_json_and_counts_reconcile() {
    for row in ROWS {
        let dir = folder();
        let said = run(row, dir.path(), &["--format", "json"]);
        let name = row.name;
        assert_eq!(
            said.code,
            Some(row.code),
            "{name}: {}{}",
            said.stdout,
            said.stderr
        );
        let lines: Vec<Value> = said
            .stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"))
            })
            .collect();
        assert!(!lines.is_empty(), "{name}: nothing on stdout");
        assert!(
            (row.reconciles)(&lines),
            "{name}: counts do not reconcile: {}",
            said.stdout
        );
        if let Some(rejects) = row.rejects {
            let text = fs::read_to_string(dir.path().join(rejects))
                .unwrap_or_else(|e| panic!("{name}: {rejects}: {e}"));
            for line in text.lines() {
                let reject: Value = serde_json::from_str(line).unwrap();
                assert!(
                    reject["reason"].is_string(),
                    "{name}: a reject without its reason: {line}"
                );
            }
            assert!(!text.is_empty(), "{name}: something was rejected");
        }
    }
}

/// stderr may be a file or a log: bars are for people only, and `-q` is for scripts.
#[test]
fn no_bars_without_a_terminal_and_quiet_is_quiet() {
    for row in ROWS {
        let name = row.name;
        let said = run(row, folder().path(), &[]);
        assert_eq!(said.code, Some(row.code), "{name}: {}", said.stderr);
        assert!(
            !said.stderr.contains(['\r', '\u{1b}', '█']),
            "{name} draws on what is no terminal: {}",
            said.stderr
        );
        let quiet = run(row, folder().path(), &["-q"]);
        assert_eq!(
            quiet.stdout.lines().count(),
            said.stdout.lines().count(),
            "{name}: -q is about stderr"
        );
        let only_errors = quiet.stderr.is_empty() || quiet.stderr.starts_with("error");
        assert!(only_errors, "{name} -q: {}", quiet.stderr);
        if row.code == 0 {
            assert_eq!(quiet.stderr, "", "{name} -q");
        }
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    for row in ROWS.iter().filter(|row| row.writes) {
        let dir = folder();
        let before = all_files(dir.path());
        let said = run(row, dir.path(), &["--dry-run"]);
        // Without the work not every document that is broken is known to be.
        let expected = [Some(row.code), Some(0)];
        assert!(
            expected.contains(&said.code),
            "{}: {}",
            row.name,
            said.stderr
        );
        assert_eq!(all_files(dir.path()), before, "{} --dry-run", row.name);
    }
}

/// An output that is there is never replaced without being asked to.
#[test]
fn nothing_is_replaced_unasked() {
    for row in ROWS.iter().filter(|row| row.writes) {
        let dir = folder();
        run(row, dir.path(), &[]);
        let before = all_files(dir.path());
        let again = run(row, dir.path(), &[]);
        assert_eq!(
            all_files(dir.path()),
            before,
            "{}: {}",
            row.name,
            again.stderr
        );
        let refused = again.code == Some(2) && again.stderr.contains("--force");
        // The same command may also find that all of it is done.
        let done = again.code == Some(row.code) || again.code == Some(3);
        assert!(
            refused || done,
            "{}: {:?} {}",
            row.name,
            again.code,
            again.stderr
        );
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let help = run_in(Path::new("."), &["completions", "bash"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let dir = tempfile::tempdir().unwrap();
    let man = run_in(dir.path(), &["man", "--out", "man"]);
    assert_eq!(man.code, Some(0), "{}", man.stderr);
    for row in ROWS {
        assert!(help.stdout.contains(row.name), "{}", row.name);
        let page = fs::read_to_string(dir.path().join(format!("man/vlft-{}.1", row.name))).unwrap();
        assert!(
            page.contains(".SH OPTIONS") || page.contains(".SH SYNOPSIS"),
            "{page}"
        );
    }
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        let script = run_in(Path::new("."), &["completions", shell]).stdout;
        assert!(script.contains("build-jsonl"), "{shell}");
    }
}
