//! Which linear layers LoRA adapts, and with which rank and scale: PEFT's rules over the model's
//! own list of modules.

use std::ops::Range;

use fancy_regex::Regex;
use serde::Serialize;
use vlft_base::{Diagnostic, Result, did_you_mean, one_of};

use crate::config::Config;

/// Linear layers of a language-model block that can be adapted, by their Hugging Face names.
pub const TEXT_TARGETS: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

/// A linear layer of the model: its path and its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `model.language_model.layers.0.self_attn.q_proj`
    pub name: String,
    pub in_features: usize,
    pub out_features: usize,
}

/// Where in the model a module sits; each group may have a learning rate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    VisionBlocks,
    /// The final merger and those of deepstack.
    Mergers,
    LanguageModel,
}

/// Which modules are adapted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LoraTargets {
    /// Last names of language-model layers, from [`TEXT_TARGETS`].
    Names(Vec<String>),
    /// A regular expression that matches the whole path of a module, as in PEFT.
    Pattern(String),
}

/// What is asked for, before it is expanded over a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    pub targets: LoraTargets,
    /// Also every linear layer of the vision blocks.
    pub vision: bool,
    /// Also the final merger and the deepstack mergers.
    pub merger: bool,
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    /// Other ranks for the modules whose path ends in a match. The first that matches counts.
    pub rank_pattern: Vec<(String, usize)>,
    pub alpha_pattern: Vec<(String, f64)>,
}

impl Default for LoraSpec {
    fn default() -> Self {
        Self {
            targets: LoraTargets::Names(TEXT_TARGETS.map(String::from).to_vec()),
            vision: false,
            merger: false,
            rank: 16,
            alpha: 32.0,
            rslora: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
        }
    }
}

/// One adapted module.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapted {
    pub name: String,
    pub in_features: usize,
    pub out_features: usize,
    pub rank: usize,
    pub alpha: f64,
}

/// The modules an adapter covers, each with its rank and scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Of the modules that have no other.
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    /// In model order: vision blocks, mergers, language layers, each in the order of its forward.
    pub modules: Vec<Adapted>,
    /// Last names that stand for exactly these modules over the whole model, if there are such.
    pub(crate) short_names: Option<Vec<String>>,
}

impl Layout {
    /// Expands `spec` over a model.
    ///
    /// # Errors
    /// A target that names nothing, a pattern that is no regular expression or matches nothing.
    pub fn new(config: &Config, spec: &LoraSpec) -> Result<Self> {
        let is_target = Matcher::new(&spec.targets)?;
        is_target.check_experts(config)?;
        let mut modules = Vec::new();
        for module in config.linear_modules() {
            let wanted = match Group::of(&module.name) {
                Group::VisionBlocks if spec.vision => true,
                Group::Mergers if spec.merger => true,
                _ => is_target.matches(&module.name)?,
            };
            if wanted {
                modules.push(module);
            }
        }
        if modules.is_empty() {
            return Err(Diagnostic::error("no module would be trained")
                .detail("`lora.targets`")
                .expected("names, or a pattern that matches a whole path such as `model.language_model.layers.0.self_attn.q_proj`")
                .hint("name at least one target, or set `lora.vision = true`"));
        }
        let ranks = Patterns::new("lora.rank_pattern", &spec.rank_pattern)?;
        let alphas = Patterns::new("lora.alpha_pattern", &spec.alpha_pattern)?;
        let layout = Self::with_patterns(config, spec, modules, &ranks, &alphas)?;
        ranks.check_used(&layout)?;
        alphas.check_used(&layout)?;
        Ok(layout)
    }

    /// The layout of modules that are given already, as those of an adapter's file.
    pub(crate) fn of_modules(
        config: &Config,
        spec: &LoraSpec,
        modules: Vec<Module>,
    ) -> Result<Self> {
        let ranks = Patterns::new("rank_pattern", &spec.rank_pattern)?;
        let alphas = Patterns::new("alpha_pattern", &spec.alpha_pattern)?;
        Self::with_patterns(config, spec, modules, &ranks, &alphas)
    }

