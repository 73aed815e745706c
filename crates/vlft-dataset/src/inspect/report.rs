//! What was seen. The counts reconcile: documents found = inspected + rejected, and the pages of the
//! inspected ones = those of each verdict + unknown + rejected + not asked for.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use vlft_base::Diagnostic;
use vlft_base::format::{count, grouped, one_line};

use crate::manifest::{PageContent, Verdict, VisionReason};
use crate::pdf::{InspectedPage, Reject, reject};

/// The result of [`super::inspect`].
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub found: u64,
    pub inspected: u64,
    pub rejected: u64,
    /// Documents of each verdict.
    pub documents_by_verdict: BTreeMap<Verdict, u64>,
    /// Documents that need a model that looks.
    pub need_vision: u64,
    pub pages: Pages,
    /// Sorted by name.
    pub documents: Vec<Document>,
    /// Sorted by document and page.
    pub rejects: Vec<Reject>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// Of the inspected documents.
    pub found: u64,
    pub by_verdict: BTreeMap<Verdict, u64>,
    pub need_vision: u64,
    /// Pages whose content pdfium cannot tell.
    pub unknown: u64,
    pub rejected: u64,
    pub not_asked: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// Relative to the deepest directory that holds all inputs, with `/`.
    pub document: String,
    pub pages: u32,
    /// `None` when the content of no page is known.
    pub verdict: Option<Verdict>,
    /// `None` when no page was inspected.
    pub needs_vision: Option<bool>,
    /// Why it needs one, over all pages.
    pub reasons: Vec<VisionReason>,
    pub needed_password: bool,
    /// The pages that could be read and were asked for.
    pub inspected: Vec<InspectedPage>,
}

impl Document {
    pub(super) fn new(
        document: String,
        pages: u32,
        needed_password: bool,
        mut inspected: Vec<InspectedPage>,
    ) -> Self {
        inspected.sort_by_key(|page| page.page);
        let contents = || inspected.iter().filter_map(|page| page.content.as_ref());
        let mut reasons: Vec<VisionReason> =
            contents().flat_map(PageContent::vision_reasons).collect();
        reasons.sort_unstable();
        reasons.dedup();
        Self {
            document,
            pages,
            verdict: Verdict::of_pages(contents().map(|content| content.verdict)),
            // What pdfium could not read, somebody has to look at.
            needs_vision: (!inspected.is_empty())
                .then(|| !reasons.is_empty() || contents().count() < inspected.len()),
            reasons,
            needed_password,
            inspected,
        }
    }

    /// `1-2 born-digital, 3 scanned` where pages differ, else the reasons.
    fn notes(&self) -> String {
        let mut notes = Vec::new();
        let verdicts: Vec<(u32, Option<Verdict>)> = self
            .inspected
            .iter()
            .map(|page| {
                (
                    page.page,
                    page.content.as_ref().map(|content| content.verdict),
                )
            })
            .collect();
        if verdicts.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            notes.push(runs(&verdicts));
        }
        notes.extend(self.reasons.iter().map(ToString::to_string));
        if self.inspected.iter().any(|page| page.content.is_none()) {
            notes.push("pages that pdfium cannot read".to_owned());
        }
        if self.inspected.iter().any(|page| page.rotation != 0) {
            notes.push("turned pages".to_owned());
        }
        if self.needed_password {
            notes.push("opened with a password".to_owned());
        }
        notes.join(", ")
    }
}

/// `pages 1-2 born-digital, 3 scanned`; at most a few of them.
fn runs(verdicts: &[(u32, Option<Verdict>)]) -> String {
    const SHOWN: usize = 4;
    let mut runs: Vec<(u32, u32, Option<Verdict>)> = Vec::new();
    for &(page, verdict) in verdicts {
        match runs.last_mut() {
            Some((_, last, seen)) if *seen == verdict && *last + 1 == page => *last = page,
            _ => runs.push((page, page, verdict)),
        }
    }
    let mut written: Vec<String> = runs
        .iter()
        .take(SHOWN)
        .map(|(first, last, verdict)| {
            let pages = match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            };
            format!("{pages} {}", name(*verdict))
        })
        .collect();
    if runs.len() > SHOWN {
        written.push("and so on".to_owned());
    }
    format!("pages {}", written.join(", "))
}

fn name(verdict: Option<Verdict>) -> String {
    verdict.map_or_else(|| "unknown".to_owned(), |verdict| verdict.to_string())
}

