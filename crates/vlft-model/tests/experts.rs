//! Experts: grouped products against one expert after the other, both ways of lying in a file, packed
//! rows, and how much faster the groups are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use vlft_checkpoint::{
    Checkpoint, Config, Layout, LoraSpec, LoraTargets, Storage, write_random_weights,
};
use vlft_model::{AdapterGradients, Adapters, Checkpointing, Frozen, Inputs, Qwen3Vl, Targets};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

fn attention() -> LoraSpec {
    let names = ["q_proj", "k_proj", "v_proj", "o_proj"];
    LoraSpec {
        targets: LoraTargets::Names(names.map(String::from).to_vec()),
        rank: 3,
        ..LoraSpec::default()
    }
}

/// Text only, one row.
fn row(ids: &[i32]) -> Inputs {
    let tokens = ids.len();
    Inputs {
        rows: 1,
        tokens,
        input_ids: ids.to_vec(),
        position_ids: (0..3 * tokens).map(|i| (i % tokens) as i32).collect(),
        ..Inputs::default()
    }
}

fn ids(count: usize, seed: usize) -> Vec<i32> {
    (0..count)
        .map(|i| ((i * i * 7 + i * 13 + seed * 29) % 200) as i32)
        .collect()
}

/// Every token but the first is predicted.
fn targets(ids: &[i32]) -> Targets {
    Targets {
        rows: (0..ids.len() as i32 - 1).collect(),
        ids: ids[1..].to_vec(),
        weights: Vec::new(),
    }
}

fn adapters(layout: &Layout, device: &Device) -> Adapters {
    let mut adapters = Adapters::init(layout, 17, device);
    let mut pairs = adapters.pairs().to_vec();
    for (i, pair) in pairs.iter_mut().enumerate() {
        let [rows, columns] = pair.b.dims();
        let wave = |j: usize| ((i * 7 + j) as f32 * 0.61).cos() * 0.05;
        let values: Vec<f32> = (0..rows * columns).map(wave).collect();
        pair.b = Tensor::<1>::from_floats(&values[..], device).reshape([rows, columns]);
    }
    adapters.set_pairs(pairs);
    adapters
}

struct Loaded {
    model: Qwen3Vl,
    adapters: Adapters,
}

fn load(dir: &Path, frozen: Frozen) -> Loaded {
    let device = Device::flex();
    let config = Config::from_dir(dir).unwrap();
    let checkpoint = Checkpoint::open(dir).unwrap();
    let layout = Layout::new(&config, &attention()).unwrap();
    let model = Qwen3Vl::load(&config, &checkpoint, Some(&layout), frozen, &device).unwrap();
    let adapters = adapters(&layout, &device);
    Loaded { model, adapters }
}

impl Loaded {
    fn step(&self, ids: &[i32], checkpointing: Checkpointing) -> (Vec<f32>, AdapterGradients) {
        let mut gradients = AdapterGradients::new(self.adapters.pairs().len());
        let (inputs, targets) = (row(ids), targets(ids));
        let nll = self.model.nll_and_gradients(
            &inputs,
            &targets,
            &self.adapters,
            1.0,
            checkpointing,
            &mut gradients,
        );
        (nll.unwrap().values().unwrap(), gradients)
    }

    fn one_by_one(self) -> Self {
        Self {
            model: self.model.with_experts_one_by_one(),
            ..self
        }
    }
}

fn values(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.to_data().iter::<f32>().collect()
}

fn near(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let size = b.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance * size, "{what}: {a} {b}");
    }
}

