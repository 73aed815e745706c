//! Killed at any moment, the same command goes on as if nothing had happened: the same losses,
//! gradient norms, learning rates and samples, and the same bytes of adapter.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::support::run::{adapter, names, steps, train};
use crate::support::{fixtures, vlft};

const KILLS: u64 = 20;
const STEPS: usize = 60;

/// Whatever could make a resumed run differ is turned on here, one variant after the other: the
/// base, what a step sees, and how it gets it.
const VARIANTS: [[&str; 2]; 2] = [
    [
        "f32",
        "shuffle = true\npacking = true\npack_tokens = 200\nworkers = 1",
    ],
    [
        "nf4",
        "shuffle = true\npacking = true\npack_tokens = 200\nworkers = 2\nprefetch = 3",
    ],
];

#[test]
fn twenty_kills_leave_no_trace() {
    for [base, data] in VARIANTS {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        fs::write(root.join("c.toml"), config(base, data)).unwrap();
        let begin = SystemTime::now();
        let whole = train(root, &[]);
        assert_eq!(whole.code, Some(0), "{}", whole.stderr);
        let duration = begin.elapsed().unwrap();
        fs::rename(root.join("run"), root.join("whole")).unwrap();

        let seed = seed();
        println!("VLFT_SEED={seed}");
        println!("{}", kill_often(root, duration, seed));
        compare(root);
        let again = train(root, &[]);
        assert_eq!(
            again.code,
            Some(3),
            "a finished run has nothing to do: {}",
            again.stderr
        );
    }
}

/// A different one each time; whoever needs the same kills again sets `VLFT_SEED`.
fn seed() -> u64 {
    let set = std::env::var("VLFT_SEED").ok();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    set.and_then(|seed| seed.parse().ok())
        .unwrap_or(now.as_nanos() as u64)
}

