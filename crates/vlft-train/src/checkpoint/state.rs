//! `state.json` of a checkpoint: how far the run is, and what every file beside it must be. A file
//! that is torn, damaged or missing is found by its hash before anything of it is used.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vlft_base::digest::{sha256, sha256_file};
use vlft_base::output::{cannot, is_mark, write_atomic};
use vlft_base::{Diagnostic, Result, format};

/// 2: with the hash of every file.
const VERSION: u32 = 2;
const STATE_FILE: &str = "state.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Finished optimiser steps.
    pub(crate) step: u64,
    /// Updates of each adapted module, in layout order.
    pub(crate) updates: Vec<u64>,
    /// Every other file of the checkpoint.
    files: BTreeMap<String, FileState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileState {
    bytes: u64,
    sha256: String,
}

/// What a look at a checkpoint folder gives.
#[derive(Debug)]
pub(crate) enum Examined {
    Whole(State),
    /// What is wrong with it, file by file.
    Damaged(Vec<String>),
}

impl State {
    /// What is wrong with copies of files of this checkpoint in another folder.
    pub(crate) fn problems_of_copies(&self, dir: &Path, names: &[&str]) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for name in names {
            problems.extend(match self.files.get(*name) {
                Some(file) => file.problem(dir, name)?,
                None => Some(format!("`{name}` is not in the checkpoint")),
            });
        }
        Ok(problems)
    }

    /// Writes `state.json` into a folder that holds everything else already.
    pub(super) fn seal(dir: &Path, step: u64, updates: Vec<u64>) -> Result<()> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(|e| cannot("read", dir, e))? {
            let path = entry.map_err(|e| cannot("read", dir, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !is_mark(&name) {
                files.insert(name.into_owned(), FileState::of(&path)?);
            }
        }
        let state = State {
            step,
            updates,
            files,
        };
        let state = serde_json::to_value(&state).expect("plain numbers and names");
        let sealed = serde_json::json!({
            "version": VERSION,
            "sha256": seal_of(VERSION.into(), &state),
            "state": state,
        });
        write_atomic(&dir.join(STATE_FILE), sealed.to_string().as_bytes())
    }
}

/// Reads `state.json` and every file that it names.
///
/// # Errors
/// A checkpoint of another version, which is not damaged, and what the system does not let us read.
pub(crate) fn examine(dir: &Path, step: u64) -> Result<Examined> {
    let damaged = |why: String| Ok(Examined::Damaged(vec![why]));
    let path = dir.join(STATE_FILE);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return damaged(format!("`{STATE_FILE}` is missing"));
        }
        Err(_) if dir.is_file() => return damaged("it is a file, not a folder".into()),
        Err(e) => return Err(cannot("read", &path, e)),
    };
    let Ok(json) = serde_json::from_str::<Value>(&text) else {
        return damaged(format!("`{STATE_FILE}` is cut short or no JSON"));
    };
    let version = json.get("version").and_then(Value::as_u64);
    let sealed = json.get("sha256").and_then(Value::as_str);
    let seal = seal_of(version.unwrap_or(0), &json["state"]);
    match version {
        // Version 1 had no hashes at all.
        Some(1) if sealed.is_none() => return Err(other_version(dir, 1)),
        _ if sealed != Some(seal.as_str()) => {
            return damaged(format!("`{STATE_FILE}` is not what was written"));
        }
        Some(version) if version != u64::from(VERSION) => return Err(other_version(dir, version)),
        _ => {}
    }
    let state: State = match serde_json::from_value(json["state"].clone()) {
        Ok(state) => state,
        Err(e) => return damaged(format!("`{STATE_FILE}`: {e}")),
    };
    if state.step != step {
        return damaged(format!("it holds step {}", state.step));
    }
    let mut problems = Vec::new();
    for (name, file) in &state.files {
        problems.extend(file.problem(dir, name)?);
    }
    Ok(match problems.is_empty() {
        true => Examined::Whole(state),
        false => Examined::Damaged(problems),
    })
}

impl FileState {
    fn of(path: &Path) -> Result<Self> {
        let bytes = fs::metadata(path).map_err(|e| cannot("read", path, e))?;
        Ok(Self {
            bytes: bytes.len(),
            sha256: sha256_file(path).map_err(|e| cannot("read", path, e))?,
        })
    }

