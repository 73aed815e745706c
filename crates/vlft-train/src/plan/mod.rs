//! What a run will cost, before it is started: memory part by part, steps, time and money, and what to
//! change if it does not fit. Computed from the config, the model's `config.json`, its tokenizer and the
//! headers of the images; no weights are read and no GPU is needed.

mod activations;
mod change;
mod gpus;
mod load;
mod measured;
mod memory;
mod records;
mod report;
mod time;

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use vlft_base::{Diagnostic, Result, format};
use vlft_checkpoint::{Config as Model, Layout};
use vlft_processor::processor::Processor;

pub use change::Change;
pub use gpus::{GPUS, Gpu, Target};
pub(crate) use load::{Load, Passes};
pub use measured::{Measured, peak_bytes};
pub use memory::{Memory, Part, Phase};
pub(crate) use memory::{Place, Setup};
pub use records::Distribution;
use records::{Limits, Records};
pub use time::{Operations, Time, UTILISATION};

use crate::config::{Base, Compute, Config, TooLong};
use crate::data;
use crate::order::Order;
use crate::samples::Size;
use crate::start::last_part;

/// What is asked besides the config.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// None: this machine's CPU.
    pub target: Option<Target>,
    /// US dollars an hour, instead of the listed price.
    pub price: Option<f64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub model: String,
    pub base: Base,
    pub compute: Compute,
    pub data: Data,
    pub steps: u64,
    pub epochs: f64,
    /// On what: the name of a card, `24.0 GiB`, or `CPU`.
    pub on: String,
    /// What there is of it.
    pub available_bytes: u64,
    pub memory: Memory,
    /// The micro-batch that needs the most.
    pub largest: Largest,
    pub fits: bool,
    /// Whether `vlft train` would take the data as it is; what it would refuse is said as a warning.
    pub accepted: bool,
    /// None on a CPU, and where only an amount of memory was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The first single change that makes it fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// The cards of the list, where none was named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<OnGpu>,
}

/// The records that would be trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Data {
    pub records: u64,
    /// Longer than `data.max_tokens`: dropped, or an error that stops training.
    pub too_long: u64,
    pub tokens: Distribution,
    pub image_tokens: Distribution,
    pub supervised: Distribution,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Largest {
    pub tokens: u64,
    pub image_tokens: u64,
    pub supervised: u64,
}

/// The same run on one of the cards of the list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnGpu {
    pub name: &'static str,
    pub available_bytes: u64,
    pub total_bytes: u64,
    pub fits: bool,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// Of a card's memory so much is for nobody: the driver keeps some, and what is freed is not always
/// where it is wanted. An assumption until a GPU has run this.
const USABLE: f64 = 0.95;

/// Plans the run of a config. `warn` gets what training would say or refuse.
pub fn plan(config: &Config, options: &Options, warn: &mut dyn FnMut(Diagnostic)) -> Result<Plan> {
    let problem = Problem::read(config)?;
    let (sizes, too_long) = problem.sizes(config)?;
    let accepted = too_long == 0 || config.data.too_long == TooLong::Drop;
    if !accepted {
        let count = format::count(too_long, "record");
        warn(
            Diagnostic::warning(format!("{count} longer than `data.max_tokens`"))
                .at(&config.data.train)
                .hint(
                    "`vlft train` refuses them: raise it, lower `data.max_pixels`, or set \
                     `data.too_long = \"drop\"`; they are left out here",
                ),
        );
    }
    if sizes.is_empty() {
        return Err(Diagnostic::error("no record would be trained on")
            .at(&config.data.train)
            .hint("raise `data.max_tokens`, or lower `data.max_pixels`"));
    }
    let place = options.target.map_or(Place::Host, |_| Place::Gpu);
    let answer = problem.solve(config, &sizes, place)?;
    let available = match &options.target {
        Some(target) => (target.memory_bytes() as f64 * USABLE) as u64,
        None => measured::memory_of_this_machine(),
    };
    let fits = answer.memory.total_bytes <= available;
    let change = match fits {
        true => None,
        false => change::first_that_fits(&problem, config, place, available)?,
    };
    let gpu = options.target.as_ref().and_then(Target::gpu);
    let on_gpus = match options.target {
        Some(_) => Vec::new(),
        None => problem.on_gpus(config, &sizes, options.price)?,
    };
    let values = |of: fn(&Size) -> usize| Distribution::of(sizes.iter().map(of));
    Ok(Plan {
        model: last_part(&config.model.path.display().to_string()),
        base: config.model.base,
        compute: config.model.compute.unwrap_or(match place {
            Place::Host => Compute::F32,
            Place::Gpu => Compute::Bf16,
        }),
        data: Data {
            records: sizes.len() as u64,
            too_long,
            tokens: values(|size| size.tokens),
            image_tokens: values(|size| size.image_tokens),
            supervised: values(|size| size.supervised),
        },
        steps: answer.passes.steps,
        epochs: answer.passes.total(|load| load.real_tokens as f64)
            / sizes.iter().map(|size| size.tokens).sum::<usize>() as f64,
        on: match &options.target {
            None => "CPU".to_owned(),
            Some(Target::Named(gpu)) => gpu.name.to_owned(),
            Some(Target::Memory(bytes)) => format::bytes(*bytes),
        },
        available_bytes: available,
        largest: Largest {
            tokens: answer.load.tokens,
            image_tokens: answer.load.image_tokens,
            supervised: answer.load.supervised,
        },
        memory: answer.memory,
        fits,
        accepted,
        time: gpu.map(|gpu| problem.time(config, &answer.passes, gpu, options.price)),
        change,
        gpus: on_gpus,
    })
}

