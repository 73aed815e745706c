//! Proving a merged model: every tensor is read back and compared with base + adapter, computed
//! again by the plain loop.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::Result;
use vlft_base::format::{count, grouped, one_line};
use vlft_base::output::cannot;

use super::kernel::add_rows_plain;
use super::plan::Plan;
use super::side::SideFile;
use super::stream::through;
use super::{CONTRACT, file_name, sections, side};
use crate::checkpoint::{Checkpoint, Shard};

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub file: String,
    /// The tensor, if it is one.
    pub tensor: Option<String>,
    pub what: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    pub merged: PathBuf,
    pub base: PathBuf,
    pub adapter: PathBuf,
    pub equal: bool,
    pub tensors_changed: usize,
    pub tensors_unchanged: usize,
    pub side_files: usize,
    /// Files that neither base nor adapter has, and that a merge does not write.
    pub further_files: Vec<String>,
    /// What of the base belongs in no merged model, and so is not compared, and why.
    pub not_compared: BTreeMap<String, String>,
    pub differences: Vec<Difference>,
}

/// Compares a merged model with base + adapter, bit for bit, files beside the weights included.
///
/// # Errors
/// Something cannot be read. A model that is not equal is no error but a report.
pub fn verify(
    merged: &Path,
    base_dir: &Path,
    adapter_dir: &Path,
    progress: &dyn Fn(u64, u64),
) -> Result<VerifyReport> {
    let plan = Plan::new(base_dir, adapter_dir)?;
    // A torn shard is named here.
    let found = Checkpoint::open(merged)?;
    let found_shards = found.shards();
    let shards = plan.base.shards();
    let total: u64 = shards.iter().map(|shard| shard.length as u64).sum();
    let mut differences = Vec::new();
    let mut done = 0;
    for shard in &shards {
        let name = file_name(shard.path);
        let differs = |what: &str| Difference {
            file: name.clone(),
            tensor: None,
            what: what.into(),
        };
        match found_shards
            .iter()
            .find(|found| file_name(found.path) == name)
        {
            None => differences.push(differs("is missing")),
            Some(found) if found.header != shard.header || found.length != shard.length => {
                differences.push(differs("has other names, shapes, types or metadata"));
            }
            Some(found) => {
                let mut step = |bytes: usize| {
                    done += bytes as u64;
                    progress(done, total);
                };
                differences.extend(compare_shard(&plan, shard, found.path, &mut step)?);
            }
        }
    }
    let weights: Vec<&Path> = shards.iter().map(|shard| shard.path).collect();
    let side = side::of(base_dir, &weights)?;
    for SideFile { name, path, .. } in &side.kept {
        let what = match fs::read(merged.join(name)) {
            Err(_) => "is missing",
            Ok(bytes) if bytes == fs::read(path).map_err(|e| cannot("read", path, e))? => continue,
            Ok(_) => "is not the base's file",
        };
        differences.push(Difference {
            file: name.clone(),
            tensor: None,
            what: what.into(),
        });
    }
    let mut known: BTreeSet<String> = weights.iter().map(|path| file_name(path)).collect();
    known.extend(side.kept.iter().map(|file| file.name.clone()));
    known.extend(side::HISTORY.map(String::from));
    known.insert(CONTRACT.into());
    let mut further = further_files(merged, &known)?;
    further.retain(|name| match what_it_does(name) {
        Some(what) => {
            differences.push(Difference {
                file: name.clone(),
                tensor: None,
                what: what.into(),
            });
            false
        }
        None => true,
    });
    Ok(VerifyReport {
        merged: merged.to_path_buf(),
        base: base_dir.to_path_buf(),
        adapter: adapter_dir.to_path_buf(),
        equal: differences.is_empty(),
        tensors_changed: plan.changes.len(),
        tensors_unchanged: plan.base.names().count() - plan.changes.len(),
        side_files: side.kept.len(),
        further_files: further,
        not_compared: side.left_out,
        differences,
    })
}

/// Everything in `merged` that is not known, in folders that a base may have too.
fn further_files(merged: &Path, known: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut further = Vec::new();
    for entry in fs::read_dir(merged).map_err(|e| cannot("read", merged, e))? {
        let path = entry.map_err(|e| cannot("read", merged, e))?.path();
        let name = file_name(&path);
        let inside = format!("{name}/");
        if known.contains(&name) {
            continue;
        }
        if !path.is_dir() || !known.iter().any(|known| known.starts_with(&inside)) {
            further.push(name);
            continue;
        }
        match side::folder(&path, &name, true)? {
            Err(why) => further.push(format!("{name} ({why})")),
            Ok(files) => {
                let names = files.kept.into_iter().map(|file| file.name);
                further.extend(names.chain(files.left_out.into_keys()));
            }
        }
    }
    further.retain(|name| !known.contains(name));
    further.sort();
    Ok(further)
}

