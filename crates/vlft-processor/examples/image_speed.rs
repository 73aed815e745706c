//! One side of `tests/fixtures/generate/image_speed.py`, which holds it against Hugging Face:
//!
//!     image_speed MODEL_DIR MAX_PIXELS WIDTH HEIGHT RAW_RGB_FILE THREADS
//!
//! For each line on stdin it makes patches of the decoded picture once and prints the seconds that
//! took; when stdin ends, the SHA-256 of the last pixel values (little-endian f32) and their grid.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use image::RgbImage;
use vlft_base::digest::Hasher;
use vlft_processor::processor::{Options, Processor};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, max_pixels, width, height, raw, threads] = args.as_slice() else {
        return Err(
            "usage: image_speed MODEL_DIR MAX_PIXELS WIDTH HEIGHT RAW_RGB_FILE THREADS".into(),
        );
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.parse()?)
        .build_global()?;
    let options = Options {
        min_pixels: Some(65_536),
        max_pixels: Some(max_pixels.parse()?),
    };
    let processor = Processor::from_dir(Path::new(model), &options)?;
    let image = RgbImage::from_raw(width.parse()?, height.parse()?, std::fs::read(raw)?)
        .ok_or("the file has not as many bytes as the size says")?;
    let mut stdout = std::io::stdout().lock();
    let mut last = None;
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let patched = processor.patches(&image)?;
        let seconds = start.elapsed().as_secs_f64();
        writeln!(stdout, "{seconds}")?;
        stdout.flush()?;
        last = Some(patched);
    }
    let last = last.ok_or("nothing was asked for")?;
    let mut hash = Hasher::default();
    for value in last.pixel_values.iter() {
        hash.add(value.to_le_bytes());
    }
    let digest = hash.finish();
    let [t, h, w] = last.grid_thw;
    writeln!(stdout, "{digest} {t} {h} {w}")?;
    Ok(())
}
