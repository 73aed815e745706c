//! The configuration of a training run: one TOML file plus `--set` overrides, read strictly.
//!
//! A file per table says what may be configured there, with which defaults and limits. How a TOML file
//! becomes these types, and what is said about everything wrong in it, is in `reader` and `source`.

mod changes;
mod data;
mod eval;
mod lora;
mod model;
mod output;
mod reader;
mod rules;
mod schema;
mod source;
mod train;
mod write;

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::Result;
use vlft_checkpoint::Part;

pub use changes::{Change, check_changeable};
pub use data::{DataConfig, OnError, TooLong};
pub use eval::{BestMetric, EvalConfig};
pub use lora::LoraConfig;
pub use model::{Base, Compute, ModelConfig};
pub use output::OutputConfig;
use reader::Reader;
pub use schema::config_schema;
pub use train::{LossAverage, Schedule, TrainConfig};

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

impl Config {
    /// Reads a config file and applies overrides such as `train.learning_rate=2e-4` in their order.
    ///
    /// # Errors
    /// Everything wrong in the file and the overrides at once: see [`vlft_base::Diagnostic::further`].
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
}

#[cfg(test)]
mod tests;
