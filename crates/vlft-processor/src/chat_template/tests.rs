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