#[test]
fn grouped_experts_agree_with_one_after_the_other() {
    for name in ["moe", "bnb_moe"] {
        let fast = load(&fixture(name), Frozen::as_stored());
        let slow = load(&fixture(name), Frozen::as_stored()).one_by_one();
        let ids = ids(37, 1);
        for checkpointing in [Checkpointing::Off, Checkpointing::On] {
            let (fast_nll, fast) = fast.step(&ids, checkpointing);
            let (slow_nll, slow) = slow.step(&ids, checkpointing);
            near(&fast_nll, &slow_nll, 1e-5, name);
            for (fast, slow) in fast.pairs().iter().zip(slow.pairs()) {
                let (fast, slow) = (fast.as_ref().unwrap(), slow.as_ref().unwrap());
                near(&values(&fast.a), &values(&slow.a), 1e-4, name);
                near(&values(&fast.b), &values(&slow.b), 1e-4, name);
            }
        }
    }
}

#[test]
fn a_step_has_the_same_bits_every_time() {
    let loaded = load(&fixture("moe"), Frozen::as_stored());
    let ids = ids(40, 2);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let (nll, gradients) = pool
            .unwrap()
            .install(|| loaded.step(&ids, Checkpointing::On));
        let pairs = gradients.pairs().iter().flatten();
        let bits = pairs.flat_map(|pair| [values(&pair.a), values(&pair.b)]);
        (nll, bits.collect::<Vec<_>>())
    };
    let one = run(1);
    assert!((1..4).all(|threads| run(threads) == one));
}

/// As transformers 5 saves experts, out before in.
fn turned(source: &Path, to: &Path) {
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(source.join(file), to.join(file)).unwrap();
    }
    let bytes = fs::read(source.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut out = Vec::new();
    for (name, view) in tensors.iter() {
        let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
        if name.contains(".experts.") {
            let [experts, rows, columns] = shape[..] else {
                panic!("{name} is no stack")
            };
            let width = data.len() / (experts * rows * columns);
            let old = data.clone();
            for e in 0..experts {
                for i in 0..rows {
                    for j in 0..columns {
                        let from = ((e * rows + i) * columns + j) * width;
                        let to = ((e * columns + j) * rows + i) * width;
                        data[to..to + width].copy_from_slice(&old[from..from + width]);
                    }
                }
            }
            shape = vec![experts, columns, rows];
        }
        out.push((name.to_string(), view.dtype(), shape, data));
    }
    let views = out.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &to.join("model.safetensors")).unwrap();
}

#[test]
fn experts_may_lie_as_published_or_as_transformers_saves_them() {
    let scratch = tempfile::tempdir().unwrap();
    turned(&fixture("moe"), scratch.path());
    let ids = ids(30, 3);
    for quantised in [false, true] {
        let frozen = || match quantised {
            false => Frozen::as_stored(),
            true => Frozen::nf4(vlft_model::Quantization {
                double_quant: true,
                parts: vec![vlft_checkpoint::Part::LanguageModel],
                cache: None,
            }),
        };
        let (published, _) = load(&fixture("moe"), frozen()).step(&ids, Checkpointing::On);
        let (saved, _) = load(scratch.path(), frozen()).step(&ids, Checkpointing::On);
        near(&published, &saved, 1e-6, "both ways");
    }
}

#[test]
fn a_stack_of_another_shape_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    turned(&fixture("moe"), scratch.path());
    let path = scratch.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["text_config"]["moe_intermediate_size"] = json!(14);
    fs::write(&path, config.to_string()).unwrap();
    let config = Config::from_dir(scratch.path()).unwrap();
    let checkpoint = Checkpoint::open(scratch.path()).unwrap();
    let error = checkpoint.check(&config.tensors()).unwrap_err();
    assert!(
        error.to_string().contains("experts.gate_up_proj"),
        "{error}"
    );
}

#[test]
fn samples_packed_into_one_row_go_their_own_ways() {
    let loaded = load(&fixture("moe"), Frozen::as_stored());
    let (first, second) = (ids(17, 4), ids(23, 5));
    let (alone_first, _) = loaded.step(&first, Checkpointing::On);
    let (alone_second, _) = loaded.step(&second, Checkpointing::On);

    let both = [first.clone(), second.clone()].concat();
    let mut inputs = row(&both);
    let axis: Vec<i32> = (0..17).chain(0..23).collect();
    inputs.position_ids = [axis.clone(), axis.clone(), axis].concat();
    inputs.segments = vec![17, 23];
    let mut wanted = targets(&both);
    // Nobody predicts the first token of the second.
    wanted.rows.remove(16);
    wanted.ids.remove(16);
    let packed = loaded.model.nll(&inputs, &wanted, &loaded.adapters);
    near(
        &packed,
        &[alone_first, alone_second].concat(),
        1e-5,
        "packed",
    );
}

