//! The two backward passes, one tape over the model and block by block, on whatever an adapter may
//! cover: they must agree on every gradient, with dropout and noise, dense and in four bits.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use vlft_checkpoint::{Checkpoint, Config, Layout, LoraSpec, LoraTargets, Part, Storage};
use vlft_model::lora::Dropout;
use vlft_model::{
    AdapterGradients, Adapters, Checkpointing, Compute, Frozen, Inputs, Neftune, Quantization,
    Qwen3Vl, Targets,
};

fn model_dir(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// Two rows of seven tokens with an image each, one of 2 x 2 and one of 1 x 2 merged tokens.
fn inputs(config: &Config) -> Inputs {
    let (rows, tokens, image) = (2, 7, config.image_token_id as i32);
    let patches = 16 + 8;
    let wave = |i: usize| (i as f32 * 0.37).sin();
    Inputs {
        rows,
        tokens,
        input_ids: vec![
            5, image, image, image, image, 9, 11, //
            7, 8, image, image, 3, 12, 13,
        ],
        position_ids: (0..3 * rows * tokens)
            .map(|i| (i % tokens + i / (rows * tokens)) as i32)
            .collect(),
        pixel_values: (0..patches * config.vision.patch_dim()).map(wave).collect(),
        grid_thw: vec![[1, 4, 4], [1, 2, 4]],
        segments: Vec::new(),
        neftune: Some(Neftune {
            alpha: 5.0,
            seed: 3,
            pass: 8,
        }),
    }
}

fn targets() -> Targets {
    Targets {
        rows: vec![4, 5, 10, 11, 12],
        ids: vec![9, 11, 3, 12, 13],
        weights: vec![1.0, 0.5, 2.0, 1.0, 0.25],
    }
}

/// Adapters that do something: B is not zero.
fn adapters(layout: &Layout, device: &Device) -> Adapters {
    let mut adapters = Adapters::init(layout, 17, device);
    let mut pairs = adapters.pairs().to_vec();
    for (i, pair) in pairs.iter_mut().enumerate() {
        let [rows, columns] = pair.b.dims();
        let values: Vec<f32> = (0..rows * columns)
            .map(|j| ((i * 7 + j) as f32 * 0.61).cos() * 0.05)
            .collect();
        pair.b = Tensor::<1>::from_floats(&values[..], device).reshape([rows, columns]);
    }
    adapters.set_pairs(pairs);
    adapters.with_dropout(Dropout {
        probability: 0.3,
        seed: 3,
        pass: 8,
    })
}

fn gradients(
    model: &Qwen3Vl,
    adapters: &Adapters,
    checkpointing: Checkpointing,
) -> (Vec<f32>, AdapterGradients) {
    let mut gradients = AdapterGradients::new(adapters.pairs().len());
    let inputs = inputs(&model.config);
    let nll = model.nll_and_gradients(
        &inputs,
        &targets(),
        adapters,
        0.5,
        checkpointing,
        &mut gradients,
    );
    (nll.unwrap().values().unwrap(), gradients)
}

fn values(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.to_data().iter::<f32>().collect()
}

/// Norm of the difference over the norm.
fn distance(a: &Tensor<2>, b: &Tensor<2>) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let (a, b) = (values(a), values(b));
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = b.iter().map(|x| square(*x)).sum();
    (difference / norm.max(1e-30)).sqrt()
}

fn check(name: &str, spec: &LoraSpec, frozen: impl Into<Frozen>, compute: Compute, tolerance: f64) {
    let device = Device::flex();
    let dir = model_dir(name);
    let config = Config::from_dir(&dir).unwrap();
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let layout = Layout::new(&config, spec).unwrap();
    let model = Qwen3Vl::load(&config, &checkpoint, Some(&layout), frozen, &device)
        .unwrap()
        .computing_in(compute);
    let adapters = adapters(&layout, &device);
    let (nll, at_once) = gradients(&model, &adapters, Checkpointing::Off);
    let (nll_blocks, by_blocks) = gradients(&model, &adapters, Checkpointing::On);
    for (a, b) in nll.iter().zip(&nll_blocks) {
        assert!((a - b).abs() <= tolerance as f32 * a.abs(), "{a} {b}");
    }
    let both = at_once.pairs().iter().zip(by_blocks.pairs());
    for ((a, b), module) in both.zip(&layout.modules) {
        let a = a
            .as_ref()
            .unwrap_or_else(|| panic!("{}: at once", module.name));
        let b = b
            .as_ref()
            .unwrap_or_else(|| panic!("{}: by blocks", module.name));
        assert_eq!(a.a.dims(), [module.rank, module.in_features]);
        for (a, b) in [(&a.a, &b.a), (&a.b, &b.b)] {
            let distance = distance(b, a);
            assert!(
                distance <= tolerance,
                "{name}: {} {distance:e}",
                module.name
            );
        }
    }
}

