//! Hostile and honest archives.

#[path = "../../../tests/support/zip.rs"]
mod zip;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_base::{Diagnostic, Kind};
use vlft_dataset::lineage::{Lineage, Now};
use vlft_dataset::unpack::{Limits, Options, Report, unpack};
use zip::{ZipEntry, file, zip};

/// A directory with these archives in it, and options to unpack all of them to `out`.
fn archives(all: &[Vec<u8>]) -> (TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    let paths = all.iter().enumerate().map(|(index, bytes)| {
        let path = dir.path().join(format!("{index}.zip"));
        fs::write(&path, bytes).unwrap();
        path
    });
    let options = Options {
        archives: paths.collect(),
        out: dir.path().join("out"),
        existing: Existing::Refuse,
        limits: Limits::default(),
        encoding: None,
        dry_run: false,
    };
    (dir, options)
}

fn run(options: &Options) -> Result<Report, Diagnostic> {
    unpack(options, &|_, _| {})
}

/// Every file below, with `/`, sorted.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = vec![dir.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => pending.push(path),
                false => {
                    let below = path.strip_prefix(dir).unwrap().to_str().unwrap();
                    // What we leave beside the files has a test of its own.
                    if !path.ends_with("lineage.json") {
                        found.push(below.replace('\\', "/"));
                    }
                }
            }
        }
    }
    found.sort();
    found
}

/// The faults of archives, none of which may leave a trace.
fn faults(all: &[Vec<u8>]) -> Vec<String> {
    let (dir, options) = archives(all);
    let error = run(&options).expect_err("the archives are bad");
    assert_eq!(error.kind(), Kind::CannotRun);
    assert!(error.hint_text().is_some());
    let expected: Vec<String> = (0..all.len()).map(|n| format!("{n}.zip")).collect();
    assert_eq!(tree(dir.path()), expected, "something was written");
    assert!(!dir.path().parent().unwrap().join("up").exists());
    error
        .places()
        .iter()
        .map(|place| place.detail.clone().unwrap_or_default())
        .collect()
}

#[test]
fn images_and_labels_come_out_and_the_counts_reconcile() {
    let (dir, options) = archives(&[
        zip(&[
            file("pages/a_1.png", b"png"),
            file("pages/", b"").mode(0o040_755),
            file("labels/a.json", b"{}"),
            file("__MACOSX/pages/._a_1.png", b"fork"),
            file(".DS_Store", b"x"),
            file("read me (1).txt", b"hi"),
        ]),
        zip(&[
            file("pages/a_1.png", b"png"),
            file("scan.pdf", b"pdf"),
            file("x.bin", b""),
        ]),
    ]);
    let report = run(&options).unwrap();
    assert_eq!(
        tree(&options.out),
        [
            "labels/a.json",
            "pages/a_1.png",
            "read me (1).txt",
            "scan.pdf",
            "x.bin"
        ]
    );
    assert_eq!(fs::read(options.out.join("pages/a_1.png")).unwrap(), b"png");
    assert_eq!((report.entries, report.written), (9, 5));
    assert_eq!(
        (report.duplicates, report.junk, report.directories),
        (1, 2, 1)
    );
    assert_eq!(
        report.entries,
        report.written + report.duplicates + report.junk + report.directories
    );
    let kinds = report.kinds;
    assert_eq!(
        (kinds.images, kinds.labels, kinds.pdfs, kinds.other),
        (1, 2, 1, 1)
    );
    assert_eq!(tree(dir.path()).len(), 7, "nothing beside the output");
    let lineage = Lineage::of(&options.out).unwrap().unwrap();
    let archives: Vec<&str> = lineage.inputs.iter().map(|i| i.path.as_str()).collect();
    assert_eq!(archives, ["../0.zip", "../1.zip"]);
    for input in &lineage.inputs {
        assert_eq!(input.look(&options.out).unwrap(), Now::Same);
    }
}

