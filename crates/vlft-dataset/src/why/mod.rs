//! `vlft why`: where a record came from, followed back through the lineage files: the splits and
//! conversions it went through, the rows of the labels and the mapping that made it, and its page
//! images with their PDFs or zips. Everything on the way is compared with what is there now.

mod labels;
mod origin;
mod report;

use std::path::{Path, PathBuf};

use vlft_base::{Diagnostic, Kind, Result};

use crate::image_path::{base_of, find, shown_short};
use crate::jsonl::{Lines, parse, shown};
use crate::lineage::{Lineage, Now, beside, place_of};
use crate::record::Record;
use origin::Origins;

pub use labels::LabelRow;
pub use origin::Origin;
pub use report::{Image, Input, Stage, Why};

#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    /// An id, or `:N` for the record in line N.
    pub which: String,
}

/// How often one file may be made from another: a loop of lineage files must end.
const MOST_STAGES: usize = 20;

/// Follows one record back.
///
/// # Errors
/// A file that cannot be read, an id that is not in it.
pub fn why(options: &Options) -> Result<Why> {
    let (line, record) = record_of(&options.file, &options.which)?;
    let mut why = Why::new(shown(&options.file), line, &record);
    let mut origins = Origins::default();
    let mut file = options.file.clone();
    let mut line = Some(line);
    loop {
        let Some(lineage) = Lineage::of(&file)? else {
            why.ends_without_lineage = Some(shown_short(&file));
            break;
        };
        let base = base_of(&place_of(&file)).to_path_buf();
        let stage = stage(&file, line, &lineage, &base)?;
        // A file that somebody put beside the outputs of a command is none of them.
        let is_foreign = stage.now.is_none() && !lineage.outputs.is_empty();
        if is_foreign && !beside(&file).is_file() {
            why.ends_without_lineage = Some(shown_short(&file));
            break;
        }
        if lineage.command == "build-jsonl" {
            why.labels = labels::rows(&record, &lineage, &base, &mut origins)?;
        }
        why.stages.push(stage);
        let from = lineage
            .inputs
            .iter()
            .find(|input| input.role == "records")
            .map(|input| input.place(&base));
        match from {
            Some(from) if from.is_file() && why.stages.len() < MOST_STAGES => {
                // A conversion may have left the record out of a file that holds others.
                line = record_of(&from, &record.id).ok().map(|(line, _)| line);
                file = from;
            }
            _ => break,
        }
    }
    let base = base_of(&options.file);
    for path in record.images() {
        let Some(found) = find(base, path) else {
            why.images.push(Image {
                path: path.to_owned(),
                now: Now::Gone,
                origin: Origin::Unknown,
            });
            continue;
        };
        let (now, origin) = origins.of(&found.path)?;
        why.images.push(Image {
            path: shown_short(&found.path),
            now,
            origin,
        });
    }
    Ok(why)
}

/// One lineage file: what made `file`, and how it and its inputs are now.
fn stage(file: &Path, line: Option<u64>, lineage: &Lineage, base: &Path) -> Result<Stage> {
    let here = file.canonicalize().ok();
    let own = lineage
        .outputs
        .iter()
        .find(|output| output.place(base).canonicalize().ok() == here);
    let now = own.map(|own| own.look(base)).transpose()?;
    let inputs = lineage.inputs.iter().map(|input| {
        Ok(Input {
            role: input.role.clone(),
            path: shown_short(&input.place(base)),
            now: input.look(base)?,
        })
    });
    Ok(Stage {
        command: lineage.command.clone(),
        tool: lineage.tool.clone(),
        options: lineage.options.clone(),
        file: shown_short(file),
        line,
        now,
        inputs: inputs.collect::<Result<_>>()?,
    })
}

/// The record with an id, or in a line (`:N`), and its line.
fn record_of(file: &Path, which: &str) -> Result<(u64, Record)> {
    let wanted_line = which
        .strip_prefix(':')
        .and_then(|number| number.parse::<u64>().ok());
    // Most lines are not it: only those that hold the id's text are parsed.
    let quoted = serde_json::to_string(which).expect("a text is plain data");
    let bare = which.is_ascii().then_some(quoted);
    for line in Lines::open(file)? {
        let Ok(line) = line? else { continue };
        let is_it = match wanted_line {
            Some(wanted) => line.number == wanted,
            None => bare
                .as_ref()
                .is_none_or(|id| line.text.contains(id) || line.text.contains("\\u")),
        };
        if !is_it || line.is_empty() {
            continue;
        }
        match parse(&line.text, &shown(file), line.number) {
            Ok(record) if wanted_line.is_some() || record.id == which => {
                return Ok((line.number, record));
            }
            Err(problems) if wanted_line.is_some() => {
                let problems = problems.into_iter().map(Diagnostic::from);
                return Err(Diagnostic::all(problems).expect("a refused line has a problem"));
            }
            Ok(_) | Err(_) => {}
        }
    }
    let missing = match wanted_line {
        Some(wanted) => Diagnostic::error(format!("no record in line {wanted}")),
        None => Diagnostic::error(format!("no record with the id `{which}`")),
    };
    let missing = missing.at(file).with_kind(Kind::CannotRun);
    Err(match wanted_line {
        Some(_) => missing,
        None => missing.hint(match nearest_id(file, which) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`:N` means the record in line N".to_owned(),
        }),
    })
}

/// The id that was meant, for a hint.
fn nearest_id(file: &Path, which: &str) -> Option<String> {
    let mut ids = Vec::new();
    for line in Lines::open(file).ok()? {
        let Ok(Ok(line)) = line else { continue };
        if let Ok(record) = parse(&line.text, "", line.number) {
            ids.push(record.id);
        }
    }
    vlft_base::did_you_mean(which, ids.iter().map(String::as_str)).map(str::to_owned)
}

#[cfg(test)]
mod tests;
