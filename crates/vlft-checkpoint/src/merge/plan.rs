//! What is merged into what, checked before a byte is written.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use vlft_base::input::read_text;
use vlft_base::{Diagnostic, Result};

use super::kernel::Delta;
use crate::adapter::{AdapterFile, tensor_name};
use crate::checkpoint::{Checkpoint, shape_text};
use crate::config::Config;
use crate::float::Float;
use crate::layout::Adapted;
use crate::serving;

/// A base, an adapter that fits it, and where each pair belongs.
pub(crate) struct Plan {
    pub(crate) base: Checkpoint,
    pub(crate) adapter: AdapterFile,
    /// The adapted module of each tensor that changes, by the tensor's name.
    pub(crate) changes: BTreeMap<String, usize>,
}

impl Plan {
    /// `base`: what is merged into, 16 or 32 bits.
    pub(crate) fn new(base_dir: &Path, adapter_dir: &Path) -> Result<Self> {
        refuse_quantized(base_dir)?;
        let config = Config::from_dir(base_dir)?;
        let base = Checkpoint::open(base_dir)?;
        if base.is_quantized() {
            return Err(quantized(base_dir, "its tensors hold 4-bit codes"));
        }
        base.check(&config.tensors())?;
        let adapter =
            AdapterFile::open(adapter_dir, &config).map_err(
                |e| match serving::only_needs_names(adapter_dir) {
                    true => e.hint(format!(
                        "the names are of another style: `vlft check-adapter {} --rewrite OUT`",
                        adapter_dir.display()
                    )),
                    false => e,
                },
            )?;
        let mut changes = BTreeMap::new();
        for (index, module) in adapter.layout.modules.iter().enumerate() {
            let name = format!("{}.weight", module.name);
            let shape = [module.out_features, module.in_features];
            if base.stored_shape(&name) != Some(&shape) {
                return Err(Diagnostic::error("the base has no matrix of this shape")
                    .at(base.file_of(&name))
                    .detail(format!("tensor `{name}`"))
                    .expected(shape_text(&shape))
                    .found(
                        base.stored_shape(&name)
                            .map_or("nothing".into(), shape_text),
                    ));
            }
            changes.insert(name, index);
        }
        let plan = Self {
            base,
            adapter,
            changes,
        };
        plan.check_values(adapter_dir)?;
        Ok(plan)
    }

    /// Broken values, and an adapter that is zero everywhere, are found before anything is written.
    fn check_values(&self, adapter_dir: &Path) -> Result<()> {
        let mut changes = false;
        for module in &self.adapter.layout.modules {
            let mut any = [false; 2];
            for (part, any) in ['A', 'B'].into_iter().zip(&mut any) {
                let name = tensor_name(&module.name, part);
                for value in self.adapter.tensors.values(&name)? {
                    *any |= value != 0.0;
                    if !value.is_finite() {
                        return Err(
                            Diagnostic::error("the adapter has a value that is no number")
                                .at(self.adapter.tensors.file_of(&name))
                                .detail(format!("tensor `{name}`"))
                                .found(value.to_string())
                                .hint("training went wrong, or the file is damaged"),
                        );
                    }
                }
            }
            let scale = self.adapter.layout.scale(module.rank, module.alpha);
            changes |= any == [true, true] && scale != 0.0;
        }
        match changes {
            true => Ok(()),
            false => Err(Diagnostic::error(
                "the merge would change nothing: in every pair A, B or the scale is zero",
            )
            .at(adapter_dir)
            .hint("was this adapter trained?")),
        }
    }

    /// The change of one module, as f32.
    pub(crate) fn delta(&self, index: usize) -> Result<Delta> {
        let module: &Adapted = &self.adapter.layout.modules[index];
        let values = |part| {
            self.adapter
                .tensors
                .values(&tensor_name(&module.name, part))
        };
        Ok(Delta {
            a: values('A')?,
            b: values('B')?,
            rank: module.rank,
            columns: module.in_features,
            scale: self.adapter.layout.scale(module.rank, module.alpha) as f32,
        })
    }

    /// The type a changed tensor is stored in.
    pub(crate) fn float(&self, name: &str) -> Result<Float> {
        let (_, float) = self
            .base
            .floats(name, self.base.stored_shape(name).unwrap_or_default())?;
        Ok(float)
    }
}

fn refuse_quantized(dir: &Path) -> Result<()> {
    let text = read_text(&dir.join("config.json")).unwrap_or_default();
    let Ok(json) = serde_json::from_str::<Value>(&text) else {
        return Ok(()); // reading the config says it better
    };
    match json.get("quantization_config") {
        None | Some(Value::Null) => Ok(()),
        Some(quantization) => {
            let method = quantization.get("quant_method").and_then(Value::as_str);
            Err(quantized(
                dir,
                &format!("`quantization_config` says {}", method.unwrap_or("so")),
            ))
        }
    }
}

fn quantized(dir: &Path, why: &str) -> Diagnostic {
    Diagnostic::error("an adapter cannot be merged into a quantised model")
        .at(dir.join("config.json"))
        .caused_by(why)
        .hint(
            "name the 16-bit checkpoint of the same model with `--into DIR`, or serve this one with \
             the adapter beside it",
        )
}
