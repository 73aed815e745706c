//! What a record must be that needs no file beside it: its keys and types ([`check_shape`]), its id,
//! its turns, its texts ([`check`]).

use serde_json::{Map, Value};
use vlft_base::{did_you_mean, one_of};

use crate::json::{Step, kind};
use crate::problem::Finding;
use crate::record::{Message, Part, Record, Role};
use crate::rules::Rule;

/// Everything that keeps a JSON value from being a [`Record`]. Empty for a value that is one.
pub(crate) fn check_shape(value: &Value) -> Vec<Finding> {
    let mut shape = Shape {
        findings: Vec::new(),
        path: Vec::new(),
    };
    shape.record(value);
    shape.findings
}

/// The id must not be empty. That it is unique is for whoever sees the whole file.
pub fn check_id(record: &Record) -> Option<Finding> {
    record.id.trim().is_empty().then(|| {
        Finding::new(Rule::EmptyId, ["id".into()], "the id is empty")
            .hint("give every record its own id; predictions and errors are named by it")
    })
}

/// Whether the record can be trained on, as far as can be seen without its images: turns in order,
/// answers that say something, images only in user turns, texts without control tokens.
pub fn check(record: &Record) -> Vec<Finding> {
    let mut findings = check_turns(&record.messages);
    if let Some(control) = record.id.chars().find(|c| c.is_control()) {
        let what = format!(
            "the id contains the control character U+{:04X}",
            control as u32
        );
        findings.push(Finding::new(Rule::ControlCharacter, ["id".into()], what));
    }
    for (index, message) in record.messages.iter().enumerate() {
        findings.extend(check_message(index, message));
    }
    findings.extend(record.meta.as_ref().map(check_meta).unwrap_or_default());
    findings
}

fn check_turns(messages: &[Message]) -> Vec<Finding> {
    let at = |rule, path: Vec<Step>, message: String| Finding::new(rule, path, message);
    if messages.is_empty() {
        return vec![at(
            Rule::EmptyMessages,
            vec!["messages".into()],
            "the record has no messages".into(),
        )];
    }
    let mut findings = Vec::new();
    let mut expected = &[Role::System, Role::User][..];
    for (index, message) in messages.iter().enumerate() {
        if !expected.contains(&message.role) {
            let before = match index {
                0 => "first".to_owned(),
                _ => format!("after `{}`", messages[index - 1].role.as_str()),
            };
            let wanted: Vec<_> = expected
                .iter()
                .map(|r| format!("`{}`", r.as_str()))
                .collect();
            findings.push(at(
                Rule::RoleOrder,
                vec!["messages".into(), index.into(), "role".into()],
                format!(
                    "message {} is `{}` {before}; expected {}",
                    index + 1,
                    message.role.as_str(),
                    wanted.join(" or ")
                ),
            ));
        }
        expected = match message.role {
            Role::System | Role::Assistant => &[Role::User],
            Role::User => &[Role::Assistant],
        };
    }
    if !messages.iter().any(|m| m.role == Role::Assistant) {
        findings.push(
            at(
                Rule::NoAssistant,
                vec!["messages".into()],
                "no turn of the assistant".into(),
            )
            .hint("the assistant's turn holds the target; without it there is nothing to learn"),
        );
    } else if messages.last().is_some_and(|m| m.role != Role::Assistant) {
        let last = messages.len() - 1;
        findings.push(at(
            Rule::LastTurn,
            vec!["messages".into(), last.into(), "role".into()],
            format!(
                "the last turn is `{}`; expected `assistant`",
                messages[last].role.as_str()
            ),
        ));
    }
    findings
}

fn check_message(index: usize, message: &Message) -> Vec<Finding> {
    let content = || vec![Step::from("messages"), index.into(), "content".into()];
    let mut findings = Vec::new();
    if message.content.is_empty() {
        let text = format!("message {} has no content", index + 1);
        findings.push(Finding::new(Rule::EmptyContent, content(), text));
    } else if message.role == Role::Assistant && message.text().trim().is_empty() {
        let text = format!("the answer in message {} is empty", index + 1);
        findings.push(Finding::new(Rule::EmptyTarget, content(), text));
    }
    for (number, part) in message.content.iter().enumerate() {
        let value = |key: &str| [content(), vec![number.into(), key.into()]].concat();
        match part {
            Part::Image(path) => {
                if message.role != Role::User {
                    findings.push(
                        Finding::new(
                            Rule::ImageRole,
                            value("image"),
                            format!("image `{path}` in a turn of the {}", message.role.as_str()),
                        )
                        .hint(
                            "images belong in user turns; elsewhere the chat template drops them",
                        ),
                    );
                }
            }
            Part::Text(text) => findings.extend(check_text(text, || value("text"))),
        }
    }
    findings
}

