//! `vlft doctor`: what this machine has and lacks.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_dataset::doctor::{self, Check, Report, Verdict};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft doctor
  vlft doctor --fix        # puts libpdfium into the cache

libpdfium is looked for in `--pdfium`, the environment variable VLFT_PDFIUM, beside the program, \
the cache directory, an installed pypdfium2, and the system. A build for GPUs looks for the driver, \
NVRTC and CUDA's headers: in `CUDA_PATH`, in /usr/local/cuda, and in NVIDIA's Python wheels. Exit 1 if a \
check failed.")]
pub(crate) struct Args {
    /// Install what can be installed: libpdfium, through pip, checked against a pinned SHA-256
    #[arg(long)]
    fix: bool,

    /// The libpdfium to check, instead of looking for one
    #[arg(long, value_name = "PATH")]
    pdfium: Option<PathBuf>,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    #[cfg(feature = "train")]
    crate::device::prepare()?;
    let named = args.pdfium.as_deref();
    let fixed = match args.fix {
        true => {
            terminal.detail("looking for libpdfium; if there is none, pip downloads it");
            doctor::fix(named)
        }
        false => Ok(()),
    };
    let mut checks = doctor::checks(named);
    checks.extend(gpu());
    if let Err(error) = &fixed {
        checks.push(Check::failed("fix", error));
    }
    let report = Report { checks };
    terminal.report(&report);
    Ok(match report.count(Verdict::Fail) {
        0 => Exit::Done,
        _ => Exit::Verdict,
    })
}

/// Driver, cards, and what compiles their kernels.
#[cfg(feature = "cuda")]
fn gpu() -> Vec<Check> {
    vlft_train::device::cuda::checks()
}

#[cfg(not(feature = "cuda"))]
fn gpu() -> Vec<Check> {
    let text = match cfg!(feature = "train") {
        true => "this build has no CUDA; models run on the CPU",
        false => "this build only prepares data (feature `train` is off)",
    };
    vec![Check::new(Verdict::Info, "gpu", text)]
}
