//! The model's own chat template, rendered as transformers renders it: Jinja with `trim_blocks`,
//! `lstrip_blocks`, loop controls, Python's string, list and dict methods, `raise_exception`,
//! `strftime_now`, a `tojson` that does not escape HTML, and `{% generation %}` blocks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use vlft_base::digest::sha256;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::record::Message;

use crate::model_files::{get, read_if_present, read_json};
use crate::python_json::tojson;

pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and the like, which templates may print.
    special_tokens: Vec<(&'static str, String)>,
    path: PathBuf,
    sha256: String,
}

impl ChatTemplate {
    /// `chat_template.jinja`, else `chat_template.json`, else the `chat_template` of
    /// `tokenizer_config.json`: the order of transformers' processors.
    pub(crate) fn from_dir(dir: &Path) -> Result<Self> {
        let (path, source) = find_template(dir)?;
        Self::new(
            path,
            &source,
            special_tokens(&dir.join("tokenizer_config.json"))?,
        )
    }

    pub(crate) fn new(
        path: PathBuf,
        source: &str,
        special_tokens: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .expect("only white space is configured"),
        );
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(TEMPLATE, without_generation_tags(source))
            .map_err(|e| failure("chat template is not valid Jinja", &path, &e))?;
        Ok(Self {
            environment,
            special_tokens,
            path,
            sha256: sha256(source.as_bytes()),
        })
    }

    /// The file it was read from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The conversation as text. `add_generation_prompt` appends what precedes an answer.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String> {
        self.render_with(messages, add_generation_prompt, &serde_json::Map::new())
    }

    /// `variables` are what transformers takes as keyword arguments: `tools`, `add_vision_id`, ..
    pub(crate) fn render_with(
        &self,
        messages: &(impl Serialize + ?Sized),
        add_generation_prompt: bool,
        variables: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String> {
        let template = self
            .environment
            .get_template(TEMPLATE)
            .expect("the constructor added it");
        let special = self
            .special_tokens
            .iter()
            .map(|(name, token)| (*name, Value::from(token)));
        let own = [
            ("messages", Value::from(Serde(messages))),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        let given = variables
            .iter()
            .map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        let context: HashMap<&str, Value> = special.chain(own).chain(given).collect();
        template.render(context).map_err(|e| {
            failure(
                "chat template cannot render the conversation",
                &self.path,
                &e,
            )
        })
    }
}

const TEMPLATE: &str = "chat_template";

fn find_template(dir: &Path) -> Result<(PathBuf, String)> {
    let jinja = dir.join("chat_template.jinja");
    if let Some(source) = read_if_present(&jinja)? {
        return Ok((jinja, source));
    }
    for name in ["chat_template.json", "tokenizer_config.json"] {
        let path = dir.join(name);
        if let Some(json) = read_json(&path)?
            && let Some(source) = template_in(&json["chat_template"], &path)?
        {
            return Ok((path, source));
        }
    }
    Err(Diagnostic::error("model directory has no chat template")
        .at(dir)
        .expected(
            "`chat_template.jinja`, `chat_template.json`, or `chat_template` in `tokenizer_config.json`",
        )
        .hint("copy the file from where the model came from"))
}

/// A string; or named templates, as a list of `{"name", "template"}` or as an object: then the one
/// called `default`.
fn template_in(value: &serde_json::Value, path: &Path) -> Result<Option<String>> {
    use serde_json::Value as Json;
    let named = match value {
        Json::Null => return Ok(None),
        Json::String(source) => return Ok(Some(source.clone())),
        Json::Array(list) => list
            .iter()
            .find(|entry| entry["name"] == "default")
            .map(|entry| &entry["template"]),
        Json::Object(map) => map.get("default"),
        _ => None,
    };
    match named.and_then(Json::as_str) {
        Some(source) => Ok(Some(source.to_owned())),
        None => Err(Diagnostic::error("no default chat template")
            .at(path)
            .detail("`chat_template`")
            .expected("a string, or named templates with one called `default`")),
    }
}

/// Tokens are strings, or objects with a `content`.
fn special_tokens(path: &Path) -> Result<Vec<(&'static str, String)>> {
    let Some(json) = read_json(path)? else {
        return Ok(Vec::new());
    };
    let mut tokens = Vec::new();
    for name in ["bos_token", "eos_token", "unk_token", "pad_token"] {
        let content = match &json[name] {
            serde_json::Value::Object(_) => get(&json, &format!("{name}.content"), path)?,
            _ => get(&json, name, path)?,
        };
        if let Some(content) = content {
            tokens.push((name, content));
        }
    }
    Ok(tokens)
}

fn raise_exception(message: String) -> std::result::Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> std::result::Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

/// `{% generation %}` .. `{% endgeneration %}` mark answers for transformers' own label masks. They
/// print nothing and open a scope, just as `{% with %}` does. (Our labels come from `labels`, which
/// needs no marks.)
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let body = tag.trim_start_matches(['-', '+']).trim_start();
        let name_at = tag.len() - body.len();
        let replaced = [("generation", "with"), ("endgeneration", "endwith")]
            .into_iter()
            .find(|(name, _)| {
                body.strip_prefix(name).is_some_and(|after| {
                    after
                        .trim_start()
                        .trim_start_matches(['-', '+'])
                        .starts_with("%}")
                })
            });
        match replaced {
            Some((name, with)) => {
                out.push_str(&tag[..name_at]);
                out.push_str(with);
                rest = &body[name.len()..];
            }
            None => rest = tag,
        }
    }
    out.push_str(rest);
    out
}

fn failure(what: &str, path: &Path, error: &Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(what);
    let diagnostic = match error.line() {
        Some(line) if path.extension().is_some_and(|e| e == "jinja") => {
            diagnostic.at_line(path, line as u64)
        }
        Some(line) => diagnostic.at(path).detail(format!("template line {line}")),
        None => diagnostic.at(path),
    };
    match error.detail() {
        Some(detail) => diagnostic.caused_by(detail),
        None => diagnostic.caused_by(error.kind()),
    }
}

#[cfg(test)]
mod tests;
