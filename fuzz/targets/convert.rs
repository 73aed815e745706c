//! Any bytes as a file of any format, on the way to any other: the first byte says from what, the second
//! into what. Nothing is written, everything else is done, and the counts reconcile. Parquet as a source has
//! a target of its own.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_convert::{Format, Options, convert, read_bytes};

fn scratch() -> &'static TempDir {
    static SCRATCH: OnceLock<TempDir> = OnceLock::new();
    SCRATCH.get_or_init(|| tempfile::tempdir().expect("a temporary folder"))
}

fuzz_target!(|bytes: &[u8]| {
    let [from, to, rest @ ..] = bytes else { return };
    let pick = |byte: u8| Format::ALL[usize::from(byte) % Format::ALL.len()];
    let (from, to) = (pick(*from), pick(*to));
    if matches!(from, Format::Trl | Format::TrlMessages) {
        return;
    }
    if let Ok(samples) = read_bytes(from, rest) {
        let refused = samples.into_iter().filter_map(Result::err);
        refused.for_each(|refusal| assert!(!refusal.reason.is_empty()));
    }
    // A folder of pairs is no bytes, and nothing writes Label Studio's.
    if from == Format::OlmOcr || !to.is_written() {
        return;
    }
    let input = scratch().path().join("in");
    fs::write(&input, rest).expect("the scratch folder can be written");
    let report = convert(
        &Options {
            input,
            from: Some(from),
            to,
            out: scratch().path().join("out"),
            images: Vec::new(),
            copy_images: false,
            prompt: None,
            strict: false,
            existing: Existing::Refuse,
            dry_run: true,
        },
        &|done, size| assert!(done <= size),
    );
    if let Ok(report) = report {
        assert_eq!(report.read, report.written + report.rejected);
    }
});
