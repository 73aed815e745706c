//! How many pixels a page becomes, decided before anything is allocated. PDFs may claim any size:
//! pages of 2 147 483 648 points exist.

use crate::manifest::Resolution;
use crate::smart_resize::smart_resize;

/// Sides of the model's images are multiples of this: two patches of 16.
const MODEL_FACTOR: u32 = 32;
/// Qwen3-VL's processor makes no image smaller.
const MODEL_MIN_PIXELS: u64 = 65_536;
/// With `--max-pixels` a page is drawn at this resolution, or lower if that is too many pixels:
/// more than a scanner's usual 200 dpi adds no information worth its tokens.
const MAX_PIXELS_DPI: f64 = 200.0;
/// WebP ends at 16 383 pixels a side; the largest common denominator of our formats.
const MAX_SIDE: f64 = 16_383.0;
/// 192 MiB of RGB. An A0 sheet at 150 dpi has 35 million pixels.
const MAX_PAGE_PIXELS: f64 = (64 << 20) as f64;
/// Qwen's image processors refuse images beyond this.
const MAX_ASPECT: f64 = 200.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PixelSize {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Of the image, rounded to hundredths.
    pub(crate) dpi: f64,
}

/// `points` is the page's width and height after its own rotation, 72 to the inch. The error says
/// why the page cannot be an image.
pub(crate) fn pixel_size(points: (f64, f64), resolution: Resolution) -> Result<PixelSize, String> {
    let (width, height) = points;
    // Not `<=`: NaN must end here too.
    if !(width > 0.0 && height > 0.0 && width.is_finite() && height.is_finite()) {
        return Err(format!("the page measures {width} x {height} points"));
    }
    let aspect = (width / height).max(height / width);
    if aspect > MAX_ASPECT {
        return Err(format!(
            "the page measures {width} x {height} points; more than {MAX_ASPECT} times longer than wide"
        ));
    }
    let dpi_for = |pixels: f64| 72.0 * (pixels / (width * height)).sqrt();
    let (wanted, budget) = match resolution {
        Resolution::Dpi(dpi) => (f64::from(dpi), MAX_PAGE_PIXELS),
        Resolution::MaxPixels(pixels) => (MAX_PIXELS_DPI, MAX_PAGE_PIXELS.min(pixels as f64)),
        Resolution::ModelPixels(pixels) => return model_size(points, pixels),
    };
    let dpi = wanted
        .min(72.0 * MAX_SIDE / width.max(height))
        .min(dpi_for(budget));
    // Rounding up could pass a limit, so a page that meets one is rounded down.
    let round = if dpi < wanted { f64::floor } else { f64::round };
    let side = |points: f64| round(points * dpi / 72.0).clamp(1.0, MAX_SIDE) as u32;
    Ok(PixelSize {
        width: side(width),
        height: side(height),
        dpi: (dpi * 100.0).round() / 100.0,
    })
}

/// The size that the model's processor gives to the page at the dpi of `--max-pixels`: it leaves an
/// image of this size as it is, unless `max_pixels` is hardly more than its least. The sides are rounded each by itself, as the processor does it.
fn model_size((width, height): (f64, f64), max_pixels: u64) -> Result<PixelSize, String> {
    let at_dpi = |points: f64| (points * MAX_PIXELS_DPI / 72.0).round().clamp(1.0, 1e6) as u32;
    let max_pixels = max_pixels.clamp(MODEL_MIN_PIXELS, MAX_PAGE_PIXELS as u64);
    let (pixels_wide, pixels_high) = smart_resize(
        (at_dpi(width), at_dpi(height)),
        MODEL_FACTOR,
        MODEL_MIN_PIXELS,
        max_pixels,
    )
    .map_err(|e| e.message().to_owned())?;
    let area = f64::from(pixels_wide) * f64::from(pixels_high);
    if f64::from(pixels_wide.max(pixels_high)) > MAX_SIDE {
        return Err(format!(
            "the model's size of this page is {pixels_wide} x {pixels_high} pixels, longer than {MAX_SIDE}"
        ));
    }
    Ok(PixelSize {
        width: pixels_wide,
        height: pixels_high,
        dpi: (7200.0 * (area / (width * height)).sqrt()).round() / 100.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Resolution::{Dpi, MaxPixels, ModelPixels};

    #[test]
    fn pages_become_pixels() {
        for (points, resolution, expected) in [
            ((595.0, 842.0), Dpi(150), (1240, 1754, 150.0)),
            ((595.0, 842.0), Dpi(72), (595, 842, 72.0)),
            ((842.0, 595.0), Dpi(300), (3508, 2479, 300.0)),
            // 200 dpi would be 1653 x 2339.
            ((595.0, 842.0), MaxPixels(4_000_000), (1653, 2339, 200.0)),
            ((595.0, 842.0), MaxPixels(1_000_000), (840, 1189, 101.72)),
            // The largest page that PDF allows: the budget of 64 Mi pixels.
            ((14_400.0, 14_400.0), Dpi(150), (8192, 8192, 40.96)),
            // A long receipt: the side.
            ((200.0, 30_000.0), Dpi(150), (109, 16_383, 39.32)),
            ((0.2, 0.2), Dpi(72), (1, 1, 72.0)),
        ] {
            let size = pixel_size(points, resolution).unwrap();
            assert_eq!(
                (size.width, size.height, size.dpi),
                expected,
                "{points:?} {resolution:?}"
            );
        }
    }

    #[test]
    fn max_pixels_is_never_passed() {
        for n in 1..2000u64 {
            let size = pixel_size((612.0, 792.0), MaxPixels(n * 997)).unwrap();
            assert!(
                u64::from(size.width) * u64::from(size.height) <= n * 997,
                "{n} {size:?}"
            );
        }
    }

    #[test]
    fn the_models_size_is_left_alone_by_its_processor() {
        for points in [
            (595.0, 842.0),
            (842.0, 595.0),
            (612.3, 791.9),
            (40.0, 40.0),
            (100.0, 3000.0),
        ] {
            for max in [131_072, 500_000, 1_310_720, 1_310_721, 16_777_216] {
                let size = pixel_size(points, ModelPixels(max)).unwrap();
                let again = smart_resize((size.width, size.height), 32, 65_536, max).unwrap();
                assert_eq!(again, (size.width, size.height), "{points:?} {max}");
                assert!(size.width.is_multiple_of(32) && size.height.is_multiple_of(32));
            }
        }
        let a4 = pixel_size((595.0, 842.0), ModelPixels(1_310_720)).unwrap();
        assert_eq!((a4.width, a4.height), (960, 1344));
        assert!((114.0..117.0).contains(&a4.dpi), "{a4:?}");
        assert!(pixel_size((14_400.0, 80.0), ModelPixels(16_777_216)).is_err());
    }

    #[test]
    fn impossible_pages_are_refused() {
        for points in [
            (0.0, 0.0),
            (595.0, 0.0),
            (-1.0, 5.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
            (595.0, 2_147_483_648.0),
            (3.0, 14_400.0),
        ] {
            assert!(pixel_size(points, Dpi(150)).is_err(), "{points:?}");
        }
    }
}
