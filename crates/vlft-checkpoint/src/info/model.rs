//! A model: what it is, what it weighs, whether it is whole, what it asks for.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use vlft_base::format::{bytes, count, grouped};
use vlft_base::input::read_text;
use vlft_base::{Diagnostic, Result};

use super::{hashes, write_hashes};
use crate::checkpoint::{Checkpoint, check_shapes, read_weight_map};
use crate::config::Config;
use crate::published;

#[derive(Clone, Debug, Serialize)]
pub struct ModelInfo {
    pub path: PathBuf,
    /// The published model with these sizes.
    pub name: Option<&'static str>,
    pub architecture: String,
    pub hidden_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_value_heads: usize,
    pub vocabulary: usize,
    pub vision_depth: usize,
    pub vision_hidden_size: usize,
    /// None: every layer is dense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertInfo>,
    pub tied_head: bool,
    /// The config asks for a head of its own and there is none, as in Qwen3-VL-Embedding-8B.
    pub headless: bool,
    pub parameters: u64,
    pub parts: Vec<PartInfo>,
    /// Number of tensors by type, as they are stored.
    pub dtypes: BTreeMap<String, usize>,
    pub quantization: Option<String>,
    pub tensors: usize,
    pub shards: usize,
    /// Of the weights on the disk.
    pub bytes: u64,
    /// False: there is an index only, so names are known and nothing else.
    pub has_weights: bool,
    /// Files that training or serving would miss.
    pub missing_files: Vec<&'static str>,
    /// Of a merged model: what it was made of.
    pub merged_from: Option<Value>,
    pub needs: Needs,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<BTreeMap<String, String>>,
}

/// The experts of a model that has some.
#[derive(Clone, Debug, Serialize)]
pub struct ExpertInfo {
    pub count: usize,
    /// How many each token goes to.
    pub per_token: usize,
    pub width: usize,
    /// Layers that have experts.
    pub layers: usize,
    /// Parameters that one token meets, those of all parts but of its experts only.
    pub active_parameters: u64,
}

impl ExpertInfo {
    fn of(config: &Config, parameters: u64, experts: u64) -> Option<Self> {
        let text = &config.text;
        let of = text.experts.as_ref()?;
        let layers = 0..text.num_hidden_layers;
        Some(Self {
            count: of.num_experts,
            per_token: of.num_experts_per_tok,
            width: of.moe_intermediate_size,
            layers: layers
                .filter(|layer| text.experts_of(*layer).is_some())
                .count(),
            active_parameters: parameters - experts
                + experts / of.num_experts as u64 * of.num_experts_per_tok as u64,
        })
    }
}

/// Parameters of one part.
#[derive(Clone, Debug, Serialize)]
pub struct PartInfo {
    pub part: &'static str,
    pub parameters: u64,
}

/// Memory for the weights alone, in bytes; what else a run needs depends on its config.
#[derive(Clone, Debug, Serialize)]
pub struct Needs {
    pub serve_bf16: u64,
    pub train_lora_bf16: u64,
    pub train_qlora_nf4: u64,
}

