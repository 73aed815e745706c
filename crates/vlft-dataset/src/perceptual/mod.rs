//! A hash of what a page looks like, so that copies of it are found that differ in every byte: saved
//! again, scaled, cropped a little, printed and scanned again. It is no answer to "do these two show
//! the same form": two bills of lading on one form are two pages, and their hashes differ.
//!
//! Usual perceptual hashes (8 x 8 cells, or the lowest 64 frequencies) fail at both on documents:
//! filled forms are equal at that size, and a margin that was cut off moves everything. So here
//! 1. the page is made 384 x 384 and the ink is what is darker than its surroundings, which is
//!    the same under a grey scan and after a change of contrast;
//! 2. the frame is laid by the ink itself (its centre and its spread), so that margins do not count;
//! 3. the signs of the 512 lowest frequencies of the ink in that frame are the hash.
//!
//! Measured 2026-11 with `examples/page_hash.rs`; see BENCHMARKS.md. Two pages are near at
//! [`NEAR`] differing bits of 512: on the example's forms the nearest two different pages have 74.

mod ink;
mod search;

use std::borrow::Cow;
use std::fmt::Write;

use image::{DynamicImage, GrayImage};

pub use search::{NearPair, all_pairs, near_pairs};

/// Pages whose hashes differ in at most so many bits look the same.
pub const NEAR: u32 = 56;

const WORDS: usize = 8;

/// 512 bits of a page's looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageHash([u64; WORDS]);

impl PageHash {
    /// The hash of an image; `None` for one that has nothing on it: blank pages resemble each other
    /// and are no copies. Transparent pixels are white, as on paper.
    pub fn of(image: &DynamicImage) -> Option<Self> {
        Self::of_gray(&gray(image))
    }

    /// The hash of a gray image; see [`PageHash::of`].
    pub fn of_gray(image: &GrayImage) -> Option<Self> {
        ink::signs(
            image.width() as usize,
            image.height() as usize,
            image.as_raw(),
        )
        .map(Self)
    }

    /// How many bits differ, 0 to 512.
    pub fn distance(self, other: Self) -> u32 {
        let pairs = self.0.iter().zip(other.0);
        pairs.map(|(a, b)| (a ^ b).count_ones()).sum()
    }

    /// Whether the two pages look the same: [`PageHash::distance`] up to [`NEAR`]. Most pairs differ in
    /// half of their bits, so two or three of the eight words tell.
    #[inline(always)]
    pub fn is_near(self, other: Self) -> bool {
        let mut distance = 0;
        self.0.iter().zip(other.0).all(|(a, b)| {
            distance += (a ^ b).count_ones();
            distance <= NEAR
        })
    }

    /// 128 hexadecimal digits, as manifests hold it.
    pub fn to_hex(self) -> String {
        self.0.iter().fold(String::new(), |mut text, word| {
            write!(text, "{word:016x}").expect("writing to a string cannot fail");
            text
        })
    }

    /// `None` when it is no hash.
    pub fn from_hex(text: &str) -> Option<Self> {
        // Without stopping at the first that is none: so all are looked at at once.
        let are_digits = text
            .bytes()
            .fold(true, |are, b| are & b.is_ascii_hexdigit());
        if text.len() != 16 * WORDS || !are_digits {
            return None;
        }
        let mut words = [0; WORDS];
        let (digits, _) = text.as_bytes().as_chunks::<8>();
        for (word, digits) in words.iter_mut().zip(digits.chunks_exact(2)) {
            *word = u64::from(eight_digits(digits[0])) << 32 | u64::from(eight_digits(digits[1]));
        }
        Some(Self(words))
    }
}

/// The value of eight hexadecimal digits, all at once: a million hashes have 128 million of them.
fn eight_digits(digits: [u8; 8]) -> u32 {
    let text = u64::from_be_bytes(digits);
    // `A` to `F` and `a` to `f` have the bit 0x40, and end in 1 to 6.
    let is_letter = text >> 6 & 0x0101_0101_0101_0101;
    let each = (text & 0x0f0f_0f0f_0f0f_0f0f) + 9 * is_letter;
    let pairs = (each | each >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    (fours | fours >> 16) as u32
}

/// Gray as people see it, transparent pixels on white.
pub fn gray(image: &DynamicImage) -> Cow<'_, GrayImage> {
    let luma = |[r, g, b]: [u8; 3]| {
        let [r, g, b] = [r, g, b].map(u32::from);
        (299 * r + 587 * g + 114 * b + 500) / 1000
    };
    let (width, height) = (image.width(), image.height());
    let pixels: Vec<u8> = match image {
        DynamicImage::ImageLuma8(gray) => return Cow::Borrowed(gray),
        other if other.color().has_alpha() => {
            let pixels = other.to_rgba8();
            let pixels = pixels.pixels().map(|pixel| {
                let [r, g, b, alpha] = pixel.0;
                let alpha = u32::from(alpha);
                ((luma([r, g, b]) * alpha + 255 * (255 - alpha)) / 255) as u8
            });
            pixels.collect()
        }
        other => {
            let pixels = match other.as_rgb8() {
                Some(pixels) => Cow::Borrowed(pixels),
                None => Cow::Owned(other.to_rgb8()),
            };
            pixels.pixels().map(|pixel| luma(pixel.0) as u8).collect()
        }
    };
    let gray = GrayImage::from_raw(width, height, pixels);
    Cow::Owned(gray.expect("a value for each pixel was collected"))
}

#[cfg(test)]
pub(crate) mod tests;
