//! The rest of the family: checkpoints that embed or rerank, and a model with experts that is stopped
//! and resumed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device as Flex;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use vlft_base::Diagnostic;
use vlft_checkpoint::{Checkpoint, Config as ModelConfig, LoraTargets};
use vlft_model::{Adapters, Frozen, Qwen3Vl};
use vlft_processor::processor::{Options as Limits, Processor};
use vlft_processor::sample::Sample;
use vlft_train::config::{Base, Config, Schedule};
use vlft_train::device::Device;
use vlft_train::eval::{self, Event, Outcome, Task};
use vlft_train::recipe;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The tiny model with tokens for the two words, in place of three that nobody needs.
fn reranker(to: &Path) {
    copy_files(&fixtures().join("tiny"), to);
    let path = to.join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    merges.truncate(merges.len() - 3);
    for (i, pair) in [["y", "e"], ["ye", "s"], ["n", "o"]].iter().enumerate() {
        merges.insert(i, json!(pair));
    }
    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
    let count = vocabulary.len() as u64;
    vocabulary.retain(|_, id| id.as_u64().unwrap() < count - 3);
    for (i, word) in ["ye", "yes", "no"].iter().enumerate() {
        vocabulary.insert((*word).into(), json!(count - 3 + i as u64));
    }
    fs::write(&path, json.to_string()).unwrap();
}

/// The records of the first fixture, each with another last answer.
fn records(dir: &Path, answer: impl Fn(usize) -> String) -> PathBuf {
    copy_files(&fixtures().join("data/images"), &dir.join("images"));
    let text = fs::read_to_string(fixtures().join("data/train.jsonl")).unwrap();
    let lines = text.lines().enumerate().map(|(i, line)| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let last = record["messages"]
            .as_array_mut()
            .unwrap()
            .last_mut()
            .unwrap();
        last["content"] = json!([{"type": "text", "text": answer(i)}]);
        format!("{record}\n")
    });
    let lines: String = lines.collect();
    let path = dir.join("pairs.jsonl");
    fs::write(&path, lines).unwrap();
    path
}

fn run(task: Task, model: &Path, data: &Path) -> (Result<Outcome, Diagnostic>, Vec<String>) {
    let options = eval::Options {
        task,
        model: model.to_path_buf(),
        adapter: None,
        data: data.to_path_buf(),
        device: Device::Cpu,
        min_pixels: None,
        max_pixels: None,
        base: None,
        compute: None,
    };
    let mut warnings = Vec::new();
    let outcome = eval::run(&options, &mut |event| {
        if let Event::Warning(warning) = event {
            warnings.push(warning.to_string());
        }
    });
    (outcome, warnings)
}

fn inputs(sample: &Sample) -> vlft_model::Inputs {
    let images = &sample.images;
    vlft_model::Inputs {
        rows: 1,
        tokens: sample.len(),
        input_ids: sample.input_ids.iter().map(|id| *id as i32).collect(),
        position_ids: sample.position_ids.concat(),
        pixel_values: images
            .iter()
            .flat_map(|i| i.pixel_values.iter().copied())
            .collect(),
        grid_thw: images.iter().map(|image| image.grid_thw).collect(),
        ..vlft_model::Inputs::default()
    }
}

/// The words and their order by hand: all logits of each prompt, and those of the two words.
#[test]
fn a_reranker_is_scored_by_yes_and_no() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("Tiny-Reranker");
    reranker(&dir);
    let yes_or_no = |i: usize| if i.is_multiple_of(3) { "yes" } else { "no" };
    let data = records(scratch.path(), |i| yes_or_no(i).into());
    let (outcome, warnings) = run(Task::Reranker, &dir, &data);
    let Outcome::Reranker(found) = outcome.unwrap() else {
        panic!("asked for a reranking")
    };
    assert_eq!(warnings, Vec::<String>::new());

    let config = ModelConfig::from_dir(&dir).unwrap();
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let frozen = Frozen::as_stored();
    let model = Qwen3Vl::load(&config, &checkpoint, None, frozen, &Flex::flex()).unwrap();
    let processor = Processor::from_dir(&dir, &Limits::default()).unwrap();
    let (yes, no) = (
        processor.word("yes").unwrap(),
        processor.word("no").unwrap(),
    );
    assert_eq!((yes, no), (313, 314));
    let text = fs::read_to_string(&data).unwrap();
    let (mut right, mut loss) = (0, 0.0);
    for (i, line) in text.lines().enumerate() {
        let record = serde_json::from_str(line).unwrap();
        let prompt = processor.prompt(&record, scratch.path()).unwrap();
        let inputs = inputs(&prompt.sample);
        let logits = model.logits(&inputs, &Adapters::none(), &mut |_, _| {});
        let logits: Vec<f32> = logits.into_data().iter().collect();
        let last = &logits[logits.len() - config.text.vocab_size..];
        let logit = f64::from(last[yes as usize] - last[no as usize]);
        let is_yes = yes_or_no(i) == "yes";
        right += usize::from((logit > 0.0) == is_yes);
        let probability = 1.0 / (1.0 + (-logit).exp());
        loss -= if is_yes {
            probability.ln()
        } else {
            (1.0 - probability).ln()
        };
    }
    let count = text.lines().count();
    assert_eq!(found.records, count as u64);
    assert_eq!(found.accuracy, right as f64 / count as f64);
    assert!(
        (found.loss - loss / count as f64).abs() < 1e-4,
        "{} {loss}",
        found.loss
    );

    // Without the task it is told what it looks like.
    let (_, warnings) = run(Task::Answers, &dir, &data);
    assert!(warnings[0].contains("Reranker"), "{warnings:?}");
}

