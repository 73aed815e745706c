//! What goes wrong while a run goes on: each fault with its message, its exit code, and what was
//! kept; where the fault can be mended, the same command goes on to the same result.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::run::{adapter, metrics, names, scratch, scratch_with_data, steps, train};
use crate::support::{Said, fixtures, run_in, vlft};

/// Starts `vlft train c.toml --out run` and waits until it has done more than `finished` steps.
fn start(root: &Path, finished: usize) -> Child {
    let child = vlft()
        .current_dir(root)
        .args(["train", "c.toml", "--out", "run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let count = || {
        let text = fs::read_to_string(root.join("run/metrics.jsonl")).unwrap_or_default();
        text.matches("\"type\":\"step\"").count()
    };
    while count() <= finished {
        assert!(begin.elapsed() < Duration::from_secs(60), "no step yet");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn end(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn an_image_that_vanishes_stops_the_run_and_the_rest_is_kept() {
    let dir = scratch_with_data(1_000_000);
    let (root, run) = (dir.path(), dir.path().join("run"));
    let child = start(root, 3);
    let image = root.join("data/images/000_000.png");
    let hidden = root.join("hidden.png");
    fs::rename(&image, &hidden).unwrap();
    let said = end(child);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let lines = steps(&run);
    let n = lines.len();
    let told = &said.stderr[said.stderr.find("error").unwrap()..];
    for part in [
        "image not found",
        "data/images/000_000.png",
        "--> data/train.jsonl:1, record `sample-000`\n",
        &format!(
            "caused by: training stopped in step {}; the {n} finished are saved in \
             `run/checkpoints/step-{n}`\n",
            n + 1
        ),
        "\nhint: put the file back or mend it, then run the same command again to resume; or leave \
         such records out: `--set data.on_error=skip --allow-changed data.on_error`\n",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(run.join(format!("checkpoints/step-{n}")).exists());

    // Mended, it goes on; its first steps are what they were.
    fs::rename(&hidden, &image).unwrap();
    let more = format!("train.max_steps={}", n + 2);
    let said = train(
        root,
        &["--set", &more, "--allow-changed", "train.max_steps"],
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let all = steps(&run);
    assert_eq!((all.len(), &all[..n]), (n + 2, &lines[..]));
}

/// What was trained is kept, and the evaluation that did not happen is made again.
#[test]
fn a_validation_image_that_vanishes_stops_the_run_in_its_evaluation() {
    let dir = scratch_with_data(1_000_000);
    let (root, run) = (dir.path(), dir.path().join("run"));
    let child = start(root, 5);
    let image = root
        .join("val/images")
        .join(&names(&root.join("val/images"))[0]);
    let hidden = root.join("hidden.png");
    fs::rename(&image, &hidden).unwrap();
    let said = end(child);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let told = &said.stderr[said.stderr.find("error").unwrap()..];
    let finished = steps(&run).len();
    for part in [
        "val/images/",
        "--> val/train.jsonl:",
        &format!(
            "caused by: training stopped in the evaluation after step {finished}; the {finished} \
             finished are saved in `run/checkpoints/step-{finished}`\n"
        ),
        "\nhint: put the file back or mend it, then run the same command again to resume\n",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    fs::rename(&hidden, &image).unwrap();
    let more = format!("train.max_steps={}", finished + 1);
    let said = train(
        root,
        &["--set", &more, "--allow-changed", "train.max_steps"],
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let resumed = format!("\nresume   at step {} of {}\n", finished + 1, finished + 1);
    assert!(said.stderr.contains(&resumed), "{}", said.stderr);
    let evaluated: Vec<u64> = metrics(&run)
        .iter()
        .filter(|line| line["type"] == "eval")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    let due: Vec<u64> = (1..=finished as u64 + 1)
        .filter(|step| step % 2 == 0 || *step == finished as u64 + 1)
        .collect();
    assert_eq!(evaluated, due);
}

/// A training image vanishes, and the config says to go on: the record is left out and listed, and a resumed run
/// leaves it out in the same steps even though the image is back.
#[cfg(unix)]
#[test]
fn with_skip_the_run_goes_on_and_a_resumed_one_skips_the_same() {
    let dir = scratch_with_data(1_000_000);
    let (root, run) = (dir.path(), dir.path().join("run"));
    let config = fs::read_to_string(root.join("c.toml")).unwrap();
    fs::write(
        root.join("c.toml"),
        config
            .replace("[train]", "on_error = \"skip\"\n[train]")
            .replace(
                "checkpoint_every_steps = 3",
                "checkpoint_every_steps = 1000000",
            ),
    )
    .unwrap();
    // A checkpoint first, far behind what follows.
    let child = start(root, 1);
    signal(&child, "-TERM");
    assert_eq!(end(child).code, Some(130));
    let begun = steps(&run).len();

    let image = root.join("data/images/000_000.png");
    let hidden = root.join("hidden.png");
    let child = start(root, begun + 3);
    fs::rename(&image, &hidden).unwrap();
    let listed = || fs::read_to_string(run.join("skipped.jsonl")).unwrap_or_default();
    let begin = Instant::now();
    while listed().lines().count() < 3 {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "nothing is skipped"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut child = child;
    child.kill().unwrap();
    child.wait().unwrap();
    let before = steps_as_they_are(&run);
    let skipped: Vec<Value> = listed()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for entry in &skipped {
        assert_eq!(
            (&entry["id"], &entry["line"]),
            (&"sample-000".into(), &1.into())
        );
        assert!(
            entry["why"].as_str().unwrap().contains("000_000.png"),
            "{entry}"
        );
    }

    // Killed, so all since the checkpoint is done again. The image is back, and yet it is left out
    // of the steps that did without it.
    fs::rename(&hidden, &image).unwrap();
    let up_to = |steps: usize| {
        let set = format!("train.max_steps={steps}");
        train(root, &["--set", &set, "--allow-changed", "train.max_steps"])
    };
    let said = up_to(before.len());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let after = steps(&run);
    assert_eq!(after.len(), before.len());
    for (old, new) in before.iter().zip(&after) {
        // The schedule is another one now; what a step saw is the same.
        for key in ["samples", "skipped"] {
            assert_eq!(old[key], new[key], "step {}", old["step"]);
        }
    }
    let lines = metrics(&run);
    let summary = lines.last().unwrap();
    assert_eq!(summary["type"], "summary");
    assert!(summary["skipped"].as_u64().unwrap() >= 2, "{summary}");
    assert!(
        said.stdout.contains(" skipped (`run/skipped.jsonl`)"),
        "{}",
        said.stdout
    );
    assert!(said.stderr.contains("resume   at step "), "{}", said.stderr);

    // A run that has begun goes on also if the image is gone when it is resumed.
    fs::rename(&image, &hidden).unwrap();
    let said = up_to(before.len() + 5);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr
            .contains(" goes on without record `sample-000`\n"),
        "{}",
        said.stderr
    );
    assert_eq!(steps(&run).len(), before.len() + 5);
}

/// Whole lines only: the process was killed.
fn steps_as_they_are(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["type"] == "step")
        .collect()
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_a_dump() {
    let dir = scratch(50);
    let (root, run) = (dir.path(), dir.path().join("run"));
    let absurd = [
        "--set",
        "train.learning_rate=1e30",
        "--set",
        "eval.every_steps=0",
    ];
    let said = train(root, &absurd);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let n = steps(&run).len();
    assert!(n > 0);
    let dump = format!("run/dump-step-{}", n + 1);
    let told = &said.stderr[said.stderr.find("error").unwrap()..];
    for part in [
        format!("error: step {} gave loss ", n + 1),
        format!("--> {dump}/records.jsonl\n"),
        " by itself\n".to_owned(),
        format!("saved in `run/checkpoints/step-{n}`\n"),
        "hint: lower `train.learning_rate` (it was 1e30 here)".to_owned(),
        format!("`vlft show {dump}/records.jsonl` shows the samples"),
    ] {
        assert!(told.contains(&part), "{part}\n{told}");
    }
    let numbers = fs::read_to_string(root.join(&dump).join("step.json")).unwrap();
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(numbers["samples"].as_array().unwrap().len(), 2);

    // Its records are those of the step, and their images are found from there.
    let records = format!("{dump}/records.jsonl");
    let model = format!("{}/tiny", fixtures());
    for sample in numbers["samples"].as_array().unwrap() {
        let id = sample["id"].as_str().unwrap();
        let shown = run_in(root, &["show", &records, id, "--model", &model]);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        assert!(shown.stdout.contains(id), "{}", shown.stdout);
    }
    // The same again: the same end, nothing doubled.
    let again = train(root, &absurd);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert_eq!(steps(&run).len(), n);
}

/// Evaluation may meet it before the next step does; the log stays readable.
#[test]
fn an_evaluation_that_is_no_number_stops_the_run_too() {
    let dir = scratch(50);
    let absurd = [
        "--set",
        "train.learning_rate=1e30",
        "--set",
        "eval.every_steps=1",
    ];
    let said = train(dir.path(), &absurd);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let told = &said.stderr[said.stderr.find("error").unwrap()..];
    for part in [
        "error: the loss on the validation set is NaN after step ",
        "saved in `run/checkpoints/step-",
        "hint: lower `train.learning_rate` (1e30) and begin anew with another `--out`\n",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    let lines = metrics(&dir.path().join("run"));
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["type"], &last["loss"]),
        (&Value::from("eval"), &Value::Null)
    );
    let again = train(dir.path(), &absurd);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
}

/// Stopped in the middle of an evaluation, and again in the middle of an answer, a run keeps the step
/// and makes the evaluation when it is resumed: in the end nothing shows that it was stopped.
#[cfg(unix)]
#[test]
fn a_signal_in_an_evaluation_keeps_the_step_and_the_evaluation_is_made_again() {
    let dir = scratch_with_data(3);
    let (root, run) = (dir.path(), dir.path().join("run"));
    // Loss over some seconds, then answers over many more.
    let records = root.join("val/train.jsonl");
    let text = fs::read_to_string(&records).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut many = String::new();
    for copy in 0..400 / lines.len() {
        many += &text.replace("\"sample-", &format!("\"copy-{copy}-"));
    }
    fs::write(&records, many).unwrap();
    let config = fs::read_to_string(root.join("c.toml")).unwrap();
    let answers = "samples = 2\nmax_new_tokens = 40\nbest_metric = \"loss\"\n[output]";
    fs::write(root.join("c.toml"), config.replace("[output]", answers)).unwrap();
    let whole = train(root, &[]);
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    fs::rename(&run, root.join("whole")).unwrap();
    let whole = root.join("whole");
    let seconds: f64 = of_type(&whole, "eval")[0]["seconds"].as_f64().unwrap();

    // One kill before or early in the evaluation after step 2, and later ones wherever they hit.
    for share in [0.0, 0.6, 0.9] {
        let child = start(root, 1);
        std::thread::sleep(Duration::from_secs_f64(share * seconds));
        signal(&child, "-TERM");
        let said = end(child);
        let lines = of_type(&run, "eval").len();
        if share < 0.5 {
            assert_eq!(said.code, Some(130), "{}", said.stderr);
            // It did not wait for the end of the evaluation.
            assert_eq!(lines, 0);
            assert_eq!(names(&run.join("checkpoints")), ["step-2"]);
            assert!(
                said.stderr
                    .contains("finished step 2, saved `run/checkpoints/step-2`\n"),
                "{}",
                said.stderr
            );
        }
    }
    let said = train(root, &[]);
    assert!(matches!(said.code, Some(0 | 3)), "{}", said.stderr);
    assert_eq!(steps(&run), steps(&whole));
    assert!(adapter(&run) == adapter(&whole));
    for kind in ["sample", "eval"] {
        let timeless = |run: &Path| {
            let mut lines = of_type(run, kind);
            for line in &mut lines {
                line.as_object_mut().unwrap().remove("seconds");
            }
            lines
        };
        assert_eq!(timeless(&run), timeless(&whole), "{kind}");
    }
    let best = |run: &Path| fs::read(run.join("best/adapter_model.safetensors")).unwrap();
    assert!(best(&run) == best(&whole));
    assert_eq!(
        names(&run.join("checkpoints")),
        names(&whole.join("checkpoints"))
    );
}

fn of_type(run: &Path, kind: &str) -> Vec<Value> {
    let mut lines = metrics(run);
    lines.retain(|line| line["type"] == kind);
    lines
}

#[cfg(unix)]
#[test]
fn a_signal_while_loading_ends_at_once() {
    // A data set that takes a while to check.
    let dir = scratch_with_data(3);
    let records = dir.path().join("data/train.jsonl");
    let text = fs::read_to_string(&records).unwrap();
    let mut many = String::new();
    for copy in 0..4000 {
        many += &text.replace("\"sample-", &format!("\"copy-{copy}-"));
    }
    fs::write(&records, many).unwrap();
    let child = vlft()
        .current_dir(dir.path())
        .args(["train", "c.toml", "--out", "run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    listens(&child);
    signal(&child, "-TERM");
    let said = end(child);
    assert_eq!(said.code, Some(130), "{}", said.stderr);
    assert_eq!(
        said.stderr,
        "interrupted: stopped while loading, no step was begun\n\n\
         hint: run the same command again\n"
    );
    assert!(!dir.path().join("run").exists());
}

/// Waits until a signal would not end the program by itself any more.
#[cfg(target_os = "linux")]
fn listens(child: &Child) {
    const TERM: u64 = 1 << (15 - 1);
    let begin = Instant::now();
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(caught.trim(), 16).ok()
    };
    while caught().is_none_or(|signals| signals & TERM == 0) {
        assert!(begin.elapsed() < Duration::from_secs(60), "no handler yet");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn listens(_: &Child) {
    std::thread::sleep(Duration::from_millis(500));
}

#[cfg(unix)]
fn signal(child: &Child, signal: &str) {
    let sent = std::process::Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[test]
fn two_processes_cannot_train_in_one_folder() {
    let dir = scratch(1_000_000);
    let child = start(dir.path(), 1);
    let second = train(dir.path(), &["--force"]);
    assert_eq!(second.code, Some(2), "{}", second.stderr);
    assert_eq!(
        second.stderr,
        "error: another process is training in this folder\n  --> run\n\n\
         hint: wait for it or stop it, or choose another `--out`\n"
    );
    signal(&child, "-TERM");
    assert_eq!(end(child).code, Some(130));
}

/// A limit on the size of one file: the first checkpoint, that of the first evaluation, breaks off in
/// the middle of a file.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_a_run_that_can_go_on() {
    let dir = scratch(4);
    let root = dir.path();
    let said = shell(
        root,
        "trap '' XFSZ; ulimit -f 100; exec \"$VLFT\" train c.toml --out run",
    );
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    for part in [
        "error: cannot write file or directory\n  --> run/checkpoints/step-2.partial/",
        "caused by: training stopped after step 2; no checkpoint yet\n",
        "hint: make room or make it writable, then run the same command again\n",
    ] {
        assert!(said.stderr.contains(part), "{part}\n{}", said.stderr);
    }
    assert!(names(&root.join("run/checkpoints")).is_empty());
    let said = train(root, &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("starting over"), "{}", said.stderr);
}

/// A real file system of one megabyte, in a mount namespace of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_last_checkpoint_and_the_same_command_resumes() {
    let dir = scratch(30);
    let root = dir.path();
    if !can_mount() {
        println!("skipped: no user namespaces here (`unshare -rm`), so no small disk to fill");
        return;
    }
    let whole = train(root, &["--set", "output.checkpoint_every_steps=1"]);
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    fs::create_dir(root.join("disk")).unwrap();
    let script = r#"exec unshare -rm sh -c '
        mount -t tmpfs -o size=1m tmpfs disk || exit 99
        go() { "$VLFT" train c.toml --out disk/run --set output.checkpoint_every_steps=1 \
            --set output.keep=100 -q 2> said.$1; echo $? > code.$1; }
        go full; ls disk/run > names.full; ls disk/run/checkpoints > checkpoints.full
        mount -o remount,ro disk; go ro
        mount -o remount,rw,size=100m disk; go rest
        cp -r disk/run rest'"#;
    let said = shell(root, script);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();

    assert_eq!(read("code.full"), "2\n", "{}", read("said.full"));
    let told = read("said.full");
    let kept = read("checkpoints.full");
    let last = kept.lines().count();
    for part in [
        "error: cannot ",
        "No space left on device",
        &format!("the last checkpoint is `disk/run/checkpoints/step-{last}`\n"),
        "hint: make room or make it writable, then run the same command again to resume from it\n",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(last > 0 && !kept.contains("partial"), "{kept}");
    assert!(!read("names.full").contains("partial"));

    assert_eq!(read("code.ro"), "2\n");
    assert!(
        read("said.ro").contains("Read-only file system"),
        "{}",
        read("said.ro")
    );

    assert_eq!(read("code.rest"), "0\n", "{}", read("said.rest"));
    assert_eq!(steps(&root.join("rest")), steps(&root.join("run")));
    assert!(adapter(&root.join("rest")) == adapter(&root.join("run")));
    assert_eq!(
        metrics(&root.join("rest")).last().unwrap()["type"],
        "summary"
    );
}

/// A new run where nothing may be written.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_read_only_is_refused() {
    let dir = scratch(3);
    if !can_mount() {
        println!("skipped: no user namespaces here (`unshare -rm`), so no read-only disk");
        return;
    }
    fs::create_dir(dir.path().join("disk")).unwrap();
    let script = r#"exec unshare -rm sh -c '
        mount -t tmpfs -o size=1m,ro tmpfs disk || exit 99
        exec "$VLFT" train c.toml --out disk/run'"#;
    let said = shell(dir.path(), script);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.starts_with(
            "error: cannot create file or directory\n  --> disk/run\n  \
             caused by: Read-only file system (os error 30)\n\n\
             hint: choose a path that you may write to\n"
        ),
        "{}",
        said.stderr
    );
}

#[cfg(target_os = "linux")]
fn can_mount() -> bool {
    let script = "exec unshare -rm sh -c 'mount -t tmpfs tmpfs /mnt'";
    shell(Path::new("/"), script).code == Some(0)
}

/// `sh -c SCRIPT` in `dir`, with the binary as `$VLFT`.
#[cfg(unix)]
fn shell(dir: &Path, script: &str) -> Said {
    let mut command = std::process::Command::new("sh");
    command
        .current_dir(dir)
        .args(["-c", script])
        .env("VLFT", env!("CARGO_BIN_EXE_vlft"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    crate::support::said(&mut command)
}
