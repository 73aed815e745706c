//! Small training runs of the tiny model on the committed records.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Said, fixtures, repository, run_in};

/// A run of `steps` steps of the tiny model on eight records. All paths lead into the repository.
pub(crate) fn config(steps: u64) -> String {
    let fixtures = fixtures();
    config_of(
        steps,
        &format!("{fixtures}/data/train.jsonl"),
        &format!("{fixtures}/data7/train.jsonl"),
    )
}

fn config_of(steps: u64, train: &str, val: &str) -> String {
    let fixtures = fixtures();
    format!(
        "[model]\npath = \"{fixtures}/tiny\"\nbase = \"f32\"\n[lora]\nrank = 4\n\
         [data]\ntrain = \"{train}\"\nval = \"{val}\"\n\
         [train]\nmax_steps = {steps}\naccumulate = 2\nwarmup_steps = 2\nlearning_rate = 2e-3\n\
         [eval]\nevery_steps = 2\n[output]\ncheckpoint_every_steps = 3\nkeep = 1\n"
    )
}

/// A folder with [`config`] as `c.toml`.
pub(crate) fn scratch(steps: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.toml"), config(steps)).unwrap();
    dir
}

/// The same with records and images of its own, in `data/` and `val/`, for tests that damage them.
pub(crate) fn scratch_with_data(steps: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = repository().join("tests/fixtures");
    copy(&fixtures.join("data"), &dir.path().join("data"));
    copy(&fixtures.join("data7"), &dir.path().join("val"));
    let config = config_of(steps, "data/train.jsonl", "val/train.jsonl");
    fs::write(dir.path().join("c.toml"), config).unwrap();
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => {
                fs::copy(&path, &target).unwrap();
            }
        }
    }
}

/// `vlft train c.toml --out run MORE..`
pub(crate) fn train(root: &Path, more: &[&str]) -> Said {
    run_in(root, &[&["train", "c.toml", "--out", "run"], more].concat())
}

pub(crate) fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The step lines without what is the clock's and not the run's.
pub(crate) fn steps(run: &Path) -> Vec<Value> {
    let mut lines = metrics(run);
    lines.retain(|line| line["type"] == "step");
    for line in &mut lines {
        for clock in ["seconds", "data_seconds"] {
            line.as_object_mut().unwrap().remove(clock).unwrap();
        }
    }
    lines
}

/// The bytes of the trained adapter.
pub(crate) fn adapter(run: &Path) -> Vec<u8> {
    fs::read(run.join("adapter/adapter_model.safetensors")).unwrap()
}

/// Names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
