//! Writing a checkpoint of seeded random weights: for tests, the demo and benchmarks. Streamed: a piece
//! of a tensor per thread is in memory, whatever the model; sharded like a published one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use half::bf16;
use rand::SeedableRng;
use rand::distr::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use vlft_base::Result;
use vlft_base::output::{cannot, write_atomic};

use crate::checkpoint::Storage;
use crate::config::Config;

/// Values of a tensor that one thread makes at a time.
const PIECE: usize = 1 << 20;

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
    RandomWeights {
        config,
        seed,
        storage,
        max_shard_bytes,
    }
    .write(dir, &mut |_| {})
}

/// The weights of a model that nobody trained.
pub struct RandomWeights<'a> {
    pub config: &'a Config,
    pub seed: u64,
    pub storage: Storage,
    pub max_shard_bytes: u64,
}

impl RandomWeights<'_> {
    /// Of all tensors, without the headers of the files.
    pub fn bytes(&self) -> u64 {
        self.tensors().iter().map(RandomTensor::bytes).sum()
    }

    /// The same as [`write_random_weights`]. `written` gets the bytes of tensors so far.
    pub fn write(&self, dir: &Path, written: &mut dyn FnMut(u64)) -> Result<()> {
        let shards = self.shards();
        let mut total_size = 0;
        for (file, shard) in &shards {
            let path = dir.join(file);
            write_shard(&path, shard, &mut total_size, written)
                .map_err(|e| cannot("write", &path, e))?;
        }
        match shards.len() {
            1 => Ok(()),
            _ => self.write_index(dir),
        }
    }

    /// Only the list of which file holds which tensor, as of a model whose weights are elsewhere.
    pub fn write_index(&self, dir: &Path) -> Result<()> {
        let mut weight_map = Map::new();
        for (file, shard) in self.shards() {
            for tensor in shard {
                weight_map.insert(tensor.name, Value::String(file.clone()));
            }
        }
        let metadata = json!({ "total_size": self.bytes() });
        let index = json!({ "metadata": metadata, "weight_map": weight_map });
        let text = serde_json::to_string_pretty(&index).expect("plain JSON values");
        write_atomic(&dir.join("model.safetensors.index.json"), text.as_bytes())
    }

    fn tensors(&self) -> Vec<RandomTensor> {
        let dtype = match self.storage {
            Storage::Bf16 => Dtype::BF16,
            _ => Dtype::F32,
        };
        let tensors = self.config.tensors().into_iter().enumerate();
        tensors
            .map(|(stream, (name, shape))| RandomTensor {
                name,
                shape,
                dtype,
                seed: self.seed,
                stream: stream as u64,
            })
            .collect()
    }

    /// The files and what is in them.
    fn shards(&self) -> Vec<(String, Vec<RandomTensor>)> {
        let mut shards: Vec<Vec<RandomTensor>> = vec![Vec::new()];
        let mut size = 0;
        for tensor in self.tensors() {
            if size > 0 && size + tensor.bytes() > self.max_shard_bytes {
                shards.push(Vec::new());
                size = 0;
            }
            size += tensor.bytes();
            let last = shards.last_mut().expect("starts with one shard");
            last.push(tensor);
        }
        let count = shards.len();
        let named = (1..).zip(shards).map(|(number, shard)| {
            let file = match count {
                1 => "model.safetensors".to_string(),
                _ => format!("model-{number:05}-of-{count:05}.safetensors"),
            };
            (file, shard)
        });
        named.collect()
    }
}

/// One file in the format of safetensors: the length of the header, the header, the tensors.
fn write_shard(
    path: &Path,
    tensors: &[RandomTensor],
    total: &mut u64,
    written: &mut dyn FnMut(u64),
) -> std::io::Result<()> {
    // By name, as the library lays tensors of one type.
    let mut tensors: Vec<&RandomTensor> = tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in &tensors {
        let end = offset + tensor.bytes();
        header.insert(
            tensor.name.clone(),
            json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end] }),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&header).expect("plain JSON values");
    // Data begins at a multiple of 8.
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for tensor in tensors {
        let pieces: Vec<Range<usize>> = (0..tensor.elements())
            .step_by(PIECE)
            .map(|start| start..(start + PIECE).min(tensor.elements()))
            .collect();
        for some in pieces.chunks(2 * rayon::current_num_threads()) {
            let made: Vec<Vec<u8>> = some
                .par_iter()
                .map(|range| tensor.data(range.clone()))
                .collect();
            for bytes in made {
                file.write_all(&bytes)?;
                *total += bytes.len() as u64;
            }
            written(*total);
        }
    }
    file.flush()
}

