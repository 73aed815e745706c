//! What a page is made of, found without drawing it, and the verdict: does its text layer say what a
//! reader sees, or does it take a model that looks?

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fewer characters are no text layer: a page number, a stamp of the scanner.
const FEW_CHARS: u32 = 20;
/// A picture of the page: scans rarely fill it to the last row.
const COVERED: f64 = 0.8;
/// A picture that may well hold text of its own, beside a text layer.
const HALF_COVERED: f64 = 0.5;
/// Without a text layer this much picture is a scan with wide margins.
const SCAN_WITH_MARGINS: f64 = 0.3;
/// Above this share of characters without a meaning the text layer cannot be used.
const BROKEN: f64 = 0.05;

/// Facts about one page of a PDF. Text in annotations and form fields is not part of the text layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageContent {
    /// Characters of the text layer that are not white space.
    pub text_chars: u32,
    /// Those among them that nobody sees: drawn invisibly, as OCR programs do it over or under a
    /// scan, or hidden below a picture of the whole page.
    pub invisible_chars: u32,
    /// Share of the characters that mean nothing (U+FFFD, private use, control characters): the font
    /// does not say which letters its shapes are.
    pub broken_share: f64,
    pub images: u32,
    /// Share of the page that images cover, overlaps counted once.
    pub image_coverage: f64,
    /// Lines, areas and shadings; text that was turned into outlines is made of them.
    pub shapes: u32,
    /// Comments, stamps, highlights and the like; links and form fields are not counted.
    pub annotations: u32,
    pub form_fields: u32,
    pub verdict: Verdict,
}

/// What kind of page, or document, this is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its text is text.
    BornDigital,
    /// A picture of a page.
    Scanned,
    /// A picture of a page with the text that some program read from it.
    ScannedWithOcr,
    /// Text beside pictures that may hold text; of a document: pages of several kinds.
    Mixed,
    /// No text, but lines or annotations: text as outlines, a form, a drawing.
    Drawn,
    /// Nothing at all.
    Empty,
}

/// Why the text layer of a page does not do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum VisionReason {
    /// There is no text layer.
    NoText,
    /// There is one, read by a program that may have been wrong.
    Ocr,
    /// A large part of the page is pictures.
    Pictures,
    /// Characters without a meaning.
    BrokenText,
    /// Form fields or annotations, whose text is not in the text layer.
    FormsOrAnnotations,
}

impl PageContent {
    /// Sets the verdict from the facts.
    #[must_use]
    pub(crate) fn judged(mut self) -> Self {
        let visible = self.text_chars.saturating_sub(self.invisible_chars);
        let (covered, has_visible) = (self.image_coverage >= COVERED, visible >= FEW_CHARS);
        let has_hidden = self.invisible_chars >= FEW_CHARS;
        self.verdict = if !has_visible && has_hidden && self.image_coverage >= SCAN_WITH_MARGINS {
            Verdict::ScannedWithOcr
        } else if !has_visible && (covered || self.image_coverage >= SCAN_WITH_MARGINS) {
            Verdict::Scanned
        } else if has_visible && self.image_coverage >= HALF_COVERED {
            Verdict::Mixed
        } else if self.text_chars > 0 {
            Verdict::BornDigital
        } else if self.images + self.shapes + self.annotations + self.form_fields > 0 {
            Verdict::Drawn
        } else {
            Verdict::Empty
        };
        self
    }

    /// Why this page needs a model that looks; empty when its text layer does.
    pub fn vision_reasons(&self) -> Vec<VisionReason> {
        let mut reasons = Vec::new();
        match self.verdict {
            Verdict::Scanned | Verdict::Drawn => reasons.push(VisionReason::NoText),
            Verdict::ScannedWithOcr => reasons.push(VisionReason::Ocr),
            Verdict::Mixed => reasons.push(VisionReason::Pictures),
            Verdict::BornDigital | Verdict::Empty => {}
        }
        if self.broken_share > BROKEN {
            reasons.push(VisionReason::BrokenText);
        }
        if self.annotations + self.form_fields > 0 {
            reasons.push(VisionReason::FormsOrAnnotations);
        }
        reasons
    }
}

