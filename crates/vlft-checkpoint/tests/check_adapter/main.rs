//! What vLLM would do with an adapter: simulated, and compared with what is known of each.

mod made;
mod planned;
mod renamed;
mod right_and_wrong;

use std::fs;
use std::path::Path;

use serde_json::json;
use vlft_checkpoint::published::PUBLISHED;
use vlft_checkpoint::serving::{Report, check};
use vlft_checkpoint::{Config, Module};

use made::{Made, fixture, judged, options, rules, text_modules};

#[test]
fn another_size_of_the_model_is_seen() {
    let small = Made::of(
        &text_modules(&PUBLISHED[0].config())
            .into_iter()
            .take(7)
            .collect::<Vec<_>>(),
    );
    let report = judged(&small, &options("0.33", Some(fixture("tiny")), None));
    assert!(rules(&report).contains(&"shape"), "{report}");
    assert!(!report.passes);
}

#[test]
fn a_published_size_is_told_by_the_shapes_alone() {
    for published in &PUBLISHED {
        let mut modules = text_modules(&published.config());
        // A few kinds are enough, and quick to make.
        modules.retain(|m| m.name.ends_with("k_proj"));
        let made = Made::of(&modules).set("target_modules", json!(["k_proj"]));
        let report = judged(&made, &options("0.33", None, None));
        assert!(
            report.model.contains(published.name),
            "{}: {}",
            published.name,
            report.model
        );
        assert!(report.passes, "{report}");
    }
}

#[test]
fn versions_differ() {
    let config = Config::from_dir(&fixture("tiny")).unwrap();
    let everything = Made::of(&config.linear_modules()).set("target_modules", json!("all-linear"));
    let text = Made::of(&text_modules(&config));
    let at = |version, made: &Made| {
        let report = judged(made, &options(version, Some(fixture("tiny")), None));
        (rules(&report), report.serve.command, report.warnings)
    };
    assert_eq!(at("0.11", &everything).0, ["tower-off"]);
    assert_eq!(at("0.14", &everything).0, [""; 0]);
    let pissa = text.clone().set("init_lora_weights", json!("pissa"));
    assert_eq!(at("0.14", &pissa).0, ["changed-base"]);
    // vLLM takes it, and PEFT has taken something off the base all the same.
    let lora_ga = text.clone().set("init_lora_weights", json!("lora_ga"));
    assert_eq!(at("0.33", &lora_ga).0, ["changed-base"]);
    let pattern = text.clone().set("alpha_pattern", json!({"q_proj": 2}));
    assert_eq!(at("0.33", &pattern).0, [""; 0]);
    let (rules, _, warnings) = at("0.14", &pattern);
    assert_eq!(rules, ["pattern-ignored"]);
    assert!(warnings.iter().all(|w| !w.contains("alpha_pattern")));
}

/// The names of two versions of transformers in one file: each tensor has a place, and each place two.
#[test]
fn a_module_under_two_names_is_not_applied() {
    let config = Config::from_dir(&fixture("tiny")).unwrap();
    let mut made = Made::of(&text_modules(&config));
    let older = made
        .clone()
        .rename("model.language_model.", "language_model.model.");
    made.tensors.extend(older.tensors);
    let report = judged(&made, &options("0.33", Some(fixture("tiny")), None));
    assert_eq!(rules(&report), ["doubled-module"]);
    assert!(!report.passes);
}

