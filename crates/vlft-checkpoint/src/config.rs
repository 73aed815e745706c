//! `config.json` of a Qwen3-VL, dense or with experts, in the published style and in the one
//! transformers 5 saves. Field names are Hugging Face's. Other architectures are refused by name.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vlft_base::input::read_text;
use vlft_base::{Diagnostic, Result};

use crate::family::Family;

/// Everything the shapes and the arithmetic of the model follow from.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub text: TextConfig,
    pub vision: VisionConfig,
    pub image_token_id: u32,
    /// Whether the head is the embedding. The top-level key alone decides, as in transformers.
    pub tie_word_embeddings: bool,
    /// False: only hidden states are asked for, and an untied head may be missing.
    pub has_head: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    /// Frequencies for time, height and width, interleaved T H W T H W ...
    pub mrope_section: [usize; 3],
    pub max_position_embeddings: usize,
    /// None: every layer is dense.
    pub experts: Option<ExpertConfig>,
}

/// The mixture of experts that stands in place of the dense projections in most or all layers.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertConfig {
    pub num_experts: usize,
    /// How many experts each token goes to.
    pub num_experts_per_tok: usize,
    /// Width of one expert; `intermediate_size` is that of the dense layers.
    pub moe_intermediate_size: usize,
    /// Layers `step - 1`, `2 step - 1`, ... have experts.
    pub decoder_sparse_step: usize,
    /// Layers that are dense whatever the step.
    pub mlp_only_layers: Vec<usize>,
}

