//! What the base was held in while the adapter was trained on it, by what the files say.

use std::path::Path;

use serde_json::Value;
use vlft_base::input::read_text;

use crate::checkpoint::Checkpoint;
use crate::serving;

/// How the base of an adapter was quantised.
pub(crate) struct Quantized {
    pub(crate) four_bits: bool,
    /// `nf4`, `fp8`
    pub(crate) method: String,
}

/// None: not at all, as far as the model that was trained on, where that is another one than is merged
/// into, and the adapter's own files tell.
pub(crate) fn quantized(adapter: &Path, trained_on: Option<&Path>) -> Option<Quantized> {
    let of_adapter = || {
        serving::trained_on_four_bits(adapter).then(|| Quantized {
            four_bits: true,
            method: "4 bits".into(),
        })
    };
    trained_on.and_then(of_model).or_else(of_adapter)
}

fn of_model(dir: &Path) -> Option<Quantized> {
    let text = read_text(&dir.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    match config.get("quantization_config") {
        None | Some(Value::Null) => {
            let codes = Checkpoint::open(dir).is_ok_and(|weights| weights.is_quantized());
            codes.then(|| Quantized {
                four_bits: true,
                method: "nf4".into(),
            })
        }
        Some(quantization) => {
            let text = |key| quantization.get(key).and_then(Value::as_str);
            let four_bits = says_four_bits(quantization);
            let bnb = match four_bits {
                true => text("bnb_4bit_quant_type"),
                false => None,
            };
            let method = bnb.or(text("quant_method")).unwrap_or("other bits");
            Some(Quantized {
                four_bits,
                method: method.to_string(),
            })
        }
    }
}

/// bitsandbytes has a switch, GPTQ and AWQ a number, compressed-tensors a number further in, others a name.
fn says_four_bits(quantization: &Value) -> bool {
    match quantization {
        Value::Object(entries) => entries.iter().any(|(key, value)| match key.as_str() {
            "load_in_4bit" => value.as_bool() == Some(true),
            "bits" | "w_bit" | "num_bits" => value.as_u64() == Some(4),
            "quant_method" | "quant_type" | "format" | "weights" if value.is_string() => {
                let name = value.as_str().unwrap_or_default().to_lowercase();
                ["fp4", "nf4", "int4"]
                    .iter()
                    .any(|kind| name.contains(kind))
            }
            _ => says_four_bits(value),
        }),
        Value::Array(items) => items.iter().any(says_four_bits),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn four_bits_are_told_from_others_and_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let (model, adapter) = (dir.path().join("model"), dir.path().join("adapter"));
        for path in [&model, &adapter] {
            fs::create_dir(path).unwrap();
        }
        let found = |quantization: Value, base: &str| {
            let config = json!({"quantization_config": quantization});
            fs::write(model.join("config.json"), config.to_string()).unwrap();
            let config = json!({"base_model_name_or_path": base});
            fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
            quantized(&adapter, Some(&model)).map(|q| (q.four_bits, q.method))
        };
        let four = |method: &str| Some((true, method.to_string()));
        let nf4 = json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"});
        assert_eq!(found(nf4, "m"), four("nf4"));
        assert_eq!(
            found(json!({"quant_method": "gptq", "bits": 4}), "m"),
            four("gptq")
        );
        let further_in = json!({"quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"num_bits": 4}}}});
        assert_eq!(found(further_in, "m"), four("compressed-tensors"));
        assert_eq!(found(json!({"quant_method": "mxfp4"}), "m"), four("mxfp4"));
        let eight =
            json!({"quant_method": "bitsandbytes", "load_in_8bit": true, "load_in_4bit": false});
        assert_eq!(found(eight, "m"), Some((false, "bitsandbytes".into())));
        assert_eq!(
            found(json!({"quant_method": "fp8"}), "m"),
            Some((false, "fp8".into()))
        );
        assert_eq!(found(Value::Null, "m"), None);
        assert_eq!(found(Value::Null, "unsloth/m-bnb-4bit"), four("4 bits"));
        fs::write(adapter.join("preprocess.lock.json"), r#"{"base":"bf16"}"#).unwrap();
        assert_eq!(found(Value::Null, "unsloth/m-bnb-4bit"), None);
        fs::write(adapter.join("preprocess.lock.json"), r#"{"base":"nf4"}"#).unwrap();
        assert_eq!(found(Value::Null, "m"), four("4 bits"));
    }
}
