//! The model against dumps of transformers, stage by stage: patch embedding, positions, every vision
//! block, mergers, every language layer, logits, loss.
//!
//! `tests/fixtures` at the top level holds the committed dumps and their generator. Another folder
//! of the same layout is checked with `VLFT_FIXTURES=DIR cargo test -p vlft-model --test parity`.

#![expect(
    clippy::print_stdout,
    reason = "measured distances are shown with --nocapture"
)]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;
use vlft_checkpoint::{Checkpoint, Config};
use vlft_model::{Adapters, Frozen, Inputs, Qwen3Vl, Stage, Targets, read_adapter};

const STAGE_TOLERANCE: f32 = 1e-4;
const LOSS_TOLERANCE: f64 = 1e-5;

fn fixtures() -> PathBuf {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    std::env::var_os("VLFT_FIXTURES").map_or(committed, PathBuf::from)
}

/// One dump: named tensors.
struct Golden(Vec<u8>);

impl Golden {
    fn f32(&self, name: &str) -> Option<Vec<f32>> {
        let view = SafeTensors::deserialize(&self.0)
            .unwrap()
            .tensor(name)
            .ok()?
            .data()
            .to_vec();
        Some(
            view.as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        )
    }

    fn i64(&self, name: &str) -> Option<Vec<i64>> {
        let view = SafeTensors::deserialize(&self.0)
            .unwrap()
            .tensor(name)
            .ok()?
            .data()
            .to_vec();
        Some(
            view.as_chunks()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b))
                .collect(),
        )
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.0)
            .unwrap()
            .tensor(name)
            .unwrap()
            .shape()
            .to_vec()
    }

    fn inputs(&self) -> Inputs {
        let [rows, tokens] = self.shape("input_ids")[..] else {
            panic!("ids are [B, T]")
        };
        let ids = |name: &str| -> Vec<i32> {
            self.i64(name)
                .unwrap()
                .into_iter()
                .map(|id| id as i32)
                .collect()
        };
        let grid = self.i64("image_grid_thw").unwrap_or_default();
        Inputs {
            rows,
            tokens,
            input_ids: ids("input_ids"),
            position_ids: ids("position_ids"),
            pixel_values: self.f32("pixel_values").unwrap_or_default(),
            grid_thw: grid
                .as_chunks()
                .0
                .iter()
                .map(|g: &[i64; 3]| g.map(|n| n as usize))
                .collect(),
            segments: Vec::new(),
            neftune: None,
        }
    }

    /// Shift by one, as the loss does: the hidden state at t - 1 predicts the label at t.
    fn targets(&self) -> Targets {
        let tokens = self.shape("labels")[1];
        let labels = self.i64("labels").unwrap();
        let supervised = labels
            .iter()
            .enumerate()
            .filter(|(i, label)| i % tokens > 0 && **label != -100);
        let (rows, ids) = supervised
            .map(|(i, label)| (i as i32 - 1, *label as i32))
            .unzip();
        Targets {
            rows,
            ids,
            weights: Vec::new(),
        }
    }
}

#[test]
fn every_stage_agrees_with_transformers() {
    all_stages(&Device::flex());
}

/// Through the GPU code, on a software device.
#[test]
#[cfg(feature = "wgpu")]
fn gpu_stages_agree_with_transformers() {
    all_stages(&Device::wgpu(burn::tensor::DeviceKind::Cpu));
}

fn all_stages(device: &Device) {
    let root = fixtures();
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let goldens = manifest["goldens"].as_array().unwrap();
    assert!(!goldens.is_empty());
    for golden in goldens {
        check(&root, golden, device);
    }
}

