//! On the pages that come with the example: scans and drawn pages of several forms, among them two
//! backs with terms that differ in a number only.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use image::imageops::{FilterType, crop_imm, resize};
use image::{DynamicImage, GrayImage, Luma};

use super::*;

/// (name, page): the images in the example's zips, and drawn pages.
fn pages() -> Vec<(String, GrayImage)> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bill-of-lading");
    let boxes = (0..8).map(|seed| (format!("boxes {seed}"), page_of_boxes(seed)));
    let mut pages: Vec<(String, GrayImage)> = boxes.collect();
    for name in ["page-images-1.zip", "page-images-2.zip"] {
        let bytes = std::fs::read(example.join(name)).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(page) = crate::validate::image_file::decoded(&bytes) {
                pages.push((entry.name().unwrap().into_owned(), page.to_luma8()));
            }
        }
    }
    assert!(pages.len() >= 18, "{}", pages.len());
    pages
}

/// A page of 60 black boxes; every seed puts them elsewhere.
pub(crate) fn page_of_boxes(seed: u32) -> GrayImage {
    let mut state = seed * 7 + 1;
    let mut page = GrayImage::from_pixel(400, 560, Luma([255]));
    for _ in 0..60 {
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let (x, y, wide) = (20 + next(300), 20 + next(500), 8 + next(50));
        for (dx, dy) in (0..wide).flat_map(|dx| (0..9).map(move |dy| (dx, dy))) {
            page.put_pixel(x + dx, y + dy, Luma([0]));
        }
    }
    page
}

fn encoded_again(page: &GrayImage, quality: u8) -> GrayImage {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(page)
        .unwrap();
    image::load_from_memory(&bytes).unwrap().to_luma8()
}

/// Printed and scanned: turned by `degrees`, paler, grey, with noise.
fn scanned_again(page: &GrayImage, degrees: f64) -> GrayImage {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (width, height) = page.dimensions();
    let (middle_x, middle_y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    let mut noise = 1u32;
    GrayImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) - middle_x, f64::from(y) - middle_y);
        let (from_x, from_y) = (
            cos * dx - sin * dy + middle_x,
            sin * dx + cos * dy + middle_y,
        );
        let inside = from_x >= 0.0 && from_y >= 0.0;
        let pixel = match inside && (from_x as u32) < width && (from_y as u32) < height {
            true => f64::from(page.get_pixel(from_x as u32, from_y as u32).0[0]),
            false => 255.0,
        };
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = f64::from(noise >> 28) - 7.5;
        Luma([(0.85 * pixel + 20.0 + grain).clamp(0.0, 255.0) as u8])
    })
}

/// Of each kind one page in ten may be missed, but of those that are only encoded again.
#[test]
fn copies_of_a_page_are_near_it() {
    let mut missed: BTreeMap<&str, Vec<(String, u32)>> = BTreeMap::new();
    let pages = pages();
    for (name, page) in &pages {
        let hash = PageHash::of_gray(page).unwrap();
        let (width, height) = page.dimensions();
        let (left, top) = (width / 70, height / 70);
        let cropped = crop_imm(page, left, top, width - 2 * left, height - 2 * top);
        let scaled = |part: u32, filter| resize(page, width * part / 6, height * part / 6, filter);
        for (what, copy) in [
            ("encoded again", encoded_again(page, 40)),
            ("smaller", scaled(4, FilterType::CatmullRom)),
            ("larger", scaled(9, FilterType::Triangle)),
            ("cropped", cropped.to_image()),
            ("scanned", scanned_again(page, 0.2)),
        ] {
            let distance = hash.distance(PageHash::of_gray(&copy).unwrap());
            if distance > NEAR {
                missed
                    .entry(what)
                    .or_default()
                    .push((name.clone(), distance));
            }
        }
    }
    for (what, missed) in missed {
        let is_rare = missed.len() * 10 <= pages.len() && what != "encoded again";
        assert!(is_rare, "{what}: {missed:?}");
    }
}

