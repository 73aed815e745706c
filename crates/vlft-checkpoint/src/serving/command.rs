//! The command that serves an adapter, and what to know beside it.

use super::adapter::FoundAdapter;
use super::check::Options;
use super::contract::{Contract, template_sha256};
use super::flags::{adapter_name, quoted};
use super::ranks::{Ranks, needed_rank};
use super::report::Serve;
use crate::archive::Packed;

/// The command to paste, and what to know beside it.
pub(super) fn serve(
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
    // vLLM takes folders; the one at hand goes away.
    let folder = match &options.archive {
        None => adapter.dir.clone(),
        Some(packed) => packed.unpacked(),
    };
    let unpack = options.archive.as_ref().map(Packed::command);
    if unpack.is_some() {
        warnings.push("vLLM takes no archives: unpack it first".into());
    }
    let mut words = vec![
        "vllm serve".to_string(),
        quoted(&model),
        "--enable-lora --lora-modules".into(),
        quoted(&format!("{}={}", adapter_name(&folder), folder.display())),
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
    let own = "chat_template.jinja";
    let trained = contract.and_then(|c| c.template_sha256.clone());
    let served = options.model.as_deref().and_then(template_sha256);
    let beside = adapter
        .dir
        .join(own)
        .exists()
        .then(|| template_sha256(&adapter.dir))
        .flatten();
    let trained = trained.or(beside.clone());
    let chat_template = match (&trained, &served) {
        (Some(trained), Some(served)) if trained == served => None,
        (Some(trained), _) if beside.as_ref() == Some(trained) => Some(folder.join(own)),
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
            unpack,
            command,
            max_lora_rank,
            tower,
            mm_processor_kwargs,
            chat_template,
        },
        warnings,
    )
}
