//! Merging and proving it, on the committed models: values against a sum written out here, files
//! against the base's, and what must be refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::archive::unpacked;
use vlft_checkpoint::info::info_of;
use vlft_checkpoint::merge::{MergeReport, Options, merge, verify};
use vlft_checkpoint::serving;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

fn copy(from: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

fn options(model: &Path, adapter: &Path, out: &Path) -> Options {
    Options {
        model: model.to_path_buf(),
        into: None,
        adapter: adapter.to_path_buf(),
        adapter_name: "an adapter".into(),
        out: out.to_path_buf(),
        existing: Existing::Refuse,
    }
}

fn merged(model: &Path, adapter: &Path, out: &Path) -> Result<MergeReport> {
    merge(&options(model, adapter, out), &|_, _| {})
}

/// Every tensor of a model, as f32.
fn values(dir: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let values = match view.dtype() {
                Dtype::F32 => view
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
                Dtype::BF16 => {
                    let two = view.data().as_chunks().0.iter();
                    two.map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
                }
                other => panic!("{other}"),
            };
            all.insert(name.to_string(), (view.shape().to_vec(), values));
        }
    }
    all
}

/// LoRA, rsLoRA with vision, tied heads, mergers, patterns, shards in bf16: `W + s B A` in f64.
#[test]
fn every_weight_is_base_plus_adapter_and_every_other_byte_is_the_base() {
    for (model, adapter, scale) in [
        ("tiny", "adapter_b", Some(2.0)),
        ("tiny", "adapter_vision_rs", None),
        ("tiny_gqa", "adapter_gqa", None),
        ("tiny_gqa", "adapter_mergers", None),
        ("odd", "adapter_odd", None),
        ("odd", "adapter_patterns", None),
        ("tiny_bf16_sharded", "adapter_bf16", None),
        ("moe", "adapter_moe", None),
        ("moe", "adapter_moe_all", None),
    ] {
        let (model, adapter) = (fixture(model), fixture(adapter));
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("merged");
        let report = merged(&model, &adapter, &out).unwrap();
        let (base, own, lora) = (values(&model), values(&out), values(&adapter));
        let config: Value =
            serde_json::from_slice(&fs::read(adapter.join("adapter_config.json")).unwrap())
                .unwrap();
        let mut changed = 0;
        for (name, (shape, base_values)) in &base {
            let (own_shape, own_values) = &own[name];
            assert_eq!(shape, own_shape);
            let module = name.trim_end_matches(".weight");
            let Some((_, a)) = lora.get(&format!("base_model.model.{module}.lora_A.weight")) else {
                assert!(
                    base_values
                        .iter()
                        .zip(own_values)
                        .all(|(x, y)| x.to_bits() == y.to_bits()),
                    "{name}"
                );
                continue;
            };
            changed += 1;
            let (b_shape, b) = &lora[&format!("base_model.model.{module}.lora_B.weight")];
            let (rank, columns) = (b_shape[1], shape[1]);
            let pattern = |key: &str, whole: f64| {
                let table = config[key].as_object().cloned().unwrap_or_default();
                let regex = |p: &str| fancy_regex::Regex::new(&format!(r"^(.*\.)?({p})$")).unwrap();
                let hit = table
                    .iter()
                    .find(|(p, _)| regex(p).is_match(module).unwrap());
                hit.map_or(whole, |(_, v)| v.as_f64().unwrap())
            };
            let alpha = pattern("alpha_pattern", config["lora_alpha"].as_f64().unwrap());
            let divisor = match config["use_rslora"] == json!(true) {
                true => (rank as f64).sqrt(),
                false => rank as f64,
            };
            let s = alpha / divisor;
            assert!(scale.is_none_or(|scale| scale == s));
            let is_bf16 = report.tensors[0].dtype == "BF16";
            for (i, (w, merged)) in base_values.iter().zip(own_values).enumerate() {
                let (row, column) = (i / columns, i % columns);
                let sum: f64 = (0..rank)
                    .map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * columns + column]))
                    .sum();
                let exact = f64::from(*w) + s * sum;
                let step = if is_bf16 {
                    exact.abs() / 256.0
                } else {
                    2e-7 * (1.0 + exact.abs())
                };
                assert!(
                    (exact - f64::from(*merged)).abs() <= step + 1e-7,
                    "{name}[{i}]"
                );
            }
        }
        assert_eq!(changed, report.tensors.len());
        assert!(changed > 0);
        // Names, order, metadata: the header's bytes; every other file: all of its bytes.
        for entry in fs::read_dir(&model).unwrap() {
            let path = entry.unwrap().path();
            let (theirs, ours) = (
                fs::read(&path).unwrap(),
                fs::read(out.join(path.file_name().unwrap())).unwrap(),
            );
            if path.extension().is_some_and(|e| e == "safetensors") {
                let header = 8 + u64::from_le_bytes(theirs[..8].try_into().unwrap()) as usize;
                assert_eq!(theirs[..header], ours[..header]);
            } else {
                assert_eq!(theirs, ours, "{}", path.display());
            }
        }
        let proof = verify(&out, &model, &adapter, &|_, _| {}).unwrap();
        assert!(proof.equal, "{proof}");
        assert_eq!(proof.tensors_changed, changed);
        assert_eq!(proof.further_files, [""; 0]);
        // The same merge is the same bytes, also of the report.
        let again = dir.path().join("again");
        merged(&model, &adapter, &again).unwrap();
        for entry in fs::read_dir(&out).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(
                fs::read(&path).unwrap(),
                fs::read(again.join(path.file_name().unwrap())).unwrap()
            );
        }
    }
}

