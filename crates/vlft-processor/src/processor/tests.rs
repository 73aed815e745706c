use super::*;
use crate::token_count::count_whole;
use proptest::prelude::*;
use serde_json::json;
use std::fs;
use std::sync::LazyLock;
use vlft_dataset::record::Role;

fn tiny_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny")
}

static TINY: LazyLock<Processor> =
    LazyLock::new(|| Processor::from_dir(&tiny_dir(), &Options::default()).unwrap());

/// As the published vocabulary has it, two line breaks are one token.
static MERGING: LazyLock<Processor> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "config.json",
        "chat_template.json",
        "preprocessor_config.json",
        "tokenizer_config.json",
    ] {
        fs::copy(tiny_dir().join(name), dir.path().join(name)).unwrap();
    }
    let tokenizer = fs::read_to_string(tiny_dir().join("tokenizer.json")).unwrap();
    let merging = tokenizer.replacen("\"ĠĠĠĠĠ\":", "\"ĊĊ\":", 1).replacen(
        "[\"ĠĠ\",\"ĠĠĠ\"]",
        "[\"Ċ\",\"Ċ\"]",
        1,
    );
    fs::write(dir.path().join("tokenizer.json"), merging).unwrap();
    Processor::from_dir(dir.path(), &Options::default()).unwrap()
});

fn record(messages: serde_json::Value) -> Record {
    serde_json::from_value(json!({"id": "r", "messages": messages})).unwrap()
}

fn text(role: &str, text: &str) -> serde_json::Value {
    json!({"role": role, "content": [{"type": "text", "text": text}]})
}

