//! What `validate` says, by line. Images are judged by their headers; those whose pixels are broken
//! show when their thumbnails are drawn.

use std::collections::HashMap;
use std::path::Path;

use vlft_base::Result;
use vlft_base::output::Existing;

use crate::problem::Problem;
use crate::validate::{self, Decode};

pub(super) struct Findings {
    pub(super) by_line: HashMap<u64, Vec<Problem>>,
    pub(super) errors: u64,
    pub(super) warnings: u64,
}

/// More of one line say nothing new.
const MOST_OF_A_LINE: usize = 12;

impl Findings {
    pub(super) fn of(
        file: &Path,
        target_schema: Option<&Path>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Self> {
        let mut findings = Self {
            by_line: HashMap::new(),
            errors: 0,
            warnings: 0,
        };
        let length = std::fs::metadata(file).map_or(0, |file| file.len());
        let options = validate::Options {
            file: file.to_owned(),
            decode: Decode::Header,
            rules: crate::rules::Selection::default(),
            target_schema: target_schema.map(Path::to_owned),
            max_tokens: None,
            fix_out: None,
            existing: Existing::Refuse,
            dry_run: true,
        };
        let mut take = |problem: Problem| {
            match problem.is_error() {
                true => findings.errors += 1,
                false => findings.warnings += 1,
            }
            let of_line = findings.by_line.entry(problem.line).or_default();
            if of_line.len() < MOST_OF_A_LINE {
                of_line.push(problem);
            }
        };
        validate::validate(&options, None, &mut take, &|done| progress(done, length))?;
        Ok(findings)
    }
}