fn check_text(text: &str, path: impl Fn() -> Vec<Step>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(token) = special_token(text) {
        findings.push(
            Finding::new(
                Rule::SpecialToken,
                path(),
                format!(
                    "the text contains `{token}`, which the tokenizer reads as a control token"
                ),
            )
            .hint("remove it, or write it otherwise; the chat template adds the real ones"),
        );
    }
    if let Some(control) = control_character(text) {
        findings.push(Finding::new(
            Rule::ControlCharacter,
            path(),
            format!(
                "the text contains the control character U+{:04X}",
                control as u32
            ),
        ));
    }
    if text.contains('\u{FFFD}') {
        findings.push(
            Finding::new(
                Rule::ReplacementCharacter,
                path(),
                "the text contains U+FFFD: it was decoded in the wrong encoding once",
            )
            .hint("export it again as UTF-8"),
        );
    }
    findings
}

/// The first character that no text has.
fn control_character(text: &str) -> Option<char> {
    // Bytes are looked at first, many at once: these characters are those below U+0020, U+007F, and
    // U+0080 to U+009F, which begin with 0xC2.
    const AT_ONCE: usize = 64;
    let may_be = |byte: u8| byte == 0x7f || byte == 0xc2 || byte < 0x20 && !is_space(byte);
    let mut pieces = text.as_bytes().chunks(AT_ONCE);
    let piece =
        pieces.position(|piece| piece.iter().fold(false, |any, byte| any | may_be(*byte)))?;
    let within = text.bytes().skip(piece * AT_ONCE).position(may_be)?;
    let mut rest = text[piece * AT_ONCE + within..].chars();
    rest.find(|c| c.is_control() && !"\n\r\t".contains(*c))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | b'\t')
}

/// The first text that holds one of a tokenizer's own control tokens.
pub(crate) fn check_control_tokens(record: &Record, tokens: &[String]) -> Option<Finding> {
    let mut parts = record.messages.iter().enumerate().flat_map(|(m, message)| {
        let parts = message.content.iter().enumerate();
        parts.map(move |(p, part)| (m, p, part))
    });
    parts.find_map(|(m, p, part)| {
        let Part::Text(text) = part else { return None };
        let token = tokens.iter().find(|token| text.contains(token.as_str()))?;
        let path: [Step; 5] = [
            "messages".into(),
            m.into(),
            "content".into(),
            p.into(),
            "text".into(),
        ];
        let message = format!(
            "the text contains `{token}`, which the model's tokenizer reads as a control token"
        );
        Some(
            Finding::new(Rule::SpecialToken, path, message)
                .hint("remove it, or write it otherwise; the chat template adds the real ones"),
        )
    })
}

/// Qwen's control tokens, without `<|` and `|>` (the special ones among `added_tokens` of Qwen3-VL's
/// tokenizer.json). What another tokenizer has besides is found by `validate --model`.
const SPECIAL_TOKENS: [&str; 14] = [
    "endoftext",
    "im_start",
    "im_end",
    "object_ref_start",
    "object_ref_end",
    "box_start",
    "box_end",
    "quad_start",
    "quad_end",
    "vision_start",
    "vision_end",
    "vision_pad",
    "image_pad",
    "video_pad",
];

/// The first control token in a text.
fn special_token(text: &str) -> Option<&str> {
    let mut rest = &text[memchr::memchr(b'<', text.as_bytes())?..];
    while let Some(start) = rest.find("<|") {
        let inside = &rest[start + 2..];
        if let Some((name, _)) = inside.split_once("|>")
            && SPECIAL_TOKENS.contains(&name)
        {
            return Some(&rest[start..start + name.len() + 4]);
        }
        rest = inside;
    }
    None
}

/// The known keys of `meta` must be usable where the program reads them. Other keys are free.
fn check_meta(meta: &Map<String, Value>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, value) in meta {
        let expected = match key.as_str() {
            "document" | "doc_type" | "source_sha256" if !value.is_string() => "a string",
            "weight" if !value.as_f64().is_some_and(is_weight) => "0, or 0.000001 to 1000000",
            "pages" if !is_page_list(value) => "an array of page numbers, such as `[1, 2]`",
            _ => continue,
        };
        findings.push(Finding::new(
            Rule::MetaValue,
            ["meta".into(), key.as_str().into()],
            format!("`meta.{key}` must be {expected}, found {}", kind(value)),
        ));
    }
    findings
}

/// 0 leaves the record out of training. The limits keep products with gradients within f32.
fn is_weight(weight: f64) -> bool {
    weight == 0.0 || (1e-6..=1e6).contains(&weight)
}

fn is_page_list(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|pages| pages.iter().all(|p| p.as_u64().is_some_and(|p| p > 0)))
}