struct RandomTensor {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    seed: u64,
    /// Position in the model's list: every tensor has its own stream of numbers.
    stream: u64,
}

impl RandomTensor {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> u64 {
        let bytes = if self.dtype == Dtype::BF16 { 2 } else { 4 };
        (self.elements() * bytes) as u64
    }

    /// Some of its values: those of the whole tensor at these places.
    fn values(&self, range: Range<usize>) -> Vec<f32> {
        let is_vector = self.shape.len() == 1;
        if is_vector && self.name.ends_with(".weight") {
            return vec![1.0; range.len()];
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
        // A value of f32 takes one word of the stream.
        rng.set_word_pos(range.start as u128);
        let bound = deviation * 3f32.sqrt();
        let uniform = Uniform::new_inclusive(-bound, bound).expect("a finite, ordered range");
        range.map(|_| uniform.sample(&mut rng)).collect()
    }

    fn data(&self, range: Range<usize>) -> Vec<u8> {
        let values = self.values(range).into_iter();
        match self.dtype {
            Dtype::BF16 => values
                .flat_map(|v| bf16::from_f32(v).to_le_bytes())
                .collect(),
            _ => values.flat_map(f32::to_le_bytes).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;
    use crate::published;

    #[test]
    fn pieces_are_what_one_pass_over_the_tensor_makes() {
        let tensor = RandomTensor {
            name: "model.a.weight".into(),
            shape: vec![37, 41],
            dtype: Dtype::F32,
            seed: 3,
            stream: 5,
        };
        let whole = tensor.values(0..37 * 41);
        for piece in [1, 7, 64, 500] {
            let pieces: Vec<f32> = (0..whole.len())
                .step_by(piece)
                .flat_map(|start| tensor.values(start..(start + piece).min(whole.len())))
                .collect();
            assert_eq!(pieces, whole, "pieces of {piece}");
        }
        let mean = whole.iter().sum::<f32>() / whole.len() as f32;
        let squares: f32 = whole.iter().map(|x| x * x).sum();
        assert!(mean.abs() < 0.02 && (squares / whole.len() as f32 * 41.0 - 1.0).abs() < 0.1);
    }

    #[test]
    fn shards_are_read_back_as_one_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let mut json = published::find("2b").unwrap().json();
        for (table, key, value) in [
            ("text_config", "vocab_size", 64),
            ("text_config", "hidden_size", 32),
            ("text_config", "intermediate_size", 40),
            ("text_config", "num_hidden_layers", 3),
            ("vision_config", "depth", 3),
            ("vision_config", "hidden_size", 64),
            ("vision_config", "intermediate_size", 48),
            ("vision_config", "out_hidden_size", 32),
        ] {
            json[table][key] = json!(value);
        }
        json["vision_config"]["deepstack_visual_indexes"] = json!([0, 1]);
        let config = Config::from_json(&json, Path::new("config.json")).unwrap();
        let weights = RandomWeights {
            config: &config,
            seed: 1,
            storage: Storage::Bf16,
            max_shard_bytes: 300_000,
        };
        let mut seen = 0;
        weights
            .write(dir.path(), &mut |bytes| seen = bytes)
            .unwrap();
        assert_eq!(seen, weights.bytes());
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert!(files > 3, "{files}");
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        checkpoint.check(&config.tensors()).unwrap();
        for tensor in weights.tensors() {
            let bytes = checkpoint.bytes_of(&tensor.name).unwrap();
            assert_eq!(bytes, tensor.data(0..tensor.elements()), "{}", tensor.name);
        }
    }
}
