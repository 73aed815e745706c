//! The resolved config as TOML: what `RUN/config.toml` holds, fit to be fed back.

use std::path::Path;

use serde_json::Value;

use super::Config;

impl Config {
    /// Every key with its value; what is absent stands as a comment. `run_dir` is only named in the
    /// opening lines, which say how to run it.
    pub fn to_toml(&self, run_dir: &Path) -> String {
        let run = run_dir.display().to_string().replace('\\', "/");
        let mut text = format!(
            "# The resolved config of this run. It can be fed back:\n\
             #   vlft train {run}/config.toml --out {run}\n"
        );
        let config = serde_json::to_value(self).expect("plain structs of numbers and strings");
        let mut table = "";
        for known in Self::keys() {
            if known.table != table {
                table = known.table;
                text += &format!("[{table}]\n");
            }
            let assignment = match &config[known.table][known.key] {
                Value::Null => format!("# {} =", known.key),
                value => format!("{} = {}", known.key, toml_value(value)),
            };
            text += &format!("{assignment:<40}  # {}\n", known.about);
        }
        text
    }
}

/// JSON's numbers and booleans are TOML's; strings need TOML's own quoting.
fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries = entries.iter();
            let entries: Vec<String> = entries
                .map(|(key, value)| {
                    let key = toml::Value::from(key.as_str());
                    format!("{key} = {}", toml_value(value))
                })
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
