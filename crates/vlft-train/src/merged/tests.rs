use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use vlft_base::output::Existing;
use vlft_checkpoint::merge;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// Against whole logits of both models, in the plainest way.
#[test]
fn the_difference_is_that_of_all_logits() {
    let (quantized, dense) = (fixture("bnb_double"), fixture("tiny"));
    let adapter = fixture("adapter_b");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged");
    let options = merge::Options {
        model: quantized.clone(),
        into: Some(dense),
        adapter: adapter.clone(),
        adapter_name: "an adapter".into(),
        out: out.clone(),
        existing: Existing::Refuse,
    };
    assert!(merge::merge(&options, &|_, _| {}).unwrap().quantized_base);
    let options = Options {
        model: quantized.clone(),
        adapter: adapter.clone(),
        data: fixture("data7/train.jsonl"),
        records: 3,
        device: Device::default(),
    };
    let mut warnings = Vec::new();
    let mut observe = |event: Event| {
        if let Event::Warning(warning) = event {
            warnings.push(warning.message().to_string());
        }
    };
    let trained = Trained::run(&options, &mut observe).unwrap();
    let found = trained.compare(&out, &mut observe).unwrap();
    assert_eq!(warnings.len(), 1, "PEFT writes no lock: {warnings:?}");
    assert_eq!((found.records, found.double_quant), (3, Some(true)));

    let device = Device::default().open().unwrap();
    let load = |dir: &Path, adapter: Option<&Path>| {
        let config = ModelConfig::from_dir(dir).unwrap();
        let checkpoint = Checkpoint::open(dir).unwrap();
        let (layout, adapters) = match adapter {
            Some(adapter) => {
                let (layout, adapters) = read_adapter(adapter, &config, &device).unwrap();
                (Some(layout), adapters)
            }
            None => (None, Adapters::none()),
        };
        let frozen = Frozen::as_stored();
        let model = Qwen3Vl::load(&config, &checkpoint, layout.as_ref(), frozen, &device);
        (model.unwrap(), adapters, config)
    };
    let (before, adapters, config) = load(&quantized, Some(&adapter));
    let (after, none, _) = load(&out, None);
    let processor = Arc::new(Processor::from_dir(&quantized, &Default::default()).unwrap());
    let (samples, _) = Samples::open(&options.data, &processor, &config, Limit::NONE).unwrap();
    let (mut max, mut sum, mut count, mut tokens, mut others) = (0f32, 0f64, 0u64, 0u64, 0u64);
    let (mut loss_before, mut loss_after) = (0f64, 0f64);
    for index in 0..3 {
        let batch = samples.batch(&[index]).unwrap();
        let rows = |model: &Qwen3Vl, adapters: &Adapters| {
            let logits = model.logits(&batch.inputs, adapters, &mut |_, _| {});
            let width = logits.dims()[1];
            let all: Vec<f32> = logits.to_data().iter::<f32>().collect();
            let rows = batch.targets.rows.iter();
            rows.map(|row| all[*row as usize * width..][..width].to_vec())
                .collect::<Vec<_>>()
        };
        let (a, b) = (rows(&before, &adapters), rows(&after, &none));
        for ((a, b), id) in a.iter().zip(&b).zip(&batch.targets.ids) {
            for (a, b) in a.iter().zip(b) {
                max = max.max((a - b).abs());
                sum += f64::from((a - b).abs());
                count += 1;
            }
            let nll = |logits: &[f32]| {
                let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
                sum.ln() - f64::from(logits[*id as usize])
            };
            loss_before += nll(a);
            loss_after += nll(b);
            let best = |row: &[f32]| {
                let largest = row.iter().copied().fold(f32::MIN, f32::max);
                row.iter().position(|x| *x == largest)
            };
            others += u64::from(best(a) != best(b));
            tokens += 1;
        }
    }
    assert_eq!((found.tokens, found.other_predictions), (tokens, others));
    let near = |found: f64, expected: f64| {
        assert!(
            (found - expected).abs() <= 1e-5 * expected.abs(),
            "{found} {expected}"
        );
    };
    near(f64::from(found.max_logit_difference), f64::from(max));
    near(found.mean_logit_difference, sum / count as f64);
    near(found.loss_before, loss_before / tokens as f64);
    near(found.loss_after, loss_after / tokens as f64);
    // Four bits are seen, and are no other model.
    assert!(max > 1e-3 && found.loss_before != found.loss_after);

    // An adapter of a 16-bit base has nothing to be compared with.
    let dense = Options {
        model: fixture("tiny"),
        ..options
    };
    let error = Trained::run(&dense, &mut |_| {}).err().unwrap();
    assert!(error.message().contains("no 4-bit base"), "{error}");
}