    fn with_patterns(
        config: &Config,
        spec: &LoraSpec,
        modules: Vec<Module>,
        ranks: &Patterns<usize>,
        alphas: &Patterns<f64>,
    ) -> Result<Self> {
        let short_names = short_names(config, &modules);
        let adapted = modules.into_iter().map(|module| {
            Ok(Adapted {
                rank: ranks.get(&module.name)?.unwrap_or(spec.rank),
                alpha: alphas.get(&module.name)?.unwrap_or(spec.alpha),
                name: module.name,
                in_features: module.in_features,
                out_features: module.out_features,
            })
        });
        Ok(Self {
            rank: spec.rank,
            alpha: spec.alpha,
            rslora: spec.rslora,
            modules: adapted.collect::<Result<_>>()?,
            short_names,
        })
    }

    /// `alpha / r`, or `alpha / sqrt(r)` with rsLoRA.
    pub fn scale(&self, rank: usize, alpha: f64) -> f64 {
        let rank = rank as f64;
        if self.rslora {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        }
    }

    /// Modules whose scale differs from what `rank` and `alpha` of the whole say. Servers that
    /// read those two only (vLLM) would apply them wrongly.
    pub fn differently_scaled(&self) -> usize {
        let scale = self.scale(self.rank, self.alpha);
        let differs = |module: &&Adapted| self.scale(module.rank, module.alpha) != scale;
        self.modules.iter().filter(differs).count()
    }

    /// Where the modules whose names start with `prefix` stand in the list: one run, since the
    /// list is in model order.
    pub fn range(&self, prefix: &str) -> Range<usize> {
        let inside = |module: &Adapted| module.name.starts_with(prefix);
        let start = self.modules.iter().position(inside).unwrap_or(0);
        start..start + self.modules.iter().filter(|module| inside(module)).count()
    }

    /// Trainable parameters.
    pub fn parameters(&self) -> usize {
        self.modules
            .iter()
            .map(|m| m.rank * (m.in_features + m.out_features))
            .sum()
    }
}

impl Adapted {
    pub fn group(&self) -> Group {
        Group::of(&self.name)
    }
}

impl Group {
    fn of(name: &str) -> Self {
        if name.starts_with("model.visual.blocks.") {
            Self::VisionBlocks
        } else if name.starts_with("model.visual.") {
            Self::Mergers
        } else {
            Self::LanguageModel
        }
    }
}

