//! An adapter under the names that PEFT and vLLM take: values and everything beside them unchanged.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::{Dtype, View};
use serde::Serialize;
use serde_json::Value;
use vlft_base::output::{Existing, PartialDir, cannot, write_atomic};
use vlft_base::{Diagnostic, Result};

use super::adapter::{CONFIG, FoundAdapter, WEIGHTS};
use super::names::{Name, Part};

/// What was renamed, and what could not be.
#[derive(Clone, Debug, Serialize)]
pub struct Rewritten {
    pub renamed: usize,
    pub kept: usize,
    /// Tensors that no new name makes an adapter's; they are in the output as they were.
    pub cannot: Vec<String>,
}

/// Writes the adapter to `out` under its published names. Tensors that cannot be renamed are kept
/// as they are, so that nothing is lost, and listed.
///
/// # Errors
/// Two tensors would get one name; nothing could be renamed.
pub fn rewrite(dir: &Path, out: &Path, existing: Existing) -> Result<Rewritten> {
    let adapter = FoundAdapter::open(dir)?;
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    let mut report = Rewritten {
        renamed: 0,
        kept: 0,
        cannot: Vec::new(),
    };
    let mut modules = Vec::new();
    for tensor in adapter.tensors.names() {
        let name = Name::parse(tensor);
        let new = name.published();
        match &new {
            None => report.cannot.push(tensor.to_string()),
            Some(new) if new == tensor => report.kept += 1,
            Some(_) => report.renamed += 1,
        }
        if let (Some(module), Part::A | Part::EmbeddingA) = (name.module, name.part) {
            modules.push(module);
        }
        let new = new.unwrap_or_else(|| tensor.to_string());
        if let Some(other) = names.insert(new.clone(), tensor) {
            return Err(Diagnostic::error("two tensors would get the same name")
                .at(adapter.tensors.file_of(tensor))
                .detail(format!("tensors `{other}` and `{tensor}`"))
                .found(format!("`{new}` twice"))
                .hint("the file holds two adapters; save the one you want alone"));
        }
    }
    if report.renamed == 0 {
        return Err(Diagnostic::error("there is nothing to rename")
            .at(dir)
            .hint("`vlft check-adapter` without `--rewrite` says what is wrong with it"));
    }

    let partial = PartialDir::create(out, existing)?;
    let views = names.iter().map(|(new, old)| {
        let view = Renamed {
            dtype: adapter
                .tensors
                .dtype_and_count(old)
                .map_or(Dtype::U8, |(dtype, _)| dtype),
            shape: adapter
                .tensors
                .stored_shape(old)
                .unwrap_or_default()
                .to_vec(),
            bytes: adapter.tensors.bytes_of(old).unwrap_or_default(),
        };
        (new.clone(), view)
    });
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let weights = partial.path().join(WEIGHTS);
    safetensors::serialize_to_file(views.collect::<Vec<_>>(), Some(metadata), &weights).map_err(
        |e| {
            Diagnostic::error("cannot write the adapter")
                .at(&weights)
                .caused_by(e)
        },
    )?;
    let config = renamed_config(&adapter.config, &modules);
    let text = serde_json::to_string_pretty(&config).expect("it was JSON before") + "\n";
    write_atomic(&partial.path().join(CONFIG), text.as_bytes())?;
    copy_others(dir, partial.path())?;
    partial.commit()?;
    Ok(report)
}

/// Whether every tensor has a published name, and some are not under it.
pub(crate) fn only_needs_names(dir: &Path) -> bool {
    let Ok(adapter) = FoundAdapter::open(dir) else {
        return false;
    };
    let names = adapter
        .tensors
        .names()
        .map(|tensor| (tensor, Name::parse(tensor).published()));
    let mut others = false;
    for (tensor, published) in names {
        match published {
            None => return false,
            Some(published) => others |= published != tensor,
        }
    }
    others
}

struct Renamed<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl View for Renamed<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A list of last names means the same modules under either name; a pattern, or whole paths, were
/// written for the old ones, so the modules themselves take their place.
fn renamed_config(config: &Value, modules: &[String]) -> Value {
    let mut config = config.clone();
    let short = |v: &Value| v.as_str().is_some_and(|name| !name.contains('.'));
    let is_short = config
        .get("target_modules")
        .and_then(Value::as_array)
        .is_some_and(|names| names.iter().all(short));
    if !is_short {
        config["target_modules"] = modules.iter().cloned().map(Value::String).collect();
        config["exclude_modules"] = Value::Null;
        config["layers_to_transform"] = Value::Null;
        config["layers_pattern"] = Value::Null;
    }
    config
}

fn copy_others(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).map_err(|e| cannot("read", from, e))? {
        let path = entry.map_err(|e| cannot("read", from, e))?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_file() && name != WEIGHTS && name != CONFIG {
            fs::copy(&path, to.join(name)).map_err(|e| cannot("copy", &path, e))?;
        }
    }
    Ok(())
}
