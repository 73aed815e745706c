//! `runbooks/many-machines.md`: its files are what their engines take, and their commands, run as N
//! processes with the environment that each engine gives, do every document once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::pdf::{Page, pdf};
use crate::support::{repository, run_in};

fn spec(name: &str) -> String {
    let path = repository().join("runbooks/many-machines").join(name);
    fs::read_to_string(path).unwrap().replace('\r', "")
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&spec(name)).unwrap()
}

fn schema(name: &str) -> jsonschema::Validator {
    let path = repository().join(format!("tests/fixtures/engines/{name}.schema.json"));
    let text = fs::read_to_string(path).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn the_files_are_what_their_engines_take() {
    for (file, name) in [
        ("kubernetes.yaml", "kubernetes-job"),
        ("skypilot.yaml", "skypilot-task"),
    ] {
        let schema = schema(name);
        let mut spec = yaml(file);
        let errors: Vec<String> = schema.iter_errors(&spec).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{file}: {errors:?}");
        spec["num_node"] = 8.into();
        assert!(
            !schema.is_valid(&spec),
            "the schema of {file} takes anything"
        );
    }
    // Azure's schema is not to be had; these are the keys it demands.
    let azure = yaml("azureml.yaml");
    assert_eq!(azure["type"], "command");
    assert_eq!(azure["distribution"]["type"], "pytorch");
    for key in ["command", "compute", "environment"] {
        assert!(!azure[key].is_null(), "{key}");
    }
    let slurm = spec("slurm.sh");
    assert!(slurm.starts_with("#!/bin/sh\n") && slurm.contains("\n#SBATCH --array=0-7\n"));
}

/// Every copy of the runbook's command is started at once, then the pages are read as one set.
#[cfg(unix)]
fn run_copies(command: &str, count: usize, environment: impl Fn(usize) -> Vec<(String, String)>) {
    use std::process::Stdio;

    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("scans")).unwrap();
    for n in 0..12 {
        let path = data.join(format!("scans/scan {n}.pdf"));
        fs::write(path, pdf(&[Page::new(60, 40, ""), Page::new(60, 40, "")])).unwrap();
    }
    // A document that is rejected must not make its copy fail.
    fs::write(data.join("scans/broken.pdf"), "no PDF").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_vlft"));
    let path = std::env::join_paths(
        std::iter::once(program.parent().unwrap().to_path_buf())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let copies: Vec<_> = (0..count)
        .map(|copy| {
            std::process::Command::new("sh")
                .args(["-c", &command.replace("cd /data", ":")])
                .current_dir(&data)
                .env("PATH", &path)
                .envs(environment(copy))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut said = BTreeSet::new();
    for (copy, process) in copies.into_iter().enumerate() {
        let output = process.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{command}\ncopy {copy}: {stderr}");
        let first = stderr.lines().next().unwrap_or_default().to_owned();
        assert!(
            first.starts_with(&format!("This is shard {} of {count} (", copy + 1)),
            "{first}"
        );
        said.insert(first);
    }
    assert_eq!(said.len(), count);

    let mut pages = Vec::new();
    for shard in 1..=count {
        let name = format!("pages/manifest.{shard}-of-{count}.jsonl");
        pages.extend(
            fs::read_to_string(data.join(name))
                .unwrap()
                .lines()
                .map(|line| -> Value { serde_json::from_str(line).unwrap() }),
        );
    }
    let files: BTreeSet<&str> = pages.iter().map(|p| p["file"].as_str().unwrap()).collect();
    assert_eq!((pages.len(), files.len()), (24, 24));
    assert!(
        files
            .iter()
            .all(|file| data.join("pages").join(file).is_file())
    );

    // All shards are read as one; without one of them it is named.
    fs::write(data.join("mapping.toml"), MAPPING).unwrap();
    let rows: Vec<Value> = (0..12)
        .map(|n| serde_json::json!({"file_name": format!("scan {n}.pdf"), "x": "y"}))
        .collect();
    fs::write(data.join("labels.json"), Value::from(rows).to_string()).unwrap();
    let build = [
        "build-jsonl",
        "--images",
        "pages",
        "--labels",
        "labels.json",
        "--mapping",
        "mapping.toml",
        "--out",
        "all.jsonl",
        "--force",
    ];
    let built = run_in(&data, &build);
    assert_eq!(built.code, Some(0), "{}\n{}", built.stdout, built.stderr);
    assert_eq!(
        fs::read_to_string(data.join("all.jsonl"))
            .unwrap()
            .lines()
            .count(),
        12
    );
    fs::remove_file(data.join(format!("pages/manifest.2-of-{count}.jsonl"))).unwrap();
    let built = run_in(&data, &build);
    assert_eq!(built.code, Some(2));
    assert!(
        built.stderr.contains(&format!("--shard 2/{count}")),
        "{}",
        built.stderr
    );
}

#[cfg(unix)]
const MAPPING: &str = "version = 1\ndocument = \"file_name\"\n[prompt]\nuser = \"Read.\"\n\
                       [[fields]]\nname = \"x\"\ntype = \"string\"\n";

#[cfg(unix)]
fn variables(pairs: &[(&str, usize)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.to_string()))
        .collect()
}

#[cfg(unix)]
#[test]
fn a_slurm_array() {
    run_copies(&spec("slurm.sh"), 8, |copy| {
        variables(&[
            ("SLURM_ARRAY_TASK_ID", copy),
            ("SLURM_ARRAY_TASK_MIN", 0),
            ("SLURM_ARRAY_TASK_MAX", 7),
            ("SLURM_ARRAY_TASK_STEP", 1),
            ("SLURM_ARRAY_TASK_COUNT", 8),
            ("SLURM_PROCID", 0),
            ("SLURM_NTASKS", 1),
        ])
    });
}

#[cfg(unix)]
#[test]
fn a_kubernetes_indexed_job() {
    let job = yaml("kubernetes.yaml");
    let completions = job["spec"]["completions"].as_u64().unwrap() as usize;
    let command = &job["spec"]["template"]["spec"]["containers"][0]["command"][2];
    run_copies(command.as_str().unwrap(), completions, |copy| {
        variables(&[("JOB_COMPLETION_INDEX", copy)])
    });
}

#[cfg(unix)]
#[test]
fn skypilot_nodes() {
    let task = yaml("skypilot.yaml");
    let nodes = task["num_nodes"].as_u64().unwrap() as usize;
    run_copies(task["run"].as_str().unwrap(), nodes, |copy| {
        variables(&[("SKYPILOT_NODE_RANK", copy), ("SKYPILOT_NUM_NODES", nodes)])
    });
}

#[cfg(unix)]
#[test]
fn azure_ml_ranks() {
    let job = yaml("azureml.yaml");
    let count = job["resources"]["instance_count"].as_u64().unwrap() as usize;
    let command = job["command"].as_str().unwrap();
    let command = command
        .replace("${{inputs.scans}}", "scans")
        .replace("${{outputs.pages}}", "pages");
    run_copies(&command, count, |copy| {
        variables(&[("RANK", copy), ("WORLD_SIZE", count), ("LOCAL_RANK", 0)])
    });
}
