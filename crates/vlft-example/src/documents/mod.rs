//! The example: synthetic bills of lading as a person would find them in a folder, with the labels
//! that somebody typed beside them. See `README.md` in this folder, which goes with the files.

mod archive;
mod bill;
pub mod container_number;
mod file_names;
mod labels;
mod layout;
mod plan;
mod showcase;
mod smallest;
mod vocabulary;

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;
use vlft_base::Result;
use vlft_base::output::{Existing, PartialDir, cannot};

pub use showcase::showcase;
pub use smallest::{PROMPT, write_smallest};

use self::bill::Bill;
use self::file_names::{FileName, Names};
use self::plan::{Form, Plan};
use crate::dice::Dice;
use crate::page::scan::{Scan, Scanner, scan};
use crate::page::{Page, pdf};

/// The folder of PDFs, the labels and the zips inside the output.
pub const PDF_FOLDER: &str = "pdfs";
pub const LABELS: &str = "results.json";
pub const ARCHIVES: [&str; 2] = ["page-images-1.zip", "page-images-2.zip"];

/// With fewer documents not every form is there, and a zip would be empty.
pub const FEWEST: usize = plan::PERIOD;

#[derive(Clone, Debug)]
pub struct Options {
    /// At least [`FEWEST`], or some of the files are missing.
    pub documents: usize,
    pub seed: u64,
    pub existing: Existing,
}

/// The committed set in `examples/bill-of-lading`.
impl Default for Options {
    fn default() -> Self {
        Self {
            documents: 48,
            seed: 2017,
            existing: Existing::Refuse,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub documents: usize,
    /// PDFs with a text layer.
    pub born_digital: usize,
    /// PDFs of page images.
    pub scanned: usize,
    /// Documents that exist only as images in a zip.
    pub page_images_only: usize,
    pub pages: usize,
    /// Rows of `results.json`, one per container.
    pub rows: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} documents ({} born digital, {} scanned, {} as page images only), {} pages, {} label rows",
            self.documents,
            self.born_digital,
            self.scanned,
            self.page_images_only,
            self.pages,
            self.rows
        )
    }
}

/// Writes the example into the new folder `out`. Equal options give equal bytes everywhere.
///
/// # Errors
/// If `out` exists and may not be replaced, or cannot be written.
pub fn generate(options: &Options, out: &Path) -> Result<Summary> {
    let folder = PartialDir::create(out, options.existing)?;
    let pdfs = folder.path().join(PDF_FOLDER);
    fs::create_dir(&pdfs).map_err(|e| cannot("create", &pdfs, e))?;

    let mut summary = Summary {
        documents: options.documents,
        ..Summary::default()
    };
    let mut names = Names::default();
    let mut rows = Vec::new();
    let mut archives: [Vec<(String, Vec<u8>)>; 2] = Default::default();
    for index in 0..options.documents {
        let document = Document::draw(index, options.seed, &mut names);
        summary.pages += document.pages.len();
        rows.push(labels::rows(index, &document.bill, &document.name));
        let pdf = match &document.plan.form {
            Form::BornDigital => {
                summary.born_digital += 1;
                Some(pdf::born_digital(
                    &document.pages,
                    "Liner Documentation System 4.2",
                ))
            }
            Form::Scanned(scanner) => {
                summary.scanned += 1;
                let size = (document.pages[0].width, document.pages[0].height);
                let scans = document.scans(scanner, options.seed);
                Some(pdf::scanned(&scans, size, "Office Scanner MX-2640"))
            }
            Form::PageImages(scanner) => {
                let archive = &mut archives[summary.page_images_only % 2];
                summary.page_images_only += 1;
                let scans = document.scans(scanner, options.seed);
                archive.extend(page_images(index, &document.name, scans));
                None
            }
        };
        if let Some(bytes) = pdf {
            write(&pdfs.join(document.name.full()), &bytes)?;
        }
    }

    let rows = as_somebody_sorted_them(rows, &mut Dice::new(options.seed, LABEL_ORDER));
    summary.rows = rows.len();
    write(&folder.path().join(LABELS), &labels::to_json(&rows))?;
    for (name, entries) in ARCHIVES.iter().zip(&archives) {
        if !entries.is_empty() {
            write(&folder.path().join(name), &archive::pack(entries)?)?;
        }
    }
    write(
        &folder.path().join("README.md"),
        include_bytes!("README.md"),
    )?;
    folder.commit()?;
    Ok(summary)
}

/// The answers to `count` documents of a seed, as JSON in the shape of
/// `schemas/bill-of-lading.schema.json`: text for the tiny tokenizer to learn from.
pub(crate) fn answers(seed: u64, count: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            let mut facts = Dice::new(seed, 4 * index as u64 + FACTS);
            let plan = plan::plan(index, &mut facts);
            labels::answer(&Bill::draw(plan.containers, &mut facts)).to_string()
        })
        .collect()
}

/// Random streams: four per document, and one for the order of the labels.
const FACTS: u64 = 0;
const LOOKS: u64 = 1;
const SCAN: u64 = 2;
const NAME: u64 = 3;
const LABEL_ORDER: u64 = u64::MAX;

