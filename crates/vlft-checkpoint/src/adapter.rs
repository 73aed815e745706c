//! PEFT adapters on disk: `adapter_config.json` and `adapter_model.safetensors`, read strictly (an
//! option we would ignore is refused) and written as PEFT and vLLM expect them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use safetensors::{Dtype, View};
use serde_json::{Value, json};
use vlft_base::input::read_text;
use vlft_base::output::write_atomic;
use vlft_base::{Diagnostic, Result};

use crate::checkpoint::{Checkpoint, shape_text};
use crate::config::Config;
use crate::layout::{Adapted, Layout, LoraSpec, Module};
use crate::serving::{Name, Part, is_sparse};

/// PEFT puts this before the module's own path.
const PREFIX: &str = "base_model.model.";

/// What [`write_adapter`] makes, and all that an adapter consists of.
pub const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The options of `adapter_config.json` that change the arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Rank, alpha, rsLoRA and their patterns; which modules there are, only the tensors say.
    pub spec: LoraSpec,
    pub base_model_name_or_path: Option<String>,
}

/// Reads `adapter_config.json` of an adapter folder.
pub fn read_adapter_config(dir: &Path) -> Result<AdapterConfig> {
    let path = dir.join("adapter_config.json");
    let text = read_text(&path).map_err(|e| {
        Diagnostic::error("cannot read the adapter's config")
            .at(&path)
            .caused_by(e)
            .hint(
                match dir.join("adapter").join("adapter_config.json").exists() {
                    // The folder of a run holds one.
                    true => format!("did you mean `{}/adapter`?", dir.display()),
                    false => "an adapter is a folder with adapter_config.json and \
                          adapter_model.safetensors"
                        .to_owned(),
                },
            )
    })?;
    let json: Value = serde_json::from_str(&text).map_err(|e| {
        Diagnostic::error("the adapter's config is not JSON")
            .at(&path)
            .caused_by(e)
    })?;
    let wrong = |key: &str, expected: &str| {
        let found = json.get(key).map_or("nothing".into(), Value::to_string);
        Diagnostic::error(format!("unsupported value of `{key}`"))
            .at(&path)
            .expected(expected)
            .found(found)
    };
    if json.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(wrong("peft_type", "\"LORA\""));
    }
    // Each of these changes the result; none is computed here.
    for key in [
        "use_dora",
        "fan_in_fan_out",
        "lora_bias",
        "use_bdlora",
        "use_qalora",
    ] {
        if json
            .get(key)
            .is_some_and(|v| !v.is_null() && *v != Value::Bool(false))
        {
            return Err(wrong(key, "false"));
        }
    }
    let is_empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    let unsupported = [
        "modules_to_save",
        "layer_replication",
        "alora_invocation_tokens",
        "trainable_token_indices",
        "target_parameters",
    ];
    for key in unsupported {
        if json.get(key).is_some_and(|v| !is_empty(v)) {
            return Err(wrong(key, "nothing"));
        }
    }
    let bias = json.get("bias").filter(|bias| !bias.is_null());
    if bias.is_some_and(|bias| *bias != "none") {
        return Err(wrong("bias", "\"none\""));
    }
    let rank = json.get("r").and_then(Value::as_u64).filter(|r| *r > 0);
    let alpha = json.get("lora_alpha").and_then(Value::as_f64);
    let rank_pattern = pattern(&json, "rank_pattern", |v| {
        v.as_u64().filter(|r| *r > 0).map(|r| r as usize)
    });
    let alpha_pattern = pattern(&json, "alpha_pattern", Value::as_f64);
    Ok(AdapterConfig {
        spec: LoraSpec {
            rank: rank.ok_or_else(|| wrong("r", "a positive whole number"))? as usize,
            alpha: alpha.ok_or_else(|| wrong("lora_alpha", "a number"))?,
            rslora: match json.get("use_rslora") {
                None | Some(Value::Null) => false,
                Some(value) => value
                    .as_bool()
                    .ok_or_else(|| wrong("use_rslora", "true or false"))?,
            },
            rank_pattern: rank_pattern
                .ok_or_else(|| wrong("rank_pattern", "names with positive whole numbers"))?,
            alpha_pattern: alpha_pattern
                .ok_or_else(|| wrong("alpha_pattern", "names with numbers"))?,
            ..LoraSpec::default()
        },
        base_model_name_or_path: json
            .get("base_model_name_or_path")
            .and_then(Value::as_str)
            .map(String::from),
    })
}

