//! An adapter, and the run that made one.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use vlft_base::Result;
use vlft_base::format::{bytes, grouped};
use vlft_base::input::read_text;

use super::{hashes, write_hashes};
use crate::archive::Packed;
use crate::serving::{Options, Report, VERSIONS, check, quoted};

#[derive(Clone, Debug, Serialize)]
pub struct AdapterInfo {
    pub path: PathBuf,
    pub made_by: &'static str,
    pub base: Option<String>,
    /// The model by the shapes, in words.
    pub model: String,
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    pub modules: usize,
    pub vision_modules: usize,
    pub parameters: u64,
    pub bytes: u64,
    pub dtypes: BTreeMap<String, usize>,
    /// What it was trained on: `nf4`, `bf16`, `f32`; only vlft writes it down.
    pub trained_on: Option<String>,
    /// Whether vLLM (the newest version known) applies all of it.
    pub served_by_vllm: bool,
    /// What to run before it is served, where it is in an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpack: Option<String>,
    pub serve: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<BTreeMap<String, String>>,
}

/// The folder of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunInfo {
    pub path: PathBuf,
    pub finished: bool,
    pub steps: u64,
    pub last_loss: Option<f64>,
    pub checkpoints: Vec<String>,
    /// Its result, if it has one already.
    pub adapter: Option<AdapterInfo>,
}

pub(super) fn read(dir: &Path, archive: Option<&Packed>, hash: bool) -> Result<AdapterInfo> {
    let options = Options {
        version: &VERSIONS[0],
        model: None,
        served_with: None,
        archive: archive.cloned(),
    };
    let report: Report = check(dir, &options)?;
    let file = crate::Checkpoint::open_file(&dir.join("adapter_model.safetensors"))?;
    let mut dtypes = BTreeMap::new();
    let mut parameters = 0;
    for name in file.names() {
        if let Some((dtype, count)) = file.dtype_and_count(name) {
            *dtypes.entry(dtype.to_string()).or_default() += 1;
            parameters += count as u64;
        }
    }
    let json = |name: &str| -> Value {
        let text = read_text(&dir.join(name)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(String::from);
    let mut modules: Vec<&str> = report
        .fates
        .iter()
        .filter_map(|t| t.module.as_deref())
        .collect();
    modules.sort_unstable();
    modules.dedup();
    Ok(AdapterInfo {
        path: archive.map_or(dir, |packed| &packed.archive).to_path_buf(),
        made_by: report.made_by,
        base: text(&json("adapter_config.json"), "base_model_name_or_path"),
        model: report.model.clone(),
        rank: report.rank,
        alpha: report.alpha,
        rslora: report.rslora,
        modules: modules.len(),
        vision_modules: modules
            .iter()
            .filter(|m| m.starts_with("model.visual."))
            .count(),
        parameters,
        bytes: file.shards().iter().map(|shard| shard.length as u64).sum(),
        dtypes,
        trained_on: text(&json("preprocess.lock.json"), "base"),
        served_by_vllm: report.passes,
        unpack: report.serve.unpack,
        serve: report.serve.command,
        sha256: hashes(dir, hash)?,
    })
}

pub(super) fn read_run(dir: &Path, hash: bool) -> Result<RunInfo> {
    let metrics = read_text(&dir.join("metrics.jsonl")).unwrap_or_default();
    let mut run = RunInfo {
        path: dir.to_path_buf(),
        finished: false,
        steps: 0,
        last_loss: None,
        checkpoints: Vec::new(),
        adapter: None,
    };
    for line in metrics
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        match line.get("type").and_then(Value::as_str) {
            Some("step") => {
                run.steps = line
                    .get("step")
                    .and_then(Value::as_u64)
                    .unwrap_or(run.steps);
                run.last_loss = line.get("loss").and_then(Value::as_f64);
            }
            Some("summary") => run.finished = true,
            _ => {}
        }
    }
    if let Ok(entries) = fs::read_dir(dir.join("checkpoints")) {
        let names =
            entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()));
        run.checkpoints = names.collect();
        run.checkpoints.sort();
    }
    let adapter = dir.join("adapter");
    if adapter.join("adapter_config.json").exists() {
        run.adapter = Some(read(&adapter, None, hash)?);
    }
    Ok(run)
}

impl Display for AdapterInfo {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let kind = if self.rslora { ", rsLoRA" } else { "" };
        writeln!(
            f,
            "adapter   `{}`, made by {}",
            self.path.display(),
            self.made_by
        )?;
        writeln!(
            f,
            "base      {}",
            self.base.as_deref().unwrap_or("not named")
        )?;
        writeln!(f, "model     {}", self.model)?;
        writeln!(
            f,
            "LoRA      rank {}, alpha {}{kind}",
            self.rank, self.alpha
        )?;
        writeln!(
            f,
            "modules   {}, {} of them in the vision tower",
            grouped(self.modules as u64),
            grouped(self.vision_modules as u64),
        )?;
        let types: Vec<String> = self
            .dtypes
            .iter()
            .map(|(t, n)| format!("{t} ({n})"))
            .collect();
        writeln!(
            f,
            "weights   {} parameters, {}: {}",
            grouped(self.parameters),
            bytes(self.bytes),
            types.join(", "),
        )?;
        if let Some(base) = &self.trained_on {
            writeln!(f, "trained   on a base in {base}")?;
        }
        match self.served_by_vllm {
            true => {
                if let Some(unpack) = &self.unpack {
                    writeln!(f, "unpack    {unpack}")?;
                }
                writeln!(f, "serve     {}", self.serve)?;
            }
            false => writeln!(
                f,
                "serve     vLLM would not apply all of it: `vlft check-adapter {}`",
                quoted(&self.path.display().to_string()),
            )?,
        }
        write_hashes(f, self.sha256.as_ref())
    }
}

impl Display for RunInfo {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let state = if self.finished {
            "finished"
        } else {
            "not finished; the same command resumes"
        };
        writeln!(f, "run       `{}`, {state}", self.path.display())?;
        let loss = self
            .last_loss
            .map_or(String::new(), |loss| format!(", last loss {loss:.4}"));
        writeln!(f, "steps     {}{loss}", grouped(self.steps))?;
        if !self.checkpoints.is_empty() {
            writeln!(f, "saved     {}", self.checkpoints.join(", "))?;
        }
        match &self.adapter {
            Some(adapter) => adapter.fmt(f),
            None => writeln!(f, "adapter   none yet"),
        }
    }
}
