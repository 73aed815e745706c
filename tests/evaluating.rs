//! What evaluation while training leaves behind: answers, the best adapter, an early end, curves for
//! TensorBoard; and that `vlft eval` gives the same number as the run itself.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::run::metrics;
use crate::support::{fixtures, run_in};

/// Fewer pixels than the model's own limit, so that a lost resize contract shows in the loss.
const MAX_PIXELS: u64 = 6144;

/// One record over and over: what is learned from it soon makes the others worse.
const ONE: &str = r#"{"id":"one","messages":[{"role":"user","content":[{"type":"text","text":"What is on it?"}]},{"role":"assistant","content":[{"type":"text","text":"no no no no no no no no"}]}]}"#;

fn config(eval: &str) -> String {
    let fixtures = fixtures();
    format!(
        "[model]\npath = \"{fixtures}/tiny\"\nbase = \"f32\"\n[lora]\nrank = 4\n\
         [data]\ntrain = \"one.jsonl\"\nval = \"{fixtures}/data7/train.jsonl\"\n\
         max_pixels = {MAX_PIXELS}\n\
         [train]\nmax_steps = 12\nmicro_batch = 2\naccumulate = 1\nwarmup_steps = 0\n\
         learning_rate = 2e-3\nschedule = \"constant\"\n\
         [eval]\nevery_steps = 2\n{eval}\
         [output]\ncheckpoint_every_steps = 5\nkeep = 1\n"
    )
}

