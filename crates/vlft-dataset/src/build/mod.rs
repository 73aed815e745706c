//! `build-jsonl`: rows of labels and page images become records. All rows with one document name
//! form one record with all pages of that document; the assistant's text is the target JSON and
//! nothing else. What cannot be built without guessing is rejected with its reason, so that
//! documents in = records + rejected.
//!
//! The road: [`mapping`] says what to read, `labels` reads the rows, `images` finds the pages,
//! `matching` joins names to pages (exactly or by an explained step of `names`, never by prefix),
//! `target` makes the answer.

mod images;
mod labels;
pub mod mapping;
mod matching;
mod names;
mod nearest;
mod reject;
mod report;
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vlft_base::output::{Existing, cannot, check_file};
use vlft_base::paths::not_an_input;
use vlft_base::{Diagnostic, Kind, Result, did_you_mean, one_of};

use crate::image_path::{Relative, base_of};
use crate::jsonl::{Writer, shown};
use crate::record::{Message, Meta, Part, Record, Role};
use images::{Images, Reading};
use labels::Row;
use mapping::Mapping;
use matching::Match;
use nearest::Nearest;

pub use names::Step as MatchStep;
pub use report::{BuildReport, Reason, Reject, Rejected, What};
use target::Target;

/// What to build from what.
#[derive(Clone, Debug)]
pub struct Options {
    /// `results.json`, JSONL, CSV, or a directory with one JSON file per document.
    pub labels: PathBuf,
    /// Directories of page images; the first that has a document gives its pages.
    pub images: Vec<PathBuf>,
    pub mapping: PathBuf,
    pub out: PathBuf,
    pub existing: Existing,
}

/// `data/all.jsonl` -> `data/all.rejects.jsonl`
pub fn rejects_path(out: &Path) -> PathBuf {
    out.with_extension("rejects.jsonl")
}

/// The files that are read, as far as an output could be one of them.
fn inputs(options: &Options) -> Vec<PathBuf> {
    let mut inputs = vec![options.labels.clone(), options.mapping.clone()];
    // With one JSON file per document, any of them.
    inputs.extend(
        options
            .out
            .file_name()
            .map(|name| options.labels.join(name)),
    );
    inputs.extend(options.images.iter().map(|dir| dir.join("manifest.jsonl")));
    inputs
}

/// Builds the records. Ok also when documents were rejected; see [`BuildReport::is_clean`].
pub fn build(options: &Options) -> Result<BuildReport> {
    let rejects_path = rejects_path(&options.out);
    for out in [&options.out, &rejects_path] {
        not_an_input("--out", out, inputs(options).iter().map(PathBuf::as_path))?;
        check_file(out, options.existing)?;
    }
    let mapping = Mapping::read(&options.mapping)?;
    let rows = labels::read(&options.labels)?;
    if rows.is_empty() {
        return Err(Diagnostic::error("the labels have no rows")
            .at(&options.labels)
            .with_kind(Kind::NothingToDo));
    }
    check_inputs(&mapping, &rows, options)?;
    let images = images::index(&options.images)?;
    let (documents, nameless) = group(&mapping, &rows);
    let names: Vec<String> = documents.iter().map(|d| d.name.clone()).collect();
    let matches = matching::assign(&names, &images);

    let base = base_of(&options.out);
    std::fs::create_dir_all(base).map_err(|e| cannot("create", base, e))?;
    let mut relative = Relative::to(base)?;
    let mut built = Built::new(&rows, &nameless, &images, unused_columns(&mapping, &rows));
    let mut nearest = Nearest::new(images.readings.iter().map(|r| r.name.as_str()));
    let mut records = Vec::new();
    for (document, found) in documents.iter().zip(&matches) {
        let target = target::target(&mapping, &document.rows);
        match (target, found) {
            (Ok(target), Match::Found { reading, step }) => {
                let reading = &images.readings[*reading];
                let pages = page_paths(reading, &images, &mut relative)?;
                records.push(record(&mapping, document, &target, reading, *step, pages));
                built.add_record(&target, reading, *step);
            }
            (target, found) => {
                let faults = target.err().unwrap_or_default();
                let reject =
                    reject::document(document, faults, found, &names, &images, &mut nearest);
                built.add_reject(reject);
            }
        }
    }
    let wanted = matches
        .iter()
        .flat_map(|found| found.files(&images))
        .collect();
    built.add_unused_images(&images, &wanted);
    built.write(records, options, &rejects_path)
}

