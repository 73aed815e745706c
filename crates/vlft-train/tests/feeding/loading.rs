//! Micro-batches made ahead: the same as made on the spot, in order, with their errors in their
//! place, and gone when nobody wants them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vlft_base::Diagnostic;
use vlft_checkpoint::Config as ModelConfig;
use vlft_processor::processor::{Options as Limits, Processor};
use vlft_train::batch::MicroBatch;
use vlft_train::loading::{Stream, Workers};
use vlft_train::samples::{Limit, Samples};

use crate::support::{config, fixtures, records, steps, train, write};

pub(crate) fn open(data: &Path) -> Arc<Samples> {
    let model = fixtures().join("tiny");
    let processor = Arc::new(Processor::from_dir(&model, &Limits::default()).unwrap());
    let model = ModelConfig::from_dir(&model).unwrap();
    let (samples, _) = Samples::open(data, &processor, &model, Limit::NONE).unwrap();
    Arc::new(samples)
}

fn same(a: &MicroBatch, b: &MicroBatch) -> bool {
    let pixels = |batch: &MicroBatch| -> Vec<u32> {
        let values = batch.inputs.pixel_values.iter();
        values.map(|value| value.to_bits()).collect()
    };
    a.inputs.input_ids == b.inputs.input_ids
        && a.inputs.position_ids == b.inputs.position_ids
        && a.inputs.grid_thw == b.inputs.grid_thw
        && pixels(a) == pixels(b)
        && a.targets.rows == b.targets.rows
        && a.targets.ids == b.targets.ids
}

/// The line of the data set that an error names.
fn line(error: &Diagnostic) -> Option<u64> {
    error
        .places()
        .iter()
        .find_map(|place| place.line.filter(|_| place.file.ends_with("train.jsonl")))
}

#[test]
fn any_number_of_workers_gives_the_same_micro_batches_in_order() {
    let scratch = tempfile::tempdir().unwrap();
    let samples = open(&write(scratch.path(), &records()));
    let requests: Vec<Vec<usize>> = (0..40)
        .map(|i| vec![i * 5 % 8, (i * 3 + 1) % 8][..1 + i % 2].to_vec())
        .collect();
    for (workers, prefetch) in [(0, 4), (1, 0), (1, 3), (2, 4), (3, 100)] {
        let workers = Workers::new(workers, prefetch).unwrap();
        let mut stream = Stream::new(&samples, &workers, requests.iter().cloned());
        for (i, request) in requests.iter().enumerate() {
            let found = stream.next().unwrap().whole().unwrap();
            assert!(same(&found, &samples.batch(request).unwrap()), "{i}");
        }
        assert!(stream.next().is_none());
        assert!(stream.next().is_none());
    }
}

#[test]
fn an_error_stays_with_its_micro_batch_and_names_its_record() {
    let scratch = tempfile::tempdir().unwrap();
    let samples = open(&write(scratch.path(), &records()));
    // `sample-003` has one image, and no other record has it.
    fs::remove_file(
        scratch.path().join(
            records()[3]["messages"][1]["content"][0]["image"]
                .as_str()
                .unwrap(),
        ),
    )
    .unwrap();
    for threads in [0, 2] {
        let workers = Workers::new(threads, 4).unwrap();
        let requests = [vec![0], vec![4, 3, 1], vec![3], vec![1]];
        let mut stream = Stream::new(&samples, &workers, requests.into_iter());
        assert!(stream.next().unwrap().whole().is_ok());

        let part = stream.next().unwrap();
        let failed: Vec<usize> = part.failed.iter().map(|failed| failed.index).collect();
        assert_eq!(failed, [3]);
        let error = &part.failed[0].error;
        assert_eq!(error.message(), "image not found");
        assert_eq!(line(error), Some(4));
        assert!(same(
            part.batch.as_ref().unwrap(),
            &samples.batch(&[4, 1]).unwrap()
        ));
        assert!(part.whole().is_err());

        assert!(stream.next().unwrap().batch.is_none());
        assert!(stream.next().unwrap().whole().is_ok());
    }
}

#[test]
fn what_is_not_wanted_any_more_is_not_waited_for() {
    let scratch = tempfile::tempdir().unwrap();
    let samples = open(&write(scratch.path(), &records()));
    let workers = Workers::new(1, 50_000).unwrap();
    let begin = Instant::now();
    let mut stream = Stream::new(&samples, &workers, (0..50_000).map(|i| vec![i % 8]));
    stream.next().unwrap().whole().unwrap();
    drop(stream);
    assert!(begin.elapsed() < Duration::from_secs(60));
    // The threads are free again for the next one.
    let mut next = Stream::new(&samples, &workers, [vec![1]].into_iter());
    assert!(next.next().unwrap().whole().is_ok());
    assert!(begin.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_run_has_the_same_bits_with_and_without_workers_and_says_how_long_it_waited() {
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    let run = |workers: usize| {
        let mut config = config(&data);
        config.data.workers = workers;
        config.data.val = Some(data.clone());
        config.train.max_steps = Some(6);
        config.train.micro_batch = 2;
        train(&config, &scratch.path().join(format!("run-{workers}"))).unwrap()
    };
    let without = run(0);
    for workers in [1, 2] {
        let with = run(workers);
        assert!(with.adapter == without.adapter);
        let losses = |steps: &[vlft_train::log::StepLine]| -> Vec<u64> {
            steps.iter().map(|step| step.loss.to_bits()).collect()
        };
        assert_eq!(losses(&with.steps), losses(&without.steps));
    }
    for step in &without.steps {
        assert!(step.data_seconds > 0.0 && step.data_seconds < step.seconds);
    }
}

#[test]
fn an_image_that_vanishes_stops_at_its_step_and_the_run_goes_on_when_it_is_back() {
    let scratch = tempfile::tempdir().unwrap();
    let data = write(scratch.path(), &records());
    let image = scratch.path().join("images/000_000.png");
    let aside = scratch.path().join("aside.png");
    let mut config = config(&data);
    config.data.shuffle = false;
    config.train.max_steps = Some(20);
    config.train.micro_batch = 1;
    let run = scratch.path().join("run");

    // Away as soon as the first step is logged: `sample-000` comes again in step 9.
    let watch = {
        let (run, image, aside) = (run.clone(), image.clone(), aside.clone());
        move || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(60) {
                let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
                if metrics.contains('\n') {
                    fs::rename(image, aside).unwrap();
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    let watching = std::thread::spawn(watch);
    let error = train(&config, &run).err().expect("an image is gone");
    watching.join().unwrap();
    assert_eq!(error.message(), "image not found");
    assert_eq!(line(&error), Some(1));
    // Every eighth step needs it, and the steps before went well.
    assert_eq!(steps(&run).len() % 8, 0);
    assert!(!steps(&run).is_empty());

    fs::rename(aside, image).unwrap();
    assert_eq!(train(&config, &run).unwrap().steps.len(), 20);
}
