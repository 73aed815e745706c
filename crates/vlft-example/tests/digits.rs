//! The pictures are what the answers say.

use std::fs;

use serde_json::Value;
use vlft_base::output::Existing;
use vlft_example::digits::{Options, Task, generate};

#[test]
fn answers_are_balanced_and_name_what_the_pictures_show() {
    let scratch = tempfile::tempdir().unwrap();
    for (task, key, classes) in [(Task::Digit, "digit", 10), (Task::Colour, "colour", 6)] {
        let out = scratch.path().join(key);
        let options = Options {
            task,
            train: 3 * classes,
            val: classes,
            seed: 3,
            existing: Existing::Refuse,
        };
        generate(&options, &out).unwrap();
        for (split, each) in [("train", 3), ("val", 1)] {
            let mut answers = Vec::new();
            for line in fs::read_to_string(out.join(format!("{split}.jsonl")))
                .unwrap()
                .lines()
            {
                let record: Value = serde_json::from_str(line).unwrap();
                let answer = record["messages"][1]["content"][0]["text"]
                    .as_str()
                    .unwrap();
                let answer: Value = serde_json::from_str(answer).unwrap();
                let name = record["messages"][0]["content"][0]["image"]
                    .as_str()
                    .unwrap();
                let picture = image::open(out.join(name)).unwrap().to_rgb8();
                assert_eq!(picture.dimensions(), (64, 64));
                if task == Task::Colour {
                    assert_eq!(colour_of(&picture), answer[key].as_str().unwrap(), "{name}");
                }
                answers.push(answer[key].to_string());
            }
            answers.sort();
            let mut distinct = answers.clone();
            distinct.dedup();
            assert_eq!(
                (answers.len(), distinct.len()),
                (each * classes, classes),
                "{key} {split}"
            );
        }
    }
}

/// Of the pixel that differs most from the paper in the corners' shade.
fn colour_of(picture: &image::RgbImage) -> &'static str {
    let paper = *picture
        .pixels()
        .max_by_key(|p| p.0.iter().map(|v| u32::from(*v)).min())
        .unwrap();
    let far = |p: &image::Rgb<u8>| {
        p.0.iter()
            .zip(paper.0)
            .map(|(a, b)| u32::from(a.abs_diff(b)))
            .sum::<u32>()
    };
    let [r, g, b] = picture
        .pixels()
        .max_by_key(|p| far(p))
        .unwrap()
        .0
        .map(|v| v > 110);
    match (r, g, b) {
        (true, false, false) => "red",
        (false, true, false) => "green",
        (false, false, true) => "blue",
        (true, true, false) => "yellow",
        (false, false, false) => "black",
        (true, false, true) => "purple",
        _ => "something else",
    }
}
