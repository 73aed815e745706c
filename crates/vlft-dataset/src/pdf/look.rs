//! What pdfium knows about a page without drawing it. Runs in worker processes only.

use pdfium_render::prelude::{
    PdfPage, PdfPageAnnotationType, PdfPageObject, PdfPageObjectCommon, PdfPageObjectsCommon,
    PdfPageRenderRotation, PdfPageText, PdfPageTextRenderMode,
};
use serde::{Deserialize, Serialize};

use crate::manifest::{Coverage, PageContent, Verdict, count_chars};

/// Forms may hold forms, each drawn many times: a small file can claim 10^12 objects.
const MAX_DEPTH: u32 = 8;
const MAX_OBJECTS: u32 = 200_000;
/// A picture of the whole page, as in the verdicts.
const WHOLE_PAGE: f64 = 0.8;

/// One page as [`crate::inspect`] reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InspectedPage {
    /// 1-based.
    pub page: u32,
    /// Points, 72 to the inch, after the page's own rotation.
    pub width: f64,
    pub height: f64,
    /// Degrees clockwise by which the file asks to turn the page.
    pub rotation: u32,
    /// `None` when its content cannot be read.
    pub content: Option<PageContent>,
}

/// Looks at a page.
pub(super) fn page(page: &PdfPage<'_>, number: u32) -> InspectedPage {
    let rotation = match page.rotation() {
        Ok(PdfPageRenderRotation::Degrees90) => 90,
        Ok(PdfPageRenderRotation::Degrees180) => 180,
        Ok(PdfPageRenderRotation::Degrees270) => 270,
        Ok(PdfPageRenderRotation::None) | Err(_) => 0,
    };
    InspectedPage {
        page: number,
        width: f64::from(page.width().value),
        height: f64::from(page.height().value),
        rotation,
        content: content(page),
    }
}

/// What the page is made of; `None` when pdfium cannot tell.
pub(super) fn content(page: &PdfPage<'_>) -> Option<PageContent> {
    // Not the page's size: a page may be turned, and its box need not begin at 0.
    let frame = page.boundaries().bounding().ok()?.bounds;
    let text = page.text().ok()?;
    let (text_chars, broken_share) = count_chars(&text.inside_rect(frame));
    let frame = [frame.left(), frame.bottom(), frame.right(), frame.top()];
    let mut walk = Walk::new(frame.map(|points| f64::from(points.value)));
    walk.objects(page.objects(), &Matrix::IDENTITY, 0);
    let (annotations, form_fields) = annotations(page);
    Some(
        PageContent {
            text_chars,
            invisible_chars: walk.invisible_chars(&text).min(text_chars),
            broken_share,
            images: walk.images,
            image_coverage: walk.coverage.share(),
            shapes: walk.shapes,
            annotations,
            form_fields,
            verdict: Verdict::Empty,
        }
        .judged(),
    )
}

/// What was seen of a page's objects, in the order in which they are painted.
struct Walk {
    frame: [f64; 4],
    coverage: Coverage,
    visited: u32,
    images: u32,
    shapes: u32,
    visible_texts: u32,
    invisible_texts: u32,
}

impl Walk {
    fn new(frame: [f64; 4]) -> Self {
        Self {
            frame,
            coverage: Coverage::new(frame),
            visited: 0,
            images: 0,
            shapes: 0,
            visible_texts: 0,
            invisible_texts: 0,
        }
    }