pub(super) fn read(dir: &Path, hash: bool) -> Result<ModelInfo> {
    let config = Config::from_dir(dir)?;
    let json: Value =
        serde_json::from_str(&read_text(&dir.join("config.json")).unwrap_or_default())
            .unwrap_or_default();
    let index = dir.join("model.safetensors.index.json");
    let any_weights = fs::read_dir(dir).is_ok_and(|mut entries| {
        entries.any(|e| e.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "safetensors")))
    });
    let checkpoint = match index.exists() && !any_weights {
        true => None,
        false => Some(Checkpoint::open(dir)?),
    };
    const HEAD: &str = "lm_head.weight";
    let has_head = match &checkpoint {
        Some(checkpoint) => checkpoint.shape(HEAD).is_some(),
        None => read_weight_map(&index)?.contains_key(HEAD),
    };
    let headless = !has_head && !config.tie_word_embeddings;
    let config = match headless {
        true => config.without_head(),
        false => config,
    };
    let expected = config.tensors();
    match &checkpoint {
        Some(checkpoint) => checkpoint.check(&expected)?,
        // Names only: a download that is planned, or a listing somebody sent.
        None => check_index(&index, &expected)?,
    }
    let mut parts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (name, shape) in &expected {
        let size: u64 = shape.iter().map(|side| *side as u64).product();
        *parts.entry(part_of(name)).or_default() += size;
    }
    let parameters = parts.values().sum();
    let experts = parts.get("experts").copied().unwrap_or(0);
    let text_linear: u64 = config
        .linear_modules()
        .iter()
        .filter(|m| m.name.starts_with("model.language_model."))
        .map(|m| (m.in_features * m.out_features) as u64)
        .sum::<u64>()
        + experts;
    let mut dtypes = BTreeMap::new();
    for name in checkpoint.iter().flat_map(|c| c.names()) {
        let dtype = checkpoint.as_ref().and_then(|c| c.dtype_and_count(name));
        *dtypes
            .entry(dtype.map_or(String::new(), |(d, _)| d.to_string()))
            .or_default() += 1;
    }
    let shards = checkpoint
        .as_ref()
        .map(Checkpoint::shards)
        .unwrap_or_default();
    let quantized = checkpoint.as_ref().is_some_and(Checkpoint::is_quantized);
    Ok(ModelInfo {
        path: dir.to_path_buf(),
        name: published::by_config(&config).map(|p| p.name),
        architecture: json
            .pointer("/architectures/0")
            .or(json.get("model_type"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string(),
        hidden_size: config.text.hidden_size,
        layers: config.text.num_hidden_layers,
        heads: config.text.num_attention_heads,
        key_value_heads: config.text.num_key_value_heads,
        vocabulary: config.text.vocab_size,
        vision_depth: config.vision.depth,
        vision_hidden_size: config.vision.hidden_size,
        experts: ExpertInfo::of(&config, parameters, experts),
        tied_head: config.tie_word_embeddings,
        headless,
        parameters,
        parts: parts
            .into_iter()
            .map(|(part, parameters)| PartInfo { part, parameters })
            .collect(),
        dtypes,
        quantization: quantized.then(|| "NF4 of bitsandbytes".to_string()),
        tensors: checkpoint
            .as_ref()
            .map_or(expected.len(), |c| c.names().count()),
        shards: shards.len(),
        bytes: shards.iter().map(|shard| shard.length as u64).sum(),
        has_weights: checkpoint.is_some(),
        missing_files: missing_files(dir),
        merged_from: merged_from(dir),
        needs: Needs {
            serve_bf16: 2 * parameters,
            train_lora_bf16: 2 * parameters,
            // 4 bits, and with double quantisation 0.127 more for the scales.
            train_qlora_nf4: 2 * (parameters - text_linear) + text_linear * 4127 / 8000,
        },
        sha256: hashes(dir, hash)?,
    })
}

fn part_of(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("model.visual.blocks.") => "vision blocks",
        _ if name.starts_with("model.visual.") && name.contains("merger") => "mergers",
        _ if name.starts_with("model.visual.") => "vision embedding",
        _ if name.contains("embed_tokens") => "embedding",
        _ if name.starts_with("lm_head") => "head",
        _ if name.contains(".mlp.experts.") => "experts",
        _ => "language layers",
    }
}

/// Names against an index; it has no shapes, but some tools add them beside the map.
fn check_index(index: &Path, expected: &[(String, Vec<usize>)]) -> Result<()> {
    let weight_map = read_weight_map(index)?;
    let text = read_text(index).unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let shape = |name: &str| {
        let sides = json.get("shapes")?.get(name)?.as_array()?;
        sides
            .iter()
            .map(|side| side.as_u64().map(|n| n as usize))
            .collect::<Option<Vec<usize>>>()
    };
    check_shapes(index, expected, &weight_map, shape)?;
    let known: std::collections::HashSet<&str> = expected.iter().map(|(n, _)| n.as_str()).collect();
    match weight_map
        .keys()
        .find(|name| !known.contains(name.as_str()))
    {
        None => Ok(()),
        Some(stray) => Err(Diagnostic::error(
            "the index names a tensor that this model does not have",
        )
        .at(index)
        .detail(format!("tensor `{stray}`"))
        .hint("config.json and index must be of the same model")),
    }
}

