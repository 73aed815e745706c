//! Ids, labels, positions, grids and pixels against what transformers computed: every golden of
//! `tests/fixtures/manifest.json`, or of the folder that `VLFT_FIXTURES` names.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use vlft_dataset::record::Record;
use vlft_dataset::token_counter::TokenCounter;
use vlft_processor::collate::{Batch, collate};
use vlft_processor::processor::{Options, Processor};
use vlft_processor::sample::Sample;

#[derive(Deserialize)]
struct Manifest {
    goldens: Vec<Golden>,
    evaluations: Vec<Evaluation>,
}

#[derive(Deserialize)]
struct Golden {
    name: String,
    model: String,
    data: String,
    indices: Vec<usize>,
    backend: String,
    lossy_images: bool,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
}

#[derive(Deserialize)]
struct Evaluation {
    name: String,
    model: String,
    data: String,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
    per_record: Vec<RecordCounts>,
}

#[derive(Deserialize)]
struct RecordCounts {
    id: String,
    tokens: usize,
    length: usize,
}

fn fixtures() -> PathBuf {
    match std::env::var_os("VLFT_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures"),
    }
}

fn manifest() -> Manifest {
    let path = fixtures().join("manifest.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn records(data: &Path) -> Vec<Record> {
    let text = fs::read_to_string(data).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn processor(model: &str, min_pixels: Option<u64>, max_pixels: Option<u64>) -> Processor {
    Processor::from_dir(
        &fixtures().join(model),
        &Options {
            min_pixels,
            max_pixels,
        },
    )
    .unwrap()
}

#[test]
fn every_golden_is_reproduced() {
    let goldens = manifest().goldens;
    assert!(!goldens.is_empty());
    for golden in &goldens {
        let data = fixtures().join(&golden.data);
        let processor = processor(&golden.model, golden.min_pixels, golden.max_pixels);
        let all = records(&data);
        let samples: Vec<Sample> = (golden.indices.iter())
            .map(|&i| {
                let base = data.parent().unwrap();
                let sample = processor
                    .sample(&all[i], base)
                    .unwrap_or_else(|e| panic!("{}: {e}", golden.name));
                let count = processor.count(&all[i], base).unwrap();
                assert_eq!(count.total, sample.len(), "{}: counted total", golden.name);
                assert_eq!(
                    count.supervised,
                    sample.supervised(),
                    "{}: counted supervised",
                    golden.name
                );
                let image_tokens = sample
                    .mm_token_type_ids
                    .iter()
                    .filter(|kind| **kind == 1)
                    .count();
                assert_eq!(
                    count.image, image_tokens,
                    "{}: counted image tokens",
                    golden.name
                );
                sample
            })
            .collect();
        let batch = collate(&samples, processor.pad_token_id(), 1);
        let bytes = fs::read(fixtures().join(format!("{}.safetensors", golden.name))).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        compare(golden, &batch, &samples, &tensors);
    }
}

fn compare(golden: &Golden, batch: &Batch, samples: &[Sample], tensors: &SafeTensors) {
    let name = &golden.name;
    let ints = |key: &str| integers(tensors, key).unwrap_or_else(|| panic!("{name} lacks {key}"));
    let own = |values: &[i32]| values.iter().map(|v| i64::from(*v)).collect::<Vec<_>>();
    let ids: Vec<i64> = batch.input_ids.iter().map(|id| i64::from(*id)).collect();
    assert_eq!(ids, ints("input_ids"), "{name}: input_ids");
    assert_eq!(own(&batch.labels), ints("labels"), "{name}: labels");
    let mask: Vec<i64> = batch.attention_mask.iter().map(|m| i64::from(*m)).collect();
    assert_eq!(mask, ints("attention_mask"), "{name}: attention_mask");
    assert_eq!(
        own(&batch.position_ids),
        ints("position_ids"),
        "{name}: position_ids"
    );
    if let (Some(kinds), [sample]) = (integers(tensors, "mm_token_type_ids"), samples) {
        let own: Vec<i64> = sample
            .mm_token_type_ids
            .iter()
            .map(|kind| i64::from(*kind))
            .collect();
        assert_eq!(own, kinds, "{name}: mm_token_type_ids");
    }
    let grids: Vec<i64> = batch.grid_thw.iter().flatten().map(|n| *n as i64).collect();
    assert_eq!(
        grids,
        integers(tensors, "image_grid_thw").unwrap_or_default(),
        "{name}: grids"
    );
    let expected = pixel_values(tensors);
    assert_eq!(
        batch.pixel_values.len(),
        expected.len(),
        "{name}: pixel_values"
    );
    let differences = batch
        .pixel_values
        .iter()
        .zip(&expected)
        .map(|(own, theirs)| (own - theirs).abs());
    // Two decoders of one JPEG differ by a level or two, and the pil back end is another algorithm.
    let exact = golden.backend == "torchvision" && !golden.lossy_images;
    if exact {
        let largest = differences.fold(0.0, f32::max);
        assert!(largest <= 6e-8, "{name}: pixel_values differ by {largest}");
    } else {
        let n = expected.len().max(1) as f32;
        let mean = differences.sum::<f32>() / n;
        assert!(
            mean <= 0.01,
            "{name}: pixel_values differ by {mean} on average"
        );
    }
}

/// As stored, or from the resized picture: see the README of the fixtures.
fn pixel_values(tensors: &SafeTensors) -> Vec<f32> {
    if let Ok(tensor) = tensors.tensor("pixel_values") {
        assert_eq!(tensor.dtype(), Dtype::F32);
        let words = tensor.data().chunks_exact(4);
        return words
            .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
            .collect();
    }
    let Ok(tensor) = tensors.tensor("pixel_u8") else {
        return Vec::new();
    };
    tensor
        .data()
        .chunks_exact(256)
        .flat_map(|channel| [channel, channel])
        .flatten()
        .map(|byte| (f32::from(*byte) - 127.5) / 127.5)
        .collect()
}

fn integers(tensors: &SafeTensors, key: &str) -> Option<Vec<i64>> {
    let tensor = tensors.tensor(key).ok()?;
    assert_eq!(tensor.dtype(), Dtype::I64, "{key}");
    let words = tensor.data().chunks_exact(8);
    Some(
        words
            .map(|word| i64::from_le_bytes(word.try_into().unwrap()))
            .collect(),
    )
}

#[test]
fn counting_without_decoding_gives_the_evaluations_numbers() {
    let evaluations = manifest().evaluations;
    assert!(!evaluations.is_empty());
    for evaluation in evaluations {
        let data = fixtures().join(&evaluation.data);
        let processor = processor(
            &evaluation.model,
            evaluation.min_pixels,
            evaluation.max_pixels,
        );
        let all = records(&data);
        assert_eq!(
            all.len(),
            evaluation.per_record.len(),
            "{}",
            evaluation.name
        );
        for (record, expected) in all.iter().zip(&evaluation.per_record) {
            let count = processor.count(record, data.parent().unwrap()).unwrap();
            let name = format!("{}, {}", evaluation.name, record.id);
            assert_eq!(record.id, expected.id, "{name}");
            assert_eq!(
                (count.total, count.supervised),
                (expected.length, expected.tokens),
                "{name}"
            );
        }
    }
}