    fn objects<'a>(
        &mut self,
        objects: &'a impl PdfPageObjectsCommon<'a>,
        to_page: &Matrix,
        depth: u32,
    ) {
        for object in objects.iter() {
            self.visited += 1;
            if self.visited > MAX_OBJECTS {
                return;
            }
            match &object {
                PdfPageObject::Text(text) => match text.render_mode() {
                    PdfPageTextRenderMode::Invisible => self.invisible_texts += 1,
                    _ => self.visible_texts += 1,
                },
                PdfPageObject::Image(image) => {
                    self.images += 1;
                    if let Ok(corners) = image.bounds() {
                        let corners = [
                            (corners.x1(), corners.y1()),
                            (corners.x2(), corners.y2()),
                            (corners.x3(), corners.y3()),
                            (corners.x4(), corners.y4()),
                        ];
                        self.image(
                            to_page.boxed(
                                corners.map(|(x, y)| (f64::from(x.value), f64::from(y.value))),
                            ),
                        );
                    }
                }
                PdfPageObject::Path(_) | PdfPageObject::Shading(_) => self.shapes += 1,
                PdfPageObject::XObjectForm(form) if depth < MAX_DEPTH => {
                    let inner = form.matrix().map_or(Matrix::IDENTITY, |m| {
                        Matrix([m.a(), m.b(), m.c(), m.d(), m.e(), m.f()].map(f64::from))
                    });
                    self.objects(form, &inner.then(to_page), depth + 1);
                }
                PdfPageObject::XObjectForm(_) | PdfPageObject::Unsupported(_) => {}
            }
        }
    }

    fn image(&mut self, area: [f64; 4]) {
        self.coverage.add(area);
        let mut alone = Coverage::new(self.frame);
        alone.add(area);
        if alone.share() >= WHOLE_PAGE {
            // Some OCR programs write the text plainly and paint the scan over it.
            self.invisible_texts += self.visible_texts;
            self.visible_texts = 0;
        }
    }

    /// Characters rarely are of both kinds; only then each is asked.
    fn invisible_chars(&self, text: &PdfPageText<'_>) -> u32 {
        match (self.invisible_texts, self.visible_texts) {
            (0, _) => 0,
            (_, 0) => u32::MAX,
            _ => {
                let is_invisible = |mode| matches!(mode, Ok(PdfPageTextRenderMode::Invisible));
                let chars = text.chars();
                let invisible = chars.iter().filter(|c| {
                    c.unicode_char().is_some_and(|c| !c.is_whitespace())
                        && is_invisible(c.render_mode())
                });
                u32::try_from(invisible.count()).unwrap_or(u32::MAX)
            }
        }
    }
}

/// (annotations that show something of their own, form fields)
fn annotations(page: &PdfPage<'_>) -> (u32, u32) {
    let (mut shown, mut fields) = (0, 0);
    for annotation in page.annotations().iter() {
        match annotation.annotation_type() {
            PdfPageAnnotationType::Widget | PdfPageAnnotationType::XfaWidget => fields += 1,
            PdfPageAnnotationType::Link | PdfPageAnnotationType::Popup => {}
            _ => shown += 1,
        }
    }
    (shown, fields)
}

/// `[a b c d e f]` of PDF: x' = a x + c y + e, y' = b x + d y + f.
struct Matrix([f64; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    /// This one first, then `next`.
    fn then(&self, next: &Self) -> Self {
        let ([a, b, c, d, e, f], [a2, b2, c2, d2, e2, f2]) = (self.0, next.0);
        Self([
            a * a2 + b * c2,
            a * b2 + b * d2,
            c * a2 + d * c2,
            c * b2 + d * d2,
            e * a2 + f * c2 + e2,
            e * b2 + f * d2 + f2,
        ])
    }

    /// The upright box around these points: left, bottom, right, top.
    fn boxed(&self, points: [(f64, f64); 4]) -> [f64; 4] {
        let [a, b, c, d, e, f] = self.0;
        let points = points.map(|(x, y)| (a * x + c * y + e, b * x + d * y + f));
        let [xs, ys] = [points.map(|p| p.0), points.map(|p| p.1)];
        let least = |values: [f64; 4]| values.into_iter().fold(f64::INFINITY, f64::min);
        let most = |values: [f64; 4]| values.into_iter().fold(f64::NEG_INFINITY, f64::max);
        [least(xs), least(ys), most(xs), most(ys)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_follow_each_other() {
        let scale = Matrix([2.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
        let quarter_turn_and_away = Matrix([0.0, 1.0, -1.0, 0.0, 10.0, 20.0]);
        let unit = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
        let both = scale.then(&quarter_turn_and_away);
        assert_eq!(both.boxed(unit), [7.0, 20.0, 10.0, 22.0]);
        assert_eq!(Matrix::IDENTITY.boxed(unit), [0.0, 0.0, 1.0, 1.0]);
    }
}
