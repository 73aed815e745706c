//! How well the page hash tells pages apart: the nearest different pages of a folder, and how far
//! copies of each page are from it.
//!
//!     cargo run --release -p vlft-dataset --example page_hash -- PAGES [SHOWN]

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Instant;

use image::GrayImage;
use image::imageops::{FilterType, blur, crop_imm, resize};
use rayon::prelude::*;
use vlft_dataset::perceptual::{NEAR, PageHash, gray, near_pairs};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("the folder with the pages");
    let shown = arguments
        .next()
        .map_or(20, |n| n.parse().expect("a number"));
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(|entry| Some(entry.ok()?.into_path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let start = Instant::now();
    let pages: Vec<(PathBuf, PageHash, Vec<u32>)> = files
        .into_par_iter()
        .filter_map(|file| {
            let page = gray(&image::open(&file).ok()?).into_owned();
            let hash = PageHash::of_gray(&page)?;
            let far = |copy: &GrayImage| PageHash::of_gray(copy).map_or(512, |h| h.distance(hash));
            let copies = copies(&page).iter().map(far).collect();
            Some((file, hash, copies))
        })
        .collect();
    println!(
        "{} pages in {:.1} s",
        pages.len(),
        start.elapsed().as_secs_f64()
    );
    for (index, name) in COPIES.iter().enumerate() {
        let mut far: Vec<u32> = pages.iter().map(|page| page.2[index]).collect();
        far.sort_unstable();
        let found = far.iter().filter(|d| **d <= NEAR).count();
        let at = |part: usize| far[(far.len() - 1) * part / 100];
        println!(
            "{name:<18} median {:>3}  p90 {:>3}  max {:>3}  found {:.1} %",
            at(50),
            at(90),
            at(100),
            100.0 * found as f64 / far.len() as f64
        );
    }
    let mut pairs: Vec<(u32, usize, usize)> = (0..pages.len())
        .into_par_iter()
        .flat_map_iter(|a| {
            let pages = &pages;
            (0..a)
                .map(move |b| (pages[a].1.distance(pages[b].1), a, b))
                .filter(|pair| pair.0 < 120)
        })
        .collect();
    pairs.sort_unstable();
    let name = |index: usize| {
        pages[index]
            .0
            .file_name()
            .unwrap_or_default()
            .display()
            .to_string()
    };
    for limit in [0, 20, 40, NEAR, 64, 72, 80, 100, 119] {
        println!(
            "{} pairs up to {limit}",
            pairs.iter().filter(|p| p.0 <= limit).count()
        );
    }
    // Those just inside the limit and beyond are where mistakes would be.
    for (distance, a, b) in pairs.iter().filter(|pair| pair.0 > NEAR / 2).take(shown) {
        println!("{distance:>4}  {}  {}", name(*a), name(*b));
    }
    let hashes: Vec<PageHash> = pages.iter().map(|page| page.1).collect();
    println!("{} ties", near_pairs(&hashes).len());
}

const COPIES: [&str; 6] = [
    "jpeg 30",
    "half size",
    "2/5 size",
    "cropped 2 %",
    "scanned 0.3 deg",
    "scanned 0.7 deg",
];

fn copies(page: &GrayImage) -> Vec<GrayImage> {
    let (width, height) = page.dimensions();
    let mut bytes = Vec::new();
    let saved =
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 30).encode_image(page);
    let jpeg = saved
        .ok()
        .and_then(|()| image::load_from_memory(&bytes).ok());
    let scaled = |part: f64, filter| {
        let size = |side: u32| ((f64::from(side) * part) as u32).max(1);
        resize(page, size(width), size(height), filter)
    };
    let (left, top) = (width / 50, height / 66);
    vec![
        jpeg.map_or_else(|| page.clone(), |jpeg| jpeg.to_luma8()),
        scaled(0.5, FilterType::Lanczos3),
        scaled(0.4, FilterType::Triangle),
        crop_imm(
            page,
            left,
            top,
            (width - left * 2).max(1),
            (height - top * 2).max(1),
        )
        .to_image(),
        scanned(page, 0.3, 0.9, 6),
        scanned(page, -0.7, 0.85, 8),
    ]
}

/// Turned, blurred, paler, on grey, with grain.
fn scanned(page: &GrayImage, degrees: f64, contrast: f64, grain: u32) -> GrayImage {
    let page = &blur(page, 0.8);
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (width, height) = page.dimensions();
    let middle = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    let mut noise = 1u32;
    GrayImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) - middle.0, f64::from(y) - middle.1);
        let (u, v) = (
            cos * dx - sin * dy + middle.0 + 4.0,
            sin * dx + cos * dy + middle.1 - 6.0,
        );
        let inside = u >= 0.0 && v >= 0.0 && u < f64::from(width) && v < f64::from(height);
        let pixel = match inside {
            true => f64::from(page.get_pixel(u as u32, v as u32).0[0]),
            false => 255.0,
        };
        // The sum of four even ones is near enough to a bell.
        let mut sum = 0.0;
        for _ in 0..4 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum += f64::from(noise >> 16) / 65_535.0 - 0.5;
        }
        let value = contrast * pixel + (1.0 - contrast) * 178.0 + sum * f64::from(grain) * 1.7;
        image::Luma([value.clamp(0.0, 255.0) as u8])
    })
}
