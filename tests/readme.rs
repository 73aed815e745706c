//! The commands of the README and of the runbooks, run as they stand: in a folder that has what a
//! user has (scans, labels, a model), one file's commands after the other. A command that cannot run
//! here says so itself, in a comment behind it: `# needs a GPU`, or with the fence: ```` ```sh needs
//! a cluster ````. Commands of other programs are counted and left alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::zip::{file, zip};
use crate::support::{repository, run_in};

/// What a test adds so that a command ends soon, or has what a laptop has. All else is as it stands.
const ADDED: &[(&str, &[&str])] = &[(
    "train",
    &[
        "--set",
        "train.max_steps=1",
        "--set",
        "train.warmup_steps=0",
        "--set",
        "train.accumulate=1",
        "--set",
        "data.max_pixels=16384",
        "--set",
        "model.compute=f32",
        "--set",
        "eval.samples=0",
        "--set",
        "data.too_long=drop",
    ],
)];

/// What a build without the trainer does not have. With it every command must be there.
fn is_in_this_build(command: &str) -> bool {
    cfg!(feature = "train") || run_in(Path::new("."), &["help", command]).code == Some(0)
}

#[test]
fn the_commands_of_the_readme_and_of_the_runbooks_run() {
    let mut pages = vec![repository().join("README.md")];
    let mut runbooks: Vec<PathBuf> = fs::read_dir(repository().join("runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    runbooks.sort();
    pages.extend(runbooks);
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for page in &pages {
        let folder = folder();
        let text = fs::read_to_string(page).unwrap();
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        for command in commands(&text) {
            match kind(&command) {
                Kind::OtherProgram => counts.of_others += 1,
                Kind::Marked => counts.marked += 1,
                Kind::NotInThisBuild => counts.not_in_this_build += 1,
                Kind::Runs(words) => {
                    counts.ran += 1;
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let said = run_in(folder.path(), &words);
                    // 1 is a verdict about the data, which is the example's.
                    if !matches!(said.code, Some(0 | 1)) {
                        failed.push(format!(
                            "{name}: `{}` ended with {:?}\n{}",
                            command.text, said.code, said.stderr
                        ));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let expected = if cfg!(feature = "train") { 21 } else { 15 };
    assert!(counts.ran >= expected, "{counts:?}");
}

#[derive(Debug, Default)]
#[allow(dead_code, reason = "shown when the test fails")]
struct Counts {
    ran: u32,
    marked: u32,
    of_others: u32,
    not_in_this_build: u32,
}

enum Kind {
    Runs(Vec<String>),
    Marked,
    OtherProgram,
    NotInThisBuild,
}

/// One line of a fence, continued lines joined.
struct Command {
    text: String,
    marked: bool,
}

fn kind(command: &Command) -> Kind {
    let words = split(&command.text);
    let Some((program, arguments)) = words.split_first() else {
        return Kind::OtherProgram;
    };
    if command.marked || command.text.contains("# needs ") {
        return Kind::Marked;
    }
    if program != "vlft" {
        return Kind::OtherProgram;
    }
    let name = arguments.first().map_or("", String::as_str);
    if !is_in_this_build(name) {
        return Kind::NotInThisBuild;
    }
    let added = ADDED.iter().find(|(command, _)| *command == name);
    let added = added.map_or(&[][..], |(_, added)| *added);
    let added = added.iter().map(|word| (*word).to_owned());
    Kind::Runs(arguments.iter().cloned().chain(added).collect())
}

/// The lines of all `sh` fences of a page.
fn commands(page: &str) -> Vec<Command> {
    let joined = page.replace("\\\n", " ");
    let mut out = Vec::new();
    let mut fence: Option<&str> = None;
    for line in joined.lines() {
        match (line.trim().strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(kind), None) => fence = Some(kind.trim()),
            (None, Some(kind)) if kind == "sh" || kind.starts_with("sh ") => {
                if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
                    out.push(Command {
                        text: line.trim().to_owned(),
                        marked: kind.contains("needs "),
                    });
                }
            }
            (None, _) => {}
        }
    }
    out
}

/// Words as a shell would see them, up to a comment; braces and `*` are not used on our pages.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => (quote, begun) = (Some(c), true),
            ('#', None) if word.is_empty() && !begun => return words,
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() || begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (c, None) => word.push(c),
        }
    }
    if !word.is_empty() || begun {
        words.push(word);
    }
    words
}

/// What a user has: a folder of scans, a zip of labels and page images, a model, this repository's
/// configs and schemas.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let repository = repository();
    copy(&repository.join("configs"), &root.join("configs"));
    copy(&repository.join("schemas"), &root.join("schemas"));
    copy(
        &repository.join("tests/fixtures/tiny"),
        &root.join("models/Qwen3-VL-8B-Instruct"),
    );
    let example = repository.join("examples/bill-of-lading");
    // All of them: a split of a handful may leave a side empty.
    copy(&example.join("pdfs"), &root.join("scans"));
    let labels = fs::read(example.join("results.json")).unwrap();
    // Without the trainer there is an adapter all the same: one that PEFT wrote.
    if cfg!(not(feature = "train")) {
        for run in ["bol-01", "rehearsal"] {
            let adapter = root.join("runs").join(run).join("adapter");
            copy(&repository.join("tests/fixtures/adapter_b"), &adapter);
        }
        let tiny = root.join("models/tiny");
        copy(&repository.join("tests/fixtures/tiny"), &tiny);
    }
    fs::write(
        root.join("labels.zip"),
        zip(&[file("results.json", &labels)]),
    )
    .unwrap();
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn commands_are_read_as_a_shell_reads_them() {
    let page = "```sh\nvlft inspect 'b c' \\\n    --d \"e\"  # note\n# only a comment\nvlft f   # needs a GPU\n```\n```python\nvlft = 1\n```\n```sh needs a cluster\nsbatch x\n```";
    let found = commands(page);
    assert_eq!(found.len(), 3);
    assert_eq!(
        split(&found[0].text),
        ["vlft", "inspect", "b c", "--d", "e"]
    );
    assert!(matches!(kind(&found[0]), Kind::Runs(words) if words.len() == 4));
    assert!(matches!(kind(&found[1]), Kind::Marked));
    assert!(matches!(kind(&found[2]), Kind::Marked));
}
