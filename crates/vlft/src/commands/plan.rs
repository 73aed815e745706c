//! `vlft plan`: what a training run will need, computed from the config and the headers of the data.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_train::config::Config;
use vlft_train::plan::{self, Options, Target};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft plan configs/qwen3-vl-8b-qlora.toml --gpu a6000
  vlft plan configs/qwen3-vl-8b-lora.toml --gpu 24GiB --set model.base=nf4
  vlft plan configs/my-task.toml --format json

Reads the config, the model's `config.json` and tokenizer, the records and the headers of their images; no \
weights, and no GPU. Without `--gpu` it plans for this machine's CPU, and shows every GPU it knows. Exits \
with 1 if the run does not fit, or if its records would be refused, and says which single change makes \
it fit.")]
pub(crate) struct Args {
    /// The config file
    #[arg(value_name = "CONFIG")]
    config: PathBuf,

    /// A GPU by its name, such as `a6000`, or only memory, such as `24GiB`
    #[arg(long, value_name = "GPU", value_parser = target)]
    gpu: Option<Target>,

    /// What the GPU costs, in US dollars an hour, instead of the price that is known
    #[arg(long, value_name = "X", value_parser = price)]
    price: Option<f64>,

    /// Override a key of the config, such as `data.max_pixels=1000000`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn target(text: &str) -> Result<Target> {
    text.parse()
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => Err("not a price such as 0.49".to_owned()),
    }
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let config = Config::load(&args.config, &args.set)?;
    let options = Options {
        target: args.gpu,
        price: args.price,
    };
    let plan = plan::plan(&config, &options, &mut |warning| {
        terminal.diagnostic(&warning)
    })?;
    terminal.report(&plan);
    Ok(match plan.fits && plan.accepted {
        true => Exit::Done,
        false => Exit::Verdict,
    })
}
