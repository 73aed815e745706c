//! Which modules the served model has: from its config, from the published size that an adapter's
//! shapes belong to, or from the adapter's shapes alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use vlft_base::Result;

use super::names::{Name, Part};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::published;

/// The modules of a model by their published paths, with `(in, out)` where they are known.
pub(crate) struct Known {
    pub(crate) modules: BTreeMap<String, Option<(usize, usize)>>,
    /// Those of them that there are only if their layer is dense: nothing at hand says whether it has
    /// experts instead.
    pub(crate) doubtful: BTreeSet<String>,
    /// In words, for the report.
    pub(crate) model: String,
    pub(crate) moe: bool,
    /// Whether the model was given, or is one of those published.
    pub(crate) certain: bool,
}

impl Known {
    pub(crate) fn of_model(dir: &Path) -> Result<Self> {
        let config = Config::from_dir(dir)?;
        Ok(Self::of_config(&config, format!("`{}`", dir.display())))
    }

    pub(crate) fn of_config(config: &Config, model: String) -> Self {
        let mut modules: BTreeMap<String, Option<(usize, usize)>> = config
            .linear_modules()
            .into_iter()
            .map(|m| (m.name, Some((m.in_features, m.out_features))))
            .collect();
        let (vocabulary, d) = (config.text.vocab_size, config.text.hidden_size);
        modules.insert("lm_head".into(), Some((d, vocabulary)));
        // For an embedding, A takes a token's place and B gives its vector.
        modules.insert(
            "model.language_model.embed_tokens".into(),
            Some((vocabulary, d)),
        );
        let moe = config
            .tensors()
            .iter()
            .any(|(name, _)| name.contains(".mlp.experts."));
        Self {
            modules,
            doubtful: BTreeSet::new(),
            model,
            moe,
            certain: true,
        }
    }

    /// What an adapter's own tensors and its config say about its model.
    pub(crate) fn of_adapter(tensors: &Checkpoint, config: &Value) -> Self {
        let mut sizes: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut layers = 0;
        let mut modules = BTreeMap::new();
        let mut halves: BTreeMap<String, [Option<usize>; 2]> = BTreeMap::new();
        for tensor in tensors.names() {
            let name = Name::parse(tensor);
            let (Some(module), Some(&[rows, columns])) = (name.module, tensors.shape(tensor))
            else {
                continue;
            };
            if let Some(layer) = layer_of(&module) {
                layers = layers.max(layer + 1);
            }
            let half = halves.entry(module.clone()).or_default();
            match name.part {
                Part::A => half[0] = Some(columns),
                Part::B => half[1] = Some(rows),
                _ => {}
            }
            modules.insert(module, None);
        }
        for (module, half) in halves {
            if let [Some(width_in), Some(width_out)] = half {
                sizes.entry(kind(&module)).or_insert((width_in, width_out));
            }
        }
        let size = |last: &str| sizes.get(last).copied();
        if let Some(published) = published::by_shapes(layers, &size) {
            let model = format!("{} by the adapter's shapes", published.name);
            return Self::of_config(&published.config(), model);
        }
        let moe = modules.keys().any(|module| is_sparse(module)) || names_experts(config);
        let dense = base_name(config).is_some_and(published::is_dense);
        // Nor has a model that is given these: what becomes of them is not simulated.
        modules.retain(|module, _| !is_sparse(module));
        let mut doubtful = BTreeSet::new();
        for layer in 0..layers {
            let path = |module: &&str| format!("model.language_model.layers.{layer}.{module}");
            let (attention, mlp) = TEXT_MODULES.split_at(FIRST_OF_MLP);
            let mut own: Vec<String> = attention.iter().map(path).collect();
            // A layer without a single matrix of its MLP is dense and lacks them, or has experts.
            let mlp: Vec<String> = mlp.iter().map(path).collect();
            let has_some = mlp.iter().any(|path| modules.contains_key(path));
            match (has_some || dense && !moe, moe) {
                (true, _) => own.extend(mlp),
                (false, true) => {}
                (false, false) => {
                    doubtful.extend(mlp.iter().cloned());
                    own.extend(mlp);
                }
            }
            for path in own {
                modules.entry(path).or_insert(None);
            }
        }
        for (module, found) in &mut modules {
            *found = size(&kind(module));
        }
        Self {
            modules,
            doubtful,
            model: match moe {
                true => format!("unknown, with experts, {layers} layers by the adapter's names"),
                false => format!("unknown, {layers} layers by the adapter's names"),
            },
            moe,
            certain: false,
        }
    }

