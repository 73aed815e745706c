//! What is in a folder: a model, an adapter, or a run that made one. Only headers are read, so a
//! model of 60 GB is told in a second; with `hash` every byte is.

mod adapter;
mod model;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use serde::Serialize;
use vlft_base::digest::sha256_file;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

use crate::archive::Packed;

pub use adapter::{AdapterInfo, RunInfo};
pub use model::{ModelInfo, Needs, PartInfo};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Info {
    Model(ModelInfo),
    Adapter(AdapterInfo),
    Run(RunInfo),
}

/// Looks at a folder.
///
/// # Errors
/// It is neither a model nor an adapter nor a run; or a model of another family, which is named.
pub fn info(dir: &Path, hash: bool) -> Result<Info> {
    info_of(dir, None, hash)
}

/// [`info`] of a folder that was unpacked from an archive for now.
pub fn info_of(dir: &Path, archive: Option<&Packed>, hash: bool) -> Result<Info> {
    if dir.join("adapter_config.json").exists() {
        return adapter::read(dir, archive, hash).map(Info::Adapter);
    }
    if dir.join("config.json").exists() {
        return model::read(dir, hash).map(Info::Model);
    }
    if dir.join("metrics.jsonl").exists() || dir.join("config.toml").exists() {
        return adapter::read_run(dir, hash).map(Info::Run);
    }
    let error = Diagnostic::error("neither a model, nor an adapter, nor a run").at(dir).expected(
        "a folder with `config.json` and safetensors, with `adapter_config.json`, or with `metrics.jsonl`",
    );
    Err(match dir.exists() {
        true => error,
        false => error.hint("there is no such folder"),
    })
}

fn hashes(dir: &Path, hash: bool) -> Result<Option<BTreeMap<String, String>>> {
    if !hash {
        return Ok(None);
    }
    let mut hashes = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|e| cannot("read", dir, e))? {
        let path = entry.map_err(|e| cannot("read", dir, e))?.path();
        if path.is_file() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            hashes.insert(
                name,
                sha256_file(&path).map_err(|e| cannot("read", &path, e))?,
            );
        }
    }
    Ok(Some(hashes))
}

fn write_hashes(f: &mut Formatter, hashes: Option<&BTreeMap<String, String>>) -> fmt::Result {
    for (name, hash) in hashes.into_iter().flatten() {
        writeln!(f, "sha256    {hash}  {name}")?;
    }
    Ok(())
}

impl Display for Info {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Self::Model(model) => model.fmt(f),
            Self::Adapter(adapter) => adapter.fmt(f),
            Self::Run(run) => run.fmt(f),
        }
    }
}