/// Walks a JSON value beside the format and notes each difference.
struct Shape {
    findings: Vec<Finding>,
    path: Vec<Step>,
}

impl Shape {
    fn record(&mut self, value: &Value) {
        let Some(object) = self.object(value) else {
            return;
        };
        self.keys(object, &["id", "messages"], &["meta"]);
        self.at("id", object.get("id"), |shape, id| shape.string(id));
        self.at("messages", object.get("messages"), |shape, messages| {
            shape.each(messages, Shape::message);
        });
        self.at("meta", object.get("meta"), |shape, meta| {
            if !meta.is_null() {
                shape.object(meta);
            }
        });
    }

    fn message(&mut self, value: &Value) {
        let Some(object) = self.object(value) else {
            return;
        };
        self.keys(object, &["role", "content"], &[]);
        self.at("role", object.get("role"), |shape, role| {
            shape.one_of(role, &["system", "user", "assistant"]);
        });
        self.at("content", object.get("content"), |shape, content| {
            if content.is_string() {
                shape.note(
                    Rule::WrongType,
                    "expected an array of parts, found a string",
                );
                shape.hint(r#"write `[{"type":"text","text":".."}]`"#);
            } else {
                shape.each(content, Shape::part);
            }
        });
    }

    fn part(&mut self, value: &Value) {
        let Some(object) = self.object(value) else {
            return;
        };
        match object.get("type").and_then(Value::as_str) {
            Some(own @ ("image" | "text")) => {
                self.keys(object, &["type", own], &[]);
                self.at(own, object.get(own), |shape, value| shape.string(value));
            }
            _ => {
                self.keys(object, &["type"], &["image", "text"]);
                self.at("type", object.get("type"), |shape, kind| {
                    shape.one_of(kind, &["image", "text"]);
                });
            }
        }
    }

    fn note(&mut self, rule: Rule, message: impl Into<String>) {
        self.findings
            .push(Finding::new(rule, self.path.clone(), message));
    }

    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.findings.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    fn at(
        &mut self,
        step: impl Into<Step>,
        value: Option<&Value>,
        look: impl FnOnce(&mut Self, &Value),
    ) {
        if let Some(value) = value {
            self.path.push(step.into());
            look(self, value);
            self.path.pop();
        }
    }

    fn each(&mut self, value: &Value, look: impl Fn(&mut Self, &Value)) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(index, Some(item), &look);
                }
            }
            other => self.note(
                Rule::WrongType,
                format!("expected an array, found {}", kind(other)),
            ),
        }
    }

    fn object<'a>(&mut self, value: &'a Value) -> Option<&'a Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.note(
                Rule::WrongType,
                format!("expected an object, found {}", kind(value)),
            );
        }
        object
    }

    fn string(&mut self, value: &Value) {
        if !value.is_string() {
            self.note(
                Rule::WrongType,
                format!("expected a string, found {}", kind(value)),
            );
        }
    }

    fn one_of(&mut self, value: &Value, known: &[&str]) {
        match value.as_str() {
            Some(word) if known.contains(&word) => {}
            Some(word) => {
                self.note(
                    Rule::WrongType,
                    format!("expected {}, found `{word}`", one_of(known.iter().copied())),
                );
                let near = match word {
                    "human" => Some("user"),
                    "gpt" | "bot" | "model" => Some("assistant"),
                    "image_url" => Some("image"),
                    _ => did_you_mean(word, known.iter().copied()),
                };
                if let Some(near) = near {
                    self.hint(format!("did you mean `{near}`?"));
                }
            }
            None => self.string(value),
        }
    }

    fn keys(&mut self, object: &Map<String, Value>, required: &[&str], optional: &[&str]) {
        for key in required {
            if !object.contains_key(*key) {
                self.note(Rule::MissingKey, format!("the key `{key}` is missing"));
            }
        }
        let known = || required.iter().chain(optional).copied();
        for (key, value) in object {
            if known().any(|k| k == key) {
                continue;
            }
            self.at(key.as_str(), Some(value), |shape, _| {
                shape.note(
                    Rule::UnknownKey,
                    format!("unknown key `{key}`, expected {}", one_of(known())),
                );
                if let Some(near) = did_you_mean(key, known()) {
                    shape.hint(format!("did you mean `{near}`?"));
                } else if shape.path.len() == 1 {
                    shape.hint("facts about a record go into `meta`");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn shape(text: &str) -> Vec<String> {
        check_shape(&json::parse(text).unwrap())
            .into_iter()
            .map(|f| format!("{}: {}", f.rule.id(), f.message))
            .collect()
    }

    #[test]
    fn every_fault_of_a_shape_is_named() {
        let text = r#"{"idd":1,"messages":[{"role":"human","content":"hi"},{"role":"user","content":[{"type":"image","text":"x"},{"type":"video"},5]}],"meta":[]}"#;
        assert_eq!(
            shape(text),
            [
                "missing-key: the key `id` is missing",
                "unknown-key: unknown key `idd`, expected one of `id`, `messages`, `meta`",
                "wrong-type: expected one of `system`, `user`, `assistant`, found `human`",
                "wrong-type: expected an array of parts, found a string",
                "missing-key: the key `image` is missing",
                "unknown-key: unknown key `text`, expected one of `type`, `image`",
                "wrong-type: expected one of `image`, `text`, found `video`",
                "wrong-type: expected an object, found an integer",
                "wrong-type: expected an object, found an array",
            ]
        );
        assert!(shape(r#"{"id":"a","messages":[],"meta":null}"#).is_empty());
    }

    fn rules(messages: &str) -> Vec<String> {
        let text = format!(r#"{{"id":"a","messages":{messages},"meta":{{"weight":0}}}}"#);
        let record: Record = serde_json::from_str(&text).unwrap();
        check(&record)
            .into_iter()
            .map(|f| format!("{} {}", f.rule.id(), f.message))
            .filter(|f| !f.starts_with("meta-value"))
            .collect()
    }

    #[test]
    fn turns_come_in_order_and_end_with_an_answer() {
        let turn =
            |role: &str| format!(r#"{{"role":"{role}","content":[{{"type":"text","text":"x"}}]}}"#);
        for (roles, expected) in [
            ("user assistant", &[][..]),
            ("system user assistant user assistant", &[]),
            ("", &["empty-messages the record has no messages"]),
            ("user", &["no-assistant no turn of the assistant"]),
            (
                "user assistant user",
                &["last-turn the last turn is `user`; expected `assistant`"],
            ),
            (
                "assistant",
                &["role-order message 1 is `assistant` first; expected `system` or `user`"],
            ),
            (
                "user user assistant",
                &["role-order message 2 is `user` after `user`; expected `assistant`"],
            ),
            (
                "user system assistant",
                &[
                    "role-order message 2 is `system` after `user`; expected `assistant`",
                    "role-order message 3 is `assistant` after `system`; expected `user`",
                ],
            ),
        ] {
            let turns: Vec<String> = roles.split_whitespace().map(turn).collect();
            assert_eq!(
                rules(&format!("[{}]", turns.join(","))),
                expected,
                "{roles}"
            );
        }
    }

    #[test]
    fn contents_say_something_and_hold_no_control_tokens() {
        let user = r#"{"role":"user","content":[{"type":"text","text":"a <|x|> b |>"}]}"#;
        for (assistant, expected) in [
            (r#"[]"#, "empty-content message 2 has no content"),
            (
                r#"[{"type":"text","text":" \n"}]"#,
                "empty-target the answer in message 2 is empty",
            ),
            (
                r#"[{"type":"text","text":"{}"},{"type":"image","image":"p.png"}]"#,
                "image-role image `p.png` in a turn of the assistant",
            ),
            (
                r#"[{"type":"text","text":"<|<|im_end|>"}]"#,
                "special-token the text contains `<|im_end|>`, which the tokenizer reads as a control token",
            ),
            (
                r#"[{"type":"text","text":"a\u0000"}]"#,
                "control-character the text contains the control character U+0000",
            ),
            (
                r#"[{"type":"text","text":"caf\ufffd"}]"#,
                "replacement-character the text contains U+FFFD: it was decoded in the wrong encoding once",
            ),
        ] {
            let messages = format!(r#"[{user},{{"role":"assistant","content":{assistant}}}]"#);
            assert_eq!(rules(&messages), [expected]);
        }
    }

    #[test]
    fn an_id_is_of_one_line() {
        let line = r#"{"id":"a\u001b[31m","messages":[{"role":"user","content":[{"type":"text","text":"q"}]},{"role":"assistant","content":[{"type":"text","text":"a"}]}]}"#;
        let record = crate::jsonl::parse(line, "f", 1).unwrap();
        let found = check(&record);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rule, Rule::ControlCharacter);
    }

    #[test]
    fn known_keys_of_meta_have_their_types() {
        let meta = |text: &str| check_meta(json::parse(text).unwrap().as_object().unwrap()).len();
        assert_eq!(
            meta(r#"{"document":"d","pages":[1,2],"weight":0.5,"own":{"x":1}}"#),
            0
        );
        for (weight, problems) in [("0", 0), ("1e6", 0), ("1e-6", 0), ("1e7", 1), ("1e-300", 1)] {
            assert_eq!(
                meta(&format!(r#"{{"weight":{weight}}}"#)),
                problems,
                "{weight}"
            );
        }
        assert_eq!(
            meta(r#"{"document":7,"pages":[0],"weight":-1,"doc_type":null}"#),
            4
        );
    }
}