struct Document {
    index: usize,
    plan: Plan,
    bill: Bill,
    name: FileName,
    pages: Vec<Page>,
}

impl Document {
    fn draw(index: usize, seed: u64, names: &mut Names) -> Self {
        let dice = |purpose| Dice::new(seed, 4 * index as u64 + purpose);
        let mut facts = dice(FACTS);
        let plan = plan::plan(index, &mut facts);
        let bill = Bill::draw(plan.containers, &mut facts);
        let pages = plan.layout.pages(&bill, &mut dice(LOOKS));
        let name = names.give(index, &bill, &mut dice(NAME));
        Self {
            index,
            plan,
            bill,
            name,
            pages,
        }
    }

    fn scans(&self, scanner: &Scanner, seed: u64) -> Vec<Scan> {
        let mut dice = Dice::new(seed, 4 * self.index as u64 + SCAN);
        self.pages
            .iter()
            .map(|page| scan(page, scanner, &mut dice))
            .collect()
    }
}

/// `NAME_single_page.jpg`, or `NAME_1.jpg`, `NAME_2.jpg`, ..: the exporter had its moods.
fn page_images(index: usize, name: &FileName, scans: Vec<Scan>) -> Vec<(String, Vec<u8>)> {
    let stem = &name.stem;
    let folder = if index % 4 == 3 { "export/" } else { "" };
    let extension = if index % 8 == 1 { "JPG" } else { "jpg" };
    let single = scans.len() == 1 && index % 24 != 11;
    scans
        .into_iter()
        .enumerate()
        .map(|(i, scan)| {
            let entry = if single {
                format!("{folder}{stem}_single_page.{extension}")
            } else {
                format!("{folder}{stem}_{}.{extension}", i + 1)
            };
            (entry, scan.jpeg)
        })
        .collect()
}

/// Documents in no order, and the last rows of one document at the very end, as if they had been
/// forgotten first.
fn as_somebody_sorted_them(
    mut documents: Vec<Vec<labels::Row>>,
    dice: &mut Dice,
) -> Vec<labels::Row> {
    dice.shuffle(&mut documents);
    let forgotten = documents
        .iter_mut()
        .find(|rows| rows.len() >= 4)
        .map(|rows| rows.split_off(rows.len() - 2));
    let mut rows: Vec<labels::Row> = documents.into_iter().flatten().collect();
    rows.extend(forgotten.into_iter().flatten());
    rows
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|e| cannot("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::layout::LAYOUTS;
    use super::*;
    use crate::page::Mark;

    /// All text of the pages, white space and dashes taken out: `ABCU 123456-7` is a number too.
    fn text_of(pages: &[Page]) -> String {
        let marks = pages.iter().flat_map(|page| &page.marks);
        let texts = marks.filter_map(|mark| match mark {
            Mark::Text { text, .. } => Some(text.as_str()),
            Mark::Line { .. } | Mark::Shape { .. } => None,
        });
        squeezed(&texts.collect::<String>())
    }

    fn squeezed(text: &str) -> String {
        text.chars().filter(|c| !" -".contains(*c)).collect()
    }

    /// Layouts also assert in debug builds that nothing leaves its box.
    #[test]
    fn every_label_can_be_read_off_the_pages() {
        for index in 0..240u64 {
            let layout = LAYOUTS[index as usize % 4];
            let containers = [1, 2, 3, 7, 8, 10, 11, 12, 13, 28, 29, 40][index as usize / 4 % 12];
            let bill = Bill::draw(containers, &mut Dice::new(5, index));
            let pages = layout.pages(&bill, &mut Dice::new(6, index));
            assert!(
                (1..=4).contains(&pages.len()),
                "{layout:?}: {} pages",
                pages.len()
            );
            let text = text_of(&pages);
            let mut facts = vec![
                bill.number.clone(),
                bill.consignee.name.to_owned(),
                bill.loading.to_owned(),
                bill.discharge.to_owned(),
                bill.vessel.to_owned(),
            ];
            facts.extend(bill.containers.iter().map(|c| c.number.clone()));
            facts.extend(bill.free_time.sentences());
            for fact in facts {
                assert!(
                    text.contains(&squeezed(&fact)),
                    "{layout:?} {index}: `{fact}` is missing"
                );
            }
        }
    }

    #[test]
    fn nothing_is_drawn_outside_the_paper() {
        for index in 0..48u64 {
            let bill = Bill::draw(1 + index as usize % 14, &mut Dice::new(7, index));
            for page in LAYOUTS[index as usize % 4].pages(&bill, &mut Dice::new(8, index)) {
                for mark in &page.marks {
                    let Mark::Text {
                        x, y, style, text, ..
                    } = mark
                    else {
                        continue;
                    };
                    assert!(*x >= 0 && x + style.width(text) <= page.width, "`{text}`");
                    assert!(*y >= 0 && *y <= page.height, "`{text}`");
                }
            }
        }
    }
}
