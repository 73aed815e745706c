//! What a new run starts from: the layout that the config asks for, and fresh adapters or those of
//! `lora.init`.

use vlft_base::{Diagnostic, Result, format};
use vlft_model::lora::Module;
use vlft_model::{Adapters, Config as ModelConfig, Layout, read_adapter, read_adapter_config};

use crate::config::Config;

/// The layout and the adapters a new run starts from.
pub(crate) fn adapters(
    config: &Config,
    model: &ModelConfig,
    device: &burn::tensor::Device,
    warn: &mut dyn FnMut(Diagnostic),
) -> Result<(Layout, Adapters)> {
    let lora = &config.lora;
    let layout = Layout::new(
        model,
        &lora.targets,
        lora.vision,
        lora.rank,
        lora.alpha,
        lora.rslora,
    )?;
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

fn describe(layout: &Layout) -> String {
    let name = |module: &Module| last_part(&module.name.replace('.', "/"));
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