/// A table of module names with a value each; absent is empty, anything else is None.
fn pattern<T>(
    json: &Value,
    key: &str,
    value: impl Fn(&Value) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    match json.get(key) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Object(entries)) => entries
            .iter()
            .map(|(name, v)| Some((name.clone(), value(v)?)))
            .collect(),
        Some(_) => None,
    }
}

/// The path of a module's matrix in an adapter's file: `part` is `A` or `B`.
pub fn tensor_name(module: &str, part: char) -> String {
    format!("{PREFIX}{module}.lora_{part}.weight")
}

/// An adapter that fits a model: every tensor belongs to a module, every module is whole.
pub struct AdapterFile {
    pub layout: Layout,
    pub tensors: Checkpoint,
}

impl AdapterFile {
    /// Opens an adapter for a model of this config. The modules are those whose tensors are there.
    ///
    /// # Errors
    /// An option that changes the arithmetic and is not computed here; a name that no module of the
    /// model has; a matrix that is missing or of another shape.
    pub fn open(dir: &Path, config: &Config) -> Result<Self> {
        let AdapterConfig { spec, .. } = read_adapter_config(dir)?;
        let path = dir.join("adapter_model.safetensors");
        let tensors = Checkpoint::open_file(&path)?;
        let known = config.linear_modules();
        check_names(&path, &tensors, &known)?;

        let has_part = |module: &Module, part| tensors.shape(&tensor_name(&module.name, part));
        let modules: Vec<Module> = known
            .into_iter()
            .filter(|module| {
                ['A', 'B']
                    .iter()
                    .any(|part| has_part(module, *part).is_some())
            })
            .collect();
        let layout = Layout::of_modules(config, &spec, modules).map_err(|e| e.at(dir))?;
        for module in &layout.modules {
            for (part, shape) in [
                ('A', [module.rank, module.in_features]),
                ('B', [module.out_features, module.rank]),
            ] {
                let name = tensor_name(&module.name, part);
                let found = tensors.shape(&name);
                if found != Some(&shape) {
                    return Err(Diagnostic::error("adapter does not match the base model")
                        .at(&path)
                        .detail(format!("tensor `{name}`"))
                        .expected(shape_text(&shape))
                        .found(found.map_or("nothing".into(), shape_text)));
                }
            }
        }
        Ok(Self { layout, tensors })
    }
}

/// A tensor that no module would take is what makes a server silently ignore an adapter.
fn check_names(path: &Path, file: &Checkpoint, known: &[Module]) -> Result<()> {
    let modules: BTreeSet<&str> = known.iter().map(|module| module.name.as_str()).collect();
    let stray = file.names().find(|name| {
        let module = name.strip_prefix(PREFIX).and_then(|rest| {
            rest.strip_suffix(".lora_A.weight")
                .or_else(|| rest.strip_suffix(".lora_B.weight"))
        });
        module.is_none_or(|module| !modules.contains(module))
    });
    if let Some(name) = stray {
        if let Some(error) = not_taken(name) {
            return Err(error.at(path).detail(format!("tensor `{name}`")));
        }
        return Err(Diagnostic::error(
            "adapter has a tensor that belongs to no layer of the model",
        )
        .at(path)
        .detail(format!("tensor `{name}`"))
        .expected(format!(
            "names such as `{PREFIX}{}.lora_A.weight`",
            known[0].name
        ))
        .hint("was it trained on another model? see its adapter_config.json"));
    }
    if file.names().next().is_none() {
        return Err(Diagnostic::error("adapter has no tensors").at(path));
    }
    Ok(())
}

