//! `check-adapter`, `merge`, `verify` and `info` as a person runs them, on the committed models.

use std::fs;

use serde_json::Value;

use crate::support::{fixtures, run_in};

#[test]
fn an_adapter_is_checked_merged_proved_and_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| run_in(dir.path(), arguments);
    let fixtures = fixtures();
    let (model, adapter) = (
        format!("{fixtures}/tiny"),
        format!("{fixtures}/adapter_vision_rs"),
    );

    let said = run(&["check-adapter", &adapter, "--model", &model]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("vLLM 0.33 applies all of"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("--enable-tower-connector-lora"),
        "{}",
        said.stdout
    );

    let said = run(&[
        "check-adapter",
        &adapter,
        "--model",
        &model,
        "--served-with",
        "--enable-lora",
    ]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout.contains("ignored   [tower-off]"),
        "{}",
        said.stdout
    );
    let said = run(&[
        "check-adapter",
        &adapter,
        "--vllm",
        "0.11",
        "--format",
        "json",
    ]);
    assert_eq!(said.code, Some(1));
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["problems"][0]["rule"], "tower-off");
    let said = run(&["check-adapter", &adapter, "--vllm", "0.9"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("one of `0.33`, `0.14`, `0.11`"),
        "{}",
        said.stderr
    );
    let said = run(&["check-adapter", &adapter, "--rewrite", "renamed"]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("nothing to rename"), "{}", said.stderr);

    let said = run(&[
        "merge",
        "--model",
        &model,
        "--adapter",
        &adapter,
        "--out",
        "merged",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("changed "), "{}", said.stdout);
    assert!(said.stderr.contains("Wrote `merged`"), "{}", said.stderr);
    let said = run(&[
        "merge",
        "--model",
        &model,
        "--adapter",
        &adapter,
        "--out",
        "merged",
    ]);
    assert_eq!(said.code, Some(2));
    let said = run(&[
        "merge",
        "--model",
        &model,
        "--adapter",
        &adapter,
        "--out",
        "merged",
        "--force",
        "-q",
        "--format",
        "json",
    ]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let file: Value =
        serde_json::from_slice(&fs::read(dir.path().join("merged/merge-report.json")).unwrap())
            .unwrap();
    assert_eq!(report, file);

    let said = run(&["verify", "merged", "--model", &model, "--adapter", &adapter]);
    assert_eq!(said.code, Some(0), "{}", said.stdout);
    assert!(said.stdout.contains("bit for bit"), "{}", said.stdout);
    let said = run(&[
        "verify",
        "merged",
        "--model",
        &model,
        "--adapter",
        &format!("{fixtures}/adapter_b"),
    ]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout.contains("is not base + adapter"),
        "{}",
        said.stdout
    );

    let said = run(&["info", "merged"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("merged    from"), "{}", said.stdout);
    let said = run(&["info", &adapter, "--format", "json"]);
    let info: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(info["adapter"]["rslora"], true);
    let said = run(&["info", "nowhere"]);
    assert_eq!(said.code, Some(2));
}

/// A base that was merged itself: its history is not that of the output, and the proof still holds.
#[test]
fn a_merged_model_is_a_base_again_and_tells_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| run_in(dir.path(), arguments);
    let fixtures = fixtures();
    let (first, second) = (
        format!("{fixtures}/adapter_b"),
        format!("{fixtures}/adapter_vision_rs"),
    );
    let tiny = format!("{fixtures}/tiny");
    for (model, adapter, out) in [(tiny.as_str(), &first, "once"), ("once", &second, "twice")] {
        let merge = [
            "merge",
            "--model",
            model,
            "--adapter",
            adapter,
            "--out",
            out,
        ];
        let said = run(&merge);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let said = run(&["verify", out, "--model", model, "--adapter", adapter]);
        assert_eq!(said.code, Some(0), "{}", said.stdout);
        assert!(!said.stdout.contains("further files"), "{}", said.stdout);
        let text = fs::read_to_string(dir.path().join(out).join("lineage.json")).unwrap();
        let lineage: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(lineage["command"], "merge");
        let inputs = lineage["inputs"].as_array().unwrap();
        let base = &inputs[0];
        assert_eq!((&base["role"], inputs.len()), (&"base".into(), 3));
        let weights = fs::read(if model == "once" {
            dir.path().join("once/model.safetensors")
        } else {
            format!("{tiny}/model.safetensors").into()
        });
        let hash = vlft_base::digest::sha256(weights.unwrap());
        assert_eq!(base["sha256"], hash);
    }

    // New names leave the same sidecar.
    let old = dir.path().join("old");
    fs::create_dir(&old).unwrap();
    let bytes = fs::read(format!("{first}/adapter_model.safetensors")).unwrap();
    // The two names are equally long, so the header stays as long as it says.
    let (from, to) = (b"model.language_model.", b"language_model.model.");
    let mut bytes = bytes;
    let starts = 0..bytes.len() - from.len();
    let found: Vec<usize> = starts.filter(|at| bytes[*at..].starts_with(from)).collect();
    for at in found {
        bytes[at..at + from.len()].copy_from_slice(to);
    }
    fs::write(old.join("adapter_model.safetensors"), bytes).unwrap();
    fs::copy(
        format!("{first}/adapter_config.json"),
        old.join("adapter_config.json"),
    )
    .unwrap();
    let said = run(&["check-adapter", "old", "--model", &tiny, "--rewrite", "new"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let text = fs::read_to_string(dir.path().join("new/lineage.json")).unwrap();
    let lineage: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(lineage["command"], "check-adapter");
    assert_eq!(lineage["inputs"][0]["path"], "../old/adapter_config.json");
}

/// An adapter that made up for four bits is merged into a model that has none of their errors.
#[cfg(feature = "train")]
#[test]
fn what_a_4_bit_base_makes_is_measured_on_records() {
    use crate::support::run::{scratch_with_data, train};

    let dir = scratch_with_data(3);
    let tiny = format!("{}/tiny", fixtures());
    let said = train(dir.path(), &["--set", "model.base=nf4"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let run = |arguments: &[&str]| run_in(dir.path(), arguments);
    let merge = [
        "merge",
        "--model",
        &tiny,
        "--adapter",
        "run/adapter",
        "--out",
    ];
    let with = |more: &[&str]| run(&[&merge[..], more].concat());

    let said = with(&["plain"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("is not measured"), "{}", said.stdout);
    let said = with(&["merged", "--data", "val/train.jsonl", "--records", "3"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("4 bits    loss "), "{}", said.stdout);
    let text = fs::read(dir.path().join("merged/merge-report.json")).unwrap();
    let report: Value = serde_json::from_slice(&text).unwrap();
    let difference = &report["quantized_difference"];
    assert_eq!(
        (&difference["records"], &difference["double_quant"]),
        (&3.into(), &true.into())
    );
    let number = |key: &str| difference[key].as_f64().unwrap();
    assert!(number("max_logit_difference") >= number("mean_logit_difference"));
    assert!(number("mean_logit_difference") > 0.0);

    // The losses are those of `vlft eval`, which knows nothing of merging.
    let lines = fs::read_to_string(dir.path().join("val/train.jsonl")).unwrap();
    let three: Vec<&str> = lines.lines().take(3).collect();
    fs::write(dir.path().join("val/three.jsonl"), three.join("\n")).unwrap();
    for (model, adapter, key) in [
        (tiny.as_str(), Some("run/adapter"), "loss_before"),
        ("merged", None, "loss_after"),
    ] {
        let eval = [
            "eval",
            "--model",
            model,
            "--data",
            "val/three.jsonl",
            "--format",
            "json",
        ];
        let adapter = adapter.map_or(vec![], |adapter| vec!["--adapter", adapter]);
        let said = run(&[&eval[..], &adapter].concat());
        let evaluation: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(evaluation["tokens"], difference["tokens"]);
        let loss = evaluation["loss"].as_f64().unwrap();
        assert!(
            (loss - number(key)).abs() < 1e-6,
            "{key}: {loss} {}",
            number(key)
        );
    }

    // Where nothing was in four bits there is nothing to measure, and nothing is written.
    let adapter = format!("{}/adapter_b", fixtures());
    let said = run(&[
        "merge",
        "--model",
        &tiny,
        "--adapter",
        &adapter,
        "--out",
        "none",
        "--data",
        "val/train.jsonl",
    ]);
    assert_eq!(said.code, Some(2), "{}", said.stdout);
    assert!(said.stderr.contains("no 4-bit base"), "{}", said.stderr);
    assert!(!dir.path().join("none").exists());
}

#[cfg(not(feature = "train"))]
#[test]
fn measuring_needs_the_trainer() {
    let dir = tempfile::tempdir().unwrap();
    let (model, adapter) = (
        format!("{}/tiny", fixtures()),
        format!("{}/adapter_b", fixtures()),
    );
    let said = run_in(
        dir.path(),
        &[
            "merge",
            "--model",
            &model,
            "--adapter",
            &adapter,
            "--out",
            "o",
            "--data",
            "d.jsonl",
        ],
    );
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("needs the trainer"), "{}", said.stderr);
    assert!(!dir.path().join("o").exists());
}