/// A copy with its weights in f32, which changes no value.
fn widened(model: &Path) -> TempDir {
    let dir = copy(model);
    let tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = values(model)
        .into_iter()
        .map(|(name, (shape, values))| {
            let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
            (name, (shape, bytes))
        })
        .collect();
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name, view)
    });
    let path = dir.path().join("model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    dir
}

/// What PEFT's `merge_and_unload` makes of the same pairs; its generator is
/// `tests/fixtures/generate/merge_cases.py`.
#[test]
fn peft_merges_the_same() {
    let cases: Value =
        serde_json::from_slice(&fs::read(fixture("merge_cases.json")).unwrap()).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("merged");
        let model = match text("name").ends_with("_f32") {
            true => widened(&fixture(text("model"))),
            false => copy(&fixture(text("model"))),
        };
        merged(model.path(), &fixture(text("adapter")), &out).unwrap();
        let own = values(&out);
        // PEFT rounds the change to bf16 before it adds it, and then the sum: two half steps.
        let step = if text("dtype") == "bfloat16" {
            1.0 / 100.0
        } else {
            1e-6
        };
        for (name, golden) in case["tensors"].as_object().unwrap() {
            let at = golden["at"].as_array().unwrap();
            for (at, value) in at.iter().zip(golden["values"].as_array().unwrap()) {
                let (at, value) = (at.as_u64().unwrap() as usize, value.as_f64().unwrap());
                let found = f64::from(own[name].1[at]);
                assert!(
                    (found - value).abs() <= step * (0.1 + value.abs()),
                    "{} {name}[{at}]: {found}, {value}",
                    text("name")
                );
            }
        }
    }
}

#[test]
fn one_flipped_bit_is_found_and_named() {
    let (model, adapter) = (fixture("tiny_bf16_sharded"), fixture("adapter_bf16"));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged");
    merged(&model, &adapter, &out).unwrap();
    for entry in fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "merge-report.json" || name.ends_with("index.json") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&path, &flipped).unwrap();
        let report = verify(&out, &model, &adapter, &|_, _| {}).unwrap();
        assert!(!report.equal, "{name}");
        assert_eq!(report.differences.len(), 1, "{name}: {report}");
        assert_eq!(report.differences[0].file, name);
        assert_eq!(
            report.differences[0].tensor.is_some(),
            name.ends_with("safetensors")
        );
        fs::write(&path, &bytes).unwrap();
    }
    fs::write(out.join("notes.txt"), "x").unwrap();
    fs::remove_file(out.join("tokenizer.json")).unwrap();
    let report = verify(&out, &model, &adapter, &|_, _| {}).unwrap();
    assert_eq!(report.further_files, ["notes.txt"]);
    assert_eq!(report.differences[0].what, "is missing");
    // The base itself is not base + adapter.
    let report = verify(&model, &model, &adapter, &|_, _| {}).unwrap();
    assert!(!report.equal);
    assert!(report.differences.iter().all(|d| d.tensor.is_some()));
}