impl Report {
    pub(super) fn new(found: u64, mut documents: Vec<Document>, mut rejects: Vec<Reject>) -> Self {
        documents.sort_by(|a, b| a.document.cmp(&b.document));
        rejects.sort_by(|a, b| (&a.document, a.page).cmp(&(&b.document, b.page)));
        let mut by_verdict: BTreeMap<Verdict, u64> = BTreeMap::new();
        let mut pages = Pages::default();
        for document in &documents {
            if let Some(verdict) = document.verdict {
                *by_verdict.entry(verdict).or_default() += 1;
            }
            pages.found += u64::from(document.pages);
            pages.not_asked += u64::from(document.pages) - document.inspected.len() as u64;
            for page in &document.inspected {
                let Some(content) = &page.content else {
                    pages.unknown += 1;
                    pages.need_vision += 1;
                    continue;
                };
                *pages.by_verdict.entry(content.verdict).or_default() += 1;
                pages.need_vision += u64::from(!content.vision_reasons().is_empty());
            }
        }
        pages.rejected = rejects.iter().filter(|r| r.page.is_some()).count() as u64;
        pages.not_asked = pages.not_asked.saturating_sub(pages.rejected);
        Self {
            found,
            inspected: documents.len() as u64,
            rejected: found - documents.len() as u64,
            documents_by_verdict: by_verdict,
            need_vision: documents
                .iter()
                .filter(|d| d.needs_vision == Some(true))
                .count() as u64,
            pages,
            documents,
            rejects,
        }
    }

    /// What could not be inspected, as one message; `None` when all could.
    pub fn problem(&self) -> Option<Diagnostic> {
        if self.rejects.is_empty() {
            return None;
        }
        let pages = count(self.pages.rejected, "page");
        let of_all = format!("of {}", count(self.found, "document"));
        let message = match (self.rejected, self.pages.rejected) {
            (rejected, 0) => format!("{rejected} {of_all} could not be inspected"),
            (0, _) => format!("{pages} could not be inspected"),
            (rejected, _) => {
                format!("{rejected} {of_all} could not be inspected, nor {pages} of others")
            }
        };
        Some(reject::listed(
            Diagnostic::error(message),
            &self.rejects,
            None,
        ))
    }
}

/// Names are cut in the table, never in `--format json`.
const NAME_CHARS: usize = 48;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .documents
            .iter()
            .map(|d| shortened(&one_line(&d.document)))
            .collect();
        let longest = names.iter().map(|name| name.chars().count()).max();
        let width = longest.unwrap_or(0);
        let width = width.clamp("document".len(), NAME_CHARS);
        if !self.documents.is_empty() {
            writeln!(
                f,
                "{:width$}  pages  verdict           vision  notes",
                "document"
            )?;
        }
        for (document, shown) in self.documents.iter().zip(&names) {
            let vision = match document.needs_vision {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            };
            let line = format!(
                "{shown:width$}  {:>5}  {:16}  {vision:6}  {}",
                document.pages,
                name(document.verdict),
                document.notes()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.documents.is_empty() {
            writeln!(f)?;
        }
        writeln!(
            f,
            "documents  {} found: {} inspected, {} rejected",
            grouped(self.found),
            grouped(self.inspected),
            grouped(self.rejected)
        )?;
        let by_verdict = &self.documents_by_verdict;
        if !by_verdict.is_empty() {
            writeln!(f, "           {}", verdicts(by_verdict))?;
        }
        let pages = &self.pages;
        let mut parts = vec![verdicts(&pages.by_verdict)];
        for (number, what) in [
            (pages.unknown, "unknown"),
            (pages.rejected, "rejected"),
            (pages.not_asked, "not asked for"),
        ] {
            if number > 0 {
                parts.push(format!("{} {what}", grouped(number)));
            }
        }
        parts.retain(|part| !part.is_empty());
        writeln!(
            f,
            "pages      {}: {}",
            grouped(pages.found),
            parts.join(", ")
        )?;
        writeln!(
            f,
            "vision     {} of {} and {} of {} need a model that looks",
            grouped(self.need_vision),
            count(self.inspected, "document"),
            grouped(pages.need_vision),
            count(pages.found - pages.rejected - pages.not_asked, "page"),
        )
    }
}

fn verdicts(counts: &BTreeMap<Verdict, u64>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(verdict, number)| format!("{} {verdict}", grouped(*number)))
        .collect();
    parts.join(", ")
}

/// The end of a name tells more than its beginning, and both more than the middle.
fn shortened(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= NAME_CHARS {
        return name.to_owned();
    }
    let half = (NAME_CHARS - 1) / 2;
    let start: String = chars[..NAME_CHARS - 1 - half].iter().collect();
    let end: String = chars[chars.len() - half..].iter().collect();
    format!("{start}\u{2026}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shortened("short.pdf"), "short.pdf");
        let long = format!("{}-C (1).pdf", "x".repeat(100));
        let cut = shortened(&long);
        assert_eq!(cut.chars().count(), NAME_CHARS);
        assert!(cut.ends_with("-C (1).pdf") && cut.starts_with("xx"));
    }

    #[test]
    fn pages_of_one_kind_are_named_together() {
        let scanned = Some(Verdict::Scanned);
        let digital = Some(Verdict::BornDigital);
        assert_eq!(
            runs(&[(1, digital), (2, digital), (3, scanned), (4, None)]),
            "pages 1-2 born-digital, 3 scanned, 4 unknown"
        );
        let many: Vec<_> = (1..20)
            .map(|page| (page, if page % 2 == 0 { scanned } else { digital }))
            .collect();
        assert!(runs(&many).ends_with("4 scanned, and so on"));
    }
}