#[test]
fn every_bad_entry_is_listed_and_nothing_is_written() {
    let bad: Vec<(ZipEntry, &str)> = vec![
        (file("../up", b"x"), "`..`"),
        (file("a/../../b", b"x"), "`..`"),
        (file("..\\..\\b", b"x"), "`..`"),
        (file("/abs", b"x"), "absolute"),
        (file("\\\\host\\share", b"x"), "absolute"),
        (file("C:\\win", b"x"), "drive"),
        (
            file("link", b"/etc/passwd").mode(0o120_777),
            "symbolic link",
        ),
        (file("pipe", b"").mode(0o010_644), "named pipe"),
        (file("null", b"").mode(0o020_666), "device"),
        (file("sock", b"").mode(0o140_666), "socket"),
        (file("NUL.txt", b"x"), "device on Windows"),
        (file("e\u{7}\u{1b}[31m", b"x"), "control characters"),
        (file(&"y".repeat(300), b"x"), "255"),
        (file(&"d/".repeat(600), b""), "1024"),
        (
            file("secret.json", b"xxxxxxxxxxxx").encrypted(),
            "encrypted",
        ),
        (file("new.json", b"x").method(14), "Lzma"),
        (
            file("big", b"x").claimed_size(u32::MAX - 1),
            "limit of 1.0 GiB",
        ),
        (
            file("bomb", &[0; 100]).method(8).claimed_size(64 << 20),
            "decompression bomb",
        ),
        (file(".", b"x"), "no name"),
    ];
    let mut entries = vec![file("good.png", b"x")];
    entries.extend(bad.iter().map(|(entry, _)| entry.clone()));
    let found = faults(&[zip(&entries)]);
    assert_eq!(found.len(), bad.len(), "{found:#?}");
    for ((_, expected), line) in bad.iter().zip(&found) {
        assert!(line.contains(expected), "{line:?} lacks {expected:?}");
        assert!(line.len() < 250 && !line.contains('\u{1b}'), "{line:?}");
    }
    assert!(
        found[0].starts_with("entry 2 `../up` would leave"),
        "{}",
        found[0]
    );
}

#[test]
fn each_cause_has_its_own_advice() {
    let advice = |entry: ZipEntry| {
        let (_dir, options) = archives(&[zip(&[entry])]);
        let error = run(&options).expect_err("the archive is bad");
        error.hint_text().unwrap_or_default().to_owned()
    };
    let locked = advice(file("a.json", b"xxxxxxxxxxxx").encrypted());
    assert!(locked.starts_with("decrypt the archive"), "{locked}");
    let lzma = advice(file("a.json", b"x").method(14));
    assert!(lzma.ends_with("anew, stored or deflated"), "{lzma}");
}

#[test]
fn names_that_meet_are_refused_within_and_across_archives() {
    let one = |name: &str| file(name, b"1");
    for (all, expected) in [
        (
            vec![zip(&[one("a.png"), one("A.png")])],
            "differs only in case or accents from entry 1",
        ),
        (
            vec![zip(&[one("e\u{301}.png"), one("\u{e9}.png")])],
            "differs only in case",
        ),
        (
            vec![zip(&[one("./a.png"), one("a.png")])],
            "has the name of entry 1 `./a.png`",
        ),
        (
            vec![zip(&[one("a\\b.png"), one("a/b.png")])],
            "has the name of entry 1",
        ),
        (
            vec![zip(&[one("a"), one("a/b.png")])],
            "a file, and a directory",
        ),
        (
            vec![zip(&[one("A"), one("a/b.png")])],
            "a file, and a directory",
        ),
        (
            vec![zip(&[one("twice.png"), file("twice.png", b"2")])],
            "two entries are named `twice.png`",
        ),
        (
            vec![zip(&[one("a.png")]), zip(&[file("a.png", b"22")])],
            "and other content",
        ),
        (
            vec![zip(&[one("a.png")]), zip(&[one("A.png")])],
            "differs only in case",
        ),
    ] {
        let found = faults(&all);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{found:?} lacks {expected:?}");
    }
}

