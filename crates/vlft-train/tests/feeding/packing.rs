//! Several samples in one row: the same loss and gradients as each by itself, resumed exactly, and
//! much faster for short ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};
use vlft_checkpoint::{Checkpoint, Config as ModelConfig, Layout, LoraSpec, Storage};
use vlft_model::lora::Pair;
use vlft_model::{AdapterGradients, Adapters, Checkpointing, Qwen3Vl};
use vlft_processor::processor::{Options as Limits, Processor};
use vlft_train::batch::MicroBatch;
use vlft_train::config::TooLong;
use vlft_train::recipe::{self, Event};
use vlft_train::samples::{Limit, Samples};

use crate::support::{config, fixtures, records, train, write};

/// Numbers in -0.5..0.5 that are the same on every machine.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    (0..n as u64)
        .map(|i| {
            let mixed = (seed * 1_000_003 + i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((mixed ^ (mixed >> 29)) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect()
}

/// Adapters of which no part is zero, so that every gradient is there.
fn adapters(layout: &Layout, device: &Device) -> Adapters {
    let mut adapters = Adapters::init(layout, 3, device);
    let pairs = adapters.pairs().iter().zip(1..).map(|(pair, seed)| {
        let [rows, columns] = pair.b.dims();
        let b = TensorData::new(noise(rows * columns, seed), [rows, columns]);
        Pair {
            a: pair.a.clone(),
            b: Tensor::from_data(b, device) * 0.2,
        }
    });
    adapters.set_pairs(pairs.collect());
    adapters
}

fn distance(a: &Tensor<2>, b: &Tensor<2>) -> f64 {
    let norm = |t: Tensor<2>| -> f64 {
        let values = t.into_data();
        let squares = values.iter::<f32>().map(|x| f64::from(x) * f64::from(x));
        squares.sum::<f64>().sqrt()
    };
    norm(a.clone() - b.clone()) / norm(b.clone()).max(1e-12)
}

#[test]
fn a_packed_row_has_the_loss_and_the_gradients_of_its_samples() {
    let device = Device::flex();
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    for model in ["tiny", "tiny_gqa"] {
        let dir = fixtures().join(model);
        let config = ModelConfig::from_dir(&dir).unwrap();
        let processor = Arc::new(Processor::from_dir(&dir, &Limits::default()).unwrap());
        let (mut samples, _) = Samples::open(&data, &processor, &config, Limit::NONE).unwrap();
        let spec = LoraSpec {
            vision: true,
            rank: 4,
            alpha: 8.0,
            ..LoraSpec::default()
        };
        let layout = Layout::new(&config, &spec).unwrap();
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let storage = Storage::AsStored;
        let model = Qwen3Vl::load(&config, &checkpoint, Some(&layout), storage, &device).unwrap();
        let adapters = adapters(&layout, &device);

        // Three images, none, one, two, and the text again: multi-image and text-only samples side by
        // side, and segments of the same length.
        let indices = [2, 4, 0, 1, 4];
        let one_by_one: Vec<MicroBatch> = indices
            .iter()
            .map(|index| samples.batch(&[*index]).unwrap())
            .collect();
        samples.pack();
        let packed = samples.batch(&indices).unwrap();
        let tokens: usize = one_by_one.iter().map(|batch| batch.tokens).sum();
        assert_eq!((packed.tokens, packed.padding()), (tokens, 0));

        for checkpointing in [Checkpointing::On, Checkpointing::Off] {
            let run = |batches: &[MicroBatch]| {
                let mut gradients = AdapterGradients::new(layout.modules.len());
                let mut nll = Vec::new();
                for batch in batches {
                    let of_batch = model.nll_and_gradients(
                        &batch.inputs,
                        &batch.targets,
                        &adapters,
                        1.0,
                        checkpointing,
                        &mut gradients,
                    );
                    nll.extend(of_batch.unwrap().values().unwrap());
                }
                (nll, gradients)
            };
            let (expected_nll, expected) = run(&one_by_one);
            let (nll, found) = run(std::slice::from_ref(&packed));
            assert_eq!(nll.len(), expected_nll.len());
            for (found, expected) in nll.iter().zip(&expected_nll) {
                assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0));
            }
            for (module, (found, expected)) in layout
                .modules
                .iter()
                .zip(found.pairs().iter().zip(expected.pairs()))
            {
                let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
                for (found, expected) in [(&found.a, &expected.a), (&found.b, &expected.b)] {
                    let distance = distance(found, expected);
                    assert!(distance <= 1e-5, "{}: {distance:e}", module.name);
                }
            }
        }
    }
}

#[test]
fn a_packed_run_has_the_losses_of_an_unpacked_one() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = config(&write(scratch.path(), &records()));
    config.train.epochs = 3;
    config.train.accumulate = 8;
    let unpacked = train(&config, &scratch.path().join("unpacked")).unwrap();
    assert_eq!(unpacked.steps.len(), 3);

    // Every step sees all eight records, whatever row they are in.
    config.data.packing = true;
    config.data.pack_tokens = Some(1 << 20);
    config.train.accumulate = 1;
    let packed = train(&config, &scratch.path().join("packed")).unwrap();
    assert!(
        packed
            .header
            .contains("8 samples in 1 packed row, 0 % full, 3 optimizer steps"),
        "{}",
        packed.header
    );
    let longest_row: u64 = packed.steps[0].tokens;
    for (packed, unpacked) in packed.steps.iter().zip(&unpacked.steps) {
        assert!((packed.loss - unpacked.loss).abs() < 1e-5);
        assert!((packed.grad_norm / unpacked.grad_norm - 1.0).abs() < 1e-4);
        assert_eq!(packed.tokens, unpacked.tokens);
        assert_eq!(packed.supervised_tokens, unpacked.supervised_tokens);
        assert_eq!(packed.padding_tokens, 0);
        let ids = |samples: &[String]| samples.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(packed.samples.len(), 8);
        assert_eq!(ids(&packed.samples), ids(&unpacked.samples));
    }

    // Rows of half of it: two of them or three, and the same sum over both.
    config.data.pack_tokens = Some(longest_row as usize * 6 / 10);
    config.train.micro_batch = 2;
    config.train.accumulate = 2;
    config.train.epochs = 1;
    let rows = train(&config, &scratch.path().join("rows")).unwrap();
    assert_eq!(rows.steps.len(), 1);
    assert!((rows.steps[0].loss - unpacked.steps[0].loss).abs() < 1e-5);
    assert!(
        rows.header.contains(" % full, 1 optimizer step ("),
        "{}",
        rows.header
    );
}

