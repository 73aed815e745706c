//! Records left out because of their length: counted aloud, and listed in the run directory.

use vlft_base::output::write_atomic;
use vlft_base::{Diagnostic, Result, format};

use crate::run_dir::RunDir;
use crate::samples::Dropped;

/// Writes `RUN/dropped.jsonl` and makes the warning; nothing if nothing was left out.
pub(crate) fn list(run: &RunDir, dropped: &[Dropped]) -> Result<Option<Diagnostic>> {
    if dropped.is_empty() {
        return Ok(None);
    }
    let path = run.path().join("dropped.jsonl");
    let lines = dropped
        .iter()
        .map(|d| serde_json::to_string(d).expect("plain values") + "\n");
    write_atomic(&path, lines.collect::<String>().as_bytes())?;
    let count = format::count(dropped.len() as u64, "record");
    let warning =
        Diagnostic::warning(format!("{count} left out: too long, see `data.too_long`")).at(&path);
    Ok(Some(warning))
}
