//! `vlft rasterize` when pages are endless or greedy, and when workers or the run itself are killed.

use std::fs;
use std::io::Read;
#[cfg(target_os = "linux")]
use std::process::Child;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cli::rasterize::{document, folder, lines};
use crate::support::pdf::{Page, first_more, pdf_with, stream};
use crate::support::{run_in, vlft};

/// Draws for centuries, in little memory: a pattern in steps of a hundred-thousandth of a point.
fn endless() -> Vec<u8> {
    let page = || Page::new(100, 100, "/Pattern cs /P scn 0 0 100 100 re f");
    let first = first_more(&[page()]);
    let page = page().resources(&format!("/Pattern << /P {first} 0 R >>"));
    let pattern = "/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 1 1] \
                   /XStep 0.00001 /YStep 0.00001 /Resources << >>";
    pdf_with(&[page], &[stream(pattern, "0 0 1 1 re f")])
}

/// Ten forms that draw ten of the next kind each, twelve times over: pdfium keeps every one.
fn swelling() -> Vec<u8> {
    let page = || Page::new(72, 72, "/F Do");
    let first = first_more(&[page()]);
    let page = page().resources(&format!("/XObject << /F {first} 0 R >>"));
    let forms: Vec<String> = (0..12)
        .map(|level| {
            let form = "/Type /XObject /Subtype /Form /BBox [0 0 72 72]";
            match level {
                11 => stream(form, "0 0 9 9 re f"),
                _ => stream(
                    &format!(
                        "{form} /Resources << /XObject << /F {} 0 R >> >>",
                        first + level + 1
                    ),
                    &"/F Do ".repeat(10),
                ),
            }
        })
        .collect();
    pdf_with(&[page], &forms)
}

/// One page whose transparency group needs about 600 MiB.
fn hungry() -> Vec<u8> {
    let page = || Page::new(14_400, 14_400, "/G gs /F Do");
    let first = first_more(&[page()]);
    let page = page().resources(&format!(
        "/ExtGState << /G << /ca 0.5 /BM /Multiply >> >> /XObject << /F {first} 0 R >>"
    ));
    let form = "/Type /XObject /Subtype /Form /BBox [0 0 14400 14400] \
                /Group << /S /Transparency >>";
    pdf_with(&[page], &[stream(form, "0 0 9000 9000 re f")])
}

/// Rasterizes a document with one such page and a good one, and tells why the first was left out.
/// A machine under load is slow: only the case about time may run against the clock.
fn left_out(bad: Vec<u8>, timeout_secs: &str) -> String {
    let dir = folder(&[("in/bad.pdf", bad), ("in/good.pdf", document(2))]);
    let limits = ["--timeout-secs", timeout_secs, "--worker-memory-mib", "400"];
    let said = run_in(
        dir.path(),
        &[&["rasterize", "in", "--out", "out"][..], &limits].concat(),
    );
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let pages = lines(&dir.path().join("out/manifest.jsonl"));
    assert_eq!(pages.len(), 2);
    let left: Vec<_> = fs::read_dir(dir.path().join("out")).unwrap().collect();
    assert_eq!(
        left.len(),
        5,
        "two images, two lists, the lineage: {left:?}"
    );
    let rejects = lines(&dir.path().join("out/rejects.jsonl"));
    assert_eq!(rejects.len(), 1, "{}", said.stderr);
    rejects[0]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_page_that_takes_too_long_is_left_out() {
    assert_eq!(left_out(endless(), "15"), "not done after 15 s");
}

#[test]
fn a_page_that_takes_too_much_memory_is_left_out() {
    for bad in [hungry(), swelling()] {
        assert_eq!(left_out(bad, "300"), "took more than 400.0 MiB");
    }
}

/// Waits for something that another process does.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
fn children_of(process: &Child) -> Vec<String> {
    let id = process.id();
    let tasks = fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|ids| {
            ids.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// One worker, which an endless page keeps for as long as these tests need it.
#[cfg(target_os = "linux")]
const ONE_WORKER: [&str; 8] = [
    "rasterize",
    "in",
    "--out",
    "out",
    "--jobs",
    "1",
    "--timeout-secs",
    "300",
];

#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_leaves_no_worker_and_is_resumed() {
    let dir = folder(&[("in/a.pdf", document(2)), ("in/z.pdf", endless())]);
    let mut run = vlft()
        .current_dir(dir.path())
        .args(ONE_WORKER)
        .spawn()
        .unwrap();
    let journal = dir.path().join("out/manifest.jsonl.journal");
    until("two pages are noted", || {
        fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() == 2)
    });
    let workers = children_of(&run);
    assert_eq!(workers.len(), 1);
    run.kill().unwrap();
    run.wait().unwrap();
    until("the worker is gone", || {
        let status = fs::read_to_string(format!("/proc/{}/stat", workers[0]));
        !status.is_ok_and(|stat| !stat.contains(") Z "))
    });
    assert!(!dir.path().join("out/manifest.jsonl").exists());

    // A torn last line is what a power failure leaves.
    let mut text = fs::read_to_string(&journal).unwrap();
    text += "{\"version\":1,\"docu";
    fs::write(&journal, text).unwrap();
    fs::write(dir.path().join("in/z.pdf"), document(1)).unwrap();
    let said = run_in(dir.path(), &ONE_WORKER);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("1 written, 2 kept"), "{}", said.stdout);
    assert_eq!(lines(&dir.path().join("out/manifest.jsonl")).len(), 3);
    assert!(!journal.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_is_killed_from_outside_is_replaced() {
    let dir = folder(&[("in/a.pdf", endless()), ("in/b.pdf", document(2))]);
    let run = vlft()
        .current_dir(dir.path())
        .args(ONE_WORKER)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let busy = |id: &String| {
        // User time in clock ticks is the 14th field; the endless page burns it.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.split_whitespace()
            .nth(13)
            .and_then(|t| t.parse::<u64>().ok())
            .is_some_and(|t| t > 30)
    };
    until("a worker is busy", || children_of(&run).iter().any(busy));
    let worker = children_of(&run).remove(0);
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &worker])
            .status()
            .unwrap()
            .success()
    );
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("in/a.pdf, page 1: the worker process died (signal: 9"),
        "{stderr}"
    );
    assert_eq!(lines(&dir.path().join("out/manifest.jsonl")).len(), 2);
}

#[test]
fn two_runs_into_one_directory_do_not_mix() {
    let dir = folder(&[("in/a.pdf", endless())]);
    let args = ["rasterize", "in", "--out", "out", "--timeout-secs", "300"];
    // Which of them is first nobody knows; the other one ends at once.
    let mut runs = [(); 2].map(|()| {
        let mut run = vlft();
        run.current_dir(dir.path()).args(args);
        run.stderr(Stdio::piped()).spawn().unwrap()
    });
    let mut ended = None;
    until("one has ended", || {
        ended = (0..2).find(|i| runs[*i].try_wait().unwrap().is_some());
        ended.is_some()
    });
    let ended = ended.unwrap();
    runs[1 - ended].kill().unwrap();
    runs[1 - ended].wait().unwrap();
    assert_eq!(runs[ended].wait().unwrap().code(), Some(2));
    let mut said = String::new();
    let stderr = runs[ended].stderr.as_mut().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(
        said.contains("another `vlft rasterize` is writing here"),
        "{said}"
    );
}