#[test]
fn equal_checksums_do_not_make_equal_files() {
    // Both have the CRC-32 0x7bfe82.
    let one = file("x.json", br#"{"a":6367624370}"#);
    let two = file("x.json", br#"{"a":7281232721}"#);
    let found = faults(&[zip(&[one]), zip(&[two])]);
    assert!(found[0].contains("and other content"), "{found:?}");
}

#[test]
fn damaged_archives_are_refused_wherever_the_damage_is() {
    let good = zip(&[file("a.png", b"aaaa"), file("b.png", b"bbbb")]);
    let mut local_header = good.clone();
    local_header[1] ^= 0xff;
    for bytes in [
        Vec::new(),
        b"hello".to_vec(),
        good[..good.len() / 2].to_vec(),
        good[..good.len() - 5].to_vec(),
        local_header,
        zip(&[
            file("ok.png", b"1"),
            file("sum.png", b"1234").claimed_crc32(1),
        ]),
        zip(&[file("short.png", b"1234").claimed_size(9)]),
        zip(&[file("long.png", b"1234").claimed_size(2)]),
        zip(&[file("noise.png", b"1234").method(8)]),
    ] {
        let found = faults(&[bytes]);
        assert!(!found.is_empty());
    }
    // A good archive beside a bad one is not written either, and both bad ones are named.
    assert_eq!(faults(&[good, b"x".to_vec(), b"y".to_vec()]).len(), 2);
}

#[test]
fn limits_can_be_set_and_hold_for_the_sum() {
    let all = [zip(&[file("a", &[7; 600])]), zip(&[file("b", &[7; 600])])];
    let (_dir, mut options) = archives(&all);
    options.limits.total_bytes = 1000;
    let error = run(&options).unwrap_err();
    assert!(
        error.places()[0]
            .to_string()
            .contains("1.2 KiB, more than the limit"),
        "{error}"
    );
    options.limits.total_bytes = 1200;
    options.limits.entry_bytes = 599;
    assert_eq!(run(&options).unwrap_err().places().len(), 2);
    options.limits.entry_bytes = 600;
    assert_eq!(run(&options).unwrap().bytes, 1200);
}

#[test]
fn the_same_command_again_does_nothing_and_another_one_is_refused() {
    let (_dir, mut options) = archives(&[zip(&[file("a.png", b"1"), file("d/b.json", b"{}")])]);
    assert!(!run(&options).unwrap().already_there);
    assert!(run(&options).unwrap().already_there);

    fs::write(options.out.join("a.png"), b"2").unwrap();
    assert_eq!(
        run(&options).unwrap_err().message(),
        "output exists already"
    );
    assert_eq!(fs::read(options.out.join("a.png")).unwrap(), b"2");

    fs::write(options.out.join("stale.png"), b"x").unwrap();
    options.existing = Existing::Replace;
    run(&options).unwrap();
    assert_eq!(tree(&options.out), ["a.png", "d/b.json"]);
}

#[test]
fn replacing_never_removes_what_is_being_unpacked() {
    let (dir, mut options) = archives(&[zip(&[file("a.png", b"1")])]);
    options.existing = Existing::Replace;
    options.out = dir.path().to_path_buf();
    assert_eq!(
        run(&options).unwrap_err().message(),
        "cannot replace this directory"
    );
    options.out = dir.path().join("file");
    fs::write(&options.out, "mine").unwrap();
    assert!(
        run(&options)
            .unwrap_err()
            .message()
            .contains("a file, not a folder")
    );
    assert_eq!(fs::read(&options.out).unwrap(), b"mine");
}

#[test]
fn nothing_inside_is_nothing_to_do() {
    for bytes in [
        zip(&[]),
        zip(&[file(".DS_Store", b"x"), file("d/", b"").mode(0o040_755)]),
    ] {
        let (_dir, options) = archives(&[bytes]);
        assert_eq!(run(&options).unwrap_err().kind(), Kind::NothingToDo);
        assert!(!options.out.exists());
    }
}

#[test]
fn odd_names_are_read_and_told() {
    let (_dir, options) = archives(&[zip(&[
        file("images\\1.png", b"1"),
        // Shift JIS, without the flag that would say so.
        file("", b"2").raw_name(b"\x93\xfa\x96{.png"),
        // UTF-8 without the flag, as most programs on Linux write it.
        file("東京.png", b"3"),
    ])]);
    let report = run(&options).unwrap();
    assert_eq!(report.written, 3);
    assert_eq!(report.odd_names.len(), 2, "{:?}", report.odd_names);
    let warning = report.warning().unwrap();
    assert!(warning.causes()[0].contains("read as `/`"), "{warning}");
    assert!(
        warning.causes()[1].contains("read as Shift_JIS, which is a guess"),
        "{warning}"
    );
    let files = tree(&options.out);
    assert!(files.contains(&"images/1.png".to_owned()) && files.contains(&"東京.png".to_owned()));
}

#[test]
fn a_dry_run_checks_and_writes_nothing() {
    let (_dir, mut options) = archives(&[zip(&[file("a.png", b"1")])]);
    options.dry_run = true;
    let report = run(&options).unwrap();
    assert!(report.dry_run && !options.out.exists());
    assert!(report.to_string().contains("1 to be written"), "{report}");
}

#[test]
fn an_archive_in_the_archive_is_told_and_a_lineage_in_it_stays() {
    let mine = br#"{"not": "ours"}"#;
    let (dir, options) = archives(&[zip(&[file("in.zip", b"PK"), file("Lineage.json", mine)])]);
    let report = run(&options).unwrap();
    assert_eq!(report.kinds.archives, 1);
    let warning = report.warning().unwrap();
    assert!(
        warning.causes()[0].contains("entry 1 `in.zip`: an archive in the archive"),
        "{warning}"
    );
    assert_eq!(fs::read(options.out.join("Lineage.json")).unwrap(), mine);
    assert!(dir.path().join("out.lineage.json").exists());
}

#[test]
fn a_bomb_that_lies_about_its_size_is_stopped_at_what_it_said() {
    // 1 MiB of zeros, deflated by hand: stored blocks would not do.
    let deflated = {
        use std::io::Write;
        let mut out = Vec::new();
        let mut zip = ::zip::ZipWriter::new(std::io::Cursor::new(&mut out));
        let options = ::zip::write::SimpleFileOptions::default();
        zip.start_file("x", options).unwrap();
        zip.write_all(&vec![0; 1 << 20]).unwrap();
        zip.finish().unwrap();
        // After the local header of 30 bytes and the name.
        let size = u32::from_le_bytes(out[18..22].try_into().unwrap()) as usize;
        out[31..31 + size].to_vec()
    };
    let found = faults(&[zip(&[file("x", &deflated).method(8).claimed_size(100)])]);
    assert!(found[0].contains("entry 1 `x`"), "{found:?}");
}
