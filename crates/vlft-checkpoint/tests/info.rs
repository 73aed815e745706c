//! What a folder is said to hold.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use vlft_checkpoint::info::{Info, ModelInfo, info};
use vlft_checkpoint::published::Published;
use vlft_checkpoint::shape_text;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// A published model as SPEC lists it, spelt out here and not by the code under test.
struct Listed {
    d: usize,
    layers: usize,
    keys: usize,
    /// Names below `layers.N.` that hold the MLP, with their shapes.
    mlp: Vec<(&'static str, Vec<usize>)>,
}

fn listed_8b() -> Listed {
    let (d, ffn) = (4096, 12288);
    Listed {
        d,
        layers: 36,
        keys: 1024,
        mlp: vec![
            ("mlp.gate_proj.weight", vec![ffn, d]),
            ("mlp.up_proj.weight", vec![ffn, d]),
            ("mlp.down_proj.weight", vec![d, ffn]),
        ],
    }
}

fn listed_30b_a3b() -> Listed {
    let (d, width) = (2048, 768);
    Listed {
        d,
        layers: 48,
        keys: 512,
        mlp: vec![
            ("mlp.gate.weight", vec![128, d]),
            ("mlp.experts.gate_up_proj", vec![128, d, 2 * width]),
            ("mlp.experts.down_proj", vec![128, width, d]),
        ],
    }
}

impl Listed {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, dv, vision_ffn) = (self.d, 1152, 4304);
        let mut list: Vec<(String, Vec<usize>)> = vec![
            ("lm_head.weight".into(), vec![151_936, d]),
            (
                "model.language_model.embed_tokens.weight".into(),
                vec![151_936, d],
            ),
            ("model.language_model.norm.weight".into(), vec![d]),
        ];
        for i in 0..self.layers {
            let attention = [
                ("input_layernorm.weight", vec![d]),
                ("post_attention_layernorm.weight", vec![d]),
                ("self_attn.q_proj.weight", vec![4096, d]),
                ("self_attn.k_proj.weight", vec![self.keys, d]),
                ("self_attn.v_proj.weight", vec![self.keys, d]),
                ("self_attn.o_proj.weight", vec![d, 4096]),
                ("self_attn.q_norm.weight", vec![128]),
                ("self_attn.k_norm.weight", vec![128]),
            ];
            for (name, shape) in attention.iter().chain(&self.mlp) {
                let name = format!("model.language_model.layers.{i}.{name}");
                list.push((name, shape.clone()));
            }
        }
        let mut biased = |name: String, weight: Vec<usize>| {
            let bias = vec![weight[0]];
            list.push((format!("model.visual.{name}.weight"), weight));
            list.push((format!("model.visual.{name}.bias"), bias));
        };
        biased("patch_embed.proj".into(), vec![dv, 3, 2, 16, 16]);
        for i in 0..27 {
            biased(format!("blocks.{i}.norm1"), vec![dv]);
            biased(format!("blocks.{i}.norm2"), vec![dv]);
            biased(format!("blocks.{i}.attn.qkv"), vec![3 * dv, dv]);
            biased(format!("blocks.{i}.attn.proj"), vec![dv, dv]);
            biased(format!("blocks.{i}.mlp.linear_fc1"), vec![vision_ffn, dv]);
            biased(format!("blocks.{i}.mlp.linear_fc2"), vec![dv, vision_ffn]);
        }
        for (merger, norm) in [
            ("merger", dv),
            ("deepstack_merger_list.0", 4 * dv),
            ("deepstack_merger_list.1", 4 * dv),
            ("deepstack_merger_list.2", 4 * dv),
        ] {
            biased(format!("{merger}.norm"), vec![norm]);
            biased(format!("{merger}.linear_fc1"), vec![4 * dv, 4 * dv]);
            biased(format!("{merger}.linear_fc2"), vec![d, 4 * dv]);
        }
        list.push(("model.visual.pos_embed.weight".into(), vec![2304, dv]));
        list
    }
}

