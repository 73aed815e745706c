//! Merging an adapter into a model: the same shards, names, order, metadata and types, other values
//! where the adapter says so. And the proof that a merged model is base + adapter.

mod kernel;
mod plan;
mod report;
mod side;
mod stream;
mod trained_on;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vlft_base::digest::sha256_file;
use vlft_base::input::read_text;
use vlft_base::output::{Existing, PartialDir, PartialFile, cannot, check_folder, check_free};
use vlft_base::{Diagnostic, Result};

use kernel::{Stats, add_rows};
use plan::Plan;
pub use report::{MergeReport, QuantizedDifference, REPORT_FILE, TensorChange};
use side::SideFiles;
use stream::{Section, through};
pub use verify::{Difference, VerifyReport, verify};

use crate::adapter::ADAPTER_FILES;
use crate::checkpoint::Shard;
use crate::config::Config;

/// What to merge.
pub struct Options {
    /// What the adapter was trained on.
    pub model: PathBuf,
    /// The 16-bit checkpoint to merge into, where `model` is a quantised one.
    pub into: Option<PathBuf>,
    /// Its folder.
    pub adapter: PathBuf,
    /// What the adapter was called before it was unpacked.
    pub adapter_name: String,
    pub out: PathBuf,
    pub existing: Existing,
}

impl Options {
    /// What is merged into.
    fn base(&self) -> &PathBuf {
        self.into.as_ref().unwrap_or(&self.model)
    }
}

const REPORT_VERSION: u32 = 1;
const CONTRACT: &str = "preprocess.lock.json";

/// A merge that fits, before a byte of it is written.
pub struct Merge<'a> {
    options: &'a Options,
    plan: Plan,
    side: SideFiles,
    bytes: u64,
}

/// [`Merge::prepare`] and [`Merge::run`].
pub fn merge(options: &Options, progress: &dyn Fn(u64, u64)) -> Result<MergeReport> {
    Merge::prepare(options)?.run(progress)
}

impl<'a> Merge<'a> {
    /// # Errors
    /// Anything that does not fit.
    pub fn prepare(options: &'a Options) -> Result<Self> {
        let out = &options.out;
        check_folder(out)?;
        check_free(out, options.existing)?;
        let base_dir = options.base();
        refuse_same_place(out, &[base_dir, &options.model, &options.adapter])?;
        if let Some(into) = &options.into {
            check_same_model(&options.model, into)?;
        }
        let plan = Plan::new(base_dir, &options.adapter)?;
        let shards = plan.base.shards();
        let bytes = shards.iter().map(|shard| shard.length as u64).sum();
        let weights: Vec<&Path> = shards.iter().map(|shard| shard.path).collect();
        let side = side::of(base_dir, &weights)?;
        let beside: u64 = side.kept.iter().map(|file| file.bytes).sum();
        check_space(out, bytes + beside)?;
        Ok(Self {
            options,
            plan,
            side,
            bytes,
        })
    }

    /// Writes it, and calls `progress` with the bytes written so far and their total.
    ///
    /// # Errors
    /// Nothing is left of a merge that fails, or that changes no weight.
    pub fn run(self, progress: &dyn Fn(u64, u64)) -> Result<MergeReport> {
        let Self {
            options,
            plan,
            side,
            bytes: total,
        } = self;
        let base_dir = options.base();
        let partial = PartialDir::create(&options.out, options.existing)?;
        let mut base_files = BTreeMap::new();
        let mut changes = Vec::new();
        let mut whole = Stats::default();
        let mut written = 0;
        for shard in &plan.base.shards() {
            let name = file_name(shard.path);
            let target = partial.path().join(&name);
            // `PartialFile` syncs; the folder as a whole is renamed at the end.
            let mut file = PartialFile::create(&target, Existing::Replace)?;
            let mut step = |bytes: usize| {
                written += bytes as u64;
                progress(written, total);
            };
            let hash = merge_shard(
                &plan,
                shard,
                (&mut file, &target),
                &mut changes,
                &mut whole,
                &mut step,
            )?;
            file.commit()?;
            base_files.insert(name, hash);
        }
        if whole.unchanged == whole.count {
            return Err(Diagnostic::error(
                "the merge would change nothing: every change is lost in rounding",
            )
            .at(&options.adapter)
            .hint("a checkpoint in f32 would take it; or serve the adapter beside the base"));
        }
        for file in &side.kept {
            copy(&file.path, &partial.path().join(&file.name))?;
        }
        let contract = options.adapter.join(CONTRACT);
        if contract.exists() && !base_dir.join(CONTRACT).exists() {
            copy(&contract, &partial.path().join(CONTRACT))?;
        }
        let trained_on = options.into.as_ref().map(|_| options.model.as_path());
        let quantized = trained_on::quantized(&options.adapter, trained_on);
        let layout = &plan.adapter.layout;
        let report = MergeReport {
            version: REPORT_VERSION,
            tool: format!("vlft {}", env!("CARGO_PKG_VERSION")),
            base: base_dir.display().to_string(),
            base_files,
            adapter: options.adapter_name.clone(),
            adapter_files: hashes(&options.adapter, &ADAPTER_FILES)?,
            trained_on: trained_on.map(|model| model.display().to_string()),
            rank: layout.rank,
            alpha: layout.alpha,
            rslora: layout.rslora,
            tensors_total: plan.base.names().count(),
            weights_changed: whole.count - whole.unchanged,
            weights_unchanged: whole.unchanged,
            tensors: changes,
            left_out: side.left_out.keys().cloned().collect(),
            left_out_why: side.left_out,
            quantized_base: quantized.as_ref().is_some_and(|base| base.four_bits),
            quantized_by: quantized.map(|base| base.method),
            quantized_difference: None,
        };
        report.write(partial.path())?;
        partial.commit()?;
        Ok(report)
    }
}

