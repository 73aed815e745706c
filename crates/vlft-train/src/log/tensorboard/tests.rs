use super::*;

fn step(step: u64) -> Line {
    Line::Step(StepLine {
        step,
        loss: 1.0 / step as f64,
        grad_norm: 0.5,
        lr: 1e-4,
        tokens: 100,
        supervised_tokens: 10,
        seconds: 0.5,
        data_seconds: 0.25,
        device_bytes: None,
        samples: Vec::new(),
        padding_tokens: 0,
        skipped: Vec::new(),
    })
}

/// The file as TensorFlow's own writer makes it of the same two events (`golden.py` beside this file
/// made it with TensorBoard's protobuf classes).
#[test]
fn the_bytes_are_those_that_tensorboard_writes() {
    let mut clock = Clock {
        seconds: 1_700_000_000.25,
    };
    let mut file = record(&version_event(clock.seconds));
    file.extend(clock.records(&step(300)));
    assert_eq!(file, include_bytes!("golden.tfevents"));
}

#[test]
fn a_resumed_file_equals_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(TENSORBOARD_DIR).join(FILE);
    let lines: Vec<Line> = (1..=6).map(step).collect();
    let mut whole = TensorBoard::create(dir.path(), &[]).unwrap();
    for line in &lines {
        whole.write(line).unwrap();
    }
    drop(whole);
    let bytes = fs::read(&path).unwrap();

    // Killed after five lines and in the middle of a record; the checkpoint has four.
    fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
    let mut resumed = TensorBoard::create(dir.path(), &lines[..4]).unwrap();
    for line in &lines[4..] {
        resumed.write(line).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);

    // A file that is no longer there, or is not ours, is made anew.
    for foreign in [&b""[..], b"not an event file, but longer than one event"] {
        fs::write(&path, foreign).unwrap();
        drop(TensorBoard::create(dir.path(), &lines).unwrap());
        assert_eq!(fs::read(&path).unwrap().len(), bytes.len());
    }
}

#[test]
fn what_is_not_finite_is_left_out() {
    let mut clock = Clock { seconds: 0.0 };
    let Line::Step(mut line) = step(1) else {
        unreachable!()
    };
    line.loss = f64::NAN;
    let names: Vec<&str> = values(&Line::Step(line)).iter().map(|v| v.0).collect();
    assert_eq!(
        names,
        [
            "train/grad_norm",
            "train/learning_rate",
            "train/tokens_per_second",
            "train/data_wait_seconds"
        ]
    );
    for (field_accuracy, expected) in [
        (Some(0.5), &[("eval/field_accuracy", 0.5)][..]),
        (None, &[]),
    ] {
        let eval = Line::Eval(EvalLine {
            step: 1,
            loss: f64::INFINITY,
            records: 1,
            tokens: 1,
            seconds: 1.0,
            best: false,
            field_accuracy,
            score: None,
        });
        assert_eq!(values(&eval), expected);
        assert_eq!(clock.records(&eval).is_empty(), expected.is_empty());
    }
}
