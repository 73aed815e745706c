use super::*;
use serde_json::json;

const PLAIN: &str = "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' }}{%- for part in m.content -%}{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part.text BODY }}{%- endif -%}{%- endfor -%}{{ '<|im_end|>\n' }}{%- endfor -%}";

fn template(body: &str) -> ChatTemplate {
    ChatTemplate::new("t.jinja".into(), &PLAIN.replace("BODY", body), Vec::new()).unwrap()
}

fn record(turns: &[(&str, &[&str])]) -> Record {
    let part = |text: &&str| match text.strip_prefix("image:") {
        Some(path) => json!({"type": "image", "image": path}),
        None => json!({"type": "text", "text": text}),
    };
    let message = |(role, parts): &(&str, &[&str])| json!({"role": role, "content": parts.iter().map(part).collect::<Vec<_>>()});
    let messages: Vec<_> = turns.iter().map(message).collect();
    serde_json::from_value(json!({"id": "r", "messages": messages})).unwrap()
}

fn trained(template: &ChatTemplate, record: &Record) -> Result<Vec<String>> {
    let conversation = render(template, record)?;
    Ok(conversation
        .trained
        .iter()
        .map(|range| conversation.text[range.clone()].to_owned())
        .collect())
}

#[test]
fn every_answer_and_its_end_is_trained_on_and_nothing_else() {
    let turns: &[(&str, &[&str])] = &[
        ("system", &["Answer as the assistant\n{\"a\":1} would."]),
        ("user", &["image:a.png", "{\"a\":1}"]),
        ("assistant", &["{\"a\":1}"]),
        ("user", &["Again: assistant\n\u{e000}0.0\u{e001}"]),
        ("assistant", &["{\"é\":", "\"你好\"}"]),
        ("user", &["?"]),
        ("assistant", &[]),
    ];
    assert_eq!(
        trained(&template(""), &record(turns)).unwrap(),
        [
            "{\"a\":1}<|im_end|>",
            "{\"é\":\"你好\"}<|im_end|>",
            "<|im_end|>"
        ]
    );
    assert!(
        trained(&template(""), &record(&turns[..2]))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn templates_that_do_something_to_answers_are_found_out() {
    let turns: &[(&str, &[&str])] = &[("user", &["?"]), ("assistant", &[" {\"a\":\"</think>\"}"])];
    for (body, answer, expected) in [
        (
            "| trim",
            " {}",
            "changes the answer in message 2 of record `r`",
        ),
        (".split('</think>')[-1]", "a</think>b", "changes the answer"),
        (".upper()", "{\"a\":1}", "changes the answer"),
        ("[0:1]", "{}", "leaves out or moves the answer"),
        ("~ '<|im_end|>' ~ part.text", "{}", "repeats the answer"),
        (
            "~ '!'",
            "{}",
            "does not write `<|im_end|>` right after the answer",
        ),
    ] {
        let record = record(&[turns[0], ("assistant", &[answer])]);
        let error = trained(&template(body), &record).unwrap_err();
        assert!(error.message().contains(expected), "{body}: {error}");
    }
    // Where it changes nothing in this answer, all is well.
    assert!(
        trained(
            &template("| trim"),
            &record(&[turns[0], ("assistant", &["{ }"])])
        )
        .is_ok()
    );
}

/// A template of the fixtures: `plain.jinja` knows nothing of reasoning, as those of Instruct models;
/// `tools.jinja` writes a block of it into the last turn, empty if there is none.
fn fixture(name: &str, generation_prompt: &str) -> ChatTemplate {
    let root = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/templates"
    );
    let source = std::fs::read_to_string(format!("{root}/{name}")).unwrap();
    let own = "{{- '<|im_start|>assistant\\n' }}";
    assert!(name == "plain.jinja" || source.contains(own));
    let source = source.replace(
        own,
        &own.replace("\\n'", &format!("\\n{generation_prompt}'")),
    );
    ChatTemplate::new(name.into(), &source, Vec::new()).unwrap()
}

#[test]
fn bare_answers_are_trained_with_instruct_and_thinking_templates() {
    let turns = record(&[
        ("user", &["2+2?"]),
        ("assistant", &["4"]),
        ("user", &["3+3?"]),
        ("assistant", &["6"]),
    ]);
    for name in ["tools.jinja", "plain.jinja"] {
        let template = fixture(name, "");
        let conversation = render(&template, &turns).unwrap();
        let thinks = name == "tools.jinja";
        assert_eq!(conversation.text.contains("<think>"), thinks, "{name}");
        let answers: Vec<&str> = (conversation.trained.iter())
            .map(|range| conversation.text[range.clone()].trim_end())
            .collect();
        match thinks {
            // The empty block is the template's own.
            true => assert_eq!(answers, ["4<|im_end|>", "6<|im_end|>"]),
            false => assert!(answers.concat().contains('6'), "{answers:?}"),
        }
    }
}

#[test]
fn reasoning_is_trained_from_where_the_generation_prompt_ends() {
    let answer = "<think>\nadd\n\nthem\n</think>\n\n{\"sum\":4}";
    let turns = record(&[("user", &["2+2?"]), ("assistant", &[answer])]);
    // The prompt leaves it to the model to open the block, or has opened it.
    let whole = format!("{answer}<|im_end|>");
    let rest = whole.strip_prefix("<think>\n").unwrap().to_string();
    for (prompt, expected) in [("", whole.clone()), ("<think>\\n", rest)] {
        let template = fixture("tools.jinja", prompt);
        assert_eq!(trained(&template, &turns).unwrap(), [expected], "{prompt}");
        let text = render(&template, &turns).unwrap().text;
        let mut asked = turns.clone();
        asked.messages.pop();
        let asked = render_prompt(&template, &asked).unwrap();
        assert!(text.starts_with(&asked), "{text} {asked}");
    }
    // A template that knows nothing of it shows it word for word.
    assert_eq!(trained(&template(""), &turns).unwrap(), [whole]);
}

#[test]
fn reasoning_that_a_template_would_drop_or_rewrite_is_told() {
    let thinking = fixture("tools.jinja", "");
    let thought = "<think>\nadd\n</think>\n\n4";
    let earlier = record(&[
        ("user", &["2+2?"]),
        ("assistant", &[thought]),
        ("user", &["3+3?"]),
        ("assistant", &["6"]),
    ]);
    let error = trained(&thinking, &earlier).unwrap_err();
    assert!(error.message().contains("leaves out"), "{error}");
    assert!(error.hint_text().unwrap().contains("last turn"), "{error}");
    for odd in [
        "<think>add</think>4",
        "4 <think>\nwhy\n</think>\n\n",
        "a</think>b",
    ] {
        let turns = record(&[("user", &["2+2?"]), ("assistant", &[odd])]);
        let error = trained(&thinking, &turns).unwrap_err();
        assert_eq!(
            error.rule(),
            Some("template-changes-answer"),
            "{odd}: {error}"
        );
        assert_eq!(trained(&template(""), &turns).unwrap().len(), 1, "{odd}");
    }
}

#[test]
fn structure_in_texts_is_refused() {
    let with = |role: &'static str, text: &str| {
        let mut turns = vec![("user", vec!["?"]), ("assistant", vec!["{}"])];
        turns.push((role, vec![text]));
        let turns: Vec<(&str, &[&str])> = turns.iter().map(|(r, t)| (*r, t.as_slice())).collect();
        trained(&template(""), &record(&turns))
    };
    for (role, text, rule) in [
        ("user", "a<|im_end|>b", "special-token"),
        ("user", "<|im_start|>assistant\n{}", "special-token"),
        ("system", "<|image_pad|>", "special-token"),
        ("assistant", "{\"a\":\"<|im_end|>\"}", "special-token"),
        ("assistant", "<|vision_start|>", "special-token"),
        ("assistant", "image:a.png", "image-role"),
    ] {
        let error = with(role, text).unwrap_err();
        assert_eq!(error.rule(), Some(rule));
        assert!(
            error.message().contains("message 3 of record `r`"),
            "{error}"
        );
    }
    assert!(
        with(
            "user",
            "<|im_end>, <|im_start |> and <|box_start|> are just text"
        )
        .is_ok()
    );
}

#[test]
fn a_template_without_placeholders_is_refused() {
    let template = ChatTemplate::new("t".into(), "{{ messages | length }}", Vec::new()).unwrap();
    let error = render(&template, &record(&[("user", &["image:a.png"])])).unwrap_err();
    assert!(
        error
            .message()
            .contains("0 image placeholders for the 1 image"),
        "{error}"
    );
}

#[test]
fn a_token_across_the_border_of_an_answer_is_refused() {
    let tokens = |spans: &[Range<usize>]| Encoded {
        ids: vec![0; spans.len()],
        spans: spans.to_vec(),
    };
    let record = record(&[]);
    let labels = |spans: &[Range<usize>]| trained_tokens(&tokens(spans), &[3..5, 7..9], &record);
    assert_eq!(
        labels(&[0..3, 3..4, 3..5, 5..7, 7..9, 9..10]).unwrap(),
        [false, true, true, false, true, false]
    );
    let error = labels(&[0..3, 3..5, 5..8, 8..9]).unwrap_err();
    assert_eq!(error.rule(), Some("answer-boundary"));
    assert!(labels(&[0..3, 3..6, 6..7, 7..9]).is_err());
}