#[test]
fn a_packed_run_resumes_bit_for_bit() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = config(&write(scratch.path(), &records()));
    config.data.packing = true;
    config.data.pack_tokens = Some(400);
    config.train.epochs = 4;
    let whole = train(&config, &scratch.path().join("whole")).unwrap();
    assert!(whole.steps.len() > 8);
    let seen: usize = whole.steps.iter().map(|step| step.samples.len()).sum();
    assert_eq!(seen, 4 * 8);

    let run = scratch.path().join("stopped");
    let stop_after = |steps: u64| {
        let stop = AtomicBool::new(false);
        let mut observe = |event: Event| match event {
            Event::Progress(line) if line.step >= steps => stop.store(true, Ordering::SeqCst),
            _ => {}
        };
        recipe::train(
            &config,
            &run,
            recipe::Options::default(),
            &mut observe,
            &stop,
        )
        .unwrap_err();
    };
    stop_after(2);
    stop_after(5);
    let resumed = train(&config, &run).unwrap();
    assert!(resumed.adapter == whole.adapter);
    for (resumed, whole) in resumed.steps.iter().zip(&whole.steps) {
        assert_eq!(resumed.samples, whole.samples);
        assert_eq!(resumed.loss.to_bits(), whole.loss.to_bits());
    }
}

