//! Ours -> another format -> ours gives back what that format can hold, for every format that is
//! written; and whatever it cannot hold is counted. What should come back is worked out here by other
//! means than the converters use. proptest prints the failing case and its seed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use vlft_base::output::Existing;
use vlft_convert::{Format, Options, Report, convert};

/// A record as this test sees it: images by their bytes.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    id: String,
    turns: Vec<(String, Vec<Shown>)>,
    meta: Option<Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum Shown {
    Text(String),
    Image(Vec<u8>),
}

/// What a generated record says; images by their number in the pool.
#[derive(Clone, Debug)]
enum Said {
    Text(String),
    Image(usize),
}

#[derive(Clone, Debug)]
struct Invented {
    system: Option<String>,
    turns: Vec<(Vec<Said>, String)>,
    meta: Option<Map<String, Value>>,
}

const POOL: [&str; 4] = ["p/a.png", "p/b ä.png", "p/deep/c.jpg", "gray.png"];

fn pool(dir: &Path) {
    fs::create_dir_all(dir.join("p/deep")).unwrap();
    for (i, name) in POOL.iter().enumerate() {
        let side = 8 + i as u32;
        let path = dir.join(name);
        match i {
            3 => image::GrayImage::from_fn(side, side, |x, y| image::Luma([(x * y) as u8]))
                .save(path)
                .unwrap(),
            _ => image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, 7]))
                .save(path)
                .unwrap(),
        }
    }
}

/// Texts that are near to every border: tags and their halves, quotes, white space, other scripts.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => "[a-zA-Z0-9 .,:]{1,12}",
        2 => "[\\PC]{1,6}",
        1 => prop::sample::select(vec![
            "<image>", "<ima", "ge>", "<image", ">", "<video>", "\n", "\t ", "---", "\"\\\"", "提单 №7",
            "{\"total\":12}", "data:image/png;base64,AAAA", "👩‍🚀", "\u{2028}", "null",
        ]).prop_map(str::to_owned),
    ];
    prop::collection::vec(word, 1..4).prop_map(|words| words.concat())
}

/// With something to see in it.
fn answer() -> impl Strategy<Value = String> {
    (text(), "[a-z]{1,3}").prop_map(|(text, end)| text + &end)
}

fn meta() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        (-1e9..1e9f64).prop_map(|n| json!(n)),
        text().prop_map(|t| json!(t)),
        prop::collection::vec(any::<u8>(), 0..3).prop_map(|v| json!(v)),
        Just(json!(null)),
        Just(json!({"deep": {"er": [1.5, true]}})),
    ];
    prop::collection::btree_map("[a-z]{1,5}", value, 0..4).prop_map(|map| map.into_iter().collect())
}

fn invented() -> impl Strategy<Value = Invented> {
    let said = prop_oneof![
        3 => text().prop_map(Said::Text),
        2 => (0..POOL.len()).prop_map(Said::Image),
    ];
    let turn = (prop::collection::vec(said, 1..5), answer());
    (
        prop::option::of(answer()),
        prop::collection::vec(turn, 1..4),
        prop::option::of(meta()),
    )
        .prop_map(|(system, turns, meta)| Invented {
            system,
            turns,
            meta,
        })
}

fn line(number: usize, record: &Invented) -> Value {
    let text = |text: &str| json!({"type": "text", "text": text});
    let mut messages = Vec::new();
    if let Some(system) = &record.system {
        messages.push(json!({"role": "system", "content": [text(system)]}));
    }
    for (asked, answered) in &record.turns {
        let content: Vec<Value> = asked
            .iter()
            .map(|said| match said {
                Said::Text(words) => text(words),
                Said::Image(at) => json!({"type": "image", "image": POOL[*at]}),
            })
            .collect();
        messages.push(json!({"role": "user", "content": content}));
        messages.push(json!({"role": "assistant", "content": [text(answered)]}));
    }
    let mut line = json!({"id": format!("r{number}"), "messages": messages});
    if let Some(meta) = &record.meta {
        line["meta"] = Value::Object(meta.clone());
    }
    line
}

