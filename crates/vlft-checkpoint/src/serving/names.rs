//! Tensor names of adapters in the styles that trainers write and wrote, and the one name that each
//! stands for: the module's path in the published checkpoint.

use super::known::TEXT_MODULES;

/// What a tensor of an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    /// DoRA's.
    Magnitude,
    /// A whole weight that was trained (`modules_to_save`) or came along.
    Full,
    /// The frozen weight of the base, kept by PEFT beside an adapted embedding.
    BaseCopy,
    Bias,
    Unknown,
}

/// A tensor's name, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// `model.language_model.layers.0.self_attn.q_proj`; None if it is no module of Qwen3-VL.
    pub(crate) module: Option<String>,
    pub(crate) part: Part,
    /// How the name is written.
    pub(crate) style: &'static str,
}

/// As PEFT writes names for this model today; vLLM maps these and few others.
pub(crate) const STYLE: &str = "PEFT";

/// Wrappers that a trainer forgot to take off, wherever they stand in the path.
const WRAPPERS: [(&str, &str); 4] = [
    ("_orig_mod.", "torch.compile"),
    ("_fsdp_wrapped_module.", "FSDP"),
    ("_checkpoint_wrapped_module.", "activation checkpointing"),
    ("module.", "DistributedDataParallel"),
];

/// Where the language model may hang; the first is the published one. Longer ones come first
/// among those that end alike.
const TEXT_ROOTS: [(&str, &str); 7] = [
    ("model.language_model.", STYLE),
    ("model.language_model.model.", "older transformers"),
    ("language_model.model.", "older transformers"),
    ("language_model.", "older transformers"),
    ("model.model.", "older transformers"),
    ("model.", "text-only"),
    ("", "bare"),
];

const VISUAL_ROOTS: [(&str, &str); 4] = [
    ("model.visual.", STYLE),
    ("visual.", "older transformers"),
    ("model.model.visual.", "older transformers"),
    ("vision_tower.", "older transformers"),
];

impl Name {
    pub(crate) fn parse(tensor: &str) -> Self {
        let (path, part, infix) = split_part(tensor);
        let mut style = match infix {
            true => "PEFT with the adapter's name",
            false => STYLE,
        };
        let mut path = path.to_string();
        for (wrapper, who) in WRAPPERS {
            let cleaned = remove_segment(&path, wrapper);
            if cleaned != path {
                (path, style) = (cleaned, who);
            }
        }
        let had_prefix = path.starts_with("base_model.model.");
        while let Some(rest) = path.strip_prefix("base_model.model.") {
            path = rest.to_string();
        }
        let module = text_module(&path).or_else(|| visual_module(&path));
        let module = module.map(|(module, root_style)| {
            if style == STYLE {
                style = match (had_prefix, root_style) {
                    (false, STYLE) => "no `base_model.model.` in front",
                    (_, root_style) => root_style,
                };
            }
            module
        });
        Self {
            module,
            part,
            style,
        }
    }

    /// The name under which PEFT and vLLM take this tensor; None if there is none.
    pub(crate) fn published(&self) -> Option<String> {
        let module = self.module.as_deref()?;
        let suffix = match self.part {
            Part::A => "lora_A.weight",
            Part::B => "lora_B.weight",
            Part::EmbeddingA => "lora_embedding_A",
            Part::EmbeddingB => "lora_embedding_B",
            Part::BaseCopy => "base_layer.weight",
            Part::Magnitude | Part::Full | Part::Bias | Part::Unknown => return None,
        };
        Some(format!("base_model.model.{module}.{suffix}"))
    }
}

