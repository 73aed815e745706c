//! The files of a model folder beside its weights: those of sentence-transformers (`1_Pooling`), more chat
//! templates and the like are folders and belong to the model; a tree that happens to lie there does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vlft_base::Result;
use vlft_base::format::{bytes, count};
use vlft_base::input::read_text;
use vlft_base::output::cannot;

use super::report::REPORT_FILE;

/// What belongs to the model and is copied, and what is left out.
#[derive(Default)]
pub(crate) struct SideFiles {
    pub(crate) kept: Vec<SideFile>,
    /// By name, and why.
    pub(crate) left_out: BTreeMap<String, String>,
}

pub(crate) struct SideFile {
    /// Below the model's folder, with `/`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Where a base came from that was merged itself: of the output that would be wrong.
pub(crate) const HISTORY: [&str; 2] = [REPORT_FILE, "lineage.json"];

/// What makes transformers load an adapter over the weights of a folder, and tools take it for one.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";

/// The largest folder, or file, that is taken along. Those of models have some kilobytes, with a learned layer of
/// sentence-transformers some tens of megabytes.
const MOST_ENTRIES: usize = 1_000;
const MOST_BYTES: u64 = 256 << 20;

/// Everything in `dir` but its weights: kept, or left out with a reason.
pub(crate) fn of(dir: &Path, weights: &[&Path]) -> Result<SideFiles> {
    let mut files = SideFiles::default();
    let parts = parts_with_weights(dir);
    for entry in fs::read_dir(dir).map_err(|e| cannot("read", dir, e))? {
        let path = entry.map_err(|e| cannot("read", dir, e))?.path();
        let name = file_name(&path);
        if weights.contains(&path.as_path()) {
            continue;
        }
        let why = if HISTORY.contains(&name.as_str()) {
            Some("how the base came about".to_string())
        } else if name == ADAPTER_CONFIG {
            Some("of an adapter, for which the merged model would be taken".to_string())
        } else if path.is_dir() && !name.starts_with('.') && !path.is_symlink() {
            match folder(&path, &name, parts.contains(&name))? {
                Ok(inside) => {
                    files.kept.extend(inside.kept);
                    files.left_out.extend(inside.left_out);
                    None
                }
                Err(why) => Some(why),
            }
        } else {
            match unwanted(&path, &name) {
                Some(why) => Some(why.to_string()),
                None if is_weights(&name) => {
                    Some("weights in another form, those of before the merge".to_string())
                }
                None => match side_file(name.clone(), path)? {
                    large if large.bytes > MOST_BYTES => Some(too_much()),
                    file => {
                        files.kept.push(file);
                        None
                    }
                },
            }
        };
        if let Some(why) = why {
            files.left_out.insert(name, why);
        }
    }
    files.kept.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// What is in a folder beside the weights, or why it is left out as a whole: a folder with weights is
/// another model, an adapter, or this one before the merge.
pub(crate) fn folder(
    root: &Path,
    root_name: &str,
    with_weights: bool,
) -> Result<Result<SideFiles, String>> {
    let mut files = SideFiles::default();
    let mut folders = vec![(root.to_path_buf(), root_name.to_string())];
    let (mut entries, mut size) = (0, 0);
    while let Some((dir, dir_name)) = folders.pop() {
        for entry in fs::read_dir(&dir).map_err(|e| cannot("read", &dir, e))? {
            let path = entry.map_err(|e| cannot("read", &dir, e))?.path();
            let name = format!("{dir_name}/{}", file_name(&path));
            entries += 1;
            if entries > MOST_ENTRIES {
                let most = count(MOST_ENTRIES as u64, "file");
                return Ok(Err(format!("more than {most}, as no part of a model has")));
            }
            if let Some(why) = unwanted(&path, &file_name(&path)) {
                files.left_out.insert(name, why.to_string());
            } else if path.is_dir() {
                folders.push((path, name));
            } else if is_weights(&name) && !with_weights {
                return Ok(Err(format!("it has weights of its own, `{name}`")));
            } else {
                let file = side_file(name, path)?;
                size += file.bytes;
                files.kept.push(file);
            }
            if size > MOST_BYTES {
                return Ok(Err(too_much()));
            }
        }
    }
    Ok(match files.kept.is_empty() {
        true => Err("no file in it".to_string()),
        false => Ok(files),
    })
}

fn too_much() -> String {
    format!(
        "more than {}, as no part of a model has beside its weights",
        bytes(MOST_BYTES)
    )
}

/// Links to files are followed: the cache of Hugging Face has nothing else. Those to folders may lead
/// anywhere, and in circles.
fn unwanted(path: &Path, name: &str) -> Option<&'static str> {
    if name.starts_with('.') {
        Some("hidden")
    } else if path.is_symlink() && path.is_dir() {
        Some("a link to a folder, which is not followed")
    } else if path.is_symlink() && !path.exists() {
        Some("a link that leads nowhere")
    } else if !path.is_file() && !path.is_dir() {
        Some("no regular file")
    } else {
        None
    }
}

fn is_weights(name: &str) -> bool {
    const WEIGHTS: [&str; 9] = [
        "safetensors",
        "bin",
        "pt",
        "pth",
        "gguf",
        "onnx",
        "msgpack",
        "h5",
        "ckpt",
    ];
    let extension = Path::new(name).extension().unwrap_or_default();
    let extension = extension.to_string_lossy().to_lowercase();
    WEIGHTS.contains(&extension.as_str()) || name.ends_with(".bin.index.json")
}

/// The folders that sentence-transformers runs after the model; a learned layer among them has weights.
fn parts_with_weights(dir: &Path) -> Vec<String> {
    let text = read_text(&dir.join("modules.json")).unwrap_or_default();
    let modules: Value = serde_json::from_str(&text).unwrap_or_default();
    let paths = modules.as_array().into_iter().flatten();
    paths
        .filter_map(|module| module.get("path")?.as_str())
        .filter(|path| !path.is_empty())
        .map(String::from)
        .collect()
}

fn side_file(name: String, path: PathBuf) -> Result<SideFile> {
    let bytes = fs::metadata(&path)
        .map_err(|e| cannot("read", &path, e))?
        .len();
    Ok(SideFile { name, path, bytes })
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
