//! Four-bit matrices in safetensors files, named and packed as bitsandbytes does it: read from
//! pre-quantised checkpoints, written to and read from the cache of quantised copies.
//!
//! A matrix `X` (`[out, in]`) is `X` (codes, `[n / 2, 1]`), `X.absmax`, `X.quant_map`, with double
//! quantisation `X.nested_absmax` and `X.nested_quant_map`, and a JSON of sizes as bytes in
//! `X.quant_state.bitsandbytes__nf4`. That last tensor is what makes `X` a quantised one; lists of
//! skipped modules in `config.json` are not believed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};
use vlft_base::{Diagnostic, Result};
use vlft_kernels::nf4::{BLOCK, Code, NESTED_BLOCK, Nf4Matrix, Packed, PackedScales};

use crate::checkpoint::Checkpoint;

const QUANT_STATE: &str = ".quant_state.";
const NF4: &str = "bitsandbytes__nf4";

/// What one matrix's JSON says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct QuantState {
    pub(crate) quant_type: String,
    pub(crate) blocksize: usize,
    /// The type it was quantised from.
    dtype: String,
    pub(crate) shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nested_blocksize: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nested_dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nested_offset: Option<f64>,
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
        let [rows, columns] = self.shape[..] else {
            return Err(damaged().caused_by("its shape is not that of a matrix"));
        };
        let sizes_are_sane = self.quant_type == "nf4"
            && self.blocksize > 0
            && self.blocksize.is_multiple_of(2)
            && self.nested_blocksize != Some(0)
            && self.nested_blocksize.is_some() == self.nested_offset.is_some();
        if !sizes_are_sane {
            return Err(damaged().caused_by("its sizes make no sense"));
        }
        let n = rows
            .checked_mul(columns)
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

    pub(crate) fn is_double(&self) -> bool {
        self.nested_blocksize.is_some()
    }

    /// The matrix of this state, onto the device.
    pub(crate) fn load(
        &self,
        checkpoint: &Checkpoint,
        name: &str,
        device: &burn::tensor::Device,
    ) -> Result<Nf4Matrix> {
        let bytes = |part: &str| Ok(checkpoint.bytes_of(&format!("{name}{part}"))?.to_vec());
        let floats = |part: &str| checkpoint.values(&format!("{name}{part}"));
        let scales = match (self.nested_blocksize, self.nested_offset) {
            (Some(_), Some(offset)) => PackedScales::Double {
                codes: bytes(".absmax")?,
                nested: floats(".nested_absmax")?,
                offset: offset as f32,
            },
            _ => PackedScales::Single(floats(".absmax")?),
        };
        let code = Code {
            levels: floats(".quant_map")?,
            scale_levels: match self.is_double() {
                true => floats(".nested_quant_map")?,
                false => Vec::new(),
            },
            block: self.blocksize,
            nested_block: self.nested_blocksize.unwrap_or(NESTED_BLOCK),
        };
        let packed = Packed {
            codes: bytes("")?,
            scales,
        };
        Ok(Nf4Matrix::new(
            packed,
            &code,
            [self.shape[0], self.shape[1]],
            device,
        ))
    }
}

fn damaged() -> Diagnostic {
    Diagnostic::error("a quantised tensor is damaged or incomplete")
        .hint("download the checkpoint again")
}

/// Writes matrices that were quantised here into one file. Peak memory is one matrix: what a
/// tensor's bytes are is asked for when it is written.
pub(crate) fn write(path: &Path, matrices: &[(String, Nf4Matrix)]) -> Result<()> {
    let views = matrices.iter().flat_map(|(name, matrix)| {
        let mut parts = vec![Part::Codes, Part::Absmax, Part::QuantMap, Part::State];
        if matrix.is_double() {
            parts.extend([Part::NestedAbsmax, Part::NestedQuantMap]);
        }
        parts.into_iter().map(move |part| {
            (
                format!("{name}{}", part.suffix()),
                PartView::new(matrix, part),
            )
        })
    });
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|e| Diagnostic::error("cannot write file").at(path).caused_by(e))
}

#[derive(Clone, Copy)]
enum Part {
    Codes,
    Absmax,
    QuantMap,
    NestedAbsmax,
    NestedQuantMap,
    State,
}

impl Part {
    fn suffix(self) -> &'static str {
        match self {
            Part::Codes => "",
            Part::Absmax => ".absmax",
            Part::QuantMap => ".quant_map",
            Part::NestedAbsmax => ".nested_absmax",
            Part::NestedQuantMap => ".nested_quant_map",
            Part::State => ".quant_state.bitsandbytes__nf4",
        }
    }
}

/// One tensor of a matrix on its way to a file.
struct PartView<'a> {
    matrix: &'a Nf4Matrix,
    part: Part,
    shape: Vec<usize>,
}

impl<'a> PartView<'a> {
    fn new(matrix: &'a Nf4Matrix, part: Part) -> Self {
        let [rows, columns] = matrix.shape();
        let blocks = (rows * columns).div_ceil(BLOCK);
        let shape = match part {
            Part::Codes => vec![(rows * columns).div_ceil(2), 1],
            Part::Absmax => vec![blocks],
            Part::QuantMap => vec![16],
            Part::NestedAbsmax => vec![blocks.div_ceil(NESTED_BLOCK)],
            Part::NestedQuantMap => vec![256],
            Part::State => vec![state(matrix).len()],
        };
        Self {
            matrix,
            part,
            shape,
        }
    }
}

fn state(matrix: &Nf4Matrix) -> Vec<u8> {
    let offset = matrix.scale_offset();
    let state = QuantState {
        quant_type: "nf4".into(),
        blocksize: BLOCK,
        dtype: "bfloat16".into(),
        shape: matrix.shape().to_vec(),
        nested_blocksize: offset.map(|_| NESTED_BLOCK),
        nested_dtype: offset.map(|_| "float32".into()),
        nested_offset: offset.map(f64::from),
    };
    serde_json::to_vec(&state).expect("plain numbers and names")
}

impl View for PartView<'_> {
    fn dtype(&self) -> Dtype {
        match (self.part, self.matrix.is_double()) {
            (Part::Codes | Part::State, _) | (Part::Absmax, true) => Dtype::U8,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let packed = self.matrix.to_packed();
        let code = Code::default();
        Cow::Owned(match (self.part, packed.scales) {
            (Part::Codes, _) => packed.codes,
            (Part::Absmax, PackedScales::Single(scales)) => floats(&scales),
            (Part::Absmax, PackedScales::Double { codes, .. }) => codes,
            (Part::NestedAbsmax, PackedScales::Double { nested, .. }) => floats(&nested),
            (Part::NestedAbsmax, PackedScales::Single(_)) => Vec::new(),
            (Part::QuantMap, _) => floats(&code.levels),
            (Part::NestedQuantMap, _) => floats(&code.scale_levels),
            (Part::State, _) => state(self.matrix),
        })
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}