impl TextConfig {
    /// The experts of a layer; None if it is dense.
    pub fn experts_of(&self, layer: usize) -> Option<&ExpertConfig> {
        let experts = self.experts.as_ref()?;
        let sparse = !experts.mlp_only_layers.contains(&layer)
            && (layer + 1).is_multiple_of(experts.decoder_sparse_step);
        sparse.then_some(experts)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    pub depth: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_heads: usize,
    pub in_channels: usize,
    pub patch_size: usize,
    pub temporal_patch_size: usize,
    pub spatial_merge_size: usize,
    pub out_hidden_size: usize,
    pub num_position_embeddings: usize,
    pub deepstack_visual_indexes: Vec<usize>,
}

impl VisionConfig {
    /// Length of one flattened patch: channels x frames x rows x columns.
    pub fn patch_dim(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Patches that make one language-model token.
    pub fn merge_unit(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// Side of the square table of learned positions.
    pub fn position_grid_side(&self) -> usize {
        self.num_position_embeddings.isqrt()
    }
}

impl Config {
    pub fn from_dir(model_dir: &Path) -> Result<Self> {
        let path = model_dir.join("config.json");
        let text = read_text(&path).map_err(|e| {
            Diagnostic::error("cannot read the model's config")
                .at(&path)
                .caused_by(e)
                .hint("a model is a folder with config.json, *.safetensors and tokenizer.json")
        })?;
        let json: Value = serde_json::from_str(&text).map_err(|e| {
            Diagnostic::error("the model's config is not JSON")
                .at_line(&path, e.line() as u64)
                .caused_by(e)
        })?;
        Self::from_json(&json, &path)
    }

    /// `path` is only named in errors.
    pub fn from_json(json: &Value, path: &Path) -> Result<Self> {
        let root = Table {
            json,
            path: path.to_path_buf(),
            prefix: String::new(),
        };
        let family = Family::supported(json, path)?;

        let text = root.table("text_config")?;
        let vision = root.table("vision_config")?;
        let heads = text.usize("num_attention_heads")?;
        let hidden_size = text.usize("hidden_size")?;
        let config = Self {
            text: TextConfig {
                vocab_size: text.usize("vocab_size")?,
                hidden_size,
                intermediate_size: text.usize("intermediate_size")?,
                num_hidden_layers: text.usize("num_hidden_layers")?,
                num_attention_heads: heads,
                num_key_value_heads: text.usize_or("num_key_value_heads", heads)?,
                head_dim: text.usize_or("head_dim", hidden_size / heads.max(1))?,
                rms_norm_eps: text.f64_or("rms_norm_eps", 1e-6)?,
                rope_theta: rope_theta(&text)?,
                mrope_section: mrope_section(&text)?,
                max_position_embeddings: text.usize_or("max_position_embeddings", 128_000)?,
                experts: match family.model_type {
                    "qwen3_vl_moe" => Some(ExpertConfig::read(&text)?),
                    _ => None,
                },
            },
            vision: VisionConfig {
                depth: vision.usize("depth")?,
                hidden_size: vision.usize("hidden_size")?,
                intermediate_size: vision.usize("intermediate_size")?,
                num_heads: vision.usize("num_heads")?,
                in_channels: vision.usize_or("in_channels", 3)?,
                patch_size: vision.usize_or("patch_size", 16)?,
                temporal_patch_size: vision.usize_or("temporal_patch_size", 2)?,
                spatial_merge_size: vision.usize_or("spatial_merge_size", 2)?,
                out_hidden_size: vision.usize("out_hidden_size")?,
                num_position_embeddings: vision.usize("num_position_embeddings")?,
                deepstack_visual_indexes: vision.usizes("deepstack_visual_indexes")?,
            },
            image_token_id: root.usize("image_token_id")? as u32,
            tie_word_embeddings: root.bool_or("tie_word_embeddings", false)?,
            has_head: true,
        };
        config.check(&root, &text, &vision)?;
        Ok(config)
    }

    /// The same model as far as its last hidden state. Qwen3-VL-Embedding-8B is published without the
    /// head that its config asks for.
    pub fn without_head(self) -> Self {
        Self {
            has_head: false,
            ..self
        }
    }

    /// What the arithmetic relies on. A config that fails here would compute something else.
    fn check(&self, root: &Table, text: &Table, vision: &Table) -> Result<()> {
        let (t, v) = (&self.text, &self.vision);
        // What follows from a config is listed and multiplied: far beyond any model, and within 64 bits.
        const MOST_LAYERS: usize = 1 << 10;
        const WIDEST: usize = 1 << 20;
        let limits = [
            (text, "vocab_size", t.vocab_size, 1 << 24),
            (text, "hidden_size", t.hidden_size, WIDEST),
            (text, "intermediate_size", t.intermediate_size, WIDEST),
            (text, "num_hidden_layers", t.num_hidden_layers, MOST_LAYERS),
            (text, "num_attention_heads", t.num_attention_heads, 1 << 12),
            (text, "num_key_value_heads", t.num_key_value_heads, 1 << 12),
            (text, "head_dim", t.head_dim, 1 << 12),
            (vision, "depth", v.depth, MOST_LAYERS),
            (vision, "hidden_size", v.hidden_size, WIDEST),
            (vision, "intermediate_size", v.intermediate_size, WIDEST),
            (vision, "in_channels", v.in_channels, 1 << 6),
            (vision, "patch_size", v.patch_size, 1 << 10),
            (vision, "temporal_patch_size", v.temporal_patch_size, 1 << 6),
            (vision, "spatial_merge_size", v.spatial_merge_size, 1 << 4),
            (
                vision,
                "num_position_embeddings",
                v.num_position_embeddings,
                1 << 24,
            ),
        ];
        for (table, key, value, most) in limits {
            if value > most {
                return Err(table.wrong(key, &format!("at most {most}"), &value.to_string()));
            }
        }
        let positive = [
            (text, "vocab_size", t.vocab_size),
            (text, "hidden_size", t.hidden_size),
            (text, "intermediate_size", t.intermediate_size),
            (text, "num_hidden_layers", t.num_hidden_layers),
            (text, "num_attention_heads", t.num_attention_heads),
            (text, "num_key_value_heads", t.num_key_value_heads),
            (text, "head_dim", t.head_dim),
            (vision, "depth", v.depth),
            (vision, "hidden_size", v.hidden_size),
            (vision, "num_heads", v.num_heads),
            (vision, "patch_size", v.patch_size),
            (vision, "spatial_merge_size", v.spatial_merge_size),
        ];
        for (table, key, value) in positive {
            if value == 0 {
                return Err(table.wrong(key, "a positive number", "0"));
            }
        }
        if t.num_attention_heads % t.num_key_value_heads != 0 {
            return Err(text.wrong(
                "num_key_value_heads",
                &format!(
                    "a divisor of num_attention_heads ({})",
                    t.num_attention_heads
                ),
                &t.num_key_value_heads.to_string(),
            ));
        }
        if let Some(experts) = &t.experts {
            experts.check(text, t.num_hidden_layers)?;
        }
        if t.head_dim % 2 != 0 {
            return Err(text.wrong("head_dim", "an even number", &t.head_dim.to_string()));
        }
        if v.hidden_size % v.num_heads != 0 || (v.hidden_size / v.num_heads) % 4 != 0 {
            return Err(vision.wrong(
                "num_heads",
                "heads whose width is a multiple of 4",
                &format!("{} heads over {}", v.num_heads, v.hidden_size),
            ));
        }
        if v.position_grid_side().pow(2) != v.num_position_embeddings {
            return Err(vision.wrong(
                "num_position_embeddings",
                "a square number",
                &v.num_position_embeddings.to_string(),
            ));
        }
        if v.out_hidden_size != t.hidden_size {
            return Err(vision.wrong(
                "out_hidden_size",
                &format!("text_config.hidden_size ({})", t.hidden_size),
                &v.out_hidden_size.to_string(),
            ));
        }
        let levels = &v.deepstack_visual_indexes;
        let twice = |(i, level): (usize, &usize)| levels[..i].contains(level);
        if levels.iter().any(|level| *level >= v.depth) || levels.iter().enumerate().any(twice) {
            return Err(vision.wrong(
                "deepstack_visual_indexes",
                &format!("different block numbers below depth ({})", v.depth),
                &format!(
                    "[{}]",
                    levels
                        .iter()
                        .map(usize::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            ));
        }
        if levels.len() > t.num_hidden_layers {
            return Err(vision.wrong(
                "deepstack_visual_indexes",
                &format!("at most one per language layer ({})", t.num_hidden_layers),
                &levels.len().to_string(),
            ));
        }
        for (table, key, known) in [
            (text, "hidden_act", "silu"),
            (vision, "hidden_act", "gelu_pytorch_tanh"),
        ] {
            if let Some(act) = table.json.get(key).and_then(Value::as_str)
                && act != known
            {
                return Err(table.wrong(key, &format!("`{known}`"), &format!("`{act}`")));
            }
        }
        if text.bool_or("attention_bias", false)? {
            return Err(text.wrong("attention_bias", "false", "true"));
        }
        if let Some(quantization) = root.optional_table("quantization_config")? {
            check_quantization(&quantization)?;
        }
        Ok(())
    }
}

impl ExpertConfig {
    fn read(text: &Table) -> Result<Self> {
        // transformers 5 calls it `num_local_experts`.
        let count = match text.json.get("num_experts") {
            None => "num_local_experts",
            Some(_) => "num_experts",
        };
        Ok(Self {
            num_experts: text.usize(count)?,
            num_experts_per_tok: text.usize("num_experts_per_tok")?,
            moe_intermediate_size: text.usize("moe_intermediate_size")?,
            decoder_sparse_step: text.usize_or("decoder_sparse_step", 1)?,
            mlp_only_layers: match text.absent("mlp_only_layers") {
                true => Vec::new(),
                false => text.usizes("mlp_only_layers")?,
            },
        })
    }

    fn check(&self, text: &Table, layers: usize) -> Result<()> {
        for (key, value) in [
            ("num_experts", self.num_experts),
            ("num_experts_per_tok", self.num_experts_per_tok),
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("decoder_sparse_step", self.decoder_sparse_step),
        ] {
            if value == 0 {
                return Err(text.wrong(key, "a positive number", "0"));
            }
        }
        for (key, value, most) in [
            ("num_experts", self.num_experts, 1 << 16),
            ("moe_intermediate_size", self.moe_intermediate_size, 1 << 20),
        ] {
            if value > most {
                return Err(text.wrong(key, &format!("at most {most}"), &value.to_string()));
            }
        }
        if self.num_experts_per_tok > self.num_experts {
            return Err(text.wrong(
                "num_experts_per_tok",
                &format!("at most num_experts ({})", self.num_experts),
                &self.num_experts_per_tok.to_string(),
            ));
        }
        if let Some(layer) = self.mlp_only_layers.iter().find(|layer| **layer >= layers) {
            return Err(text.wrong(
                "mlp_only_layers",
                &format!("layers below num_hidden_layers ({layers})"),
                &layer.to_string(),
            ));
        }
        // transformers renormalises whatever this key says; a config that asks for the other is of
        // another model.
        if !text.bool_or("norm_topk_prob", true)? {
            return Err(text.wrong("norm_topk_prob", "true", "false"));
        }
        Ok(())
    }
}

/// NF4 of bitsandbytes is read; which matrices are quantised, their own tensors say.
fn check_quantization(table: &Table) -> Result<()> {
    let text = |key: &str| table.json.get(key).and_then(Value::as_str);
    let method = text("quant_method").unwrap_or("");
    let is_nf4 = method == "bitsandbytes"
        && table.bool_or("load_in_4bit", false)?
        && text("bnb_4bit_quant_type") == Some("nf4");
    if is_nf4 {
        return Ok(());
    }
    let found = match (method, text("bnb_4bit_quant_type")) {
        ("bitsandbytes", Some(kind)) if table.bool_or("load_in_4bit", false)? => kind.to_string(),
        ("bitsandbytes", _) => "8 bits of bitsandbytes".to_string(),
        (method, _) => method.to_string(),
    };
    Err(
        Diagnostic::error("this checkpoint is quantised in a way that cannot be trained on here")
            .at(&table.path)
            .detail("`quantization_config`")
            .expected("`nf4` of bitsandbytes, or no quantisation")
            .found(format!("`{found}`"))
            .hint("use the bf16 checkpoint of the same model; `model.base = \"nf4\"` quantises it"),
    )
}

/// transformers 5 moved it into `rope_parameters`. When absent the class default is 500 000.
fn rope_theta(text: &Table) -> Result<f64> {
    match text.optional_table("rope_parameters")? {
        Some(rope) if rope.json.get("rope_theta").is_some() => rope.f64("rope_theta"),
        _ => text.f64_or("rope_theta", 500_000.0),
    }
}

fn mrope_section(text: &Table) -> Result<[usize; 3]> {
    let rope = match text.optional_table("rope_parameters")? {
        Some(table) => Some(table),
        None => text.optional_table("rope_scaling")?,
    };
    // transformers' own default when the key is absent.
    let Some(rope) = rope else {
        return Ok([24, 20, 20]);
    };
    if let Some(kind) = rope
        .json
        .get("rope_type")
        .or(rope.json.get("type"))
        .and_then(Value::as_str)
        && kind != "default"
        && kind != "mrope"
    {
        return Err(rope.wrong("rope_type", "`default`", &format!("`{kind}`")));
    }
    if !rope.bool_or("mrope_interleaved", true)? {
        return Err(rope.wrong("mrope_interleaved", "true", "false"));
    }
    if rope.json.get("mrope_section").is_none() {
        return Ok([24, 20, 20]);
    }
    let section = rope.usizes("mrope_section")?;
    <[usize; 3]>::try_from(section.clone()).map_err(|_| {
        rope.wrong(
            "mrope_section",
            "three numbers",
            &format!("{}", section.len()),
        )
    })
}

/// One object of the JSON with its path, so that an error can say which key of which file.
struct Table<'a> {
    json: &'a Value,
    path: PathBuf,
    prefix: String,
}

impl<'a> Table<'a> {
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn table(&self, key: &str) -> Result<Table<'a>> {
        self.optional_table(key)?.ok_or_else(|| self.missing(key))
    }

    fn optional_table(&self, key: &str) -> Result<Option<Table<'a>>> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(json) if json.is_object() => Ok(Some(Table {
                json,
                path: self.path.clone(),
                prefix: format!("{}{key}.", self.prefix),
            })),
            Some(other) => Err(self.wrong(key, "an object", &other.to_string())),
        }
    }

    fn usize(&self, key: &str) -> Result<usize> {
        let value = self.json.get(key).ok_or_else(|| self.missing(key))?;
        let number = value.as_u64().filter(|n| *n <= u64::from(u32::MAX));
        number
            .map(|n| n as usize)
            .ok_or_else(|| self.wrong(key, "a whole number", &value.to_string()))
    }

    fn usize_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.absent(key) {
            Ok(default)
        } else {
            self.usize(key)
        }
    }

    fn f64(&self, key: &str) -> Result<f64> {
        let value = self.json.get(key).ok_or_else(|| self.missing(key))?;
        let number = value.as_f64().filter(|n| *n > 0.0);
        number.ok_or_else(|| self.wrong(key, "a positive number", &value.to_string()))
    }

    fn f64_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.absent(key) {
            Ok(default)
        } else {
            self.f64(key)
        }
    }

    fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong(key, "true or false", &value.to_string())),
        }
    }

    fn usizes(&self, key: &str) -> Result<Vec<usize>> {
        let value = self.json.get(key).ok_or_else(|| self.missing(key))?;
        let numbers = value.as_array().and_then(|items| {
            items
                .iter()
                .map(|i| i.as_u64().map(|n| n as usize))
                .collect()
        });
        numbers.ok_or_else(|| self.wrong(key, "a list of whole numbers", &value.to_string()))
    }

    fn absent(&self, key: &str) -> bool {
        self.json.get(key).is_none_or(Value::is_null)
    }

    fn missing(&self, key: &str) -> Diagnostic {
        Diagnostic::error(format!("missing key `{}`", self.key(key))).at(&self.path)
    }

    fn wrong(&self, key: &str, expected: &str, found: &str) -> Diagnostic {
        Diagnostic::error(format!("unsupported value of `{}`", self.key(key)))
            .at(&self.path)
            .expected(expected)
            .found(found)
    }
}
