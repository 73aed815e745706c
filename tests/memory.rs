//! Memory over depth and over time. Both tests take minutes and are run by hand:
//!
//! ```text
//! cargo test --workspace --test suite -- --ignored --nocapture --test-threads=1 memory::
//! ```

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use vlft_base::format;
use vlft_checkpoint::{Config, Storage, write_random_weights};

use crate::support::run::{metrics, scratch};
use crate::support::{fixtures, repository, vlft};

/// What was asked of the trainer: memory grows with one block, not with depth. The weights, the
/// adapters and their moments grow with depth whatever one does, so they are in the table too.
#[test]
#[ignore = "half a minute to minutes; prints a table"]
fn peak_memory_by_depth() {
    println!("layers  checkpointing    peak RSS   above 4 layers   weights   adapters x 4");
    for checkpointing in [true, false] {
        let mut first = None;
        let mut peaks = Vec::new();
        for layers in [4, 16, 64] {
            let dir = tempfile::tempdir().unwrap();
            let weights = deep_model(&dir.path().join("model"), layers);
            let peak = peak(dir.path(), checkpointing);
            let adapters = adapter_bytes(&dir.path().join("run"));
            let above = peak.saturating_sub(*first.get_or_insert(peak));
            println!(
                "{layers:>6}  {:<13} {:>11}   {:>14}   {:>7}   {:>12}",
                if checkpointing { "on" } else { "off" },
                format::bytes(peak),
                format::bytes(above),
                format::bytes(weights),
                format::bytes(4 * adapters),
            );
            peaks.push((peak, weights + 4 * adapters));
        }
        if checkpointing {
            // Sixty more layers: their weights, adapters, gradients and moments, the kept inputs
            // of the blocks, and no more than a block's worth beside.
            let [(small, small_owned), .., (large, large_owned)] = peaks[..] else {
                unreachable!("three depths");
            };
            let more = (large - small).saturating_sub(large_owned - small_owned);
            assert!(more < 128 << 20, "{}", format::bytes(more));
        }
    }
}

/// 2,000 steps: what is held at the end is what was held after the first tenth.
#[test]
#[ignore = "minutes"]
fn two_thousand_steps_hold_their_memory() {
    let dir = scratch(2000);
    let mut child = vlft()
        .current_dir(dir.path())
        .args(["train", "c.toml", "--out", "run", "-q"])
        .args(["--set", "eval.every_steps=200"])
        .args(["--set", "output.checkpoint_every_steps=100"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // (finished steps, resident bytes), a few times a second.
    let mut seen: Vec<(usize, u64)> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(100));
        let Some(bytes) = status(&child, "VmRSS:") else {
            continue;
        };
        let text = fs::read(dir.path().join("run/metrics.jsonl")).unwrap_or_default();
        seen.push((text.iter().filter(|b| **b == b'\n').count(), bytes));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(
        metrics(&dir.path().join("run")).last().unwrap()["steps"],
        2000
    );

    println!("lines of log   resident, mean of a tenth");
    let tenths: Vec<f64> = (0..10)
        .map(|tenth| {
            let inside = |(lines, _): &&(usize, u64)| lines * 10 / 2012 == tenth;
            let of: Vec<u64> = seen
                .iter()
                .filter(inside)
                .map(|(_, bytes)| *bytes)
                .collect();
            let mean = of.iter().sum::<u64>() as f64 / of.len().max(1) as f64;
            println!("{:>12}   {}", tenth * 200, format::bytes(mean as u64));
            mean
        })
        .collect();
    let (early, late) = (tenths[1], tenths[9]);
    println!(
        "from the second tenth to the last: {:+.2} %",
        100.0 * (late / early - 1.0)
    );
    assert!(late < 1.02 * early);
}

/// The tiny model with `layers` blocks of the language model, random weights. Returns their bytes.
fn deep_model(dir: &Path, layers: usize) -> u64 {
    fs::create_dir_all(dir).unwrap();
    let tiny = repository().join("tests/fixtures/tiny");
    for entry in fs::read_dir(&tiny).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let text = &mut config["text_config"];
    for (key, value) in [("num_hidden_layers", layers), ("hidden_size", 128)] {
        text[key] = json!(value);
    }
    text["intermediate_size"] = json!(384);
    config["vision_config"]["out_hidden_size"] = json!(128);
    fs::write(&path, config.to_string()).unwrap();
    let config = Config::from_json(&config, &path).unwrap();
    write_random_weights(dir, &config, 7, Storage::F32, u64::MAX).unwrap();
    fs::metadata(dir.join("model.safetensors")).unwrap().len()
}

/// Peak resident bytes of five steps on one record at a time, its images enlarged.
fn peak(root: &Path, checkpointing: bool) -> u64 {
    let data = format!("{}/data/train.jsonl", fixtures());
    let config = format!(
        "[model]\npath = \"model\"\nbase = \"f32\"\n[lora]\nrank = 4\n\
         [data]\ntrain = \"{data}\"\nmin_pixels = 400_000\nmax_pixels = 600_000\n\
         [train]\nmax_steps = 5\naccumulate = 1\ngradient_checkpointing = {checkpointing}\n"
    );
    fs::write(root.join("c.toml"), config).unwrap();
    let mut child = vlft()
        .current_dir(root)
        .args(["train", "c.toml", "--out", "run", "-q"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = status(&child, "VmHWM:").unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    peak
}

fn adapter_bytes(run: &Path) -> u64 {
    let path = run.join("adapter/adapter_model.safetensors");
    fs::metadata(path).unwrap().len()
}

/// A line of `/proc/PID/status`, in bytes.
fn status(child: &Child, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}
