//! Drawing with hayro, an engine in Rust alone: an explicit second opinion on files that pdfium does not
//! open, marked in the manifest and never a silent fallback. It hides text under opaque highlights and
//! leaves out form fields without an appearance (measured with 0.9 on 1,241 test files), so it must not
//! decide by itself what a model reads. Runs in worker processes only.

use std::path::Path;

use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_interpret::util::TransformExt;
use hayro::hayro_syntax::{LoadPdfError, Pdf};
use hayro::kurbo::Affine;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::vello_cpu::{Pixmap, RasterizerSettings, RenderContext, Resources, TargetInit};
use hayro::{RenderCache, RenderSettings, render_into};
use vlft_base::input;

use super::draw::{Drawn, Refusal, password_refusal};
use super::encode::pack;
use super::reject::Rule;
use super::size::pixel_size;
use crate::manifest::Resolution;

/// Of the manifest; the version is pinned in `Cargo.toml`.
pub(super) const NAME: &str = "hayro 0.9.0";

/// Opens a PDF, without a password first, then with each of `passwords`; also tells whether it
/// needed one.
pub(super) fn open(path: &Path, passwords: &[String]) -> Result<(Pdf, bool), Refusal> {
    let bytes = input::read(path).map_err(|e| (Rule::Unreadable, e.to_string()))?;
    match Pdf::new(bytes.clone()) {
        Ok(pdf) => return Ok((pdf, false)),
        Err(LoadPdfError::Decryption(_)) => {}
        Err(LoadPdfError::Invalid) => {
            let reason = "not a PDF, or damaged beyond repair";
            return Err((Rule::Broken, reason.to_owned()));
        }
    }
    for password in passwords {
        if let Ok(pdf) = Pdf::new_with_password(bytes.clone(), password) {
            return Ok((pdf, true));
        }
    }
    Err(password_refusal(passwords.len()))
}

/// Draws page `number` (1-based) with its annotations on white.
pub(super) fn draw<'a>(
    pdf: &Pdf,
    number: u32,
    resolution: Resolution,
    buffer: &'a mut Vec<u8>,
) -> Result<Drawn<'a>, Refusal> {
    let broken = |what: &str| (Rule::Page, format!("hayro cannot {what}"));
    let page = pdf
        .pages()
        .get(number as usize - 1)
        .ok_or_else(|| broken("read the page"))?;
    let (width, height) = page.render_dimensions();
    let (width, height) = (f64::from(width), f64::from(height));
    let size =
        pixel_size((width, height), resolution).map_err(|reason| (Rule::PageShape, reason))?;
    let side =
        |pixels: u32| u16::try_from(pixels).map_err(|_| broken("make an image of this size"));
    let (pixels_wide, pixels_high) = (side(size.width)?, side(size.height)?);

    let scale = Affine::scale_non_uniform(
        f64::from(size.width) / width,
        f64::from(size.height) / height,
    );
    let mut context = RenderContext::new(pixels_wide, pixels_high);
    render_into(
        page,
        &RenderCache::new(),
        &InterpreterSettings::default(),
        &RenderSettings::default(),
        &mut context,
        scale * page.initial_transform(true).to_kurbo(),
    );
    context.flush();
    let mut pixmap = Pixmap::new(pixels_wide, pixels_high);
    context.render_with(
        &mut pixmap,
        &mut Resources::default(),
        RasterizerSettings {
            target_init: TargetInit::Clear(WHITE),
            ..Default::default()
        },
    );
    buffer.clear();
    // White below everything leaves no transparency to undo.
    for pixel in pixmap.data() {
        buffer.extend([pixel.r, pixel.g, pixel.b]);
    }
    Ok(Drawn {
        pixels: pack(buffer, size.width, size.height, size.width as usize * 3),
        dpi: size.dpi,
    })
}
