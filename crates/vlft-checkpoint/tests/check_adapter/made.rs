//! Adapters made for a test, and what the check says of one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;
use vlft_checkpoint::serving::{Options, Report, Version, check};
use vlft_checkpoint::{Config, Module};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// An adapter on its way to a folder: shapes, and one value that fills each tensor.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, f32)>,
    config: Value,
}

pub(crate) const RANK: usize = 4;

impl Made {
    /// As PEFT writes one for these modules.
    pub(crate) fn of(modules: &[Module]) -> Self {
        let mut tensors = BTreeMap::new();
        for module in modules {
            let name = |part| format!("base_model.model.{}.lora_{part}.weight", module.name);
            tensors.insert(name("A"), (vec![RANK, module.in_features], 0.5));
            tensors.insert(name("B"), (vec![module.out_features, RANK], 0.25));
        }
        let config = json!({
            "peft_type": "LORA", "r": RANK, "lora_alpha": 8, "bias": "none",
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            "base_model_name_or_path": "models/tiny", "use_dora": false, "modules_to_save": null,
        });
        Self { tensors, config }
    }

    pub(crate) fn set(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    pub(crate) fn rename(mut self, from: &str, to: &str) -> Self {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors
            .map(|(name, tensor)| (name.replacen(from, to, 1), tensor))
            .collect();
        self
    }

    pub(crate) fn without(mut self, part: &str) -> Self {
        self.tensors.retain(|name, _| !name.contains(part));
        self
    }

    pub(crate) fn with(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.insert(name.into(), (shape.to_vec(), 1.0));
        self
    }

    /// Another shape for the tensors of this name.
    pub(crate) fn reshape(mut self, part: &str, change: impl Fn(&mut Vec<usize>)) -> Self {
        let mut hit = 0;
        for (_, (shape, _)) in self
            .tensors
            .iter_mut()
            .filter(|(name, _)| name.contains(part))
        {
            change(shape);
            hit += 1;
        }
        assert!(hit > 0, "no tensor has `{part}`");
        self
    }

    pub(crate) fn fill(mut self, part: &str, value: f32) -> Self {
        for (_, (_, filled)) in self
            .tensors
            .iter_mut()
            .filter(|(name, _)| name.contains(part))
        {
            *filled = value;
        }
        self
    }

    pub(crate) fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let bytes: BTreeMap<&String, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, (shape, value))| {
                let count: usize = shape.iter().product();
                (name, value.to_le_bytes().repeat(count))
            })
            .collect();
        let views = self.tensors.iter().map(|(name, (shape, _))| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap(),
            )
        });
        let path = dir.path().join("adapter_model.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
        fs::write(
            dir.path().join("adapter_config.json"),
            self.config.to_string(),
        )
        .unwrap();
        dir
    }
}

pub(crate) fn text_modules(config: &Config) -> Vec<Module> {
    let text = |m: &Module| m.name.starts_with("model.language_model.");
    config.linear_modules().into_iter().filter(text).collect()
}

pub(crate) fn options(version: &str, model: Option<PathBuf>, served_with: Option<&str>) -> Options {
    Options {
        version: Version::named(version).unwrap(),
        model,
        served_with: served_with.map(String::from),
        archive: None,
    }
}

pub(crate) fn judged(made: &Made, options: &Options) -> Report {
    let dir = made.write();
    check(dir.path(), options).unwrap()
}

/// The rules that hit, in the report's order.
pub(crate) fn rules(report: &Report) -> Vec<&'static str> {
    report.problems.iter().map(|problem| problem.rule).collect()
}
