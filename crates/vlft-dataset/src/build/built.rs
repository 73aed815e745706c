//! The records and rejects of a run, counted and written.

use std::collections::{BTreeMap, BTreeSet};

use vlft_base::Result;
use vlft_base::output::cannot;

use super::images::Images;
use super::labels::{Labels, Row};
use super::report::{BuildReport, Reject, Rejected};
use super::target::Target;
use super::{Options, ShownPages, reject, rejects_path};
use crate::jsonl::{Writer, shown};
use crate::record::Record;

/// Everything that is counted while records are made.
pub(super) struct Built {
    pub(super) report: BuildReport,
    rejects: Vec<Reject>,
    used: BTreeSet<usize>,
}

impl Built {
    pub(super) fn new(
        labels: &Labels,
        nameless: &[&Row],
        images: &Images,
        unused_columns: Vec<String>,
    ) -> Self {
        let mut built = Self {
            report: BuildReport {
                labels: labels.kind,
                rows: labels.rows.len() as u64,
                unlabelled: labels.unlabelled.len() as u64,
                documents: 0,
                records: 0,
                rejected: 0,
                rows_without_document: nameless.len() as u64,
                merged_rows: 0,
                pages: 0,
                pages_left_out: 0,
                defaults: BTreeMap::new(),
                matched_by: BTreeMap::new(),
                reasons: BTreeMap::new(),
                images: (images.files.len() + images.unnameable.len()) as u64,
                unused_images: 0,
                unused_columns,
                findings: Vec::new(),
                out: None,
                rejects: None,
                suggestions: None,
                dry_run: false,
            },
            rejects: Vec::new(),
            used: BTreeSet::new(),
        };
        for row in nameless {
            built.count_reject(reject::row(row));
        }
        let unlabelled = labels.unlabelled.iter().map(reject::unlabelled);
        built.rejects.extend(unlabelled);
        built
    }

    pub(super) fn add_record(&mut self, target: &Target, shown: &ShownPages<'_>) {
        let report = &mut self.report;
        report.documents += 1;
        report.records += 1;
        report.merged_rows += target.merged_rows;
        report.pages += shown.pages.len() as u64;
        report.pages_left_out += (shown.reading.files.len() - shown.pages.len()) as u64;
        *report.matched_by.entry(shown.step).or_default() += 1;
        for name in &target.defaults {
            *report.defaults.entry(name.clone()).or_default() += 1;
        }
        self.used.extend(&shown.reading.files);
    }

    pub(super) fn add_reject(&mut self, reject: Reject) {
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
    pub(super) fn add_unused_images(&mut self, images: &Images, wanted: &BTreeSet<usize>) {
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
    pub(super) fn write(mut self, records: Vec<Record>, options: &Options) -> Result<BuildReport> {
        let rejects_path = &rejects_path(&options.out);
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