/// With the shapes beside the map, as some tools write them, or names alone as it is published.
fn write_index(dir: &Path, tensors: &[(String, Vec<usize>)], config: &Value, shapes: bool) {
    let shard = |i: usize| {
        format!(
            "model-{:05}-of-00004.safetensors",
            1 + i * 4 / tensors.len()
        )
    };
    let map: Map<String, Value> = tensors
        .iter()
        .enumerate()
        .map(|(i, (name, _))| (name.clone(), json!(shard(i))))
        .collect();
    let mut index = json!({"metadata": {"total_size": 2}, "weight_map": map});
    if shapes {
        index["shapes"] = tensors
            .iter()
            .map(|(name, shape)| (name.clone(), json!(shape)))
            .collect::<Map<String, Value>>()
            .into();
    }
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// A safetensors file of these tensors in bf16 without their values: a header and a hole.
fn write_hollow(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let (mut header, mut end) = (Map::new(), 0u64);
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().map(|side| *side as u64).product::<u64>();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

fn model_info(dir: &Path) -> ModelInfo {
    match info(dir, false).unwrap() {
        Info::Model(model) => model,
        other => panic!("it is a model: {other}"),
    }
}

#[test]
fn published_models_are_known_by_their_index_alone_and_a_wrong_shape_is_named() {
    for (name, listed, count, parameters, experts) in [
        ("Qwen3-VL-8B", listed_8b(), 750, 8_767_123_696, 0),
        (
            "Qwen3-VL-30B-A3B",
            listed_30b_a3b(),
            882,
            31_070_754_032,
            // 48 layers of 128 experts of three matrices, 2048 by 768.
            48 * 128 * 3 * 2048 * 768,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let tensors = listed.tensors();
        assert_eq!(tensors.len(), count);
        let config = Published::named(name).unwrap().json();
        for shapes in [false, true] {
            write_index(dir.path(), &tensors, &config, shapes);
            let model = model_info(dir.path());
            assert_eq!(
                (model.name, model.tensors, model.has_weights),
                (Some(name), count, false)
            );
            assert_eq!(model.parameters, parameters);
            let of = |part: &str| {
                let found = model.parts.iter().find(|p| p.part == part);
                found.map_or(0, |p| p.parameters)
            };
            assert_eq!(of("experts"), experts);
            let whole: u64 = model.parts.iter().map(|part| part.parameters).sum();
            assert_eq!(whole, parameters);
        }

        // One side of one tensor: by the shapes of the listing, and by the headers of the files.
        let mut wrong = tensors.clone();
        let (wrong_name, shape) = wrong
            .iter_mut()
            .find(|(n, _)| n.contains(".layers.7.mlp.") && n.contains("up_proj"))
            .unwrap();
        let last = shape.len() - 1;
        shape[last] -= 1;
        let said = format!("`{wrong_name}` has shape {}", shape_text(shape));
        write_index(dir.path(), &wrong, &config, true);
        let by_listing = info(dir.path(), false).unwrap_err();
        fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
        write_hollow(&dir.path().join("model.safetensors"), &wrong);
        let by_header = info(dir.path(), false).unwrap_err();
        for error in [by_listing, by_header] {
            assert_eq!(error.causes().len(), 1, "{error}");
            assert!(error.causes()[0].starts_with(&said), "{error}");
        }
        // All right: sizes, and nothing of the values, which are not there.
        write_hollow(&dir.path().join("model.safetensors"), &tensors);
        let model = model_info(dir.path());
        assert_eq!((model.name, model.has_weights), (Some(name), true));
        assert_eq!(model.dtypes["BF16"], count);
        fs::remove_file(dir.path().join("model.safetensors")).unwrap();

        let mut missing = tensors.clone();
        missing.retain(|(name, _)| !name.ends_with("blocks.26.attn.qkv.bias"));
        write_index(dir.path(), &missing, &config, false);
        assert!(info(dir.path(), false).unwrap_err().causes()[0].contains("is missing"));

        let mut stray = tensors;
        stray.push((
            "model.language_model.layers.48.self_attn.q_proj.weight".into(),
            vec![1],
        ));
        write_index(dir.path(), &stray, &config, false);
        assert!(
            info(dir.path(), false)
                .unwrap_err()
                .message()
                .contains("does not have")
        );
    }
}

#[test]
fn models_adapters_and_strangers() {
    let Info::Model(tiny) = info(&fixture("tiny_bf16_sharded"), true).unwrap() else {
        panic!()
    };
    assert_eq!(
        (tiny.name, tiny.shards, tiny.dtypes["BF16"]),
        (None, 3, tiny.tensors)
    );
    assert!(tiny.missing_files.is_empty() && tiny.quantization.is_none());
    assert!(tiny.sha256.unwrap().len() > 5);
    let Info::Model(bnb) = info(&fixture("bnb_double"), false).unwrap() else {
        panic!()
    };
    assert!(bnb.quantization.is_some());
    let Info::Adapter(adapter) = info(&fixture("adapter_vision_rs"), false).unwrap() else {
        panic!()
    };
    assert!(adapter.rslora && adapter.vision_modules > 0 && adapter.served_by_vllm);
    let other = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture("adapter_b").join(name), other.path().join(name)).unwrap();
    }
    let path = other.path().join("adapter_config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("\"use_dora\": false", "\"use_dora\": true"),
    )
    .unwrap();
    let Info::Adapter(dora) = info(other.path(), false).unwrap() else {
        panic!()
    };
    assert!(!dora.served_by_vllm);
    assert!(
        info(&fixture("pdf"), false)
            .unwrap_err()
            .message()
            .contains("neither")
    );

    for (model_type, architecture, said) in [
        (
            "qwen2_5_vl",
            "Qwen2_5_VLForConditionalGeneration",
            "Qwen2.5-VL",
        ),
        ("qwen3_5", "Qwen3_5ForConditionalGeneration", "Qwen3.5"),
        ("qwen3", "Qwen3ForCausalLM", "Qwen3ForCausalLM"),
        ("llava", "LlavaForConditionalGeneration", "llava"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"model_type": model_type, "architectures": [architecture]});
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let error = info(dir.path(), false).unwrap_err();
        assert!(error.message().contains(said), "{error}");
        assert!(error.hint_text().unwrap().contains("Qwen3-VL"), "{error}");
    }
}

