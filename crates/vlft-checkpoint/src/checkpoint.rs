//! Reading safetensors checkpoints: one file or shards with an index, mapped, tensor by tensor.
//! Peak host memory is one tensor; names and shapes are checked before any of them is loaded.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use vlft_base::digest::Hasher;
use vlft_base::input::read_text;
use vlft_base::mmap::{self, Mmap};
use vlft_base::{Diagnostic, Result, did_you_mean, format};

use crate::float::Float;
use crate::quant_state::QuantState;
use crate::tensors::fits;

/// The type dense tensors are held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As the file has them (f16 becomes f32).
    AsStored,
    F32,
    /// Rounded to nearest even if the file has more digits.
    Bf16,
}

/// An opened checkpoint: where every tensor lies.
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<(PathBuf, Mmap)>,
    tensors: BTreeMap<String, Entry>,
    /// Matrices that are quantised already.
    quantized: HashMap<String, QuantState>,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes of the file.
    range: Range<usize>,
}

/// One file of a checkpoint, and where its tensors lie in it.
pub(crate) struct Shard<'a> {
    pub(crate) path: &'a Path,
    /// Bytes of the whole file, and of what stands before the first tensor.
    pub(crate) length: usize,
    pub(crate) header: usize,
    /// In the file's order.
    pub(crate) tensors: Vec<(&'a str, Range<usize>)>,
}

impl Checkpoint {
    /// Opens `model.safetensors.index.json` with its shards, else `model.safetensors`.
    pub fn open(model_dir: &Path) -> Result<Self> {
        let index = model_dir.join("model.safetensors.index.json");
        let single = model_dir.join("model.safetensors");
        if index.exists() {
            Self::from_shards(model_dir, &index)
        } else if single.exists() {
            Self::from_files(model_dir, &[single])
        } else {
            Err(Diagnostic::error("no weights found")
                .at(model_dir)
                .expected("`model.safetensors` or `model.safetensors.index.json`")
                .hint("is the download complete?"))
        }
    }

    /// Opens one safetensors file, such as an adapter.
    pub fn open_file(path: &Path) -> Result<Self> {
        Self::from_files(
            path.parent().unwrap_or(Path::new(".")),
            &[path.to_path_buf()],
        )
    }

    fn from_shards(model_dir: &Path, index: &Path) -> Result<Self> {
        let weight_map = read_weight_map(index)?;
        let mut names: Vec<&String> = weight_map.values().collect();
        names.sort();
        names.dedup();
        let paths: Vec<PathBuf> = names.iter().map(|name| model_dir.join(name)).collect();

        let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
        if !missing.is_empty() {
            let count = format::count(missing.len() as u64, "shard");
            let error = Diagnostic::error(format!("{count} of {} missing", paths.len()));
            return Err(missing
                .into_iter()
                .fold(error, |error, path| error.at(path))
                .caused_by(format!("named in `{}`", index.display()))
                .hint("download the missing files again"));
        }

        let checkpoint = Self::from_files(model_dir, &paths)?;
        for (tensor, shard) in &weight_map {
            let found = checkpoint
                .tensors
                .get(tensor)
                .map(|entry| &checkpoint.files[entry.file].0);
            if found.is_none_or(|path| *path != model_dir.join(shard)) {
                return Err(
                    Diagnostic::error("a tensor is not in the shard that the index names")
                        .at(model_dir.join(shard))
                        .detail(format!("tensor `{tensor}`"))
                        .hint("index and shards are of different downloads; fetch them again"),
                );
            }
        }
        Ok(checkpoint)
    }

    fn from_files(dir: &Path, paths: &[PathBuf]) -> Result<Self> {
        let mut files = Vec::new();
        let mut tensors = BTreeMap::new();
        for (file, path) in paths.iter().enumerate() {
            let map = mmap::map(path)?;
            // `deserialize` checks that the offsets cover the file exactly: a shard cut short
            // or with trailing bytes fails here, not in the middle of the load.
            let parsed = SafeTensors::deserialize(&map).map_err(|e| {
                Diagnostic::error("safetensors file is damaged or cut short")
                    .at(path)
                    .caused_by(e)
                    .found(format!("{} of file", format::bytes(map.len() as u64)))
                    .hint("download or copy this file again")
            })?;
            for (name, view) in parsed.iter() {
                let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
                let range = start..start + view.data().len();
                let shape = view.shape().to_vec();
                let entry = Entry {
                    file,
                    dtype: view.dtype(),
                    shape,
                    range,
                };
                if tensors.insert(name.to_string(), entry).is_some() {
                    return Err(Diagnostic::error("tensor is in two files")
                        .at(path)
                        .detail(format!("tensor `{name}`")));
                }
            }
            files.push((path.clone(), map));
        }
        let mut checkpoint = Self {
            dir: dir.to_path_buf(),
            files,
            tensors,
            quantized: HashMap::new(),
        };
        checkpoint.quantized = QuantState::read_all(&checkpoint)?;
        Ok(checkpoint)
    }