fn merge_shard(
    plan: &Plan,
    shard: &Shard,
    out: (&mut (dyn Write + Send), &Path),
    changes: &mut Vec<TensorChange>,
    whole: &mut Stats,
    step: &mut dyn FnMut(usize),
) -> Result<String> {
    let sections = sections(plan, shard)?;
    let mut current = None;
    let mut stats = Stats::default();
    let mut finish = |section: &Section, stats: &mut Stats| -> Result<()> {
        let Some((name, _)) = &section.change else {
            return Ok(());
        };
        if stats.not_finite > 0 {
            return Err(Diagnostic::error("a merged weight is no finite number")
                .at(shard.path)
                .detail(format!("tensor `{name}`"))
                .hint("the base is damaged, or the change does not fit the type of its weights"));
        }
        let dtype = plan
            .base
            .dtype_and_count(name)
            .map_or(String::new(), |(d, _)| d.to_string());
        changes.push(TensorChange::new(name.clone(), dtype, stats));
        whole.add(stats);
        *stats = Stats::default();
        Ok(())
    };
    through(shard.path, &sections, Some(out), |piece| {
        step(piece.bytes.len());
        let section = &sections[piece.section];
        let Some((name, row)) = &section.change else {
            return Ok(());
        };
        if current
            .as_ref()
            .is_none_or(|(of, _, _)| *of != piece.section)
        {
            let delta = plan.delta(plan.changes[name])?;
            current = Some((piece.section, delta, plan.float(name)?));
        }
        let (_, delta, float) = current.as_ref().expect("set above");
        stats.add(&add_rows(
            delta,
            piece.offset / row,
            &mut piece.bytes,
            *float,
        ));
        match piece.offset + piece.bytes.len() == section.bytes.len() {
            true => finish(section, &mut stats),
            false => Ok(()),
        }
    })
}

/// The header as it is, then runs of unchanged tensors and single changed ones, in the file's order.
fn sections(plan: &Plan, shard: &Shard) -> Result<Vec<Section>> {
    let mut sections = vec![Section {
        bytes: 0..shard.header,
        change: None,
    }];
    for (name, range) in &shard.tensors {
        let change = match plan.changes.get(*name) {
            None => None,
            Some(index) => {
                let columns = plan.adapter.layout.modules[*index].in_features;
                Some(((*name).to_string(), columns * plan.float(name)?.size()))
            }
        };
        match sections.last_mut() {
            Some(last) if last.change.is_none() && change.is_none() => last.bytes.end = range.end,
            _ => sections.push(Section {
                bytes: range.clone(),
                change,
            }),
        }
    }
    Ok(sections)
}

/// The quantised model and the 16-bit one must be the same model. How the first is quantised does
/// not matter here: it is not read.
fn check_same_model(model: &Path, into: &Path) -> Result<()> {
    let sizes = |dir: &Path| {
        let path = dir.join("config.json");
        let text = read_text(&path).map_err(|e| cannot("read", &path, e))?;
        let mut json: Value = serde_json::from_str(&text).map_err(|e| {
            Diagnostic::error("the model's config is not JSON")
                .at(&path)
                .caused_by(e)
        })?;
        if let Some(keys) = json.as_object_mut() {
            keys.shift_remove("quantization_config");
        }
        Config::from_json(&json, &path)
    };
    if sizes(model)?.linear_modules() == sizes(into)?.linear_modules() {
        return Ok(());
    }
    Err(
        Diagnostic::error("`--into` is not the model that was trained on")
            .at(into.join("config.json"))
            .expected(format!("the sizes of `{}`", model.display()))
            .hint("name the 16-bit checkpoint that the quantised one was made from"),
    )
}

fn refuse_same_place(out: &Path, inputs: &[&PathBuf]) -> Result<()> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    for input in inputs {
        if real(out).is_some_and(|out| real(input).is_some_and(|input| input.starts_with(&out))) {
            return Err(Diagnostic::error("the output would replace an input")
                .at(out)
                .hint("choose another `--out`: a base is never merged into itself"));
        }
    }
    Ok(())
}

/// The whole output, and some room for the file system.
#[cfg(unix)]
fn check_space(out: &Path, needed: u64) -> Result<()> {
    use vlft_base::format::bytes;

    let existing = out.ancestors().find(|path| path.exists());
    let place = existing
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let Ok(disk) = rustix::fs::statvfs(place) else {
        return Ok(());
    };
    let free = disk.f_bavail * disk.f_frsize;
    if free >= needed + needed / 100 {
        return Ok(());
    }
    Err(
        Diagnostic::error("there is not enough disk space for the merged model")
            .at(out)
            .expected(bytes(needed))
            .found(format!("{} free", bytes(free)))
            .hint("free some disk space, or choose another `--out`"),
    )
}

#[cfg(not(unix))]
fn check_space(_: &Path, _: u64) -> Result<()> {
    Ok(()) // a full disk ends the merge, and nothing is left of it
}

fn hashes(dir: &Path, names: &[&str]) -> Result<BTreeMap<String, String>> {
    let hash = |name: &&str| {
        let path = dir.join(name);
        let hash = sha256_file(&path).map_err(|e| cannot("read", &path, e))?;
        Ok(((*name).to_string(), hash))
    };
    names.iter().map(hash).collect()
}

fn copy(path: &Path, target: &Path) -> Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|e| cannot("create", parent, e))?;
    }
    fs::copy(path, target)
        .map(|_| ())
        .map_err(|e| cannot("copy", path, e))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
