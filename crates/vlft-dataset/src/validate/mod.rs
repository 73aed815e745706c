//! `validate`: every problem of a JSONL file in one pass, in the order of the lines. Lines are read
//! as a stream and looked at in parallel (`batches`); what is remembered of each is some 80 bytes
//! (`copies`, `twins`), so the file may be larger than memory.
//!
//! The rules are listed in [`crate::rules::RULES`]; [`crate::structure`] holds those about turns
//! and texts, `images` and `target` those about images and answers.

mod copies;
mod fix;
pub mod image_file;
mod images;
mod report;
mod target;
mod twins;

use std::mem;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vlft_base::Result;
use vlft_base::output::Existing;

use crate::batches;
use crate::image_path::base_of;
use crate::json;
use crate::jsonl::{self, Block, Blocks, Line, shown};
use crate::known_pages::Nearby;
use crate::problem::{Finding, Problem};
use crate::record::{Record, Role};
use crate::rules::{Rule, Section, Selection};
use crate::seen::hash;
use crate::structure;
use crate::token_counter::{TokenCount, TokenCounter};
use copies::{Copies, Prompts};
pub use fix::Fixed;
use fix::Fixer;
use images::{ImageIds, ImageRules};
pub use report::{Summary, Tokens};
use target::TargetRules;
use twins::{Twin, Twins};

/// What to look at, and how closely.
#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    pub decode: Decode,
    pub rules: Selection,
    /// A JSON Schema that every answer must satisfy.
    pub target_schema: Option<PathBuf>,
    /// Only with a token counter.
    pub max_tokens: Option<usize>,
    /// Where to write the records that are valid, or were made so.
    pub fix_out: Option<PathBuf>,
    pub existing: Existing,
    /// Count what would be written, and write nothing.
    pub dry_run: bool,
}

/// How closely images are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// To the last pixel: finds files that were cut short or damaged.
    Full,
    /// Kind and size only.
    Header,
    /// That the file is there.
    None,
}

impl Decode {
    fn name(self) -> &'static str {
        match self {
            Decode::Full => "full",
            Decode::Header => "header",
            Decode::None => "none",
        }
    }
}

/// Looks at every record and tells `sink` each problem, in the order of the lines. `progress` hears
/// how many bytes have been read. Ok also when there are problems; see [`Summary::is_valid`].
pub fn validate(
    options: &Options,
    counter: Option<&dyn TokenCounter>,
    sink: &mut dyn FnMut(Problem),
    progress: &dyn Fn(u64),
) -> Result<Summary> {
    validate_in_pieces(jsonl::PIECE_BYTES, options, counter, sink, progress)
}

/// [`validate`], reading about so many bytes at once. What is told is the same whatever their number; with
/// one byte every line is looked at alone.
#[doc(hidden)]
pub fn validate_in_pieces(
    piece_bytes: usize,
    options: &Options,
    counter: Option<&dyn TokenCounter>,
    sink: &mut dyn FnMut(Problem),
    progress: &dyn Fn(u64),
) -> Result<Summary> {
    let file = shown(&options.file);
    let rules = &options.rules;
    let checker = Checker {
        base: base_of(&options.file),
        rules,
        images: ImageRules::new(base_of(&options.file), options.decode, rules),
        target: TargetRules::new(options.target_schema.as_deref())?,
        control_tokens: counter
            .map(|counter| counter.control_tokens())
            .unwrap_or_default(),
        counter,
        max_tokens: options.max_tokens,
        keeps_records: options.fix_out.is_some(),
    };
    let fixer = Fixer::create(options)?;
    let mut blocks = Blocks::open(&options.file, piece_bytes)?;
    let mut so_far = SoFar {
        fixer,
        copies: Copies::new(&options.file)?,
        twins: Twins::default(),
        summary: Summary::new(&file),
        read: 0,
    };
    batches::each(
        || blocks.next(),
        |block| -> Vec<Checked> {
            let lines = (0..block.len()).into_par_iter();
            let check =
                |near: &mut Nearby, line| check_line(block.line(line), &checker, &file, near);
            lines.map_init(Nearby::default, check).collect()
        },
        |block, checked| {
            const SOON: usize = 32;
            for (part, checked) in checked.chunks_mut(SOON).enumerate() {
                let ids = checked
                    .iter()
                    .filter_map(|checked| Some(checked.known.as_ref()?.id));
                let prompts = checked
                    .iter()
                    .flat_map(|checked| checked.prompts.iter().copied());
                so_far.copies.bring(ids, prompts);
                for (line, checked) in checked.iter_mut().enumerate() {
                    let line = part * SOON + line;
                    so_far.take(block, line, checked, &checker, &file, sink)?;
                }
            }
            so_far.read += block.byte_len();
            progress(so_far.read);
            Ok(())
        },
    )?;
    let SoFar {
        fixer,
        mut copies,
        twins,
        mut summary,
        ..
    } = so_far;
    if summary.records == 0 {
        return Err(jsonl::no_records(&options.file));
    }
    copies.forget();
    for twin in twins.find(rules, |take| checker.images.each_look(take)) {
        let problem = told(twin, &mut copies, &checker, &file)?;
        summary.count(&problem);
        for problem in summary.arranged(vec![problem]) {
            sink(problem);
        }
    }
    if let Some(fixer) = fixer {
        summary.fixed = Some(fixer.commit()?);
    }
    Ok(summary)
}

