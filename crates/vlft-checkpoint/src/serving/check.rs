//! The check of an adapter: its config, every tensor, what is missing, and the flags it needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vlft_base::Result;

use super::adapter::FoundAdapter;
use super::command::serve;
use super::contents::{tensor_problems, value_problems};
use super::contract::Contract;
use super::flags::Served;
use super::known::Known;
use super::modules::Modules;
use super::names::{Name, STYLE};
use super::parameters::parameter_problem;
use super::ranks::{Ranks, needed_rank};
use super::report::{Counts, Fate, Report, TensorFate};
use super::settings::{config_problems, flag_problems, rank_problem};
use super::tensor::Judge;
use super::versions::Version;
use crate::archive::Packed;

/// How to check.
pub struct Options {
    pub version: &'static Version,
    /// The model it will be served on; None: by the adapter's shapes.
    pub model: Option<PathBuf>,
    /// The flags somebody serves with; None: those that the report asks for.
    pub served_with: Option<String>,
    /// The archive that the adapter's folder was unpacked from for now.
    pub archive: Option<Packed>,
}

/// Says what vLLM would do with every tensor of an adapter.
///
/// # Errors
/// The adapter or the model cannot be read. A bad adapter is no error but a report.
pub fn check(dir: &Path, options: &Options) -> Result<Report> {
    let adapter = FoundAdapter::open(dir)?;
    let mut report = check_names(&adapter, options)?;
    let problems = value_problems(&adapter, &report.fates);
    report.add(problems);
    Ok(report)
}

/// Everything but the values: names, shapes, the config, the flags.
pub(super) fn check_names(adapter: &FoundAdapter, options: &Options) -> Result<Report> {
    let version = options.version;
    let known = match &options.model {
        Some(model) => Known::of_model(model)?,
        None => Known::of_adapter(&adapter.tensors, &adapter.config),
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
        .map(|tensor| judge.judge(adapter, tensor))
        .collect();

    let mut problems = config_problems(&adapter.config, version, &ranks);
    let needed_rank = needed_rank(adapter, &ranks);
    problems.extend(match &served {
        Some(served) => flag_problems(served, version, needed_rank),
        None => rank_problem(version, needed_rank).into_iter().collect(),
    });
    problems.extend(tensor_problems(&fates));
    let modules = Modules::of(&fates);
    problems.extend(modules.problems(&adapter.config, &known, &fates));
    problems.extend(modules.ignored_patterns(version, &ranks));
    problems.extend(modules.doubled());
    problems.extend(parameter_problem(&adapter.config, &fates));

    let of = |fate| fates.iter().filter(|tensor| tensor.fate == fate).count();
    let expected = modules.expected(&adapter.config, &known).len();
    let contract = Contract::read(&adapter.dir);
    let needs_tower = fates.iter().any(|t| {
        t.module
            .as_ref()
            .is_some_and(|m| m.starts_with("model.visual."))
    });
    let (serve, mut warnings) = serve(
        adapter,
        options,
        &ranks,
        contract.as_ref(),
        needs_tower,
        known.certain,
    );
    warnings.extend(modules.question(&adapter.config, &known));
    if served.as_ref().is_some_and(|s| !s.mm_processor_kwargs)
        && serve.mm_processor_kwargs.is_some()
    {
        warnings.push("served without `--mm-processor-kwargs`, pages have another resolution than in training".into());
    }
    let mut report = Report {
        adapter: match &options.archive {
            Some(packed) => packed.archive.clone(),
            None => adapter.dir.clone(),
        },
        vllm: version.name,
        passes: true,
        loads: true,
        made_by: adapter.maker(),
        style: styles(adapter),
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
        problems: Vec::new(),
        warnings,
        serve,
        fates,
    };
    report.add(problems);
    Ok(report)
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
