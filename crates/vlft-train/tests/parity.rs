//! The trainer against transformers and PEFT: gradients of every adapter matrix, whole training
//! runs step by step, evaluation with an adapter, and greedy answers.
//!
//! `tests/fixtures` at the top level holds the committed cases and their generator. Another folder
//! of the same layout is checked with `VLFT_FIXTURES=DIR cargo test -p vlft-train --test parity`.

#![expect(
    clippy::print_stdout,
    reason = "measured distances are shown with --nocapture"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device as Flex, Tensor};
use serde_json::Value;
use vlft_checkpoint::{Checkpoint, Config as ModelConfig};
use vlft_dataset::record::Record;
use vlft_model::{AdapterGradients, Adapters, Checkpointing, Frozen, Inputs, Qwen3Vl};
use vlft_processor::processor::{Options as Limits, Processor};
use vlft_processor::sample::Sample;
use vlft_train::config::{Base, Config};
use vlft_train::device::Device;
use vlft_train::log::{Line, StepLine, read_metrics};
use vlft_train::samples::{Limit, Samples};
use vlft_train::{eval, generate, recipe};

fn fixtures() -> PathBuf {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    std::env::var_os("VLFT_FIXTURES").map_or(committed, PathBuf::from)
}

fn cases(kind: &str) -> (PathBuf, Vec<Value>) {
    let root = fixtures();
    let manifest = std::fs::read(root.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let cases = manifest[kind].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    (root, cases)
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap()
}

fn limits(case: &Value) -> Limits {
    Limits {
        min_pixels: case["min_pixels"].as_u64(),
        max_pixels: case["max_pixels"].as_u64(),
    }
}

fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs().max(1e-12)
}

#[test]
fn every_gradient_agrees_with_peft_both_ways() {
    all_gradients(&Flex::flex());
}

/// Through the GPU code, on a software device.
#[test]
#[cfg(feature = "wgpu")]
fn gpu_gradients_agree_with_peft_both_ways() {
    all_gradients(&Flex::wgpu(burn::tensor::DeviceKind::Cpu));
}

