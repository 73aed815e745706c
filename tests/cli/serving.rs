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