/// Texts side by side joined, images read.
fn seen(dir: &Path, line: &Value) -> Seen {
    let mut turns = Vec::new();
    for message in line["messages"].as_array().unwrap() {
        let mut shown: Vec<Shown> = Vec::new();
        for part in message["content"].as_array().unwrap() {
            match (part.get("text"), shown.last_mut()) {
                (Some(text), Some(Shown::Text(before))) => before.push_str(text.as_str().unwrap()),
                (Some(text), _) => shown.push(Shown::Text(text.as_str().unwrap().to_owned())),
                (None, _) => {
                    let path = dir.join(part["image"].as_str().unwrap());
                    shown.push(Shown::Image(fs::read(path).unwrap()));
                }
            }
        }
        shown.retain(|shown| *shown != Shown::Text(String::new()));
        turns.push((message["role"].as_str().unwrap().to_owned(), shown));
    }
    Seen {
        id: line["id"].as_str().unwrap().to_owned(),
        turns,
        meta: line.get("meta").filter(|meta| *meta != &json!({})).cloned(),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    match fs::read_to_string(path) {
        Ok(text) => text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Whether a format with `<image>` in its texts cannot say this record. A character that no text has
/// stands for the images.
fn has_tags_as_words(record: &Seen) -> bool {
    record.turns.iter().any(|(_, shown)| {
        let joined: String = shown
            .iter()
            .map(|shown| match shown {
                Shown::Text(text) => text.as_str(),
                Shown::Image(_) => "\u{10FFFF}",
            })
            .collect();
        ["<image>", "<video>", "<audio>"]
            .iter()
            .any(|tag| joined.contains(tag))
    })
}

fn images(record: &Seen) -> usize {
    let all = record.turns.iter().flat_map(|(_, shown)| shown);
    all.filter(|shown| matches!(shown, Shown::Image(_))).count()
}

/// The records that come back, or `None` for one that is rejected.
fn held(format: Format, number: usize, record: &Seen) -> Option<Seen> {
    let mut back = record.clone();
    match format {
        Format::LlamaFactory | Format::Alpaca | Format::Swift | Format::Qwen => {
            // Alpaca keeps the system text in a column, where a tag is a word.
            let mut said = record.clone();
            if matches!(format, Format::Alpaca | Format::Qwen) {
                said.turns.retain(|(role, _)| role != "system");
            }
            (!has_tags_as_words(&said)).then_some(back)
        }
        Format::OpenAi => {
            back.id = format!("there-{number:06}");
            back.meta = None;
            for (_, shown) in &mut back.turns {
                for shown in shown {
                    if let Shown::Image(bytes) = shown {
                        *bytes = in_colour(bytes);
                    }
                }
            }
            (images(record) <= 10).then_some(back)
        }
        Format::Vlft | Format::Trl | Format::TrlMessages => Some(back),
        Format::OlmOcr | Format::LabelStudio => unreachable!("tested by themselves"),
    }
}

/// The one gray image of the pool becomes RGB; compared by its pixels.
fn in_colour(bytes: &[u8]) -> Vec<u8> {
    let decoded = image::load_from_memory(bytes).unwrap();
    match decoded.color() {
        image::ColorType::L8 => pixels(&decoded.to_rgb8()),
        _ => bytes.to_vec(),
    }
}

fn pixels(image: &image::RgbImage) -> Vec<u8> {
    [image.width().to_be_bytes().to_vec(), image.as_raw().clone()].concat()
}

fn options(input: &Path, from: Option<Format>, to: Format, out: &Path) -> Options {
    Options {
        input: input.to_path_buf(),
        from,
        to,
        out: out.to_path_buf(),
        images: Vec::new(),
        copy_images: false,
        prompt: None,
        strict: false,
        existing: Existing::Refuse,
        dry_run: false,
    }
}

fn run(options: &Options) -> Report {
    convert(options, &|_, _| {}).unwrap()
}

/// Counts that reconcile, and lists that have what was counted.
fn check_counts(report: &Report, out: &Path) {
    assert_eq!(report.read, report.written + report.rejected);
    let list = |ending: &str| {
        let name = out.file_name().unwrap().to_str().unwrap();
        let name = name.strip_suffix(".jsonl").unwrap_or(name);
        lines(&out.with_file_name(format!("{name}{ending}")))
    };
    let rejects = list(".rejects.jsonl");
    assert_eq!(rejects.len() as u64, report.rejected);
    let places: std::collections::BTreeSet<String> = list(".losses.jsonl")
        .iter()
        .map(|line| line["place"].to_string())
        .collect();
    assert_eq!(places.len() as u64, report.with_losses);
    for line in rejects {
        assert!(!line["reason"].as_str().unwrap().is_empty());
        assert!(report.rejects.contains_key(line["rule"].as_str().unwrap()));
    }
}

fn there_and_back(format: Format, extension: &str, records: &[Invented]) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    pool(dir.path());
    let ours: Vec<Value> = records
        .iter()
        .enumerate()
        .map(|(i, r)| line(i, r))
        .collect();
    let text: String = ours.iter().map(|line| format!("{line}\n")).collect();
    fs::write(at("ours.jsonl"), text).unwrap();

    // Into another folder, so that relative paths must be made anew.
    let there = at("x").join(format!("there.{extension}"));
    let report = run(&options(
        &at("ours.jsonl"),
        Some(Format::Vlft),
        format,
        &there,
    ));
    check_counts(&report, &there);
    let mut expected = Vec::new();
    let mut by_number = BTreeMap::new();
    for line in &ours {
        let original = seen(dir.path(), line);
        if let Some(held) = held(format, expected.len() + 1, &original) {
            by_number.insert(expected.len(), original);
            expected.push(held);
        }
    }
    assert_eq!(report.written as usize, expected.len());
    assert_eq!(report.rejected as usize, ours.len() - expected.len());
    if expected.is_empty() {
        assert!(!there.exists() && report.out.is_none());
        return;
    }
    let back = at("back/ours.jsonl");
    let report = run(&options(&there, Some(format), Format::Vlft, &back));
    check_counts(&report, &back);
    assert_eq!(report.rejected, 0, "{:?}", report.rejects);
    let returned: Vec<Seen> = lines(&back)
        .iter()
        .map(|line| seen(&at("back"), line))
        .collect();
    assert_eq!(returned.len(), expected.len());
    for (returned, expected) in returned.into_iter().zip(expected) {
        let returned = match format {
            Format::OpenAi => with_pixels(returned, &expected),
            _ => returned,
        };
        assert_eq!(returned, expected);
    }
}

/// A recoded PNG is compared by its pixels.
fn with_pixels(mut returned: Seen, expected: &Seen) -> Seen {
    let of = |seen: &Seen| -> Vec<Shown> {
        seen.turns
            .iter()
            .flat_map(|(_, shown)| shown.clone())
            .collect()
    };
    let wanted = of(expected);
    let mut at = 0;
    for (_, shown) in &mut returned.turns {
        for shown in shown {
            if let Shown::Image(bytes) = shown
                && wanted.get(at) != Some(&Shown::Image(bytes.clone()))
            {
                *bytes = pixels(&image::load_from_memory(bytes).unwrap().to_rgb8());
            }
            at += 1;
        }
    }
    returned
}

fn few() -> ProptestConfig {
    ProptestConfig {
        cases: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn vlft(records in prop::collection::vec(invented(), 1..6)) {
        there_and_back(Format::Vlft, "jsonl", &records);
    }

    #[test]
    fn llama_factory(records in prop::collection::vec(invented(), 1..6), ending in "json|jsonl") {
        there_and_back(Format::LlamaFactory, &ending, &records);
    }

    #[test]
    fn alpaca(records in prop::collection::vec(invented(), 1..6), ending in "json|jsonl") {
        there_and_back(Format::Alpaca, &ending, &records);
    }

    #[test]
    fn swift(records in prop::collection::vec(invented(), 1..6)) {
        there_and_back(Format::Swift, "jsonl", &records);
    }

    #[test]
    fn qwen(records in prop::collection::vec(invented(), 1..6), ending in "json|jsonl") {
        there_and_back(Format::Qwen, &ending, &records);
    }

    #[test]
    fn openai(records in prop::collection::vec(invented(), 1..6)) {
        there_and_back(Format::OpenAi, "jsonl", &records);
    }

    #[test]
    fn trl(records in prop::collection::vec(invented(), 1..6)) {
        there_and_back(Format::Trl, "parquet", &records);
    }

    #[test]
    fn trl_messages(records in prop::collection::vec(invented(), 1..6)) {
        there_and_back(Format::TrlMessages, "parquet", &records);
    }

    /// One page and its text; the page comes back as somebody else's image of the PDF.
    #[test]
    fn olmocr(asked in text(), answered in answer(), fits in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        pool(dir.path());
        let mut turns = vec![(vec![Said::Image(0), Said::Text(asked)], answered.clone())];
        if !fits {
            turns[0].0.push(Said::Image(1));
        }
        let record = Invented { system: None, turns, meta: None };
        fs::write(at("ours.jsonl"), line(7, &record).to_string()).unwrap();
        let report = run(&options(&at("ours.jsonl"), None, Format::OlmOcr, &at("pairs")));
        prop_assert_eq!(report.written == 1, fits);
        if fits {
            prop_assert!(fs::read(at("pairs/r7.pdf")).unwrap().starts_with(b"%PDF"));
            fs::copy(at("p/a.png"), at("pairs/r7.png")).unwrap();
            let back = at("back.jsonl");
            let mut options = options(&at("pairs"), None, Format::Vlft, &back);
            options.prompt = Some("What?".to_owned());
            run(&options);
            let record = seen(dir.path(), &lines(&back)[0]);
            prop_assert_eq!(&record.id, "r7");
            prop_assert_eq!(&record.turns[1].1, &vec![Shown::Text(answered.trim().to_owned())]);
            let page = Shown::Image(fs::read(at("p/a.png")).unwrap());
            prop_assert_eq!(&record.turns[0].1, &vec![page, Shown::Text("What?".to_owned())]);
        }
    }
}
