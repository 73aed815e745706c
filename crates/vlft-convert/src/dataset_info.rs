//! `dataset_info.json`, where LLaMA-Factory looks up which columns and roles a file uses.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use vlft_base::input;
use vlft_base::output::{Existing, cannot, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_dataset::image_path::base_of;
use vlft_dataset::json;
use vlft_dataset::record::Role;

use crate::format::Format;

/// One dataset of `dataset_info.json`, with the defaults of `src/llamafactory/data/parser.py` there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) is_alpaca: bool,
    pub(crate) messages: String,
    pub(crate) images: String,
    pub(crate) system: Option<String>,
    pub(crate) prompt: String,
    pub(crate) query: String,
    pub(crate) response: String,
    pub(crate) history: Option<String>,
    pub(crate) role_tag: String,
    pub(crate) content_tag: String,
    user_tag: String,
    assistant_tag: String,
    system_tag: String,
    /// Columns of media, tools and preferences.
    others: Vec<String>,
}

impl Entry {
    /// What a sharegpt entry without `columns` and `tags` means.
    pub(crate) fn sharegpt() -> Self {
        let own = str::to_owned;
        Self {
            is_alpaca: false,
            messages: own("conversations"),
            images: own("images"),
            system: Some(own("system")),
            prompt: own("instruction"),
            query: own("input"),
            response: own("output"),
            history: Some(own("history")),
            role_tag: own("from"),
            content_tag: own("value"),
            user_tag: own("human"),
            assistant_tag: own("gpt"),
            system_tag: own("system"),
            others: ["videos", "audios", "tools", "chosen", "rejected", "kto_tag"]
                .map(own)
                .to_vec(),
        }
    }

    /// The same with the names of OpenAI's messages, which is how [`crate::convert`] writes it.
    pub(crate) fn messages() -> Self {
        let own = str::to_owned;
        Self {
            messages: own("messages"),
            role_tag: own("role"),
            content_tag: own("content"),
            user_tag: own("user"),
            assistant_tag: own("assistant"),
            ..Self::sharegpt()
        }
    }

    pub(crate) fn alpaca() -> Self {
        Self {
            is_alpaca: true,
            ..Self::sharegpt()
        }
    }

    pub(crate) fn roles(&self) -> Vec<(&str, Role)> {
        vec![
            (self.system_tag.as_str(), Role::System),
            (self.user_tag.as_str(), Role::User),
            (self.assistant_tag.as_str(), Role::Assistant),
        ]
    }

    pub(crate) fn refused(&self) -> Vec<&str> {
        self.others.iter().map(String::as_str).collect()
    }

    fn parse(value: &Value) -> Self {
        let text = |group: &str, key: &str| {
            let found = value.get(group).and_then(|group| group.get(key));
            found.and_then(Value::as_str).map(str::to_owned)
        };
        let formatting = value.get("formatting").and_then(Value::as_str);
        // There the default is alpaca, and `openai` differs from sharegpt in its tools only.
        let mut entry = match formatting {
            Some("sharegpt") => Self::sharegpt(),
            Some("openai") => Self::messages(),
            _ => Self::alpaca(),
        };
        let set = |group: &str, key: &str, slot: &mut String| {
            if let Some(name) = text(group, key) {
                *slot = name;
            }
        };
        set("columns", "messages", &mut entry.messages);
        set("columns", "images", &mut entry.images);
        set("columns", "prompt", &mut entry.prompt);
        set("columns", "query", &mut entry.query);
        set("columns", "response", &mut entry.response);
        set("tags", "role_tag", &mut entry.role_tag);
        set("tags", "content_tag", &mut entry.content_tag);
        set("tags", "user_tag", &mut entry.user_tag);
        set("tags", "assistant_tag", &mut entry.assistant_tag);
        set("tags", "system_tag", &mut entry.system_tag);
        if let Some(name) = text("columns", "system") {
            entry.system = Some(name);
        }
        if let Some(name) = text("columns", "history") {
            entry.history = Some(name);
        }
        for key in ["videos", "audios", "tools", "chosen", "rejected", "kto_tag"] {
            entry.others.extend(text("columns", key));
        }
        entry
    }
}

fn beside(file: &Path) -> PathBuf {
    base_of(file).join("dataset_info.json")
}

