//! The configuration of a training run: one TOML file plus `--set` overrides, read strictly.
//!
//! This file says what may be configured, with which defaults and limits. How a TOML file becomes
//! these types, and what is said about everything wrong in it, is in `config/`.

mod changes;
mod reader;
mod schema;
mod source;
mod write;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::{LoraSpec, LoraTargets, Part, TEXT_TARGETS};

pub use changes::{Change, check_changeable};
use reader::{Bound, Choice, Reader, Section};
pub use schema::config_schema;

/// Everything a run is determined by, apart from the files it names. Paths are relative to the
/// working directory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    pub model: ModelConfig,
    pub lora: LoraConfig,
    pub data: DataConfig,
    pub train: TrainConfig,
    pub eval: EvalConfig,
    pub output: OutputConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    pub path: PathBuf,
    pub base: Base,
    /// Only with [`Base::Nf4`].
    pub double_quant: bool,
    /// Only with [`Base::Nf4`]: the parts of the model held in four bits.
    pub quantize: Vec<Part>,
    /// Only with [`Base::Nf4`]: a folder for quantised copies.
    pub nf4_cache: Option<PathBuf>,
    /// None: f32 on the CPU, bf16 on a GPU.
    pub compute: Option<Compute>,
}

/// How the frozen weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    Nf4,
    Bf16,
    F32,
}

/// What activations are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compute {
    Bf16,
    F32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoraConfig {
    pub rank: usize,
    pub alpha: f64,
    pub dropout: f64,
    /// Linear layers of the language model by their last name, or a regular expression over
    /// whole paths.
    pub targets: LoraTargets,
    /// Also adapt every linear layer of the vision blocks.
    pub vision: bool,
    /// Also adapt the mergers between vision blocks and language model.
    pub merger: bool,
    /// Other ranks by patterns that match the end of a path.
    #[serde(serialize_with = "as_table")]
    pub rank_pattern: Vec<(String, usize)>,
    #[serde(serialize_with = "as_table")]
    pub alpha_pattern: Vec<(String, f64)>,
    pub rslora: bool,
    /// An existing PEFT adapter to start from.
    pub init: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataConfig {
    pub train: PathBuf,
    /// None: no evaluation, whatever `[eval]` says.
    pub val: Option<PathBuf>,
    /// None: the model's own `size.shortest_edge`.
    pub min_pixels: Option<u64>,
    /// None: the model's own `size.longest_edge`.
    pub max_pixels: Option<u64>,
    pub max_tokens: Option<usize>,
    pub too_long: TooLong,
    /// What happens when a record cannot be made into a sample while the run goes on.
    pub on_error: OnError,
    pub shuffle: bool,
    /// Several samples end to end in one row.
    pub packing: bool,
    /// Tokens of a packed row. None: `max_tokens`.
    pub pack_tokens: Option<usize>,
    /// Micro-batches of samples of similar lengths.
    pub group_by_length: bool,
    /// Threads that make samples ahead; 0: none, samples are made when they are needed.
    pub workers: usize,
    /// Micro-batches that may wait beside the one in work.
    pub prefetch: usize,
    /// Where decoded and resized images are kept. None: nowhere.
    pub cache: Option<PathBuf>,
}

impl DataConfig {
    /// All defaults around the file to train on.
    pub fn new(train: impl Into<PathBuf>) -> Self {
        Self {
            train: train.into(),
            val: None,
            min_pixels: None,
            max_pixels: None,
            max_tokens: None,
            too_long: TooLong::Error,
            on_error: OnError::Error,
            shuffle: true,
            packing: false,
            pack_tokens: None,
            group_by_length: false,
            workers: 2,
            prefetch: 4,
            cache: None,
        }
    }

    /// What a packed row holds at most.
    pub fn row_tokens(&self) -> Option<usize> {
        self.pack_tokens.or(self.max_tokens)
    }
}

/// What happens when an image vanishes or breaks under a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run stops, with a checkpoint.
    Error,
    /// The step goes on without the record, which is listed in `RUN/skipped.jsonl`.
    Skip,
}

