//! `vlft bench`: what it measures is the recipe, what it makes up is what it was asked for.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::run::{metrics, train};
use crate::support::{Said, run_in};

fn bench(root: &Path, args: &[&str]) -> Said {
    run_in(root, &[&["bench"], args].concat())
}

/// A tiny model of random weights as `model`.
fn scratch() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let said = bench(dir.path(), &["--write-model", "tiny", "--out", "model"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    dir
}

const SMALL: [&str; 12] = [
    "--records",
    "3",
    "--max-pixels",
    "30000",
    "--prompt-tokens",
    "20",
    "--answer-tokens",
    "11",
    "--steps",
    "3",
    "--warm-up",
    "2",
];

#[test]
fn a_bench_is_the_recipe_measured() {
    let dir = scratch();
    let root = dir.path();
    let asked = [
        &[
            "--model",
            "model",
            "--out",
            "b",
            "--base",
            "f32",
            "--format",
            "json",
            "--profile",
            "-q",
        ],
        &SMALL[..],
    ]
    .concat();
    let said = bench(root, &asked);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&said.stdout).unwrap();

    // The same config by `vlft train`: the same losses.
    fs::copy(root.join("b/bench.toml"), root.join("c.toml")).unwrap();
    let said = train(
        root,
        &[
            "-q",
            "--set",
            "train.max_steps=5",
            "--set",
            "train.warmup_steps=0",
        ],
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let lines = metrics(&root.join("run"));
    let losses: Vec<&Value> = lines
        .iter()
        .filter(|l| l["type"] == "step")
        .map(|l| &l["loss"])
        .collect();
    let measured: Vec<&Value> = report["losses"].as_array().unwrap().iter().collect();
    assert_eq!(measured, losses);

    // Speed is that of the counted steps.
    let steps: Vec<Value> = metrics(&root.join("b/run"))
        .into_iter()
        .filter(|l| l["type"] == "step")
        .collect();
    assert_eq!(steps.len(), 5);
    let sum = |key: &str| {
        steps[2..]
            .iter()
            .map(|l| l[key].as_f64().unwrap())
            .sum::<f64>()
    };
    let number = |key: &str| report[key].as_f64().unwrap();
    assert!((number("tokens_per_second") * sum("seconds") / sum("tokens") - 1.0).abs() < 1e-9);
    assert!((number("samples_per_second") * sum("seconds") / 3.0 - 1.0).abs() < 1e-9);
    assert_eq!(number("tokens_per_step") * 3.0, sum("tokens"));

    // All of the time is somewhere.
    let profile = report["profile"].as_array().unwrap();
    let of = |name: &str| {
        profile
            .iter()
            .find(|p| p[0] == name)
            .map(|p| p[1].as_f64().unwrap())
    };
    for family in [
        "product",
        "low_rank",
        "attention",
        "norm",
        "rotary",
        "activation",
        "loss",
        "optimizer",
        "other",
    ] {
        assert!(
            of(family).is_some_and(|seconds| seconds > 0.0),
            "{family}: {profile:?}"
        );
    }
    let whole: f64 = profile.iter().map(|p| p[1].as_f64().unwrap()).sum();
    assert!(
        (whole / number("mean_seconds_per_step") - 1.0).abs() < 0.01,
        "{profile:?}"
    );

    let memory = &report["memory"];
    let bytes = |key: &str| memory[key].as_u64().unwrap();
    assert!(
        bytes("before_bytes") < bytes("loaded_bytes")
            && bytes("loaded_bytes") <= bytes("peak_bytes")
    );
    assert!(memory["predicted"]["total_bytes"].as_u64().unwrap() > 0);
    let (operations, rate) = (
        &report["operations"],
        report["matmul"]["operations_per_second"].as_f64().unwrap(),
    );
    let share = operations["necessary"].as_f64().unwrap() / number("mean_seconds_per_step") / rate;
    let told = report["utilisation"]["necessary"].as_f64().unwrap();
    assert!(
        (share / told - 1.0).abs() < 1e-9 && told > 0.0,
        "{share} {told}"
    );
    let ratio =
        operations["computed"].as_f64().unwrap() / operations["necessary"].as_f64().unwrap();
    assert!(
        (1.2..1.6).contains(&ratio),
        "the forward is made again: {ratio}"
    );
}

#[test]
fn a_bench_of_four_bits_says_so_and_takes_a_rate() {
    let dir = scratch();
    let asked = [
        &[
            "--model",
            "model",
            "--out",
            "b",
            "--base",
            "nf4",
            "--matmul-rate",
            "0.5",
            "--images",
            "0",
            "--profile",
        ],
        &SMALL[..],
    ]
    .concat();
    let said = bench(dir.path(), &asked);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for told in [
        "model       model, nf4 base, computing in f32 on cpu\n",
        "\nsteps       3 after 2 of warm-up, ",
        "\nproducts    500.00 Gop/s (given)\n",
        " with 4N a token (",
        "\n  dequantize ",
        "\n  data_wait ",
    ] {
        assert!(said.stdout.contains(told), "{told}\n{}", said.stdout);
    }
    // A config of one's own, on its own data, which here is the bench's.
    fs::copy(dir.path().join("b/bench.toml"), dir.path().join("own.toml")).unwrap();
    let own = [
        "--config",
        "own.toml",
        "--out",
        "other",
        "--steps",
        "1",
        "--warm-up",
        "1",
        "--format",
        "json",
        "-q",
    ];
    let said = bench(dir.path(), &own);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["losses"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_there_already_is_left_alone() {
    let dir = scratch();
    let root = dir.path();
    let said = bench(root, &["--write-model", "tiny", "--out", "model"]);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    let said = bench(root, &["--write-model", "9b", "--out", "x"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("unknown size `9b`") && said.stderr.contains("`30b-a3b`"),
        "{}",
        said.stderr
    );
    let into_model = [
        &["--model", "model", "--out", "model", "--only-data"],
        &SMALL[..],
    ]
    .concat();
    let said = bench(root, &into_model);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains("holds something else"),
        "{}",
        said.stderr
    );
    let only_data = [
        &["--model", "model", "--out", "b", "--only-data", "-q"],
        &SMALL[..],
    ]
    .concat();
    let said = bench(root, &only_data);
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (Some(0), "", "")
    );
    let lines = fs::read_to_string(root.join("b/data/train.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3);
    assert!(!root.join("b/run").exists());
}
