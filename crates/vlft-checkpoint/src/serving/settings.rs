//! What the adapter's config and the server's flags decide for the adapter as a whole.

use serde_json::Value;

use super::flags::Served;
use super::ranks::Ranks;
use super::report::{Fate, Problem};
use super::versions::{VERSIONS, Version};

pub(super) fn config_problems(config: &Value, version: &Version, ranks: &Ranks) -> Vec<Problem> {
    let refused = |rule, why: String| Problem::whole(rule, Fate::Refused, why);
    let mut problems = Vec::new();
    for key in ["r", "lora_alpha", "target_modules"] {
        if config.get(key).is_none_or(Value::is_null) {
            problems.push(refused(
                "missing-key",
                format!("`{key}` is missing in adapter_config.json"),
            ));
        }
    }
    if config.get("r").is_some() && ranks.rank == 0 {
        problems.push(refused(
            "rank-zero",
            "`r` is not a positive whole number".into(),
        ));
    }
    if let Some(kind) = config.get("peft_type").and_then(Value::as_str)
        && kind != "LORA"
    {
        problems.push(refused(
            "not-lora",
            format!("`peft_type` is {kind}; vLLM serves LoRA"),
        ));
    }
    let is_set = |v: &Value| match v {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        _ => true,
    };
    // What one version refuses, another one that does not look at it would apply wrongly.
    for key in VERSIONS[0].refused_keys {
        let Some(value) = config.get(*key).filter(|v| is_set(v)) else {
            continue;
        };
        problems.push(match version.refused_keys.contains(key) {
            true => refused(
                "refused-option",
                format!("`{key}` is {value}, which vLLM {} refuses", version.name),
            ),
            false => Problem::whole(
                "unseen-option",
                Fate::Wrong,
                format!(
                    "`{key}` is {value}, which vLLM {} does not look at",
                    version.name
                ),
            ),
        });
    }
    if config
        .get("bias")
        .and_then(Value::as_str)
        .is_some_and(|bias| bias != "none")
    {
        problems.push(refused("refused-option", "`bias` is not \"none\"".into()));
    }
    if let Some(init) = config.get("init_lora_weights").and_then(Value::as_str) {
        let harmless = VERSIONS[0].inits.unwrap_or_default();
        if !harmless.contains(&init.to_lowercase().as_str()) {
            let why = format!(
                "`init_lora_weights` is \"{init}\", which changed the base: the adapter alone is not the whole change"
            );
            let fate = if version.inits.is_some() {
                Fate::Refused
            } else {
                Fate::Wrong
            };
            problems.push(Problem::whole("changed-base", fate, why));
        }
    }
    problems
}

pub(super) fn flag_problems(served: &Served, version: &Version, rank: usize) -> Vec<Problem> {
    let refused = |rule, why: String| Problem::whole(rule, Fate::Refused, why);
    let mut problems = Vec::new();
    if !served.enable_lora {
        problems.push(refused("lora-off", "served without `--enable-lora`".into()));
    }
    match &served.max_lora_rank {
        Ok(most) if !version.ranks.contains(most) => {
            let known: Vec<String> = version.ranks.iter().map(usize::to_string).collect();
            problems.push(refused(
                "rank-flag",
                format!("`--max-lora-rank {most}` is none of {}", known.join(", ")),
            ));
        }
        Ok(most) if *most < rank => problems.push(refused(
            "rank-flag",
            format!("rank {rank} is more than `--max-lora-rank`, {most}"),
        )),
        Ok(_) => {}
        Err(text) => problems.push(refused(
            "rank-flag",
            format!("`--max-lora-rank {text}` is no number"),
        )),
    }
    problems
}

/// A rank that no flag allows.
pub(super) fn rank_problem(version: &Version, rank: usize) -> Option<Problem> {
    let why = format!(
        "rank {rank} is more than the largest `--max-lora-rank`, {}",
        version.ranks.last().unwrap_or(&0)
    );
    let fits = version.rank_flag(rank).is_some();
    (!fits).then(|| Problem::whole("rank-too-large", Fate::Refused, why))
}