/// What happens to a sample of more than `max_tokens`. It is never cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    Error,
    Drop,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainConfig {
    pub epochs: u64,
    /// Wins over `epochs`.
    pub max_steps: Option<u64>,
    pub micro_batch: usize,
    pub accumulate: usize,
    pub learning_rate: f64,
    /// LoRA+: the learning rate of B over that of A.
    pub lr_ratio: f64,
    /// Of adapters in the vision blocks; None: `learning_rate`.
    pub vision_learning_rate: Option<f64>,
    /// Of adapters in the mergers; None: `learning_rate`.
    pub merger_learning_rate: Option<f64>,
    pub schedule: Schedule,
    pub warmup_steps: u64,
    pub weight_decay: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    /// Global norm; 0 is off.
    pub max_grad_norm: f64,
    pub loss_average: LossAverage,
    /// Noise on the token embeddings; 0 is off.
    pub neftune_alpha: f64,
    pub gradient_checkpointing: bool,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Cosine,
    Linear,
    Constant,
}

/// What the loss of a step is the mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossAverage {
    /// All supervised tokens of the step.
    Token,
    /// The micro-batches' own means, as the HF Trainer does for this model.
    MicroBatch,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalConfig {
    /// 0: only at the end.
    pub every_steps: u64,
    /// Records of the validation set whose answers are written down at each evaluation.
    pub samples: usize,
    /// Records that are answered for `field_accuracy`; the samples are among them.
    pub generate_records: usize,
    /// Of one answer.
    pub max_new_tokens: usize,
    /// Which evaluation is the best.
    pub best_metric: BestMetric,
    /// End the run after so many evaluations without improvement; 0 is off.
    pub patience: u64,
    /// What counts as one.
    pub min_delta: f64,
}

/// What the best checkpoint is the best in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BestMetric {
    /// The lowest loss on the validation set.
    Loss,
    /// The largest share of right fields in generated answers; among equals, the lowest loss.
    FieldAccuracy,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputConfig {
    /// 0: only at the end and when interrupted.
    pub checkpoint_every_steps: u64,
    /// How many of the newest checkpoints stay, besides the best one.
    pub keep: usize,
}

impl Config {
    /// Reads a config file and applies overrides such as `train.learning_rate=2e-4` in their order.
    ///
    /// # Errors
    /// Everything wrong in the file and the overrides at once: see [`Diagnostic::further`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let source = source::load(path, overrides)?;
        let mut reader = Reader::new(source);
        let config = Self::read(&mut reader);
        match reader.problems() {
            None => Ok(config),
            Some(problems) => Err(problems),
        }
    }

    /// All defaults around the three values that have none.
    pub fn new(model: impl Into<PathBuf>, base: Base, train: impl Into<PathBuf>) -> Self {
        Self {
            model: ModelConfig {
                path: model.into(),
                base,
                double_quant: true,
                quantize: vec![Part::LanguageModel],
                nf4_cache: None,
                compute: None,
            },
            lora: LoraConfig::default(),
            data: DataConfig::new(train),
            train: TrainConfig::default(),
            eval: EvalConfig::default(),
            output: OutputConfig::default(),
        }
    }

    /// Every key there is, with what the schema and the written config say about it.
    fn keys() -> Vec<reader::Known> {
        let mut reader = Reader::new(source::Source::empty());
        Self::read(&mut reader);
        reader.into_known()
    }

    fn read(reader: &mut Reader) -> Self {
        let config = Self {
            model: ModelConfig::read(&mut reader.section("model")),
            lora: LoraConfig::read(&mut reader.section("lora")),
            data: DataConfig::read(&mut reader.section("data")),
            train: TrainConfig::read(&mut reader.section("train")),
            eval: EvalConfig::read(&mut reader.section("eval")),
            output: OutputConfig::read(&mut reader.section("output")),
        };
        config.check_together(reader);
        config
    }

    /// Rules between keys. Rules of one key are beside that key.
    fn check_together(&self, reader: &mut Reader) {
        if let (Some(min), Some(max)) = (self.data.min_pixels, self.data.max_pixels)
            && min > max
        {
            let wrong = Diagnostic::error("`data.min_pixels` is above `data.max_pixels`")
                .expected(format!("at least {min}"))
                .found(max.to_string());
            reader.section("data").problem("max_pixels", wrong);
        }
        self.check_packing(reader);
        if self.model.base == Base::Nf4 && self.model.quantize.is_empty() {
            let wrong =
                Diagnostic::error("`model.quantize` is empty: nothing would be in four bits")
                    .hint("leave the key out, or choose `model.base = \"bf16\"`");
            reader.section("model").problem("quantize", wrong);
        }
        let no_targets = self.lora.targets == LoraTargets::Names(Vec::new());
        if no_targets && !self.lora.vision && !self.lora.merger {
            let wrong = Diagnostic::error("nothing would be trained: `lora.targets` is empty")
                .hint("name at least one target, or set `lora.vision = true`");
            reader.section("lora").problem("targets", wrong);
        }
        if self.eval.best_metric == BestMetric::FieldAccuracy && self.eval.answers() == 0 {
            let wrong = Diagnostic::error("`eval.best_metric` needs answers, and none are made")
                .hint("set `eval.generate_records` to how many records are answered");
            reader.section("eval").problem("best_metric", wrong);
        }
        if self.eval.patience > 0 && self.eval.every_steps == 0 {
            let wrong = Diagnostic::error("`eval.patience` needs evaluations while training")
                .expected("`eval.every_steps` above 0")
                .found("0");
            reader.section("eval").problem("patience", wrong);
        }
    }
}

