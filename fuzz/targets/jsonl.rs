//! Any bytes as a JSONL file: lines, records, and what is wrong with them, at a place inside. `validate`
//! says the same of it however its bytes are cut into blocks and with any number of threads, and of lines,
//! keys, turns and texts what a plain loop over the lines says.
#![no_main]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_dataset::jsonl::{Lines, parse};
use vlft_dataset::problem::Problem;
use vlft_dataset::rules::{Rule, Section, Selection};
use vlft_dataset::structure;
use vlft_dataset::validate::{Decode, Options, validate_in_pieces};

fuzz_target!(|bytes: &[u8]| {
    let slow = line_by_line(bytes);
    let file = WORK.path().join("f.jsonl");
    fs::write(&file, bytes).expect("the folder for it is there");
    let (one, error) = validated(&file, 1, 1);
    let (many, other) = validated(&file, 1 + bytes.len() % 61, 3);
    let (whole, third) = validated(&file, 2 << 20, 3);
    assert_eq!(error, other);
    assert_eq!(error, third);
    if error.is_none() {
        assert_eq!(one, many);
        assert_eq!(one, whole);
    } else {
        // The block with the line that ends it is not looked at.
        assert!(one.starts_with(&many), "{one:?}\n{many:?}");
        assert!(many.starts_with(&whole), "{many:?}\n{whole:?}");
    }
    assert_eq!(slow.ends_early || slow.records == 0, error.is_some());
    let mut found: Vec<Told> = one.into_iter().filter(|told| is_plain(told.2)).collect();
    found.sort();
    assert_eq!(slow.found, found);
});

static WORK: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("TMPDIR can be written"));

static POOLS: LazyLock<HashMap<usize, ThreadPool>> = LazyLock::new(|| {
    let pool = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        (threads, pool.expect("threads can be started"))
    };
    HashMap::from([1, 3].map(pool))
});

/// Line, column, rule, message.
type Told = (u64, Option<u64>, Rule, String);

fn told(problem: Problem) -> Told {
    (problem.line, problem.column, problem.rule, problem.message)
}

/// Everything that `validate` says, and the error that it ends with.
fn validated(file: &Path, piece_bytes: usize, threads: usize) -> (Vec<Told>, Option<String>) {
    let options = Options {
        file: file.to_path_buf(),
        decode: Decode::None,
        rules: Selection::default(),
        target_schema: None,
        max_tokens: None,
        fix_out: None,
        existing: Existing::Refuse,
        dry_run: false,
    };
    POOLS[&threads].install(|| {
        let mut all = Vec::new();
        let mut sink = |problem| all.push(told(problem));
        let result = validate_in_pieces(piece_bytes, &options, None, &mut sink, &|_| {});
        if let Ok(summary) = &result {
            assert_eq!(summary.records, summary.valid + summary.invalid);
        }
        (all, result.err().map(|error| error.to_string()))
    })
}

/// Of the rules that need nothing but the file.
fn is_plain(rule: Rule) -> bool {
    use Section::{Lines, Schema, Texts, Turns};
    [Lines, Schema, Turns, Texts].contains(&rule.about().section)
}

struct Slow {
    /// Sorted.
    found: Vec<Told>,
    /// Lines that are not empty.
    records: u64,
    ends_early: bool,
}

fn line_by_line(bytes: &[u8]) -> Slow {
    let mut slow = Slow {
        found: Vec::new(),
        records: 0,
        ends_early: false,
    };
    let mut ids: HashMap<String, u64> = HashMap::new();
    for line in Lines::new(bytes, Path::new("f.jsonl")) {
        let line = match line {
            Ok(Ok(line)) => line,
            Ok(Err(problem)) => {
                slow.records += 1;
                slow.found.push(told(problem));
                continue;
            }
            Err(_) => {
                slow.ends_early = true;
                break;
            }
        };
        let number = line.number;
        if line.had_byte_order_mark {
            let message = "the file starts with a byte order mark".to_owned();
            slow.found
                .push((number, None, Rule::ByteOrderMark, message));
        }
        if line.is_empty() {
            let message = "the line is empty".to_owned();
            slow.found.push((number, None, Rule::EmptyLine, message));
            continue;
        }
        slow.records += 1;
        let record = match parse(&line.text, "f.jsonl", number) {
            Ok(record) => record,
            Err(problems) => {
                assert!(!problems.is_empty());
                let end = line.text.chars().count() as u64 + 1;
                for problem in problems {
                    let column = problem.column.unwrap_or(1);
                    assert!((1..=end).contains(&column), "{problem}");
                    slow.found.push(told(problem));
                }
                continue;
            }
        };
        let findings = structure::check_id(&record)
            .into_iter()
            .chain(structure::check(&record));
        for finding in findings {
            slow.found
                .push(told(Problem::of(finding, "f.jsonl", number, &line.text)));
        }
        match ids.get(&record.id) {
            None => drop(ids.insert(record.id.clone(), number)),
            Some(first) => {
                let message = format!("id `{}` is already used in line {first}", record.id);
                let column = vlft_dataset::json::offset_of(&line.text, &["id".into()]);
                let column = column.map(|at| vlft_dataset::json::column(&line.text, at));
                slow.found
                    .push((number, column, Rule::DuplicateId, message));
            }
        }
    }
    slow.found.sort();
    slow
}