/// A model of 128 experts, 8 to a token, as wide as a test can wait for; or the same without experts, with
/// next to nothing in their place.
fn many_experts(dir: &Path, with_experts: bool) {
    let source = fs::read(fixture("moe/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&source).unwrap();
    for (key, value) in [
        ("hidden_size", 64),
        ("intermediate_size", 2),
        ("num_hidden_layers", 4),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 2),
        ("head_dim", 16),
        ("num_experts", 128),
        ("num_experts_per_tok", 8),
        ("moe_intermediate_size", 32),
    ] {
        config["text_config"][key] = json!(value);
    }
    config["text_config"]["mlp_only_layers"] = match with_experts {
        true => json!([]),
        false => json!([0, 1, 2, 3]),
    };
    config["text_config"]["rope_scaling"]["mrope_section"] = json!([4, 2, 2]);
    config["vision_config"]["out_hidden_size"] = json!(64);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let config = Config::from_dir(dir).unwrap();
    write_random_weights(dir, &config, 5, Storage::F32, u64::MAX).unwrap();
}

/// How many tokens the goal is for: an expert gets two rows or so, and what a loop costs for each of them shows.
/// With more tokens products and memory weigh more, which both models share.
const TINY_STEP: usize = 32;

/// `cargo test --workspace --test experts -- --ignored --nocapture`
#[test]
#[ignore = "measures time"]
fn a_step_is_five_times_as_fast_as_with_a_loop_over_experts() {
    let (scratch, bare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    many_experts(scratch.path(), true);
    many_experts(bare.path(), false);
    let models = [
        load(scratch.path(), Frozen::as_stored()),
        load(scratch.path(), Frozen::as_stored()).one_by_one(),
        load(bare.path(), Frozen::as_stored()),
    ];
    println!("medians in ms; `alone`: without what a step of the same model without experts takes");
    let mut goal = 0.0;
    for tokens in [16, 32, 64, 128, 512, 1024] {
        let ids = ids(tokens, 6);
        // Wall time and the processor's: on a machine that does something else too, the second says more.
        let (mut wall, mut busy) = ([(); 3].map(|()| Vec::new()), [0.0; 3]);
        // In turn, so that what else the machine does hits all of them; the first round warms up.
        for round in 0..31 {
            for (i, model) in models.iter().enumerate() {
                let (start, before) = (Instant::now(), processor_time());
                model.step(&ids, Checkpointing::On);
                if round > 0 {
                    wall[i].push(start.elapsed().as_secs_f64() * 1e3);
                    busy[i] += processor_time() - before;
                }
            }
        }
        let ratios = wall[1]
            .iter()
            .zip(&wall[0])
            .map(|(looped, grouped)| looped / grouped);
        let ratio = median(ratios.collect());
        let [grouped, looped, rest] = wall.map(median);
        println!(
            "{tokens} tokens: grouped {grouped:.1}, one by one {looped:.1}, {ratio:.1} times \
             ({:.1} of processor time); no experts {rest:.1}, experts alone {:.1} times",
            busy[1] / busy[0].max(1.0),
            (looped - rest) / (grouped - rest)
        );
        if tokens == TINY_STEP {
            goal = ratio;
        }
    }
    assert!(
        goal >= 5.0,
        "{goal:.1} times at {TINY_STEP} tokens, not five"
    );
}

/// Of this process, all its threads, in ms.
fn processor_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name in brackets, user and system time are the 12th and the 13th field, in 10 ms.
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() * 10.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
