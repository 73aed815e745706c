//! The check of an adapter: its config, every tensor, what is missing, and the flags it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use vlft_base::Result;

use super::adapter::FoundAdapter;
use super::contract::{Contract, template_sha256};
use super::flags::{Served, adapter_name, quoted};
use super::known::Known;
use super::names::{Name, Part, STYLE};
use super::report::{Counts, Fate, Problem, Report, Serve, TensorFate};
use super::tensor::Judge;
use super::versions::Version;
use crate::float::Float;

/// How to check.
pub struct Options {
    pub version: &'static Version,
    /// The model it will be served on; None: by the adapter's shapes.
    pub model: Option<PathBuf>,
    /// The flags somebody serves with; None: those that the report asks for.
    pub served_with: Option<String>,
}

/// Says what vLLM would do with every tensor of an adapter.
///
/// # Errors
/// The adapter or the model cannot be read. A bad adapter is no error but a report.
pub fn check(dir: &Path, options: &Options) -> Result<Report> {
    let adapter = FoundAdapter::open(dir)?;
    let version = options.version;
    let known = match &options.model {
        Some(model) => Known::of_model(model)?,
        None => Known::of_adapter(&adapter.tensors),
    };
    let ranks = Ranks::read(&adapter.config);
    let served = options
        .served_with
        .as_ref()
        .map(|flags| Served::parse(flags, version));
    let tower = served
        .as_ref()
        .map_or(version.tower_flag.is_some(), |served| served.tower);
    let rank = |module: &str| ranks.of(module);
    let judge = Judge {
        version,
        known: &known,
        tower,
        rank: &rank,
    };
    let fates: Vec<TensorFate> = adapter
        .tensors
        .names()
        .map(|tensor| judge.judge(&adapter, tensor))
        .collect();

    let mut problems = config_problems(&adapter.config, version, &ranks);
    if let Some(served) = &served {
        problems.extend(flag_problems(
            served,
            version,
            needed_rank(&adapter, &ranks),
        ));
    } else if version.rank_flag(needed_rank(&adapter, &ranks)).is_none() {
        let rank = needed_rank(&adapter, &ranks);
        problems.push(whole(
            "rank-too-large",
            Fate::Refused,
            format!(
                "rank {rank} is more than the largest `--max-lora-rank`, {}",
                version.ranks.last().unwrap_or(&0)
            ),
        ));
    }
    problems.extend(tensor_problems(&fates));
    let modules = Modules::of(&fates);
    problems.extend(modules.problems(&adapter.config, &known, &fates));
    problems.extend(modules.ignored_patterns(version, &ranks));
    problems.extend(value_problems(&adapter, &fates));

    let of = |fate| fates.iter().filter(|tensor| tensor.fate == fate).count();
    let expected = modules.expected(&adapter.config, &known).len();
    let contract = Contract::read(dir);
    let needs_tower = fates.iter().any(|t| {
        t.module
            .as_ref()
            .is_some_and(|m| m.starts_with("model.visual."))
    });
    let (serve, warnings) = serve(
        &adapter,
        options,
        &ranks,
        contract.as_ref(),
        needs_tower,
        known.certain,
    );
    let mut warnings = warnings;
    if served.as_ref().is_some_and(|s| !s.mm_processor_kwargs)
        && serve.mm_processor_kwargs.is_some()
    {
        warnings.push("served without `--mm-processor-kwargs`, pages have another resolution than in training".into());
    }
    Ok(Report {
        adapter: dir.to_path_buf(),
        vllm: version.name,
        passes: problems.is_empty(),
        loads: problems.iter().all(|p| p.fate != Fate::Refused),
        made_by: adapter.maker(),
        style: styles(&adapter),
        model: known.model.clone(),
        rank: ranks.rank,
        alpha: ranks.alpha,
        rslora: ranks.rslora,
        tensors: Counts {
            total: fates.len(),
            applied: of(Fate::Applied),
            skipped: of(Fate::Skipped),
            wrong: of(Fate::Wrong),
            ignored: of(Fate::Ignored),
            refused: of(Fate::Refused),
        },
        modules_applied: modules.applied,
        modules_expected: expected,
        problems,
        warnings,
        serve,
        fates,
    })
}

/// Rank and scale by the adapter's config.
struct Ranks {
    rank: usize,
    alpha: f64,
    rslora: bool,
    ranks: Vec<(String, usize)>,
    alphas: Vec<(String, f64)>,
}