/// The module's path, what the tensor is of it, and whether an adapter's name stands in between.
fn split_part(tensor: &str) -> (&str, Part, bool) {
    let parts: [(&str, Part); 14] = [
        ("lora_A.weight", Part::A),
        ("lora_B.weight", Part::B),
        ("lora_A", Part::A),
        ("lora_B", Part::B),
        ("lora_a.weight", Part::A),
        ("lora_b.weight", Part::B),
        ("lora_embedding_A", Part::EmbeddingA),
        ("lora_embedding_B", Part::EmbeddingB),
        ("lora_magnitude_vector.weight", Part::Magnitude),
        ("lora_magnitude_vector", Part::Magnitude),
        ("base_layer.weight", Part::BaseCopy),
        ("lora_B.bias", Part::Bias),
        ("bias", Part::Bias),
        ("weight", Part::Full),
    ];
    // `lora_A.default.weight`: the name of the adapter inside the model, which PEFT takes out when
    // it saves; trainers that save a state dict themselves leave it in.
    for (marker, part) in [
        ("lora_A.", Part::A),
        ("lora_B.", Part::B),
        ("lora_embedding_A.", Part::EmbeddingA),
        ("lora_embedding_B.", Part::EmbeddingB),
        ("lora_magnitude_vector.", Part::Magnitude),
        ("modules_to_save.", Part::Full),
    ] {
        if let Some(at) = tensor.rfind(marker).filter(|at| is_start(tensor, *at)) {
            let rest = &tensor[at + marker.len()..];
            let name = rest.strip_suffix(".weight").unwrap_or(rest);
            if !name.is_empty() && !name.contains('.') && !["weight", "bias"].contains(&name) {
                return (tensor[..at].trim_end_matches('.'), part, true);
            }
        }
    }
    for (suffix, part) in parts {
        if let Some(path) = tensor
            .strip_suffix(suffix)
            .and_then(|p| p.strip_suffix('.'))
        {
            return (path, part, false);
        }
    }
    (tensor, Part::Unknown, false)
}

fn is_start(text: &str, at: usize) -> bool {
    at == 0 || text.as_bytes()[at - 1] == b'.'
}

/// Takes a whole segment out wherever it stands.
fn remove_segment(path: &str, segment: &str) -> String {
    let mut path = path.to_string();
    while let Some(at) = path
        .match_indices(segment)
        .map(|(at, _)| at)
        .find(|at| is_start(&path, *at))
    {
        path.replace_range(at..at + segment.len(), "");
    }
    path
}

fn text_module(path: &str) -> Option<(String, &'static str)> {
    for (root, style) in TEXT_ROOTS {
        let Some(tail) = path.strip_prefix(root) else {
            continue;
        };
        if tail == "lm_head" {
            let style = if root.is_empty() { STYLE } else { style };
            return Some((tail.to_string(), style));
        }
        if tail == "embed_tokens" || is_layer(tail) {
            return Some((format!("model.language_model.{tail}"), style));
        }
    }
    None
}

/// `layers.N.self_attn.q_proj` and its like.
fn is_layer(tail: &str) -> bool {
    let Some((number, module)) = tail.strip_prefix("layers.").and_then(|t| t.split_once('.'))
    else {
        return false;
    };
    // The fused gate and up matrices stand, as PEFT names them, beside `mlp.experts`, the down ones.
    let sparse = ["mlp.gate", "mlp.experts", "mlp.experts.base_layer"];
    is_number(number) && (TEXT_MODULES.contains(&module) || sparse.contains(&module))
}

fn visual_module(path: &str) -> Option<(String, &'static str)> {
    VISUAL_ROOTS.iter().find_map(|(root, style)| {
        let tail = path.strip_prefix(root)?;
        is_visual(tail).then(|| (format!("model.visual.{tail}"), *style))
    })
}

