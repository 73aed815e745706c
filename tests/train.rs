//! `vlft train` and `vlft eval` as a person and a script meet them: streams, exit codes, signals,
//! what is in the run directory. The numbers are tested where they are made; see `resume.rs` for
//! kills.

use std::fs;

use serde_json::Value;

use crate::support::run::{metrics, scratch};
use crate::support::{fixtures, run_in, vlft};

#[test]
fn a_run_leaves_what_the_design_says_and_is_not_trained_twice() {
    let dir = scratch(4);
    let (root, run) = (dir.path(), dir.path().join("run"));
    let said = run_in(root, &["train", "c.toml", "--out", "run"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);

    // stdout: the result. stderr: a header, progress lines, and last where the output is.
    assert!(said.stdout.starts_with("4 steps, loss "), "{}", said.stdout);
    let stderr: Vec<&str> = said.stderr.lines().collect();
    assert!(
        stderr[0].starts_with("model    tiny, f32 base; "),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("\nstep  1/4 | loss "),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains(" (best)"), "{}", said.stderr);
    let last = stderr.last().unwrap();
    assert_eq!(
        *last,
        "Wrote the adapter to `run/adapter`; curves in `run/report.html`"
    );

    let kinds: Vec<String> = metrics(&run)
        .iter()
        .map(|line| line["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        kinds,
        ["step", "step", "eval", "step", "step", "eval", "summary"]
    );
    for file in [
        "config.toml",
        "report.html",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/preprocess.lock.json",
        "checkpoints/step-4",
    ] {
        assert!(run.join(file).exists(), "{file}");
    }
    assert_eq!(
        fs::read_dir(run.join("checkpoints")).unwrap().count(),
        1,
        "keep = 1"
    );

    // Again: nothing to do, nothing changed. The resolved config means the same run.
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    for config in ["c.toml", "run/config.toml"] {
        let again = run_in(root, &["train", config, "--out", "run"]);
        assert_eq!(again.code, Some(3), "{}", again.stderr);
        assert!(
            again
                .stderr
                .starts_with("nothing to do: this run is finished already\n")
        );
    }
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);

    // Another config in the same place is refused, and says what differs.
    let other = run_in(
        root,
        &["train", "c.toml", "--out", "run", "--set", "lora.alpha=8"],
    );
    assert_eq!(other.code, Some(2));
    assert!(other.stderr.contains("lora.alpha"), "{}", other.stderr);
    let forced = run_in(
        root,
        &[
            "train",
            "c.toml",
            "--out",
            "run",
            "--set",
            "lora.alpha=8",
            "--force",
        ],
    );
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    assert_ne!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
}

#[test]
fn json_is_the_metrics_line_by_line() {
    let dir = scratch(3);
    let said = run_in(
        dir.path(),
        &["train", "c.toml", "--out", "run", "--format", "json", "-q"],
    );
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        said.stdout,
        fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap()
    );

    let model = format!("{}/tiny", fixtures());
    let data = format!("{}/data7/train.jsonl", fixtures());
    let args = [
        "eval",
        "--model",
        &model,
        "--adapter",
        "run/adapter",
        "--data",
        &data,
    ];
    let said = run_in(dir.path(), &[&args[..], &["--format", "json"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let evaluation: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(evaluation["records"], 7);

    // The run's own last evaluation, of the same adapter on the same records, agrees.
    let lines = metrics(&dir.path().join("run"));
    let last = lines.iter().rfind(|line| line["type"] == "eval").unwrap();
    assert_eq!(last["step"], 3);
    assert_eq!(last["loss"], evaluation["loss"]);
    assert_eq!(last["tokens"], evaluation["tokens"]);
    assert_eq!(lines.last().unwrap()["eval_loss"], evaluation["loss"]);
}

/// SIGTERM is what a rented machine sends before it goes away.
#[cfg(unix)]
#[test]
fn a_signal_finishes_the_step_saves_and_exits_with_130() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let dir = scratch(1_000_000);
    let run = dir.path().join("run");
    let mut finished = 0;
    for signal in ["-TERM", "-INT"] {
        let child = vlft()
            .current_dir(dir.path())
            .args(["train", "c.toml", "--out", "run"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Somewhere beyond where it began, so that there is something new to save.
        let start = Instant::now();
        let began_again = || {
            let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
            text.matches("\"type\":\"step\"").count() > finished + 4
        };
        while !began_again() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the run does not begin"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");

        let steps: Vec<u64> = metrics(&run)
            .iter()
            .filter(|line| line["type"] == "step")
            .map(|line| line["step"].as_u64().unwrap())
            .collect();
        assert_eq!(
            steps,
            (1..=steps.len() as u64).collect::<Vec<_>>(),
            "one line per step"
        );
        assert!(steps.len() > finished);
        finished = steps.len();
        let checkpoint = format!("run/checkpoints/step-{finished}");
        assert!(dir.path().join(&checkpoint).exists());
        assert!(
            stderr.ends_with(&format!(
                "interrupted: finished step {finished}, saved `{checkpoint}`\n\n\
                 hint: run the same command again to resume\n"
            )),
            "{stderr}"
        );
        assert!(!run.join("adapter").exists(), "not finished");
    }
}

/// Whoever read stdout went away: the work goes on.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    use std::process::Stdio;

    let dir = scratch(3);
    let mut child = vlft()
        .current_dir(dir.path())
        .args(["train", "c.toml", "--out", "run", "--format", "json", "-q"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        metrics(&dir.path().join("run")).last().unwrap()["type"],
        "summary"
    );
}

#[test]
fn a_bad_record_stops_before_the_first_step_and_leaves_nothing() {
    let dir = scratch(3);
    let user = r#"{"role":"user","content":[{"type":"text","text":"a"}]}"#;
    let answer = r#"{"role":"assistant","content":[{"type":"text","text":"{}"}]}"#;
    let picture = r#"{"role":"user","content":[{"type":"image","image":"gone.png"}]}"#;
    let records = format!(
        "{{\"id\":\"good\",\"messages\":[{user},{answer}]}}\n\
         {{\"id\":\"unsighted\",\"messages\":[{picture},{answer}]}}\n\
         {{\"id\":\"cut\",\"messages\":[{user},{{\"role\":\"assi"
    );
    fs::write(dir.path().join("t.jsonl"), records).unwrap();
    let said = run_in(
        dir.path(),
        &[
            "train",
            "c.toml",
            "--out",
            "run",
            "--set",
            "data.train=t.jsonl",
        ],
    );
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("t.jsonl:3"), "{}", said.stderr);
    assert!(!dir.path().join("run").exists());
}

#[test]
fn settings_without_effect_are_said() {
    let dir = scratch(2);
    let config = fs::read_to_string(dir.path().join("c.toml")).unwrap();
    let without_val: Vec<&str> = config.lines().filter(|l| !l.starts_with("val =")).collect();
    fs::write(dir.path().join("c.toml"), without_val.join("\n")).unwrap();
    let sets = [
        "eval.patience=2",
        "train.vision_learning_rate=1e-5",
        "train.activation_offloading=true",
    ];
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let command: Vec<&str> = ["train", "c.toml", "--out", "run"]
        .into_iter()
        .chain(sets)
        .collect();
    let said = run_in(dir.path(), &command);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for told in [
        "warning: `eval.patience` has no effect without `data.val`\n",
        "warning: `train.vision_learning_rate` has no effect: nothing there is adapted\n",
        "warning: `train.activation_offloading` has no effect on a CPU\n",
    ] {
        assert!(said.stderr.contains(told), "{told}\n{}", said.stderr);
    }
}

/// What a server would not apply is no result. Names and sizes are looked at before anything is
/// computed, values when they are written.
#[test]
fn an_adapter_that_a_server_would_not_apply_is_a_failure() {
    // Before: a rank that no `--max-lora-rank` allows, on a model wide enough for it.
    let dir = scratch(2);
    let (root, model) = (dir.path(), dir.path().join("wide"));
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(format!("{}/tiny", fixtures())).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["text_config"]["intermediate_size"] = 640.into();
    fs::write(&path, config.to_string()).unwrap();
    let config = vlft_checkpoint::Config::from_dir(&model).unwrap();
    let storage = vlft_checkpoint::Storage::F32;
    vlft_checkpoint::write_random_weights(&model, &config, 3, storage, u64::MAX).unwrap();
    let set = |rank: &str| {
        let rank = format!("lora.rank={rank}");
        let args = [
            "train",
            "c.toml",
            "--out",
            "run",
            "--set",
            "model.path=\"wide\"",
        ];
        run_in(root, &[&args[..], &["--set", &rank]].concat())
    };
    let said = set("600");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    for part in [
        "vLLM 0.33 would not apply all of the adapter that this config trains",
        "[rank-too-large] rank 600 is more than the largest `--max-lora-rank`, 512",
        "hint: ",
    ] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    assert!(!root.join("run").exists(), "nothing was begun");
    let said = set("24");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout
            .contains("\nserve it with\n  vllm serve wide --enable-lora --lora-modules "),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout
            .contains(" --max-lora-rank 32 --mm-processor-kwargs '{")
    );

    // After: a run that ends in its warm-up has an adapter of zeros. It is kept, and it is a failure,
    // however often it is asked.
    let dir = scratch(1);
    let root = dir.path();
    for _ in 0..2 {
        let said = run_in(root, &["train", "c.toml", "--out", "run"]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.stderr.contains("this adapter changes nothing"));
        assert!(
            said.stderr
                .contains("hint: train for more steps than `train.warmup_steps`")
        );
        assert!(root.join("run/adapter/adapter_model.safetensors").exists());
    }
    assert!(
        metrics(&root.join("run"))
            .iter()
            .all(|line| line["type"] != "summary")
    );
    let more = [
        "--set",
        "train.max_steps=4",
        "--allow-changed",
        "train.max_steps",
    ];
    let said = run_in(
        root,
        &[&["train", "c.toml", "--out", "run"], &more[..]].concat(),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}
