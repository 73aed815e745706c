//! Running the real binary and reading what it said.

pub(crate) mod pdf;
#[cfg(feature = "train")]
pub(crate) mod run;
pub(crate) mod zip;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The top of the repository, where `examples/` and `configs/` are.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The committed fixtures, as a config may name them.
pub(crate) fn fixtures() -> String {
    let path = repository()
        .join("tests/fixtures")
        .canonicalize()
        .expect("they are committed");
    // TOML strings and our own messages use `/` on every system.
    path.to_string_lossy().replace('\\', "/")
}

/// The binary under test; colour off, not on a terminal, English messages.
pub(crate) fn vlft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vlft"));
    command
        .env("NO_COLOR", "1")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null());
    command
}

/// What a finished command left behind.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `vlft ARGS` in `dir`.
pub(crate) fn run_in(dir: &Path, args: &[&str]) -> Said {
    said(vlft().current_dir(dir).args(args))
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command
        .output()
        .expect("the binary was built with the tests");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("we print UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("we print UTF-8"),
    }
}
