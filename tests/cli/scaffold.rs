//! The thirteen faults S1 to S13 of the Python scripts that people come from, each with what this
//! program does instead: it cannot happen here, or it is reported. More of what the scripts left
//! behind is in `cases/scaffold.txt`. Those of the trainer need the feature `train`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::zip::{file, zip};
use crate::support::{Said, repository, run_in};

const MAPPING: &str = r#"
version = 1
document = "Filename"
[prompt]
system = "Return ONLY valid JSON."
user = "Read the bill of lading."
[[fields]]
name = "bl_number"
type = "string"
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    /// Labels of these rows (document, B/L number), and empty images of these names.
    fn new(mapping: &str, rows: &[(&str, &str)], images: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<Value> = rows
            .iter()
            .map(|(name, bl)| json!({"Filename": name, "bl_number": bl}))
            .collect();
        fs::write(dir.path().join("results.json"), json!(rows).to_string()).unwrap();
        fs::write(dir.path().join("m.toml"), mapping).unwrap();
        fs::create_dir(dir.path().join("pages")).unwrap();
        for image in images {
            fs::write(dir.path().join("pages").join(image), image).unwrap();
        }
        Self(dir)
    }

    fn run(&self, command: &str) -> Said {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        run_in(self.0.path(), &arguments)
    }

    fn build(&self) -> Said {
        self.run(
            "build-jsonl --labels results.json --images pages --mapping m.toml --out all.jsonl",
        )
    }

    fn read(&self, name: &str) -> Vec<Value> {
        lines(&fs::read_to_string(self.0.path().join(name)).unwrap())
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn images(record: &Value) -> Vec<&str> {
    let parts = record["messages"].as_array().unwrap().iter();
    parts
        .flat_map(|m| m["content"].as_array().unwrap())
        .filter_map(|part| part["image"].as_str())
        .collect()
}

fn fixture(name: &str) -> String {
    let path = repository().join("tests/fixtures").join(name);
    let path = path.canonicalize().unwrap();
    path.to_string_lossy().replace('\\', "/")
}

/// S1: the loss was on the prompt and on every image token, not only on the answer.
#[test]
fn s01_only_the_answer_is_trained_on() {
    let (data, model) = (fixture("data/train.jsonl"), fixture("tiny"));
    let here = Path::new(".");
    let said = run_in(
        here,
        &["show", &data, ":2", "--model", &model, "--format", "json"],
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let shown: Value = serde_json::from_str(&said.stdout).unwrap();
    let trained: String = shown["text"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|span| span["trained"] == true)
        .filter_map(|span| span["text"].as_str())
        .collect();
    let record = &lines(&fs::read_to_string(&data).unwrap())[1];
    let answer = record["messages"][2]["content"][0]["text"]
        .as_str()
        .unwrap();
    assert_eq!(trained.trim_end(), format!("{answer}<|im_end|>"));
}

/// S2: what was too long was cut, through the answer or through the image tokens.
#[test]
fn s02_what_is_too_long_is_reported_and_never_cut() {
    let (data, model) = (fixture("data/train.jsonl"), fixture("tiny"));
    let said = run_in(
        Path::new("."),
        &["validate", &data, "--model", &model, "--max-tokens", "20"],
    );
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stdout.contains("error[too-long]"), "{}", said.stdout);
}

/// S3: the vision tower was quantised with the rest, without double quantisation or a choice.
#[cfg(feature = "train")]
#[test]
fn s03_vision_stays_in_sixteen_bits() {
    let lock = trained_lock();
    assert_eq!(lock["base"], "nf4");
    assert_eq!(lock["double_quant"], true);
    assert_eq!(lock["quantize"], json!(["language_model"]));
}

/// S4: the conversion for training dropped the system message and all pages but the first.
#[test]
fn s04_system_message_and_all_pages_reach_the_splits() {
    let folder = Folder::new(
        MAPPING,
        &[("a.pdf", "B1"), ("b.pdf", "B2")],
        &["a_1.png", "a_2.png", "b.png"],
    );
    assert_eq!(folder.build().code, Some(0));
    let said = folder.run("split all.jsonl --out splits --train 0.5 --val 0.5 --test 0");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let mut split = folder.read("splits/train.jsonl");
    split.extend(folder.read("splits/val.jsonl"));
    split.sort_by_key(|record| record["id"].as_str().unwrap().to_owned());
    assert_eq!(images(&split[0]), ["../pages/a_1.png", "../pages/a_2.png"]);
    for (record, built) in split.iter().zip(folder.read("all.jsonl")) {
        assert_eq!(record["messages"][0], built["messages"][0]);
        assert_eq!(record["messages"][0]["role"], "system");
        assert_eq!(record["messages"][2], built["messages"][2]);
    }
}

/// S5: `inv_1` took the scan of `inv_10`, and of several pages one was chosen.
#[test]
fn s05_no_document_takes_the_pages_of_another() {
    let folder = Folder::new(
        MAPPING,
        &[("inv_1.pdf", "B1"), ("inv_10.pdf", "B10")],
        &["inv_10_1.png", "inv_10_2.png"],
    );
    let said = folder.build();
    assert_eq!(said.code, Some(1));
    let records = folder.read("all.jsonl");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["id"], "inv_10.pdf");
    assert_eq!(
        images(&records[0]),
        ["pages/inv_10_1.png", "pages/inv_10_2.png"]
    );
    let rejects = folder.read("all.rejects.jsonl");
    assert_eq!(rejects[0]["name"], "inv_1.pdf");
    assert_eq!(rejects[0]["reason"], "no-image");
}

