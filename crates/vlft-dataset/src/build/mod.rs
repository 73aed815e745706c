//! `build-jsonl`: rows of labels and page images become records. All rows with one document name
//! form one record with all pages of that document; the assistant's text is the target JSON and
//! nothing else. What cannot be built without guessing is rejected with its reason, so that
//! documents in = records + rejected.
//!
//! The road: [`mapping`] says what to read, `labels` reads the rows, `images` finds the pages,
//! `matching` joins names to pages (by an alias, exactly, or by an explained step of `names`, never by
//! prefix), `pages` chooses among them, `target` makes the answer (`cell` by `cell`), `prompt` the
//! question.

pub mod aliases;
mod built;
mod cell;
mod images;
mod labels;
pub mod mapping;
mod matching;
mod names;
mod nearest;
mod pages;
mod prompt;
mod reject;
mod report;
mod suggest;
mod target;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vlft_base::output::{Existing, cannot, check_file};
use vlft_base::paths::not_an_input;
use vlft_base::{Diagnostic, Kind, Result, did_you_mean, one_of};

use crate::image_path::{Relative, base_of};
use crate::jsonl::shown;
use crate::lineage::{self, Lineage};
use crate::record::{Message, Meta, Part, Record, Role};
use aliases::Aliases;
use built::Built;
use images::{Images, Reading};
use labels::Row;
use mapping::Mapping;
use matching::Match;
use nearest::Nearest;
use prompt::Prompts;
use suggest::Suggestions;
use target::Target;

pub use labels::LabelsKind;
pub use names::Step as MatchStep;
pub use prompt::Finding;
pub use report::{BuildReport, Reason, Reject, Rejected, What};

/// What to build from what.
#[derive(Clone, Debug)]
pub struct Options {
    /// `results.json`, JSONL, CSV, a Label Studio export, or a directory with one JSON file per
    /// document.
    pub labels: PathBuf,
    /// Directories of page images; the first that has a document gives its pages.
    pub images: Vec<PathBuf>,
    pub mapping: PathBuf,
    /// Which pages a document has where its name does not say.
    pub aliases: Option<PathBuf>,
    pub out: PathBuf,
    pub existing: Existing,
    /// Count and report, and write nothing.
    pub dry_run: bool,
}

/// `data/all.jsonl` -> `data/all.rejects.jsonl`
pub fn rejects_path(out: &Path) -> PathBuf {
    out.with_extension("rejects.jsonl")
}

/// The files that are read, as far as an output could be one of them.
fn inputs(options: &Options) -> Vec<PathBuf> {
    let mut inputs = vec![options.labels.clone(), options.mapping.clone()];
    inputs.extend(options.aliases.clone());
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

/// None of the outputs may be an input, and those that a person named must be free.
fn check_outputs(options: &Options) -> Result<()> {
    let rejects = rejects_path(&options.out);
    let lineage = lineage::beside(&options.out);
    for out in [&options.out, &rejects, &lineage] {
        not_an_input("--out", out, inputs(options).iter().map(PathBuf::as_path))?;
    }
    suggest::check(options)?;
    check_file(&options.out, options.existing)?;
    check_file(&rejects, options.existing)
}

/// Builds the records. Ok also when documents were rejected; see [`BuildReport::is_clean`].
/// `progress` gets (documents done, documents in all).
pub fn build(options: &Options, progress: &dyn Fn(u64, u64)) -> Result<BuildReport> {
    check_outputs(options)?;
    let mapping = Mapping::read(&options.mapping)?;
    let prompts = prompt::prompts(&mapping, &options.mapping)?;
    let aliases = match &options.aliases {
        Some(path) => Aliases::read(path)?,
        None => Aliases::default(),
    };
    let labels = labels::read(&options.labels, mapping.annotations())?;
    let rows = &labels.rows;
    if rows.is_empty() && labels.unlabelled.is_empty() {
        return Err(Diagnostic::error("the labels have no rows")
            .at(&options.labels)
            .with_kind(Kind::NothingToDo));
    }
    check_inputs(&mapping, rows, options)?;
    let lineage = lineage_of(options, &prompts)?;
    let mut images = images::index(&options.images)?;
    let (documents, nameless) = group(&mapping, rows);
    let names: Vec<String> = documents.iter().map(|d| d.name.clone()).collect();
    let path = options.aliases.as_deref().unwrap_or(Path::new(""));
    let aliases = aliases.resolve(path, &names, &mut images)?;
    let matches = matching::assign(&names, &images, &aliases);

    let base = base_of(&options.out);
    if !options.dry_run {
        std::fs::create_dir_all(base).map_err(|e| cannot("create", base, e))?;
    }
    // Of a folder that is yet to be made nobody reads the paths.
    let mut relative = Relative::to(match base.is_dir() {
        true => base,
        false => Path::new("."),
    })?;
    let mut built = Built::new(&labels, &nameless, &images, unused_columns(&mapping, rows));
    built.report.findings.clone_from(&prompts.findings);
    let mut nearest = Nearest::new(images.readings.iter().map(|r| r.name.as_str()));
    let mut suggestions = Suggestions::new(&matches, &images);
    let making = Making {
        mapping: &mapping,
        prompts: &prompts,
        labels: shown(&options.labels),
    };
    let mut records = Vec::new();
    for (done, (document, found)) in documents.iter().zip(&matches).enumerate() {
        progress(done as u64, documents.len() as u64);
        let target = target::target(&mapping, &document.rows);
        let pages = match found {
            Match::Found { reading, .. } => {
                pages::chosen(&mapping, &images.readings[*reading], &document.rows)
            }
            _ => Ok(Vec::new()),
        };
        match (target, found, pages) {
            (Ok(target), Match::Found { reading, step }, Ok(pages)) => {
                let shown = ShownPages {
                    reading: &images.readings[*reading],
                    pages,
                    step: *step,
                };
                let paths = shown.paths(&images, &mut relative)?;
                records.push(making.record(document, &target, &shown, paths));
                built.add_record(&target, &shown);
            }
            (target, found, pages) => {
                let faults = target.err().unwrap_or_default();
                let mut reject = reject::document(
                    document,
                    faults,
                    pages.err(),
                    reject::Matched {
                        found,
                        labels: &names,
                        images: &images,
                    },
                    &mut nearest,
                );
                suggestions.add(&mut reject, found, &images);
                built.add_reject(reject);
            }
        }
    }
    let wanted = matches
        .iter()
        .flat_map(|found| found.files(&images))
        .collect();
    built.add_unused_images(&images, &wanted);
    if options.dry_run {
        built.report.dry_run = true;
        return Ok(built.report);
    }
    let mut report = built.write(records, options)?;
    report.suggestions = suggestions.write(options)?;
    if report.out.is_some() {
        let lineage = lineage.output("records", &options.out)?;
        lineage.save_beside(&options.out)?;
    }
    Ok(report)
}

fn lineage_of(options: &Options, prompts: &Prompts) -> Result<Lineage> {
    let mut lineage = Lineage::new("build-jsonl")
        .input("labels", &options.labels)?
        .input("mapping", &options.mapping)?;
    for (role, path) in &prompts.files {
        lineage = lineage.input(role, path)?;
    }
    if let Some(aliases) = &options.aliases {
        lineage = lineage.input("aliases", aliases)?;
    }
    let mut images = options.images.iter();
    images.try_fold(lineage, |all, dir| all.input("images", dir))
}

/// The rows of a file of labels with the lines where they start, as `meta.label_rows` counts them.
pub(crate) fn rows_of(labels: &Path) -> Result<Vec<(u64, serde_json::Map<String, Value>)>> {
    let rows = labels::read_rows(labels)?;
    Ok(rows.into_iter().map(|row| (row.line, row.values)).collect())
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

/// The pages of a document that its record shows.
pub(crate) struct ShownPages<'a> {
    pub(crate) reading: &'a Reading,
    /// Indices into the reading's files.
    pub(crate) pages: Vec<usize>,
    pub(crate) step: MatchStep,
}

impl ShownPages<'_> {
    fn paths(&self, images: &Images, relative: &mut Relative) -> Result<Vec<String>> {
        let files = self.pages.iter().map(|&page| self.reading.files[page]);
        files
            .map(|file| relative.path(&images.files[file]))
            .collect()
    }
}

