//! The files of a model folder beside its weights.

use std::fs;
use std::path::{Path, PathBuf};

use vlft_base::Result;
use vlft_base::output::cannot;

use super::report::REPORT_FILE;

/// What belongs to the model and is copied, and what is left out.
pub(crate) struct SideFiles {
    pub(crate) kept: Vec<PathBuf>,
    pub(crate) left_out: Vec<String>,
}

/// Where a base came from that was merged itself: of the output that would be wrong.
pub(crate) const HISTORY: [&str; 2] = [REPORT_FILE, "lineage.json"];

/// Weights in other forms would be those of before the merge; folders and hidden files are no part
/// of a model.
pub(crate) fn of(dir: &Path, weights: &[&Path]) -> Result<SideFiles> {
    const OTHER_WEIGHTS: [&str; 7] = ["safetensors", "bin", "pt", "pth", "gguf", "onnx", "msgpack"];
    let mut files = SideFiles {
        kept: Vec::new(),
        left_out: Vec::new(),
    };
    let entries = fs::read_dir(dir).map_err(|e| cannot("read", dir, e))?;
    for entry in entries {
        let path = entry.map_err(|e| cannot("read", dir, e))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if weights.contains(&path.as_path()) {
            continue;
        }
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let foreign = OTHER_WEIGHTS.contains(&extension.as_str())
            || name.ends_with(".bin.index.json")
            || name.starts_with('.')
            || HISTORY.contains(&name.as_str());
        match foreign || !path.is_file() {
            true => files.left_out.push(name),
            false => files.kept.push(path),
        }
    }
    files.kept.sort();
    files.left_out.sort();
    Ok(files)
}
