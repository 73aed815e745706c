//! Adapters built right and wrong in known ways, and what the check says of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_checkpoint::published::DENSE;
use vlft_checkpoint::serving::{Options, Report, Version, check, rewrite};
use vlft_checkpoint::{Config, Module};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// An adapter on its way to a folder: shapes, and one value that fills each tensor.
#[derive(Clone)]
struct Made {
    tensors: BTreeMap<String, (Vec<usize>, f32)>,
    config: Value,
}

const RANK: usize = 4;

impl Made {
    /// As PEFT writes one for these modules.
    fn of(modules: &[Module]) -> Self {
        let mut tensors = BTreeMap::new();
        for module in modules {
            let name = |part| format!("base_model.model.{}.lora_{part}.weight", module.name);
            tensors.insert(name("A"), (vec![RANK, module.in_features], 0.5));
            tensors.insert(name("B"), (vec![module.out_features, RANK], 0.25));
        }
        let config = json!({
            "peft_type": "LORA", "r": RANK, "lora_alpha": 8, "bias": "none",
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            "base_model_name_or_path": "models/tiny", "use_dora": false, "modules_to_save": null,
        });
        Self { tensors, config }
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    fn rename(mut self, from: &str, to: &str) -> Self {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors
            .map(|(name, tensor)| (name.replacen(from, to, 1), tensor))
            .collect();
        self
    }

    fn without(mut self, part: &str) -> Self {
        self.tensors.retain(|name, _| !name.contains(part));
        self
    }

    fn with(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.insert(name.into(), (shape.to_vec(), 1.0));
        self
    }

    /// Another shape for the tensors of this name.
    fn reshape(mut self, part: &str, change: impl Fn(&mut Vec<usize>)) -> Self {
        let mut hit = 0;
        for (_, (shape, _)) in self
            .tensors
            .iter_mut()
            .filter(|(name, _)| name.contains(part))
        {
            change(shape);
            hit += 1;
        }
        assert!(hit > 0, "no tensor has `{part}`");
        self
    }

    fn fill(mut self, part: &str, value: f32) -> Self {
        for (_, (_, filled)) in self
            .tensors
            .iter_mut()
            .filter(|(name, _)| name.contains(part))
        {
            *filled = value;
        }
        self
    }

    fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let bytes: BTreeMap<&String, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, (shape, value))| {
                let count: usize = shape.iter().product();
                (name, value.to_le_bytes().repeat(count))
            })
            .collect();
        let views = self.tensors.iter().map(|(name, (shape, _))| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap(),
            )
        });
        let path = dir.path().join("adapter_model.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
        fs::write(
            dir.path().join("adapter_config.json"),
            self.config.to_string(),
        )
        .unwrap();
        dir
    }
}

fn text_modules(config: &Config) -> Vec<Module> {
    let text = |m: &Module| m.name.starts_with("model.language_model.");
    config.linear_modules().into_iter().filter(text).collect()
}

fn options(version: &str, model: Option<PathBuf>, served_with: Option<&str>) -> Options {
    Options {
        version: Version::named(version).unwrap(),
        model,
        served_with: served_with.map(String::from),
    }
}

fn judged(made: &Made, options: &Options) -> Report {
    let dir = made.write();
    check(dir.path(), options).unwrap()
}

/// The rules that hit, in the report's order.
fn rules(report: &Report) -> Vec<&'static str> {
    report.problems.iter().map(|problem| problem.rule).collect()
}