impl Ranks {
    fn read(config: &Value) -> Self {
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

    fn of(&self, module: &str) -> usize {
        first_match(&self.ranks, module).unwrap_or(self.rank)
    }

    fn scale(&self, rank: usize, alpha: f64) -> f64 {
        let rank = rank as f64;
        if self.rslora {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        }
    }

    /// Whether a server that reads `r` and `lora_alpha` only scales this module as it was trained.
    fn is_plain(&self, module: &str) -> bool {
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

fn whole(rule: &'static str, fate: Fate, why: String) -> Problem {
    Problem {
        rule,
        fate,
        why,
        count: 0,
        examples: Vec::new(),
        can_be_renamed: false,
    }
}

fn config_problems(config: &Value, version: &Version, ranks: &Ranks) -> Vec<Problem> {
    let refused = |rule, why: String| whole(rule, Fate::Refused, why);
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
    for key in super::versions::VERSIONS[0].refused_keys {
        let Some(value) = config.get(*key).filter(|v| is_set(v)) else {
            continue;
        };
        problems.push(match version.refused_keys.contains(key) {
            true => refused(
                "refused-option",
                format!("`{key}` is {value}, which vLLM {} refuses", version.name),
            ),
            false => whole(
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
        let harmless = super::versions::VERSIONS[0].inits.unwrap_or_default();
        if !harmless.contains(&init.to_lowercase().as_str()) {
            let why = format!(
                "`init_lora_weights` is \"{init}\", which changed the base: the adapter alone is not the whole change"
            );
            let fate = if version.inits.is_some() {
                Fate::Refused
            } else {
                Fate::Wrong
            };
            problems.push(whole("changed-base", fate, why));
        }
    }
    problems
}

/// By the config; by the smallest A where that says nothing (one that is turned around has the
/// layer's width in its place).
fn needed_rank(adapter: &FoundAdapter, ranks: &Ranks) -> usize {
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

fn flag_problems(served: &Served, version: &Version, rank: usize) -> Vec<Problem> {
    let refused = |rule, why: String| whole(rule, Fate::Refused, why);
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

/// One problem for each rule that hit tensors, in the order of the file.
fn tensor_problems(fates: &[TensorFate]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for tensor in fates {
        if matches!(tensor.fate, Fate::Applied | Fate::Skipped) {
            continue;
        }
        let renameable = tensor
            .published
            .as_ref()
            .is_some_and(|name| *name != tensor.name)
            && ["other-name", "unreadable-name"].contains(&tensor.rule);
        let same = |p: &&mut Problem| {
            p.rule == tensor.rule && p.fate == tensor.fate && p.can_be_renamed == renameable
        };
        let problem = match problems.iter_mut().find(same) {
            Some(problem) => problem,
            None => {
                problems.push(Problem {
                    can_be_renamed: renameable,
                    ..whole(tensor.rule, tensor.fate, tensor.why.clone())
                });
                problems.last_mut().expect("pushed just now")
            }
        };
        problem.count += 1;
        if problem.examples.len() < 2 {
            problem.examples.push(tensor.name.clone());
        }
    }
    problems
}

/// The modules that the tensors belong to.
struct Modules {
    /// By published path: whether A and B are there under whatever name.
    halves: BTreeMap<String, (bool, bool)>,
    applied: usize,
}

impl Modules {
    fn of(fates: &[TensorFate]) -> Self {
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
        let applied = applied.values().filter(|matrices| **matrices == 2).count();
        Self { halves, applied }
    }

    /// Modules that a server which reads `r` and `lora_alpha` only would scale otherwise.
    fn ignored_patterns(&self, version: &Version, ranks: &Ranks) -> Option<Problem> {
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
            ..whole("pattern-ignored", Fate::Wrong, why)
        })
    }

    /// What the config says was trained, and what has tensors.
    fn expected(&self, config: &Value, known: &Known) -> BTreeSet<String> {
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

    fn problems(&self, config: &Value, known: &Known, fates: &[TensorFate]) -> Vec<Problem> {
        let mut problems = Vec::new();
        if fates.iter().all(|t| t.fate == Fate::Skipped) {
            problems.push(whole(
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
                    ..whole(rule, fate, why.into())
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

/// Values that make an adapter useless: all B zero, or something that is no number.
fn value_problems(adapter: &FoundAdapter, fates: &[TensorFate]) -> Vec<Problem> {
    let mut broken = Vec::new();
    let (mut b_tensors, mut zero) = (0, 0);
    for tensor in fates {
        let Ok((bytes, float)) = adapter.tensors.floats(
            &tensor.name,
            adapter.tensors.shape(&tensor.name).unwrap_or_default(),
        ) else {
            continue;
        };
        let (mut finite, mut any) = (true, false);
        for chunk in bytes.chunks(1 << 16) {
            for value in Float::to_f32(float, chunk) {
                finite &= value.is_finite();
                any |= value != 0.0;
            }
        }
        adapter.tensors.release(&tensor.name);
        if !finite {
            broken.push(tensor.name.clone());
        }
        if matches!(Name::parse(&tensor.name).part, Part::B | Part::EmbeddingB) {
            b_tensors += 1;
            zero += usize::from(!any);
        }
    }
    let mut problems = Vec::new();
    if !broken.is_empty() {
        problems.push(Problem {
            count: broken.len(),
            examples: broken.into_iter().take(2).collect(),
            ..whole(
                "not-finite",
                Fate::Wrong,
                "values are NaN or infinite".into(),
            )
        });
    }
    if b_tensors > 0 && zero == b_tensors {
        problems.push(whole(
            "zero",
            Fate::Wrong,
            "every B is zero: the adapter changes nothing".into(),
        ));
    }
    problems
}

fn styles(adapter: &FoundAdapter) -> String {
    let mut styles: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in adapter.tensors.names() {
        let name = Name::parse(tensor);
        let style = if name.module.is_some() {
            name.style
        } else {
            "foreign"
        };
        *styles.entry(style).or_default() += 1;
    }
    match styles.len() {
        0 => "none".into(),
        1 => styles.into_keys().next().unwrap_or(STYLE).to_string(),
        _ => {
            let parts = styles
                .into_iter()
                .map(|(style, n)| format!("{style} ({n})"));
            parts.collect::<Vec<_>>().join(", ")
        }
    }
}

/// The command to paste, and what to know beside it.
fn serve(
    adapter: &FoundAdapter,
    options: &Options,
    ranks: &Ranks,
    contract: Option<&Contract>,
    needs_tower: bool,
    certain: bool,
) -> (Serve, Vec<String>) {
    let version = options.version;
    let mut warnings = Vec::new();
    let base = adapter
        .text("base_model_name_or_path")
        .filter(|base| !base.is_empty());
    let model = options.model.as_ref().map(|m| m.display().to_string());
    let model = model
        .or(base.map(String::from))
        .unwrap_or_else(|| "MODEL".into());
    let mut words = vec![
        "vllm serve".to_string(),
        quoted(&model),
        "--enable-lora --lora-modules".into(),
        quoted(&format!(
            "{}={}",
            adapter_name(&adapter.dir),
            adapter.dir.display()
        )),
    ];
    let max_lora_rank = version.rank_flag(needed_rank(adapter, ranks));
    let max_lora_rank = max_lora_rank.filter(|rank| *rank > version.default_rank);
    if let Some(rank) = max_lora_rank {
        words.push(format!("--max-lora-rank {rank}"));
    }
    let tower = needs_tower && version.tower_flag.is_some();
    if let Some(flag) = version.tower_flag.filter(|_| tower) {
        words.push(flag.into());
        warnings.push("adapters of the vision tower are experimental in vLLM; compare a few pages with `vlft eval`".into());
    }
    let mm_processor_kwargs = contract.and_then(|c| c.mm_processor_kwargs.clone());
    match &mm_processor_kwargs {
        Some(kwargs) => words.push(format!("--mm-processor-kwargs {}", quoted(&kwargs.to_string()))),
        None => warnings.push(
            "there is no preprocess.lock.json: pass the resolution of training as `--mm-processor-kwargs '{\"min_pixels\": .., \"max_pixels\": ..}'`".into(),
        ),
    }
    let own = adapter.dir.join("chat_template.jinja");
    let trained = contract.and_then(|c| c.template_sha256.clone());
    let served = options.model.as_deref().and_then(template_sha256);
    let beside = own
        .exists()
        .then(|| template_sha256(&adapter.dir))
        .flatten();
    let trained = trained.or(beside.clone());
    let chat_template = match (&trained, &served) {
        (Some(trained), Some(served)) if trained == served => None,
        (Some(trained), _) if beside.as_ref() == Some(trained) => Some(own),
        (Some(_), Some(_)) => {
            warnings.push("the model's chat template is not the one of training; pass that one with `--chat-template`".into());
            None
        }
        _ => None,
    };
    if let Some(file) = &chat_template {
        words.push(format!(
            "--chat-template {}",
            quoted(&file.display().to_string())
        ));
    }
    if !certain {
        warnings
            .push("the model's sizes are unknown: pass `--model DIR` to check shapes too".into());
    }
    let command = words.join(" ");
    (
        Serve {
            command,
            max_lora_rank,
            tower,
            mm_processor_kwargs,
            chat_template,
        },
        warnings,
    )
}
