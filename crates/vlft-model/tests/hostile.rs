//! Damaged checkpoints and models of another kind end in a message that names the file, never in a
//! panic and never in numbers.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};
use tempfile::TempDir;
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::{Checkpoint, Config};
use vlft_model::read_adapter;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn open(dir: &Path) -> Result<()> {
    let config = Config::from_dir(dir)?;
    Checkpoint::open(dir)?.check(&config.tensors())
}

fn shard(dir: &Path) -> PathBuf {
    let mut shards: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    shards.sort();
    shards.remove(1)
}

fn names(error: &Diagnostic, path: &Path) -> bool {
    error.places().iter().any(|place| place.file == path)
}

#[test]
fn a_missing_shard_is_named() {
    let dir = copy("tiny_bf16_sharded");
    let gone = shard(dir.path());
    fs::remove_file(&gone).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(error.message().contains("missing"), "{error}");
    assert!(names(&error, &gone), "{error}");
}

#[test]
fn a_shard_cut_short_at_any_length_is_named() {
    let dir = copy("tiny_bf16_sharded");
    let cut = shard(dir.path());
    let bytes = fs::read(&cut).unwrap();
    for length in [0, 1, 7, 8, 9, 100, 1000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&cut, &bytes[..length]).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(names(&error, &cut), "{length} bytes: {error}");
    }
}

#[test]
fn weights_of_another_size_are_listed_before_any_is_read() {
    let dir = copy("tiny");
    edit_config(dir.path(), |config| {
        config["text_config"]["intermediate_size"] = json!(96)
    });
    let error = open(dir.path()).unwrap_err();
    assert!(
        error.message().contains("do not fit config.json"),
        "{error}"
    );
    assert!(error.causes()[0].contains("has shape"), "{error}");
}

#[test]
fn another_architecture_is_refused_by_name() {
    for (model_type, architecture, said) in [
        (
            "qwen2_5_vl",
            "Qwen2_5_VLForConditionalGeneration",
            "Qwen2.5-VL",
        ),
        ("qwen3_5", "Qwen3_5ForConditionalGeneration", "Qwen3.5"),
        ("qwen3_vl", "Qwen3VLForSomethingElse", "another model"),
        ("llava", "LlavaForConditionalGeneration", "llava"),
    ] {
        let dir = copy("tiny");
        edit_config(dir.path(), |config| {
            config["model_type"] = json!(model_type);
            config["architectures"] = json!([architecture]);
        });
        let error = Config::from_dir(dir.path()).unwrap_err();
        assert!(error.message().contains(architecture), "{error}");
        assert!(error.message().contains(said), "{error}");
    }
}

#[test]
fn an_adapter_that_no_layer_would_take_is_refused() {
    let config = Config::from_dir(&fixture("odd")).unwrap();
    let error = read_adapter(&fixture("adapter_vision_rs"), &config, &Device::flex())
        .err()
        .unwrap();
    assert!(
        names(
            &error,
            &fixture("adapter_vision_rs").join("adapter_model.safetensors")
        ),
        "{error}"
    );
}

#[test]
fn an_adapter_option_that_would_be_ignored_is_refused() {
    let config = Config::from_dir(&fixture("tiny")).unwrap();
    for (key, value) in [
        ("use_dora", json!(true)),
        ("peft_type", json!("IA3")),
        ("rank_pattern", json!({"q_proj": 0})),
        ("alpha_pattern", json!(3)),
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("r", json!(0)),
    ] {
        let dir = copy("adapter_b");
        let path = dir.path().join("adapter_config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json[key] = value;
        fs::write(&path, json.to_string()).unwrap();
        let error = read_adapter(dir.path(), &config, &Device::flex())
            .err()
            .unwrap();
        assert!(error.message().contains(key), "{error}");
    }
}

fn edit_config(dir: &Path, edit: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}
