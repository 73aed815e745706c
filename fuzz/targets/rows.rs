//! A mapping, labels and the names of images, between bytes of 0xFF: everything that `build-jsonl`
//! does but writing, and the counts reconcile.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_dataset::build::{Options, build};

fn scratch() -> &'static TempDir {
    static SCRATCH: OnceLock<TempDir> = OnceLock::new();
    SCRATCH.get_or_init(|| tempfile::tempdir().expect("a temporary folder"))
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(4, |byte| *byte == 0xff);
    let mut next = || parts.next().unwrap_or_default();
    let (mapping, kind, labels, names) = (next(), next(), next(), next());
    let dir = scratch().path();
    let images = dir.join("images");
    let _ = fs::remove_dir_all(&images);
    fs::create_dir(&images).expect("it was removed");
    for name in names.split(|byte| *byte == b'\n').take(8) {
        // What the system does not take for a name is none.
        if let Ok(name) = std::str::from_utf8(name)
            && !name.contains(['/', '\0'])
            && name.len() < 100
        {
            let _ = fs::write(images.join(name), "");
        }
    }
    let extension = ["json", "jsonl", "csv"][kind.len() % 3];
    let labels_path = dir.join(format!("l.{extension}"));
    let mapping_path = dir.join("m.toml");
    fs::write(&labels_path, labels).expect("the folder is ours");
    fs::write(&mapping_path, mapping).expect("the folder is ours");
    let report = build(
        &Options {
            labels: labels_path,
            images: vec![images],
            mapping: mapping_path,
            aliases: None,
            out: dir.join("all.jsonl"),
            existing: Existing::Refuse,
            dry_run: true,
        },
        &|_, _| {},
    );
    if let Ok(report) = report {
        assert_eq!(report.documents, report.records + report.rejected);
        let _ = report.to_string();
    }
});