fn missing_files(dir: &Path) -> Vec<&'static str> {
    let has = |name: &str| dir.join(name).exists();
    let mut missing = Vec::new();
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
    ] {
        if !has(name) {
            missing.push(name);
        }
    }
    let in_tokenizer = read_text(&dir.join("tokenizer_config.json"))
        .is_ok_and(|text| text.contains("\"chat_template\""));
    if !has("chat_template.jinja") && !has("chat_template.json") && !in_tokenizer {
        missing.push("chat_template.jinja");
    }
    missing
}

fn merged_from(dir: &Path) -> Option<Value> {
    let text = read_text(&dir.join(crate::merge::REPORT_FILE)).ok()?;
    let report: Value = serde_json::from_str(&text).ok()?;
    let of = |key: &str| report.get(key).cloned().unwrap_or_default();
    Some(serde_json::json!({ "base": of("base"), "adapter": of("adapter"), "rank": of("rank") }))
}

impl Display for ModelInfo {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let name = self.name.unwrap_or("no size known by name");
        writeln!(
            f,
            "model     `{}`: {name} ({})",
            self.path.display(),
            self.architecture
        )?;
        writeln!(
            f,
            "language  {} of {}, {} heads over {}, vocabulary {}, {}",
            count(self.layers as u64, "layer"),
            self.hidden_size,
            self.heads,
            self.key_value_heads,
            grouped(self.vocabulary as u64),
            match (self.tied_head, self.headless) {
                (true, _) => "head tied to the embedding",
                (false, false) => "head of its own",
                (false, true) => "no head: an Embedding checkpoint, or one that lacks it",
            },
        )?;
        if let Some(experts) = &self.experts {
            writeln!(
                f,
                "experts   {} of {} in {}, {} to a token: {} parameters are active",
                experts.count,
                experts.width,
                count(experts.layers as u64, "layer"),
                experts.per_token,
                grouped(experts.active_parameters),
            )?;
        }
        let (depth, width) = (self.vision_depth, self.vision_hidden_size);
        writeln!(f, "vision    {} of {width}", count(depth as u64, "block"))?;
        writeln!(f, "parameters {:>18}", grouped(self.parameters))?;
        for PartInfo { part, parameters } in &self.parts {
            writeln!(f, "  {part:<16} {:>12}", grouped(*parameters))?;
        }
        let tensors = count(self.tensors as u64, "tensor");
        if self.has_weights {
            let types: Vec<String> = self
                .dtypes
                .iter()
                .map(|(t, n)| format!("{t} ({n})"))
                .collect();
            writeln!(
                f,
                "weights   {tensors} in {}, {}, all there: {}",
                count(self.shards as u64, "file"),
                bytes(self.bytes),
                types.join(", "),
            )?;
        } else {
            writeln!(
                f,
                "weights   not here; the index names all of its {tensors}"
            )?;
        }
        if let Some(quantization) = &self.quantization {
            writeln!(f, "quantised {quantization}")?;
        }
        if let Some(from) = &self.merged_from {
            let of = |key: &str| {
                from.get(key)
                    .and_then(Value::as_str)
                    .unwrap_or("?")
                    .to_string()
            };
            writeln!(f, "merged    from `{}` and `{}`", of("base"), of("adapter"))?;
        }
        if self.missing_files.is_empty() {
            writeln!(
                f,
                "files     tokenizer, chat template and image settings are there"
            )?;
        } else {
            writeln!(f, "missing   {}", self.missing_files.join(", "))?;
        }
        writeln!(
            f,
            "needs     {} to serve or for LoRA in bf16, {} for QLoRA: weights alone",
            bytes(self.needs.serve_bf16),
            bytes(self.needs.train_qlora_nf4),
        )?;
        write_hashes(f, self.sha256.as_ref())
    }
}
