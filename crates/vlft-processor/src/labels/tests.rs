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
