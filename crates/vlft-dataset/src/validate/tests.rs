//! The whole of `validate` on small files; each case is a line and what is said about it.

use std::fs;
use std::path::Path;

use vlft_base::Result;

use super::*;
use crate::perceptual::tests::page_of_boxes;
use crate::token_counter::{Resize, TokenCount};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path("p")).unwrap();
        for (name, width, height) in [
            ("1.png", 64, 64),
            ("2.png", 64, 64),
            ("long.png", 1, 9000),
            ("tiny.png", 9, 9),
        ] {
            let shade = image::Rgb([name.as_bytes()[0]; 3]);
            image::RgbImage::from_pixel(width, height, shade)
                .save(folder.path("p").join(name))
                .unwrap();
        }
        let cut = fs::read(folder.path("p/1.png")).unwrap();
        fs::write(folder.path("p/cut.png"), &cut[..cut.len() - 30]).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> Options {
        Options {
            file: self.path("d.jsonl"),
            decode: Decode::Full,
            rules: Selection::default(),
            target_schema: None,
            max_tokens: None,
            fix_out: None,
            existing: Existing::Refuse,
            dry_run: false,
        }
    }

    /// Every problem of a file, without the directory's name, and the summary.
    fn check(
        &self,
        bytes: impl AsRef<[u8]>,
        change: impl FnOnce(&mut Options),
    ) -> (Vec<String>, Summary) {
        fs::write(self.path("d.jsonl"), bytes).unwrap();
        let mut options = self.options();
        change(&mut options);
        let mut told = Vec::new();
        let summary = validate(
            &options,
            Some(&Letters),
            &mut |p| told.push(p.to_string()),
            &|_| {},
        )
        .unwrap();
        let prefix = format!("{}/", shown(self.0.path()));
        (
            told.into_iter()
                .map(|line| line.replace(&prefix, ""))
                .collect(),
            summary,
        )
    }
}

/// A token per letter of text: enough to see that counts are used.
struct Letters;

impl TokenCounter for Letters {
    fn count(&self, record: &Record, _base: &Path) -> Result<TokenCount> {
        let total = record
            .messages
            .iter()
            .map(|m| m.text().chars().count())
            .sum();
        Ok(TokenCount {
            total,
            ..TokenCount::default()
        })
    }

    fn count_sized(&self, record: &Record, _sizes: &[(u32, u32)]) -> Result<TokenCount> {
        self.count(record, Path::new(""))
    }

    fn resize(&self) -> Resize {
        Resize::QWEN3_VL
    }

    /// As a tokenizer that knows no combining accent.
    fn learned(&self, record: &Record) -> Result<Vec<String>> {
        let answers = record.messages.iter().filter(|m| m.role == Role::Assistant);
        Ok(answers
            .map(|message| message.text().replace('\u{301}', ""))
            .collect())
    }

    fn control_tokens(&self) -> Vec<String> {
        vec!["<|own|>".into()]
    }
}

fn line(id: &str, image: &str, answer: &str) -> String {
    let answer = serde_json::to_string(answer).unwrap();
    let image = serde_json::to_string(image).unwrap();
    format!(
        r#"{{"id":"{id}","messages":[{{"role":"user","content":[{{"type":"image","image":{image}}},{{"type":"text","text":"Rd. {id}"}}]}},{{"role":"assistant","content":[{{"type":"text","text":{answer}}}]}}]}}"#
    )
}