/// Starts the run, kills it, and again, until it was killed often enough; then lets it end. Returns
/// where the kills hit.
fn kill_often(root: &Path, duration: Duration, seed: u64) -> String {
    // Long enough on average that all kills together see most of the run: each attempt loads, and
    // then gets on by a share of a twentieth.
    let (mut kills, mut in_a_write) = (0, 0);
    for attempt in 0..KILLS {
        let share = (mix(seed.wrapping_add(attempt)) % 1000) as f64 / 1000.0;
        let mut child = vlft()
            .current_dir(root)
            .args(["train", "c.toml", "--out", "run"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_begin(root, &mut child, duration);
        // At most so many steps, where the run has become faster than the one that was timed.
        let (begin, lines) = (SystemTime::now(), log_lines(root));
        let pause = duration.mul_f64(1.2 * share / KILLS as f64);
        while begin.elapsed().unwrap() < pause && log_lines(root) < lines + STEPS / KILLS as usize {
            std::thread::sleep(Duration::from_millis(1));
        }
        kills += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let checkpoints = root.join("run/checkpoints");
        if checkpoints.exists() {
            let torn = |name: &String| name.ends_with(".partial");
            in_a_write += u64::from(names(&checkpoints).iter().any(torn));
        }
    }
    assert!(
        kills >= KILLS / 2,
        "VLFT_SEED={seed}: the run was over too early"
    );
    let rest = train(root, &[]);
    assert!(
        matches!(rest.code, Some(0 | 3)),
        "VLFT_SEED={seed}: {}",
        rest.stderr
    );
    // Damage is what a kill must never do.
    assert!(
        !rest.stderr.contains("warning"),
        "VLFT_SEED={seed}: {}",
        rest.stderr
    );
    format!("{kills} of {KILLS} kills before the end, {in_a_write} inside a checkpoint's write")
}

fn log_lines(root: &Path) -> usize {
    let log = fs::read(root.join("run/metrics.jsonl")).unwrap_or_default();
    log.iter().filter(|byte| **byte == b'\n').count()
}

/// Most of a short run is loading, where a kill is dull: wait until its log changes.
fn wait_for_begin(root: &Path, child: &mut std::process::Child, at_most: Duration) {
    let length = || fs::metadata(root.join("run/metrics.jsonl")).map_or(0, |m| m.len());
    let (begin, before) = (SystemTime::now(), length());
    while length() == before
        && begin.elapsed().unwrap() < at_most
        && child.try_wait().unwrap().is_none()
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The run that was killed against the one that was not.
fn compare(root: &Path) {
    let (run, whole) = (root.join("run"), root.join("whole"));
    assert_eq!(steps(&run).len(), STEPS);
    assert_eq!(steps(&run), steps(&whole));
    assert!(adapter(&run) == adapter(&whole), "the adapter differs");
    let config = |run: &Path| fs::read(run.join("adapter/adapter_config.json")).unwrap();
    assert_eq!(config(&run), config(&whole));
    assert_eq!(names(&run), names(&whole), "something was left behind");
    assert_eq!(
        names(&run.join("checkpoints")),
        names(&whole.join("checkpoints"))
    );
}

/// What a kill can leave at every moment of a checkpoint's write, as far as files can show it.
#[test]
fn left_overs_of_every_moment_are_no_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    fs::write(root.join("c.toml"), config(VARIANTS[0][0], VARIANTS[0][1])).unwrap();
    let few = ["--set", "train.max_steps=6"];
    assert_eq!(train(root, &few).code, Some(0));
    let run = root.join("run");
    let (lines, bytes) = (steps(&run), adapter(&run));
    let step_6 = run.join("checkpoints/step-6");
    let files = names(&step_6);
    assert_eq!(
        files,
        [
            "adapter_config.json",
            "adapter_model.safetensors",
            "optimizer.safetensors",
            "preprocess.lock.json",
            "state.json"
        ]
    );
    for whole in 0..=files.len() {
        // The first `whole` files, half of the next, the log with its line and half of another.
        fs::remove_dir_all(run.join("adapter")).unwrap();
        let partial = run.join("checkpoints/step-6.partial");
        fs::rename(&step_6, &partial).unwrap();
        // A folder that is being written says so; a copy may have left that out, and here all is ours.
        if whole % 2 == 0 {
            fs::write(partial.join(".vlft-partial"), "").unwrap();
        }
        for (index, name) in files.iter().enumerate() {
            let path = partial.join(name);
            let content = fs::read(&path).unwrap();
            match index {
                _ if index < whole => {}
                _ if index == whole => fs::write(&path, &content[..content.len() / 2]).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
        }
        let metrics = run.join("metrics.jsonl");
        let mut text = fs::read_to_string(&metrics).unwrap();
        text += "{\"type\":\"st";
        fs::write(&metrics, text).unwrap();

        let said = train(root, &few);
        assert_eq!(said.code, Some(0), "{whole}: {}", said.stderr);
        assert!(
            said.stderr.contains("resume   at step 6 of 6"),
            "{}",
            said.stderr
        );
        assert_eq!(steps(&run), lines, "{whole}");
        assert!(adapter(&run) == bytes, "{whole}");
        assert_eq!(names(&run.join("checkpoints")), ["step-5", "step-6"]);
    }

    // After the last checkpoint got its name, before the one that it makes surplus went.
    fs::remove_dir_all(run.join("adapter")).unwrap();
    let surplus = run.join("checkpoints/step-4");
    fs::create_dir(&surplus).unwrap();
    for name in &files {
        fs::copy(step_6.join(name), surplus.join(name)).unwrap();
    }
    let said = train(root, &few);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(names(&run.join("checkpoints")), ["step-5", "step-6"]);
    assert!(adapter(&run) == bytes);
}

fn config(base: &str, data: &str) -> String {
    let fixtures = fixtures();
    format!(
        r#"
[model]
path = "{fixtures}/tiny"
base = "{base}"
[lora]
rank = 4
dropout = 0.1
[data]
train = "{fixtures}/data/train.jsonl"
val = "{fixtures}/data7/train.jsonl"
{data}
[train]
max_steps = {STEPS}
micro_batch = 2
accumulate = 1
learning_rate = 2e-3
neftune_alpha = 3.0
[eval]
every_steps = 17
[output]
checkpoint_every_steps = 1
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
