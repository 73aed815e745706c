//! Ranks and scales of an adapter's modules, by its config.

use serde_json::Value;

use super::adapter::FoundAdapter;
use super::names::{Name, Part};

/// Rank and scale by the adapter's config.
pub(super) struct Ranks {
    pub(super) rank: usize,
    pub(super) alpha: f64,
    pub(super) rslora: bool,
    ranks: Vec<(String, usize)>,
    alphas: Vec<(String, f64)>,
}

impl Ranks {
    pub(super) fn read(config: &Value) -> Self {
        let table = |key: &str| {
            config
                .get(key)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
        };
        let number = |v: &Value| v.as_u64().map(|n| n as usize);
        Self {
            rank: config.get("r").and_then(number).unwrap_or(0),
            alpha: config
                .get("lora_alpha")
                .and_then(Value::as_f64)
                .unwrap_or(0.0),
            rslora: config
                .get("use_rslora")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            ranks: table("rank_pattern")
                .filter_map(|(k, v)| Some((k.clone(), number(v)?)))
                .collect(),
            alphas: table("alpha_pattern")
                .filter_map(|(k, v)| Some((k.clone(), v.as_f64()?)))
                .collect(),
        }
    }

    pub(super) fn of(&self, module: &str) -> usize {
        first_match(&self.ranks, module).unwrap_or(self.rank)
    }

    pub(super) fn scale(&self, rank: usize, alpha: f64) -> f64 {
        let rank = rank as f64;
        if self.rslora {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        }
    }

    /// Whether a server that reads `r` and `lora_alpha` only scales this module as it was trained.
    pub(super) fn is_plain(&self, module: &str) -> bool {
        let alpha = first_match(&self.alphas, module).unwrap_or(self.alpha);
        self.scale(self.of(module), alpha) == self.scale(self.rank, self.alpha)
    }
}

/// PEFT's `get_pattern_key`: the end of a path, from a dot on; the first that matches.
fn first_match<T: Copy>(patterns: &[(String, T)], module: &str) -> Option<T> {
    patterns.iter().find_map(|(pattern, value)| {
        let regex = fancy_regex::Regex::new(&format!(r"^(.*\.)?({pattern})$")).ok()?;
        regex.is_match(module).unwrap_or(false).then_some(*value)
    })
}

/// By the config; by the smallest A where that says nothing (one that is turned around has the
/// layer's width in its place).
pub(super) fn needed_rank(adapter: &FoundAdapter, ranks: &Ranks) -> usize {
    let by_config = ranks
        .ranks
        .iter()
        .map(|(_, rank)| *rank)
        .chain([ranks.rank])
        .max();
    let of_tensors = adapter.tensors.names().filter_map(|tensor| {
        let name = Name::parse(tensor);
        let is_a = name.part == Part::A && name.module.is_some();
        adapter
            .tensors
            .shape(tensor)?
            .first()
            .copied()
            .filter(|_| is_a)
    });
    match by_config {
        Some(rank) if rank > 0 => rank,
        _ => of_tensors.min().unwrap_or(0),
    }
}