#[test]
fn the_command_has_every_flag_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = dir.path().join("bol 01").join("adapter");
    fs::create_dir_all(&adapter).unwrap();
    let made = {
        let config = Config::from_dir(&fixture("tiny")).unwrap();
        let made = Made::of(&config.linear_modules()).set("target_modules", json!("all-linear"));
        made.set("r", json!(24))
            .reshape("lora_A", |s| s[0] = 24)
            .reshape("lora_B", |s| s[1] = 24)
            .write()
    };
    for entry in fs::read_dir(made.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, adapter.join(path.file_name().unwrap())).unwrap();
    }
    let lock = json!({
        "mm_processor_kwargs": {"min_pixels": 65536, "max_pixels": 1310720},
        "contract": {"chat_template_sha256": vlft_base::digest::sha256("other")},
    });
    fs::write(adapter.join("preprocess.lock.json"), lock.to_string()).unwrap();
    fs::write(adapter.join("chat_template.jinja"), "other").unwrap();
    let report = check(&adapter, &options("0.33", Some(fixture("tiny")), None)).unwrap();
    let command = &report.serve.command;
    for flag in [
        "--enable-lora",
        "'bol 01=",
        "--max-lora-rank 32",
        "--enable-tower-connector-lora",
        r#"--mm-processor-kwargs '{"min_pixels":65536,"max_pixels":1310720}'"#,
        "--chat-template '",
    ] {
        assert!(command.contains(flag), "{flag}: {command}");
    }
    // Pasted into flags, it passes.
    let flags = command.split_once("adapter'").unwrap().1;
    let flags = format!("--enable-lora {flags}");
    let report = check(
        &adapter,
        &options("0.33", Some(fixture("tiny")), Some(&flags)),
    )
    .unwrap();
    assert!(report.passes, "{report}");
}

#[test]
fn pickles_and_strangers_are_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = |dir: &Path| check(dir, &options("0.33", None, None)).unwrap_err();
    assert!(
        at(dir.path())
            .message()
            .contains("cannot read the adapter's config")
    );
    fs::write(dir.path().join("adapter_config.json"), "[1]").unwrap();
    assert!(at(dir.path()).message().contains("not a JSON object"));
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    assert!(at(dir.path()).message().contains("no weights"));
    fs::write(dir.path().join("adapter_model.bin"), b"PK").unwrap();
    let error = at(dir.path());
    assert!(
        error
            .hint_text()
            .unwrap()
            .contains("torch.load('adapter_model.bin'"),
        "{error}"
    );
    fs::write(dir.path().join("adapter_model.safetensors"), b"12345678").unwrap();
    assert!(at(dir.path()).message().contains("damaged"));
    let model = check(&fixture("tiny"), &options("0.33", None, None)).unwrap_err();
    assert!(
        model.hint_text().unwrap().contains("this is a model"),
        "{model}"
    );
}

/// Nothing but the model says whether a layer without an MLP's matrices has experts.
#[test]
fn a_layer_without_its_mlp_is_a_question_until_the_model_is_given() {
    let config = Config::from_dir(&fixture("tiny")).unwrap();
    let made = Made::of(&text_modules(&config)).without("layers.1.mlp");
    let asked = |report: &Report| {
        report
            .warnings
            .iter()
            .any(|w| w.contains("layer 1 has no MLP"))
    };
    let report = judged(&made, &options("0.33", None, None));
    assert!(report.passes && asked(&report), "{report}");
    assert_eq!(report.modules_applied, report.modules_expected);
    // Given the model, it is an answer.
    let report = judged(&made, &options("0.33", Some(fixture("tiny")), None));
    assert_eq!(rules(&report), ["missing-module"]);
    assert!(!asked(&report), "{report}");
    // A layer that has some of them lacks the others.
    let half = made.clone().without("layers.2.mlp.up_proj");
    let report = judged(&half, &options("0.33", None, None));
    assert_eq!(rules(&report), ["missing-module"]);
    assert!(report.problems[0].examples[0].contains("layers.2.mlp.up_proj"));
    // The base's name is an answer too.
    for name in ["Qwen/Qwen3-VL-30B-A3B-Instruct", "models/our_moe/"] {
        let named = made.clone().set("base_model_name_or_path", json!(name));
        let report = judged(&named, &options("0.33", None, None));
        assert!(report.passes && !asked(&report), "{report}");
        assert!(report.model.contains("with experts"), "{report}");
    }
    let named = made.clone().set(
        "base_model_name_or_path",
        json!("Qwen/Qwen3-VL-8B-Instruct"),
    );
    let report = judged(&named, &options("0.33", None, None));
    assert_eq!(rules(&report), ["missing-module"]);
    let attention = made.clone().without("mlp");
    let attention = attention.set(
        "target_modules",
        json!(["q_proj", "k_proj", "v_proj", "o_proj"]),
    );
    let report = judged(&attention, &options("0.33", None, None));
    assert!(
        report.passes && !report.to_string().contains("MLP"),
        "{report}"
    );
}

