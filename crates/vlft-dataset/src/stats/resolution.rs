//! What the model sees of a page: the dots per inch that are left after its resize, at the pixel
//! limit in use and at others, and what each limit costs in tokens.

use serde::Serialize;

use super::spread::{Spread, rank};
use crate::smart_resize::smart_resize;
use crate::token_counter::Resize;

/// Pixel limits that people train with, beside the one in use: 50 176 of Qwen's sample scripts,
/// 262 144 and 589 824 of LLaMA-Factory, 1 003 520 of ms-swift, 1 310 720 of Qwen's README.
pub const COMMON_MAX_PIXELS: [u64; 7] = [
    50_176, 262_144, 589_824, 1_003_520, 1_310_720, 2_359_296, 4_194_304,
];

/// Token limits that tools cut or drop at.
pub const COMMON_MAX_TOKENS: [u64; 4] = [2048, 4096, 8192, 16_384];

/// 8-point print has letters a few pixels high below this (a rule of thumb, to be measured).
pub(crate) const SMALL_PRINT_DPI: f64 = 100.0;

/// One image: its size and, where known or assumed, its resolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) size: (u32, u32),
    pub(crate) dpi: Option<f64>,
    /// Index of its record.
    pub(crate) record: u32,
}

/// All of it at one pixel limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AtMaxPixels {
    pub max_pixels: u64,
    /// It is the limit that everything else in the report is counted with.
    pub current: bool,
    /// Per image.
    pub image_tokens: Spread,
    /// Of the pages whose resolution is known or assumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_dpi: Option<Spread>,
    /// Of those, pages under 100 dpi: small print is lost.
    pub pages_under_100_dpi: u64,
    /// With a model: tokens a record, at the 95th percentile and at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// With a model: what happens at each token limit.
    pub limits: Vec<AtMaxTokens>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tokens {
    pub p95: u64,
    pub max: u64,
}

/// What a tool that cuts records at a number of tokens would do to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AtMaxTokens {
    pub max_tokens: u64,
    /// Records longer than that: cut there, they lose the end of their answer.
    pub over: u64,
    /// Of those, records whose last answer would be gone altogether.
    pub answer_lost: u64,
}

/// Text tokens of one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextTokens {
    /// All but the image tokens.
    pub(crate) text: u64,
    pub(crate) supervised: u64,
}

/// (width, height) as the model sees it; `None` for what it refuses.
pub(crate) fn seen(size: (u32, u32), resize: Resize, max_pixels: u64) -> Option<(u32, u32)> {
    smart_resize(size, resize.factor, resize.min_pixels, max_pixels).ok()
}

/// Both sides are rounded to whole patches; the smaller scale is what a letter gets.
pub(crate) fn effective(dpi: f64, original: (u32, u32), seen: (u32, u32)) -> f64 {
    let scale = |seen: u32, original: u32| f64::from(seen) / f64::from(original);
    dpi * scale(seen.0, original.0).min(scale(seen.1, original.1))
}

/// `records` holds the text tokens of every record that could be counted, by index.
pub(crate) fn at_max_pixels(
    pages: &[Page],
    records: &[Option<TextTokens>],
    resize: Resize,
    max_pixels: u64,
    max_tokens: &[u64],
) -> Option<AtMaxPixels> {
    let mut image_tokens = Vec::with_capacity(pages.len());
    let mut dpi = Vec::new();
    let mut of_record = vec![0; records.len()];
    for page in pages {
        let Some(seen) = seen(page.size, resize, max_pixels) else {
            continue;
        };
        let tokens = u64::from(seen.0 / resize.factor) * u64::from(seen.1 / resize.factor);
        image_tokens.push(tokens as f64);
        of_record[page.record as usize] += tokens;
        dpi.extend(page.dpi.map(|dpi| effective(dpi, page.size, seen)));
    }
    if image_tokens.is_empty() {
        return None;
    }
    let counted: Vec<(u64, u64)> = records
        .iter()
        .zip(&of_record)
        .filter_map(|(text, image)| text.map(|text| (text.text + image, text.supervised)))
        .collect();
    let mut totals: Vec<f64> = counted.iter().map(|(total, _)| *total as f64).collect();
    totals.sort_by(f64::total_cmp);
    Some(AtMaxPixels {
        max_pixels,
        current: max_pixels == resize.max_pixels,
        image_tokens: Spread::new("image tokens", image_tokens),
        pages_under_100_dpi: dpi.iter().filter(|dpi| **dpi < SMALL_PRINT_DPI).count() as u64,
        effective_dpi: (!dpi.is_empty()).then(|| Spread::new("effective dpi", dpi)),
        tokens: (!totals.is_empty()).then(|| Tokens {
            p95: rank(&totals, 0.95) as u64,
            max: rank(&totals, 1.0) as u64,
        }),
        limits: limits(&counted, max_tokens),
    })
}

/// `records` are (tokens, supervised tokens).
pub(crate) fn limits(records: &[(u64, u64)], max_tokens: &[u64]) -> Vec<AtMaxTokens> {
    if records.is_empty() {
        return Vec::new();
    }
    let at = |max_tokens: u64| AtMaxTokens {
        max_tokens,
        over: count(records, |(total, _)| total > max_tokens),
        answer_lost: count(records, |(total, answer)| {
            total > max_tokens && total - answer >= max_tokens
        }),
    };
    max_tokens.iter().map(|limit| at(*limit)).collect()
}

fn count(records: &[(u64, u64)], is_one: impl Fn((u64, u64)) -> bool) -> u64 {
    records.iter().filter(|record| is_one(**record)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One A4 page at 200 dpi and the pixel limits of several tools, as their own arithmetic has it.
    #[test]
    fn a_page_at_the_limits_of_the_tools() {
        let size = (1654, 2338);
        for (max_pixels, expected, tokens, dpi) in [
            (16_777_216, (1664, 2336), 3796, 200),
            (1280 * 32 * 32, (960, 1344), 1260, 115),
            (1_003_520, (832, 1184), 962, 101),
            (768 * 768, (640, 896), 560, 77),
            (262_144, (416, 608), 247, 50),
            (50_176, (160, 256), 40, 19),
        ] {
            let seen = seen(size, Resize::QWEN3_VL, max_pixels).unwrap();
            assert_eq!(seen, expected, "{max_pixels}");
            assert_eq!(u64::from(seen.0 / 32 * (seen.1 / 32)), tokens);
            assert_eq!(effective(200.0, size, seen).round() as u64, dpi);
        }
    }

    #[test]
    fn limits_say_who_loses_what() {
        let records = [(100, 10), (4100, 600), (9000, 50), (4096, 5)];
        let at = limits(&records, &[4096, 16_384]);
        assert_eq!(at[0].over, 2);
        // 4100 tokens end in an answer of 600, so a part of it stays; of the 50 nothing does.
        assert_eq!(at[0].answer_lost, 1);
        assert_eq!((at[1].over, at[1].answer_lost), (0, 0));
    }
}