fn pattern(text: &str) -> LoraSpec {
    LoraSpec {
        targets: LoraTargets::Pattern(text.into()),
        rank: 3,
        ..LoraSpec::default()
    }
}

fn everything() -> LoraSpec {
    LoraSpec {
        vision: true,
        merger: true,
        rank: 3,
        rank_pattern: vec![("q_proj".into(), 5), (r"blocks\.1\..*".into(), 1)],
        alpha_pattern: vec![("linear_fc1".into(), 7.5)],
        ..LoraSpec::default()
    }
}

#[test]
fn both_ways_agree_whatever_is_adapted() {
    let on = |name: &str, spec: &LoraSpec| {
        check(name, spec, Storage::AsStored, Compute::F32, 1e-4);
    };
    let f32 = |spec: &LoraSpec| {
        for name in ["tiny", "tiny_gqa", "odd"] {
            on(name, spec);
        }
    };
    f32(&everything());
    on("moe", &everything());
    on("moe", &pattern(r".*layers\.[12]\.self_attn\.q_proj"));
    on("moe", &pattern(r"model\.visual\.merger\.linear_fc2"));
    for one in [
        // Some layers, blocks or mergers only: what lies below the first one needs no backward.
        r".*layers\.[12]\.self_attn\.q_proj",
        r"model\.visual\.blocks\.[12]\..*",
        r"model\.visual\.merger\.linear_fc2",
        r"model\.visual\.deepstack_merger_list\.0\.linear_fc1",
        r".*(blocks\.1\.attn\.qkv|deepstack_merger_list\.1\.linear_fc2|layers\.2\.mlp\.up_proj)",
        r"^(?!.*visual).*(k_proj|down_proj)",
    ] {
        f32(&pattern(one));
    }
}

#[test]
fn both_ways_agree_in_four_bits() {
    for double_quant in [false, true] {
        let quantization = Quantization {
            double_quant,
            parts: Part::ALL.to_vec(),
            cache: None,
        };
        let frozen = Frozen::nf4(quantization);
        check("tiny", &everything(), frozen.clone(), Compute::F32, 1e-4);
        check("odd", &everything(), frozen.clone(), Compute::F32, 1e-4);
        check("moe", &everything(), frozen, Compute::F32, 1e-4);
    }
}

/// Sixteen bits round at every step, and the two ways round at different places.
#[test]
fn computing_in_bf16_follows_f32() {
    for name in ["tiny", "moe"] {
        check(name, &everything(), Storage::Bf16, Compute::Bf16, 0.1);
    }
    let device = Device::flex();
    let config = Config::from_dir(&model_dir("tiny")).unwrap();
    let checkpoint = Checkpoint::open(&model_dir("tiny")).unwrap();
    let layout = Layout::new(&config, &everything()).unwrap();
    let adapters = adapters(&layout, &device);
    let run = |compute| {
        let load = Qwen3Vl::load(&config, &checkpoint, Some(&layout), Storage::Bf16, &device);
        gradients(
            &load.unwrap().computing_in(compute),
            &adapters,
            Checkpointing::On,
        )
    };
    let ((nll, f32), (nll_bf16, bf16)) = (run(Compute::F32), run(Compute::Bf16));
    let mut rounded = false;
    for (a, b) in nll.iter().zip(&nll_bf16) {
        assert!((a - b).abs() < 0.05 * a, "{a} {b}");
        rounded |= a != b;
    }
    assert!(rounded, "nothing was computed in 16 bits");
    let both = f32.pairs().iter().zip(bf16.pairs()).zip(&layout.modules);
    for ((f32, bf16), module) in both {
        let (f32, bf16) = (f32.as_ref().unwrap(), bf16.as_ref().unwrap());
        let distance = distance(&bf16.b, &f32.b);
        assert!(distance < 0.15, "{}: {distance}", module.name);
    }
}

#[test]
fn dropout_changes_with_the_pass_and_only_with_it() {
    let device = Device::flex();
    let config = Config::from_dir(&model_dir("tiny")).unwrap();
    let checkpoint = Checkpoint::open(&model_dir("tiny")).unwrap();
    let layout = Layout::new(&config, &LoraSpec::default()).unwrap();
    let load = Qwen3Vl::load(&config, &checkpoint, Some(&layout), Storage::F32, &device);
    let (model, base) = (load.unwrap(), adapters(&layout, &device));
    let run = |probability, pass| {
        let adapters = base.with_dropout(Dropout {
            probability,
            seed: 1,
            pass,
        });
        model.nll(&inputs(&config), &targets(), &adapters)
    };
    assert_eq!(run(0.2, 4), run(0.2, 4));
    assert_ne!(run(0.2, 4), run(0.2, 5));
    assert_eq!(run(0.0, 4), run(0.0, 5));
}
