//! `RUN/inputs.json`: what a run reads besides its config, as hashes. A resumed run whose records
//! or weights are others than at its start would go on with steps that mean something else.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vlft_base::digest::{Hasher, sha256, sha256_file};
use vlft_base::output::{cannot, write_atomic};
use vlft_base::{Diagnostic, Result, format};
use vlft_checkpoint::Checkpoint;
use vlft_dataset::image_path::{base_of, find};
use vlft_dataset::jsonl;
use vlft_processor::contract::Contract;

use crate::config::{Change, Config, OnError};

pub(crate) const INPUTS_FILE: &str = "inputs.json";
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inputs {
    version: u32,
    model: Model,
    train: Records,
    /// Records that are trained on: those that are too long or weigh nothing are left out.
    samples: u64,
    val: Option<Records>,
    /// How records become samples: tokenizer, template, image sizes.
    contract: Contract,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    /// SHA-256 of `config.json`.
    config: String,
    /// See [`Checkpoint::fingerprint`].
    weights: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    records: u64,
    /// Of the records' content: the spelling of the JSON and the name of the file do not matter.
    sha256: String,
    images: u64,
    /// Of the content of all images, in their order.
    images_sha256: String,
}

impl Inputs {
    pub(crate) fn of(
        config: &Config,
        weights: &Checkpoint,
        contract: Contract,
        samples: usize,
    ) -> Result<Self> {
        let model_config = config.model.path.join("config.json");
        let hash = sha256_file(&model_config).map_err(|e| cannot("read", &model_config, e))?;
        Ok(Self {
            version: VERSION,
            model: Model {
                config: hash,
                weights: weights.fingerprint(),
            },
            train: Records::of(&config.data.train)?,
            samples: samples as u64,
            val: config.data.val.as_deref().map(Records::of).transpose()?,
            contract,
        })
    }

    pub(crate) fn write(&self, run_dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain values") + "\n";
        write_atomic(&run_dir.join(INPUTS_FILE), text.as_bytes())
    }

    /// None if the run has none.
    pub(crate) fn read(run_dir: &Path) -> Result<Option<Self>> {
        let path = run_dir.join(INPUTS_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(cannot("read", &path, e)),
        };
        let inputs = serde_json::from_str(&text).map_err(|e| {
            Diagnostic::error("cannot read what data and model this run began with")
                .at(&path)
                .caused_by(e)
                .hint("delete this file to resume without that check, at your own risk")
        })?;
        Ok(Some(inputs))
    }

    /// What is different `now`, in words. `changed`: keys of the config that changed; what follows
    /// from one of them is not told again.
    pub(crate) fn differences(
        &self,
        now: &Self,
        config: &Config,
        changed: &[Change],
    ) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut tell = |key: &'static str, text: String| found.push(Difference { key, text });
        if self.model.config != now.model.config {
            tell("model.path", "its `config.json` has changed".into());
        }
        if self.model.weights != now.model.weights {
            tell("model.path", "its weights are others".into());
        }
        let differs = |key: &str| changed.iter().any(|change| change.key == key);
        if !differs("data.min_pixels") && !differs("data.max_pixels") {
            for text in self.contract.differences(&now.contract) {
                tell("model.path", text);
            }
        }
        // With `skip`, images may come and go.
        let images = config.data.on_error == OnError::Error;
        if let Some(text) = self.train.difference(&now.train, images) {
            tell("data.train", text);
        } else if self.samples != now.samples && !differs("data.max_tokens") {
            let (was, now) = (self.samples, now.samples);
            tell(
                "data.train",
                format!("{was} of its records were trained on, now {now}"),
            );
        }
        if let (Some(was), Some(now)) = (&self.val, &now.val)
            && let Some(text) = was.difference(now, true)
        {
            tell("data.val", text);
        }
        found
    }
}

/// Content that is not what it was, below a key of the config.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) key: &'static str,
    pub(crate) text: String,
}

impl Difference {
    /// Records to evaluate on may change: no step depends on them.
    pub(crate) fn may_be_allowed(&self) -> bool {
        self.key == "data.val"
    }
}

impl Records {
    fn of(path: &Path) -> Result<Self> {
        let mut hasher = Hasher::default();
        let records = jsonl::load_for_training(path)?;
        for numbered in &records {
            hasher.add(serde_json::to_string(&numbered.record).expect("it came from JSON"));
            hasher.add("\n");
        }
        let images: Vec<&str> = records.iter().flat_map(|n| n.record.images()).collect();
        let contents: Vec<String> = images
            .par_iter()
            .map(|image| {
                let found = find(base_of(path), image);
                let content = found.and_then(|found| sha256_file(&found.path).ok());
                content.unwrap_or_else(|| "missing".to_string())
            })
            .collect();
        Ok(Self {
            records: records.len() as u64,
            sha256: hasher.finish(),
            images: images.len() as u64,
            images_sha256: sha256(contents.join("\n")),
        })
    }

    fn difference(&self, now: &Self, images: bool) -> Option<String> {
        if self.sha256 != now.sha256 {
            let shown = |r: &Self| {
                let count = format::count(r.records, "record");
                format!(
                    "{count} (SHA-256 {}..)",
                    r.sha256.get(..8).unwrap_or_default()
                )
            };
            return Some(format!("had {}, has now {}", shown(self), shown(now)));
        }
        (images && self.images_sha256 != now.images_sha256).then(|| {
            let short = |r: &Self| r.images_sha256.get(..8).unwrap_or_default().to_string();
            let count = format::count(now.images, "image");
            format!(
                "its images have changed: {count} with SHA-256 {}.., now {}..",
                short(self),
                short(now)
            )
        })
    }
}