#[test]
fn answers_that_are_neither_yes_nor_no_are_all_named() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("model");
    reranker(&dir);
    let data = records(scratch.path(), |i| {
        if i < 2 { "yes" } else { "perhaps" }.into()
    });
    let error = run(Task::Reranker, &dir, &data).0.unwrap_err();
    let count = fs::read_to_string(&data).unwrap().lines().count();
    assert_eq!(1 + error.further().len(), count - 2, "{error}");
    assert!(error.to_string().contains("perhaps"), "{error}");
    // A tokenizer without the words is not a Reranker's.
    let error = run(Task::Reranker, &fixtures().join("tiny"), &data)
        .0
        .unwrap_err();
    assert!(error.message().contains("`yes`"), "{error}");
}

/// Qwen3-VL-Embedding-8B has no head, although its config says that it has one of its own.
#[test]
fn an_embedding_checkpoint_needs_no_head() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("headless");
    copy_files(&fixtures().join("tiny"), &dir);
    let file = dir.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let body = tensors.iter().filter(|(name, _)| *name != "lm_head.weight");
    safetensors::serialize_to_file(body, None, &file).unwrap();

    let documents = ["one", "two", "a third"];
    let data = records(scratch.path(), |i| documents[i % 3].into());
    let (outcome, warnings) = run(Task::Embedding, &dir, &data);
    let Outcome::Embedding(found) = outcome.unwrap() else {
        panic!("asked for a retrieval")
    };
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        (found.records, found.documents, found.dimensions),
        (8, 3, 32)
    );
    // With the head, which nothing looks at, it is the same.
    let (whole, _) = run(Task::Embedding, &fixtures().join("tiny"), &data);
    assert_eq!(whole.unwrap(), Outcome::Embedding(found));

    // What has no head cannot answer, and says which checkpoint this is.
    let (outcome, warnings) = run(Task::Answers, &dir, &data);
    assert!(warnings[0].contains("Embedding"), "{warnings:?}");
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("lm_head.weight"), "{error}");
    assert!(
        error.hint_text().unwrap().contains("--task embedding"),
        "{error}"
    );
}

/// Interrupted after two of four steps and gone on with: the adapter of a run that was left alone, bit
/// for bit.
#[test]
fn a_model_with_experts_resumes_exactly() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = Config::new(
        fixtures().join("moe"),
        Base::Nf4,
        fixtures().join("data/train.jsonl"),
    );
    let names = ["q_proj", "k_proj", "v_proj", "o_proj"];
    config.lora.targets = LoraTargets::Names(names.map(String::from).to_vec());
    config.lora.rank = 3;
    config.lora.dropout = 0.1;
    config.train.max_steps = Some(4);
    config.train.micro_batch = 2;
    config.train.accumulate = 2;
    config.train.learning_rate = 2e-3;
    config.train.warmup_steps = 0;
    config.train.schedule = Schedule::Linear;
    config.eval.every_steps = 0;
    let train = |run: &str, stop_after: Option<usize>| {
        let (stop, mut steps) = (AtomicBool::new(false), 0);
        recipe::train(
            &config,
            &scratch.path().join(run),
            recipe::Options::default(),
            &mut |event| {
                if let recipe::Event::Progress(_) = event {
                    steps += 1;
                    stop.store(Some(steps) == stop_after, Ordering::Relaxed);
                }
            },
            &stop,
        )
    };
    let whole = train("whole", None).unwrap();
    let _ = train("parts", Some(2));
    let parts = train("parts", None).unwrap();
    let bytes = |adapter: &Path| fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    assert!(
        bytes(&whole.adapter) == bytes(&parts.adapter),
        "the adapters differ"
    );
}
