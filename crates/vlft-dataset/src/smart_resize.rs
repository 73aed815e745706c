//! Which size the model gives an image. Arithmetic only; the processor moves the pixels.

use vlft_base::{Diagnostic, Result};

use crate::image_limits::MAX_ASPECT_RATIO;

/// (width, height) -> (width, height): multiples of `factor`, the product between `min_pixels` and
/// `max_pixels`, the aspect kept as well as that allows. Transformers' `smart_resize` operation by
/// operation: f64 throughout, halves to even, so that no grid ever differs by a row.
///
/// An image of 0 pixels, or more elongated than [`MAX_ASPECT_RATIO`], is an error.
pub fn smart_resize(
    (width, height): (u32, u32),
    factor: u32,
    min_pixels: u64,
    max_pixels: u64,
) -> Result<(u32, u32)> {
    let (w, h, f) = (f64::from(width), f64::from(height), f64::from(factor));
    let ratio = w.max(h) / w.min(h);
    // Also catches 0 by 0, whose ratio is not a number.
    if ratio.is_nan() || ratio > f64::from(MAX_ASPECT_RATIO) {
        return Err(Diagnostic::error(format!(
            "image of {width} x {height} pixels is too elongated"
        ))
        .with_rule("image-aspect")
        .expected(format!(
            "a longer side of at most {MAX_ASPECT_RATIO} times the shorter one"
        ))
        .found(format!("{ratio:.0} times"))
        .hint("crop it, or cut it into several images"));
    }
    let mut new_h = (h / f).round_ties_even() * f;
    let mut new_w = (w / f).round_ties_even() * f;
    let (min, max) = (min_pixels as f64, max_pixels as f64);
    if new_h * new_w > max {
        let shrink = (h * w / max).sqrt();
        new_h = f.max((h / shrink / f).floor() * f);
        new_w = f.max((w / shrink / f).floor() * f);
    } else if new_h * new_w < min {
        let grow = (min / (h * w)).sqrt();
        new_h = (h * grow / f).ceil() * f;
        new_w = (w * grow / f).ceil() * f;
    }
    Ok((new_w as u32, new_h as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PUBLISHED: (u64, u64) = (65_536, 16_777_216);

    #[test]
    fn sizes_of_known_images() {
        // (width, height) -> (width, height), computed by transformers 5.23 with factor 32.
        for (size, (min, max), expected) in [
            ((1700, 2200), PUBLISHED, (1696, 2208)),
            ((31, 90), PUBLISHED, (160, 448)),
            ((6000, 8000), PUBLISHED, (3520, 4704)),
            ((1700, 2200), (65_536, 1_310_720), (992, 1280)),
            // Halves go to the even multiple: 80 = 2.5 * 32 and 112 = 3.5 * 32.
            ((80, 112), (1024, 1 << 20), (64, 128)),
            // Rounds to 0 rows first; the lower bound repairs it.
            ((400, 4), (4096, 65_536), (640, 32)),
            ((200, 1), (4096, 65_536), (928, 32)),
        ] {
            assert_eq!(
                smart_resize(size, 32, min, max).unwrap(),
                expected,
                "{size:?}"
            );
        }
    }

    #[test]
    fn elongated_images_are_refused_with_their_size() {
        let error = smart_resize((1, 9000), 32, 65_536, 16_777_216).unwrap_err();
        assert_eq!(error.rule(), Some("image-aspect"));
        assert!(error.message().contains("1 x 9000"), "{error}");
        assert!(smart_resize((0, 0), 32, 65_536, 16_777_216).is_err());
        assert!(smart_resize((0, 7), 32, 65_536, 16_777_216).is_err());
    }

    /// The table of sizes in `tests/fixtures/resize_cases.json`, as transformers computes it.
    #[test]
    fn every_size_of_the_table() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/resize_cases.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let sizes = json["sizes"].as_array().unwrap();
        assert!(sizes.len() > 20);
        for size in sizes {
            let number = |key: &str| size[key].as_u64();
            let get = |key: &str| number(key).unwrap();
            let got = smart_resize(
                (get("width") as u32, get("height") as u32),
                32,
                get("min_pixels"),
                get("max_pixels"),
            );
            match number("resized_width") {
                Some(width) => {
                    let expected = (width as u32, get("resized_height") as u32);
                    assert_eq!(got.unwrap(), expected, "{size}");
                }
                None => assert!(got.is_err(), "{size}"),
            }
        }
    }

    proptest! {
        #[test]
        fn the_result_keeps_its_promises(
            w in 1u32..12_000, h in 1u32..12_000, min_tokens in 1u64..200, extra in 0u64..4000,
        ) {
            prop_assume!(w.max(h) <= 200 * w.min(h));
            let (min, max) = (min_tokens * 1024, (min_tokens + extra) * 1024);
            let (new_w, new_h) = smart_resize((w, h), 32, min, max).unwrap();
            prop_assert!(new_w % 32 == 0 && new_h % 32 == 0 && new_w > 0 && new_h > 0);
            let product = u64::from(new_w) * u64::from(new_h);
            // Only a side that cannot go below 32 may push the product over the maximum, and only
            // the rounding up of both sides may push it there from below the minimum.
            if new_w > 32 && new_h > 32 {
                prop_assert!(product <= max.max(grown(w, h, min)), "{product} > {max}");
            }
            prop_assert!(product >= min.min(shrunk(w, h, max)), "{product} < {min}");
        }
    }

    /// What rounding both sides up from exactly `min` pixels may give at most.
    fn grown(w: u32, h: u32, min: u64) -> u64 {
        let grow = (min as f64 / (f64::from(w) * f64::from(h))).sqrt();
        ((f64::from(w) * grow + 32.0) * (f64::from(h) * grow + 32.0)) as u64 + 1
    }

    /// What rounding both sides down from exactly `max` pixels may give at least.
    fn shrunk(w: u32, h: u32, max: u64) -> u64 {
        let shrink = (f64::from(w) * f64::from(h) / max as f64).sqrt();
        let side = |n: u32| (f64::from(n) / shrink - 32.0).max(32.0);
        (side(w) * side(h)) as u64
    }
}