fn train(root: &Path, run: &str, eval: &str) -> (String, String, Vec<Value>) {
    fs::write(root.join("c.toml"), config(eval)).unwrap();
    fs::write(root.join("one.jsonl"), ONE).unwrap();
    let said = run_in(root, &["train", "c.toml", "--out", run]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let text = fs::read_to_string(root.join(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (said.stdout, text.clone(), lines.collect())
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// `vlft eval` of an adapter of the run, on the run's validation records.
fn loss_by_eval(root: &Path, adapter: &str) -> Value {
    let (model, data) = (
        format!("{}/tiny", fixtures()),
        format!("{}/data7/train.jsonl", fixtures()),
    );
    let said = run_in(
        root,
        &[
            "eval",
            "--model",
            &model,
            "--adapter",
            adapter,
            "--data",
            &data,
            "--format",
            "json",
        ],
    );
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (Some(0), ""),
        "{adapter}"
    );
    serde_json::from_str::<Value>(&said.stdout).unwrap()["loss"].clone()
}

fn steps_of_checkpoints(run: &Path) -> Vec<u64> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut steps: Vec<u64> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_prefix("step-").unwrap().parse().unwrap())
        .collect();
    steps.sort_unstable();
    steps
}

#[test]
fn the_best_adapter_is_kept_and_every_loss_is_that_of_vlft_eval() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (stdout, _, lines) = train(root, "run", "");
    let evals = of(&lines, "eval");
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    let lowest = evals.iter().min_by(|a, b| loss(a).total_cmp(&loss(b)));
    let lowest = lowest.unwrap();
    let best = lowest["step"].as_u64().unwrap();
    assert!(best < 12, "the test needs a run that gets worse: {lines:?}");

    // Two checkpoints although `keep = 1`: the last and the best.
    let run = root.join("run");
    assert_eq!(steps_of_checkpoints(&run), [best, 12]);
    let summary = lines.last().unwrap();
    assert_eq!(summary["best_step"], best);
    assert_eq!(summary["best_eval_loss"], lowest["loss"]);
    assert!(summary.get("stopped").is_none());
    assert!(
        stdout.contains(&format!(", best after step {best} `run/best`\n")),
        "{stdout}"
    );
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(run.join(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("best"), names("adapter"));
    assert_eq!(names("best").len(), 3);

    for (adapter, step) in [
        ("run/best".to_owned(), best),
        ("run/adapter".to_owned(), 12),
        (format!("run/checkpoints/step-{best}"), best),
    ] {
        let line = evals.iter().find(|line| line["step"] == step).unwrap();
        assert_eq!(loss_by_eval(root, &adapter), line["loss"], "{adapter}");
    }
}

#[test]
fn a_run_that_gets_no_better_ends_early_and_a_resumed_one_at_the_same_step() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (stdout, text, lines) = train(root, "run", "patience = 2\n");
    let last = of(&lines, "step").len() as u64;
    assert!(
        last < 12 && stdout.contains(", ended early: no improvement"),
        "{stdout}"
    );
    let summary = lines.last().unwrap();
    assert_eq!(summary["stopped"], "patience");
    assert_eq!(
        summary["best_step"],
        last - 4,
        "two evaluations later it ends"
    );
    assert_eq!(steps_of_checkpoints(&root.join("run")), [last - 4, last]);
    let again = run_in(root, &["train", "c.toml", "--out", "run"]);
    assert_eq!(again.code, Some(3), "finished: {}", again.stderr);

    // Killed before the summary was written: it ends again, without another step.
    let end = text.trim_end().rfind('\n').unwrap();
    fs::write(root.join("run/metrics.jsonl"), &text[..=end]).unwrap();
    fs::remove_dir_all(root.join("run/best")).unwrap();
    let resumed = run_in(root, &["train", "c.toml", "--out", "run"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    // The memory is that of the process that ended the run.
    let without_memory = |mut lines: Vec<Value>| {
        for line in &mut lines {
            line.as_object_mut().unwrap().remove("memory");
        }
        lines
    };
    let after = metrics(&root.join("run"));
    assert_eq!(without_memory(after), without_memory(lines.clone()));
    assert_eq!(loss_by_eval(root, "run/best"), summary["best_eval_loss"]);
}

#[test]
fn answers_are_written_down_scored_and_change_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let eval = "samples = 2\ngenerate_records = 3\nmax_new_tokens = 12\n\
                best_metric = \"field_accuracy\"\n";
    let (_, text, lines) = train(root, "run", eval);
    let (samples, evals) = (of(&lines, "sample"), of(&lines, "eval"));
    assert_eq!((samples.len(), evals.len()), (12, 6));
    for (pair, eval) in samples.chunks(2).zip(&evals) {
        let ids = pair.iter().map(|line| &line["id"]);
        assert!(
            ids.eq(samples[..2].iter().map(|line| &line["id"])),
            "fixed records"
        );
        for line in pair {
            assert_eq!(line["step"], eval["step"]);
            assert!(line["tokens"].as_u64().unwrap() <= 12);
            assert!(
                line["target"].as_str().unwrap().starts_with("{\"id\": "),
                "{line}"
            );
        }
        assert_eq!(eval["score"]["answers"], 3);
        let accuracy = eval["field_accuracy"].as_f64().unwrap();
        let count = |key: &str| eval["score"][key].as_f64().unwrap();
        assert_eq!(accuracy, count("correct") / count("fields"));
    }
    assert_ne!(samples[0]["id"], samples[1]["id"]);
    let report = fs::read_to_string(root.join("run/report.html")).unwrap();
    for sample in &samples[..2] {
        assert!(report.contains(sample["id"].as_str().unwrap()));
    }

    // The same training, to the last bit.
    let (_, _, plain) = train(root, "plain", "");
    let timeless = |lines: &[Value]| -> Vec<Value> {
        let steps = of(lines, "step").into_iter().cloned();
        steps
            .map(|mut line| {
                let line_object = line.as_object_mut().unwrap();
                line_object.remove("seconds");
                line_object.remove("data_seconds");
                line
            })
            .collect()
    };
    assert_eq!(timeless(&lines), timeless(&plain));
    let bytes = |file: &str| fs::read(root.join(file)).unwrap();
    let file = "adapter_model.safetensors";
    assert!(bytes(&format!("run/adapter/{file}")) == bytes(&format!("plain/adapter/{file}")));

    // Cut back on resume like every other line, and written again as they were.
    let cut = text.find("\"type\":\"step\",\"step\":11").unwrap();
    fs::write(root.join("run/metrics.jsonl"), &text[..cut + 40]).unwrap();
    let newest = root.join("run/checkpoints/step-12");
    fs::remove_dir_all(newest).unwrap();
    fs::write(root.join("c.toml"), config(eval)).unwrap();
    let resumed = run_in(root, &["train", "c.toml", "--out", "run"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    let after = fs::read_to_string(root.join("run/metrics.jsonl")).unwrap();
    let after: Vec<Value> = after
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(timeless(&after), timeless(&lines));
    assert_eq!(of(&after, "sample"), samples);
}