/// A further file that makes a server load something else than what was compared.
fn what_it_does(name: &str) -> Option<&'static str> {
    if name.ends_with(".safetensors") && !name.contains('/') {
        Some("is no shard of the base: a server that loads every safetensors file loads it too")
    } else if name == side::ADAPTER_CONFIG {
        Some("is no file of a merged model: transformers loads an adapter over it")
    } else {
        None
    }
}

fn compare_shard(
    plan: &Plan,
    shard: &Shard,
    merged: &Path,
    step: &mut dyn FnMut(usize),
) -> Result<Vec<Difference>> {
    let sections = sections(plan, shard)?;
    let file = File::open(merged).map_err(|e| cannot("read", merged, e))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut found = Vec::new();
    let mut current = None;
    let mut differing = BTreeSet::new();
    let mut same_header = true;
    through(shard.path, &sections, None, |piece| {
        step(piece.bytes.len());
        let section = &sections[piece.section];
        if let Some((name, row)) = &section.change {
            if current
                .as_ref()
                .is_none_or(|(of, _, _)| *of != piece.section)
            {
                let delta = plan.delta(plan.changes[name])?;
                current = Some((piece.section, delta, plan.float(name)?));
            }
            let (_, delta, float) = current.as_ref().expect("set above");
            add_rows_plain(delta, piece.offset / row, &mut piece.bytes, *float);
        }
        found.resize(piece.bytes.len(), 0);
        reader
            .read_exact(&mut found)
            .map_err(|e| cannot("read", merged, e))?;
        if found != piece.bytes {
            let start = section.bytes.start + piece.offset;
            let end = start + found.len();
            let differs = |range: &Range<usize>| {
                let inside = range.start.max(start)..range.end.min(end);
                !inside.is_empty()
                    && found[inside.start - start..inside.end - start]
                        != piece.bytes[inside.start - start..inside.end - start]
            };
            same_header &= !differs(&(0..shard.header));
            let names = shard.tensors.iter().filter(|(_, range)| differs(range));
            differing.extend(names.map(|(name, _)| *name));
        }
        Ok(())
    })?;
    let difference = |tensor: Option<&str>, what: &str| Difference {
        file: file_name(merged),
        tensor: tensor.map(String::from),
        what: what.into(),
    };
    let header = (!same_header).then(|| difference(None, "has another header"));
    let tensors = differing.into_iter().map(|name| {
        let what = match plan.changes.contains_key(name) {
            true => "is not base + adapter",
            false => "is not the base's, and the adapter does not touch it",
        };
        difference(Some(name), what)
    });
    Ok(header.into_iter().chain(tensors).collect())
}

impl Display for VerifyReport {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if self.equal {
            writeln!(
                f,
                "`{}` is base + adapter, bit for bit: {} changed, {} as in the base, {} equal",
                self.merged.display(),
                count(self.tensors_changed as u64, "tensor"),
                grouped(self.tensors_unchanged as u64),
                count(self.side_files as u64, "other file"),
            )?;
        } else {
            writeln!(
                f,
                "`{}` is not base + adapter: {}",
                self.merged.display(),
                count(self.differences.len() as u64, "difference"),
            )?;
            const SHOWN: usize = 20;
            for difference in self.differences.iter().take(SHOWN) {
                match &difference.tensor {
                    Some(tensor) => writeln!(
                        f,
                        "  {}: `{tensor}` {}",
                        one_line(&difference.file),
                        difference.what
                    )?,
                    None => writeln!(f, "  {} {}", one_line(&difference.file), difference.what)?,
                }
            }
            let hidden = self.differences.len().saturating_sub(SHOWN);
            if hidden > 0 {
                writeln!(f, "  and {hidden} more")?;
            }
        }
        if !self.further_files.is_empty() {
            writeln!(
                f,
                "further files: {}",
                one_line(&self.further_files.join(", "))
            )?;
        }
        for (name, why) in &self.not_compared {
            writeln!(
                f,
                "not compared: {} of the base: {}",
                one_line(name),
                one_line(why)
            )?;
        }
        Ok(())
    }
}
