//! What becomes of one tensor of an adapter: vLLM's own steps, one after the other.

use safetensors::Dtype;

use super::adapter::FoundAdapter;
use super::known::{Known, is_sparse, layer_of};
use super::names::{Name, Part};
use super::report::{Fate, TensorFate};
use super::versions::Version;
use crate::checkpoint::shape_text;

/// What a tensor is judged against.
pub(crate) struct Judge<'a> {
    pub(crate) version: &'static Version,
    pub(crate) known: &'a Known,
    /// Whether the tower is served with adapters.
    pub(crate) tower: bool,
    /// A module's rank by the adapter's config.
    pub(crate) rank: &'a dyn Fn(&str) -> usize,
}

impl Judge<'_> {
    pub(crate) fn judge(&self, adapter: &FoundAdapter, tensor: &str) -> TensorFate {
        let name = Name::parse(tensor);
        let (fate, rule, why) = self.fate(adapter, tensor, &name);
        TensorFate {
            name: tensor.to_string(),
            fate,
            rule,
            why,
            published: name.published(),
            module: name.module,
        }
    }

    fn fate(
        &self,
        adapter: &FoundAdapter,
        tensor: &str,
        name: &Name,
    ) -> (Fate, &'static str, String) {
        let version = self.version;
        if version
            .skipped
            .iter()
            .any(|suffix| tensor.ends_with(suffix))
        {
            return (
                Fate::Skipped,
                "base-copy",
                "a copy of the base's own weight".into(),
            );
        }
        let Some((module, is_a)) = version.parse(tensor) else {
            return (Fate::Refused, "unreadable-name", unreadable(name));
        };
        if !version.takes_last_name(&module, self.known.moe) && !module.contains(".experts") {
            let last = module.rsplit('.').next().unwrap_or(&module);
            let why = format!("`{last}` is no module of this model, so vLLM refuses the adapter");
            return (Fate::Refused, "unexpected-module", why);
        }
        let known = self.known.modules.keys();
        let target = known
            .into_iter()
            .find(|known| version.module_name(known) == module);
        let Some(target) = target else {
            return self.unplaced(name, &module);
        };
        if target.starts_with("model.visual.") && !self.tower {
            let why = match version.tower_flag {
                Some(flag) => {
                    format!("served without `{flag}`, the vision tower takes no adapters")
                }
                None => "this version adapts the language model only".into(),
            };
            return (Fate::Ignored, "tower-off", why);
        }
        match self.wrong_values(adapter, tensor, target, is_a) {
            Some((rule, why)) => (Fate::Wrong, rule, why),
            None => (Fate::Applied, "applied", String::new()),
        }
    }

    /// Loaded, and found by no module: vLLM says nothing.
    fn unplaced(&self, name: &Name, module: &str) -> (Fate, &'static str, String) {
        let (rule, why) = match &name.module {
            Some(known) if known == "model.visual.patch_embed.proj" => (
                "not-wrapped",
                "the patch embedding is a convolution, to which vLLM adds no adapter".into(),
            ),
            Some(known) if self.known.modules.contains_key(known) => {
                let right = self.version.module_name(known);
                (
                    "other-name",
                    format!("vLLM looks for `{right}`, the file says `{module}`"),
                )
            }
            Some(known) if self.known.moe && is_sparse(known) => (
                "not-simulated",
                "what vLLM does with adapters of a router or of fused experts is not known here: compare \
                 answers with and without this one"
                    .into(),
            ),
            Some(known) if layer_of(known).is_some() => (
                "no-such-layer",
                format!("the model has no `{known}`: the adapter is of another size"),
            ),
            _ => ("no-such-module", format!("the model has no `{module}`")),
        };
        (Fate::Ignored, rule, why)
    }

    fn wrong_values(
        &self,
        adapter: &FoundAdapter,
        tensor: &str,
        module: &str,
        is_a: bool,
    ) -> Option<(&'static str, String)> {
        let shape = adapter.tensors.shape(tensor)?;
        let is_float = adapter
            .tensors
            .dtype_and_count(tensor)
            .is_some_and(|(dtype, _)| {
                matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16 | Dtype::F64)
            });
        if !is_float {
            return Some(("no-float", "is not of a floating-point type".into()));
        }
        let &[rows, columns] = shape else {
            return Some(("shape", format!("{} is no matrix", shape_text(shape))));
        };
        let rank = (self.rank)(module);
        let (found_rank, found_size) = if is_a {
            (rows, columns)
        } else {
            (columns, rows)
        };
        if let Some(&Some((width_in, width_out))) = self.known.modules.get(module) {
            let size = if is_a { width_in } else { width_out };
            let expected = if is_a { [rank, size] } else { [size, rank] };
            if [columns, rows] == expected && rows != columns {
                let why = format!(
                    "{} is turned around, expected {}",
                    shape_text(shape),
                    shape_text(&expected)
                );
                return Some(("swapped", why));
            }
            if found_size != size {
                let how = match found_size < size {
                    true => "vLLM copies it into a corner of the layer without an error",
                    false => "vLLM fails when the adapter is used",
                };
                let why = format!(
                    "{}, expected {}: {how}",
                    shape_text(shape),
                    shape_text(&expected)
                );
                return Some(("shape", why));
            }
        }
        (found_rank != rank).then(|| {
            let why =
                format!("rank {found_rank}, but the config says {rank}: the scale would be wrong");
            ("rank", why)
        })
    }
}

fn unreadable(name: &Name) -> String {
    match name.part {
        Part::Magnitude => "DoRA's magnitudes cannot be served; merge the adapter with PEFT".into(),
        Part::Full => "a whole trained weight (modules_to_save) cannot be served as an adapter; merge it with PEFT".into(),
        Part::Bias => "a trained bias cannot be served".into(),
        _ if name.module.is_some() => {
            "vLLM reads names that end in `.lora_A.weight` or `.lora_B.weight` only".into()
        }
        _ => "no adapter tensor of Qwen3-VL".into(),
    }
}
