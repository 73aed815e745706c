//! Four-bit matrices of a checkpoint (`vlft_checkpoint::QuantState` says how they are named) to and
//! from the kernel's own form: pre-quantised checkpoints, and the cache of quantised copies.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;
use safetensors::{Dtype, View};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::{Checkpoint, QuantState};
use vlft_kernels::nf4::{BLOCK, Code, NESTED_BLOCK, Nf4Matrix, Packed, PackedScales};

/// The matrix as it is packed in the file, onto the device; None if it is not quantised.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    name: &str,
    device: &Device,
) -> Result<Option<Nf4Matrix>> {
    let Some(state) = checkpoint.quant_state(name) else {
        return Ok(None);
    };
    let bytes = |part: &str| Ok(checkpoint.bytes_of(&format!("{name}{part}"))?.to_vec());
    let floats = |part: &str| checkpoint.values(&format!("{name}{part}"));
    let scales = match (state.nested_blocksize, state.nested_offset) {
        (Some(_), Some(offset)) => PackedScales::Double {
            codes: bytes(".absmax")?,
            nested: floats(".nested_absmax")?,
            offset: offset as f32,
        },
        _ => PackedScales::Single(floats(".absmax")?),
    };
    let code = Code {
        levels: floats(".quant_map")?,
        scale_levels: match state.is_double() {
            true => floats(".nested_quant_map")?,
            false => Vec::new(),
        },
        block: state.blocksize,
        nested_block: state.nested_blocksize.unwrap_or(NESTED_BLOCK),
    };
    let packed = Packed {
        codes: bytes("")?,
        scales,
    };
    // The matrices of a stack lie one below the other.
    let (columns, rows) = state.shape.split_last().expect("its shape was checked");
    let shape = [rows.iter().product(), *columns];
    Ok(Some(Nf4Matrix::new(packed, &code, shape, device)))
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