/// The rows of one document.
pub(crate) struct Document<'a> {
    /// As the labels name it.
    pub(crate) name: String,
    pub(crate) rows: Vec<&'a Row>,
}

/// Groups rows by document, in the order of their first rows. Rows without a name come back apart.
fn group<'a>(mapping: &Mapping, rows: &'a [Row]) -> (Vec<Document<'a>>, Vec<&'a Row>) {
    let mut documents: Vec<Document<'a>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut nameless = Vec::new();
    for row in rows {
        let Some(name) = document_name(mapping, row) else {
            nameless.push(row);
            continue;
        };
        let index = *known.entry(name.clone()).or_insert(documents.len());
        if index == documents.len() {
            documents.push(Document {
                name,
                rows: Vec::new(),
            });
        }
        documents[index].rows.push(row);
    }
    (documents, nameless)
}

/// The document that a row belongs to; a JSON file per document may also just be named like it.
fn document_name(mapping: &Mapping, row: &Row) -> Option<String> {
    let cell = row.values.get(&mapping.document).unwrap_or(&Value::Null);
    let name = match cell {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    if name.is_empty() || mapping.null.contains(&name) {
        row.file_stem.clone()
    } else {
        Some(name)
    }
}

/// Everything that can be known to be wrong before a name is compared: folders that are not there,
/// and columns of the mapping that no row has, which is a mistake in the mapping and no missing value.
fn check_inputs(mapping: &Mapping, rows: &[Row], options: &Options) -> Result<()> {
    let folders = options
        .images
        .iter()
        .filter_map(|root| images::missing(root));
    let problems = folders.chain(missing_columns(mapping, rows, options));
    match Diagnostic::all(problems) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn missing_columns(mapping: &Mapping, rows: &[Row], options: &Options) -> Option<Diagnostic> {
    let known: BTreeSet<&str> = rows
        .iter()
        .flat_map(|r| r.values.keys().map(String::as_str))
        .collect();
    let named_by_file = rows.iter().all(|r| r.file_stem.is_some());
    let mut missing: Vec<&str> = Vec::new();
    for column in mapping.columns() {
        let is_there = known.contains(column) || (named_by_file && column == mapping.document);
        if !is_there && !missing.contains(&column) {
            missing.push(column);
        }
    }
    let quoted: Vec<String> = missing.iter().map(|column| format!("`{column}`")).collect();
    let message = match missing.len() {
        0 => return None,
        _ if known.is_empty() => {
            return Some(
                Diagnostic::error("the labels have no columns: every row is empty")
                    .at(&options.labels)
                    .expected(format!("columns such as {}", quoted[0])),
            );
        }
        1 => format!("no row of the labels has a column {}", quoted[0]),
        _ => format!("no row of the labels has the columns {}", quoted.join(", ")),
    };
    let problem = Diagnostic::error(message)
        .at(&options.mapping)
        .at(&options.labels)
        .expected(one_of(known.iter().copied()));
    let near = missing.iter().find_map(|column| {
        let near = did_you_mean(column, known.iter().copied())?;
        Some((column, near))
    });
    Some(match near {
        Some((_, near)) if missing.len() == 1 => problem.hint(format!("did you mean `{near}`?")),
        Some((column, near)) => problem.hint(format!("did you mean `{near}` for `{column}`?")),
        None => problem,
    })
}

fn unused_columns(mapping: &Mapping, rows: &[Row]) -> Vec<String> {
    let read: BTreeSet<&str> = mapping.columns().into_iter().collect();
    let mut unused: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for column in rows.iter().flat_map(|r| r.values.keys()) {
        if seen.insert(column.as_str()) && !read.contains(column.as_str()) {
            unused.push(column.clone());
        }
    }
    unused
}

fn page_paths(reading: &Reading, images: &Images, relative: &mut Relative) -> Result<Vec<String>> {
    reading
        .files
        .iter()
        .map(|file| relative.path(&images.files[*file]))
        .collect()
}

/// The id is the document's name as the labels write it: readable, unique because rows are grouped
/// by it, and the same however many other documents there are.
fn record(
    mapping: &Mapping,
    document: &Document<'_>,
    target: &Target,
    reading: &Reading,
    step: MatchStep,
    pages: Vec<String>,
) -> Record {
    let text = |role, text: &str| Message {
        role,
        content: vec![Part::Text(text.to_owned())],
    };
    let mut messages = Vec::new();
    if let Some(system) = &mapping.prompt.system {
        messages.push(text(Role::System, system));
    }
    let mut user = text(Role::User, &mapping.prompt.user);
    user.content
        .splice(0..0, pages.into_iter().map(Part::Image));
    messages.push(user);
    messages.push(text(Role::Assistant, &target.value.to_string()));

    let mut meta = Meta::new();
    meta.insert("document".into(), json!(document.name));
    // A set that starts at 0 is numbered like the document: from 1.
    meta.insert(
        "pages".into(),
        json!((1..=reading.pages.len()).collect::<Vec<_>>()),
    );
    if let Some(doc_type) = &mapping.doc_type {
        meta.insert("doc_type".into(), json!(doc_type));
    }
    if let Some(sha256) = &reading.source_sha256 {
        meta.insert("source_sha256".into(), json!(sha256));
    }
    meta.insert("matched_by".into(), json!(step));
    Record {
        id: document.name.clone(),
        messages,
        meta: Some(meta),
    }
}

/// Everything that is counted while records are made.
struct Built {
    report: BuildReport,
    rejects: Vec<Reject>,
    used: BTreeSet<usize>,
}

impl Built {
    fn new(rows: &[Row], nameless: &[&Row], images: &Images, unused_columns: Vec<String>) -> Self {
        let mut built = Self {
            report: BuildReport {
                rows: rows.len() as u64,
                documents: 0,
                records: 0,
                rejected: 0,
                rows_without_document: nameless.len() as u64,
                merged_rows: 0,
                pages: 0,
                matched_by: BTreeMap::new(),
                reasons: BTreeMap::new(),
                images: (images.files.len() + images.unnameable.len()) as u64,
                unused_images: 0,
                unused_columns,
                out: None,
                rejects: None,
            },
            rejects: Vec::new(),
            used: BTreeSet::new(),
        };
        for row in nameless {
            built.count_reject(reject::row(row));
        }
        built
    }

    fn add_record(&mut self, target: &Target, reading: &Reading, step: MatchStep) {
        self.report.documents += 1;
        self.report.records += 1;
        self.report.merged_rows += target.merged_rows;
        self.report.pages += reading.files.len() as u64;
        *self.report.matched_by.entry(step).or_default() += 1;
        self.used.extend(&reading.files);
    }

    fn add_reject(&mut self, reject: Reject) {
        self.report.documents += 1;
        self.report.rejected += 1;
        self.count_reject(reject);
    }

    fn count_reject(&mut self, reject: Reject) {
        let example = match &reject.name {
            Some(name) => format!("`{name}`: {}", reject.detail),
            None => reject.detail.clone(),
        };
        let counted = self.report.reasons.entry(reject.reason);
        counted.or_insert(Rejected { count: 0, example }).count += 1;
        self.rejects.push(reject);
    }

    /// `wanted` are the files that some label matched, used or not.
    fn add_unused_images(&mut self, images: &Images, wanted: &BTreeSet<usize>) {
        let unused = (0..images.files.len()).filter(|file| !self.used.contains(file));
        let mut unused: Vec<Reject> = unused
            .map(|file| reject::image(&images.files[file], wanted.contains(&file)))
            .collect();
        unused.extend(
            images
                .unnameable
                .iter()
                .map(|name| reject::unnameable(name)),
        );
        self.report.unused_images = unused.len() as u64;
        self.rejects.append(&mut unused);
    }

    /// Writes the records, and the rejects if there are any. The rejects first: records without
    /// their rejects would look complete.
    fn write(
        mut self,
        records: Vec<Record>,
        options: &Options,
        rejects_path: &Path,
    ) -> Result<BuildReport> {
        if !self.rejects.is_empty() {
            let mut writer = Writer::create(rejects_path, options.existing)?;
            self.rejects
                .iter()
                .try_for_each(|reject| writer.write(reject))?;
            writer.commit()?;
            self.report.rejects = Some(shown(rejects_path));
        } else if rejects_path.exists() {
            // `--force` over an earlier, worse run: its rejects are no longer true.
            std::fs::remove_file(rejects_path).map_err(|e| cannot("remove", rejects_path, e))?;
        }
        if !records.is_empty() {
            let mut writer = Writer::create(&options.out, options.existing)?;
            records.iter().try_for_each(|record| writer.write(record))?;
            writer.commit()?;
            self.report.out = Some(shown(&options.out));
        }
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests;