impl Verdict {
    /// Of a document with these pages. Empty pages have no say unless there are no others.
    pub fn of_pages(pages: impl IntoIterator<Item = Verdict>) -> Option<Verdict> {
        let mut all = None;
        for verdict in pages {
            all = match (all, verdict) {
                (None | Some(Verdict::Empty), verdict) => Some(verdict),
                (Some(seen), Verdict::Empty) => Some(seen),
                (Some(seen), verdict) if seen == verdict => Some(seen),
                _ => return Some(Verdict::Mixed),
            };
        }
        all
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::BornDigital => "born-digital",
            Verdict::Scanned => "scanned",
            Verdict::ScannedWithOcr => "scanned with OCR",
            Verdict::Mixed => "mixed",
            Verdict::Drawn => "drawn",
            Verdict::Empty => "empty",
        })
    }
}

impl fmt::Display for VisionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            VisionReason::NoText => "no text layer",
            VisionReason::Ocr => "text from an OCR program",
            VisionReason::Pictures => "large pictures beside the text",
            VisionReason::BrokenText => "characters without a meaning",
            VisionReason::FormsOrAnnotations => "form fields or annotations",
        })
    }
}

/// Which part of a page is covered, on a grid: overlapping pictures count once, and the strips into
/// which scanners cut a page add up. The grid is the page's box in its own coordinates.
pub(crate) struct Coverage {
    left: f64,
    bottom: f64,
    width: f64,
    height: f64,
    cells: Vec<bool>,
}

const CELLS: usize = 64;

impl Coverage {
    /// Of a page from (`left`, `bottom`) to (`right`, `top`).
    pub(crate) fn new([left, bottom, right, top]: [f64; 4]) -> Self {
        Self {
            left,
            bottom,
            width: right - left,
            height: top - bottom,
            cells: vec![false; CELLS * CELLS],
        }
    }

    /// Covers the cells whose middle lies in the box; what lies outside of the page is cut off.
    pub(crate) fn add(&mut self, [left, bottom, right, top]: [f64; 4]) {
        let columns = cells(left - self.left, right - self.left, self.width);
        for row in cells(bottom - self.bottom, top - self.bottom, self.height) {
            self.cells[row * CELLS..][columns.clone()].fill(true);
        }
    }

    /// Rounded to thousandths, so that manifests compare.
    pub(crate) fn share(&self) -> f64 {
        let covered = self.cells.iter().filter(|cell| **cell).count();
        (covered as f64 / self.cells.len() as f64 * 1000.0).round() / 1000.0
    }
}

/// The cells whose middle is between the two.
fn cells(from: f64, to: f64, length: f64) -> std::ops::Range<usize> {
    let cell = |at: f64| (at / length * CELLS as f64 + 0.5).clamp(0.0, CELLS as f64) as usize;
    // A NaN becomes 0 and covers nothing.
    cell(from)..cell(to).max(cell(from))
}

/// What a text says of a page: characters that are not white space, and the share of them that mean
/// nothing.
pub(crate) fn count_chars(text: &str) -> (u32, f64) {
    let (mut all, mut broken) = (0u32, 0u32);
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != '\0') {
        all = all.saturating_add(1);
        broken += u32::from(means_nothing(c));
    }
    let share = f64::from(broken) / f64::from(all.max(1));
    (all, (share * 1000.0).round() / 1000.0)
}