/// S6: the first row of a document won, whatever the later ones said.
#[test]
fn s06_rows_that_disagree_are_reported_with_both_values() {
    let folder = Folder::new(MAPPING, &[("a.pdf", "B1"), ("a.pdf", "B2")], &["a.png"]);
    let said = folder.build();
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout
            .contains("conflicting-values       1   `a.pdf`: `bl_number` is `\"B1\"` and `\"B2\"`"),
        "{}",
        said.stdout
    );
}

/// S7: the prompt asked for integers and every answer had texts.
#[test]
fn s07_a_prompt_that_contradicts_the_target_is_a_finding() {
    let mapping = MAPPING
        .replace("Read the bill of lading.", "- bl_number: (integer)")
        .replace("document =", "doc_type = \"x\"\ndocument =");
    let folder = Folder::new(&mapping, &[("a.pdf", "7")], &["a.png"]);
    let said = folder.build();
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains(
            "the prompt asks for an integer in `bl_number` in line 2, the target has a text"
        ),
        "{}",
        said.stderr
    );
    // In data that others made, the target's schema shows it.
    let schema = json!({"properties": {"bl_number": {"type": ["integer", "null"]}}});
    fs::write(folder.0.path().join("s.json"), schema.to_string()).unwrap();
    let said = folder.run("validate all.jsonl --target-schema s.json");
    assert!(
        said.stdout.contains("error[target-schema]"),
        "{}",
        said.stdout
    );
}

/// S8: ids were normalised file names, and two files had one id.
#[test]
fn s08_two_files_never_share_an_id() {
    let folder = Folder::new(
        MAPPING,
        &[("a b.pdf", "B1"), ("a_b.pdf", "B2")],
        &["a b.png", "a_b.png"],
    );
    assert_eq!(folder.build().code, Some(0));
    let records = folder.read("all.jsonl");
    assert_eq!(
        [&records[0]["id"], &records[1]["id"]],
        ["a b.pdf", "a_b.pdf"]
    );
    assert_eq!(images(&records[1]), ["pages/a_b.png"]);
}

/// S9: rows were shuffled, so pages and copies of one document were on both sides.
#[test]
fn s09_a_document_is_on_one_side_and_stays_there() {
    let names: Vec<String> = (0..12).map(|n| format!("d{n}.pdf")).collect();
    let rows: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), n.as_str())).collect();
    let pages: Vec<String> = (0..12).map(|n| format!("d{n}.png")).collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let folder = Folder::new(MAPPING, &rows, &pages);
    // Two documents show the same page.
    fs::write(folder.0.path().join("pages/d7.png"), "d3.png").unwrap();
    assert_eq!(folder.build().code, Some(0));
    let split = "split all.jsonl --out splits --train 0.5 --val 0.5 --test 0";
    assert_eq!(folder.run(split).code, Some(0));
    let train = folder.read("splits/train.jsonl");
    let has = |id: &str| train.iter().any(|record| record["id"] == id);
    assert_eq!(has("d3.pdf"), has("d7.pdf"));
    let said = folder.run("split --check splits");
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
}

/// S10: entries of a zip were written wherever their names led, whatever their size.
#[test]
fn s10_no_entry_leaves_the_folder_or_fills_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let archive = zip(&[
        file("good.png", b"x"),
        file("../up.png", b"x"),
        file("big.png", b"x").claimed_size(u32::MAX - 1),
    ]);
    fs::write(dir.path().join("a.zip"), archive).unwrap();
    let said = run_in(dir.path(), &["unpack", "a.zip", "--out", "out/deep"]);
    assert_eq!(said.code, Some(2));
    for refused in ["entry 2 `../up.png`", "entry 3 `big.png`"] {
        assert!(said.stderr.contains(refused), "{}", said.stderr);
    }
    assert!(!dir.path().join("out").exists());
}

/// S11: validation never opened an image.
#[test]
fn s11_a_damaged_image_is_found_before_training() {
    let folder = Folder::new(MAPPING, &[("a.pdf", "B1")], &["a.png"]);
    let whole = fs::read(fixture("data/images/000_000.png")).unwrap();
    let page = folder.0.path().join("pages/a.png");
    fs::write(&page, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(folder.build().code, Some(0));
    let said = folder.run("validate all.jsonl");
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("all.jsonl:1:"), "{}", said.stdout);
    assert!(said.stdout.contains("a.png"), "{}", said.stdout);
    fs::write(&page, &whole).unwrap();
    assert_eq!(folder.run("validate all.jsonl").code, Some(0));
}

/// S12: the merged model was exported in a format that today's vLLM does not load.
#[test]
fn s12_no_command_writes_bitsandbytes() {
    let quantize = "quantize --model m --out o --scheme";
    for scheme in ["bnb", "bitsandbytes", "nf4"] {
        let command: Vec<&str> = quantize.split(' ').chain([scheme]).collect();
        let said = run_in(Path::new("."), &command);
        assert_eq!(said.code, Some(2), "{scheme}: {}", said.stdout);
    }
}

/// S13: training resized the pages, serving did not know.
#[cfg(feature = "train")]
#[test]
fn s13_the_adapter_says_how_its_images_were_resized() {
    let lock = trained_lock();
    let trained = lock["contract"]["max_pixels"].as_u64().unwrap();
    assert_eq!(lock["mm_processor_kwargs"]["max_pixels"], trained);
    assert!(lock["contract"]["resample"].is_string());
}

/// What a short QLoRA run writes beside its adapter.
#[cfg(feature = "train")]
fn trained_lock() -> Value {
    let dir = crate::support::run::scratch(2);
    let said = crate::support::run::train(dir.path(), &["--set", "model.base=nf4"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let lock = dir.path().join("run/adapter/preprocess.lock.json");
    serde_json::from_str(&fs::read_to_string(lock).unwrap()).unwrap()
}
