//! What a resumed run meets: damaged checkpoints, another config, other data, a folder that lost
//! something. Nothing of it is passed over in silence.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::run::{adapter, names, scratch, scratch_with_data, steps, train};

/// A finished run of 6 steps in `run`, with checkpoints 2, 4 and 6.
fn trained() -> tempfile::TempDir {
    let dir = scratch(6);
    let said = train(dir.path(), EVERY_TWO);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    dir
}

const EVERY_TWO: &[&str] = &[
    "--set",
    "output.checkpoint_every_steps=2",
    "--set",
    "output.keep=3",
];

fn cut(path: &Path, bytes: usize) {
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..bytes]).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_it_is_used() {
    let dir = trained();
    let run = dir.path().join("run");
    let (steps_before, adapter_before) = (steps(&run), adapter(&run));
    // As if it had been killed before the adapter was written.
    fs::remove_dir_all(run.join("adapter")).unwrap();
    cut(&run.join("checkpoints/step-6/optimizer.safetensors"), 100);
    let tensors = run.join("checkpoints/step-4/adapter_model.safetensors");
    let mut bytes = fs::read(&tensors).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&tensors, bytes).unwrap();

    let said = train(dir.path(), EVERY_TWO);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for told in [
        "warning: checkpoint is damaged and not used\n  --> run/checkpoints/step-6\n  \
         caused by: `optimizer.safetensors` has 100 of ",
        "warning: checkpoint is damaged and not used\n  --> run/checkpoints/step-4\n  \
         caused by: `adapter_model.safetensors` is not what was written: SHA-256 ",
        "hint: going on from `run/checkpoints/step-2`; the damaged one is now \
         `run/checkpoints/step-4.damaged`",
        "\nresume   at step 3 of 6\n",
    ] {
        assert!(said.stderr.contains(told), "{told}\n{}", said.stderr);
    }
    assert_eq!(steps(&run), steps_before);
    assert!(adapter(&run) == adapter_before);
    assert_eq!(
        names(&run.join("checkpoints")),
        [
            "step-2",
            "step-4",
            "step-4.damaged",
            "step-6",
            "step-6.damaged"
        ]
    );
}

/// Finished means finished with what was trained: an adapter that was damaged since is told and
/// written again.
#[test]
fn a_damaged_adapter_of_a_finished_run_is_written_again() {
    let dir = trained();
    let run = dir.path().join("run");
    let (log, bytes) = (steps(&run), adapter(&run));
    let files = [
        "adapter/adapter_model.safetensors",
        "best/adapter_config.json",
    ];
    for (index, file) in files.into_iter().enumerate() {
        let path = run.join(file);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[20] ^= 1;
        fs::write(&path, flipped).unwrap();
        let said = train(dir.path(), EVERY_TWO);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let (folder, name) = file.split_once('/').unwrap();
        for told in [
            format!(
                "warning: an adapter of this finished run is missing or damaged\n  --> \
                 run/{folder}\n  caused by: `{name}` is not what was written: SHA-256 "
            ),
            "hint: it is written again from `run/checkpoints/step-".to_owned(),
            "\nresume   after the last of 6 steps\n".to_owned(),
        ] {
            assert!(said.stderr.contains(&told), "{told}\n{}", said.stderr);
        }
        assert!(fs::read(&path).unwrap() == whole, "{index}");
        assert!(adapter(&run) == bytes);
        assert_eq!(steps(&run), log);
        assert_eq!(train(dir.path(), EVERY_TWO).code, Some(3));
    }
}

#[test]
fn a_file_where_a_checkpoint_should_be_is_set_aside() {
    let dir = trained();
    let run = dir.path().join("run");
    let bytes = adapter(&run);
    fs::remove_dir_all(run.join("adapter")).unwrap();
    fs::write(run.join("checkpoints/step-9"), "x").unwrap();
    let said = train(dir.path(), EVERY_TWO);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let told = "warning: checkpoint is damaged and not used\n  --> run/checkpoints/step-9\n  \
                caused by: it is a file, not a folder\n";
    assert!(said.stderr.contains(told), "{}", said.stderr);
    assert!(adapter(&run) == bytes);
    assert!(run.join("checkpoints/step-9.damaged").is_file());
}

/// Packing needs every length, and so every image; to know that nothing is left to do needs none.
#[test]
fn a_finished_run_is_finished_also_without_its_images() {
    let dir = scratch_with_data(3);
    let packed = [
        "--set",
        "data.packing=true",
        "--set",
        "data.pack_tokens=400",
    ];
    assert_eq!(train(dir.path(), &packed).code, Some(0));
    let images = dir.path().join("data/images");
    fs::rename(&images, dir.path().join("hidden")).unwrap();
    let said = train(dir.path(), &packed);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    let other = [&packed[..], &["--set", "lora.rank=2"]].concat();
    let said = train(dir.path(), &other);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("image not found"), "{}", said.stderr);
}

