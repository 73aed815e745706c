//! The model really looks: it learns to name a colour that only the picture shows, and with the
//! pictures shuffled between the records it does worse.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use vlft_base::output::Existing;
use vlft_checkpoint::{Storage, write_random_weights};
use vlft_example::{digits, tiny_model};
use vlft_train::config::{Base, Config, Schedule};
use vlft_train::device::Device;
use vlft_train::{eval, recipe};

const SEED: u64 = 7;

#[test]
fn shuffled_pictures_make_it_worse() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let (data, model) = (root.join("data"), root.join("model"));
    let task = digits::Task::Colour;
    let options = digits::Options {
        task,
        train: 60,
        val: 30,
        seed: SEED,
        existing: Existing::Refuse,
    };
    digits::generate(&options, &data).unwrap();
    fs::create_dir(&model).unwrap();
    tiny_model::write_files(&model, &tiny_model::Size::default()).unwrap();
    let model_config = vlft_checkpoint::Config::from_dir(&model).unwrap();
    write_random_weights(&model, &model_config, SEED, Storage::F32, u64::MAX).unwrap();

    let mut config = Config::new(&model, Base::F32, data.join("train.jsonl"));
    config.lora.rank = 16;
    config.train.epochs = 8;
    config.train.micro_batch = 4;
    config.train.accumulate = 1;
    config.train.learning_rate = 4e-3;
    config.train.warmup_steps = 10;
    config.train.schedule = Schedule::Cosine;
    config.train.gradient_checkpointing = false;
    let run = root.join("run");
    let stop = AtomicBool::new(false);
    let trained = recipe::train(
        &config,
        &run,
        recipe::Options::default(),
        &mut |_| {},
        &stop,
    )
    .unwrap();

    shuffle_pictures(&data.join("val.jsonl"), &data.join("shuffled.jsonl"));
    let loss = |file: &str| {
        let options = eval::Options {
            task: eval::Task::Answers,
            model: model.clone(),
            adapter: Some(trained.adapter.clone()),
            data: data.join(file),
            device: Device::Cpu,
            min_pixels: None,
            max_pixels: None,
            base: None,
            compute: None,
        };
        answers(eval::run(&options, &mut |_| {}).unwrap()).loss
    };
    let (right, wrong) = (loss("val.jsonl"), loss("shuffled.jsonl"));
    println!("seed {SEED}: right pictures {right:.4}, shuffled {wrong:.4}");
    assert!(
        right < 0.6 * wrong,
        "right pictures {right:.4}, shuffled {wrong:.4}"
    );
}

/// Every record gets the picture of the record a third of the file further on.
fn shuffle_pictures(from: &Path, to: &Path) {
    let text = fs::read_to_string(from).unwrap();
    let mut records: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let picture = "/messages/0/content/0/image";
    let pictures: Vec<_> = records
        .iter()
        .map(|r| r.pointer(picture).unwrap().clone())
        .collect();
    let shift = records.len() / 3;
    for (i, record) in records.iter_mut().enumerate() {
        *record.pointer_mut(picture).unwrap() = pictures[(i + shift) % pictures.len()].clone();
    }
    let lines: Vec<String> = records.iter().map(|record| record.to_string()).collect();
    fs::write(to, lines.join("\n") + "\n").unwrap();
}

fn answers(outcome: eval::Outcome) -> eval::Evaluation {
    match outcome {
        eval::Outcome::Answers(evaluation) => evaluation,
        other => panic!("asked for the loss of answers, got {other}"),
    }
}
