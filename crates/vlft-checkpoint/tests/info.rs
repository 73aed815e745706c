//! What a folder is said to hold.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use vlft_checkpoint::info::{Info, info};
use vlft_checkpoint::published::DENSE;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// The names of the published 8B, spelt out here and not by the code under test.
fn names_of_8b() -> Vec<(String, Vec<usize>)> {
    let (d, dv, ffn, vision_ffn) = (4096, 1152, 12288, 4304);
    let mut list: Vec<(String, Vec<usize>)> = vec![
        ("lm_head.weight".into(), vec![151_936, d]),
        (
            "model.language_model.embed_tokens.weight".into(),
            vec![151_936, d],
        ),
        ("model.language_model.norm.weight".into(), vec![d]),
    ];
    for i in 0..36 {
        for (name, shape) in [
            ("input_layernorm", vec![d]),
            ("post_attention_layernorm", vec![d]),
            ("self_attn.q_proj", vec![4096, d]),
            ("self_attn.k_proj", vec![1024, d]),
            ("self_attn.v_proj", vec![1024, d]),
            ("self_attn.o_proj", vec![d, 4096]),
            ("self_attn.q_norm", vec![128]),
            ("self_attn.k_norm", vec![128]),
            ("mlp.gate_proj", vec![ffn, d]),
            ("mlp.up_proj", vec![ffn, d]),
            ("mlp.down_proj", vec![d, ffn]),
        ] {
            list.push((
                format!("model.language_model.layers.{i}.{name}.weight"),
                shape,
            ));
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

fn write_index(dir: &Path, tensors: &[(String, Vec<usize>)], config: &Value) {
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
    let shapes: Map<String, Value> = tensors
        .iter()
        .map(|(name, shape)| (name.clone(), json!(shape)))
        .collect();
    let index = json!({"metadata": {}, "weight_map": map, "shapes": shapes});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn the_published_8b_is_known_by_its_index_and_a_wrong_shape_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = names_of_8b();
    assert_eq!(tensors.len(), 750);
    let config = DENSE[2].json();
    write_index(dir.path(), &tensors, &config);
    let Info::Model(model) = info(dir.path(), false).unwrap() else {
        panic!("it is a model")
    };
    assert_eq!(
        (model.name, model.tensors, model.has_weights),
        (Some("Qwen3-VL-8B"), 750, false)
    );
    assert_eq!(model.parameters, 8_767_123_696);
    let parts: u64 = model.parts.iter().map(|part| part.parameters).sum();
    assert_eq!(parts, model.parameters);

    let mut wrong = tensors.clone();
    let (name, shape) = wrong
        .iter_mut()
        .find(|(n, _)| n.ends_with("7.mlp.up_proj.weight"))
        .unwrap();
    shape[0] = 12287;
    let name = name.clone();
    write_index(dir.path(), &wrong, &config);
    let error = info(dir.path(), false).unwrap_err();
    assert!(
        error.causes()[0].contains(&name) && error.causes()[0].contains("[12287, 4096]"),
        "{error}"
    );
    assert_eq!(error.causes().len(), 1);

    let mut missing = tensors.clone();
    missing.retain(|(name, _)| !name.ends_with("blocks.26.attn.qkv.bias"));
    write_index(dir.path(), &missing, &config);
    assert!(info(dir.path(), false).unwrap_err().causes()[0].contains("is missing"));

    let mut stray = tensors;
    stray.push((
        "model.language_model.layers.36.mlp.up_proj.weight".into(),
        vec![1],
    ));
    write_index(dir.path(), &stray, &config);
    assert!(
        info(dir.path(), false)
            .unwrap_err()
            .message()
            .contains("does not have")
    );
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
