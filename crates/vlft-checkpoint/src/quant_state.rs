//! Four-bit matrices in safetensors files, as bitsandbytes names them: what belongs to one, and
//! whether it is whole.
//!
//! A matrix `X` (`[out, in]`; a stack of experts `[experts, out, in]` is packed in one piece) is `X` (codes, `[n / 2, 1]`), `X.absmax`, `X.quant_map`, with double
//! quantisation `X.nested_absmax` and `X.nested_quant_map`, and a JSON of sizes as bytes in
//! `X.quant_state.bitsandbytes__nf4`. That last tensor is what makes `X` a quantised one; lists of
//! skipped modules in `config.json` are not believed.

use std::collections::HashMap;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use vlft_base::{Diagnostic, Result};

use crate::checkpoint::Checkpoint;

const QUANT_STATE: &str = ".quant_state.";
const NF4: &str = "bitsandbytes__nf4";

/// What one matrix's JSON says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuantState {
    pub quant_type: String,
    pub blocksize: usize,
    /// The type it was quantised from.
    pub dtype: String,
    pub shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_blocksize: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_offset: Option<f64>,
}

impl QuantState {
    /// The state of every quantised matrix of a checkpoint, each checked against its tensors.
    pub(crate) fn read_all(checkpoint: &Checkpoint) -> Result<HashMap<String, Self>> {
        let mut states = HashMap::new();
        for name in checkpoint.names() {
            let Some((matrix, kind)) = name.split_once(QUANT_STATE) else {
                continue;
            };
            let wrong = |error: Diagnostic| {
                Err(error
                    .at(checkpoint.file_of(name))
                    .detail(format!("tensor `{matrix}`")))
            };
            if kind != NF4 {
                return wrong(
                    Diagnostic::error("weights are quantised in a way this version cannot read")
                        .expected("NF4 of bitsandbytes")
                        .found(format!("`{kind}`"))
                        .hint("use the bf16 checkpoint of the same model"),
                );
            }
            let state: Self = match serde_json::from_slice(checkpoint.bytes_of(name)?) {
                Ok(state) => state,
                Err(e) => return wrong(damaged().caused_by(e)),
            };
            if let Err(error) = state.check(checkpoint, matrix) {
                return wrong(error);
            }
            states.insert(matrix.to_string(), state);
        }
        Ok(states)
    }

    fn check(&self, checkpoint: &Checkpoint, matrix: &str) -> Result<()> {
        if !matches!(self.shape.len(), 2 | 3) {
            return Err(
                damaged().caused_by("its shape is not that of a matrix, or of a stack of them")
            );
        }
        let sizes_are_sane = self.quant_type == "nf4"
            && self.blocksize > 0
            && self.blocksize.is_multiple_of(2)
            && self.nested_blocksize != Some(0)
            && self.nested_blocksize.is_some() == self.nested_offset.is_some();
        if !sizes_are_sane {
            return Err(damaged().caused_by("its sizes make no sense"));
        }
        let sides = self.shape.iter();
        let n = sides
            .copied()
            .try_fold(1usize, usize::checked_mul)
            .ok_or_else(|| damaged().caused_by("its shape is too large"))?;
        let blocks = n.div_ceil(self.blocksize);
        let mut parts = vec![
            ("", Dtype::U8, n.div_ceil(2)),
            (".quant_map", Dtype::F32, 16),
        ];
        match self.nested_blocksize {
            None => parts.push((".absmax", Dtype::F32, blocks)),
            Some(nested) => parts.extend([
                (".absmax", Dtype::U8, blocks),
                (".nested_absmax", Dtype::F32, blocks.div_ceil(nested)),
                (".nested_quant_map", Dtype::F32, 256),
            ]),
        }
        for (part, dtype, count) in parts {
            let name = format!("{matrix}{part}");
            let found = checkpoint.dtype_and_count(&name);
            if found != Some((dtype, count)) {
                let text = |(dtype, count): (Dtype, usize)| format!("{count} values of {dtype}");
                return Err(damaged()
                    .caused_by(format!("`{name}` does not fit"))
                    .expected(text((dtype, count)))
                    .found(found.map_or("nothing".into(), text)));
            }
        }
        Ok(())
    }

    pub fn is_double(&self) -> bool {
        self.nested_blocksize.is_some()
    }
}

fn damaged() -> Diagnostic {
    Diagnostic::error("a quantised tensor is damaged or incomplete")
        .hint("download the checkpoint again")
}
