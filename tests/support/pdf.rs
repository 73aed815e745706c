//! The smallest PDFs that show something, for tests; no library between us and what is drawn.
#![allow(
    dead_code,
    reason = "two crates include this file and use different parts of it"
)]

/// One page.
pub(crate) struct Page {
    width: u32,
    height: u32,
    content: String,
    rotate: u32,
    resources: String,
    annotations: String,
    missing: bool,
}

impl Page {
    /// `content` is a content stream; the font Helvetica is there as `/F1`. Points.
    pub(crate) fn new(width: u32, height: u32, content: &str) -> Self {
        Self {
            width,
            height,
            content: content.to_owned(),
            rotate: 0,
            resources: String::new(),
            annotations: String::new(),
            missing: false,
        }
    }

    /// A page that the document counts but does not have.
    pub(crate) fn missing() -> Self {
        Self {
            missing: true,
            ..Self::new(1, 1, "")
        }
    }

    /// Clockwise, in degrees.
    pub(crate) fn rotated(mut self, degrees: u32) -> Self {
        self.rotate = degrees;
        self
    }

    /// More resources, such as `/XObject << /X 9 0 R >>`.
    pub(crate) fn resources(mut self, resources: &str) -> Self {
        self.resources = resources.to_owned();
        self
    }

    /// References of annotations, such as `9 0 R`.
    pub(crate) fn annotations(mut self, references: &str) -> Self {
        self.annotations = references.to_owned();
        self
    }
}

/// A PDF of these pages.
pub(crate) fn pdf(pages: &[Page]) -> Vec<u8> {
    pdf_with(pages, &[])
}

/// The number of the first object of `more` in [`pdf_with`].
pub(crate) fn first_more(pages: &[Page]) -> usize {
    4 + 2 * pages.len()
}

/// A PDF of these pages with more objects behind them.
pub(crate) fn pdf_with(pages: &[Page], more: &[String]) -> Vec<u8> {
    form_with(pages, more, "")
}

/// [`pdf_with`] a form of these fields, references such as `9 0 R`.
pub(crate) fn form_with(pages: &[Page], more: &[String], fields: &str) -> Vec<u8> {
    let mut objects = vec![
        match fields {
            "" => "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
            _ => format!("<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [{fields}] >> >>"),
        },
        String::new(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut kids = String::new();
    for page in pages {
        let number = objects.len() + 1;
        let named = if page.missing { 9999 } else { number };
        kids += &format!("{named} 0 R ");
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {} {}] /Rotate {} /Contents {} 0 R \
             /Resources << /Font << /F1 3 0 R >> {} >> /Annots [{}] >>",
            page.width,
            page.height,
            page.rotate,
            number + 1,
            page.resources,
            page.annotations
        ));
        objects.push(stream("", &page.content));
    }
    objects[1] = format!("<< /Type /Pages /Kids [{kids}] /Count {} >>", pages.len());
    objects.extend(more.iter().cloned());

    let mut file = String::from("%PDF-1.7\n");
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file += &format!("{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let start = file.len();
    file += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for offset in offsets {
        file += &format!("{offset:010} 00000 n \n");
    }
    file += &format!(
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n",
        objects.len() + 1
    );
    file.into_bytes()
}

/// A stream object; `dictionary` is what its dictionary has besides the length.
pub(crate) fn stream(dictionary: &str, content: &str) -> String {
    format!(
        "<< {dictionary} /Length {} >>\nstream\n{content}\nendstream",
        content.len()
    )
}