/// What is known of all lines so far.
struct SoFar {
    fixer: Option<Fixer>,
    copies: Copies,
    twins: Twins,
    summary: Summary,
    /// In bytes.
    read: u64,
}

impl SoFar {
    /// Compares the next line with those before, and tells its problems.
    fn take(
        &mut self,
        block: &Block,
        line: usize,
        checked: &mut Checked,
        checker: &Checker<'_>,
        file: &str,
        sink: &mut dyn FnMut(Problem),
    ) -> Result<()> {
        let rules = checker.rules;
        self.copies.line(block.number(line), block.offset(line));
        compare(block, line, checked, &mut self.copies, checker, file)?;
        if let Some(known) = &checked.known
            && (rules.has(Rule::DuplicateImage) || rules.has(Rule::NearImage))
        {
            let number = block.number(line);
            self.twins.add(known.document, number, &checked.images);
        }
        checked.problems.retain(|problem| rules.has(problem.rule));
        if let Some(fixer) = &mut self.fixer {
            fixer.line(checked, checker)?;
        }
        self.summary.add(checked);
        if !checked.problems.is_empty() {
            for problem in self.summary.arranged(mem::take(&mut checked.problems)) {
                sink(problem);
            }
        }
        Ok(())
    }
}

/// The rules that need the lines before this one.
fn compare(
    block: &Block,
    line: usize,
    checked: &mut Checked,
    copies: &mut Copies,
    checker: &Checker<'_>,
    file: &str,
) -> Result<()> {
    let Some(known) = &checked.known else {
        return Ok(());
    };
    let mut again = Again::new(block, line);
    let number = block.number(line);
    if checker.rules.has(Rule::DuplicateId)
        && let Some(first) = copies.same_id(&mut again, known.id, number)?
        && let Some((text, record)) = again.record()
    {
        let twice = jsonl::duplicate_id(&record.id, first, file, number, text);
        checked.problems.push(twice.of_record(&record.id));
    }
    if !checked.prompts.is_empty() {
        let known = |record: &Record| checker.images.ids(record);
        let (images, prompts) = (&checked.images, &checked.prompts);
        let found = copies.same_prompt(&mut again, images, prompts, number, &known)?;
        if let Some((text, record)) = again.record().filter(|_| !found.is_empty()) {
            let place = |finding| Problem::of(finding, file, number, text).of_record(&record.id);
            checked.problems.extend(found.into_iter().map(place));
        }
    }
    Ok(())
}

/// The record of a line, parsed once more when somebody wants it: few do, and to keep all of them from
/// one thread for another costs more than everything else.
struct Again<'a> {
    block: &'a Block,
    line: usize,
    parsed: Option<Option<(&'a str, Record)>>,
}

impl<'a> Again<'a> {
    fn new(block: &'a Block, line: usize) -> Self {
        Self {
            block,
            line,
            parsed: None,
        }
    }

