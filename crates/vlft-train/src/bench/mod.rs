//! How fast a training run is on this machine, and where its time and memory go: a few steps of the real
//! recipe, after a warm-up, on real data or on pages made up for it. Nothing here trains by itself: what
//! is measured is [`crate::recipe::train`].

pub mod data;
mod matmul;
mod memory;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Serialize;
use vlft_base::output::{cannot, check_folder, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::Config as Model;
use vlft_kernels::profile::Profile;

pub use matmul::Rate;
pub use memory::MemoryUse;

use crate::config::{Base, Compute, Config};
use crate::device::Device;
use crate::log::{Line, StepLine};
use crate::plan::{Operations, RunOfSteps};
use crate::recipe::{self, Event};
use crate::start::last_part;
use data::Shape;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    pub device: Device,
    /// Steps that are run and not counted: first touches of memory, caches, compiled kernels.
    pub warm_up: u64,
    /// Steps that are.
    pub steps: u64,
    /// Time by family of operations. On a GPU it synchronises around each, so the steps take longer.
    pub profile: bool,
    /// Operations a second of the device's products, where something else measured them better.
    pub matmul_rate: Option<f64>,
}

/// What `bench.toml` says where nobody brings a config: one record a step, adapters of rank 16 on every
/// linear layer of the language model.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    pub model: &'a Path,
    pub base: Base,
    pub compute: Option<Compute>,
    pub shape: Shape,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    pub model: String,
    pub base: Base,
    pub compute: Compute,
    pub gradient_checkpointing: bool,
    pub device: String,
    pub warm_up: u64,
    pub steps: u64,
    /// From the call to the end of the first step, compiling and the check of the records included.
    pub first_step_seconds: f64,
    /// Of them, until the model was in memory.
    pub loaded_after_seconds: f64,
    /// Of the counted steps: their median, and their sum over their number.
    pub seconds_per_step: f64,
    pub mean_seconds_per_step: f64,
    pub tokens_per_second: f64,
    pub samples_per_second: f64,
    /// The share of the time that steps waited for data.
    pub data_wait: f64,
    pub tokens_per_step: f64,
    pub padding_per_step: f64,
    pub operations: Operations,
    pub matmul: Rate,
    /// Shares of `matmul` that the operations of a step reach: `necessary` counts the work that training
    /// needs (4 operations per weight and token), `computed` also the forward that is made again (6).
    pub utilisation: Utilisation,
    pub memory: MemoryUse,
    /// Seconds per step by family; empty unless asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<(&'static str, f64)>,
    /// Of all steps, the warm-up included.
    pub losses: Vec<f64>,
    pub seconds: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Utilisation {
    pub necessary: f64,
    pub computed: f64,
}

const CONFIG_FILE: &str = "bench.toml";
const REPORT_FILE: &str = "bench.json";
const RUN: &str = "run";

/// Takes `out`, which is new, empty or an earlier bench's, and writes `out/data` and `out/bench.toml` for a
/// model. Data of the same shape for the same tokenizer that is there already is kept. Returns the
/// config's path.
pub fn prepare(out: &Path, setup: &Setup) -> Result<PathBuf> {
    claim(out)?;
    let train = data::write(&out.join("data"), setup.model, &setup.shape)?;
    let model = Model::from_dir(setup.model)?;
    let path = out.join(CONFIG_FILE);
    write_atomic(&path, config_text(setup, &model, &train).as_bytes())?;
    Ok(path)
}

/// Takes a folder that is new, empty or an earlier bench's. Anything else that is full stays as it is.
pub fn claim(out: &Path) -> Result<()> {
    check_folder(out)?;
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cannot("read", out, e)),
    };
    let ours = [CONFIG_FILE, REPORT_FILE]
        .iter()
        .any(|name| out.join(name).exists());
    if entries.next().is_some() && !ours {
        return Err(Diagnostic::error("the output folder holds something else")
            .at(out)
            .expected("no folder, an empty one, or one that `vlft bench` made")
            .hint("choose another `--out`"));
    }
    Ok(())
}

fn config_text(setup: &Setup, model: &Model, train: &Path) -> String {
    let name = |value: serde_json::Value| value.to_string();
    let base = name(serde_json::to_value(setup.base).expect("a plain name"));
    let compute = match setup.compute {
        None => String::new(),
        Some(compute) => format!(
            "compute = {}\n",
            name(serde_json::to_value(compute).expect("a plain name"))
        ),
    };
    let path = |path: &Path| toml::Value::from(path.display().to_string().replace('\\', "/"));
    let max_pixels = match setup.shape.images {
        0 => String::new(),
        _ => format!("max_pixels = {}\n", setup.shape.max_pixels),
    };
    // Experts are not adapted.
    let targets = match model.text.experts {
        None => String::new(),
        Some(_) => "targets = [\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\"]\n".to_owned(),
    };
    format!(
        "# What `vlft bench` measures; `--set` changes it.\n\
         [model]\npath = {}\nbase = {base}\n{compute}\n\
         [lora]\nrank = 16\nalpha = 32\n{targets}\n\
         [data]\ntrain = {}\n{max_pixels}\n\
         [train]\nmicro_batch = 1\naccumulate = 1\nlearning_rate = 1e-4\nschedule = \"constant\"\n\
         loss_average = \"micro_batch\"\n",
        path(setup.model),
        path(train),
    )
}