/// What all records have in common.
struct Making<'a> {
    mapping: &'a Mapping,
    prompts: &'a Prompts,
    /// Where the labels are, as rows name it.
    labels: String,
}

impl Making<'_> {
    /// The id is the document's name as the labels write it: readable, unique because rows are
    /// grouped by it, and the same however many other documents there are.
    fn record(
        &self,
        document: &Document<'_>,
        target: &Target,
        shown: &ShownPages<'_>,
        paths: Vec<String>,
    ) -> Record {
        let text = |role, text: &str| Message {
            role,
            content: vec![Part::Text(text.to_owned())],
        };
        let mut messages = Vec::new();
        if let Some(system) = &self.prompts.system {
            messages.push(text(Role::System, system));
        }
        let mut user = text(Role::User, &self.prompts.user);
        user.content
            .splice(0..0, paths.into_iter().map(Part::Image));
        messages.push(user);
        messages.push(text(Role::Assistant, &target.value.to_string()));

        let mut meta = Meta::new();
        meta.insert("document".into(), json!(document.name));
        let numbers = pages::numbers(shown.reading);
        let pages: Vec<u32> = shown.pages.iter().map(|&page| numbers[page]).collect();
        meta.insert("pages".into(), json!(pages));
        if let Some(doc_type) = &self.mapping.doc_type {
            meta.insert("doc_type".into(), json!(doc_type));
        }
        if let Some(sha256) = &shown.reading.source_sha256 {
            meta.insert("source_sha256".into(), json!(sha256));
        }
        meta.insert("matched_by".into(), json!(shown.step));
        let rows = label_rows(&document.rows, &self.labels);
        meta.insert("label_rows".into(), json!(rows));
        Record {
            id: document.name.clone(),
            messages,
            meta: Some(meta),
        }
    }
}

/// `results.json:2-4,9`: the rows of a document, by their file (below the folder of labels, if it is
/// one) and the lines where they start. `vlft why` finds them again: the lineage knows the labels.
fn label_rows(rows: &[&Row], labels: &str) -> Vec<String> {
    let mut files: Vec<(&str, Vec<u64>)> = Vec::new();
    for row in rows {
        match files.iter_mut().find(|(file, _)| *file == &*row.file) {
            Some((_, lines)) => lines.push(row.line),
            None => files.push((&row.file, vec![row.line])),
        }
    }
    let name = |file: &str| -> String {
        let below = file.strip_prefix(labels).map(|f| f.trim_start_matches('/'));
        match below.filter(|f| !f.is_empty()) {
            Some(below) => below.to_owned(),
            None => file.rsplit('/').next().unwrap_or(file).to_owned(),
        }
    };
    files
        .into_iter()
        .map(|(file, mut lines)| {
            lines.sort_unstable();
            lines.dedup();
            let spans = lines.chunk_by(|a, b| a + 1 == *b).map(|span| match span {
                [only] => only.to_string(),
                [first, .., last] => format!("{first}-{last}"),
                [] => String::new(),
            });
            format!("{}:{}", name(file), spans.collect::<Vec<_>>().join(","))
        })
        .collect()
}

#[cfg(test)]
mod real_names;
#[cfg(test)]
mod tests;