fn means_nothing(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{fffd}' | '\u{fffe}' | '\u{ffff}' | '\u{e000}'..='\u{f8ff}'
        )
        || c >= '\u{f0000}'
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn content(text_chars: u32, invisible_chars: u32, coverage: f64) -> PageContent {
        PageContent {
            text_chars,
            invisible_chars,
            broken_share: 0.0,
            images: u32::from(coverage > 0.0),
            image_coverage: coverage,
            shapes: 0,
            annotations: 0,
            form_fields: 0,
            verdict: Verdict::Empty,
        }
        .judged()
    }

    #[test]
    fn verdicts() {
        use Verdict::*;
        for (chars, invisible, coverage, expected, needs_vision) in [
            (2000, 0, 0.0, BornDigital, false),
            (2000, 0, 0.3, BornDigital, false),
            (3, 0, 0.0, BornDigital, false),
            (2000, 0, 0.6, Mixed, true),
            (2000, 0, 1.0, Mixed, true),
            (0, 0, 1.0, Scanned, true),
            // The scanner's page number.
            (12, 0, 0.95, Scanned, true),
            (0, 0, 0.4, Scanned, true),
            (1500, 1500, 1.0, ScannedWithOcr, true),
            (1510, 1500, 0.9, ScannedWithOcr, true),
            // OCR of a scan, and a digital page on top of it.
            (1600, 1500, 0.9, Mixed, true),
            (0, 0, 0.1, Drawn, true),
            (0, 0, 0.0, Empty, false),
        ] {
            let page = content(chars, invisible, coverage);
            assert_eq!(page.verdict, expected, "{chars} {invisible} {coverage}");
            assert_eq!(!page.vision_reasons().is_empty(), needs_vision);
        }
        let broken = PageContent {
            broken_share: 0.2,
            form_fields: 1,
            ..content(500, 0, 0.0)
        };
        assert_eq!(
            broken.vision_reasons(),
            [VisionReason::BrokenText, VisionReason::FormsOrAnnotations]
        );
    }

    #[test]
    fn a_document_is_what_its_pages_are() {
        use Verdict::*;
        for (pages, expected) in [
            (&[][..], None),
            (&[Scanned, Scanned], Some(Scanned)),
            (&[Empty, Scanned, Empty], Some(Scanned)),
            (&[Empty, Empty], Some(Empty)),
            (&[BornDigital, Scanned], Some(Mixed)),
            (&[Mixed, Mixed], Some(Mixed)),
        ] {
            assert_eq!(Verdict::of_pages(pages.iter().copied()), expected);
        }
    }

    #[test]
    fn coverage_is_a_union_within_the_page() {
        let share = |boxes: &[[f64; 4]]| {
            let mut coverage = Coverage::new([100.0, 0.0, 700.0, 800.0]);
            boxes.iter().for_each(|b| coverage.add(*b));
            coverage.share()
        };
        assert_eq!(share(&[]), 0.0);
        assert_eq!(share(&[[-9e9, -9e9, 9e9, 9e9]]), 1.0);
        assert_eq!(share(&[[100.0, 0.0, 400.0, 800.0]]), 0.5);
        assert_eq!(share(&[[100.0, 0.0, 400.0, 800.0]; 3]), 0.5);
        // A hundred strips are one page; none is as high as a cell.
        let strips: Vec<_> = (0..100)
            .map(|n| [100.0, f64::from(n) * 8.0, 700.0, f64::from(n + 1) * 8.0])
            .collect();
        assert_eq!(share(&strips), 1.0);
        for nothing in [
            [0.0, 0.0, 90.0, 800.0],
            [400.0, 400.0, 100.0, 0.0],
            [f64::NAN; 4],
        ] {
            assert_eq!(share(&[nothing]), 0.0, "{nothing:?}");
        }
        let mut flat = Coverage::new([0.0, 0.0, 0.0, 0.0]);
        flat.add([0.0, 0.0, 1.0, 1.0]);
        assert!(flat.share() <= 1.0);
    }

    #[test]
    fn characters_are_counted_and_broken_ones_among_them() {
        assert_eq!(count_chars("a b\r\nc\0"), (3, 0.0));
        assert_eq!(count_chars("\u{fffd}\u{e001}ab"), (4, 0.5));
        assert_eq!(count_chars(" \n"), (0, 0.0));
    }
}