#[test]
fn adapters_built_right_and_wrong() {
    let config = Config::from_dir(&fixture("tiny")).unwrap();
    let text = Made::of(&text_modules(&config));
    let everything = Made::of(&config.linear_modules()).set("target_modules", json!("all-linear"));
    let q0 = "base_model.model.model.language_model.layers.0.self_attn.q_proj";
    let rank = |r: usize| {
        text.clone()
            .set("r", json!(r))
            .reshape("lora_A", |s| s[0] = r)
            .reshape("lora_B", |s| s[1] = r)
    };
    let tower_off = Some("--enable-lora --max-lora-rank 16");
    let tower_on = Some("--enable-lora --enable-tower-connector-lora");
    // What, with which flags, and the rules it breaks: none passes.
    type Case<'a> = (&'a str, Made, Option<&'a str>, &'a [&'a str]);
    let cases: Vec<Case> = vec![
        ("right", text.clone(), None, &[]),
        (
            "vision and mergers, with the flag",
            everything.clone(),
            tower_on,
            &[],
        ),
        ("vision, flags to be said", everything.clone(), None, &[]),
        (
            "vision without the flag",
            everything.clone(),
            tower_off,
            &["tower-off"],
        ),
        (
            "no prefix",
            text.clone().rename("base_model.model.", ""),
            None,
            &[],
        ),
        (
            "bare model.layers",
            text.clone().rename("model.language_model.", "model."),
            None,
            &["other-name"],
        ),
        (
            "older transformers",
            text.clone()
                .rename("model.language_model.", "language_model.model."),
            None,
            &[],
        ),
        (
            "older, another one",
            text.clone()
                .rename("model.language_model.", "model.language_model.model."),
            None,
            &["other-name"],
        ),
        (
            "old visual",
            everything
                .clone()
                .rename("model.model.visual.", "model.visual."),
            None,
            &[],
        ),
        (
            "adapter's name inside",
            text.clone().rename(".weight", ".default.weight"),
            None,
            &["unreadable-name"],
        ),
        (
            "torch.compile",
            text.clone()
                .rename("base_model.model.", "base_model.model._orig_mod."),
            None,
            &["other-name"],
        ),
        ("rank 24", rank(24), None, &[]),
        (
            "rank 24, default flags",
            rank(24),
            Some("--enable-lora"),
            &["rank-flag"],
        ),
        (
            "rank 24, a flag that is none",
            rank(24),
            Some("--enable-lora --max-lora-rank 24"),
            &["rank-flag"],
        ),
        ("rank 600", rank(600), None, &["rank-too-large"]),
        (
            "LoRA not enabled",
            text.clone(),
            Some("--max-lora-rank 16"),
            &["lora-off"],
        ),
        (
            "DoRA",
            text.clone()
                .set("use_dora", json!(true))
                .with(&format!("{q0}.lora_magnitude_vector"), &[64]),
            None,
            &["refused-option", "unreadable-name"],
        ),
        (
            "modules_to_save",
            text.clone()
                .set("modules_to_save", json!(["lm_head"]))
                .with("base_model.model.lm_head.weight", &[352, 32]),
            None,
            &["refused-option", "unreadable-name"],
        ),
        (
            "embeddings saved along",
            text.clone().with(
                "base_model.model.model.language_model.embed_tokens.weight",
                &[352, 32],
            ),
            None,
            &["unreadable-name"],
        ),
        (
            "a copy of the base's embedding",
            text.clone().with(
                "base_model.model.model.language_model.embed_tokens.base_layer.weight",
                &[352, 32],
            ),
            None,
            &[],
        ),
        (
            "adapted embedding",
            text.clone()
                .with(
                    "base_model.model.model.language_model.embed_tokens.lora_embedding_A",
                    &[4, 352],
                )
                .with(
                    "base_model.model.model.language_model.embed_tokens.lora_embedding_B",
                    &[32, 4],
                ),
            None,
            &[],
        ),
        (
            "B missing",
            text.clone().without("layers.0.self_attn.q_proj.lora_B"),
            None,
            &["missing-half"],
        ),
        (
            "a module missing",
            text.clone().without("layers.1.mlp.up_proj"),
            None,
            &["missing-module"],
        ),
        (
            "swapped",
            text.clone()
                .reshape("layers.0.self_attn.q_proj.lora_A", |s| s.reverse()),
            None,
            &["swapped"],
        ),
        (
            "narrower",
            text.clone()
                .reshape("layers.0.mlp.up_proj.lora_A", |s| s[1] = 16),
            None,
            &["shape"],
        ),
        (
            "another rank than the config's",
            text.clone().set("r", json!(8)),
            None,
            &["rank"],
        ),
        (
            "rank pattern",
            text.clone()
                .set("rank_pattern", json!({"q_proj": 2}))
                .reshape("q_proj.lora_A", |s| s[0] = 2)
                .reshape("q_proj.lora_B", |s| s[1] = 2),
            None,
            &[],
        ),
        (
            "no matrix",
            text.clone()
                .reshape("layers.0.mlp.up_proj.lora_A", |s| *s = vec![4 * 32]),
            None,
            &["shape"],
        ),
        (
            "a layer too many",
            text.clone()
                .with(
                    "base_model.model.model.language_model.layers.9.mlp.up_proj.lora_A.weight",
                    &[4, 32],
                )
                .with(
                    "base_model.model.model.language_model.layers.9.mlp.up_proj.lora_B.weight",
                    &[72, 4],
                ),
            None,
            &["no-such-layer"],
        ),
        (
            "foreign prefix",
            text.clone()
                .rename("base_model.model.model.language_model.", "transformer.h."),
            None,
            &["no-such-module", "missing-module"],
        ),
        (
            "foreign module",
            text.clone().with(
                "base_model.model.model.visual.blocks.0.attn.q.lora_A.weight",
                &[4, 24],
            ),
            None,
            &["unexpected-module"],
        ),
        (
            "patch embedding",
            everything
                .clone()
                .with(
                    "base_model.model.model.visual.patch_embed.proj.lora_A.weight",
                    &[4, 1536],
                )
                .with(
                    "base_model.model.model.visual.patch_embed.proj.lora_B.weight",
                    &[24, 4],
                ),
            None,
            &["not-wrapped"],
        ),
        ("empty", text.clone().without("."), None, &["empty"]),
        ("zero", text.clone().fill("lora_B", 0.0), None, &["zero"]),
        (
            "NaN",
            text.clone().fill("layers.0.mlp.up_proj.lora_A", f32::NAN),
            None,
            &["not-finite"],
        ),
        (
            "PiSSA",
            text.clone().set("init_lora_weights", json!("pissa")),
            None,
            &["changed-base"],
        ),
        (
            "a bias",
            text.clone().set("bias", json!("all")),
            None,
            &["refused-option"],
        ),
        (
            "no rank said",
            text.clone().set("r", Value::Null),
            None,
            &["missing-key", "rank-zero", "rank"],
        ),
        (
            "not LoRA",
            text.clone().set("peft_type", json!("IA3")),
            None,
            &["not-lora"],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, made, flags, expected) in &cases {
        let report = judged(made, &options("0.33", Some(fixture("tiny")), *flags));
        if rules(&report) != *expected || report.passes != expected.is_empty() {
            wrong.push(format!(
                "{what}: {:?} instead of {expected:?}",
                rules(&report)
            ));
        }
        let counts = &report.tensors;
        assert_eq!(
            counts.total,
            counts.applied + counts.skipped + counts.wrong + counts.ignored + counts.refused,
            "{what}"
        );
        assert_eq!(report.fates.len(), made.tensors.len(), "{what}");
        if report.passes {
            assert_eq!(report.modules_applied, report.modules_expected, "{what}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn another_size_of_the_model_is_seen() {
    let small = Made::of(
        &text_modules(&DENSE[0].config())
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
    for published in &DENSE {
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
    let pattern = text.clone().set("alpha_pattern", json!({"q_proj": 2}));
    assert_eq!(at("0.33", &pattern).0, [""; 0]);
    let (rules, _, warnings) = at("0.14", &pattern);
    assert_eq!(rules, ["pattern-ignored"]);
    assert!(warnings.iter().all(|w| !w.contains("alpha_pattern")));
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
fn new_names_mend_an_adapter_and_say_what_they_cannot() {
    let config = Config::from_dir(&fixture("tiny")).unwrap();
    let right = Made::of(&config.linear_modules()).set("target_modules", json!("all-linear"));
    let out = tempfile::tempdir().unwrap();
    for (i, (from, to)) in [
        ("model.language_model.", "model."),
        (".weight", ".default.weight"),
        ("base_model.model.", "base_model.model._orig_mod."),
        ("base_model.model.", "module.base_model.model."),
    ]
    .into_iter()
    .enumerate()
    {
        let wrong = right.clone().rename(from, to).set(
            "target_modules",
            json!(r".*layers\.\d+\.(mlp|self_attn)\..*"),
        );
        let dir = wrong.write();
        let target = out.path().join(i.to_string());
        let rewritten = rewrite(dir.path(), &target, Existing::Refuse).unwrap();
        assert!(rewritten.renamed > 0 && rewritten.cannot.is_empty(), "{to}");
        let report = check(&target, &options("0.33", Some(fixture("tiny")), None)).unwrap();
        assert!(report.passes, "{to}: {report}");
        // The same bytes as the right one has.
        let expected = right.write();
        let read = |dir: &Path| {
            let bytes = fs::read(dir.join("adapter_model.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let all = file.iter().map(|(n, v)| (n.to_string(), v.data().to_vec()));
            all.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(read(&target), read(expected.path()), "{to}");
    }
    let dora = right.clone().rename(".weight", ".default.weight").with(
        "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        &[64],
    );
    let target = out.path().join("dora");
    let rewritten = rewrite(dora.write().path(), &target, Existing::Refuse).unwrap();
    assert_eq!(rewritten.cannot.len(), 1);
    let again = rewrite(
        right.write().path(),
        &out.path().join("x"),
        Existing::Refuse,
    )
    .unwrap_err();
    assert!(again.message().contains("nothing to rename"), "{again}");
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