#[test]
fn other_pages_of_one_form_are_not() {
    let pages = pages();
    // Backs of forms: the terms, the same for all. They are near, and rightly so.
    let fronts: Vec<_> = pages
        .iter()
        .filter(|(name, _)| !name.ends_with("_2.JPG"))
        .collect();
    let hashes: Vec<PageHash> = fronts
        .iter()
        .map(|(_, page)| PageHash::of_gray(page).unwrap())
        .collect();
    for a in 0..hashes.len() {
        for b in 0..a {
            let distance = hashes[a].distance(hashes[b]);
            assert!(
                distance > NEAR + 16,
                "{} {}: {distance}",
                fronts[a].0,
                fronts[b].0
            );
        }
    }
}

#[test]
fn blank_pages_have_no_hash() {
    let white = GrayImage::from_pixel(300, 400, Luma([255]));
    assert_eq!(PageHash::of_gray(&white), None);
    assert_eq!(
        PageHash::of(&DynamicImage::new_rgba8(300, 400)),
        None,
        "transparent is white"
    );
    assert_eq!(PageHash::of_gray(&GrayImage::new(0, 0)), None);
    // Any size is hashed without a panic.
    for (width, height) in [(1, 1), (1, 5000), (5000, 1), (7, 9), (384, 384)] {
        let image =
            GrayImage::from_fn(width, height, |x, y| Luma([((x * 7 + y * 13) % 256) as u8]));
        let _ = PageHash::of_gray(&image);
    }
}

#[test]
fn gray_is_what_people_see() {
    let colours = image::RgbImage::from_fn(4, 1, |x, _| {
        image::Rgb([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]][x as usize])
    });
    let colours = DynamicImage::ImageRgb8(colours);
    assert_eq!(gray(&colours).as_raw(), &[255, 76, 150, 29]);
    assert_eq!(
        gray(&colours.to_rgba8().into()).as_raw(),
        &[255, 76, 150, 29]
    );
    assert_eq!(
        gray(&colours.to_rgb16().into()).as_raw(),
        &[255, 76, 150, 29]
    );
}

#[test]
fn a_hash_is_128_hexadecimal_digits() {
    let (_, page) = &pages()[0];
    let hash = PageHash::of_gray(page).unwrap();
    let hex = hash.to_hex();
    assert_eq!(hex.len(), 128);
    assert_eq!(PageHash::from_hex(&hex), Some(hash));
    assert_eq!(
        PageHash::of(&DynamicImage::ImageLuma8(page.clone()).to_rgb8().into()),
        Some(hash)
    );
    for broken in ["", &hex[1..], &hex.replace(&hex[..1], "+"), &"é".repeat(64)] {
        assert_eq!(PageHash::from_hex(broken), None);
    }
}

#[test]
fn drawn_pages_differ_and_their_copies_do_not() {
    let pages: Vec<GrayImage> = (0..10).map(page_of_boxes).collect();
    let hashes: Vec<PageHash> = pages
        .iter()
        .map(|page| PageHash::of_gray(page).unwrap())
        .collect();
    for (a, page) in pages.iter().enumerate() {
        let copy = resize(page, 240, 336, FilterType::Triangle);
        for (b, hash) in hashes.iter().enumerate() {
            assert_eq!(
                PageHash::of_gray(&copy).unwrap().is_near(*hash),
                a == b,
                "{a} {b}"
            );
        }
    }
}

/// The words are counted one by one, and the digits read without a parser: both as the plain way.
#[test]
fn nearness_and_digits_are_those_of_the_plain_way() {
    let mut state = 3u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state ^ state >> 33
    };
    let (mut near, mut all) = (0, 0);
    for _ in 0..2000 {
        let page = PageHash(std::array::from_fn(|_| random()));
        let mut other = page;
        for _ in 0..40 + random() % 30 {
            let bit = (random() % 512) as usize;
            other.0[bit / 64] ^= 1 << (bit % 64);
        }
        assert_eq!(page.is_near(other), page.distance(other) <= NEAR);
        near += u32::from(page.is_near(other));
        all += 1;
        let hex = page.to_hex();
        assert_eq!(PageHash::from_hex(&hex), Some(page));
        assert_eq!(PageHash::from_hex(&hex.to_uppercase()), Some(page));
    }
    assert!(near > all / 10 && near < all * 9 / 10, "{near} of {all}");
}