    /// Its files in the order of their names.
    pub(crate) fn shards(&self) -> Vec<Shard<'_>> {
        let files = self.files.iter().enumerate();
        files
            .map(|(number, (path, map))| {
                let mut tensors: Vec<(&str, Range<usize>)> = self
                    .tensors
                    .iter()
                    .filter(|(_, entry)| entry.file == number)
                    .map(|(name, entry)| (name.as_str(), entry.range.clone()))
                    .collect();
                tensors.sort_by_key(|(_, range)| (range.start, range.end));
                // Tensors cover the rest of the file; that was checked when it was opened.
                let data: usize = tensors.iter().map(|(_, range)| range.len()).sum();
                Shard {
                    path,
                    length: map.len(),
                    header: map.len() - data,
                    tensors,
                }
            })
            .collect()
    }

    /// Names in sorted order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor; of a quantised matrix the one it stands for.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        match self.quantized.get(name) {
            Some(state) => Some(&state.shape),
            None => self.tensors.get(name).map(|entry| entry.shape.as_slice()),
        }
    }

    /// The shape as it is in the file.
    pub fn stored_shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Whether the checkpoint was quantised by somebody else already.
    pub fn is_quantized(&self) -> bool {
        !self.quantized.is_empty()
    }

    /// How the matrix is quantised; None if it is not.
    pub fn quant_state(&self, name: &str) -> Option<&QuantState> {
        self.quantized.get(name)
    }

    /// The file a tensor is in, or the folder if there is no such tensor.
    pub fn file_of(&self, name: &str) -> &Path {
        match self.tensors.get(name) {
            Some(entry) => &self.files[entry.file].0,
            None => &self.dir,
        }
    }

    /// Type and number of elements, as they are in the file.
    pub fn dtype_and_count(&self, name: &str) -> Option<(Dtype, usize)> {
        let entry = self.tensors.get(name)?;
        Some((entry.dtype, entry.shape.iter().product()))
    }

    /// Adds the files' names and whole contents to a hash.
    pub fn hash_content(&self, hasher: &mut Hasher) {
        for (path, map) in &self.files {
            let name = path.file_name().unwrap_or_default();
            hasher.add(name.as_encoded_bytes());
            hasher.add((map.len() as u64).to_le_bytes());
            hasher.add(&map[..]);
        }
    }

    /// SHA-256 over every tensor's name, type, shape, and the ends of its data. It reads a page or
    /// two of each tensor: enough to tell two models apart, not to find one flipped bit.
    pub fn fingerprint(&self) -> String {
        const END: usize = 256;
        let mut hasher = Hasher::default();
        for (name, entry) in &self.tensors {
            let bytes = &self.files[entry.file].1[entry.range.clone()];
            let shape = shape_text(&entry.shape);
            hasher.add(format!("{name} {} {shape}\n", entry.dtype));
            hasher.add(&bytes[..bytes.len().min(END)]);
            hasher.add(&bytes[bytes.len().saturating_sub(END)..]);
        }
        hasher.finish()
    }

    /// Compares all names and shapes with what the config asks for and reports every difference
    /// in one error. Tensors beyond the expected ones are no difference.
    pub fn check(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        let mut wrong = differences(
            expected,
            |name| self.tensors.contains_key(name),
            |name| self.shape(name).map(<[usize]>::to_vec),
            || self.names(),
        );
        for (name, _) in expected {
            let entry = self
                .tensors
                .get(name)
                .filter(|_| !self.quantized.contains_key(name));
            if let Some(entry) = entry.filter(|entry| Float::of(entry.dtype).is_none()) {
                wrong.push(format!("`{name}` is of type {}", entry.dtype));
            }
        }
        do_not_fit(&self.dir, wrong)
    }

    /// Bytes and type of one floating-point tensor, if it has this many elements. Shapes were
    /// checked before by [`Self::check`]; here a difference is still an error, never a panic.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<(&[u8], Float)> {
        let (entry, bytes) = self.bytes(name)?;
        if entry.shape.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(Diagnostic::error("tensor has the wrong shape")
                .at(&self.files[entry.file].0)
                .detail(format!("tensor `{name}`"))
                .expected(shape_text(shape))
                .found(shape_text(&entry.shape)));
        }
        let stored = Float::of(entry.dtype).ok_or_else(|| {
            Diagnostic::error("tensor is not of a floating-point type that this version reads")
                .at(&self.files[entry.file].0)
                .detail(format!("tensor `{name}`"))
                .expected("F32, BF16 or F16")
                .found(entry.dtype.to_string())
        })?;
        Ok((bytes, stored))
    }

    /// Says that this tensor's bytes will not be read again soon, so that they do not count as
    /// memory of ours: a copy and the mapping together would be twice the model.
    pub fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            mmap::release(&self.files[entry.file].1, &entry.range);
        }
    }

    /// The raw values as f32, for tests and for tools that need no tensor.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        let (entry, bytes) = self.bytes(name)?;
        match Float::of(entry.dtype) {
            Some(stored) => Ok(stored.to_f32(bytes)),
            None => Err(Diagnostic::error("tensor is not floating-point")
                .at(self.file_of(name))
                .detail(format!("tensor `{name}`"))
                .found(entry.dtype.to_string())),
        }
    }

    /// As they are in the file.
    pub fn bytes_of(&self, name: &str) -> Result<&[u8]> {
        Ok(self.bytes(name)?.1)
    }

    fn bytes(&self, name: &str) -> Result<(&Entry, &[u8])> {
        let entry = self.tensors.get(name).ok_or_else(|| {
            Diagnostic::error(format!("tensor `{name}` is missing")).at(&self.dir)
        })?;
        Ok((entry, &self.files[entry.file].1[entry.range.clone()]))
    }
}

