//! Adapters as tensors, from and to the files that `vlft-checkpoint` reads and writes.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use vlft_base::Result;
use vlft_checkpoint::{
    AdapterFile, Config, F32Matrix, Layout, Storage, matrices_to_bytes, tensor_name,
};

use crate::lora::{Adapters, Pair};
use crate::tensor::tensor;

/// Reads an adapter for a model of this config; `AdapterFile::open` says what is refused.
pub fn read_adapter(dir: &Path, config: &Config, device: &Device) -> Result<(Layout, Adapters)> {
    let AdapterFile { layout, tensors } = AdapterFile::open(dir, config)?;
    let load = |name: String, shape| tensor(&tensors, &name, shape, Storage::F32, device);
    let pairs = layout.modules.iter().map(|module| {
        Ok(Pair {
            a: load(
                tensor_name(&module.name, 'A'),
                [module.rank, module.in_features],
            )?,
            b: load(
                tensor_name(&module.name, 'B'),
                [module.out_features, module.rank],
            )?,
        })
    });
    let adapters = Adapters::from_pairs(&layout, pairs.collect::<Result<_>>()?);
    Ok((layout, adapters))
}

/// Writes both files into an existing folder. The bytes are a function of the arguments only.
pub fn write_adapter(
    dir: &Path,
    layout: &Layout,
    adapters: &Adapters,
    base_model_name_or_path: &str,
) -> Result<()> {
    let pairs = adapters.pairs().iter();
    let pairs = pairs.map(|pair| [matrix(pair.a.clone()), matrix(pair.b.clone())]);
    vlft_checkpoint::write_adapter(dir, layout, pairs.collect(), base_model_name_or_path)
}

/// `{"format":"pt"}` and the tensors in sorted order, f32.
pub fn tensors_to_bytes(tensors: Vec<(String, Tensor<2>)>) -> Result<Vec<u8>> {
    let named = tensors
        .into_iter()
        .map(|(name, tensor)| (name, matrix(tensor)));
    matrices_to_bytes(named.collect())
}

fn matrix(tensor: Tensor<2>) -> F32Matrix {
    let shape = tensor.dims();
    let data = tensor.into_data_dtype(DType::F32);
    F32Matrix::new(shape, data.iter::<f32>())
}
