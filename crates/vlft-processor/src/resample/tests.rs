use super::*;
use proptest::prelude::*;
use vlft_base::digest::sha256;
use vlft_dataset::smart_resize::smart_resize;

/// The definition, one multiplication at a time in i64, straight from the description above.
fn plain(image: &RgbImage, width: usize, height: usize) -> Vec<Vec<[u8; 3]>> {
    fn axis(lines: &[Vec<[u8; 3]>], n_out: usize) -> Vec<Vec<[u8; 3]>> {
        if lines.len() == n_out {
            return lines.to_vec();
        }
        let filter = Filter::new(lines.len(), n_out);
        let weigh = |taps: &Taps, at: usize, c: usize| {
            let products = taps.weights.iter().zip(&lines[taps.first..]);
            let sum: i64 = products
                .map(|(w, line)| i64::from(*w) * i64::from(line[at][c]))
                .sum();
            ((sum + (1 << (filter.bits - 1))) >> filter.bits).clamp(0, 255) as u8
        };
        (filter.taps.iter())
            .map(|taps| {
                (0..lines[0].len())
                    .map(|at| [0, 1, 2].map(|c| weigh(taps, at, c)))
                    .collect()
            })
            .collect()
    }
    let columns: Vec<Vec<[u8; 3]>> = (0..image.width())
        .map(|x| {
            (0..image.height())
                .map(|y| image.get_pixel(x, y).0)
                .collect()
        })
        .collect();
    let wide = axis(&columns, width);
    let rows: Vec<Vec<[u8; 3]>> = (0..image.height() as usize)
        .map(|y| wide.iter().map(|column| column[y]).collect())
        .collect();
    axis(&rows, height)
}

fn interleaved(planes: &Planes) -> Vec<Vec<[u8; 3]>> {
    (0..planes.height)
        .map(|y| {
            let row = planes.row(y);
            (0..planes.width)
                .map(|x| [0, 1, 2].map(|c| row[c * planes.width + x]))
                .collect()
        })
        .collect()
}

/// Noise between hard black and white blocks: the cases where clamping matters.
fn picture(width: u32, height: u32, mut seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let noise = [0, 1, 2].map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        });
        match (x / 5 + y / 7) % 3 {
            0 => image::Rgb([0, 255, 0]),
            1 => image::Rgb([255, 0, 255]),
            _ => image::Rgb(noise),
        }
    })
}

#[test]
fn weights_of_every_position_sum_to_one_and_fit_their_type() {
    for (n_in, n_out) in [(97, 96), (9000, 32), (3, 320), (2200, 1312), (1, 32)] {
        let filter = Filter::new(n_in, n_out);
        for taps in &filter.taps {
            let sum: i64 = taps.weights.iter().map(|w| i64::from(*w)).sum();
            let rounding = taps.weights.len() as i64;
            assert!((sum - (1 << filter.bits)).abs() <= rounding);
            assert!(taps.first + taps.weights.len() <= n_in);
        }
    }
}

#[test]
fn an_image_of_the_right_size_is_untouched() {
    let image = picture(32, 64, 1);
    let planes = resample(&image, 32, 64);
    assert_eq!(interleaved(&planes), plain(&image, 32, 64));
    assert_eq!(planes.row(3)[32 + 5], image.get_pixel(5, 3).0[1]);
}

/// `tests/fixtures/resize_cases.json`: what transformers' image processor made of pictures that
/// its generator describes.
#[test]
fn every_picture_is_resized_as_by_torchvision() {
    #[derive(serde::Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        draw: String,
        seed: u32,
        width: u32,
        height: u32,
        min_pixels: u64,
        max_pixels: u64,
        resized_width: u32,
        resized_height: u32,
        source_sha256: String,
        sha256: String,
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/resize_cases.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let cases: Cases = serde_json::from_str(&text).unwrap();
    assert!(cases.cases.len() > 20);
    for case in cases.cases {
        let name = format!("{} {} x {}", case.draw, case.width, case.height);
        let image = drawn(&case.draw, case.seed, case.width, case.height);
        assert_eq!(
            sha256(image.as_raw()),
            case.source_sha256,
            "{name}: drawn differently"
        );
        let size = (case.width, case.height);
        let size = smart_resize(size, 32, case.min_pixels, case.max_pixels).unwrap();
        assert_eq!(size, (case.resized_width, case.resized_height), "{name}");
        let planes = resample(&image, size.0 as usize, size.1 as usize);
        let bytes: Vec<u8> = interleaved(&planes)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        assert_eq!(sha256(&bytes), case.sha256, "{name}: resized differently");
    }
}

fn drawn(draw: &str, mut state: u32, width: u32, height: u32) -> RgbImage {
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    match draw {
        "noise" => RgbImage::from_fn(width, height, |_, _| image::Rgb([next(), next(), next()])),
        "blocks" => {
            let columns = width.div_ceil(7);
            let cells: Vec<[u8; 3]> = (0..columns * height.div_ceil(5))
                .map(|_| [next(), next(), next()].map(|byte| if byte >= 128 { 255 } else { 0 }))
                .collect();
            RgbImage::from_fn(width, height, |x, y| {
                image::Rgb(cells[(y / 5 * columns + x / 7) as usize])
            })
        }
        "checker" => RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([0, 1, 2].map(|c| if (x + y + c) % 2 == 1 { 255 } else { 0 }))
        }),
        other => panic!("unknown picture {other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_fast_path_equals_the_plain_one(
        w in 1u32..150, h in 1u32..150, new_w in 1usize..6, new_h in 1usize..6, seed: u32,
    ) {
        let image = picture(w, h, seed);
        let (new_w, new_h) = (new_w * 32, new_h * 32);
        prop_assert_eq!(
            interleaved(&resample(&image, new_w, new_h)),
            plain(&image, new_w, new_h)
        );
    }
}
