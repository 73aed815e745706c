//! Killed at any moment, the same command goes on as if nothing had happened: the same losses,
//! gradient norms, learning rates and samples, and the same bytes of adapter.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::{repository, run_in, vlft};

const KILLS: usize = 5;

#[test]
fn five_kills_leave_no_trace() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    fs::write(root.join("c.toml"), config()).unwrap();
    let start = SystemTime::now();
    let whole = run_in(root, &["train", "c.toml", "--out", "whole"]);
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    let duration = start.elapsed().unwrap();

    // A different seed each time; whoever needs the same kills again sets it.
    let seed = std::env::var("VLFT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed: u64 = seed.unwrap_or(now.as_nanos() as u64);
    println!("VLFT_SEED={seed}");
    let mut kills = 0;
    for attempt in 0..KILLS as u64 {
        // Somewhere in the first 60 % of what the whole run took, start-up included.
        let share = (mix(seed.wrapping_add(attempt)) % 1000) as f64 / 1000.0;
        let mut child = vlft()
            .current_dir(root)
            .args(["train", "c.toml", "--out", "killed"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(duration.mul_f64(0.6 * share).max(Duration::from_millis(20)));
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        kills > 0,
        "VLFT_SEED={seed}: every run was over before its kill"
    );
    let rest = run_in(root, &["train", "c.toml", "--out", "killed"]);
    assert!(
        matches!(rest.code, Some(0 | 3)),
        "VLFT_SEED={seed}: {}",
        rest.stderr
    );

    assert_eq!(
        steps(&root.join("killed")),
        steps(&root.join("whole")),
        "VLFT_SEED={seed}"
    );
    for file in [
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
    ] {
        let bytes = |run: &str| fs::read(root.join(run).join(file)).unwrap();
        assert!(
            bytes("killed") == bytes("whole"),
            "VLFT_SEED={seed}: {file} differs"
        );
    }
    let again = run_in(root, &["train", "c.toml", "--out", "killed"]);
    assert_eq!(
        again.code,
        Some(3),
        "a finished run has nothing to do: {}",
        again.stderr
    );
}

/// The step lines without their seconds, which are the clock's and not the run's.
fn steps(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.last().unwrap()["type"], "summary");
    let mut steps: Vec<Value> = lines
        .into_iter()
        .filter(|line| line["type"] == "step")
        .collect();
    for step in &mut steps {
        for clock in ["seconds", "data_seconds"] {
            step.as_object_mut().unwrap().remove(clock).unwrap();
        }
    }
    assert_eq!(steps.len(), 30);
    steps
}

fn config() -> String {
    let fixtures = repository().join("tests/fixtures").canonicalize().unwrap();
    let fixtures = fixtures.to_str().unwrap().replace('\\', "/");
    format!(
        r#"
[model]
path = "{fixtures}/tiny"
base = "f32"
[lora]
rank = 4
[data]
train = "{fixtures}/data/train.jsonl"
val = "{fixtures}/data7/train.jsonl"
[train]
max_steps = 30
micro_batch = 2
accumulate = 1
learning_rate = 2e-3
[eval]
every_steps = 7
[output]
checkpoint_every_steps = 4
keep = 2
"#
    )
}

/// SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
