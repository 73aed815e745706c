//! Any bytes as a JSONL file: lines, records, and what is wrong with them, at a place inside.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vlft_dataset::jsonl::{Lines, parse};
use vlft_dataset::structure;

fuzz_target!(|bytes: &[u8]| {
    for line in Lines::new(bytes, Path::new("f.jsonl")) {
        let Ok(Ok(line)) = line else { continue };
        match parse(&line.text, "f.jsonl", line.number) {
            Ok(record) => {
                let _ = structure::check(&record);
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                let end = line.text.chars().count() as u64 + 1;
                for problem in problems {
                    let column = problem.column.unwrap_or(1);
                    assert!((1..=end).contains(&column), "{problem}");
                }
            }
        }
    }
});