/// Only within the language model: among others, `proj` would also hit the patch embedding's
/// convolution.
fn short_names(config: &Config, modules: &[Module]) -> Option<Vec<String>> {
    let mut names: Vec<&str> = Vec::new();
    for module in modules {
        let name = last_name(&module.name);
        if Group::of(&module.name) != Group::LanguageModel {
            return None;
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let all = config.linear_modules();
    let hit = all.iter().filter(|m| names.contains(&last_name(&m.name)));
    (hit.count() == modules.len()).then(|| names.into_iter().map(String::from).collect())
}

fn last_name(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// [`LoraTargets`], ready to be asked.
enum Matcher<'a> {
    Names(&'a [String]),
    Pattern(Regex),
}

impl<'a> Matcher<'a> {
    fn new(targets: &'a LoraTargets) -> Result<Self> {
        let names = match targets {
            LoraTargets::Names(names) => names,
            LoraTargets::Pattern(pattern) => {
                let whole = format!("^(?:{pattern})$");
                return Ok(Self::Pattern(regex("lora.targets", pattern, &whole)?));
            }
        };
        for target in names {
            if ["experts", "gate_up_proj", "gate"].contains(&target.as_str()) {
                return Err(experts_are_frozen(target, "mlp.experts"));
            }
            if !TEXT_TARGETS.contains(&target.as_str()) {
                let error = Diagnostic::error(format!("unknown LoRA target `{target}`"))
                    .expected(one_of(TEXT_TARGETS));
                return Err(match did_you_mean(target, TEXT_TARGETS) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(
                        "`lora.vision = true` adapts the vision blocks; a pattern instead of a \
                         list reaches any linear layer",
                    ),
                });
            }
        }
        Ok(Self::Names(names))
    }

    /// Fused experts are frozen: whoever asks for them is told, not given less.
    fn check_experts(&self, config: &Config) -> Result<()> {
        let experts = config.expert_modules();
        if experts.is_empty() {
            return Ok(());
        }
        match self {
            Self::Names(names) => {
                let modules = config.linear_modules();
                let text = |module: &&Module| Group::of(&module.name) == Group::LanguageModel;
                let found: Vec<&str> = modules
                    .iter()
                    .filter(text)
                    .map(|module| last_name(&module.name))
                    .collect();
                match names.iter().find(|name| !found.contains(&name.as_str())) {
                    None => Ok(()),
                    Some(name) => Err(experts_are_frozen(name, &experts[0])),
                }
            }
            Self::Pattern(regex) => {
                for module in &experts {
                    if is_match("lora.targets", regex, module)? {
                        return Err(experts_are_frozen(module, module));
                    }
                }
                Ok(())
            }
        }
    }

    fn matches(&self, module: &str) -> Result<bool> {
        match self {
            Self::Names(names) => {
                let last = last_name(module);
                Ok(Group::of(module) == Group::LanguageModel && names.iter().any(|n| n == last))
            }
            Self::Pattern(regex) => is_match("lora.targets", regex, module),
        }
    }
}

fn experts_are_frozen(asked: &str, module: &str) -> Diagnostic {
    Diagnostic::error("the experts of this model are not adapted")
        .detail("`lora.targets`")
        .found(format!("`{asked}`"))
        .expected("attention, or dense projections where the model has such layers")
        .caused_by(format!(
            "`{module}` holds all experts in one tensor and stays frozen"
        ))
        .hint("`lora.targets = [\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\"]`")
}

/// PEFT's `rank_pattern` and `alpha_pattern`: `(.*\.)?(KEY)$` from the start of the path.
struct Patterns<'a, T> {
    /// Where they come from, for messages.
    key: &'static str,
    patterns: Vec<(&'a str, Regex, T)>,
}

impl<'a, T: Copy> Patterns<'a, T> {
    fn new(key: &'static str, patterns: &'a [(String, T)]) -> Result<Self> {
        let compiled = patterns.iter().map(|(pattern, value)| {
            let whole = format!(r"^(.*\.)?(?:{pattern})$");
            Ok((pattern.as_str(), regex(key, pattern, &whole)?, *value))
        });
        Ok(Self {
            key,
            patterns: compiled.collect::<Result<_>>()?,
        })
    }

    fn get(&self, module: &str) -> Result<Option<T>> {
        for (_, regex, value) in &self.patterns {
            if is_match(self.key, regex, module)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }

    /// A pattern that no adapted module matches is a mistake that would go unnoticed.
    fn check_used(&self, layout: &Layout) -> Result<()> {
        for (pattern, regex, _) in &self.patterns {
            let mut used = false;
            for module in &layout.modules {
                used |= is_match(self.key, regex, &module.name)?;
            }
            if !used {
                return Err(Diagnostic::error(format!(
                    "`{}` has a pattern that no adapted module matches",
                    self.key
                ))
                .found(format!("`{pattern}`"))
                .expected(format!(
                    "the end of a path such as `{}`",
                    layout.modules[0].name
                )));
            }
        }
        Ok(())
    }
}

fn regex(key: &str, pattern: &str, whole: &str) -> Result<Regex> {
    Regex::new(whole).map_err(|e| {
        Diagnostic::error(format!("`{key}` holds no regular expression"))
            .found(format!("`{pattern}`"))
            .caused_by(e)
    })
}

fn is_match(key: &str, regex: &Regex, module: &str) -> Result<bool> {
    regex.is_match(module).map_err(|e| {
        Diagnostic::error(format!("a pattern of `{key}` takes too long"))
            .detail(format!("on `{module}`"))
            .caused_by(e)
    })
}
