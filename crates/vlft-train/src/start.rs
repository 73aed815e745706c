//! What a new run starts from: the layout that the config asks for, and fresh adapters or those of
//! `lora.init`.

use vlft_base::{Diagnostic, Result, format};
use vlft_checkpoint::{Adapted, Config as ModelConfig, Group, Layout, read_adapter_config};
use vlft_model::{Adapters, read_adapter};

use crate::config::Config;

/// The layout and the adapters a new run starts from.
pub(crate) fn adapters(
    config: &Config,
    model: &ModelConfig,
    device: &burn::tensor::Device,
    warn: &mut dyn FnMut(Diagnostic),
) -> Result<(Layout, Adapters)> {
    let lora = &config.lora;
    let layout = Layout::new(model, &lora.spec())?;
    let different = layout.differently_scaled();
    if different > 0 {
        let count = format::count(different as u64, "module");
        warn(
            Diagnostic::warning(format!("{count} with another scale than the rest"))
                .detail("`lora.rank_pattern`, `lora.alpha_pattern`")
                .hint("vLLM before 0.33 reads one rank and one alpha: serve with a newer one, or keep alpha / rank the same everywhere"),
        );
    }
    check_rank(&layout, warn)?;
    without_effect(config, &layout, device, warn);
    let Some(dir) = &lora.init else {
        let adapters = Adapters::init(&layout, config.train.seed, device);
        return Ok((layout, adapters));
    };
    let (found, adapters) = read_adapter(dir, model, device)?;
    if found != layout {
        return Err(
            Diagnostic::error("`lora.init` is an adapter of another shape")
                .at(dir)
                .expected(describe(&layout))
                .found(describe(&found))
                .hint("set `[lora]` to what the adapter has"),
        );
    }
    let named = read_adapter_config(dir)?.base_model_name_or_path;
    let ours = config.model.path.display().to_string();
    if named
        .as_ref()
        .is_some_and(|name| last_part(name) != last_part(&ours))
    {
        warn(
            Diagnostic::warning("`lora.init` names another base model")
                .at(dir)
                .expected(format!("`{ours}`"))
                .found(format!("`{}`", named.unwrap_or_default())),
        );
    }
    Ok((layout, adapters))
}

/// A product of `[out, r]` and `[r, in]` has at most the rank of the smaller side: beyond it nothing
/// is gained. PEFT allows that, and so do we, aloud. A rank beyond every side is a slip.
fn check_rank(layout: &Layout, warn: &mut dyn FnMut(Diagnostic)) -> Result<()> {
    let sides = |module: &Adapted| [module.in_features, module.out_features];
    let largest = layout.modules.iter().flat_map(sides).max().unwrap_or(0);
    let rank = layout
        .modules
        .iter()
        .map(|module| module.rank)
        .max()
        .unwrap_or(0);
    if rank > largest {
        return Err(
            Diagnostic::error("`lora.rank` is larger than every matrix that it adapts")
                .expected(format!("at most {}", format::grouped(largest as u64)))
                .found(format::grouped(rank as u64))
                .hint("8 to 64 is usual"),
        );
    }
    let too_small = |module: &&Adapted| sides(module).iter().any(|side| *side < module.rank);
    let few = layout.modules.iter().filter(too_small).count();
    if few > 0 {
        let all = format::count(layout.modules.len() as u64, "module");
        let few = format::grouped(few as u64);
        warn(
            Diagnostic::warning(format!(
                "`lora.rank` {rank} is more than the smaller side of {few} of {all}"
            ))
            .hint("there it trains more numbers than the full matrix has rank for"),
        );
    }
    Ok(())
}

/// Keys that were set and change nothing.
fn without_effect(
    config: &Config,
    layout: &Layout,
    device: &burn::tensor::Device,
    warn: &mut dyn FnMut(Diagnostic),
) {
    let (train, eval) = (&config.train, &config.eval);
    let adapted = |group| layout.modules.iter().any(|module| module.group() == group);
    let rates = [
        (
            "vision_learning_rate",
            train.vision_learning_rate,
            Group::VisionBlocks,
            "vision",
        ),
        (
            "merger_learning_rate",
            train.merger_learning_rate,
            Group::Mergers,
            "merger",
        ),
    ];
    for (key, rate, group, switch) in rates {
        if rate.is_some() && !adapted(group) {
            warn(
                Diagnostic::warning(format!(
                    "`train.{key}` has no effect: nothing there is adapted"
                ))
                .hint(format!("`lora.{switch} = true` adapts it")),
            );
        }
    }
    if train.activation_offloading && !train.gradient_checkpointing {
        warn(
            Diagnostic::warning(
                "`train.activation_offloading` has no effect without `train.gradient_checkpointing`",
            )
            .hint("what is offloaded are the inputs of blocks that are run again"),
        );
    } else if train.activation_offloading && *device == burn::tensor::Device::flex() {
        warn(
            Diagnostic::warning("`train.activation_offloading` has no effect on a CPU")
                .hint("its memory is the host's already"),
        );
    }
    let asked = [
        ("samples", eval.samples as u64),
        ("generate_records", eval.generate_records as u64),
        ("patience", eval.patience),
    ];
    for (key, value) in asked {
        if config.data.val.is_none() && value > 0 {
            warn(
                Diagnostic::warning(format!("`eval.{key}` has no effect without `data.val`"))
                    .hint("set `data.val` to records to evaluate on"),
            );
        }
    }
}

fn describe(layout: &Layout) -> String {
    let name = |module: &Adapted| last_part(&module.name.replace('.', "/"));
    let mut names: Vec<String> = layout.modules.iter().map(name).collect();
    names.sort();
    names.dedup();
    let modules = format::count(layout.modules.len() as u64, "module");
    let (rank, alpha, rslora) = (layout.rank, layout.alpha, layout.rslora);
    format!(
        "rank {rank}, alpha {alpha}, rslora {rslora}, {modules} ({})",
        names.join(", ")
    )
}

/// `models/Qwen3-VL-8B-Instruct/` -> `Qwen3-VL-8B-Instruct`
pub(crate) fn last_part(path: &str) -> String {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
        .to_string()
}
