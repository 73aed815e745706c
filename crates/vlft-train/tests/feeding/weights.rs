//! `meta.weight`: what a record counts in the loss and the gradients of its step.

use serde_json::{Value, json};
use vlft_train::config::{Config, LossAverage};

use crate::support::{Trained, config, records, train, write};

fn with_weight(mut record: Value, weight: f64) -> Value {
    record["meta"] = json!({ "weight": weight });
    record
}

fn run(records: &[Value], change: impl Fn(&mut Config)) -> Trained {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = config(&write(scratch.path(), records));
    config.data.shuffle = false;
    change(&mut config);
    train(&config, &scratch.path().join("run")).unwrap()
}

fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-6 * expected.abs(),
        "{found} is not {expected}"
    );
}

#[test]
fn weight_two_counts_like_the_record_twice() {
    let records = records();
    let (a, b) = (&records[0], &records[1]);
    let mut again = a.clone();
    again["id"] = json!("again");
    for average in [LossAverage::Token, LossAverage::MicroBatch] {
        let step = |records: &[Value]| {
            run(records, |config| {
                config.train.max_steps = Some(1);
                config.train.accumulate = records.len();
                config.train.loss_average = average;
            })
        };
        let twice = step(&[a.clone(), b.clone(), again.clone()]);
        let double = step(&[with_weight(a.clone(), 2.0), b.clone()]);
        close(double.steps[0].loss, twice.steps[0].loss);
        close(double.steps[0].grad_norm, twice.steps[0].grad_norm);
        // Only ratios matter.
        let scaled = step(&[with_weight(a.clone(), 0.5), with_weight(b.clone(), 0.25)]);
        close(scaled.steps[0].grad_norm, twice.steps[0].grad_norm);
        // It is not the plain mean, and a count stays a count.
        let plain = step(&[a.clone(), b.clone()]);
        assert!((plain.steps[0].loss - double.steps[0].loss).abs() > 1e-4);
        assert_eq!(
            plain.steps[0].supervised_tokens,
            double.steps[0].supervised_tokens
        );
    }
}

#[test]
fn weight_one_changes_no_bit_and_weight_zero_leaves_out() {
    let records = records();
    let two_steps = |config: &mut Config| {
        config.train.max_steps = Some(2);
        config.train.micro_batch = 2;
    };
    let plain = run(&records[..4], two_steps);
    let ones: Vec<Value> = records[..4]
        .iter()
        .map(|record| with_weight(record.clone(), 1.0))
        .collect();
    assert!(run(&ones, two_steps).adapter == plain.adapter);

    let mut more = records.clone();
    for record in &mut more[4..] {
        *record = with_weight(record.clone(), 0.0);
    }
    let left_out = run(&more, two_steps);
    assert!(left_out.adapter == plain.adapter);
    assert_eq!(
        left_out.warnings,
        ["4 records left out: `meta.weight` is 0"]
    );
}

#[test]
fn weights_that_cannot_work_are_told() {
    let scratch = tempfile::tempdir().unwrap();
    let records = records();
    let refused = |records: &[Value]| {
        let config = config(&write(scratch.path(), records));
        train(&config, &scratch.path().join("run")).err().unwrap()
    };
    let error = refused(&[with_weight(records[0].clone(), -1.0)]);
    assert!(
        error.to_string().contains("`meta.weight` must be"),
        "{error}"
    );
    assert_eq!(error.places()[0].line, Some(1));
    let error = refused(&[with_weight(records[0].clone(), 0.0)]);
    assert_eq!(error.message(), "every record has the weight 0");

    let alone = run(
        &[with_weight(records[4].clone(), 3.0), records[0].clone()],
        |config| config.train.max_steps = Some(2),
    );
    assert_eq!(
        alone.warnings,
        ["`meta.weight` has no effect: every step sees one record"]
    );
}