#[test]
fn nothing_to_train_on_is_said() {
    let dir = scratch_with_data(3);
    let drop = ["--set", "data.too_long=drop", "--set", "data.max_tokens=10"];
    let said = train(dir.path(), &drop);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    for told in [
        "error: every record is too long, so all of them were dropped\n  --> data/train.jsonl:",
        ", the shortest\n  expected at most 10 tokens, found ",
        "\nhint: raise `data.max_tokens`, or lower `data.max_pixels`\n",
    ] {
        assert!(said.stderr.contains(told), "{told}\n{}", said.stderr);
    }
    fs::write(dir.path().join("data/train.jsonl"), "\n").unwrap();
    let said = train(dir.path(), &[]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert_eq!(
        said.stderr,
        "nothing to do: the file has no records\n  --> data/train.jsonl\n"
    );
    assert!(!dir.path().join("run").exists());
}

#[test]
fn a_run_without_a_whole_checkpoint_never_starts_over_by_itself() {
    let dir = trained();
    let run = dir.path().join("run");
    fs::remove_dir_all(run.join("adapter")).unwrap();
    for (step, file) in [
        (2, "state.json"),
        (4, "adapter_config.json"),
        (6, "adapter_model.safetensors"),
    ] {
        fs::remove_file(run.join(format!("checkpoints/step-{step}/{file}"))).unwrap();
    }
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    let said = train(dir.path(), EVERY_TWO);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert_eq!(
        said.stderr,
        "error: no checkpoint of this run is whole\n  --> run\n  \
         caused by: `run/checkpoints/step-6`: `adapter_model.safetensors` is missing\n  \
         caused by: `run/checkpoints/step-4`: `adapter_config.json` is missing\n  \
         caused by: `run/checkpoints/step-2`: `state.json` is missing\n\n\
         hint: copy one back from a backup, or pass `--force` to throw this run away and begin \
         anew\n"
    );
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
    assert_eq!(
        names(&run.join("checkpoints")),
        ["step-2", "step-4", "step-6"]
    );
    let forced = train(dir.path(), &[EVERY_TWO, &["--force"]].concat());
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
}

#[test]
fn a_checkpoint_of_another_version_is_refused_by_its_version() {
    let dir = trained();
    let run = dir.path().join("run");
    fs::remove_dir_all(run.join("adapter")).unwrap();
    let state = run.join("checkpoints/step-6/state.json");
    fs::write(state, r#"{"version":1,"step":6,"updates":[6]}"#).unwrap();
    let said = train(dir.path(), EVERY_TWO);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.starts_with(
            "error: the checkpoint was written by another version of vlft\n  \
             --> run/checkpoints/step-6\n  expected format 2, found format 1\n"
        ),
        "{}",
        said.stderr
    );
}

#[test]
fn a_changed_config_is_refused_and_some_keys_may_be_allowed() {
    let dir = trained();
    let run = dir.path().join("run");
    let first_six = steps(&run);
    let longer = [
        "--set",
        "train.max_steps=8",
        "--set",
        "train.schedule=constant",
    ];
    let longer = [EVERY_TWO, &longer].concat();
    let refused = train(
        dir.path(),
        &[&longer[..], &["--set", "lora.rank=8"]].concat(),
    );
    assert_eq!(refused.code, Some(2));
    for told in [
        "error: this run began with another config, data or model\n  --> run/config.toml\n",
        "`lora.rank` was `4`, is now `8`",
        "`train.max_steps` was `6`, is now `8`",
        "`train.schedule` was `\"cosine\"`, is now `\"constant\"`",
    ] {
        assert!(refused.stderr.contains(told), "{told}\n{}", refused.stderr);
    }
    for (key, message) in [
        (
            "lora.rank",
            "error: `lora.rank` cannot change within a run\n",
        ),
        ("lora.rnk", "error: unknown key `lora.rnk`\n"),
    ] {
        let said = train(
            dir.path(),
            &[&longer[..], &["--allow-changed", key]].concat(),
        );
        assert_eq!(said.code, Some(2));
        assert!(said.stderr.starts_with(message), "{}", said.stderr);
    }

    let allowed = ["--allow-changed", "train.max_steps,train.schedule"];
    let said = train(dir.path(), &[&longer[..], &allowed].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("warning: this run goes on with changes\n  --> run/changes.jsonl\n"),
        "{}",
        said.stderr
    );
    let lines = steps(&run);
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[..6], first_six);
    let recorded: Vec<Value> = fs::read_to_string(run.join("changes.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(recorded.len(), 2);
    assert_eq!(
        recorded[0],
        serde_json::json!({"after_step": 6, "key": "train.max_steps", "was": 6, "now": 8})
    );
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("\nmax_steps = 8 "), "{config}");
    // The changed config is now the run's own.
    assert_eq!(train(dir.path(), &longer).code, Some(3));
}

#[test]
fn changed_records_and_models_are_refused() {
    let dir = scratch_with_data(3);
    let (root, run) = (dir.path(), dir.path().join("run"));
    assert_eq!(train(root, &[]).code, Some(0));
    fs::remove_dir_all(run.join("adapter")).unwrap();
    let records = root.join("data/train.jsonl");
    let text = fs::read_to_string(&records).unwrap();

    fs::write(&records, text.replacen("What is on it?", "What is it?", 1)).unwrap();
    let said = train(root, &["--allow-changed", "data.train"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr
            .contains("caused by: `data.train`: had 8 records (SHA-256 "),
        "{}",
        said.stderr
    );

    // Two pictures change places: the records still name the same files, of the same sizes.
    fs::write(&records, &text).unwrap();
    let images = root.join("data/images");
    let swap = || {
        let [a, b] = ["000_000.png", "001_001.png"].map(|name| images.join(name));
        fs::rename(&a, root.join("aside")).unwrap();
        fs::rename(&b, &a).unwrap();
        fs::rename(root.join("aside"), &b).unwrap();
    };
    swap();
    let said = train(root, &[]);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains("its images have changed"),
        "{}",
        said.stderr
    );
    swap();

    // The file may move, and be spelt differently, as long as the records are the same.
    fs::write(
        &records,
        text.replace("\"messages\": [", "\"messages\":[")
            .replace('\n', "\r\n"),
    )
    .unwrap();
    fs::rename(&records, root.join("data/moved.jsonl")).unwrap();
    let moved = ["--set", "data.train=data/moved.jsonl"];
    assert_eq!(train(root, &moved).code, Some(2));
    let said = train(
        root,
        &[&moved[..], &["--allow-changed", "data.train"]].concat(),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn a_run_that_lost_its_config_says_so() {
    let dir = trained();
    let run = dir.path().join("run");
    fs::remove_file(run.join("config.toml")).unwrap();
    let said = train(dir.path(), EVERY_TWO);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr
            .starts_with("error: `config.toml` of this run is missing\n"),
        "{}",
        said.stderr
    );
    assert!(run.join("checkpoints/step-6").exists());

    // What being killed while the folder was made leaves is no such run.
    fs::remove_dir_all(&run).unwrap();
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::write(run.join("config.toml.partial"), "[mod").unwrap();
    assert_eq!(train(dir.path(), EVERY_TWO).code, Some(0));
    assert_eq!(
        names(&run)
            .iter()
            .filter(|name| name.ends_with(".partial"))
            .count(),
        0
    );
}

#[test]
fn checkpoints_that_are_gone_are_no_reason_to_begin_anew() {
    let dir = trained();
    let run = dir.path().join("run");
    fs::remove_dir_all(run.join("adapter")).unwrap();
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let log = fs::read(run.join("metrics.jsonl")).unwrap();
    let said = train(dir.path(), EVERY_TWO);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr
            .starts_with("error: the checkpoints of this run are gone\n"),
        "{}",
        said.stderr
    );
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), log);
    let forced = [EVERY_TWO, &["--force"]].concat();
    assert_eq!(train(dir.path(), &forced).code, Some(0));
}

#[test]
fn starting_over_is_said() {
    let dir = trained();
    let run = dir.path().join("run");
    for gone in ["adapter", "checkpoints", "best"] {
        fs::remove_dir_all(run.join(gone)).unwrap();
    }
    // As if it had been killed in its second step.
    let log = run.join("metrics.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.split_inclusive('\n').next().unwrap()).unwrap();
    let said = train(
        dir.path(),
        &[EVERY_TWO, &["--set", "lora.alpha=8"]].concat(),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.starts_with(
            "warning: no checkpoint in this run yet: starting over\n  --> run\n  \
             caused by: it ended before its first one; 1 finished step lost\n  \
             caused by: `lora.alpha` was `32.0`, is now `8.0`\n"
        ),
        "{}",
        said.stderr
    );
}