fn refused(result: Result<MergeReport>, out: &Path) -> Diagnostic {
    let error = result.expect_err("it must be refused");
    assert!(!out.exists(), "something is left: {error}");
    let partial = PathBuf::from(format!("{}.partial", out.display()));
    assert!(!partial.exists(), "something half-written is left: {error}");
    error
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged");
    let tiny = fixture("tiny");

    let untrained = copy(&fixture("adapter_b"));
    let path = untrained.path().join("adapter_model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].fill(0);
    fs::write(&path, &bytes).unwrap();
    let zero = refused(merged(&tiny, untrained.path(), &out), &out);
    assert!(zero.message().contains("would change nothing"), "{zero}");
    let other = refused(
        merged(&fixture("tiny_gqa"), &fixture("adapter_odd"), &out),
        &out,
    );
    assert!(
        other
            .places()
            .iter()
            .any(|p| p.file.ends_with("adapter_model.safetensors")),
        "{other}"
    );

    // A change that rounding to bf16 takes away whole.
    let faint = copy(&fixture("adapter_bf16"));
    edit_config(faint.path(), "adapter_config.json", |config| {
        config["lora_alpha"] = json!(1e-9)
    });
    let lost = refused(
        merged(&fixture("tiny_bf16_sharded"), faint.path(), &out),
        &out,
    );
    assert!(lost.message().contains("lost in rounding"), "{lost}");

    // Quantised models, by their tensors and by their config.
    let quantized = refused(
        merged(&fixture("bnb_single"), &fixture("adapter_single"), &out),
        &out,
    );
    assert!(
        quantized.hint_text().unwrap().contains("--into"),
        "{quantized}"
    );
    let fp8 = copy(&tiny);
    edit_config(fp8.path(), "config.json", |c| {
        c["quantization_config"] = json!({"quant_method": "fp8"})
    });
    let fp8 = refused(merged(fp8.path(), &fixture("adapter_b"), &out), &out);
    assert!(fp8.causes()[0].contains("fp8"), "{fp8}");

    // Names of another style: not guessed, but said how to mend.
    let renamed = copy(&fixture("adapter_b"));
    rename_tensors(renamed.path(), "model.language_model.", "model.");
    let error = refused(merged(&tiny, renamed.path(), &out), &out);
    assert!(error.hint_text().unwrap().contains("--rewrite"), "{error}");

    // Damaged inputs.
    let torn = copy(&tiny);
    let path = torn.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    refused(merged(torn.path(), &fixture("adapter_b"), &out), &out);
    let broken = copy(&tiny);
    let path = broken.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file
            .tensor("model.language_model.layers.0.mlp.up_proj.weight")
            .unwrap();
        view.data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let nan = refused(merged(broken.path(), &fixture("adapter_b"), &out), &out);
    assert!(nan.message().contains("no finite number"), "{nan}");

    // Into itself, and over something.
    let base = copy(&tiny);
    let mut into_itself = options(base.path(), &fixture("adapter_b"), base.path());
    into_itself.existing = Existing::Replace;
    let error = merge(&into_itself, &|_, _| {}).err().unwrap();
    assert!(
        error.message().contains("would replace an input"),
        "{error}"
    );
    fs::create_dir(&out).unwrap();
    let error = merged(&tiny, &fixture("adapter_b"), &out).err().unwrap();
    assert!(error.message().contains("exists already"), "{error}");
    let mut forced = options(&tiny, &fixture("adapter_b"), &out);
    forced.existing = Existing::Replace;
    merge(&forced, &|_, _| {}).unwrap();
    assert!(out.join("model.safetensors").exists());
}

#[test]
fn a_quantised_base_is_merged_into_its_16_bit_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged");
    let mut quantized = options(&fixture("bnb_double"), &fixture("adapter_b"), &out);
    quantized.into = Some(fixture("tiny"));
    let report = merge(&quantized, &|_, _| {}).unwrap();
    assert!(report.trained_on.as_ref().unwrap().ends_with("bnb_double"));
    assert!(report.quantized_base, "{report}");
    assert!(report.to_string().contains("a 4-bit base"), "{report}");
    assert!(
        verify(&out, &fixture("tiny"), &fixture("adapter_b"), &|_, _| {})
            .unwrap()
            .equal
    );
    // `--into` alone says nothing: this one was trained in 16 bits, that one in eight.
    for (edit, said) in [
        (Value::Null, None),
        (json!({"quant_method": "fp8"}), Some("quantised by fp8")),
    ] {
        let model = copy(&fixture("tiny"));
        edit_config(model.path(), "config.json", |config| {
            config["quantization_config"] = edit
        });
        let out = dir.path().join(said.map_or("plain", |_| "fp8"));
        let mut into = options(model.path(), &fixture("adapter_b"), &out);
        into.into = Some(fixture("tiny"));
        let report = merge(&into, &|_, _| {}).unwrap();
        assert!(!report.quantized_base, "{report}");
        let text = report.to_string();
        assert!(
            !text.contains("4-bit") && !text.contains("4 bits"),
            "{text}"
        );
        assert_eq!(
            text.contains("trained   on a base"),
            said.is_some(),
            "{text}"
        );
        assert!(text.contains(said.unwrap_or("")), "{text}");
    }
    let other = dir.path().join("other");
    let mut wrong = options(&fixture("bnb_double"), &fixture("adapter_b"), &other);
    wrong.into = Some(fixture("odd"));
    let error = refused(merge(&wrong, &|_, _| {}), &other);
    assert!(error.message().contains("`--into`"), "{error}");
}

