//! The page of `stats --html`: one file that opens from a disk, with everything in it. It stays
//! pleasant with ten thousand records because
//! - the browser builds fifty rows at a time, from numbers that stand in the file as JSON;
//! - thumbnails are small JPEGs whose total has a bound ([`THUMBNAIL_BYTES`]): with more images each
//!   is smaller, and when the bound is reached the rest, the least conspicuous records, have none;
//! - they stand in inert `<script>` elements that are taken apart when a row is shown;
//! - beyond [`Options::records`] only the worst records are on the page, and it says so.
//!
//! What is worst first: `judge`. The look: `page.css`, the behaviour: `page.js`.

mod findings;
mod judge;
mod rows;
mod thumbnail;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::Result;
use vlft_base::format::escape_html;
use vlft_base::output::{Existing, PartialFile, cannot};

use super::near::{self, Near};
use super::report::StatsReport;
use super::{Stage, Step, Whole};
use crate::image_path::base_of;
use crate::lineage::Lineage;
use crate::perceptual::PageHash;
use findings::Findings;
use thumbnail::Thumbnails;

/// The page to write.
#[derive(Clone, Debug)]
pub struct Options {
    pub out: PathBuf,
    pub existing: Existing,
    /// At most so many records are on the page.
    pub records: usize,
    /// Answers that do not satisfy it are marked.
    pub target_schema: Option<PathBuf>,
    /// Make the page, but leave nothing on the disk.
    pub dry_run: bool,
}

/// What the page holds.
#[derive(Clone, Debug, Serialize)]
pub struct PageReport {
    pub out: String,
    pub records: u64,
    pub thumbnails: u64,
    pub bytes: u64,
    pub errors: u64,
    pub warnings: u64,
    /// It is not there: it only would be.
    pub dry_run: bool,
}

/// All thumbnails of a page together, before base64 makes a third more of them.
const THUMBNAIL_BYTES: usize = 24 << 20;
/// Thumbnails in one inert element.
const CHUNK: usize = 128;

const SHELL: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");

/// What `page.js` finds under `data`.
#[derive(Serialize)]
struct Data<'a> {
    report: &'a StatsReport,
    version: &'static str,
    /// On the page, of all records and broken lines.
    shown: usize,
    of: usize,
    errors: u64,
    warnings: u64,
    chunk: usize,
    without_thumbnail: usize,
    rules: Vec<rows::RuleRow>,
    prompts: Vec<String>,
    images: Vec<rows::ImageRow>,
    rows: Vec<rows::Row>,
}

pub(super) fn write(
    whole: &Whole<'_>,
    file: &Path,
    options: &Options,
    progress: &(dyn Fn(Step) + Sync),
) -> Result<(PageReport, Near)> {
    let findings = Findings::of(file, options.target_schema.as_deref(), &|done, of| {
        progress(Step {
            stage: Stage::Checking,
            done,
            of,
        });
    })?;
    let mut judged = judge::worst_first(whole, &findings);
    let of = judged.len();
    judged.truncate(options.records);
    let images = judge::images(whole.dataset, &judged);
    let mut thumbnails = Thumbnails::new(images.len());
    let paths = images
        .iter()
        .map(|i| whole.dataset.images[*i as usize].path.as_path());
    thumbnails.draw(&paths.collect::<Vec<_>>(), &|done, of| {
        progress(Step {
            stage: Stage::Drawing,
            done,
            of,
        });
    });
    let looks: HashMap<u32, PageHash> = images
        .iter()
        .zip(&thumbnails.hashes)
        .filter_map(|(image, hash)| Some((*image, (*hash)?)))
        .collect();
    let near = near::find(whole.dataset, whole.contents, &looks);
    judge::mark_near(whole.dataset, &mut judged, &near);
    let drawn: HashMap<u32, u32> = images
        .iter()
        .zip(&thumbnails.of_image)
        .filter_map(|(image, thumbnail)| Some((*image, (*thumbnail)?)))
        .collect();
    let gathered = rows::gather(whole.dataset, &judged, file, base_of(&options.out), &drawn)?;
    let data = Data {
        report: whole.report,
        version: env!("CARGO_PKG_VERSION"),
        shown: judged.len(),
        of,
        errors: findings.errors,
        warnings: findings.warnings,
        chunk: CHUNK,
        without_thumbnail: thumbnails.of_image.iter().filter(|t| t.is_none()).count(),
        rules: gathered.rules,
        prompts: gathered.prompts,
        images: gathered.images,
        rows: gathered.rows,
    };
    let bytes = match options.dry_run {
        true => render(&mut std::io::sink(), &data, &thumbnails.base64),
        false => {
            let mut out = PartialFile::create(&options.out, options.existing)?;
            let lineage = lineage_of(file, options)?;
            let bytes = render(&mut out, &data, &thumbnails.base64);
            if bytes.is_ok() {
                out.commit()?;
                lineage
                    .output("page", &options.out)?
                    .save_beside(&options.out)?;
            }
            bytes
        }
    }
    .map_err(|e| cannot("write", &options.out, e))?;
    let report = PageReport {
        out: crate::jsonl::shown(&options.out),
        records: data.shown as u64,
        thumbnails: thumbnails.base64.len() as u64,
        bytes,
        errors: findings.errors,
        warnings: findings.warnings,
        dry_run: options.dry_run,
    };
    Ok((report, near))
}

fn lineage_of(file: &Path, options: &Options) -> Result<Lineage> {
    let lineage = Lineage::new("stats")
        .option("records", options.records)
        .input("records", file)?;
    match &options.target_schema {
        Some(schema) => lineage.input("target-schema", schema),
        None => Ok(lineage),
    }
}

/// Writes the page and returns its length.
fn render(out: &mut impl Write, data: &Data<'_>, thumbnails: &[String]) -> std::io::Result<u64> {
    let title = escape_html(&data.report.file);
    let mut written = 0;
    let mut put = |text: &str| {
        written += text.len() as u64;
        out.write_all(text.as_bytes())
    };
    let mut rest = SHELL;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("the shell is a constant");
        put(before)?;
        match name {
            "title" => put(&title)?,
            "css" => put(CSS)?,
            "js" => put(JS)?,
            "data" => {
                // Inside a script element only `<` could end it.
                let json = serde_json::to_string(data).map_err(std::io::Error::other)?;
                put(&json.replace('<', "\\u003c"))?;
            }
            "thumbnails" => {
                for chunk in thumbnails.chunks(CHUNK) {
                    put("<script type=\"text/plain\" class=\"thumbnails\">")?;
                    put(&chunk.join("\n"))?;
                    put("</script>\n")?;
                }
            }
            other => unreachable!("the shell names `{other}`"),
        }
        rest = after;
    }
    put(rest)?;
    Ok(written)
}

#[cfg(test)]
mod tests;