fn check(root: &Path, case: &Value, device: &Device) {
    let name = case["name"].as_str().unwrap();
    let golden = Golden(std::fs::read(root.join(format!("{name}.safetensors"))).unwrap());
    let model_dir = root.join(case["model"].as_str().unwrap());
    let config = Config::from_dir(&model_dir).unwrap();
    let checkpoint = Checkpoint::open(&model_dir).unwrap();
    let (layout, adapters) = match case["adapter"].as_str() {
        None => (None, Adapters::none()),
        Some(adapter) => {
            let (layout, adapters) = read_adapter(&root.join(adapter), &config, device).unwrap();
            (Some(layout), adapters)
        }
    };
    let model = Qwen3Vl::load(
        &config,
        &checkpoint,
        layout.as_ref(),
        Frozen::as_stored(),
        device,
    )
    .unwrap();

    let inputs = match golden.f32("pixel_values") {
        Some(_) => golden.inputs(),
        // Dumps without stages leave the pixels to the processor's test.
        None if golden.i64("image_grid_thw").is_some_and(|g| !g.is_empty()) => return,
        None => golden.inputs(),
    };
    let mut worst = ("nothing".to_string(), 0f32);
    let mut compared = 0;
    let real = real_positions(&golden);
    let mut compare = |stage: String, got: &Tensor<2>, real: Option<&[bool]>| {
        let Some(expected) = golden.f32(&stage) else {
            return;
        };
        let width = got.dims()[1];
        let got: Vec<f32> = got.to_data().iter::<f32>().collect();
        assert_eq!(got.len(), expected.len(), "{name}: {stage}");
        let difference = got.iter().zip(&expected).enumerate();
        let difference = difference
            .filter(|(i, _)| real.is_none_or(|real| real[i / width]))
            .map(|(_, (a, b))| (a - b).abs())
            .fold(0f32, f32::max);
        compared += 1;
        assert!(
            difference <= STAGE_TOLERANCE,
            "{name}: {stage} differs by {difference:e}"
        );
        if difference > worst.1 {
            worst = (stage, difference);
        }
    };
    let logits = model.logits(&inputs, &adapters, &mut |stage, x| match stage {
        Stage::PatchEmbed => compare("vision.patch_embed".into(), x, None),
        Stage::PosEmbed => compare("vision.pos_embed".into(), x, None),
        Stage::VisionBlockInput(_) => {}
        Stage::VisionBlock(i) => compare(format!("vision.block.{i}"), x, None),
        Stage::Merged => compare("vision.merged".into(), x, None),
        Stage::Deepstack(k) => compare(format!("vision.deepstack.{k}"), x, None),
        Stage::LayerInput(i) => compare(format!("lm.layer.{i}.input"), x, Some(&real)),
        Stage::LayerOutput(i) => compare(format!("lm.layer.{i}.output"), x, Some(&real)),
        Stage::FinalNorm => compare("lm.final_norm".into(), x, Some(&real)),
    });
    compare("logits".into(), &logits, Some(&real));
    if case["stages"] == "all" {
        let layers = config.text.num_hidden_layers;
        let images = !inputs.grid_thw.is_empty();
        let vision = 3 + config.vision.depth + config.vision.deepstack_visual_indexes.len();
        assert_eq!(
            compared,
            2 + 2 * layers + if images { vision } else { 0 },
            "{name}"
        );
    }

    let nll = model.nll(&inputs, &golden.targets(), &adapters);
    let loss = nll.iter().map(|x| f64::from(*x)).sum::<f64>() / nll.len() as f64;
    let expected = f64::from(golden.f32("loss").unwrap()[0]);
    assert!(
        (loss - expected).abs() <= LOSS_TOLERANCE,
        "{name}: loss {loss}, expected {expected}"
    );
    check_position_taps(name, &model, &golden, &inputs);
    check_last_token(name, &model, &golden, &inputs, &adapters);
    println!(
        "{name}: {compared} stages, worst {} {:e}, loss off by {:e}",
        worst.0,
        worst.1,
        (loss - expected).abs()
    );
}

/// Hidden states at padding are compared by nobody.
fn real_positions(golden: &Golden) -> Vec<bool> {
    golden
        .i64("attention_mask")
        .unwrap()
        .into_iter()
        .map(|m| m == 1)
        .collect()
}

/// What Embedding and Reranker checkpoints are asked for.
fn check_last_token(
    name: &str,
    model: &Qwen3Vl,
    golden: &Golden,
    inputs: &Inputs,
    adapters: &Adapters,
) {
    let (Some(states), Some(logits)) = (golden.f32("lm.final_norm"), golden.f32("logits")) else {
        return;
    };
    if inputs.rows != 1 {
        return;
    }
    let width = model.config.text.hidden_size;
    let last = &states[states.len() - width..];
    let length = last.iter().map(|x| x * x).sum::<f32>().sqrt();
    let found = model.embedding(inputs, adapters);
    assert_eq!(found.len(), width, "{name}");
    for (found, expected) in found.iter().zip(last) {
        assert!(
            (found - expected / length).abs() <= STAGE_TOLERANCE / length,
            "{name}: embedding"
        );
    }
    let vocabulary = model.config.text.vocab_size;
    let last = &logits[logits.len() - vocabulary..];
    let found = model.preference(inputs, 201, 77, adapters);
    let expected = last[201] - last[77];
    assert!(
        (found - expected).abs() <= 2.0 * STAGE_TOLERANCE,
        "{name}: preference {found}, expected {expected}"
    );
}

fn check_position_taps(name: &str, model: &Qwen3Vl, golden: &Golden, inputs: &Inputs) {
    let (Some(indices), Some(weights)) = (
        golden.i64("vision.pos_indices"),
        golden.f32("vision.pos_weights"),
    ) else {
        return;
    };
    // A tap of weight zero may name any row.
    for (i, tap) in model.position_taps(&inputs.grid_thw).iter().enumerate() {
        for k in 0..4 {
            let expected = weights[4 * i + k];
            assert!(
                (tap.weights[k] - expected).abs() < 1e-6,
                "{name}: patch {i} tap {k}"
            );
            let same = i64::from(tap.indices[k]) == indices[4 * i + k];
            assert!(same || expected == 0.0, "{name}: patch {i} tap {k}");
        }
    }
}