    /// With its line. `None` when it is none, which is not so of a line that was one before.
    fn record(&mut self) -> Option<(&'a str, &Record)> {
        let parsed = self.parsed.get_or_insert_with(|| {
            let line = self.block.line(self.line).ok()?;
            let record = jsonl::parse(line.text, "", line.number).ok()?;
            Some((line.text, record))
        });
        parsed.as_ref().map(|(text, record)| (*text, record))
    }
}

/// The message for an image that is there twice. Its line is read again for its name.
fn told(twin: Twin, copies: &mut Copies, checker: &Checker<'_>, file: &str) -> Result<Problem> {
    let mut named = |line: u64, path: u64| -> Result<Option<(String, String, Vec<json::Step>)>> {
        Ok(copies.record(line)?.and_then(|(text, record)| {
            let (image, at) = checker.images.named(&record, path)?;
            Some((text, image, at))
        }))
    };
    let first = named(twin.first_line, twin.first_path)?;
    let first = first.map_or_else(
        || "another image".to_owned(),
        |(_, image, _)| format!("`{image}`"),
    );
    let (text, image, at) = named(twin.line, twin.path)?.unwrap_or_default();
    let what = match twin.rule {
        Rule::DuplicateImage => "has the same bytes as",
        _ => "looks the same as",
    };
    let line = twin.first_line;
    let mut message = format!("image `{image}` {what} {first} in line {line}, of another document");
    let hint = if twin.documents > crate::split::COMMON {
        message += &format!("; so do the images of {} documents in all", twin.documents);
        "the back of a form is fine; it is told once"
    } else {
        "one document under two names? `vlft split` keeps them together"
    };
    Ok(Problem::of(
        Finding::new(twin.rule, at, message).hint(hint),
        file,
        twin.line,
        &text,
    ))
}

/// What was found on one line.
pub(crate) struct Checked {
    pub(crate) problems: Vec<Problem>,
    /// For who writes records; for the others it would only be in the way.
    record: Option<Record>,
    /// `None` for an empty line and for a line that is no record.
    known: Option<Known>,
    is_empty_line: bool,
    had_byte_order_mark: bool,
    tokens: Option<TokenCount>,
    images: ImageIds,
    /// See [`copies::prompts`]; empty when nobody asks.
    prompts: Prompts,
}

/// What tells a record from those before it.
struct Known {
    /// The hash of its id.
    id: u64,
    /// See [`twins::document`].
    document: u32,
}

impl Checked {
    pub(crate) fn is_valid(&self) -> bool {
        !self.problems.iter().any(Problem::is_error)
    }
}

fn check_line(
    line: std::result::Result<Line<&str>, Box<Problem>>,
    checker: &Checker<'_>,
    file: &str,
    near: &mut Nearby,
) -> Checked {
    let mut checked = Checked {
        problems: Vec::new(),
        record: None,
        known: None,
        is_empty_line: false,
        had_byte_order_mark: false,
        tokens: None,
        images: ImageIds::new(),
        prompts: Prompts::new(),
    };
    let line = match line {
        Ok(line) => line,
        Err(problem) => {
            checked.problems.push(*problem);
            return checked;
        }
    };
    if line.had_byte_order_mark {
        let message = "the file starts with a byte order mark";
        let problem = Problem::new(Rule::ByteOrderMark, file, line.number, message);
        checked
            .problems
            .push(problem.hint("save the file as UTF-8 without BOM"));
        checked.had_byte_order_mark = true;
    }
    if line.is_empty() {
        let problem = Problem::new(Rule::EmptyLine, file, line.number, "the line is empty");
        checked.problems.push(problem);
        checked.is_empty_line = true;
        return checked;
    }
    match jsonl::parse(line.text, file, line.number) {
        Ok(record) => {
            let found = checker.record(&record, near);
            let place =
                |finding| Problem::of(finding, file, line.number, line.text).of_record(&record.id);
            checked
                .problems
                .extend(found.findings.into_iter().map(place));
            if checker.rules.has(Rule::ConflictingAnswers)
                || checker.rules.has(Rule::DuplicateRecord)
            {
                checked.prompts = copies::prompts(&record, &found.images);
            }
            checked.images = found.images;
            checked.tokens = found.tokens;
            checked.known = Some(Known {
                id: hash(&record.id),
                document: twins::document(&record),
            });
            checked.record = checker.keeps_records.then_some(record);
        }
        Err(problems) => checked.problems.extend(problems),
    }
    checked
}