    /// The modules that `target_modules` of an adapter's config means, by PEFT's rules; None where
    /// it cannot be told.
    pub(crate) fn targets(&self, config: &Value) -> Option<Vec<&str>> {
        let matches = matcher(config.get("target_modules")?)?;
        let excludes = config.get("exclude_modules").and_then(matcher);
        let layers = layers_to_transform(config);
        let modules: Vec<&str> = self
            .modules
            .keys()
            .map(String::as_str)
            .filter(|module| matches(module) && !excludes.as_ref().is_some_and(|e| e(module)))
            .filter(|module| {
                let layer = layer_of(module);
                layers
                    .as_ref()
                    .is_none_or(|l| layer.is_some_and(|n| l.contains(&n)))
            })
            .collect();
        (!modules.is_empty()).then_some(modules)
    }
}

pub(super) const TEXT_MODULES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Where in [`TEXT_MODULES`] those begin that a layer with experts has not.
const FIRST_OF_MLP: usize = 4;

/// The router or the experts of a layer, which no dense model has.
pub(crate) fn is_sparse(module: &str) -> bool {
    module.ends_with(".mlp.gate") || module.contains(".mlp.experts")
}

/// Whether the config says that the base has experts: by parameters of theirs, or by the base's name, which
/// holds `MoE` or the active parameters (`Qwen3-VL-30B-A3B`).
fn names_experts(config: &Value) -> bool {
    let parameters = config.get("target_parameters").and_then(Value::as_array);
    let mut parameters = parameters.into_iter().flatten().filter_map(Value::as_str);
    let is_active = |part: &str| {
        let size = part.strip_prefix('a').and_then(|p| p.strip_suffix('b'));
        size.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    let name = base_name(config).unwrap_or_default().to_lowercase();
    parameters.any(|name| name.contains("experts"))
        || name
            .split(['-', '_'])
            .any(|part| part == "moe" || is_active(part))
}

/// The name of the model that an adapter's config says it belongs to, without whose it is or where it lies.
fn base_name(config: &Value) -> Option<&str> {
    let base = config.get("base_model_name_or_path")?.as_str()?;
    base.trim_end_matches('/').rsplit('/').next()
}

/// The path without its layer's number: modules of one kind have one shape.
fn kind(module: &str) -> String {
    let without = |part: &&str| !part.bytes().all(|b| b.is_ascii_digit());
    module
        .split('.')
        .filter(without)
        .collect::<Vec<_>>()
        .join(".")
}

pub(crate) fn layer_of(module: &str) -> Option<usize> {
    let rest = module.strip_prefix("model.language_model.layers.")?;
    rest.split('.').next()?.parse().ok()
}

type Matches<'a> = Box<dyn Fn(&str) -> bool + 'a>;

/// A list: a module's name or its ending after a dot. A text: a regular expression over the whole
/// path, or `all-linear`.
fn matcher(value: &Value) -> Option<Matches<'_>> {
    match value {
        Value::String(text) if text == "all-linear" => Some(Box::new(|module| {
            !module.ends_with("lm_head") && !module.ends_with("embed_tokens")
        })),
        Value::String(pattern) => {
            let regex = fancy_regex::Regex::new(&format!("^(?:{pattern})$")).ok()?;
            Some(Box::new(move |module| {
                regex.is_match(module).unwrap_or(false)
            }))
        }
        Value::Array(items) => {
            let names: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            Some(Box::new(move |module| {
                names.iter().any(|name| {
                    module
                        .strip_suffix(name)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                })
            }))
        }
        _ => None,
    }
}

fn layers_to_transform(config: &Value) -> Option<Vec<usize>> {
    let number = |v: &Value| v.as_u64().map(|n| n as usize);
    match config.get("layers_to_transform")? {
        Value::Array(items) => items.iter().map(number).collect(),
        single => number(single).map(|n| vec![n]),
    }
}