#[test]
fn a_run_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"type\":\"step\",\"step\":1,\"loss\":2.5}\n{\"type\":\"step\",\"step\":2,\"loss\":1.5}\n";
    fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
    let Info::Run(run) = info(dir.path(), false).unwrap() else {
        panic!()
    };
    assert_eq!(
        (run.steps, run.last_loss, run.finished),
        (2, Some(1.5), false)
    );
    let adapter = dir.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture("adapter_b").join(name), adapter.join(name)).unwrap();
    }
    fs::write(
        dir.path().join("metrics.jsonl"),
        format!("{lines}{{\"type\":\"summary\"}}\n"),
    )
    .unwrap();
    let Info::Run(run) = info(dir.path(), false).unwrap() else {
        panic!()
    };
    assert!(run.finished && run.adapter.unwrap().served_by_vllm);
}

/// Qwen3-VL-Embedding-8B is published without the head that its config asks for.
#[test]
fn a_checkpoint_without_its_head_is_told_as_one() {
    let scratch = tempfile::tempdir().unwrap();
    let tiny = fixture("tiny");
    for entry in fs::read_dir(&tiny).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            fs::copy(&path, scratch.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let bytes = fs::read(tiny.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let body = tensors.iter().filter(|(name, _)| *name != "lm_head.weight");
    let file = scratch.path().join("model.safetensors");
    safetensors::serialize_to_file(body, None, &file).unwrap();

    let (whole, headless) = (model_info(&tiny), model_info(scratch.path()));
    assert!(headless.headless && !whole.headless);
    assert!(headless.parameters < whole.parameters);
    assert!(headless.to_string().contains("no head"), "{headless}");
}