#[test]
fn a_record_longer_than_a_row_is_refused_or_left_out() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = config(&write(scratch.path(), &records()));
    config.data.packing = true;
    config.data.pack_tokens = Some(100);
    config.data.val = Some(config.data.train.clone());
    let run = scratch.path().join("run");
    let error = train(&config, &run).err().unwrap();
    assert_eq!(error.message(), "record is too long");
    assert!(error.hint_text().unwrap().contains("`data.pack_tokens`"));

    config.data.too_long = TooLong::Drop;
    let trained = train(&config, &run).unwrap();
    assert!(!trained.steps.is_empty());
    let dropped = fs::read_to_string(run.join("dropped.jsonl")).unwrap();
    let seen: usize = trained.steps.iter().map(|step| step.samples.len()).sum();
    assert_eq!(seen + dropped.lines().count(), 8);
}

#[test]
fn micro_batches_of_similar_lengths_pad_less_and_the_log_says_how_much() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = config(&write(scratch.path(), &records()));
    config.train.micro_batch = 2;
    config.train.epochs = 2;
    let run = |grouped: bool| {
        let mut config = config.clone();
        config.data.group_by_length = grouped;
        let trained = train(&config, &scratch.path().join(format!("run-{grouped}"))).unwrap();
        let padding: u64 = trained.steps.iter().map(|step| step.padding_tokens).sum();
        for epoch in trained.steps.chunks(4) {
            let ids: BTreeSet<&String> = epoch.iter().flat_map(|step| &step.samples).collect();
            assert_eq!(ids.len(), 8);
        }
        (padding, trained.header)
    };
    let (padding, header) = run(true);
    let (more, plain_header) = run(false);
    assert!(padding < more, "{padding} {more}");
    assert!(plain_header.contains(" % padding), "), "{plain_header}");
    assert_ne!(header, plain_header);
}

fn short_record(number: usize, dir: &Path) -> Value {
    let mut content = vec![json!({"type": "text", "text": format!("{number}?")})];
    // Every fourth shows a small picture.
    if number.is_multiple_of(4) {
        assert!(dir.join("images/000_000.png").exists());
        content.insert(0, json!({"type": "image", "image": "images/000_000.png"}));
    }
    json!({"id": format!("short-{number}"), "messages": [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": number.to_string()}]},
    ]})
}

/// `cargo test --workspace --test feeding -- --ignored --nocapture faster`
#[test]
#[ignore = "a measurement: it needs a machine with nothing else to do"]
fn sixty_four_short_samples_train_faster_packed() {
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path(), &records());
    for images in [false, true] {
        let all = (1..).map(|number| short_record(number, scratch.path()));
        let wanted = all.filter(|r| images || !r.to_string().contains("\"image\""));
        let records: Vec<Value> = wanted.take(64).collect();
        let mut config = config(&write(scratch.path(), &records));
        config.train.epochs = 12;
        config.train.accumulate = 64;
        let unpacked = train(&config, &scratch.path().join(format!("u{images}"))).unwrap();
        config.data.packing = true;
        config.data.pack_tokens = Some(65_536);
        config.train.accumulate = 1;
        let packed = train(&config, &scratch.path().join(format!("p{images}"))).unwrap();
        assert_eq!((unpacked.steps.len(), packed.steps.len()), (12, 12));
        for (packed, unpacked) in packed.steps.iter().zip(&unpacked.steps) {
            assert!((packed.loss - unpacked.loss).abs() < 1e-4);
            assert_eq!(packed.tokens, unpacked.tokens);
        }
        assert!((packed.steps[0].loss - unpacked.steps[0].loss).abs() < 1e-5);
        // The fastest step of each: the machine's other work is not ours.
        let fastest = |steps: &[vlft_train::log::StepLine]| {
            let seconds = steps.iter().map(|step| step.seconds);
            seconds.fold(f64::INFINITY, f64::min)
        };
        let (slow, fast) = (fastest(&unpacked.steps), fastest(&packed.steps));
        let tokens = packed.steps[0].tokens;
        println!(
            "64 samples, {tokens} tokens, images {images}: unpacked {slow:.3} s, packed {fast:.3} s, {:.1} times faster",
            slow / fast
        );
        // Measured on two idle cores, 2026-11-21: 3.2 (text), 4.5 (every fourth with an image).
        assert!(slow / fast >= 3.0);
    }
}
