//! `vlft unpack` as a person sees it; the archives that may go wrong are in
//! `crates/vlft-dataset/tests/unpack.rs`.

use std::fs;

use crate::support::run_in;
use crate::support::zip::{file, zip};

#[test]
fn a_good_archive_is_unpacked_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let archive = zip(&[
        file("pages/a_1.jpg", b"jpg"),
        file("results.json", b"[]"),
        file("__MACOSX/._results.json", b"x"),
    ]);
    fs::write(dir.path().join("good.zip"), archive).unwrap();
    let args = ["unpack", "good.zip", "--out", "out"];
    let said = run_in(dir.path(), &args);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(
        said.stdout,
        "3 entries in 1 archive: 2 written (5 B), 0 duplicates, 1 of the system left out, \
         0 directories\n1 image, 1 label file\n"
    );
    assert_eq!(said.stderr, "Wrote `out`\n");

    let again = run_in(dir.path(), &args);
    assert_eq!(again.code, Some(0));
    assert_eq!(
        again.stderr,
        "`out` holds all of it already; nothing was written\n"
    );
}

#[test]
fn what_is_no_archive_by_its_path_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("zips")).unwrap();
    fs::write(dir.path().join("zips/images.zip"), "").unwrap();
    let said = run_in(
        dir.path(),
        &[
            "unpack",
            "zips",
            "zips/image.zip",
            "none.zip",
            "--out",
            "out",
        ],
    );
    assert_eq!(said.code, Some(2));
    assert_eq!(
        said.stderr,
        "error: expected a zip, found a folder\n  --> zips\n\n\
         hint: name the zips in it, such as `zips/images.zip`\n\n\
         error: no such zip\n  --> zips/image.zip\n\nhint: did you mean `images.zip`?\n\n\
         error: no such zip\n  --> none.zip\n\n\
         hint: check the paths; they are relative to the working directory\n\n3 problems\n"
    );
    let archive = zip(&[file("a.png", b"x")]);
    fs::write(dir.path().join("good.zip"), archive).unwrap();
    let said = run_in(
        dir.path(),
        &["unpack", "good.zip", "--out", "good.zip", "--force"],
    );
    assert_eq!(
        said.stderr,
        "error: the output is a file, not a folder\n  --> good.zip\n\nhint: choose another `--out`\n"
    );
}

#[test]
fn a_hostile_archive_is_refused_entry_by_entry() {
    let dir = tempfile::tempdir().unwrap();
    let archive = zip(&[
        file("a.png", b"x"),
        file("../../.ssh/authorized_keys", b"x"),
        file("link", b"/etc/passwd").mode(0o120_777),
    ]);
    fs::write(dir.path().join("evil.zip"), archive).unwrap();
    fs::write(dir.path().join("cut.zip"), "PK").unwrap();
    let said = run_in(
        dir.path(),
        &["unpack", "evil.zip", "cut.zip", "--out", "out"],
    );
    assert_eq!(said.code, Some(2));
    assert_eq!(said.stdout, "");
    assert_eq!(
        said.stderr,
        "error[archive-refused]: 3 faults in the archives; nothing was written\n  \
         --> evil.zip, entry 2 `../../.ssh/authorized_keys` would leave the output directory: \
         its name has `..`\n  \
         --> evil.zip, entry 3 `link` is a symbolic link\n  \
         --> cut.zip, not a zip, or cut short: invalid Zip archive: Could not find EOCD\n\n\
         hint: if you trust the archive, unpack it by hand, rename what is listed, and pack it anew\n      \
         download or copy the archive again\n"
    );
    assert!(!dir.path().join("out").exists());
}