/// A copy of a model in one file with its weights in f32, which changes no value.
fn widened(model: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let weights = Checkpoint::open(model).unwrap();
    let bytes: BTreeMap<&str, Vec<u8>> = weights
        .names()
        .map(|name| {
            let values = weights.values(name).unwrap();
            (
                name,
                values.into_iter().flat_map(f32::to_le_bytes).collect(),
            )
        })
        .collect();
    let views = bytes.iter().map(|(name, bytes)| {
        let shape = weights.stored_shape(name).unwrap().to_vec();
        (*name, TensorView::new(Dtype::F32, shape, bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &to.join("model.safetensors")).unwrap();
}

/// Logits of base + adapter in transformers and PEFT, against ours of our merge; where they come from
/// says `tests/fixtures/generate/merge_cases.py`.
#[test]
fn merged_models_have_the_logits_of_base_and_adapter() {
    /// Of logits up to 14; PEFT's own merges in f32 differ by up to 2.5e-5 (`merge_cases.json`).
    const TOLERANCE: f64 = 2e-4;
    let text = fs::read(fixture("merge_cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&text).unwrap();
    let mut compared = Vec::new();
    for case in cases["cases"].as_array().unwrap() {
        let Some(golden) = case["base_and_adapter"].as_array() else {
            continue;
        };
        let text = |key: &str| case[key].as_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (wide, out) = (dir.path().join("wide"), dir.path().join("merged"));
        let model = match text("name").ends_with("_f32") {
            true => {
                widened(&fixture(text("model")), &wide);
                wide
            }
            false => fixture(text("model")),
        };
        let options = merge::Options {
            model,
            into: None,
            adapter: fixture(text("adapter")),
            adapter_name: "an adapter".into(),
            out: out.clone(),
            existing: Existing::Refuse,
        };
        merge::merge(&options, &|_, _| {}).unwrap();

        let device = Device::default().open().unwrap();
        let config = ModelConfig::from_dir(&out).unwrap();
        let weights = Checkpoint::open(&out).unwrap();
        let model = Qwen3Vl::load(&config, &weights, None, Frozen::as_stored(), &device).unwrap();
        let processor = Arc::new(Processor::from_dir(&out, &Default::default()).unwrap());
        let data = fixture(text("data"));
        let (samples, _) = Samples::open(&data, &processor, &config, Limit::NONE).unwrap();
        let mut worst = 0f64;
        for (index, golden) in golden.iter().enumerate() {
            let batch = samples.batch(&[index]).unwrap();
            let logits = model.logits(&batch.inputs, &Adapters::none(), &mut |_, _| {});
            assert_eq!(serde_json::json!(logits.dims()), golden["shape"]);
            let logits: Vec<f32> = logits.to_data().iter::<f32>().collect();
            let at = golden["at"].as_array().unwrap();
            for (at, value) in at.iter().zip(golden["values"].as_array().unwrap()) {
                let found = f64::from(logits[at.as_u64().unwrap() as usize]);
                worst = worst.max((found - value.as_f64().unwrap()).abs());
            }
        }
        assert!(worst <= TOLERANCE, "{}: {worst:e}", text("name"));
        compared.push(format!("{} {worst:.1e}", text("name")));
    }
    let all = compared.join(", ");
    assert!(
        all.contains("moe_everything_f32") && compared.len() >= 7,
        "{all}"
    );
}