/// A pair on a part of Qwen3-VL that is served with adapters, and that vlft neither trains nor merges.
fn not_taken(tensor: &str) -> Option<Diagnostic> {
    let name = Name::parse(tensor);
    let module = name.module?;
    let pair = [Part::A, Part::B, Part::EmbeddingA, Part::EmbeddingB];
    let what = match module.as_str() {
        _ if !pair.contains(&name.part) => return None,
        "lm_head" => "the head, which scores every token",
        "model.language_model.embed_tokens" => "the embedding of the tokens",
        sparse if is_sparse(sparse) => "the router or the experts of a layer",
        _ => return None,
    };
    Some(
        Diagnostic::error(format!(
            "the adapter changes `{module}`, {what}: vlft neither trains nor merges that"
        ))
        .hint(
            "serve it beside the base (`vlft check-adapter ADAPTER` says how, and what is applied), or \
             merge it with PEFT's `merge_and_unload`; where head and embedding are tied, that changes both",
        ),
    )
}

/// Writes both files into an existing folder: A and B of every module of the layout, in its order.
/// The bytes are a function of the arguments only.
pub fn write_adapter(
    dir: &Path,
    layout: &Layout,
    pairs: Vec<[F32Matrix; 2]>,
    base_model_name_or_path: &str,
) -> Result<()> {
    let named = layout
        .modules
        .iter()
        .zip(pairs)
        .flat_map(|(module, [a, b])| {
            [
                (tensor_name(&module.name, 'A'), a),
                (tensor_name(&module.name, 'B'), b),
            ]
        });
    let bytes = matrices_to_bytes(named.collect())?;
    write_atomic(&dir.join("adapter_model.safetensors"), &bytes)?;

    let config = adapter_config(layout, base_model_name_or_path);
    let text = serde_json::to_string_pretty(&config).expect("plain JSON values") + "\n";
    write_atomic(&dir.join("adapter_config.json"), text.as_bytes())
}

/// `adapter_config.json` of an adapter of this layout.
pub(crate) fn adapter_config(layout: &Layout, base_model_name_or_path: &str) -> Value {
    json!({
        "alpha_pattern": others(layout, |m| (m.alpha != layout.alpha).then(|| whole_if_possible(m.alpha))),
        "auto_mapping": null,
        "base_model_name_or_path": base_model_name_or_path,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": whole_if_possible(layout.alpha),
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": layout.rank,
        "rank_pattern": others(layout, |m| (m.rank != layout.rank).then(|| json!(m.rank))),
        "revision": null,
        "target_modules": target_modules(layout),
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": layout.rslora,
    })
}

/// `{"format":"pt"}` and the matrices in sorted order, f32.
pub fn matrices_to_bytes(matrices: Vec<(String, F32Matrix)>) -> Result<Vec<u8>> {
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(matrices, Some(metadata))
        .map_err(|e| Diagnostic::error("cannot serialise tensors").caused_by(e))
}

/// A matrix on its way to a file.
pub struct F32Matrix {
    shape: [usize; 2],
    bytes: Vec<u8>,
}

impl F32Matrix {
    /// `values` row by row.
    pub fn new(shape: [usize; 2], values: impl Iterator<Item = f32>) -> Self {
        let mut bytes = Vec::with_capacity(shape[0] * shape[1] * size_of::<f32>());
        bytes.extend(values.flat_map(f32::to_le_bytes));
        Self { shape, bytes }
    }
}

impl View for F32Matrix {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Modules with another value than the whole, by their full paths.
fn others(layout: &Layout, value: impl Fn(&Adapted) -> Option<Value>) -> Value {
    let entries = layout.modules.iter();
    let entries = entries.filter_map(|m| Some((m.name.clone(), value(m)?)));
    Value::Object(entries.collect())
}

/// PEFT's `target_modules`: short names where they say it exactly, else every path for itself.
fn target_modules(layout: &Layout) -> Value {
    match &layout.short_names {
        Some(names) => json!(names),
        None => json!(layout.modules.iter().map(|m| &m.name).collect::<Vec<_>>()),
    }
}

/// 32.0 -> 32: PEFT's own files have an integer there.
fn whole_if_possible(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}