proptest! {
    /// Counting piece by piece, with a memory, is counting the whole text.
    #[test]
    fn tokens_are_counted_as_they_are_made(
        system in "[a-z \\n]{0,20}", question in "\\PC{0,40}( <\\|)?", answers in proptest::collection::vec("[\\PC\\n]{0,60}", 1..3),
    ) {
        for processor in [&*TINY, &*MERGING] {
            let mut messages = vec![text("system", &system)];
            for answer in &answers {
                messages.push(text("user", &question));
                messages.push(text("assistant", answer));
            }
            let record = record(json!(messages));
            let Ok(conversation) = processor.conversation(&record) else { continue };
            let whole = count_whole(&processor.tokenizer, &conversation, &record);
            let pieces = processor.outline_count(&record);
            match (whole, pieces) {
                (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
                (Err(whole), Err(pieces)) => prop_assert_eq!(whole.rule(), pieces.rule()),
                (whole, pieces) => prop_assert!(false, "{} {}", whole.is_ok(), pieces.is_ok()),
            }
            prop_assert!(processor.tokenizer.splits);
        }
    }
}

/// What generation starts from must be what training put before the answer, token for token.
/// An answer for which that fails must be refused.
fn prompt_is_a_token_prefix(processor: &Processor, question: &str, answer: &str) {
    let record = record(json!([text("user", question), text("assistant", answer)]));
    let sample = match processor.sample(&record, Path::new("")) {
        Ok(sample) => sample,
        Err(e) => return assert_eq!(e.rule(), Some("answer-boundary"), "{e}"),
    };
    let Prompt {
        sample: prompt,
        target,
    } = processor.prompt(&record, Path::new("")).unwrap();
    assert_eq!(target, answer);
    assert_eq!(prompt.supervised(), 0);
    let trained = sample
        .labels
        .iter()
        .position(|label| *label != IGNORED)
        .unwrap();
    assert_eq!(
        sample.input_ids[..trained],
        prompt.input_ids,
        "{question:?} {answer:?}"
    );
    let end = sample
        .labels
        .iter()
        .rposition(|label| *label != IGNORED)
        .unwrap();
    assert!(
        sample.labels[trained..=end]
            .iter()
            .all(|label| *label != IGNORED)
    );
    let answer_again = processor.decode(&sample.input_ids[trained..end]).unwrap();
    // The tokenizer composes accents (NFC); otherwise nothing is lost.
    if answer.is_ascii() {
        assert_eq!(answer_again, answer);
    }
    assert_eq!(
        processor.decode(&[sample.input_ids[end]]).unwrap(),
        "<|im_end|>"
    );
}

proptest! {
    #[test]
    fn the_prompt_is_a_token_prefix_or_the_answer_is_refused(
        question in "[ \n\t{}a-zA-Z0-9éß你'\"\u{301}]{0,12}",
        answer in "[ \n\r\t{}:a-zA-Z0-9éß你'\"\u{301}]{0,12}",
    ) {
        prompt_is_a_token_prefix(&TINY, &question, &answer);
        prompt_is_a_token_prefix(&MERGING, &question, &answer);
    }
}

/// Images, positions and earlier turns of a prompt are those of the sample it is the head of.
#[test]
fn a_prompt_is_the_head_of_its_sample() {
    let data = tiny_dir().join("../data");
    let records = fs::read_to_string(data.join("train.jsonl")).unwrap();
    let mut several_turns = 0;
    for line in records.lines() {
        let record: Record = serde_json::from_str(line).unwrap();
        let (sample, prompt) = (
            TINY.sample(&record, &data).unwrap(),
            TINY.prompt(&record, &data).unwrap(),
        );
        let n = prompt.sample.len();
        assert_eq!(prompt.sample.input_ids, sample.input_ids[..n]);
        assert_eq!(
            prompt.sample.mm_token_type_ids,
            sample.mm_token_type_ids[..n]
        );
        for axis in 0..3 {
            assert_eq!(
                prompt.sample.position_ids[axis],
                sample.position_ids[axis][..n]
            );
        }
        assert_eq!(prompt.sample.images, sample.images);
        assert!(prompt.sample.labels.iter().all(|label| *label == IGNORED));
        assert_eq!(prompt.target, record.messages.last().unwrap().text());
        let answer = TINY.decode(&sample.input_ids[n..]).unwrap();
        assert_eq!(answer, prompt.target + "<|im_end|>\n");
        several_turns += usize::from(record.messages.len() > 3);
    }
    assert!(several_turns > 0);

    let question = record(json!([text("user", "?")]));
    let error = TINY.prompt(&question, Path::new("")).unwrap_err();
    assert_eq!(error.message(), "record `r` does not end with an answer");
    assert_eq!(TINY.stop_tokens(), [317, 315]);
}

#[test]
fn answers_that_begin_with_a_line_break_are_refused_others_are_not() {
    for (answer, fine) in [
        ("{}", true),
        (" {}", true),
        ("\t{}", true),
        ("\n{}", false),
        ("\n\n{}", false),
    ] {
        let record = record(json!([text("user", "?"), text("assistant", answer)]));
        assert_eq!(
            MERGING.sample(&record, Path::new("")).is_ok(),
            fine,
            "{answer:?}"
        );
        prompt_is_a_token_prefix(&MERGING, "?", answer);
    }
}

#[test]
fn under_every_template_the_trained_tokens_are_the_answers_and_their_ends() {
    let fixtures = tiny_dir().join("..");
    for template in ["plain.jinja", "tools.jinja"] {
        let dir = tempfile::tempdir().unwrap();
        for name in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
            fs::copy(tiny_dir().join(name), dir.path().join(name)).unwrap();
        }
        let source = fixtures.join("templates").join(template);
        fs::copy(source, dir.path().join("chat_template.jinja")).unwrap();
        let processor = Processor::from_dir(dir.path(), &Options::default()).unwrap();
        let data = fs::read_to_string(fixtures.join("data/train.jsonl")).unwrap();
        for line in data.lines() {
            let record: Record = serde_json::from_str(line).unwrap();
            let sample = processor.sample(&record, &fixtures.join("data")).unwrap();
            let trained: Vec<u32> = (sample.labels.iter())
                .filter(|label| **label != IGNORED)
                .map(|label| *label as u32)
                .collect();
            let answers: String = (record.messages.iter())
                .filter(|message| message.role == Role::Assistant)
                .map(|message| message.text() + "<|im_end|>")
                .collect();
            assert_eq!(processor.decode(&trained).unwrap(), answers, "{template}");
        }
    }
}

