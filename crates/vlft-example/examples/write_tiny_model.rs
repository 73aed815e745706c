//! Writes the files of the demo's tiny model (no weights) into a directory.
//!
//!     cargo run -p vlft-example --example write_tiny_model -- DIR

use std::path::PathBuf;

use vlft_base::Diagnostic;
use vlft_base::output::cannot;
use vlft_example::tiny_model::{Size, write_files};

fn main() -> vlft_base::Result<()> {
    let dir: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or_else(|| Diagnostic::error("no directory was given"))?
        .into();
    std::fs::create_dir_all(&dir).map_err(|e| cannot("create", &dir, e))?;
    write_files(&dir, &Size::default())
}
