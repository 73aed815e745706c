//! Any bytes as a zip: unpacked or refused, within the limits, and nothing outside the folder.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_dataset::unpack::{Limits, Options, unpack};

fn scratch() -> &'static TempDir {
    static SCRATCH: OnceLock<TempDir> = OnceLock::new();
    SCRATCH.get_or_init(|| tempfile::tempdir().expect("a temporary folder"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the folder is ours").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn size(path: &Path) -> u64 {
    match path.is_dir() {
        true => names(path).iter().map(|name| size(&path.join(name))).sum(),
        false => fs::symlink_metadata(path).map_or(0, |m| m.len()),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let dir = scratch().path();
    let (archive, out) = (dir.join("a.zip"), dir.join("out"));
    let _ = fs::remove_dir_all(&out);
    fs::write(&archive, bytes).expect("the folder is ours");
    let limits = Limits {
        entry_bytes: 1 << 16,
        total_bytes: 1 << 17,
        ratio: 200,
    };
    let done = unpack(
        &Options {
            archives: vec![archive],
            out: out.clone(),
            existing: Existing::Refuse,
            limits,
            encoding: None,
            dry_run: false,
        },
        &|_, _| {},
    );
    match done {
        Ok(report) => {
            let accounted =
                report.written + report.duplicates + report.junk + report.directories;
            assert_eq!(report.entries, accounted);
            let ours = fs::metadata(out.join("lineage.json")).map_or(0, |m| m.len());
            assert!(size(&out) <= (1 << 17) + ours);
            // Beside it only where an entry has its name.
            let beside = dir.join("out.lineage.json");
            if beside.exists() {
                assert!(out.join("lineage.json").exists());
                fs::remove_file(beside).expect("the folder is ours");
            }
            assert_eq!(names(dir), ["a.zip", "out"]);
        }
        Err(_) => assert_eq!(names(dir), ["a.zip"]),
    }
});
