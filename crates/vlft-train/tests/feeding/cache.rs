//! Decoded images on disk: the same bits, whatever is done to the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use vlft_checkpoint::Config as ModelConfig;
use vlft_processor::image_cache::CacheReport;
use vlft_processor::processor::{Options as Limits, Processor};
use vlft_train::samples::{Limit, Samples};

use crate::support::{config, fixtures, records, train, write};

/// The pixels of every record, and what the cache did.
fn pixels(
    data: &Path,
    cache: Option<&Path>,
    max_pixels: Option<u64>,
) -> (Vec<Vec<u32>>, Option<CacheReport>) {
    let dir = fixtures().join("tiny");
    let limits = Limits {
        max_pixels,
        ..Limits::default()
    };
    let processor = Processor::from_dir(&dir, &limits).unwrap();
    let processor = Arc::new(match cache {
        None => processor,
        Some(cache) => processor.with_cache(cache).unwrap(),
    });
    let model = ModelConfig::from_dir(&dir).unwrap();
    let (samples, _) = Samples::open(data, &processor, &model, Limit::NONE).unwrap();
    let report = processor.cache_report();
    let all = (0..samples.len()).map(|index| {
        let sample = samples.sample(index).unwrap();
        assert_eq!(sample.len(), samples.lengths()[index], "as it was checked");
        let values = sample
            .images
            .iter()
            .flat_map(|image| image.pixel_values.iter());
        values.map(|value| value.to_bits()).collect()
    });
    (all.collect(), report)
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(cache).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()))
        .collect();
    all.sort();
    all
}

/// Thirteen images, all different.
const IMAGES: u64 = 13;

#[test]
fn cached_pixels_are_the_same_bits_and_every_image_is_decoded_once() {
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    let cache = scratch.path().join("deep/cache");
    let (plain, none) = pixels(&data, None, None);
    assert!(none.is_none());
    let (cold, report) = pixels(&data, Some(&cache), None);
    let report = report.unwrap();
    assert_eq!((report.found, report.made), (0, IMAGES));
    let on_disk: u64 = entries(&cache)
        .iter()
        .map(|entry| fs::metadata(entry).unwrap().len())
        .sum();
    assert_eq!(report.bytes, on_disk);
    let (warm, report) = pixels(&data, Some(&cache), None);
    assert_eq!(report.map(|r| (r.found, r.made)), Some((IMAGES, 0)));
    assert!(plain == cold && plain == warm);
    assert_eq!(entries(&cache).len() as u64, IMAGES);

    // Other limits are other entries, and so are other bytes under the same name.
    let (small, report) = pixels(&data, Some(&cache), Some(4_096));
    assert_eq!(report.map(|r| (r.found, r.made)), Some((0, IMAGES)));
    assert!(small != plain && small == pixels(&data, None, Some(4_096)).0);
    let image = scratch.path().join("images/000_000.png");
    fs::copy(scratch.path().join("images/006_010.png"), &image).unwrap();
    let (changed, report) = pixels(&data, Some(&cache), None);
    assert_eq!(report.map(|r| (r.found, r.made)), Some((IMAGES, 0)));
    assert!(changed[0] == plain[6] && changed[1..] == plain[1..]);
}

#[test]
fn processes_may_share_a_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    let cache = scratch.path().join("cache");
    let (plain, _) = pixels(&data, None, None);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| pixels(&data, Some(&cache), None).0))
            .collect();
        for found in all {
            assert!(found.join().unwrap() == plain);
        }
    });
    assert_eq!(entries(&cache).len() as u64, IMAGES, "no left-overs");
}

#[test]
fn a_damaged_entry_is_told_and_made_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    let cache = scratch.path().join("cache");
    let mut config = config(&data);
    config.data.cache = Some(cache.clone());
    config.train.epochs = 2;
    config.train.accumulate = 4;
    let run = |name: &str| train(&config, &scratch.path().join(name)).unwrap();
    let whole = run("whole");
    assert!(whole.warnings.is_empty(), "{:?}", whole.warnings);
    let header = format!("\ncache    `{}`: 0 of 13 images found, ", cache.display());
    assert!(whole.header.contains(&header), "{}", whole.header);
    let good: Vec<Vec<u8>> = entries(&cache)
        .iter()
        .map(|e| fs::read(e).unwrap())
        .collect();

    for damage in ["cut", "bit", "head", "empty", "long"] {
        for (entry, good) in entries(&cache).iter().zip(&good).step_by(3) {
            let mut bytes = good.clone();
            match damage {
                "cut" => bytes.truncate(good.len() / 2),
                "bit" => bytes[good.len() - 5] ^= 4,
                "head" => bytes[9] ^= 1,
                "empty" => bytes.clear(),
                _ => bytes.push(0),
            }
            fs::write(entry, bytes).unwrap();
        }
        let mended = run(damage);
        assert!(mended.adapter == whole.adapter, "{damage}");
        assert!(!mended.warnings.is_empty(), "{damage}");
        for warning in &mended.warnings {
            assert!(warning.contains("damaged"), "{warning}");
        }
        let now: Vec<Vec<u8>> = entries(&cache)
            .iter()
            .map(|e| fs::read(e).unwrap())
            .collect();
        assert!(now == good, "{damage}");
    }
    assert!(run("warm").header.contains(": 13 of 13 images found, "));
}

#[test]
fn a_folder_that_cannot_be_written_costs_time_only() {
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    let cache = scratch.path().join("cache");
    fs::create_dir(&cache).unwrap();
    for first in 0..=255 {
        fs::write(cache.join(format!("{first:02x}")), "in the way").unwrap();
    }
    let mut config = config(&data);
    config.train.max_steps = Some(3);
    let plain = train(&config, &scratch.path().join("plain")).unwrap();
    config.data.cache = Some(cache);
    let run = train(&config, &scratch.path().join("run")).unwrap();
    assert!(run.adapter == plain.adapter);
    assert_eq!(
        run.warnings
            .iter()
            .filter(|w| w.contains("cannot be written"))
            .count(),
        1,
        "{:?}",
        run.warnings
    );
    config.data.cache = Some(data);
    let error = train(&config, &scratch.path().join("other")).err().unwrap();
    assert!(error.message().starts_with("cannot create"), "{error}");
}

#[test]
fn a_broken_image_is_told_before_the_first_step_with_and_without_a_cache() {
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    let cache = scratch.path().join("cache");
    pixels(&data, Some(&cache), None);
    let image = scratch.path().join("images/001_002.png");
    let mut bytes = fs::read(&image).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&image, bytes).unwrap();
    let mut more = records();
    more[4]["messages"][1]["content"] = json!([{"type": "text", "text": "<|im_end|>"}]);
    write(scratch.path(), &more);
    for cache in [None, Some(cache)] {
        let mut config = config(&data);
        config.data.cache = cache;
        let run = scratch.path().join("run");
        let error = train(&config, &run).err().unwrap();
        assert!(!run.exists(), "{error}");
        write(scratch.path(), &records());
        let image = train(&config, &run).err().unwrap();
        assert_eq!(image.message(), "cannot decode image");
        assert!(!run.exists());
        write(scratch.path(), &more);
    }
}