#[test]
fn images_that_are_missing_or_of_an_impossible_shape_are_named() {
    let dir = tempfile::tempdir().unwrap();
    image::RgbImage::new(1, 9000)
        .save(dir.path().join("tall.png"))
        .unwrap();
    let with = |name: &str| {
        let image = json!({"type": "image", "image": name});
        record(json!([{"role": "user", "content": [image]}, text("assistant", "{}")]))
    };
    for (name, rule) in [("tall.png", "image-aspect"), ("no.png", "image-missing")] {
        let sample = TINY.sample(&with(name), dir.path()).unwrap_err();
        let count = TINY.count(&with(name), dir.path()).unwrap_err();
        assert_eq!((sample.rule(), count.rule()), (Some(rule), Some(rule)));
        assert_eq!(sample.places()[0].file, dir.path().join(name));
    }
}

#[test]
fn a_conversation_that_stops_before_an_answer_has_nothing_to_train_on() {
    let record = record(json!([text("system", "a"), text("user", "b")]));
    assert_eq!(record.messages[1].role, Role::User);
    let sample = TINY.sample(&record, Path::new("")).unwrap();
    assert_eq!(sample.supervised(), 0);
    assert_eq!(
        TINY.count(&record, Path::new("")).unwrap().total,
        sample.len()
    );
}

#[test]
fn a_model_directory_with_a_fault_is_refused_by_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let restore = || {
        for name in names {
            fs::copy(tiny_dir().join(name), dir.path().join(name)).unwrap();
        }
    };
    restore();
    Processor::from_dir(dir.path(), &Options::default()).unwrap();
    for (name, from, to, expected) in [
        (
            "config.json",
            "\"image_token_id\": ",
            "\"image_token_id\": 1",
            "`image_token_id`",
        ),
        (
            "config.json",
            "\"vocab_size\": ",
            "\"vocab_size\": 0.",
            "`text_config.vocab_size`",
        ),
        ("config.json", "{", "{,", "not valid JSON"),
        (
            "tokenizer.json",
            "<|image_pad|>",
            "<|image_bad|>",
            "`<|image_pad|>`",
        ),
        (
            "tokenizer.json",
            "\"type\":\"BPE\"",
            "\"type\":\"XPE\"",
            "cannot use the tokenizer",
        ),
        (
            "tokenizer_config.json",
            "\"pad_token\": \"<|endoftext|>\"",
            "\"pad_token\": \"<pad>\"",
            "`<pad>`",
        ),
        (
            "tokenizer_config.json",
            "\"content\": \"<|im_start|>\"",
            "\"content\": \"<|im_end|>\"",
            "disagree",
        ),
    ] {
        restore();
        let path = dir.path().join(name);
        let whole = fs::read_to_string(&path).unwrap();
        let broken = whole.replacen(from, to, 1);
        assert_ne!(whole, broken, "{name} has no {from}");
        fs::write(&path, broken).unwrap();
        let Err(error) = Processor::from_dir(dir.path(), &Options::default()) else {
            panic!("{name} with {to} was accepted");
        };
        assert!(
            error.to_string().contains(expected),
            "{error} lacks {expected}"
        );
    }
    for name in ["preprocessor_config.json", "tokenizer.json"] {
        restore();
        fs::remove_file(dir.path().join(name)).unwrap();
        let Err(error) = Processor::from_dir(dir.path(), &Options::default()) else {
            panic!("a directory without {name} was accepted");
        };
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn the_contract_tells_what_changed() {
    let own = TINY.contract();
    let json = serde_json::to_string(&own).unwrap();
    let read: Contract = serde_json::from_str(&json).unwrap();
    assert_eq!(read, own);
    let options = Options {
        min_pixels: None,
        max_pixels: Some(8192),
    };
    let other = Processor::from_dir(&tiny_dir(), &options)
        .unwrap()
        .contract();
    assert_eq!(own.differences(&own), Vec::<String>::new());
    assert_eq!(
        own.differences(&other),
        [format!(
            "max_pixels: {} in the contract, 8192 now",
            own.max_pixels
        )]
    );
    let repeated = Processor::from_dir(&tiny_dir(), &other.options()).unwrap();
    assert_eq!(repeated.contract(), other);
}
