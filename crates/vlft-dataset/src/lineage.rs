//! Where an output came from: every command that makes one leaves a small file beside it that names
//! its inputs with their hashes, the options that mattered, and the version of this program. Of
//! `all.jsonl` it is `all.lineage.json`, of a directory `lineage.json` in it. There is no time in
//! it: the same command on the same inputs leaves the same bytes.
//!
//! A command makes one with [`Lineage::new`], adds what it read with [`Lineage::input`], and saves it
//! with [`Lineage::save_beside`] or [`Lineage::save_in`] once the output has its name. Whoever asks
//! where a record came from (`vlft why`) reads it back and compares ([`Source::look`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vlft_base::digest::{Hasher, sha256_file};
use vlft_base::input;
use vlft_base::output::{cannot, write_atomic};
use vlft_base::{Diagnostic, Result};
use walkdir::WalkDir;

use crate::image_path::{base_of, way_to};
use crate::jsonl::{Written, shown};
use crate::manifest::manifests_in;

/// The version this program writes. It reads this one and refuses newer ones by number.
pub const VERSION: u32 = 1;

/// The name of the file in an output that is a directory.
pub const IN_DIRECTORY: &str = "lineage.json";

/// What made an output, from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The version of this format: 1.
    pub version: u32,
    /// `vlft 0.1.0`.
    pub tool: String,
    /// `build-jsonl`, `split`, ..
    pub command: String,
    /// What was asked for and changes the output, defaults included.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    pub inputs: Vec<Source>,
    pub outputs: Vec<Source>,
}

/// A file or directory as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it was to the command: `labels`, `mapping`, `images`, `records`, `archive`, ..
    pub role: String,
    /// Relative to the directory of this file, with `/`; absolute where no such way leads.
    pub path: String,
    pub hash_of: HashOf,
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a hash is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashOf {
    /// The bytes of a file.
    Content,
    /// The manifests of a directory of pages, which hold the hash of every page.
    Manifest,
    /// The names and sizes of all files below a directory.
    Listing,
}

impl Lineage {
    /// `command` as a person types it.
    pub fn new(command: &str) -> Self {
        Self {
            version: VERSION,
            tool: concat!("vlft ", env!("CARGO_PKG_VERSION")).to_owned(),
            command: command.to_owned(),
            options: Map::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Adds an option; one that was not given (`null`) is left out.
    pub fn option(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).expect("options are plain data");
        if !value.is_null() {
            self.options.insert(name.to_owned(), value);
        }
        self
    }

    /// Hashes an input, a file or a directory. Call it before the output is written.
    pub fn input(mut self, role: &str, path: &Path) -> Result<Self> {
        self.inputs.push(Source::of(role, path)?);
        Ok(self)
    }

    /// [`Lineage::input`] for a file that was hashed while it was read.
    pub fn hashed_input(
        mut self,
        role: &str,
        path: &Path,
        sha256: String,
        bytes: u64,
    ) -> Result<Self> {
        self.inputs.push(Source {
            role: role.to_owned(),
            path: whole(path)?,
            hash_of: HashOf::Content,
            sha256,
            bytes: Some(bytes),
        });
        Ok(self)
    }

    /// [`Lineage::output`] for a file that was hashed while it was written.
    pub(crate) fn hashed_output(mut self, role: &str, path: &Path, is: Written) -> Result<Self> {
        self.outputs.push(Source {
            role: role.to_owned(),
            path: whole(path)?,
            hash_of: HashOf::Content,
            sha256: is.sha256,
            bytes: Some(is.bytes),
        });
        Ok(self)
    }

    /// Hashes an output that is a file and has its name already.
    pub fn output(mut self, role: &str, path: &Path) -> Result<Self> {
        self.outputs.push(Source::of(role, path)?);
        Ok(self)
    }

    /// Writes the file beside `out`; see [`beside`].
    pub fn save_beside(self, out: &Path) -> Result<()> {
        self.save(&beside(out))
    }

    /// Writes the file into a directory that has its name already.
    pub fn save_in(self, dir: &Path) -> Result<()> {
        self.save(&dir.join(IN_DIRECTORY))
    }

    fn save(mut self, path: &Path) -> Result<()> {
        let base = base_of(path);
        let base = base.canonicalize().map_err(|e| cannot("read", base, e))?;
        for source in self.inputs.iter_mut().chain(&mut self.outputs) {
            let whole = Path::new(&source.path);
            source.path = way_to(&base, whole).unwrap_or_else(|| shown(whole));
        }
        let mut text = serde_json::to_string_pretty(&self).expect("a lineage is plain data");
        text.push('\n');
        write_atomic(path, text.as_bytes())
    }

    /// Reads the file beside an output, or in it if it is a directory; `None` when there is none.
    pub fn of(out: &Path) -> Result<Option<Self>> {
        let path = place_of(out);
        let text = match input::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(cannot("read", &path, e)),
        };
        Self::parse(&text).map(Some).map_err(|e| e.at(&path))
    }

    fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let broken = |e: serde_json::Error| Diagnostic::error("broken lineage file").caused_by(e);
        let Versioned { version } = serde_json::from_str(text).map_err(broken)?;
        if version > VERSION {
            return Err(Diagnostic::error("the lineage was written by a newer vlft")
                .expected(format!("version {VERSION}"))
                .found(format!("version {version}"))
                .hint("update vlft"));
        }
        serde_json::from_str(text).map_err(broken)
    }
}

/// `data/all.jsonl` -> `data/all.lineage.json`, as its rejects are `data/all.rejects.jsonl`. Other
/// formats keep their extension, so that `all.parquet` has a file of its own.
pub fn beside(out: &Path) -> PathBuf {
    match out.extension() {
        Some(extension) if extension == "jsonl" => out.with_extension("lineage.json"),
        _ => {
            let mut name = out.as_os_str().to_owned();
            name.push(".lineage.json");
            PathBuf::from(name)
        }
    }
}

/// Where the lineage of an output is: beside it, else in the directory: in itself, or for a file of
/// several (`splits/train.jsonl`) in theirs.
pub fn place_of(out: &Path) -> PathBuf {
    let beside = beside(out);
    match (beside.is_file(), out.is_dir()) {
        (true, _) => beside,
        (false, true) => out.join(IN_DIRECTORY),
        (false, false) => base_of(out).join(IN_DIRECTORY),
    }
}

/// Whether a file is a lineage that this program left, and no data.
pub(crate) fn is_lineage(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == IN_DIRECTORY)
        && input::read_to_string(path).is_ok_and(|text| Lineage::parse(&text).is_ok())
}

/// How a source is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Now {
    /// Byte for byte as it was; of a listing: the same names and sizes.
    Same,
    Changed,
    Gone,
}

impl Source {
    fn of(role: &str, path: &Path) -> Result<Self> {
        let (hash_of, sha256, bytes) = match path.is_dir() {
            true => {
                let (hash_of, sha256) = hash_directory(role, path)?;
                (hash_of, sha256, None)
            }
            false => {
                let failed = |e| cannot("read", path, e);
                let bytes = fs::metadata(path).map_err(failed)?.len();
                let sha256 = sha256_file(path).map_err(failed)?;
                (HashOf::Content, sha256, Some(bytes))
            }
        };
        Ok(Self {
            role: role.to_owned(),
            path: whole(path)?,
            hash_of,
            sha256,
            bytes,
        })
    }

    /// Where it is, for a lineage file in the directory `base`.
    pub fn place(&self, base: &Path) -> PathBuf {
        match base == Path::new(".") {
            true => PathBuf::from(&self.path),
            false => base.join(&self.path),
        }
    }

    /// Compares with what is there now.
    pub fn look(&self, base: &Path) -> Result<Now> {
        let path = self.place(base);
        if !path.exists() {
            return Ok(Now::Gone);
        }
        let size_differs = self
            .bytes
            .is_some_and(|bytes| fs::metadata(&path).is_ok_and(|m| m.len() != bytes));
        if size_differs || path.is_dir() == (self.hash_of == HashOf::Content) {
            return Ok(Now::Changed);
        }
        let now = Self::of(&self.role, &path)?;
        Ok(match now.sha256 == self.sha256 {
            true => Now::Same,
            false => Now::Changed,
        })
    }
}

/// Absolute, links resolved, as text.
fn whole(path: &Path) -> Result<String> {
    let whole = path.canonicalize().map_err(|e| cannot("read", path, e))?;
    Ok(whole.display().to_string())
}

/// What a command reads of a directory. An output may lie in the directory of an input, and is no
/// change of it.
fn is_read(role: &str, path: &Path) -> bool {
    let extensions: &[&str] = match role {
        "images" => &["png", "jpg", "jpeg", "webp"],
        "labels" => &["json"],
        _ => return true,
    };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let is_known = extensions.iter().any(|e| e.eq_ignore_ascii_case(extension));
    is_known && !shown(path).ends_with(".lineage.json")
}