#[test]
fn old_weights_are_left_out_aloud_and_the_contract_comes_along() {
    let base = copy(&fixture("tiny"));
    fs::write(base.path().join("pytorch_model.bin"), b"old").unwrap();
    fs::write(base.path().join("README.md"), b"about").unwrap();
    fs::create_dir(base.path().join("original")).unwrap();
    let adapter = copy(&fixture("adapter_b"));
    fs::write(adapter.path().join("preprocess.lock.json"), b"{}").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged");
    let report = merged(base.path(), adapter.path(), &out).unwrap();
    assert_eq!(report.left_out, ["original", "pytorch_model.bin"]);
    assert_eq!(report.left_out_why["original"], "no file in it");
    assert!(out.join("README.md").exists() && out.join("preprocess.lock.json").exists());
    assert!(!out.join("pytorch_model.bin").exists());
    assert!(
        verify(&out, base.path(), adapter.path(), &|_, _| {})
            .unwrap()
            .equal
    );
}

/// Those of sentence-transformers, more templates: part of the model. Other models and huge trees: not.
#[test]
fn folders_of_the_model_come_along_and_others_are_named() {
    let base = copy(&fixture("tiny"));
    let write = |name: &str, text: &str| {
        let path = base.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let modules = json!([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]);
    write("modules.json", &modules.to_string());
    let kept = [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "additional_chat_templates/tools.jinja",
        "additional_chat_templates/old/tools.jinja",
    ];
    for name in kept {
        write(name, name);
    }
    write("1_Pooling/.DS_Store", "x");
    write("other/config.json", "{}");
    write("other/deep/model.safetensors", "x");
    write(".git/HEAD", "x");
    write("adapter_config.json", "{}");
    for i in 0..1001 {
        write(&format!("many/{i}"), "");
    }
    let huge = File::create(base.path().join("huge.txt")).unwrap();
    huge.set_len(1 << 20).unwrap();
    let vast = File::create(base.path().join("vast.tar")).unwrap();
    vast.set_len((256 << 20) + 1).unwrap();
    write("large/a", "");
    let large = File::create(base.path().join("large/b")).unwrap();
    large.set_len((256 << 20) + 1).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        // The cache of Hugging Face: files are links.
        let blob = base.path().join(".git/HEAD");
        symlink(&blob, base.path().join("README.md")).unwrap();
        symlink(&blob, base.path().join("1_Pooling/README.md")).unwrap();
        symlink("/", base.path().join("1_Pooling/root")).unwrap();
        symlink("..", base.path().join("up")).unwrap();
        symlink("nowhere", base.path().join("gone.json")).unwrap();
    }

    let dir = tempfile::tempdir().unwrap();
    let (out, adapter) = (dir.path().join("merged"), fixture("adapter_b"));
    let report = merged(base.path(), &adapter, &out).unwrap();
    for name in kept {
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), name);
    }
    assert_eq!(fs::metadata(out.join("huge.txt")).unwrap().len(), 1 << 20);
    let why = |name: &str| report.left_out_why[name].as_str();
    assert_eq!(why("1_Pooling/.DS_Store"), "hidden");
    assert_eq!(why(".git"), "hidden");
    assert!(why("other").contains("`other/deep/model.safetensors`"));
    assert!(why("adapter_config.json").contains("of an adapter"));
    assert!(
        why("many").contains("more than 1 000 files"),
        "{}",
        why("many")
    );
    assert!(why("large").contains("more than 256"), "{}", why("large"));
    let mut left_out = vec![
        ".git",
        "1_Pooling/.DS_Store",
        "adapter_config.json",
        "large",
        "many",
        "other",
        "vast.tar",
    ];
    if cfg!(unix) {
        for name in ["README.md", "1_Pooling/README.md"] {
            assert!(!out.join(name).is_symlink());
            assert_eq!(fs::read_to_string(out.join(name)).unwrap(), "x");
        }
        left_out.extend(["1_Pooling/root", "gone.json", "up"]);
        assert!(why("up").contains("link to a folder"));
        assert!(why("gone.json").contains("leads nowhere"));
    }
    left_out.sort_unstable();
    assert_eq!(report.left_out, left_out);
    for name in &left_out {
        assert!(!out.join(name).exists(), "{name}");
        assert!(
            report.to_string().contains(&format!("left out  {name}: ")),
            "{report}"
        );
    }

    let proof = || verify(&out, base.path(), &adapter, &|_, _| {}).unwrap();
    assert!(proof().equal, "{}", proof());
    assert_eq!(proof().further_files, [""; 0]);
    assert_eq!(proof().not_compared, report.left_out_why);
    assert!(
        proof()
            .to_string()
            .contains("not compared: many of the base: more than")
    );
    fs::write(out.join("1_Pooling/more.json"), "x").unwrap();
    assert_eq!(proof().further_files, ["1_Pooling/more.json"]);
    fs::write(out.join("1_Pooling/config.json"), "x").unwrap();
    fs::remove_file(out.join("additional_chat_templates/old/tools.jinja")).unwrap();
    let found: Vec<String> = proof().differences.into_iter().map(|d| d.file).collect();
    assert_eq!(
        found,
        [
            "1_Pooling/config.json",
            "additional_chat_templates/old/tools.jinja"
        ]
    );
}