impl Config {
    /// What packing needs, and what does not go with it.
    fn check_packing(&self, reader: &mut Reader) {
        let data = &self.data;
        let mut wrong = |key, problem| reader.section("data").problem(key, problem);
        if data.group_by_length && data.packing {
            let problem = Diagnostic::error("packed rows have no padding to save")
                .hint("leave out `data.group_by_length`");
            wrong("group_by_length", problem);
        } else if data.group_by_length && self.train.micro_batch == 1 {
            let problem = Diagnostic::error(
                "`data.group_by_length` with one sample in a micro-batch",
            )
            .hint("raise `train.micro_batch`, or leave it out: there is no padding to save");
            wrong("group_by_length", problem);
        }
        if !data.packing {
            return;
        }
        match (data.row_tokens(), data.max_tokens) {
            (None, _) => wrong(
                "packing",
                Diagnostic::error("`data.packing` does not say how long a row may be")
                    .hint("set `data.pack_tokens`, such as 4096, or `data.max_tokens`"),
            ),
            (Some(row), Some(max)) if row < max => wrong(
                "pack_tokens",
                Diagnostic::error("`data.pack_tokens` is below `data.max_tokens`")
                    .expected(format!("at least {max}"))
                    .found(row.to_string()),
            ),
            _ => {}
        }
        // Every epoch is packed anew, and all of them are counted before the first step.
        const MOST_EPOCHS: u64 = 10_000;
        if self.train.epochs > MOST_EPOCHS && self.train.max_steps.is_none() {
            let problem = Diagnostic::error("too many epochs to plan the packed rows of")
                .expected(format!("at most {MOST_EPOCHS}"))
                .found(self.train.epochs.to_string())
                .hint("set `train.max_steps`");
            reader.section("train").problem("epochs", problem);
        }
    }
}

impl ModelConfig {
    fn read(s: &mut Section) -> Self {
        Self {
            path: s.required_path(
                "path",
                "folder of the model: config.json, *.safetensors, ..",
            ),
            base: s.required_choice("base", "frozen weights: QLoRA, LoRA, tests"),
            double_quant: s.boolean("double_quant", true, "only with nf4"),
            quantize: s
                .names(
                    "quantize",
                    &[Part::LanguageModel.name().to_string()],
                    &Part::ALL.map(Part::name),
                    "only with nf4: parts in four bits; the rest is in 16",
                )
                .iter()
                .filter_map(|name| Part::named(name))
                .collect(),
            nf4_cache: s.optional_path(
                "nf4_cache",
                "only with nf4: folder for quantised copies, to start faster",
            ),
            compute: s.optional_choice(
                "compute",
                "activations; absent: f32 on a CPU, bf16 on a GPU",
            ),
        }
    }
}

fn as_table<T: Serialize, S: Serializer>(
    entries: &[(String, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

/// No upper limit.
const ANY: u64 = u64::MAX;

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: LoraTargets::Names(TEXT_TARGETS.map(str::to_owned).to_vec()),
            vision: false,
            merger: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            rslora: false,
            init: None,
        }
    }
}

const RANKS: RangeInclusive<u64> = 1..=65_536;

impl LoraConfig {
    /// What the model crate expands over a model.
    pub(crate) fn spec(&self) -> LoraSpec {
        LoraSpec {
            targets: self.targets.clone(),
            vision: self.vision,
            merger: self.merger,
            rank: self.rank,
            alpha: self.alpha,
            rslora: self.rslora,
            rank_pattern: self.rank_pattern.clone(),
            alpha_pattern: self.alpha_pattern.clone(),
        }
    }

    fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            rank: s.size("rank", d.rank, RANKS, "r of A [r, in] and B [out, r]"),
            alpha: s.number("alpha", d.alpha, Bound::Positive, "scale is alpha / rank"),
            dropout: s.number("dropout", d.dropout, Bound::Fraction, "on the input of A"),
            targets: s.names_or_pattern(
                "targets",
                &d.targets,
                &TEXT_TARGETS,
                "in the language model; or a regular expression over whole paths",
            ),
            vision: s.boolean("vision", d.vision, "also adapt the vision blocks"),
            merger: s.boolean("merger", d.merger, "also adapt the mergers"),
            rank_pattern: s.integer_table("rank_pattern", RANKS, "by ends of paths"),
            alpha_pattern: s.number_table("alpha_pattern", Bound::Positive, "by ends of paths"),
            rslora: s.boolean("rslora", d.rslora, "scale is alpha / sqrt(rank)"),
            init: s.optional_path("init", "a PEFT adapter to start from"),
        }
    }
}

impl DataConfig {
    fn read(s: &mut Section) -> Self {
        let d = Self::new("");
        Self {
            train: s.required_path("train", "records to train on, JSON Lines"),
            val: s.optional_path("val", "records to evaluate on; absent: no evaluation"),
            min_pixels: s.optional_count("min_pixels", 1..=ANY, "absent: the model's own"),
            max_pixels: s.optional_count("max_pixels", 1..=ANY, "absent: the model's own"),
            max_tokens: s.optional_size("max_tokens", 1..=ANY, "of one sample; absent: no limit"),
            too_long: s.choice(
                "too_long",
                d.too_long,
                "drop: counted and listed; never cut",
            ),
            on_error: s.choice(
                "on_error",
                d.on_error,
                "a record that breaks while training; skip: listed and counted",
            ),
            shuffle: s.boolean(
                "shuffle",
                d.shuffle,
                "the order is a function of (seed, epoch)",
            ),
            packing: s.boolean("packing", d.packing, "several samples in one row"),
            pack_tokens: s.optional_size(
                "pack_tokens",
                1..=ANY,
                "of one packed row; absent: max_tokens",
            ),
            group_by_length: s.boolean(
                "group_by_length",
                d.group_by_length,
                "micro-batches of similar lengths: less padding",
            ),
            workers: s.size(
                "workers",
                d.workers,
                0..=1024,
                "threads that load data ahead; 0: none",
            ),
            prefetch: s.size(
                "prefetch",
                d.prefetch,
                0..=1_000_000,
                "micro-batches loaded ahead; a page of 1280 tokens is 30 MiB",
            ),
            cache: s.optional_path(
                "cache",
                "folder for decoded images, 4 MiB per page of 1280 tokens",
            ),
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            max_steps: None,
            micro_batch: 1,
            accumulate: 16,
            learning_rate: 1e-4,
            lr_ratio: 1.0,
            vision_learning_rate: None,
            merger_learning_rate: None,
            schedule: Schedule::Cosine,
            warmup_steps: 10,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            max_grad_norm: 1.0,
            loss_average: LossAverage::Token,
            neftune_alpha: 0.0,
            gradient_checkpointing: true,
            seed: 42,
        }
    }
}

impl TrainConfig {
    fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            epochs: s.count(
                "epochs",
                d.epochs,
                1..=ANY,
                "passes over the training records",
            ),
            max_steps: s.optional_count("max_steps", 1..=ANY, "optimizer steps; wins over epochs"),
            micro_batch: s.size(
                "micro_batch",
                d.micro_batch,
                1..=1_000_000,
                "samples in one forward",
            ),
            accumulate: s.size(
                "accumulate",
                d.accumulate,
                1..=1_000_000,
                "micro-batches in one step",
            ),
            learning_rate: s.number("learning_rate", d.learning_rate, Bound::Positive, "peak"),
            lr_ratio: s.number(
                "lr_ratio",
                d.lr_ratio,
                Bound::Positive,
                "LoRA+: of B over A",
            ),
            vision_learning_rate: s.optional_number(
                "vision_learning_rate",
                Bound::Positive,
                "of the vision blocks; absent: learning_rate",
            ),
            merger_learning_rate: s.optional_number(
                "merger_learning_rate",
                Bound::Positive,
                "of the mergers; absent: learning_rate",
            ),
            schedule: s.choice("schedule", d.schedule, "after the warm-up"),
            warmup_steps: s.count(
                "warmup_steps",
                d.warmup_steps,
                0..=ANY,
                "from 0 up to the peak",
            ),
            weight_decay: s.number(
                "weight_decay",
                d.weight_decay,
                Bound::NotNegative,
                "decoupled",
            ),
            betas: s.pair("betas", d.betas, Bound::Fraction, "AdamW"),
            eps: s.number("eps", d.eps, Bound::Positive, "AdamW"),
            max_grad_norm: s.number(
                "max_grad_norm",
                d.max_grad_norm,
                Bound::NotNegative,
                "global norm; 0 is off",
            ),
            loss_average: s.choice("loss_average", d.loss_average, "the mean of what"),
            neftune_alpha: s.number(
                "neftune_alpha",
                d.neftune_alpha,
                Bound::NotNegative,
                "noise on the token embeddings; 0 is off",
            ),
            gradient_checkpointing: s.boolean(
                "gradient_checkpointing",
                d.gradient_checkpointing,
                "keep block inputs only, recompute backwards",
            ),
            seed: s.count("seed", d.seed, 0..=ANY, "of the order and of A"),
        }
    }
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every_steps: 50,
            samples: 0,
            generate_records: 0,
            max_new_tokens: 256,
            best_metric: BestMetric::Loss,
            patience: 0,
            min_delta: 0.0,
        }
    }
}

