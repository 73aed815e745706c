//! The calls into pdfium. Runs in worker processes only.
//!
//! pdfium writes RGB straight into our buffer: format BGR with reversed byte order. Its gray format
//! with the same flag ends the process (SIGTRAP, seen with builds 8125 and 8149), so gray pages are
//! found afterwards instead (`encode::pack`).

use std::path::Path;

use pdfium_render::prelude::{
    PdfBitmap, PdfBitmapFormat, PdfColor, PdfDocument, PdfPage, PdfRenderConfig, Pdfium,
    PdfiumError, PdfiumInternalError,
};

use super::encode::{Pixels, pack};
use super::reject::Rule;
use super::size::pixel_size;
use crate::manifest::Resolution;

/// Why a document or a page gave nothing.
pub(super) type Refusal = (Rule, String);

/// Opens a PDF, without a password first, then with each of `passwords`; also tells whether it
/// needed one.
pub(super) fn open<'a>(
    pdfium: &'a Pdfium,
    path: &Path,
    passwords: &[String],
) -> Result<(PdfDocument<'a>, bool), Refusal> {
    let attempts = std::iter::once(None).chain(passwords.iter().map(|p| Some(p.as_str())));
    for password in attempts {
        match pdfium.load_pdf_from_file(path, password) {
            Ok(document) => return Ok((document, password.is_some())),
            Err(error) => match refusal(&error) {
                // pdfium does not tell a missing password from a wrong one.
                (Rule::Password, _) => {}
                other => return Err(other),
            },
        }
    }
    Err(password_refusal(passwords.len()))
}

/// What to say when none of so many passwords opens it.
pub(super) fn password_refusal(passwords: usize) -> Refusal {
    let reason = match passwords {
        0 => "encrypted with a password".to_owned(),
        1 => "encrypted, and the password that was given does not open it".to_owned(),
        n => format!("encrypted, and none of the {n} passwords that were given opens it"),
    };
    (Rule::Password, reason)
}

fn refusal(error: &PdfiumError) -> Refusal {
    let PdfiumError::PdfiumLibraryInternalError(internal) = error else {
        return match error {
            PdfiumError::IoError(e) => (Rule::Unreadable, e.to_string()),
            other => (Rule::Broken, format!("pdfium says {other:?}")),
        };
    };
    let (rule, reason) = match internal {
        PdfiumInternalError::PasswordError => (Rule::Password, "encrypted with a password"),
        PdfiumInternalError::SecurityError => {
            (Rule::Broken, "encrypted in a way that pdfium does not know")
        }
        PdfiumInternalError::FormatError => (Rule::Broken, "not a PDF, or damaged beyond repair"),
        PdfiumInternalError::FileError => (Rule::Unreadable, "the file cannot be read"),
        PdfiumInternalError::PageError | PdfiumInternalError::Unknown => {
            (Rule::Broken, "pdfium cannot read it and does not say why")
        }
    };
    (rule, reason.to_owned())
}

/// A drawn page; its pixels live in the caller's buffer.
pub(super) struct Drawn<'a> {
    pub(super) pixels: Pixels<'a>,
    pub(super) dpi: f64,
}

/// Page `number` (1-based).
pub(super) fn page<'a>(document: &PdfDocument<'a>, number: u32) -> Result<PdfPage<'a>, Refusal> {
    let index = i32::try_from(number - 1).map_err(|_| broken("count this far"))?;
    let page = document.pages().get(index);
    page.map_err(|_| broken("read the page"))
}

fn broken(what: &str) -> Refusal {
    (Rule::Page, format!("pdfium cannot {what}"))
}

/// Draws a page with its annotations and form fields on white.
pub(super) fn draw<'a>(
    page: &PdfPage<'_>,
    resolution: Resolution,
    buffer: &'a mut Vec<u8>,
) -> Result<Drawn<'a>, Refusal> {
    let points = (
        f64::from(page.width().value),
        f64::from(page.height().value),
    );
    let size = pixel_size(points, resolution).map_err(|reason| (Rule::PageShape, reason))?;

    // Rows are padded to four bytes. What an earlier page left is painted over by pdfium itself.
    let stride = (size.width as usize * 3).next_multiple_of(4);
    buffer.resize(stride * size.height as usize, 0xff);
    let (width, height) = (size.width as i32, size.height as i32);
    let config = PdfRenderConfig::new()
        .set_fixed_size(width, height)
        .set_format(PdfBitmapFormat::BGR)
        .set_reverse_byte_order(true)
        .clear_before_rendering(true)
        .set_clear_color(PdfColor::WHITE)
        .render_form_data(true)
        .render_annotations(true);
    let mut bitmap = PdfBitmap::from_bytes(width, height, PdfBitmapFormat::BGR, buffer)
        .map_err(|_| broken("make an image of this size"))?;
    page.render_into_bitmap_with_config(&mut bitmap, &config)
        .map_err(|_| broken("draw the page"))?;
    drop(bitmap);

    Ok(Drawn {
        pixels: pack(buffer, size.width, size.height, stride),
        dpi: size.dpi,
    })
}
