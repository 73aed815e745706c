//! Small data sets and runs for the tests of what a run is fed with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use vlft_base::Result;
use vlft_train::config::{Base, Config, Schedule};
use vlft_train::log::{Line, StepLine, read_metrics};
use vlft_train::recipe;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// Eight records: text only, one, two and three images.
pub(crate) fn records() -> Vec<Value> {
    let text = fs::read_to_string(fixtures().join("data/train.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Writes `records` beside copies of the images that they name. Returns the path of the file.
pub(crate) fn write(dir: &Path, records: &[Value]) -> PathBuf {
    let images = dir.join("images");
    if !images.exists() {
        fs::create_dir_all(&images).unwrap();
        for entry in fs::read_dir(fixtures().join("data/images")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), images.join(entry.file_name())).unwrap();
        }
    }
    let path = dir.join("train.jsonl");
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    fs::write(&path, lines).unwrap();
    path
}

/// A quick run of the tiny model: language and vision adapters, no warm-up.
pub(crate) fn config(data: &Path) -> Config {
    let mut config = Config::new(fixtures().join("tiny"), Base::F32, data);
    config.lora.rank = 4;
    config.lora.vision = true;
    config.train.accumulate = 1;
    config.train.learning_rate = 2e-3;
    config.train.warmup_steps = 0;
    config.train.schedule = Schedule::Constant;
    config.eval.every_steps = 0;
    config
}

/// What a run left.
pub(crate) struct Trained {
    pub(crate) steps: Vec<StepLine>,
    pub(crate) adapter: Vec<u8>,
    /// About the data: what is said of serving the adapter belongs to other tests.
    pub(crate) warnings: Vec<String>,
    pub(crate) header: String,
}

pub(crate) fn train(config: &Config, run: &Path) -> Result<Trained> {
    let mut warnings = Vec::new();
    let mut header = String::new();
    let mut observe = |event: recipe::Event| match event {
        recipe::Event::Warning(warning) if !warning.message().contains("in vLLM") => {
            warnings.push(warning.message().to_owned());
        }
        recipe::Event::Started(started) => header = started.to_string(),
        _ => {}
    };
    let stop = AtomicBool::new(false);
    recipe::train(config, run, recipe::Options::default(), &mut observe, &stop)?;
    Ok(Trained {
        steps: steps(run),
        adapter: fs::read(run.join("adapter/adapter_model.safetensors")).unwrap(),
        warnings,
        header,
    })
}

pub(crate) fn steps(run: &Path) -> Vec<StepLine> {
    let lines = read_metrics(run).unwrap();
    lines
        .into_iter()
        .filter_map(|line| match line {
            Line::Step(step) => Some(step),
            _ => None,
        })
        .collect()
}