/// What stays the same while parts of the config are changed to see what they cost.
pub(crate) struct Problem {
    processor: Processor,
    model: Model,
    layout: Layout,
    train: Records,
    val: Option<Records>,
}

/// The memory of one config.
pub(crate) struct Answer {
    pub(crate) memory: Memory,
    /// Of the micro-batch that needs it.
    load: Load,
    passes: Passes,
}

impl Problem {
    fn read(config: &Config) -> Result<Self> {
        let model = Model::from_dir(&config.model.path)?;
        let layout = Layout::new(&model, &config.lora.spec())?;
        let processor = data::without_cache(config)?;
        let train = Records::read(&config.data.train, &processor)?;
        let val: Option<&PathBuf> = config.data.val.as_ref();
        let val = val
            .map(|path| Records::read(path, &processor))
            .transpose()?;
        Ok(Self {
            processor,
            model,
            layout,
            train,
            val,
        })
    }

    /// The sizes of the training records that are not too long, and how many are.
    pub(crate) fn sizes(&self, config: &Config) -> Result<(Vec<Size>, u64)> {
        self.train.sizes(&self.processor, self.limits(config))
    }

    fn limits(&self, config: &Config) -> Limits {
        let data = &config.data;
        Limits {
            max_pixels: data.max_pixels,
            max_tokens: match (data.packing, data.max_tokens) {
                (true, None) => data.pack_tokens,
                (_, max_tokens) => max_tokens,
            },
        }
    }

    pub(crate) fn solve(&self, config: &Config, sizes: &[Size], place: Place) -> Result<Answer> {
        let passes = Passes::of(sizes, &config.data, &config.train);
        let evaluated = match &self.val {
            None => None,
            Some(val) => {
                let (sizes, _) = val.sizes(&self.processor, self.limits(config))?;
                longest(&sizes)
            }
        };
        let setup = Setup::new(config, &self.model, &self.layout, place);
        let (memory, load) = setup.peak(&passes, evaluated);
        Ok(Answer {
            memory,
            load,
            passes,
        })
    }

    fn time(&self, config: &Config, passes: &Passes, gpu: &Gpu, price: Option<f64>) -> Time {
        let setup = Setup::new(config, &self.model, &self.layout, Place::Gpu);
        let work = setup.work(passes);
        Time::of(&self.model, passes, work, gpu, price)
    }

    fn on_gpus(&self, config: &Config, sizes: &[Size], price: Option<f64>) -> Result<Vec<OnGpu>> {
        let Answer { memory, passes, .. } = self.solve(config, sizes, Place::Gpu)?;
        let on = |gpu: &Gpu| {
            let time = self.time(config, &passes, gpu, price);
            let available_bytes = (gpu.memory_bytes as f64 * USABLE) as u64;
            OnGpu {
                name: gpu.name,
                available_bytes,
                total_bytes: memory.total_bytes,
                fits: memory.total_bytes <= available_bytes,
                seconds: time.seconds,
                cost: time.cost,
            }
        };
        Ok(GPUS.iter().map(on).collect())
    }
}

/// Some steps of a run, for whoever measures them.
pub(crate) struct RunOfSteps {
    pub(crate) operations: Operations,
    pub(crate) memory: Memory,
}

impl RunOfSteps {
    pub(crate) fn read(config: &Config, steps: Range<u64>, place: Place) -> Result<Self> {
        let problem = Problem::read(config)?;
        let (sizes, _) = problem.sizes(config)?;
        let lengths = sizes.iter().map(|size| size.tokens).collect();
        let (data, train) = (&config.data, &config.train);
        let mut order = Order::new(lengths, data, train);
        let passes = Passes {
            // A run of these alone.
            steps: steps.end - steps.start,
            seen: 1.0,
            ..Passes::of_steps(&mut order, &sizes, data, train, steps)
        };
        let setup = Setup::new(config, &problem.model, &problem.layout, place);
        let work = setup.work(&passes);
        Ok(Self {
            operations: Operations::of(&problem.model, &passes, work),
            memory: problem.solve(config, &sizes, place)?.memory,
        })
    }
}

/// The longest record: evaluation takes them one at a time.
pub(crate) fn longest(sizes: &[Size]) -> Option<Load> {
    let longest = sizes.iter().max_by_key(|size| size.tokens)?;
    Some(Load::of(std::iter::once(*longest), false))
}
