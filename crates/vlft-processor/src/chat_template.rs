//! The model's own chat template, rendered as transformers renders it: Jinja with `trim_blocks`,
//! `lstrip_blocks`, loop controls, Python's string, list and dict methods, `raise_exception`,
//! `strftime_now`, a `tojson` that does not escape HTML, and `{% generation %}` blocks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::record::Message;

use crate::model_files::{get, read_if_present, read_json, sha256};
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
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn render(source: &str, messages: serde_json::Value) -> Result<String> {
        let eos = vec![("eos_token", "<e>".to_owned())];
        let variables = [("n".to_owned(), json!(3))].into_iter().collect();
        ChatTemplate::new("t.jinja".into(), source, eos)?.render_with(&messages, true, &variables)
    }

    /// What Jinja2 with transformers' settings prints for these constructs.
    #[test]
    fn constructs_that_chat_templates_use() {
        let messages = json!([{"role": "user", "content": "  a</think>b\n"}]);
        for (source, expected) in [
            (
                "{{ messages[0].content.split('</think>')[-1].rstrip('\\n') }}",
                "b",
            ),
            (
                "{% for m in messages[::-1] %}{{ loop.index0 }}{{ m.role }}{% endfor %}",
                "0user",
            ),
            (
                "{% set ns = namespace(x=1) %}{% for i in range(n) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
                "4",
            ),
            ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
            (
                "{%- for i in [1, 2, 3] -%}{%- if i == 2 -%}{%- continue -%}{%- endif -%}{{ i }}{%- endfor -%}",
                "13",
            ),
            (
                "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "1",
            ),
            (
                "x{%- generation -%} y {%- endgeneration -%}z{% generation %}\nw{% endgeneration %}\n",
                "xyzw",
            ),
            (
                "{% set a = 1 %}{% generation %}{% set a = 2 %}{% endgeneration %}{{ a }}",
                "1",
            ),
            (
                "{{ messages[0] | tojson }}",
                "{\"role\": \"user\", \"content\": \"  a</think>b\\n\"}",
            ),
            (
                "{{ eos_token }}{{ tools is none }}{{ add_generation_prompt }}{{ bos_token is defined }}",
                "<e>TrueTrueFalse",
            ),
            (
                "{{ true }}{{ none }}{{ 1.0 }}{{ ['a', 1] }}{{ {'k': none} }}",
                "TrueNone1.0['a', 1]{'k': None}",
            ),
            (
                "{{ messages[0].content is string }}{{ messages[0] is mapping }}{{ 'role' in messages[0] }}{{ messages[0].x is defined }}",
                "TrueTrueTrueFalse",
            ),
            ("{{ '<&>' }}{{ 'A' ~ 1 ~ 'b' }}{{ 'abc'[1:] }}", "<&>A1bbc"),
        ] {
            assert_eq!(
                render(source, messages.clone()).unwrap(),
                expected,
                "{source}"
            );
        }
    }

    #[test]
    fn the_template_may_refuse_a_conversation() {
        let error = render("{{ raise_exception('roles must alternate') }}", json!([])).unwrap_err();
        assert_eq!(error.causes(), ["roles must alternate"]);
        assert_eq!(error.places()[0].line, Some(1));
        let error = render("{% if %}", json!([])).unwrap_err();
        assert_eq!(error.message(), "chat template is not valid Jinja");
    }

    #[test]
    fn time_is_told_and_bad_formats_are_errors() {
        let year: i32 = render("{{ strftime_now('%Y') }}", json!([]))
            .unwrap()
            .parse()
            .unwrap();
        assert!(year > 2024);
        assert!(render("{{ strftime_now('%!') }}", json!([])).is_err());
    }

    #[test]
    fn the_first_file_that_has_a_template_wins() {
        let dir = tempfile::tempdir().unwrap();
        let source = || {
            let template = ChatTemplate::from_dir(dir.path())?;
            let name = template
                .path()
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            Ok::<_, Diagnostic>((name, template.render(&[], false)?))
        };
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert!(source().unwrap_err().message().contains("no chat template"));

        let named = r#"[{"name":"tool_use","template":"no"},{"name":"default","template":"in {{ pad_token }}"}]"#;
        write(
            "tokenizer_config.json",
            &format!(r#"{{"pad_token":{{"content":"P"}},"chat_template":{named}}}"#),
        );
        assert_eq!(
            source().unwrap(),
            ("tokenizer_config.json".into(), "in P".into())
        );
        write("chat_template.json", r#"{"chat_template":"json"}"#);
        assert_eq!(
            source().unwrap(),
            ("chat_template.json".into(), "json".into())
        );
        write("chat_template.jinja", "jinja\n");
        assert_eq!(
            source().unwrap(),
            ("chat_template.jinja".into(), "jinja".into())
        );
    }

    /// The committed templates; `VLFT_TEMPLATES` points at another folder with a `cases.jsonl`, for
    /// instance one with the published templates, which are not ours to copy.
    #[test]
    fn every_case_renders_as_in_transformers() {
        #[derive(serde::Deserialize)]
        struct Case {
            template: String,
            name: String,
            messages: serde_json::Value,
            kwargs: serde_json::Map<String, serde_json::Value>,
            expected: Option<String>,
            error: Option<String>,
        }
        let folder = std::env::var("VLFT_TEMPLATES").unwrap_or_else(|_| {
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../tests/fixtures/templates"
            )
            .into()
        });
        let folder = Path::new(&folder);
        let cases = fs::read_to_string(folder.join("cases.jsonl")).unwrap();
        let mut failures = Vec::new();
        for line in cases.lines() {
            let mut case: Case = serde_json::from_str(line).unwrap();
            let source = fs::read_to_string(folder.join(&case.template)).unwrap();
            let template =
                ChatTemplate::new(case.template.clone().into(), &source, Vec::new()).unwrap();
            let prompt = case
                .kwargs
                .remove("add_generation_prompt")
                .is_some_and(|v| v == true);
            let got = template.render_with(&case.messages, prompt, &case.kwargs);
            // Python cannot loop over None; MiniJinja takes it for empty. No record has such content.
            if case
                .error
                .as_deref()
                .is_some_and(|e| e.starts_with("TypeError: 'NoneType'"))
            {
                continue;
            }
            let agrees = match (&got, &case.expected, &case.error) {
                (Ok(text), Some(expected), None) => text == expected,
                (Err(error), None, Some(expected)) => {
                    *expected == format!("TemplateError: {}", error.causes().concat())
                }
                _ => false,
            };
            if !agrees {
                let want = case.expected.or(case.error);
                failures.push(format!(
                    "{}, {}:\n{want:?}\n{got:?}\n",
                    case.template, case.name
                ));
            }
        }
        assert!(
            failures.is_empty(),
            "{} cases:\n{}",
            failures.len(),
            failures.join("\n")
        );
        assert!(cases.lines().count() > 20);
    }
}
