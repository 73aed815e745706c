//! `vlft doctor`. The tests need libpdfium in its usual places; `vlft doctor --fix` puts it there.

use std::path::Path;

use serde_json::Value;

use crate::support::{run_in, said, vlft};

#[test]
fn this_machine_is_fit_for_the_tests() {
    let report = run_in(Path::new("."), &["doctor"]);
    assert_eq!(
        report.code,
        Some(0),
        "run `vlft doctor --fix` once:\n{}",
        report.stdout
    );
    assert!(
        report.stdout.starts_with("ok    pdfium"),
        "{}",
        report.stdout
    );
    assert!(
        report.stdout.trim_end().ends_with(" ok"),
        "{}",
        report.stdout
    );
}

#[test]
fn a_library_that_is_missing_fails_with_the_place_and_the_reason() {
    let report = run_in(
        Path::new("."),
        &[
            "doctor",
            "--pdfium",
            "/nonexistent/libpdfium.so",
            "--format",
            "json",
        ],
    );
    assert_eq!(report.code, Some(1));
    let json: Value = serde_json::from_str(&report.stdout).unwrap();
    let check = &json["checks"][0];
    assert_eq!(
        (&check["name"], &check["verdict"]),
        (&"libpdfium".into(), &"fail".into())
    );
    assert_eq!(
        check["details"][0],
        "/nonexistent/libpdfium.so, `--pdfium`: no such file"
    );
}

/// With no Python that could download it, `--fix` says so instead of leaving half a cache.
#[cfg(unix)]
#[test]
fn a_fix_that_fails_says_why_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let mut command = vlft();
    command
        .args(["doctor", "--fix"])
        .env("PATH", "")
        .env("VLFT_CACHE", cache.path())
        .env_remove("VLFT_PDFIUM");
    let report = said(&mut command);
    if report.stdout.contains("from the system") || report.stdout.contains("beside the program") {
        return; // Somebody installed it for everyone: there is nothing to fix.
    }
    assert_eq!(report.code, Some(1), "{}", report.stdout);
    let text = &report.stdout;
    for expected in [
        "FAIL  no libpdfium that works was found",
        "`VLFT_PDFIUM`, not set",
        "an installed pypdfium2, not installed in Python",
        "warn  no Python 3 with pip",
        "FAIL  cannot download `pypdfium2==5.15.2` with pip",
        "`python3`: No such file or directory",
    ] {
        assert!(text.contains(expected), "{text}\nlacks {expected}");
    }
    let folder = cache.path().join("pdfium-8149");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}
