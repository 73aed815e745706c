//! `[model]`: which model, and how its frozen weights are held.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::Part;

use super::reader::{Choice, Section, named};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    pub path: PathBuf,
    pub base: Base,
    /// Only with [`Base::Nf4`].
    pub double_quant: bool,
    /// Only with [`Base::Nf4`]: the parts of the model held in four bits.
    pub quantize: Vec<Part>,
    /// Only with [`Base::Nf4`]: a folder for quantised copies.
    pub nf4_cache: Option<PathBuf>,
    /// None: f32 on the CPU, bf16 on a GPU.
    pub compute: Option<Compute>,
}

/// How the frozen weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    Nf4,
    Bf16,
    F32,
}

/// What activations are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compute {
    Bf16,
    F32,
}

impl ModelConfig {
    pub(super) fn read(s: &mut Section) -> Self {
        Self {
            path: s.required_path(
                "path",
                "folder of the model: config.json, *.safetensors, ..",
            ),
            base: s.required_choice("base", "frozen weights: QLoRA, LoRA, tests"),
            double_quant: s.boolean("double_quant", true, "only with nf4"),
            quantize: s
                .names(
                    "quantize",
                    &[Part::LanguageModel.name().to_string()],
                    &Part::ALL.map(Part::name),
                    "only with nf4: parts in four bits; the rest is in 16",
                )
                .iter()
                .filter_map(|name| Part::named(name))
                .collect(),
            nf4_cache: s.optional_path(
                "nf4_cache",
                "only with nf4: folder for quantised copies, to start faster",
            ),
            compute: s.optional_choice(
                "compute",
                "activations; absent: f32 on a CPU, bf16 on a GPU",
            ),
        }
    }
}

impl Choice for Base {
    const ALL: &[(&str, Self)] = &[("nf4", Base::Nf4), ("bf16", Base::Bf16), ("f32", Base::F32)];
}
impl Choice for Compute {
    const ALL: &[(&str, Self)] = &[("bf16", Compute::Bf16), ("f32", Compute::F32)];
}
impl FromStr for Base {
    type Err = Diagnostic;

    fn from_str(name: &str) -> Result<Self> {
        named(name)
    }
}
impl FromStr for Compute {
    type Err = Diagnostic;

    fn from_str(name: &str) -> Result<Self> {
        named(name)
    }
}