/// The overrides that make a training run a bench: so many steps, and nothing besides steps.
pub fn overrides(options: &Options) -> Vec<String> {
    let steps = options.warm_up + options.steps;
    vec![
        format!("train.max_steps={steps}"),
        "train.warmup_steps=0".to_owned(),
        "eval.every_steps=0".to_owned(),
        "eval.samples=0".to_owned(),
        "eval.generate_records=0".to_owned(),
        "eval.patience=0".to_owned(),
        "eval.best_metric=\"loss\"".to_owned(),
        "output.checkpoint_every_steps=0".to_owned(),
    ]
}

/// Runs the steps of a config that [`overrides`] were applied to, in `out/run`, and measures them; the
/// report is `out/bench.json` too.
pub fn run(
    config: &Config,
    out: &Path,
    options: &Options,
    observe: &mut dyn FnMut(Event),
    stop: &AtomicBool,
) -> Result<Bench> {
    let device = options.device.open()?;
    let started = Instant::now();
    let mut memory = MemoryUse::before(&device);
    let compute = config.model.compute.unwrap_or(options.device.compute());

    let mut lines: Vec<StepLine> = Vec::new();
    let (mut loaded, mut first) = (Duration::ZERO, Duration::ZERO);
    let mut profile = None;
    let recipe_options = recipe::Options {
        device: options.device,
        // An earlier bench of this folder.
        force: true,
        allow_changed: Vec::new(),
    };
    recipe::train(
        config,
        &out.join(RUN),
        recipe_options,
        &mut |event| {
            match &event {
                Event::Started(_) => {
                    loaded = started.elapsed();
                    memory.loaded(&device);
                }
                Event::Metrics(Line::Step(line)) => {
                    lines.push((*line).clone());
                    memory.after_step(&device);
                    if line.step == 1 {
                        first = started.elapsed();
                    }
                    if line.step == options.warm_up && options.profile {
                        let device = device.clone();
                        profile = Profile::start(move || {
                            // What is wrong with the device, the next operation says.
                            let _ = device.sync();
                        });
                    }
                }
                _ => {}
            }
            observe(event);
        },
        stop,
    )?;
    let times = profile.map(|profile| profile.times());
    let counted = &lines[(options.warm_up as usize).min(lines.len())..];
    let sum = |of: fn(&StepLine) -> f64| counted.iter().map(of).sum::<f64>();
    let total = sum(|line| line.seconds);
    let count = counted.len() as f64;
    let steps = options.warm_up..options.warm_up + options.steps;
    let planned = RunOfSteps::read(config, steps, options.device.place())?;
    memory.predicted = Some(planned.memory);
    let matmul = match options.matmul_rate {
        Some(rate) => Rate::given(rate),
        None => matmul::measure(&device, compute),
    };
    let share = |operations: f64| operations * count / total / matmul.operations_per_second;
    let report = Bench {
        model: last_part(&config.model.path.display().to_string()),
        base: config.model.base,
        compute,
        gradient_checkpointing: config.train.gradient_checkpointing,
        device: options.device.to_string(),
        warm_up: options.warm_up,
        steps: options.steps,
        first_step_seconds: first.as_secs_f64(),
        loaded_after_seconds: loaded.as_secs_f64(),
        seconds_per_step: median(counted.iter().map(|line| line.seconds)),
        mean_seconds_per_step: total / count,
        tokens_per_second: sum(|line| line.tokens as f64) / total,
        samples_per_second: sum(|line| line.samples.len() as f64) / total,
        data_wait: sum(|line| line.data_seconds) / total,
        tokens_per_step: sum(|line| line.tokens as f64) / count,
        padding_per_step: sum(|line| line.padding_tokens as f64) / count,
        utilisation: Utilisation {
            necessary: share(planned.operations.necessary),
            computed: share(planned.operations.computed),
        },
        operations: planned.operations,
        matmul,
        memory,
        profile: times.map_or(Vec::new(), |times| report::by_family(&times, counted)),
        losses: lines.iter().map(|line| line.loss).collect(),
        seconds: lines.iter().map(|line| line.seconds).collect(),
    };
    let json = serde_json::to_string_pretty(&report).expect("plain values") + "\n";
    write_atomic(&out.join(REPORT_FILE), json.as_bytes())?;
    Ok(report)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}
