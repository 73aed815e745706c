//! The modules that an adapter's tensors belong to, and those that its config promises.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::known::{Known, layer_of};
use super::names::{Name, Part};
use super::ranks::Ranks;
use super::report::{Fate, Problem, TensorFate};
use super::versions::Version;

/// The modules that the tensors belong to.
pub(super) struct Modules {
    /// By published path: whether A and B are there under whatever name.
    halves: BTreeMap<String, (bool, bool)>,
    pub(super) applied: usize,
    /// Those that have a matrix twice, under two names.
    twice: Vec<String>,
}

impl Modules {
    pub(super) fn of(fates: &[TensorFate]) -> Self {
        let mut halves: BTreeMap<String, (bool, bool)> = BTreeMap::new();
        let mut applied: BTreeMap<&str, usize> = BTreeMap::new();
        for tensor in fates {
            let Some(module) = &tensor.module else {
                continue;
            };
            let half = halves.entry(module.clone()).or_default();
            match Name::parse(&tensor.name).part {
                Part::A | Part::EmbeddingA => half.0 = true,
                Part::B | Part::EmbeddingB => half.1 = true,
                _ => continue,
            }
            if tensor.fate == Fate::Applied {
                *applied.entry(module).or_default() += 1;
            }
        }
        // Whole weights and magnitudes alone make no module.
        halves.retain(|_, half| half.0 || half.1);
        let more = applied.iter().filter(|(_, matrices)| **matrices > 2);
        let twice = more.map(|(module, _)| (*module).to_owned()).collect();
        let applied = applied.values().filter(|matrices| **matrices == 2).count();
        Self {
            halves,
            applied,
            twice,
        }
    }

    /// Of two matrices for one place a server keeps the one it reads last.
    pub(super) fn doubled(&self) -> Option<Problem> {
        let why = "has more than one A and one B, under different names: a server keeps what it reads last";
        (!self.twice.is_empty()).then(|| Problem {
            count: self.twice.len(),
            examples: self.twice.iter().take(2).cloned().collect(),
            ..Problem::whole("doubled-module", Fate::Wrong, why.into())
        })
    }

    /// Modules that a server which reads `r` and `lora_alpha` only would scale otherwise.
    pub(super) fn ignored_patterns(&self, version: &Version, ranks: &Ranks) -> Option<Problem> {
        let unlike = self.halves.keys().filter(|module| !ranks.is_plain(module));
        let unlike: Vec<String> = unlike.cloned().collect();
        if version.patterns || unlike.is_empty() {
            return None;
        }
        let why = format!(
            "vLLM {} ignores rank_pattern and alpha_pattern",
            version.name
        );
        Some(Problem {
            count: unlike.len(),
            examples: unlike.into_iter().take(2).collect(),
            ..Problem::whole("pattern-ignored", Fate::Wrong, why)
        })
    }

    /// What the config says was trained, and what has tensors.
    pub(super) fn expected(&self, config: &Value, known: &Known) -> BTreeSet<String> {
        let mut named = self.named(config, known);
        named.retain(|module| !known.doubtful.contains(module));
        named
    }

    /// Layers whose MLP the config names, if they have one. It is a question, which only the model answers.
    pub(super) fn question(&self, config: &Value, known: &Known) -> Option<String> {
        let named = self.named(config, known);
        let doubtful = named
            .iter()
            .filter(|module| known.doubtful.contains(*module));
        let layers: BTreeSet<usize> = doubtful.filter_map(|module| layer_of(module)).collect();
        const SHOWN: usize = 6;
        let shown: Vec<String> = layers.iter().take(SHOWN).map(usize::to_string).collect();
        let more = if layers.len() > SHOWN { ", .." } else { "" };
        let which = match layers.len() {
            0 => return None,
            1 => format!("layer {} has", shown[0]),
            n => format!("{n} layers ({}{more}) have", shown.join(", ")),
        };
        Some(format!(
            "{which} no MLP matrices, though the config names them: right if experts are there instead, \
             a loss if not. Which is it? `--model DIR` answers"
        ))
    }

    fn named(&self, config: &Value, known: &Known) -> BTreeSet<String> {
        let named = known.targets(config).unwrap_or_default();
        // `proj` as a target also means the patch embedding, a convolution, for which PEFT makes
        // no pair of matrices.
        let named = named
            .into_iter()
            .filter(|m| !m.contains("patch_embed"))
            .map(String::from);
        let own = self.halves.keys().cloned();
        let expected: BTreeSet<String> = named.chain(own).collect();
        // A list that names every layer is often cut down by `exclude` rules of other tools: where
        // no name matches, a whole kind of module has to be there in each layer.
        if known.targets(config).is_some() {
            return expected;
        }
        let kinds: BTreeSet<&str> = expected.iter().filter_map(|m| text_kind(m)).collect();
        let all = known
            .modules
            .keys()
            .filter(|m| text_kind(m).is_some_and(|k| kinds.contains(k)));
        all.cloned().chain(expected.iter().cloned()).collect()
    }

    pub(super) fn problems(
        &self,
        config: &Value,
        known: &Known,
        fates: &[TensorFate],
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        if fates.iter().all(|t| t.fate == Fate::Skipped) {
            problems.push(Problem::whole(
                "empty",
                Fate::Ignored,
                "the file has no adapter tensors: it would do nothing".into(),
            ));
            return problems;
        }
        let mut list = |rule, fate, why: &str, names: Vec<String>| {
            if !names.is_empty() {
                problems.push(Problem {
                    count: names.len(),
                    examples: names.into_iter().take(2).collect(),
                    ..Problem::whole(rule, fate, why.into())
                });
            }
        };
        let half = self.halves.iter().filter(|(_, (a, b))| a != b);
        list(
            "missing-half",
            Fate::Refused,
            "one of the two matrices is missing, and vLLM fails while it loads",
            half.map(|(module, (a, _))| format!("{module}: no {}", if *a { "B" } else { "A" }))
                .collect(),
        );
        let expected = self.expected(config, known);
        let missing = expected.iter().filter(|m| !self.halves.contains_key(*m));
        list(
            "missing-module",
            Fate::Ignored,
            "the config names these modules, the file has no tensors of them",
            missing.cloned().collect(),
        );
        problems
    }
}

/// `self_attn.q_proj` of a language layer.
fn text_kind(module: &str) -> Option<&str> {
    let rest = module.strip_prefix("model.language_model.layers.")?;
    rest.split_once('.').map(|(_, kind)| kind)
}
