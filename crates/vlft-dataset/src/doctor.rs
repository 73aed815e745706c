//! `vlft doctor`: does this machine have what the data commands need? One line per check, each with
//! the thing to do when it is not well. Checks of the right column (GPU, model files) join the same
//! report.

use std::env;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use sysinfo::{Disks, System};
use vlft_base::format::{bytes, count};
use vlft_base::{Diagnostic, Result};

use crate::pdfium;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// A fact that is neither good nor bad.
    Info,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub verdict: Verdict,
    /// Stable: `libpdfium`, `pip`, `cpu`, `memory`, `disk`, ..
    pub name: &'static str,
    pub text: String,
    /// Further lines, such as the places that were tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    pub fn new(verdict: Verdict, name: &'static str, text: impl Into<String>) -> Self {
        Self {
            verdict,
            name,
            text: text.into(),
            details: Vec::new(),
            hint: None,
        }
    }

    /// A check that ended in an error: its places and causes become the details.
    pub fn failed(name: &'static str, error: &Diagnostic) -> Self {
        let places = error.places().iter().map(ToString::to_string);
        Self {
            details: places.chain(error.causes().iter().cloned()).collect(),
            hint: error.hint_text().map(str::to_owned),
            ..Self::new(Verdict::Fail, name, error.message())
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|c| c.verdict == verdict).count()
    }
}

/// The checks of the data half. `pdfium` is `--pdfium`.
pub fn checks(pdfium: Option<&Path>) -> Vec<Check> {
    let library = libpdfium(pdfium);
    let missing = library.verdict == Verdict::Fail;
    vec![library, pip(missing), cpu(), memory(), disk()]
}

/// What `--fix` does: puts libpdfium into the cache unless one is found already.
///
/// # Errors
/// Those of [`pdfium::install`].
pub fn fix(pdfium: Option<&Path>) -> Result<()> {
    if pdfium::find(pdfium).is_err() {
        pdfium::install()?;
    }
    Ok(())
}

fn libpdfium(named: Option<&Path>) -> Check {
    match pdfium::find(named) {
        Ok(library) => {
            let found = format!(
                "{} from {}: `{}`",
                library.name(),
                library.source.describe(),
                library.path.display()
            );
            match library.warning() {
                None => Check::new(Verdict::Ok, "libpdfium", found),
                Some(warning) => Check {
                    details: warning.causes().to_vec(),
                    hint: warning.hint_text().map(str::to_owned),
                    ..Check::new(Verdict::Warn, "libpdfium", warning.message())
                },
            }
        }
        Err(error) => Check::failed("libpdfium", &error),
    }
}

fn pip(needed: bool) -> Check {
    match pdfium::pip_version() {
        Some(version) => Check::new(Verdict::Ok, "pip", format!("pip for `--fix`: {version}")),
        None => {
            let verdict = if needed { Verdict::Warn } else { Verdict::Info };
            Check::new(
                verdict,
                "pip",
                "no Python 3 with pip; only `vlft doctor --fix` needs it",
            )
            .hint("install Python 3 with pip, or set `VLFT_PDFIUM` to a libpdfium of yours")
        }
    }
}

fn cpu() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    Check::new(Verdict::Ok, "cpu", count(cores, "CPU core"))
}

/// A worker of `rasterize` may take 2 GiB at worst.
fn memory() -> Check {
    let mut system = System::new();
    system.refresh_memory();
    let (mut total, mut free) = (system.total_memory(), system.available_memory());
    // In a container the limit is what counts.
    if let Some(limits) = system.cgroup_limits() {
        (total, free) = (total.min(limits.total_memory), free.min(limits.free_memory));
    }
    let text = format!("memory: {} of {} free", bytes(free), bytes(total));
    match free < 2 << 30 {
        true => Check::new(Verdict::Warn, "memory", text)
            .hint("close other programs, or pass `--jobs 1` to `vlft rasterize`"),
        false => Check::new(Verdict::Ok, "memory", text),
    }
}

/// The disk of the working directory, where outputs usually go.
fn disk() -> Check {
    let disks = Disks::new_with_refreshed_list();
    let here = env::current_dir().and_then(|dir| dir.canonicalize());
    let disk = here.ok().and_then(|here| {
        let holding = disks
            .iter()
            .filter(|disk| here.starts_with(disk.mount_point()));
        holding.max_by_key(|disk| disk.mount_point().components().count())
    });
    let Some(disk) = disk else {
        return Check::new(
            Verdict::Info,
            "disk",
            "disk: the free space here cannot be told",
        );
    };
    let free = disk.available_space();
    let text = format!("disk: {} free in the working directory", bytes(free));
    match free < 5 << 30 {
        true => Check::new(Verdict::Warn, "disk", text)
            .hint("1 000 pages at 150 dpi take about 0.5 GiB, a merged 8B model 17 GiB"),
        false => Check::new(Verdict::Ok, "disk", text),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let word = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Info => "info",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            writeln!(f, "{word:<5} {}", check.text)?;
            for detail in &check.details {
                writeln!(f, "        {detail}")?;
            }
            if let Some(hint) = &check.hint {
                writeln!(f, "      hint: {hint}")?;
            }
        }
        let mut parts = Vec::new();
        for (verdict, noun) in [(Verdict::Fail, "failed"), (Verdict::Warn, "warning")] {
            match self.count(verdict) {
                0 => {}
                n if noun == "failed" => parts.push(format!("{n} failed")),
                n => parts.push(count(n as u64, noun)),
            }
        }
        parts.push(format!("{} ok", self.count(Verdict::Ok)));
        writeln!(f, "{}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_reads_as_in_the_style_guide() {
        let error = Diagnostic::error("no libpdfium that works was found")
            .at("VLFT_PDFIUM")
            .detail("not set")
            .hint("`vlft doctor --fix`");
        let report = Report {
            checks: vec![
                Check::failed("libpdfium", &error),
                Check::new(Verdict::Warn, "disk", "disk: 1.0 GiB free").hint("free some"),
                Check::new(Verdict::Info, "gpu", "no CUDA in this build"),
                Check::new(Verdict::Ok, "cpu", "2 CPU cores"),
            ],
        };
        assert_eq!(
            report.to_string(),
            "FAIL  no libpdfium that works was found\n        VLFT_PDFIUM, not set\n      \
             hint: `vlft doctor --fix`\nwarn  disk: 1.0 GiB free\n      hint: free some\n\
             info  no CUDA in this build\nok    2 CPU cores\n1 failed, 1 warning, 1 ok\n"
        );
    }

    #[test]
    fn this_machine_has_cores_memory_and_a_disk() {
        for check in [cpu(), memory(), disk()] {
            assert_ne!(check.verdict, Verdict::Fail, "{}", check.text);
            assert!(
                check.text.chars().any(|c| c.is_ascii_digit()),
                "{}",
                check.text
            );
        }
    }
}
