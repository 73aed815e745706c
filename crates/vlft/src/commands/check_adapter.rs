//! `vlft check-adapter`: will vLLM apply every tensor of an adapter, and with which flags?

use std::path::PathBuf;

use vlft_base::format::count;
use vlft_base::output::Existing;
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::archive;
use vlft_checkpoint::serving::{Options, Version, check, rewrite};
use vlft_dataset::lineage::Lineage;

use super::lineage;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft check-adapter runs/bol-01/adapter
  vlft check-adapter old-adapter --model models/Qwen3-VL-8B-Instruct --rewrite new-adapter

vLLM finds a place for each tensor by its name and says nothing about those that find none: the \
adapter is served, and does nothing. This command goes through vLLM's own steps, tensor by tensor. It \
ends with 1 when something would be dropped, refused, or applied otherwise than it was trained. \
Adapters of PEFT, Unsloth, LLaMA-Factory and ms-swift are read, under today's names and older ones.")]
pub(crate) struct Args {
    /// The adapter: a folder, or a `.tgz` of one
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,

    /// The model it will be served on; without it, its size follows from the adapter's shapes
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// The version of vLLM that serves it
    #[arg(long, value_name = "X.Y", default_value = "0.33")]
    vllm: String,

    /// Flags that it is served with, to be judged instead of those it needs
    #[arg(long, value_name = "'FLAGS'", allow_hyphen_values = true)]
    served_with: Option<String>,

    /// Write the adapter here under the names that vLLM takes
    #[arg(long, value_name = "OUT")]
    rewrite: Option<PathBuf>,

    /// Replace OUT if it exists
    #[arg(long, requires = "rewrite")]
    force: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let version = Version::named(&args.vllm)?;
    let adapter = archive::unpacked(&args.adapter)?;
    let mut options = Options {
        version,
        model: args.model,
        served_with: args.served_with,
        archive: adapter.archive().cloned(),
    };
    let Some(out) = args.rewrite else {
        let report = check(adapter.path(), &options).map_err(|e| adapter.told(e))?;
        terminal.report(&report);
        return Ok(match report.passes {
            true => Exit::Done,
            false => Exit::Verdict,
        });
    };
    let rewritten =
        rewrite(adapter.path(), &out, Existing::forced(args.force)).map_err(|e| adapter.told(e))?;
    let lineage = lineage::with_adapter(Lineage::new("check-adapter"), &args.adapter)?;
    lineage.save_in(&out)?;
    options.archive = None;
    let report = check(&out, &options)?;
    terminal.report(&report);
    if !rewritten.cannot.is_empty() {
        let n = count(rewritten.cannot.len() as u64, "tensor");
        let mut warning =
            Diagnostic::warning(format!("{n} cannot be renamed and stayed as they were"));
        for tensor in rewritten.cannot.iter().take(3) {
            warning = warning.caused_by(format!("`{tensor}` is no LoRA matrix of this model"));
        }
        terminal.diagnostic(
            &warning.hint("such weights are merged into a model, with the tool that trained them"),
        );
    }
    terminal.note(format!(
        "Wrote `{}`: {} renamed, {} had their names already",
        out.display(),
        count(rewritten.renamed as u64, "tensor"),
        rewritten.kept,
    ));
    Ok(match report.passes {
        true => Exit::Done,
        false => Exit::Verdict,
    })
}
