//! What vLLM would do with an adapter: simulated, and compared with what is known of each.

mod made;
mod planned;
mod renamed;
mod right_and_wrong;

use std::fs;
use std::path::Path;

use serde_json::json;
use vlft_checkpoint::Config;
use vlft_checkpoint::published::PUBLISHED;
use vlft_checkpoint::serving::check;

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
    ] {
        for model in [Some(fixture(model)), None] {
            let given = model.is_some();
            let report = check(&fixture(adapter), &options("0.33", model, None)).unwrap();
            assert!(report.passes, "{adapter}, model given: {given}\n{report}");
        }
    }
}