fn all_gradients(device: &Flex) {
    let (root, cases) = cases("gradients");
    for case in &cases {
        let name = text(case, "name");
        let model_dir = root.join(text(case, "model"));
        let config = ModelConfig::from_dir(&model_dir).unwrap();
        let (layout, adapters) =
            vlft_model::read_adapter(&root.join(text(case, "adapter")), &config, device).unwrap();
        let checkpoint = Checkpoint::open(&model_dir).unwrap();
        let storage = Frozen::as_stored();
        let model = Qwen3Vl::load(&config, &checkpoint, Some(&layout), storage, device).unwrap();
        let processor = Arc::new(Processor::from_dir(&model_dir, &limits(case)).unwrap());
        let (samples, _) = Samples::open(
            &root.join(text(case, "data")),
            &processor,
            &config,
            Limit::NONE,
        )
        .unwrap();
        let indices: Vec<usize> = case["indices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i.as_u64().unwrap() as usize)
            .collect();
        let batch = samples.batch(&indices).unwrap();
        let expected = Checkpoint::open_file(&root.join(format!("{name}.safetensors"))).unwrap();

        for (checkpointing, way) in [
            (Checkpointing::Off, "at once"),
            (Checkpointing::On, "by blocks"),
            (Checkpointing::Offloaded, "by offloaded blocks"),
        ] {
            let mut gradients = AdapterGradients::new(layout.modules.len());
            let scale = 1.0 / batch.targets.ids.len() as f64;
            let asked = model.nll_and_gradients(
                &batch.inputs,
                &batch.targets,
                &adapters,
                scale,
                checkpointing,
                &mut gradients,
            );
            asked.unwrap();
            let mut worst = 0f64;
            for (module, pair) in layout.modules.iter().zip(gradients.pairs()) {
                let Some(pair) = pair else {
                    panic!("{name}: {} has no gradient", module.name)
                };
                for (part, found) in [("A", &pair.a), ("B", &pair.b)] {
                    let tensor = format!("base_model.model.{}.lora_{part}.weight", module.name);
                    let error = relative_error(found, &expected.values(&tensor).unwrap());
                    assert!(error <= 1e-4, "{name}: {tensor} differs by {error:e}");
                    worst = worst.max(error);
                }
            }
            let modules = layout.modules.len();
            println!("{name}: {modules} modules, {way}, worst {worst:e}");
        }
    }
}

/// Norm of the difference over the norm of the expected values.
fn relative_error(found: &Tensor<2>, expected: &[f32]) -> f64 {
    let found: Vec<f32> = found.to_data().iter::<f32>().collect();
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = expected.iter().map(|x| square(*x)).sum();
    if norm == 0.0 {
        difference.sqrt()
    } else {
        (difference / norm).sqrt()
    }
}

#[test]
fn every_training_run_follows_the_reference() {
    let (root, cases) = cases("training");
    for case in &cases {
        for checkpointing in [true, false] {
            follow(&root, case, checkpointing, Device::Cpu);
        }
    }
}

/// Through the GPU code, on a software device.
#[test]
#[cfg(feature = "wgpu")]
fn gpu_training_runs_follow_the_reference() {
    let (root, cases) = cases("training");
    for case in &cases {
        follow(&root, case, true, Device::Wgpu);
    }
}

fn follow(root: &Path, case: &Value, checkpointing: bool, device: Device) {
    let name = text(case, "name");
    let scratch = tempfile::tempdir().unwrap();
    let config = config(root, &case["config"], checkpointing, scratch.path());
    let run = scratch.path().join("run");
    let summary = recipe::train(
        &config,
        &run,
        recipe::Options {
            device,
            ..recipe::Options::default()
        },
        &mut |_| {},
        &AtomicBool::new(false),
    )
    .unwrap();

    let expected = std::fs::read_to_string(root.join(text(case, "dir")).join("log.jsonl")).unwrap();
    let expected: Vec<Value> = expected
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found: Vec<StepLine> = read_metrics(&run)
        .unwrap()
        .into_iter()
        .filter_map(|line| match line {
            Line::Step(step) => Some(step),
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    let mut worst = 0f64;
    for (found, expected) in found.iter().zip(&expected) {
        let step = found.step;
        let number = |key: &str| expected[key].as_f64().unwrap();
        let off = relative(found.loss, number("loss"));
        assert!(off <= 1e-3, "{name}: loss of step {step} is off by {off:e}");
        worst = worst.max(off);
        let lr = number("lr");
        assert!(
            (found.lr - lr).abs() <= 1e-15,
            "{name}: step {step} ran at {}, not {lr}",
            found.lr
        );
        let targets: u64 = expected["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .sum();
        assert_eq!(found.supervised_tokens, targets, "{name}: step {step}");
    }
    let norm = expected[0]["grad_norm"].as_f64().unwrap();
    let off = relative(found[0].grad_norm, norm);
    assert!(off <= 1e-3, "{name}: first gradient norm is off by {off:e}");

    // Names and shapes of the final adapter.
    let reference = root
        .join(text(case, "dir"))
        .join("adapter_model.safetensors");
    let reference = Checkpoint::open_file(&reference).unwrap();
    let ours = Checkpoint::open_file(&summary.adapter.join("adapter_model.safetensors")).unwrap();
    assert_eq!(
        ours.names().collect::<Vec<_>>(),
        reference.names().collect::<Vec<_>>(),
        "{name}"
    );
    for tensor in ours.names() {
        assert_eq!(
            ours.shape(tensor),
            reference.shape(tensor),
            "{name}: {tensor}"
        );
    }
    println!(
        "{name}: {} steps, by blocks {checkpointing}, worst loss {worst:e}, first norm {off:e}",
        found.len()
    );
}

/// The manifest's tables as a config file, paths made absolute.
fn config(root: &Path, tables: &Value, checkpointing: bool, scratch: &Path) -> Config {
    let mut tables = tables.clone();
    for (table, key) in [("model", "path"), ("lora", "init"), ("data", "train")] {
        let path = root.join(text(&tables[table], key)).canonicalize().unwrap();
        tables[table][key] = path.to_str().unwrap().into();
    }
    tables["train"]["gradient_checkpointing"] = checkpointing.into();
    let path = scratch.join("config.toml");
    std::fs::write(&path, toml::to_string(&tables).unwrap()).unwrap();
    Config::load(&path, &[]).unwrap()
}

#[test]
fn evaluation_agrees_with_transformers_with_and_without_an_adapter() {
    let (root, cases) = cases("evaluations");
    for case in &cases {
        let name = text(case, "name");
        let Limits {
            min_pixels,
            max_pixels,
        } = limits(case);
        let options = eval::Options {
            task: eval::Task::Answers,
            model: root.join(text(case, "model")),
            adapter: case["adapter"].as_str().map(|dir| root.join(dir)),
            data: root.join(text(case, "data")),
            device: Device::Cpu,
            min_pixels,
            max_pixels,
            base: (case["base"] == "nf4").then_some(Base::Nf4),
            compute: None,
        };
        let found = answers(eval::run(&options, &mut |_| {}).unwrap());
        assert_eq!(found.records, case["records"].as_u64().unwrap(), "{name}");
        assert_eq!(found.tokens, case["tokens"].as_u64().unwrap(), "{name}");
        let expected = case["loss"].as_f64().unwrap();
        let off = (found.loss - expected).abs();
        // Quantising here, a scale may come out as the code beside bitsandbytes' own.
        let tolerance = match options.base {
            Some(_) => 1e-4 * expected,
            None => 1e-5,
        };
        assert!(
            off <= tolerance,
            "{name}: loss {}, expected {expected}",
            found.loss
        );
        println!("{name}: loss off by {off:e}");
    }
}

/// Greedy answers equal transformers' `generate(do_sample=False)`, token for token; and one forward
/// over question and answer together would choose the same tokens.
#[test]
fn answers_equal_those_of_transformers() {
    let (root, cases) = cases("generations");
    let device = Flex::flex();
    let whole = |value: &Value| value.as_u64().unwrap() as usize;
    let (mut stopped, mut tokens, mut image_tokens) = (0, 0, 0);
    for case in &cases {
        let name = text(case, "name");
        let model_dir = root.join(text(case, "model"));
        let config = ModelConfig::from_dir(&model_dir).unwrap();
        let (layout, adapters) = match case["adapter"].as_str() {
            None => (None, Adapters::none()),
            Some(dir) => {
                let (layout, adapters) =
                    vlft_model::read_adapter(&root.join(dir), &config, &device).unwrap();
                (Some(layout), adapters)
            }
        };
        let checkpoint = Checkpoint::open(&model_dir).unwrap();
        let storage = Frozen::as_stored();
        let model = Qwen3Vl::load(&config, &checkpoint, layout.as_ref(), storage, &device).unwrap();
        let processor = Processor::from_dir(&model_dir, &limits(case)).unwrap();
        let own: BTreeSet<u32> = processor.stop_tokens().iter().copied().collect();
        let stop: BTreeSet<u32> = (case["stop"].as_array().unwrap().iter())
            .map(|id| whole(id) as u32)
            .collect();
        if !name.contains("stop") {
            assert_eq!(own, stop, "{name}: the model's own");
        }
        let stop: Vec<u32> = stop.into_iter().collect();
        let data = root.join(text(case, "data"));
        let lines = std::fs::read_to_string(&data).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        let indices = case["indices"].as_array().unwrap();
        let results = case["results"].as_array().unwrap();
        assert_eq!(indices.len(), results.len());
        for (index, expected) in indices.iter().zip(results) {
            let record: Record = serde_json::from_str(lines[whole(index)]).unwrap();
            let prompt = processor.prompt(&record, data.parent().unwrap()).unwrap();
            let id = text(expected, "id");
            assert_eq!(prompt.sample.len(), whole(&expected["prompt_tokens"]));
            let limit = whole(&case["max_new_tokens"]);
            let end = generate::End {
                tokens: &stop,
                max_new_tokens: limit,
                stop: &AtomicBool::new(false),
            };
            let answer = generate::greedy(&model, &adapters, &prompt.sample, &end).unwrap();
            let mut expected_ids: Vec<u32> = (expected["ids"].as_array().unwrap().iter())
                .map(|id| whole(id) as u32)
                .collect();
            assert_eq!(answer.stopped, expected["stopped"], "{name}: {id}");
            let row = [&prompt.sample.input_ids[..], &expected_ids].concat();
            if answer.stopped {
                expected_ids.pop();
                stopped += 1;
            }
            assert_eq!(answer.ids, expected_ids, "{name}: {id}");
            tokens += answer.ids.len();
            // A random model may answer with an image token. In one forward with the question it
            // would stand for an image.
            if !answer.ids.contains(&config.image_token_id) {
                same_in_one_forward(&model, &adapters, &prompt.sample, &row);
            } else {
                image_tokens += 1;
            }
        }
        let margin = results.iter().map(|r| r["least_margin"].as_f64().unwrap());
        println!("{name}: least margin {:e}", margin.fold(f64::MAX, f64::min));
    }
    assert!(stopped >= 2 && tokens > 100, "{stopped} {tokens}");
    assert!(
        image_tokens < 3,
        "{image_tokens} answers were not checked twice"
    );
}

/// The slow twin of decoding: all tokens of `row` at once, the images seen in the same forward.
fn same_in_one_forward(model: &Qwen3Vl, adapters: &Adapters, prompt: &Sample, row: &[u32]) {
    let mut sample = prompt.clone();
    sample.input_ids = row.to_vec();
    let after = sample.position_ids.iter().flatten().max().unwrap() + 1;
    for axis in &mut sample.position_ids {
        let answer = (0..row.len() - prompt.len()).map(|i| after + i as i32);
        axis.extend(answer);
    }
    let inputs = Inputs {
        rows: 1,
        tokens: row.len(),
        input_ids: row.iter().map(|id| *id as i32).collect(),
        position_ids: sample.position_ids.concat(),
        pixel_values: (sample.images.iter())
            .flat_map(|image| image.pixel_values.to_vec())
            .collect(),
        grid_thw: sample.images.iter().map(|image| image.grid_thw).collect(),
        ..Inputs::default()
    };
    let logits = model.logits(&inputs, adapters, &mut |_, _| {});
    let chosen: Vec<u32> = logits
        .argmax(1)
        .into_data()
        .iter::<i64>()
        .map(|id| id as u32)
        .collect();
    assert_eq!(chosen[prompt.len() - 1..row.len() - 1], row[prompt.len()..]);
}

fn answers(outcome: eval::Outcome) -> eval::Evaluation {
    match outcome {
        eval::Outcome::Answers(evaluation) => evaluation,
        other => panic!("asked for the loss of answers, got {other}"),
    }
}