/// A directory with manifests by these, which hold the hash of every page; any other by the names
/// and sizes of what is read of it. Neither opens an image.
fn hash_directory(role: &str, dir: &Path) -> Result<(HashOf, String)> {
    let manifests = manifests_in(dir)?.complete;
    let mut hasher = Hasher::default();
    if !manifests.is_empty() {
        for path in &manifests {
            let name = path.file_name().map(|name| shown(Path::new(name)));
            let content = sha256_file(path).map_err(|e| cannot("read", path, e))?;
            hasher.add(format!("{}\0{content}\n", name.unwrap_or_default()));
        }
        return Ok((HashOf::Manifest, hasher.finish()));
    }
    for entry in WalkDir::new(dir).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(dir).to_path_buf();
            cannot("read", &path, e.into())
        })?;
        let ours = entry.depth() == 1 && is_lineage(entry.path());
        if entry.file_type().is_file() && !ours && is_read(role, entry.path()) {
            let path = entry.path();
            let bytes = entry
                .metadata()
                .map_err(|e| cannot("read", path, e.into()))?
                .len();
            let name = shown(path.strip_prefix(dir).unwrap_or(path));
            hasher.add(format!("{name}\0{bytes}\n"));
        }
    }
    Ok((HashOf::Listing, hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_known_again_and_what_changed_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("pages/sub")).unwrap();
        fs::create_dir_all(at("data")).unwrap();
        fs::write(at("results.json"), "[]").unwrap();
        fs::write(at("pages/sub/a.png"), "12").unwrap();
        fs::write(at("data/all.jsonl"), "{}\n").unwrap();
        let save = || {
            Lineage::new("build-jsonl")
                .option("seed", 7)
                .option("aliases", None::<&str>)
                .input("labels", &at("results.json"))
                .unwrap()
                .input("images", &at("pages"))
                .unwrap()
                .output("records", &at("data/all.jsonl"))
                .unwrap()
                .save_beside(&at("data/all.jsonl"))
                .unwrap();
            fs::read(at("data/all.lineage.json")).unwrap()
        };
        assert_eq!(save(), save());

        let lineage = Lineage::of(&at("data/all.jsonl")).unwrap().unwrap();
        assert_eq!(lineage.options.len(), 1);
        let paths: Vec<&str> = lineage.inputs.iter().map(|i| i.path.as_str()).collect();
        assert_eq!(paths, ["../results.json", "../pages"]);
        assert_eq!(lineage.outputs[0].path, "all.jsonl");
        let [labels, images] = &lineage.inputs[..] else {
            panic!("two inputs")
        };
        assert_eq!(images.hash_of, HashOf::Listing);
        let now = |source: &Source| source.look(&at("data")).unwrap();
        assert_eq!((now(labels), now(images)), (Now::Same, Now::Same));
        fs::write(at("results.json"), "{}").unwrap();
        fs::write(at("pages/sub/b.png"), "").unwrap();
        assert_eq!((now(labels), now(images)), (Now::Changed, Now::Changed));
        fs::remove_file(at("results.json")).unwrap();
        assert_eq!(now(labels), Now::Gone);

        // With a manifest, the directory is what the manifest says.
        fs::write(at("pages/manifest.jsonl"), "").unwrap();
        let images = Source::of("images", &at("pages")).unwrap();
        assert_eq!(images.hash_of, HashOf::Manifest);
    }

    #[test]
    fn the_file_is_found_beside_and_in_the_directory() {
        for (out, expected) in [
            ("d/all.jsonl", "d/all.lineage.json"),
            ("d/all.parquet", "d/all.parquet.lineage.json"),
            ("d/all", "d/all.lineage.json"),
        ] {
            assert_eq!(beside(Path::new(out)), Path::new(expected));
        }
        let dir = tempfile::tempdir().unwrap();
        let train = dir.path().join("train.jsonl");
        assert_eq!(Lineage::of(&train).unwrap(), None);
        Lineage::new("split").save_in(dir.path()).unwrap();
        assert_eq!(Lineage::of(&train).unwrap().unwrap().command, "split");
        assert!(is_lineage(&dir.path().join("lineage.json")));
    }

    #[test]
    fn newer_files_are_refused() {
        let text = serde_json::to_string(&Lineage::new("x")).unwrap();
        assert!(Lineage::parse(&text).is_ok());
        let newer = text.replace("\"version\":1", "\"version\":2,\"new\":1");
        let error = Lineage::parse(&newer).unwrap_err();
        assert_eq!(error.message(), "the lineage was written by a newer vlft");
        let unknown = text.replace("\"version\":1", "\"version\":1,\"new\":1");
        assert!(Lineage::parse(&unknown).is_err());
    }
}