/// `Ok(None)`: there is no such file.
fn load(path: &Path) -> Result<Option<Map<String, Value>>> {
    let text = match input::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot("read", path, e)),
    };
    match json::parse(&text) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(other) => Err(Diagnostic::error("dataset_info.json is not an object")
            .at(path)
            .found(json::kind(&other))),
        Err(e) => Err(Diagnostic::error("dataset_info.json is not valid JSON")
            .at(path)
            .caused_by(e)),
    }
}

/// The entry that names a data file, and its name.
pub(crate) fn entry_of(file: &Path) -> Result<Option<(String, Entry)>> {
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    let Some(all) = load(&beside(file))? else {
        return Ok(None);
    };
    Ok(all
        .iter()
        .find(|(_, entry)| entry.get("file_name").and_then(Value::as_str) == Some(name))
        .map(|(dataset, entry)| (dataset.clone(), Entry::parse(entry))))
}

/// The entry for an output, ready to be written beside it.
pub(crate) struct Update {
    path: PathBuf,
    all: Map<String, Value>,
    name: String,
    changed: bool,
}

impl Update {
    /// Adds the entry to what is there. Called before any work, because it may refuse.
    pub(crate) fn prepare(out: &Path, format: Format, existing: Existing) -> Result<Self> {
        let path = beside(out);
        let mut all = load(&path)?.unwrap_or_default();
        let part = |part: Option<&std::ffi::OsStr>| {
            part.and_then(|part| part.to_str())
                .map(str::to_owned)
                .ok_or_else(|| Diagnostic::error("the file name is not Unicode").at(out))
        };
        let (name, file) = (part(out.file_stem())?, part(out.file_name())?);
        let entry = entry_for(&file, format);
        let before = all.insert(name.clone(), entry.clone());
        let changed = before.as_ref() != Some(&entry);
        if changed && before.is_some() && existing == Existing::Refuse {
            return Err(Diagnostic::error(format!(
                "dataset_info.json has another `{name}` already"
            ))
            .at(&path)
            .hint("pass `--force` to replace that entry, or choose another `--out`"));
        }
        Ok(Self {
            path,
            all,
            name,
            changed,
        })
    }

    /// The name to give to `--dataset` there.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn write(&self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        let mut text = serde_json::to_string_pretty(&self.all).expect("it was JSON");
        text.push('\n');
        write_atomic(&self.path, text.as_bytes())
    }
}

fn entry_for(file: &str, format: Format) -> Value {
    match format {
        Format::Alpaca => json!({
            "file_name": file,
            "formatting": "alpaca",
            "columns": {
                "prompt": "instruction", "query": "input", "response": "output",
                "system": "system", "history": "history", "images": "images",
            },
        }),
        _ => json!({
            "file_name": file,
            "formatting": "sharegpt",
            "columns": { "messages": "messages", "images": "images" },
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user",
                "assistant_tag": "assistant", "system_tag": "system",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_read_back() {
        let read = |format| Entry::parse(&entry_for("a.jsonl", format));
        let written = Entry {
            others: read(Format::LlamaFactory).others,
            ..Entry::messages()
        };
        assert_eq!(read(Format::LlamaFactory), written);
        assert!(read(Format::Alpaca).is_alpaca);
        // The default of the loader.
        assert!(Entry::parse(&json!({"file_name": "x"})).is_alpaca);
    }

    #[test]
    fn other_entries_stay_and_a_different_one_is_not_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let info = dir.path().join("dataset_info.json");
        fs::write(
            &info,
            r#"{"b":{"file_name":"x.json"},"a":{"file_name":"y.json"}}"#,
        )
        .unwrap();
        let out = dir.path().join("a.jsonl");
        let refused = Update::prepare(&out, Format::Alpaca, Existing::Refuse)
            .err()
            .unwrap();
        assert!(refused.message().contains("another `a`"));
        let update = Update::prepare(&out, Format::Alpaca, Existing::Replace).unwrap();
        update.write().unwrap();
        let (name, entry) = entry_of(&out).unwrap().unwrap();
        assert!(name == "a" && entry.is_alpaca);
        let kept = entry_of(&dir.path().join("x.json")).unwrap().unwrap();
        assert_eq!(kept.0, "b");
        // The same entry again is no conflict.
        assert!(
            !Update::prepare(&out, Format::Alpaca, Existing::Refuse)
                .unwrap()
                .changed
        );
    }
}