    /// None if the file is what was written.
    fn problem(&self, dir: &Path, name: &str) -> Result<Option<String>> {
        let path = dir.join(name);
        let found = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(Some(format!("`{name}` is missing")));
            }
            Err(e) if e.kind() == ErrorKind::NotADirectory => {
                return Ok(Some("it is a file, not a folder".into()));
            }
            Err(e) => return Err(cannot("read", &path, e)),
        };
        if found != self.bytes {
            let (found, all) = (format::grouped(found), format::grouped(self.bytes));
            return Ok(Some(format!("`{name}` has {found} of {all} bytes")));
        }
        match sha256_file(&path) {
            Ok(hash) if hash == self.sha256 => Ok(None),
            Ok(hash) => Ok(Some(format!(
                "`{name}` is not what was written: SHA-256 {}.. instead of {}..",
                &hash[..8],
                // Whoever edits this file by hand may write anything.
                self.sha256.get(..8).unwrap_or(&self.sha256)
            ))),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(cannot("read", &path, e)),
            // A disk that fails to read a block says so here.
            Err(e) => Ok(Some(format!("`{name}` cannot be read: {e}"))),
        }
    }
}

/// Over the values, so that the spelling of the JSON does not matter.
fn seal_of(version: u64, state: &Value) -> String {
    sha256(format!("{version}\n{state}"))
}

fn other_version(dir: &Path, version: u64) -> Diagnostic {
    Diagnostic::error("the checkpoint was written by another version of vlft")
        .at(dir)
        .expected(format!("format {VERSION}"))
        .found(format!("format {version}"))
        .hint(
            "finish this run with that version, or begin anew: `--force` throws this run away, \
             another `--out` keeps it",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(dir: &Path) -> Vec<String> {
        damage_of(examine(dir, 7).unwrap())
    }

    fn damage_of(examined: Examined) -> Vec<String> {
        match examined {
            Examined::Whole(_) => Vec::new(),
            Examined::Damaged(problems) => problems,
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        fs::write(dir.join("a.safetensors"), [7; 300]).unwrap();
        fs::write(dir.join("b.json"), "{}").unwrap();
        State::seal(dir, 7, vec![7, 6]).unwrap();
        assert!(matches!(examine(dir, 7).unwrap(), Examined::Whole(s) if s.updates == [7, 6]));
        assert_eq!(
            damage_of(examine(dir, 8).unwrap()),
            ["it holds step 7"],
            "a folder that was renamed"
        );

        for name in [STATE_FILE, "a.safetensors", "b.json"] {
            let path = dir.join(name);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                fs::write(&path, &bytes).unwrap();
                match examine(dir, 7) {
                    Ok(Examined::Damaged(problems)) => {
                        assert!(
                            problems[0].starts_with(&format!("`{name}` ")),
                            "{problems:?}"
                        );
                    }
                    other => panic!("{name}, byte {at}: {other:?}"),
                }
                fs::write(&path, &whole[..at]).unwrap();
                assert_eq!(damage(dir).len(), 1, "{name} cut at {at}");
            }
            fs::remove_file(&path).unwrap();
            assert_eq!(damage(dir), [format!("`{name}` is missing")]);
            fs::write(&path, &whole).unwrap();
        }
        assert!(damage(dir).is_empty());

        fs::write(dir.join("a.safetensors"), [7; 20]).unwrap();
        fs::remove_file(dir.join("b.json")).unwrap();
        assert_eq!(
            damage(dir),
            ["`a.safetensors` has 20 of 300 bytes", "`b.json` is missing"]
        );
    }

    #[test]
    fn another_version_is_no_damage() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(STATE_FILE);
        fs::write(&path, r#"{"version":1,"step":7,"updates":[7]}"#).unwrap();
        let error = examine(scratch.path(), 7).unwrap_err();
        assert_eq!(
            error.expectation().unwrap(),
            "expected format 2, found format 1"
        );

        let state = serde_json::json!({"later": true});
        let later = serde_json::json!({"version": 3, "sha256": seal_of(3, &state), "state": state});
        fs::write(&path, later.to_string()).unwrap();
        let error = examine(scratch.path(), 7).unwrap_err();
        assert_eq!(
            error.expectation().unwrap(),
            "expected format 2, found format 3"
        );
    }
}
