//! Any bytes as a parquet file. Its library panics over lies, which `convert` catches: only a panic that
//! nobody expects ends the fuzzer.
#![no_main]

use std::env;
use std::fs;
use std::panic;
use std::path::PathBuf;
use std::process;

use libfuzzer_sys::fuzz_target;
use vlft_base::output::Existing;
use vlft_convert::{Format, Options, convert, panics_are_expected, read_bytes};

const RECORDS: &str = concat!(
    r#"{"id":"a","messages":[{"role":"system","content":[{"type":"text","text":"s"}]},{"role":"user","content":[{"type":"image","image":"a.png"},{"type":"text","text":"q"}]},{"role":"assistant","content":[{"type":"text","text":"{\"a\":1}"}]}],"meta":{"document":"d"}}"#,
    "\n",
    r#"{"id":"b","messages":[{"role":"user","content":[{"type":"text","text":"q"}]},{"role":"assistant","content":[{"type":"text","text":"w"}]}]}"#,
    "\n",
);
/// One pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0cIDAT\x08\xd7c\xf8\xcf\xc0\0\0\x03\x01\x01\0\x18\xdd\x8d\xb0\0\0\0\0IEND\xaeB`\x82";

/// Instead of the hook of `libfuzzer-sys`, which ends the process at every panic.
fn hook() {
    panic::set_hook(Box::new(|what| {
        if !panics_are_expected() {
            eprintln!("{what}");
            process::abort();
        }
    }));
}

/// Small files of both kinds to start from, into the folder that `SEEDS` names.
fn seeds() {
    let Some(out) = env::var_os("SEEDS").map(PathBuf::from) else {
        return;
    };
    fs::create_dir_all(&out).expect("the corpus can be written");
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("a.png"), PNG).expect("the folder is ours");
    fs::write(dir.path().join("r.jsonl"), RECORDS).expect("the folder is ours");
    for (to, name) in [(Format::Trl, "trl"), (Format::TrlMessages, "messages")] {
        let options = Options {
            input: dir.path().join("r.jsonl"),
            from: Some(Format::Vlft),
            to,
            out: dir.path().join(format!("{name}.parquet")),
            images: Vec::new(),
            copy_images: false,
            prompt: None,
            strict: false,
            existing: Existing::Replace,
            dry_run: false,
        };
        let report = convert(&options, &|_, _| {}).expect("two good records");
        assert_eq!(report.written, 2, "{report}");
        fs::copy(&options.out, out.join(name)).expect("the corpus can be written");
    }
}

fuzz_target!(init: { hook(); seeds() }, |bytes: &[u8]| {
    for format in [Format::Trl, Format::TrlMessages] {
        let Ok(samples) = read_bytes(format, bytes) else { continue };
        let refused = samples.into_iter().filter_map(Result::err);
        refused.for_each(|refusal| assert!(!refusal.reason.is_empty()));
    }
});