/// `IMAGE` and `ANSWER` are the columns where these values stand in the line.
fn at_columns(expected: &str, text: &str) -> String {
    let image = text.find(r#""image":"#).unwrap() + 9;
    let answer = text.rfind(r#""text":"#).unwrap() + 8;
    expected
        .replace(":IMAGE:", &format!(":{image}:"))
        .replace(":ANSWER:", &format!(":{answer}:"))
}

#[test]
fn each_fault_is_told_at_its_place_with_its_rule() {
    let folder = Folder::new();
    for (text, expected) in [
        (line("a", "p/1.png", r#"{"x":1}"#), &[][..]),
        // Images.
        (
            line("a", "p/3.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[image-missing]: image not found: `p/3.png`\n  hint: did you mean `p/1.png`?",
            ],
        ),
        (
            line("a", "q/1.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[image-missing]: image not found: `q/1.png`\n  hint: there is no directory `q`; paths are relative to the JSONL file",
            ],
        ),
        (
            line("a", "p/cut.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[image-unreadable]: image `p/cut.png` is cut short: the file ends too early\n  hint: copy or unpack it again",
            ],
        ),
        (
            line("a", "p/long.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[image-aspect]: image `p/long.png` is 1 x 9000: more than 200 times as long as wide\n  hint: cut it into pieces, or leave it out",
            ],
        ),
        (
            line("a", "p/tiny.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: warning[image-small]: image `p/tiny.png` is only 9 x 9 pixels\n  hint: rasterize the page at a higher resolution",
            ],
        ),
        (
            line("a", "p\\1.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[path-backslash]: backslash in the image path `p\\1.png`\n  hint: paths use `/` on every system; `--fix-out` rewrites them all",
            ],
        ),
        (
            line("a", "C:\\p\\1.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[path-absolute]: absolute image path: `C:\\p\\1.png`\n  hint: paths are relative to the JSONL file, so that the folder can be moved",
            ],
        ),
        (
            line("a", "https://x.y/1.png", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[path-url]: the image is a URL: `https://x.y/1.png`\n  hint: save the image beside the JSONL file and name its path",
            ],
        ),
        (
            line("a", "", "[1]"),
            &[
                "d.jsonl:1:IMAGE: error[path-empty]: the image path is empty\n  hint: leave the part out, or name the file",
            ],
        ),
        // Answers.
        (
            line("a", "p/1.png", "The total is 7."),
            &[
                "d.jsonl:1:ANSWER: error[target-json]: the answer is not JSON: expected value at character 1 of 15\n  hint: the assistant's text is only the target JSON, without words around it",
            ],
        ),
        (
            line("a", "p/1.png", r#"{"x":1,"y":"#),
            &[
                "d.jsonl:1:ANSWER: error[target-json]: the answer is not JSON: EOF while parsing a value at character 11 of 11\n  hint: it was cut off: check for a length limit where the labels were made",
            ],
        ),
        (
            line("a", "p/1.png", "{'x': 1}"),
            &[
                "d.jsonl:1:ANSWER: error[target-json]: the answer is not JSON: key must be a string at character 2 of 8\n  hint: JSON uses double quotes; write the target with `json.dumps`",
            ],
        ),
        (
            line("a", "p/1.png", r#"{"x":1,"x":2}"#),
            &[
                "d.jsonl:1:ANSWER: error[target-duplicate-key]: duplicate key `x` in the answer\n  hint: keep one of the two",
            ],
        ),
        (
            line("a", "p/1.png", "```json\n[1]\n```"),
            &[
                "d.jsonl:1:ANSWER: error[target-fence]: the answer stands in a markdown fence\n  hint: the fence would be learned; `--fix-out` removes it",
            ],
        ),
        (
            line("", "p/1.png", "[1]"),
            &[
                "d.jsonl:1:7: error[empty-id]: the id is empty\n  hint: give every record its own id; predictions and errors are named by it",
            ],
        ),
    ] {
        let (mut told, summary) = folder.check(&text, |_| {});
        for line in &mut told {
            *line = line.replace(&format!("`{}/", shown(folder.0.path())), "`");
        }
        let expected: Vec<String> = expected
            .iter()
            .map(|line| at_columns(line, &text))
            .collect();
        assert_eq!(told, expected, "{text}");
        let is_error = expected.iter().any(|e| e.contains(": error["));
        assert_eq!((summary.records, summary.is_valid()), (1, !is_error));
    }
}

#[test]
fn all_problems_of_a_file_are_told_in_the_order_of_its_lines() {
    let folder = Folder::new();
    let good = line("a", "p/1.png", "[1]");
    let mut text = b"\xEF\xBB\xBF".to_vec();
    for part in [
        &good[..],
        "",
        &good,
        &good[..50],
        "{\"id\":\"\u{e4}\"}",
        &line("b", "p/2.png", "x"),
    ] {
        text.extend_from_slice(part.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"\"\xFF\"\n");
    let (told, summary) = folder.check(&text, |_| {});
    let rules: Vec<&str> = told.iter().map(|t| t.split(": ").next().unwrap()).collect();
    assert_eq!(
        rules,
        [
            "d.jsonl:1",
            "d.jsonl:2",
            "d.jsonl:3",
            "d.jsonl:3:7",
            "d.jsonl:4:51",
            "d.jsonl:5",
            "d.jsonl:6:170",
            "d.jsonl:7:2"
        ]
    );
    assert_eq!(
        told[3],
        "d.jsonl:3:7: error[duplicate-id]: id `a` is already used in line 1\n  hint: give every record its own id; predictions and errors are named by it"
    );
    assert_eq!(
        summary.to_string(),
        "6 records: 1 valid, 5 invalid, 3 warnings; longest record 8 tokens\n16 tokens in all: 0 of images, 0 trained on\n  not-utf8 1   byte-order-mark 1   empty-line 1   cut-line 1   missing-key 1   duplicate-id 1   target-json 1   duplicate-record 1"
    );
    assert_eq!(summary.records, summary.valid + summary.invalid);
}

#[test]
fn a_target_schema_points_into_the_answer() {
    let folder = Folder::new();
    let schema = r#"{"type":"object","required":["days"],"additionalProperties":false,"properties":{"days":{"type":["integer","null"]},"list":{"type":"array","items":{"required":["n"]}}}}"#;
    fs::write(folder.path("s.json"), schema).unwrap();
    let text = [
        r#"{"days":7}"#,
        r#"{"days":"7","list":[{"n":1},{}]}"#,
        r#"{"dayz":7}"#,
    ]
    .iter()
    .zip(["a", "b", "c"])
    .map(|(answer, id)| line(id, "p/1.png", answer))
    .collect::<Vec<_>>()
    .join("\n");
    let with_schema = |options: &mut Options| options.target_schema = Some(folder.path("s.json"));
    let (told, summary) = folder.check(&text, with_schema);
    assert_eq!(
        told,
        [
            "d.jsonl:2:170: error[target-schema]: `/days`: \"7\" is not of types \"null\", \"integer\"",
            "d.jsonl:2:170: error[target-schema]: `/list/1`: \"n\" is a required property",
            "d.jsonl:3:170: error[target-schema]: the answer: Additional properties are not allowed ('dayz' was unexpected)",
            "d.jsonl:3:170: error[target-schema]: the answer: \"days\" is a required property",
        ]
    );
    assert_eq!((summary.valid, summary.invalid), (1, 2));

    for (schema, message) in [
        ("{", "the target schema is not JSON"),
        (
            r#"{"type":"objekt"}"#,
            "the target schema is not a valid JSON Schema",
        ),
    ] {
        fs::write(folder.path("s.json"), schema).unwrap();
        let mut options = folder.options();
        with_schema(&mut options);
        let error = validate(&options, None, &mut |_| {}, &|_| {}).unwrap_err();
        assert_eq!(error.message(), message);
    }
}

#[test]
fn long_records_are_told_with_the_counters_numbers() {
    let folder = Folder::new();
    let text = format!(
        "{}\n{}",
        line("a", "p/1.png", "[1]"),
        line("b", "p/1.png", r#"{"x":123456}"#)
    );
    let (told, summary) = folder.check(text, |options| options.max_tokens = Some(10));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with(
        "d.jsonl:2: error[too-long]: 17 tokens (0 from 0 images), limit 10\n  hint: "
    ));
    assert_eq!(summary.tokens.unwrap().max, 17);
}

#[test]
fn fix_out_writes_what_is_valid_or_can_be_mended_and_counts_the_rest() {
    let folder = Folder::new();
    let lines = [
        line("good", "p/1.png", "[1]"),
        String::new(),
        line("slash", "p\\2.png", "[1]"),
        line("fence", "p/1.png", "```json\n{\"x\": 1}\n```"),
        line("fence-of-nothing", "p/1.png", "```\nnothing\n```"),
        line("lost", "p/7.png", "[1]"),
        line("good", "p/1.png", "[1]"),
        "{".to_owned(),
    ];
    let text = format!("\u{feff}{}", lines.join("\n"));
    let out = folder.path("sub/fixed.jsonl");
    let (_, summary) = folder.check(&text, |options| options.fix_out = Some(out.clone()));
    assert_eq!((summary.records, summary.valid), (7, 1));
    let fixed = summary.fixed.unwrap();
    assert_eq!(
        fixed.to_string(),
        format!(
            "fixed: 3 written, 4 left out, byte-order-mark 1, empty-line 1, path-backslash 1, target-fence 1; see `{}`",
            shown(&folder.path("sub/fixed.rejects.jsonl"))
        )
    );
    assert_eq!(fixed.written + fixed.left_out, summary.records);
    let written = fs::read_to_string(&out).unwrap();
    let expected = [
        line("good", "../p/1.png", "[1]"),
        line("slash", "../p/2.png", "[1]"),
        line("fence", "../p/1.png", "{\"x\": 1}"),
    ];
    assert_eq!(written, expected.join("\n") + "\n");
    let rejects = fs::read_to_string(folder.path("sub/fixed.rejects.jsonl")).unwrap();
    let rejects: Vec<serde_json::Value> = rejects
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rejects.len() as u64, fixed.left_out);
    let said = |n: usize, key: &str| rejects[n][key].as_str().unwrap().to_owned();
    assert_eq!(
        (said(1, "rule"), said(1, "id")),
        ("image-missing".into(), "lost".into())
    );
    assert!(said(1, "place").contains("d.jsonl:6:"), "{}", rejects[1]);
    assert_eq!(said(1, "reason"), "image not found: `p/7.png`");
    assert_eq!(said(3, "rule"), "cut-line");
    let mut options = folder.options();
    options.file = out;
    assert!(
        validate(&options, None, &mut |p| panic!("{p}"), &|_| {})
            .unwrap()
            .is_valid()
    );
}

#[test]
fn an_empty_file_is_nothing_to_do() {
    let folder = Folder::new();
    fs::write(folder.path("d.jsonl"), "\n\n").unwrap();
    let error = validate(&folder.options(), None, &mut |_| {}, &|_| {}).unwrap_err();
    assert_eq!(error.kind(), vlft_base::Kind::NothingToDo);
}

#[test]
fn fifty_thousand_records_are_checked_in_seconds() {
    let folder = Folder::new();
    let text: String = (0..50_000)
        .map(|n| line(&format!("r{n}"), "p/1.png", r#"{"x":[1,2,3]}"#) + "\n")
        .collect();
    let start = std::time::Instant::now();
    let (told, summary) = folder.check(text, |_| {});
    assert_eq!((told.len(), summary.valid), (0, 50_000));
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}

#[test]
fn copies_and_contradictions_are_told_with_the_first_line() {
    let folder = Folder::new();
    fs::copy(folder.path("p/1.png"), folder.path("p/again.png")).unwrap();
    let same = |id: &str, image: &str, answer: &str| {
        line("q", image, answer).replacen(r#""id":"q""#, &format!(r#""id":"{id}""#), 1)
    };
    let lines = [
        same("a", "p/1.png", r#"{"days":7,"x":1}"#),
        // The same image under another name, other white space and order of keys.
        same("b", "p/again.png", r#"{ "x": 1, "days": 7 }"#),
        same("c", "p/1.png", r#"{"days":14,"x":1}"#),
        same("d", "p/again.png", r#"{"days":"7","x":1}"#),
        line("e", "p/1.png", r#"{"days":14,"x":1}"#),
    ];
    let (told, summary) = folder.check(lines.join("\n"), |options| {
        options.rules = Selection::new(&["copies".into()], &[]).unwrap();
    });
    let told: Vec<&str> = told
        .iter()
        .filter(|t| !t.contains("-image]"))
        .map(|t| t.split("\n").next().unwrap())
        .collect();
    assert_eq!(
        told,
        [
            "d.jsonl:2: warning[duplicate-record]: the record is the same as that in line 1",
            "d.jsonl:3:147: error[conflicting-answers]: line 1 has the same images and prompt, but another answer: `/days` is `14` here and `7` there",
            "d.jsonl:4:151: error[conflicting-answers]: line 1 has the same images and prompt, but another answer: `/days` is `\"7\"` here and `7` there",
        ]
    );
    assert_eq!((summary.valid, summary.invalid), (3, 2));
}

#[test]
fn images_of_two_documents_that_are_one_are_told_in_the_end() {
    let folder = Folder::new();
    page_of_boxes(0).save(folder.path("p/a.png")).unwrap();
    fs::copy(folder.path("p/a.png"), folder.path("p/b.png")).unwrap();
    let smaller = image::imageops::resize(
        &page_of_boxes(0),
        300,
        420,
        image::imageops::FilterType::Triangle,
    );
    smaller.save(folder.path("p/c.png")).unwrap();
    page_of_boxes(1).save(folder.path("p/d.png")).unwrap();
    let text = ["a", "b", "c", "d"]
        .map(|name| line(name, &format!("p/{name}.png"), "[1]"))
        .join("\n");
    let (told, summary) = folder.check(&text, |_| {});
    let told: Vec<&str> = told.iter().map(|t| t.split("\n").next().unwrap()).collect();
    assert_eq!(
        told,
        [
            "d.jsonl:2:73: warning[duplicate-image]: image `p/b.png` has the same bytes as `p/a.png` in line 1, of another document",
            "d.jsonl:3:73: warning[near-image]: image `p/c.png` looks the same as `p/a.png` in line 1, of another document",
        ]
    );
    assert_eq!((summary.valid, summary.warnings), (4, 2));
    // Pages of one document may repeat.
    let one = text.replace("]}]}", r#"]}],"meta":{"document":"one"}}"#);
    assert_eq!(folder.check(one, |_| {}).0, Vec::<String>::new());
}

#[test]
fn what_the_tokenizer_makes_of_an_answer_is_compared_with_it() {
    let folder = Folder::new();
    let text = [
        line("a", "p/1.png", "{\"x\":\"e\u{301}\"}"),
        line("b", "p/1.png", "[\"<|own|>\"]"),
    ]
    .join("\n");
    let (told, _) = folder.check(&text, |_| {});
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0]
            .contains("error[answer-changed]: the tokens that are trained on spell another answer"),
        "{}",
        told[0]
    );
    assert!(
        told[0].contains("instead of `\\u{301}") && told[0].contains("at character 8"),
        "{}",
        told[0]
    );
    assert!(
        told[1].contains(
            "error[special-token]: the text contains `<|own|>`, which the model's tokenizer"
        ),
        "{}",
        told[1]
    );
}

#[test]
fn only_what_is_asked_for_is_looked_at() {
    let folder = Folder::new();
    let text = [
        line("a", "p/none.png", "no"),
        line("a", "p/cut.png", "{}"),
        "{\"id\":7}".into(),
    ]
    .join("\n");
    for (only, skip, decode, expected) in [
        (
            "schema",
            "",
            Decode::Full,
            &["missing-key", "wrong-type"][..],
        ),
        ("duplicate-id", "", Decode::Full, &["duplicate-id"]),
        ("answers", "target-nothing", Decode::Full, &["target-json"]),
        (
            "images",
            "",
            Decode::Full,
            &["image-missing", "image-unreadable"],
        ),
        ("images", "", Decode::None, &["image-missing"]),
    ] {
        let names = |text: &str| {
            text.split(',')
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (told, _) = folder.check(&text, |options| {
            options.rules = Selection::new(&names(only), &names(skip)).unwrap();
            options.decode = decode;
        });
        let mut rules: Vec<&str> = told
            .iter()
            .map(|t| t.split('[').nth(1).unwrap().split(']').next().unwrap())
            .collect();
        rules.sort_unstable();
        assert_eq!(rules, expected, "{only} {skip}");
    }
}

/// How a file is cut into blocks, and who looks at them, is nobody's business.
#[test]
fn what_is_told_does_not_depend_on_blocks_and_threads() {
    let folder = Folder::new();
    page_of_boxes(0).save(folder.path("p/a.png")).unwrap();
    fs::copy(folder.path("p/a.png"), folder.path("p/b.png")).unwrap();
    let images = ["p/1.png", "p/a.png", "p/b.png", "p/cut.png", "p/none.png"];
    let mut text = b"\xEF\xBB\xBF".to_vec();
    for n in 0..120 {
        let record = line(
            &format!("r{}", n % 50),
            images[n % images.len()],
            &format!("{{\"x\":{}}}", n % 7),
        );
        let whole = record.as_bytes();
        match n % 11 {
            4 => text.extend_from_slice(&whole[..n]),
            6 => text.extend([&whole[..40], b"\xFF", &whole[40..]].concat()),
            8 => {}
            _ => text.extend_from_slice(whole),
        }
        text.extend_from_slice(if n % 3 == 0 { b"\r\n" } else { b"\n" });
    }
    fs::write(folder.path("d.jsonl"), text).unwrap();
    let check = |piece_bytes: usize, threads: usize| {
        let fixed = folder.path(&format!("fixed-{piece_bytes}-{threads}.jsonl"));
        let mut options = folder.options();
        options.fix_out = Some(fixed.clone());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let (told, summary) = pool.unwrap().install(|| {
            let mut told = Vec::new();
            let mut sink = |problem| told.push(serde_json::to_string(&problem).unwrap());
            let counter: Option<&dyn TokenCounter> = Some(&Letters);
            let summary = validate_in_pieces(piece_bytes, &options, counter, &mut sink, &|_| {});
            (told, summary.unwrap())
        });
        let counts = [summary.records, summary.valid, summary.errors];
        (told, counts, fs::read(fixed).unwrap())
    };
    let slow = check(1, 1);
    assert!(slow.0.len() > 60 && slow.1[1] > 0, "{:?}", slow.1);
    for (piece_bytes, threads) in [
        (1, 3),
        (7, 2),
        (1_000, 1),
        (1_000, 3),
        (jsonl::PIECE_BYTES, 3),
    ] {
        let fast = check(piece_bytes, threads);
        assert_eq!(fast, slow, "{piece_bytes} bytes, {threads} threads");
    }
}