/// A server that loads every safetensors file of a folder would load these over what was proved.
#[test]
fn weights_that_no_index_names_are_a_finding() {
    for (model, adapter) in [("tiny", "adapter_b"), ("tiny_bf16_sharded", "adapter_bf16")] {
        let (model, adapter) = (fixture(model), fixture(adapter));
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("merged");
        merged(&model, &adapter, &out).unwrap();
        let names = [
            "adapter_model.safetensors",
            "model-00009.safetensors",
            "adapter_config.json",
        ];
        for name in names {
            let path = out.join(name);
            fs::copy(adapter.join("adapter_model.safetensors"), &path).unwrap();
            let report = verify(&out, &model, &adapter, &|_, _| {}).unwrap();
            assert!(!report.equal, "{name}");
            assert_eq!(report.differences.len(), 1, "{report}");
            assert_eq!(report.differences[0].file, name);
            assert_eq!(report.further_files, [""; 0]);
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn an_adapter_on_the_head_is_told_for_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged");
    let q = "model.language_model.layers.0.self_attn.q_proj";
    for (module, said) in [
        ("lm_head", "the head"),
        ("model.language_model.layers.0.mlp.gate", "the router"),
    ] {
        let adapter = copy(&fixture("adapter_b"));
        rename_tensors(adapter.path(), q, module);
        let error = refused(merged(&fixture("tiny"), adapter.path(), &out), &out);
        let message = error.message();
        assert!(
            message.contains(&format!("`{module}`")) && message.contains(said),
            "{error}"
        );
        assert!(
            error.hint_text().unwrap().contains("check-adapter"),
            "{error}"
        );
    }
}

#[test]
#[cfg(unix)]
fn an_output_that_is_a_link_is_written_where_it_leads() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("current"));
    fs::create_dir(&real).unwrap();
    fs::write(real.join("old"), "x").unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    let mut forced = options(&fixture("tiny"), &fixture("adapter_b"), &link);
    forced.existing = Existing::Replace;
    merge(&forced, &|_, _| {}).unwrap();
    assert!(link.is_symlink());
    assert!(real.join("model.safetensors").exists() && !real.join("old").exists());
    fs::remove_dir_all(&real).unwrap();
    let error = merge(&forced, &|_, _| {}).err().unwrap();
    assert!(error.message().contains("leads nowhere"), "{error}");
}

