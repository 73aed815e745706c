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
    problems.extend(wrong_types(config));
    if ranks.alpha == 0.0 && config.get("lora_alpha").is_some_and(Value::is_number) {
        let why = "`lora_alpha` is 0: the adapter changes nothing";
        problems.push(Problem::whole("zero", Fate::Wrong, why.into()));
    } else if ranks.rank > 0 && !(ranks.scale(ranks.rank, ranks.alpha) as f32).is_finite() {
        let why = format!(
            "`lora_alpha` {:e} makes a scale that is infinite",
            ranks.alpha
        );
        problems.push(Problem::whole("not-finite", Fate::Wrong, why));
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
    // No version looks at the last one: PEFT trains rows of an embedding with it.
    let keys = VERSIONS[0].refused_keys.iter();
    for key in keys.chain(&["trainable_token_indices"]) {
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
    let bias = config.get("bias").filter(|bias| !bias.is_null());
    if bias.is_some_and(|bias| *bias != "none") {
        problems.push(refused("refused-option", "`bias` is not \"none\"".into()));
    }
    if let Some(init) = config.get("init_lora_weights").and_then(Value::as_str) {
        let name = init.to_lowercase();
        let known = VERSIONS[0].inits.unwrap_or_default();
        let harmless = known.contains(&name.as_str()) && !CHANGES_BASE.contains(&name.as_str());
        if !harmless {
            let why = format!(
                "`init_lora_weights` is \"{init}\", which changed the base: the adapter alone is not the whole change"
            );
            let takes = |inits: &[&str]| inits.contains(&name.as_str());
            let fate = match version.inits.is_some_and(|inits| !takes(inits)) {
                true => Fate::Refused,
                false => Fate::Wrong,
            };
            problems.push(Problem::whole("changed-base", fate, why));
        }
    }
    problems
}

/// Ways to begin that take something off the base, though vLLM lets them pass (PEFT 0.21,
/// `tuners/lora/layer.py`).
const CHANGES_BASE: [&str; 1] = ["lora_ga"];

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

/// Values of another type than PEFT writes: vLLM fails over some and reads others in its own way.
fn wrong_types(config: &Value) -> Vec<Problem> {
    type Fits = fn(&Value) -> bool;
    let is_table = |value: &Value, fits: Fits| {
        value
            .as_object()
            .is_some_and(|table| table.values().all(fits))
    };
    let is_name = |value: &Value| {
        let names = value.as_array();
        value.is_string() || names.is_some_and(|names| names.iter().all(Value::is_string))
    };
    let mut problems = Vec::new();
    let mut check = |key: &str, expected: &str, fits: &dyn Fn(&Value) -> bool| {
        if let Some(value) = config.get(key).filter(|v| !v.is_null() && !fits(v)) {
            let why = format!("`{key}` is {value}, expected {expected}");
            problems.push(Problem::whole("wrong-type", Fate::Refused, why));
        }
    };
    check("lora_alpha", "a number", &Value::is_number);
    check("use_rslora", "true or false", &Value::is_boolean);
    check("target_modules", "names or a pattern", &is_name);
    let is_list = |value: &Value| value.is_array() && is_name(value);
    check("target_parameters", "a list of names", &is_list);
    let rank = |v: &Value| is_table(v, |rank| rank.as_u64().is_some_and(|rank| rank > 0));
    check("rank_pattern", "names with positive whole numbers", &rank);
    let alpha = |v: &Value| is_table(v, Value::is_number);
    check("alpha_pattern", "names with numbers", &alpha);
    for key in ["rank_pattern", "alpha_pattern"] {
        let names = config.get(key).and_then(Value::as_object);
        for (name, _) in names.into_iter().flatten() {
            if fancy_regex::Regex::new(name).is_err() {
                let why = format!("`{key}` has `{name}`, which is no regular expression");
                problems.push(Problem::whole("wrong-type", Fate::Refused, why));
            }
        }
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