/// PEFT trains fused experts as parameters; a file without them would be served without them.
#[test]
fn trained_parameters_without_tensors_are_told() {
    let config = Config::from_dir(&fixture("moe")).unwrap();
    let attention = |m: &Module| m.name.contains("self_attn");
    let modules: Vec<Module> = text_modules(&config)
        .into_iter()
        .filter(attention)
        .collect();
    let names = json!(["q_proj", "k_proj", "v_proj", "o_proj"]);
    let made = Made::of(&modules).set("target_modules", names);
    let both = json!(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]);
    let of = |made: &Made| {
        let report = judged(made, &options("0.33", None, None));
        let told = report
            .problems
            .into_iter()
            .find(|p| p.rule == "missing-parameter");
        told.map(|problem| (problem.count, problem.examples.join(", ")))
    };
    assert_eq!(of(&made), None);
    assert_eq!(of(&made.clone().set("target_parameters", json!([]))), None);
    let lacking = made.clone().set("target_parameters", both.clone());
    let told = "mlp.experts.gate_up_proj, mlp.experts.down_proj".to_string();
    assert_eq!(of(&lacking), Some((2, told)));
    for model in [None, Some(fixture("moe"))] {
        assert!(!judged(&lacking, &options("0.33", model, None)).passes);
    }
    let named_alone = made.clone().set("target_parameters", json!(["down_proj"]));
    assert_eq!(of(&named_alone), Some((1, "down_proj".into())));
    // One pair of two, then both: PEFT wraps the second around the first.
    let experts = |made: Made, path: &str| {
        let layer = format!("base_model.model.model.language_model.layers.0.mlp.{path}");
        made.with(&format!("{layer}.lora_A.weight"), &[18, 20])
            .with(&format!("{layer}.lora_B.weight"), &[24, 18])
    };
    let one = experts(lacking, "experts");
    assert_eq!(of(&one).unwrap().0, 2);
    let whole = experts(one, "experts.base_layer");
    assert_eq!(of(&whole), None);
    // The same is said with the model and without.
    for model in [None, Some(fixture("moe"))] {
        let report = judged(&whole, &options("0.33", model, None));
        assert_eq!(rules(&report), ["not-simulated"], "{report}");
    }
    let wrong = judged(
        &made.set("target_parameters", json!("down_proj")),
        &options("0.33", None, None),
    );
    assert_eq!(rules(&wrong), ["wrong-type"]);
}

/// What PEFT wrote itself passes.
#[test]
fn the_fixtures_of_peft_pass() {
    for (adapter, model) in [
        ("adapter_b", "tiny"),
        ("adapter_vision_rs", "tiny"),
        ("adapter_everything", "tiny"),
        ("adapter_gqa", "tiny_gqa"),
        ("adapter_mergers", "tiny_gqa"),
        ("adapter_odd", "odd"),
        ("adapter_patterns", "odd"),
        ("adapter_regex", "tiny"),
        ("adapter_moe", "moe"),
        ("adapter_moe_all", "moe"),
    ] {
        for model in [Some(fixture(model)), None] {
            let given = model.is_some();
            let report = check(&fixture(adapter), &options("0.33", model, None)).unwrap();
            assert!(report.passes, "{adapter}, model given: {given}\n{report}");
        }
    }
}
