//! Quantised copies of checkpoints on disk, found by the hash of what they were made from. A copy is
//! sealed with the hash of its own bytes, so a bit that has flipped since is noticed: it would train an
//! adapter on weights that nobody else has. What is damaged is set aside, aloud, and made again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

use vlft_base::digest::{Hasher, sha256_file};
use vlft_base::output::{Existing, PartialDir, cannot, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::Checkpoint;
use vlft_kernels::nf4::Nf4Matrix;

use crate::frozen::Quantization;
use crate::quantized;

const CACHE_FILE: &str = "nf4.safetensors";
/// The SHA-256 of [`CACHE_FILE`].
const SEAL_FILE: &str = "nf4.sha256";

/// The copy of one checkpoint.
pub(crate) struct Cache {
    dir: PathBuf,
    pub(crate) found: Option<Checkpoint>,
    /// Set when a copy was there and could not be used.
    pub(crate) warning: Option<Diagnostic>,
}

impl Cache {
    /// Opens the copy if it is there. Reads the whole checkpoint once, to hash it, and the copy too.
    ///
    /// # Errors
    /// A copy that the system does not let us read or set aside.
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
        let (mut found, mut warning) = (None, None);
        if dir.exists() {
            match damage(&dir)? {
                None => found = Some(Checkpoint::open_file(&dir.join(CACHE_FILE))?),
                Some(why) => warning = Some(set_aside(&dir, &why)?),
            }
        }
        Ok(Self {
            dir,
            found,
            warning,
        })
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
            let seal = sha256_file(&file).map_err(|e| cannot("read", &file, e))?;
            write_atomic(&partial.path().join(SEAL_FILE), seal.as_bytes())?;
            partial.commit()?;
            let moved = fs::rename(&mine, &self.dir);
            if moved.is_err() && self.dir.exists() {
                return fs::remove_dir_all(&mine).map_err(|e| cannot("remove", &mine, e));
            }
            moved.map_err(|e| cannot("rename", &mine, e))
        };
        keep().map_err(another_folder)
    }
}

/// What is wrong with the copy in `dir`, if it can be read at all.
fn damage(dir: &Path) -> Result<Option<String>> {
    let unreadable = |name: &str, e| another_folder(cannot("read", &dir.join(name), e));
    let seal = match fs::read(dir.join(SEAL_FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Ok(Some(format!("`{SEAL_FILE}` is missing")));
        }
        Err(e) => return Err(unreadable(SEAL_FILE, e)),
    };
    Ok(match sha256_file(&dir.join(CACHE_FILE)) {
        Ok(hash) if hash.as_bytes() == seal => None,
        Ok(_) => Some(format!("`{CACHE_FILE}` is not what was written")),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return Err(unreadable(CACHE_FILE, e));
        }
        // Missing, or on a disk that fails to read a block.
        Err(e) => Some(format!("`{CACHE_FILE}` cannot be read: {e}")),
    })
}

/// Gives a damaged copy another name, one at most.
fn set_aside(dir: &Path, why: &str) -> Result<Diagnostic> {
    let aside = dir.with_extension("damaged");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(|e| another_folder(cannot("remove", &aside, e)))?;
    }
    fs::rename(dir, &aside).map_err(|e| another_folder(cannot("rename", dir, e)))?;
    Ok(
        Diagnostic::warning("the quantised copy is damaged, so it is made again")
            .at(dir)
            .caused_by(why)
            .hint(format!(
                "the damaged one is now `{}`; it may be deleted",
                aside.display()
            )),
    )
}

fn another_folder(error: Diagnostic) -> Diagnostic {
    match error.hint_text() {
        Some(_) => error,
        None => error.hint("choose another `model.nf4_cache`, or leave it out"),
    }
}