#[test]
fn archives_hold_one_adapter_and_nothing_that_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, entries: &[(&str, &[u8])]| {
        let path = dir.path().join(name);
        let mut tar = tar::Builder::new(GzEncoder::new(
            File::create(&path).unwrap(),
            Compression::fast(),
        ));
        for (name, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            // As bytes: the library refuses to write names that are tricks.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap().flush().unwrap();
        path
    };
    let config = fs::read(fixture("adapter_b").join("adapter_config.json")).unwrap();
    let weights = fs::read(fixture("adapter_b").join("adapter_model.safetensors")).unwrap();
    let good = make(
        "good.tgz",
        &[
            ("run/adapter/adapter_config.json", &config),
            ("run/adapter/adapter_model.safetensors", &weights),
        ],
    );
    let adapter = unpacked(&good).unwrap();
    let out = dir.path().join("merged");
    merged(&fixture("tiny"), adapter.path(), &out).unwrap();
    // The temporary folder is gone when somebody reads this.
    let options = serving::Options {
        version: &serving::VERSIONS[0],
        model: None,
        served_with: None,
        archive: adapter.archive().cloned(),
    };
    let report = serving::check(adapter.path(), &options).unwrap();
    let info = info_of(adapter.path(), adapter.archive(), false).unwrap();
    let json = [
        serde_json::to_string(&report).unwrap(),
        serde_json::to_string(&info).unwrap(),
    ];
    let told = format!("{report}{info}{json:?}");
    assert!(!told.contains("vlft-adapter-"), "{told}");
    // What is printed can be pasted: unpack, then serve what lies there.
    let folder = dir.path().join("good");
    let (folder, archive) = (folder.display(), good.display());
    let unpack = format!("mkdir -p {folder} && tar -xzf {archive} -C {folder}");
    assert!(
        report
            .to_string()
            .contains(&format!("\n  {unpack}\n  vllm serve ")),
        "{told}"
    );
    assert!(
        info.to_string()
            .contains(&format!("unpack    {unpack}\nserve     vllm serve ")),
        "{told}"
    );
    let served = format!("run={folder}/run/adapter");
    assert!(report.serve.command.contains(&served), "{told}");
    assert!(info.to_string().contains(&served), "{told}");
    let temporary = adapter.path().to_path_buf();
    let error = adapter.told(Diagnostic::error("a bad file").at(&temporary));
    assert!(error.causes()[0].contains("good.tgz"), "{error}");
    drop(adapter);
    assert!(!temporary.exists());
    assert!(
        verify(&out, &fixture("tiny"), &fixture("adapter_b"), &|_, _| {})
            .unwrap()
            .equal
    );

    for (entries, said) in [
        (vec![("../evil", &b"x"[..])], "leaves"),
        (vec![("/etc/evil", &b"x"[..])], "leaves"),
        (vec![("a/../../evil", &b"x"[..])], "leaves"),
        (
            vec![
                ("a/adapter_config.json", &config[..]),
                ("b/adapter_config.json", &config),
            ],
            "one adapter",
        ),
        (vec![("a", &b"x"[..])], "one adapter"),
        (vec![("a", &b"x"[..]), ("a", b"y")], "twice"),
    ] {
        let path = make("bad.tgz", &entries);
        let error = unpacked(&path).err().unwrap();
        assert!(error.message().contains(said), "{entries:?}: {error}");
    }
    let bytes = fs::read(&good).unwrap();
    for length in [0, 1, 10, bytes.len() / 2, bytes.len() - 12] {
        let torn = dir.path().join("torn.tgz");
        fs::write(&torn, &bytes[..length]).unwrap();
        assert!(unpacked(&torn).is_err(), "{length} bytes");
    }
    assert!(unpacked(&fixture("tiny").join("config.json")).is_err());
}

fn edit_config(dir: &Path, name: &str, edit: impl FnOnce(&mut Value)) {
    let path = dir.join(name);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}

fn rename_tensors(dir: &Path, from: &str, to: &str) {
    let path = dir.join("adapter_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views: Vec<_> = file
        .iter()
        .map(|(name, view)| (name.replacen(from, to, 1), view))
        .collect();
    let renamed = safetensors::serialize(views, None).unwrap();
    fs::write(&path, renamed).unwrap();
}
