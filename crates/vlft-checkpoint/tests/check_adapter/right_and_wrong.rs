//! Adapters built right and wrong in known ways, and the rules that each breaks.

use serde_json::{Value, json};
use vlft_checkpoint::Config;

use crate::made::{Made, fixture, judged, options, rules, text_modules};

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
            "rank 0",
            text.clone().set("r", json!(0)),
            None,
            &["rank-zero", "rank"],
        ),
        (
            "alpha as text",
            text.clone().set("lora_alpha", json!("16")),
            None,
            &["wrong-type"],
        ),
        (
            "alpha missing",
            text.clone().set("lora_alpha", Value::Null),
            None,
            &["missing-key"],
        ),
        (
            "alpha 0",
            text.clone().set("lora_alpha", json!(0)),
            None,
            &["zero"],
        ),
        (
            "an infinite scale",
            text.clone().set("lora_alpha", json!(1e300)),
            None,
            &["not-finite"],
        ),
        (
            "rsLoRA as text",
            text.clone().set("use_rslora", json!("true")),
            None,
            &["wrong-type"],
        ),
        (
            "targets that are no names",
            text.clone().set("target_modules", json!(["q_proj", 3])),
            None,
            &["wrong-type"],
        ),
        (
            "ranks as text",
            text.clone().set("rank_pattern", json!({"q_proj": "2"})),
            None,
            &["wrong-type"],
        ),
        (
            "a pattern that is none",
            text.clone().set("alpha_pattern", json!({"((": 2})),
            None,
            &["wrong-type"],
        ),
        (
            "a bias as truth",
            text.clone().set("bias", json!(true)),
            None,
            &["refused-option"],
        ),
        (
            "trained tokens",
            text.clone().set("trainable_token_indices", json!([1, 2])),
            None,
            &["unseen-option"],
        ),
        (
            "a regular expression as targets",
            text.clone().set(
                "target_modules",
                json!(r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"),
            ),
            None,
            &[],
        ),
        (
            "all linear layers, the tower among them, and only the text's",
            text.clone().set("target_modules", json!("all-linear")),
            None,
            &["missing-module"],
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