/// All rules that look at one record.
pub(crate) struct Checker<'a> {
    base: &'a Path,
    rules: &'a Selection,
    images: ImageRules<'a>,
    target: TargetRules,
    counter: Option<&'a dyn TokenCounter>,
    /// Of the model's tokenizer.
    control_tokens: Vec<String>,
    max_tokens: Option<usize>,
    /// Somebody will want them after they were looked at.
    keeps_records: bool,
}

/// What was found in one record.
pub(crate) struct Found {
    pub(crate) findings: Vec<Finding>,
    images: ImageIds,
    tokens: Option<TokenCount>,
}

impl Checker<'_> {
    pub(crate) fn record(&self, record: &Record, near: &mut Nearby) -> Found {
        let asked = |section| self.rules.any_of(section);
        let mut findings: Vec<Finding> = Vec::new();
        if asked(Section::Turns) || asked(Section::Texts) || asked(Section::Schema) {
            findings.extend(structure::check_id(record));
            findings.extend(structure::check(record));
        }
        let mut images = ImageIds::new();
        if asked(Section::Images) || asked(Section::Copies) {
            let (found, ids) = self.images.check(record, near);
            findings.extend(found);
            images = ids;
        }
        if asked(Section::Answers) {
            findings.extend(self.target.check(record));
        }
        if self.rules.has(Rule::SpecialToken) && !self.control_tokens.is_empty() {
            let known = findings
                .iter()
                .any(|finding| finding.rule == Rule::SpecialToken);
            let found = structure::check_control_tokens(record, &self.control_tokens);
            findings.extend(found.filter(|_| !known));
        }
        findings.retain(|finding| self.rules.has(finding.rule));
        // A record that is broken already would only be said to be broken again.
        let broken = findings
            .iter()
            .any(|f| f.rule.severity() == vlft_base::Severity::Error);
        let tokens = match self.counter {
            Some(counter) if !broken && asked(Section::Tokens) => {
                self.count(record, counter, &mut findings)
            }
            _ => None,
        };
        Found {
            findings,
            images,
            tokens,
        }
    }

    fn count(
        &self,
        record: &Record,
        counter: &dyn TokenCounter,
        findings: &mut Vec<Finding>,
    ) -> Option<TokenCount> {
        use vlft_base::format::grouped;
        match counter.count(record, self.base) {
            Ok(count) => {
                if let Some(limit) = self.max_tokens.filter(|limit| count.total > *limit) {
                    let message = format!(
                        "{} tokens ({} from {} images), limit {}",
                        grouped(count.total as u64),
                        grouped(count.image as u64),
                        count.images.len(),
                        grouped(limit as u64)
                    );
                    findings.push(Finding::new(Rule::TooLong, [], message).hint(
                        "lower `data.max_pixels`, raise `data.max_tokens`, or leave it out with `--fix-out`",
                    ));
                }
                findings.extend(answers_changed(record, counter));
                Some(count)
            }
            Err(error) => {
                findings.push(Finding::new(Rule::Uncountable, [], error.to_string()));
                None
            }
        }
    }
}

/// What the trained tokens spell, beside what the answers say.
fn answers_changed(record: &Record, counter: &dyn TokenCounter) -> Vec<Finding> {
    // An error is one of counting too, which was told.
    let Ok(learned) = counter.learned(record) else {
        return Vec::new();
    };
    let answers = record.messages.iter().enumerate();
    let answers = answers.filter(|(_, message)| message.role == Role::Assistant);
    answers
        .zip(learned)
        .filter_map(|((index, message), learned)| {
            let answer = message.text();
            if learned == answer {
                return None;
            }
            let same = answer.chars().zip(learned.chars()).take_while(|(a, b)| a == b).count();
            let rest = |text: &str| -> String { text.chars().skip(same).take(20).collect() };
            let what = format!(
                "the tokens that are trained on spell another answer: `{}` instead of `{}` at character {}",
                rest(&learned).escape_debug(),
                rest(&answer).escape_debug(),
                same + 1
            );
            let path = ["messages".into(), index.into(), "content".into()];
            Some(Finding::new(Rule::AnswerChanged, path, what).hint(
                "the tokenizer composes letters and accents (Unicode NFC): write the answer so",
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests;
