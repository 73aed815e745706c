//! What the frozen weights are held as: dense in some type, or some parts of the model in four bits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use vlft_base::digest::Hasher;
use vlft_base::output::{Existing, PartialDir, cannot};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::{Checkpoint, Part, Storage};
use vlft_kernels::nf4::Nf4Matrix;

use crate::quantized;

/// How a checkpoint becomes the frozen base of a model.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Of everything dense.
    pub storage: Storage,
    /// None: everything is dense, what was quantised already is made dense again.
    pub quantization: Option<Quantization>,
}

/// NF4, computed while loading or as the checkpoint has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// Quantise the scales of blocks too. A checkpoint that is quantised already decides itself.
    pub double_quant: bool,
    pub parts: Vec<Part>,
    /// Folder for quantised copies, so that the next run need not quantise again.
    pub cache: Option<PathBuf>,
}

impl From<Storage> for Frozen {
    /// Everything dense.
    fn from(storage: Storage) -> Self {
        Self {
            storage,
            quantization: None,
        }
    }
}

impl Frozen {
    /// As the checkpoint has it, quantised matrices included.
    pub fn as_stored() -> Self {
        Self::nf4(Quantization {
            double_quant: true,
            parts: Vec::new(),
            cache: None,
        })
    }

    /// `quantization` of a 16-bit base. Weights with more digits are rounded to 16 bits first, as
    /// everywhere where a 16-bit model is quantised; a quantised checkpoint is taken as it is.
    pub fn nf4(quantization: Quantization) -> Self {
        Self {
            storage: Storage::AsStored,
            quantization: Some(quantization),
        }
    }

    pub(crate) fn quantizes(&self, name: &str) -> bool {
        let quantization = self.quantization.as_ref();
        quantization.is_some_and(|q| Part::of(name).is_some_and(|part| q.parts.contains(&part)))
    }
}

const CACHE_FILE: &str = "nf4.safetensors";

/// A quantised copy of a checkpoint on disk, found by the hash of what it was made from.
pub(crate) struct Cache {
    dir: PathBuf,
    pub(crate) found: Option<Checkpoint>,
}

impl Cache {
    /// Opens the copy if it is there. Reads the whole checkpoint once, to hash it.
    pub(crate) fn open(
        dir: &Path,
        source: &Checkpoint,
        quantization: &Quantization,
    ) -> Result<Self> {
        const VERSION: u32 = 1;
        let parts: Vec<&str> = quantization.parts.iter().map(|part| part.name()).collect();
        let mut hasher = Hasher::default();
        source.hash_content(&mut hasher);
        hasher.add(format!(
            "{VERSION} {} {}",
            quantization.double_quant,
            parts.join(" ")
        ));
        let key = &hasher.finish()[..32];
        let dir = dir.join(format!("nf4-{key}"));
        let found = match dir.exists() {
            false => None,
            true => Some(Checkpoint::open_file(&dir.join(CACHE_FILE)).map_err(|e| {
                let readable = fs::File::open(dir.join(CACHE_FILE)).is_ok();
                e.hint(match readable {
                    true => "delete this folder: it is a cached copy and is made again",
                    false => "choose another `model.nf4_cache`, or make this one readable",
                })
            })?),
        };
        Ok(Self { dir, found })
    }

    /// Keeps what was quantised. The copy is there as a whole or not at all; of several processes
    /// that make it at once the first one's stays.
    pub(crate) fn keep(&self, matrices: &[(String, Nf4Matrix)]) -> Result<()> {
        let keep = || {
            // A name of its own: somebody else may be writing the same copy.
            let mine = self.dir.with_extension(process::id().to_string());
            let partial = PartialDir::create(&mine, Existing::Replace)?;
            let file = partial.path().join(CACHE_FILE);
            // Made here, so that it gets the permissions that other files get.
            fs::File::create(&file).map_err(|e| cannot("create", &file, e))?;
            quantized::write(&file, matrices)?;
            partial.commit()?;
            let moved = fs::rename(&mine, &self.dir);
            if moved.is_err() && self.dir.exists() {
                return fs::remove_dir_all(&mine).map_err(|e| cannot("remove", &mine, e));
            }
            moved.map_err(|e| cannot("rename", &mine, e))
        };
        keep().map_err(|e| match e.hint_text() {
            Some(_) => e,
            None => e.hint("choose another `model.nf4_cache`, or leave it out"),
        })
    }
}

/// A matrix that cannot be quantised.
pub(crate) fn not_finite(name: &str, file: &Path) -> Diagnostic {
    Diagnostic::error("a weight is not a finite number")
        .at(file)
        .detail(format!("tensor `{name}`"))
        .hint("the checkpoint is damaged; download it again")
}