fn is_visual(tail: &str) -> bool {
    const BLOCK: [&str; 4] = ["attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"];
    const MERGER: [&str; 2] = ["linear_fc1", "linear_fc2"];
    let numbered = |list: &str, modules: &[&str]| {
        let rest = tail.strip_prefix(list).and_then(|t| t.split_once('.'));
        rest.is_some_and(|(number, module)| is_number(number) && modules.contains(&module))
    };
    tail == "patch_embed.proj"
        || numbered("blocks.", &BLOCK)
        || numbered("deepstack_merger_list.", &MERGER)
        || tail
            .strip_prefix("merger.")
            .is_some_and(|m| MERGER.contains(&m))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: &str = "model.language_model.layers.3.self_attn.q_proj";

    #[test]
    fn every_style_stands_for_the_same_module() {
        for (name, part, style) in [
            (
                "base_model.model.model.language_model.layers.3.self_attn.q_proj.lora_A.weight",
                Part::A,
                STYLE,
            ),
            (
                "base_model.model.model.layers.3.self_attn.q_proj.lora_B.weight",
                Part::B,
                "text-only",
            ),
            (
                "base_model.model.language_model.model.layers.3.self_attn.q_proj.lora_B.weight",
                Part::B,
                "older transformers",
            ),
            (
                "base_model.model.model.language_model.model.layers.3.self_attn.q_proj.lora_B.weight",
                Part::B,
                "older transformers",
            ),
            (
                "model.language_model.layers.3.self_attn.q_proj.lora_A.weight",
                Part::A,
                "no `base_model.model.` in front",
            ),
            (
                "base_model.model.model.language_model.layers.3.self_attn.q_proj.lora_A.default.weight",
                Part::A,
                "PEFT with the adapter's name",
            ),
            (
                "base_model.model._orig_mod.model.language_model.layers.3.self_attn.q_proj.lora_A.weight",
                Part::A,
                "torch.compile",
            ),
            (
                "base_model.model.model.language_model.layers.3._orig_mod.self_attn.q_proj.lora_A.weight",
                Part::A,
                "torch.compile",
            ),
            (
                "module.base_model.model.model.language_model.layers.3.self_attn.q_proj.lora_A.weight",
                Part::A,
                "DistributedDataParallel",
            ),
            (
                "base_model.model.model.language_model.layers.3.self_attn.q_proj.lora_magnitude_vector",
                Part::Magnitude,
                STYLE,
            ),
            (
                "base_model.model.model.language_model.layers.3.self_attn.q_proj.lora_magnitude_vector.default.weight",
                Part::Magnitude,
                "PEFT with the adapter's name",
            ),
            ("layers.3.self_attn.q_proj.lora_A", Part::A, "bare"),
        ] {
            let parsed = Name::parse(name);
            assert_eq!(parsed.module.as_deref(), Some(Q), "{name}");
            assert_eq!((parsed.part, parsed.style), (part, style), "{name}");
        }
    }

    #[test]
    fn other_modules() {
        for (name, module, part) in [
            (
                "base_model.model.visual.blocks.0.attn.qkv.lora_A.weight",
                Some("model.visual.blocks.0.attn.qkv"),
                Part::A,
            ),
            (
                "base_model.model.model.visual.merger.linear_fc1.lora_B.weight",
                Some("model.visual.merger.linear_fc1"),
                Part::B,
            ),
            (
                "base_model.model.lm_head.modules_to_save.default.weight",
                Some("lm_head"),
                Part::Full,
            ),
            (
                "base_model.model.lm_head.weight",
                Some("lm_head"),
                Part::Full,
            ),
            (
                "base_model.model.model.language_model.embed_tokens.lora_embedding_A.default",
                Some("model.language_model.embed_tokens"),
                Part::EmbeddingA,
            ),
            (
                "base_model.model.model.language_model.embed_tokens.base_layer.weight",
                Some("model.language_model.embed_tokens"),
                Part::BaseCopy,
            ),
            ("transformer.h.0.attn.c_attn.lora_A.weight", None, Part::A),
            (
                "base_model.model.model.visual.blocks.0.mlp.gate_proj.lora_A.weight",
                None,
                Part::A,
            ),
            (
                "base_model.model.model.language_model.layers.x.mlp.up_proj.lora_A.weight",
                None,
                Part::A,
            ),
            ("", None, Part::Unknown),
        ] {
            let parsed = Name::parse(name);
            assert_eq!(
                (parsed.module.as_deref(), parsed.part),
                (module, part),
                "{name}"
            );
        }
        let nested =
            "base_model.model.model.language_model.layers.3.self_attn.q_proj.lora_A.weight";
        assert_eq!(Name::parse(nested).published().as_deref(), Some(nested));
    }
}