/// [`Checkpoint::check`] where there is only a listing: `shape` where it has one.
pub(crate) fn check_shapes(
    listing: &Path,
    expected: &[(String, Vec<usize>)],
    names: &BTreeMap<String, String>,
    shape: impl Fn(&str) -> Option<Vec<usize>>,
) -> Result<()> {
    let known = || names.keys().map(String::as_str);
    do_not_fit(
        listing,
        differences(expected, |name| names.contains_key(name), shape, known),
    )
}

fn differences<'a, N: Iterator<Item = &'a str>>(
    expected: &[(String, Vec<usize>)],
    exists: impl Fn(&str) -> bool,
    shape: impl Fn(&str) -> Option<Vec<usize>>,
    names: impl Fn() -> N,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, wanted) in expected {
        if !exists(name) {
            let near = did_you_mean(name, names())
                .map(|near| format!(", but there is `{near}`"))
                .unwrap_or_default();
            wrong.push(format!("`{name}` is missing{near}"));
        } else if let Some(found) = shape(name).filter(|found| !fits(name, wanted, found)) {
            wrong.push(format!(
                "`{name}` has shape {}, expected {}",
                shape_text(&found),
                shape_text(wanted)
            ));
        }
    }
    wrong
}

fn do_not_fit(place: &Path, wrong: Vec<String>) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 8;
    let count = format::count(wrong.len() as u64, "tensor");
    let only_the_head = wrong.len() == 1 && wrong[0].starts_with("`lm_head.weight` is missing");
    let mut error = Diagnostic::error(format!("{count} of the checkpoint do not fit config.json"))
        .at(place)
        .hint(match only_the_head {
            // As Qwen3-VL-Embedding-8B is published.
            true => "an Embedding checkpoint has no head to answer with; `vlft eval --task embedding` needs none",
            false => "config.json and weights must be of the same model",
        });
    let more = wrong.len().saturating_sub(SHOWN);
    for line in wrong.into_iter().take(SHOWN) {
        error = error.caused_by(line);
    }
    Err(if more > 0 {
        error.caused_by(format!("and {more} more"))
    } else {
        error
    })
}

pub(crate) fn read_weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let damaged = |why: String| {
        Diagnostic::error("the index of the shards is damaged")
            .at(index)
            .caused_by(why)
            .hint("download this file again")
    };
    let text = read_text(index)
        .map_err(|e| Diagnostic::error("cannot read file").at(index).caused_by(e))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
    let map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| damaged("there is no `weight_map`".into()))?;
    map.iter()
        .map(|(tensor, shard)| match shard.as_str() {
            // A shard lies beside its index; anything else would read files we were not given.
            Some(shard) if !shard.contains(['/', '\\']) => Ok((tensor.clone(), shard.to_string())),
            _ => Err(damaged(format!(
                "`{tensor}` names no file of this folder: {shard}"
            ))),
        })
        .collect()
}

/// `[2, 3]`
pub fn shape_text(shape: &[usize]) -> String {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", sides.join(", "))
}
