//! The workers here are shell scripts that speak the protocol and then misbehave.

use super::*;
use crate::manifest::{ImageFormat, Resolution};
use crate::pdfium::{Library, Source};

/// A worker for documents of five pages. It knows the pages that are through by counting the
/// commas in `skip`, and does with the next page what the name of the document says.
const SCRIPT: &str = r#"
    read -r setup; echo '"ready"'
    while read -r job; do
        skip=${job##*\"skip\":}; commas=$(printf %s "$skip" | tr -cd , | wc -c)
        case $skip in '[]}') next=1 ;; *) next=$((commas + 2)) ;; esac
        echo '{"opened":{"pages":5,"needed_password":false}}'
        while [ $next -le 5 ]; do
            echo "{\"at\":{\"page\":$next}}"
            case $job in
                *\"document\":\"crash*) echo 'out of luck' >&2; kill -TRAP $$ ;;
                *\"document\":\"hang*) exec sleep 600 ;;
                *\"document\":\"babble*) echo hello ;;
                *\"document\":\"full*) echo '{"fatal":{"message":"cannot write file or directory","path":"p","cause":"no space","hint":null}}' ;;
                *\"document\":\"second*) [ $next = 2 ] && kill -KILL $$ ;;
            esac
            echo "{\"page_failed\":{\"page\":$next,\"rule\":\"page\",\"reason\":\"as told\"}}"
            next=$((next + 1))
        done
        echo '"done"'
    done"#;

fn setup() -> Setup {
    Setup {
        library: Some(Library {
            path: "x".into(),
            source: Source::Cache,
            build: None,
            passed_over: None,
        }),
        task: Task::Draw(Drawing {
            out: "out".into(),
            resolution: Resolution::Dpi(72),
            format: ImageFormat::Png,
        }),
        selected: None,
        passwords: Vec::new(),
        memory_bytes: u64::MAX,
    }
}

fn shell(script: &str) -> WorkerProgram {
    WorkerProgram {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
    }
}

/// What becomes of each page (`None`: of the document), as "rule: reason".
type Seen = Vec<(String, Option<u32>, String)>;

/// With more time than a loaded machine needs.
fn run(program: &WorkerProgram, documents: &[&str], size: usize) -> Result<Seen> {
    run_within(Duration::from_secs(60), program, documents, size)
}

fn run_within(
    timeout: Duration,
    program: &WorkerProgram,
    documents: &[&str],
    size: usize,
) -> Result<Seen> {
    let jobs = documents.iter().map(|document| Job {
        document: (*document).to_owned(),
        source: "s.pdf".to_owned(),
        stem: "s".to_owned(),
        known: None,
        skip: Vec::new(),
    });
    let setup = setup();
    let crew = Crew {
        program,
        setup: &setup,
        size,
        timeout,
    };
    let mut seen = Vec::new();
    let mut finished = 0;
    crew.work(jobs.collect(), |event| {
        match event {
            Event::Page(_) | Event::Inspected(..) => panic!("these workers draw nothing"),
            Event::PageRejected(r) => {
                seen.push((r.document, r.page, format!("{:?}: {}", r.rule, r.reason)));
            }
            Event::Finished(f) => {
                finished += 1;
                seen.extend(f.reject.map(|r| (r.document, r.page, r.reason)));
            }
        }
        Ok(())
    })?;
    assert_eq!(finished, documents.len());
    seen.sort();
    Ok(seen)
}

#[test]
fn a_page_that_kills_its_worker_costs_only_itself() {
    let seen = run(&shell(SCRIPT), &["second", "well"], 1).unwrap();
    let of = |document: &str| -> Vec<&str> {
        seen.iter()
            .filter(|s| s.0 == document)
            .map(|s| s.2.as_str())
            .collect()
    };
    assert_eq!(of("well"), ["Page: as told"; 5]);
    assert_eq!(of("second").len(), 5);
    assert!(of("second")[1].contains("signal: 9"), "{:?}", of("second"));
    assert_eq!(of("second")[2], "Page: as told");
}

#[test]
fn a_document_is_given_up_after_three_workers() {
    let seen = run(&shell(SCRIPT), &["crash"], 2).unwrap();
    let pages: Vec<_> = seen.iter().map(|s| s.1).collect();
    assert_eq!(pages, [Some(1), Some(2), Some(3), Some(4), Some(5)]);
    for (_, _, reason) in &seen[..3] {
        assert!(
            reason.contains("signal: 5") && reason.ends_with("out of luck"),
            "{reason}"
        );
    }
    assert!(seen[3].2.contains("not tried"), "{}", seen[3].2);
}

#[test]
fn silence_and_babble_end_a_worker() {
    // Three workers fall silent one after the other; what they say before must not take longer.
    let timeout = Duration::from_secs(4);
    let seen = run_within(timeout, &shell(SCRIPT), &["babble", "hang"], 2).unwrap();
    assert_eq!(seen.len(), 10);
    assert_eq!(seen[0].2, "Crash: the worker said `hello`");
    assert_eq!(seen[5].2, "Timeout: not done after 4 s");
}

#[test]
fn what_stops_one_worker_for_good_stops_the_run() {
    let error = run(&shell(SCRIPT), &["full", "well", "well", "well"], 1).unwrap_err();
    assert_eq!(error.causes(), ["no space"]);
}

#[test]
fn a_program_that_is_no_worker_is_an_error_not_a_loop() {
    for (program, expected) in [
        (shell("echo oops >&2; exit 3"), "exit status: 3"),
        (shell("echo hello"), "the worker said `hello`"),
        (
            WorkerProgram {
                program: "/nonexistent".into(),
                args: Vec::new(),
            },
            "No such file",
        ),
    ] {
        let error = run(&program, &["well"], 2).unwrap_err();
        assert_eq!(error.message(), "cannot start a worker process");
        assert!(error.causes()[0].contains(expected), "{error}");
    }
}
