//! Writing a checkpoint of seeded random weights: for tests, the demo and benchmarks. Streamed, one
//! tensor in memory at a time, sharded like a published model.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use half::bf16;
use rand::distr::{Distribution, Uniform};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, View};
use serde_json::{Map, Value, json};
use vlft_base::output::write_atomic;
use vlft_base::{Diagnostic, Result};

use crate::checkpoint::Storage;
use crate::config::Config;

/// Writes `model.safetensors`, or shards of at most `max_shard_bytes` and their index.
///
/// Matrices are uniform with standard deviation `1/sqrt(in)`, so that activations keep their size;
/// embeddings have deviation 1, norms are one, biases small. A function of (config, seed) only.
pub fn write_random_weights(
    dir: &Path,
    config: &Config,
    seed: u64,
    storage: Storage,
    max_shard_bytes: u64,
) -> Result<()> {
    let dtype = if storage == Storage::Bf16 {
        Dtype::BF16
    } else {
        Dtype::F32
    };
    let tensors = config.tensors().into_iter().enumerate();
    let tensors = tensors.map(|(stream, (name, shape))| RandomTensor {
        name,
        shape,
        dtype,
        seed,
        stream: stream as u64,
    });

    let mut shards: Vec<Vec<RandomTensor>> = vec![Vec::new()];
    let mut size = 0;
    for tensor in tensors {
        if size > 0 && size + tensor.data_len() as u64 > max_shard_bytes {
            shards.push(Vec::new());
            size = 0;
        }
        size += tensor.data_len() as u64;
        shards
            .last_mut()
            .expect("starts with one shard")
            .push(tensor);
    }

    let count = shards.len();
    let mut weight_map = Map::new();
    let mut total_size = 0;
    for (number, shard) in (1..).zip(shards) {
        let file = match count {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        for tensor in &shard {
            weight_map.insert(tensor.name.clone(), Value::String(file.clone()));
            total_size += tensor.data_len();
        }
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        let views = shard
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor));
        let path = dir.join(&file);
        safetensors::serialize_to_file(views, Some(metadata), &path).map_err(|e| {
            Diagnostic::error("cannot write weights")
                .at(&path)
                .caused_by(e)
        })?;
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
        let text = serde_json::to_string_pretty(&index).expect("plain JSON values");
        write_atomic(&dir.join("model.safetensors.index.json"), text.as_bytes())?;
    }
    Ok(())
}

#[derive(Clone)]
struct RandomTensor {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    seed: u64,
    /// Position in the model's list: every tensor has its own stream of numbers.
    stream: u64,
}

impl RandomTensor {
    fn values(&self) -> Vec<f32> {
        let count = self.shape.iter().product();
        let is_vector = self.shape.len() == 1;
        if is_vector && self.name.ends_with(".weight") {
            return vec![1.0; count];
        }
        let deviation = if is_vector {
            0.02
        } else if self.name.contains("embed_tokens") || self.name.contains("pos_embed") {
            1.0
        } else {
            let fan_in: usize = match self.shape[..] {
                // Experts: `[experts, in, out]`.
                [_, inputs, _] => inputs,
                _ => self.shape[1..].iter().product(),
            };
            1.0 / (fan_in as f32).sqrt()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.stream);
        uniform_values(count, deviation * 3f32.sqrt(), &mut rng)
    }
}

fn uniform_values(count: usize, bound: f32, rng: &mut impl Rng) -> Vec<f32> {
    let uniform = Uniform::new_inclusive(-bound, bound).expect("a finite, ordered range");
    (0..count).map(|_| uniform.sample(rng)).collect()
}

impl View for RandomTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values().into_iter();
        Cow::Owned(match self.dtype {
            Dtype::BF16 => values
                .flat_map(|v| bf16::from_f32(v).to_le_bytes())
                .collect(),
            _ => values.flat_map(f32::to_le_bytes).collect(),
        })
    }
    fn data_len(&self) -> usize {
        let bytes = if self.dtype == Dtype::BF16 { 2 } else { 4 };
        self.shape.iter().product::<usize>() * bytes
    }
}