impl EvalConfig {
    fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            every_steps: s.count("every_steps", d.every_steps, 0..=ANY, "0: only at the end"),
            samples: s.size(
                "samples",
                d.samples,
                0..=1000,
                "records whose answers go into metrics.jsonl and report.html",
            ),
            generate_records: s.size(
                "generate_records",
                d.generate_records,
                0..=ANY,
                "records answered for field_accuracy, samples included; slow",
            ),
            max_new_tokens: s.size(
                "max_new_tokens",
                d.max_new_tokens,
                1..=1_000_000,
                "of one answer; each costs a forward of the text",
            ),
            best_metric: s.choice("best_metric", d.best_metric, "decides what RUN/best is"),
            patience: s.count(
                "patience",
                d.patience,
                0..=ANY,
                "evaluations without improvement that end the run; 0 is off",
            ),
            min_delta: s.number(
                "min_delta",
                d.min_delta,
                Bound::NotNegative,
                "by which best_metric must change to count as improvement",
            ),
        }
    }

    /// How many records of the validation set are answered at each evaluation.
    pub(crate) fn answers(&self) -> usize {
        self.samples.max(self.generate_records)
    }
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            checkpoint_every_steps: 100,
            keep: 2,
        }
    }
}

impl OutputConfig {
    fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            checkpoint_every_steps: s.count(
                "checkpoint_every_steps",
                d.checkpoint_every_steps,
                0..=ANY,
                "0: only at the end and when interrupted",
            ),
            keep: s.size(
                "keep",
                d.keep,
                1..=ANY,
                "newest checkpoints that stay; the best one does besides",
            ),
        }
    }
}

impl Choice for Base {
    const ALL: &[(&str, Self)] = &[("nf4", Base::Nf4), ("bf16", Base::Bf16), ("f32", Base::F32)];
}
impl Choice for Compute {
    const ALL: &[(&str, Self)] = &[("bf16", Compute::Bf16), ("f32", Compute::F32)];
}
impl FromStr for Base {
    type Err = Diagnostic;

    fn from_str(name: &str) -> Result<Self> {
        reader::named(name)
    }
}
impl FromStr for Compute {
    type Err = Diagnostic;

    fn from_str(name: &str) -> Result<Self> {
        reader::named(name)
    }
}
impl Choice for OnError {
    const ALL: &[(&str, Self)] = &[("error", OnError::Error), ("skip", OnError::Skip)];
}
impl Choice for TooLong {
    const ALL: &[(&str, Self)] = &[("error", TooLong::Error), ("drop", TooLong::Drop)];
}
impl Choice for Schedule {
    const ALL: &[(&str, Self)] = &[
        ("cosine", Schedule::Cosine),
        ("linear", Schedule::Linear),
        ("constant", Schedule::Constant),
    ];
}
impl Choice for BestMetric {
    const ALL: &[(&str, Self)] = &[
        ("loss", BestMetric::Loss),
        ("field_accuracy", BestMetric::FieldAccuracy),
    ];
}
impl Choice for LossAverage {
    const ALL: &[(&str, Self)] = &[
        ("token", LossAverage::Token),
        ("micro_batch", LossAverage::MicroBatch),
    ];
}

#[cfg(test)]
mod tests;
