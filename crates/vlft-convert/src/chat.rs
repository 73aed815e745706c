//! What the chat formats have in common: a list of messages with a role and a content, which is a text
//! or a list of typed parts.

use serde_json::Value;
use vlft_dataset::json::Step;
use vlft_dataset::record::Role;

use crate::fields::{Fallible, Object, below, text, wrong};
use crate::images;
use crate::rules::{
    IMAGE_DETAIL, TURN_TRAINED, TURN_WEIGHT, UNKNOWN_ROLE, UNSUPPORTED, WRONG_TYPE,
};
use crate::sample::{Image, Refusal, Sample, Turn};
use crate::tags::{IMAGE, Part, Untold, fill, split};

/// How a format spells its messages.
pub(crate) struct Spelling<'a> {
    pub(crate) role: &'a str,
    pub(crate) content: &'a str,
    /// Names of roles and what they are.
    pub(crate) roles: &'a [(&'a str, Role)],
    /// Whether `<image>` in a text is an image.
    pub(crate) tags: bool,
    /// Keys of a message that may be there.
    pub(crate) extra: Extra,
}

/// What a message may say besides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    /// ms-swift: `loss`, `loss_scale`.
    Swift,
    /// `OpenAI`: `weight`, `name`.
    OpenAi,
}

pub(crate) const OPENAI_ROLES: &[(&str, Role)] = &[
    ("system", Role::System),
    ("developer", Role::System),
    ("user", Role::User),
    ("assistant", Role::Assistant),
];

/// A message whose images are yet to be filled in.
pub(crate) struct Open {
    role: Role,
    parts: Vec<Part>,
}

impl Open {
    pub(crate) fn says(role: Role, said: &str, tags: bool) -> Self {
        let parts = match tags {
            true => split(said),
            false => vec![Part::Text(said.to_owned())],
        };
        Self { role, parts }
    }

    pub(crate) fn is_system(&self) -> bool {
        self.role == Role::System
    }

    /// Takes the tags of a turn that is not the user's for the words they are.
    pub(crate) fn words_in_answers(&mut self) {
        if self.role != Role::User {
            for part in &mut self.parts {
                if *part == Part::Next {
                    *part = Part::Text(IMAGE.to_owned());
                }
            }
        }
    }
}

/// Reads messages; what they lose goes to `sample`.
pub(crate) fn messages(
    values: Vec<Value>,
    path: &[Step],
    spelling: &Spelling<'_>,
    sample: &mut Sample,
) -> Fallible<Vec<Open>> {
    let mut open = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let path = below(path, index);
        let mut message = Object::new(value, &path)?;
        let name = message.need_text(spelling.role)?;
        let role = role_of(&name, spelling, &message.path(spelling.role))?;
        message.refuse(&["tool_calls", "function_call", "tools"])?;
        extras(&mut message, spelling.extra, index, sample)?;
        let place = message.path(spelling.content);
        let content = message.need(spelling.content)?;
        let parts = content_parts(content, &place, spelling.tags, sample)?;
        open.push(Open { role, parts });
        if let Some((key, _)) = message.rest().into_iter().next() {
            let reason = format!("a message has `{key}`, which records cannot say");
            return Err(Refusal::new(UNSUPPORTED, reason).at(&below(&path, key.as_str())));
        }
    }
    Ok(open)
}

fn role_of(name: &str, spelling: &Spelling<'_>, path: &[Step]) -> Fallible<Role> {
    let known = spelling.roles.iter().find(|(known, _)| *known == name);
    known.map(|(_, role)| *role).ok_or_else(|| {
        let names: Vec<&str> = spelling.roles.iter().map(|(name, _)| *name).collect();
        let reason = format!("role `{name}`; expected {}", vlft_base::one_of(names));
        Refusal::new(UNKNOWN_ROLE, reason).at(path)
    })
}

/// What a message says about its own training.
fn extras(message: &mut Object, extra: Extra, index: usize, sample: &mut Sample) -> Fallible<()> {
    let number = index + 1;
    let not_trained =
        format!("message {number} is not trained on there; records train on every answer");
    match extra {
        Extra::Nothing => {}
        Extra::Swift => {
            match message.take("loss") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => sample.lose(TURN_TRAINED, not_trained.as_str()),
                Some(other) => return Err(wrong(&message.path("loss"), "a boolean", &other)),
            }
            match message
                .take("loss_scale")
                .map(|scale| (scale.as_f64(), scale))
            {
                None => {}
                Some((Some(1.0), _)) => {}
                Some((Some(0.0), _)) => sample.lose(TURN_TRAINED, not_trained),
                Some((_, scale)) => sample.lose(
                    TURN_WEIGHT,
                    format!("message {number} has `loss_scale` {scale}"),
                ),
            }
        }
        Extra::OpenAi => {
            match message
                .take("weight")
                .map(|weight| (weight.as_f64(), weight))
            {
                None | Some((Some(1.0), _)) => {}
                Some((Some(0.0), _)) => sample.lose(TURN_TRAINED, not_trained),
                Some((_, weight)) => sample.lose(
                    TURN_WEIGHT,
                    format!("message {number} has `weight` {weight}"),
                ),
            }
            if let Some(name) = message.text("name")? {
                let reason = format!("message {number} names its speaker `{name}`");
                return Err(Refusal::new(UNSUPPORTED, reason).at(&message.path("name")));
            }
            message.refuse(&["refusal", "audio"])?;
        }
    }
    Ok(())
}

/// A text, or typed parts as in `OpenAI`'s, Hugging Face's and ms-swift's messages.
fn content_parts(
    content: Value,
    path: &[Step],
    tags: bool,
    sample: &mut Sample,
) -> Fallible<Vec<Part>> {
    let plain = |text: String| match tags {
        true => split(&text),
        false => vec![Part::Text(text)],
    };
    let values = match content {
        Value::String(text) => return Ok(plain(text)),
        Value::Array(values) => values,
        other => return Err(wrong(path, "a string or an array of parts", &other)),
    };
    let mut parts = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let path = below(path, index);
        if let Value::String(text) = value {
            parts.extend(plain(text));
            continue;
        }
        let mut part = Object::new(value, &path)?;
        match part.need_text("type")?.as_str() {
            "text" => parts.extend(plain(part.need_text("text")?)),
            "image_url" => parts.push(Part::Image(image_url(&mut part, sample)?)),
            "image" => parts.push(image_part(&mut part, &path)?),
            other => {
                let reason = format!("a part of type `{other}`; records have texts and images");
                return Err(Refusal::new(UNSUPPORTED, reason).at(&below(&path, "type")));
            }
        }
        for key in part.rest().keys() {
            sample.lose(IMAGE_DETAIL, format!("a part of a message has `{key}`"));
        }
    }
    Ok(parts)
}

/// `{"url": .., "detail": ..}`, or the address alone.
fn image_url(part: &mut Object, sample: &mut Sample) -> Fallible<Image> {
    let path = part.path("image_url");
    match part.need("image_url")? {
        Value::String(address) => images::from_address(&address, &path),
        Value::Object(map) => {
            let mut inner = Object::new(Value::Object(map), &path)?;
            let address = inner.need_text("url")?;
            if let Some(detail) = inner.text("detail")?
                && detail != "auto"
            {
                sample.lose(
                    IMAGE_DETAIL,
                    format!("an image asks for `detail` `{detail}`"),
                );
            }
            images::from_address(&address, &inner.path("url"))
        }
        other => Err(wrong(&path, "an address or an object with `url`", &other)),
    }
}

/// `{"type":"image","image":..}` with a path, a data URL or `{bytes, path}`; without anything it
/// stands for the next one of the list. Anthropic's `source` is read too.
fn image_part(part: &mut Object, path: &[Step]) -> Fallible<Part> {
    for key in ["image", "url", "path", "base64"] {
        let path = part.path(key);
        match part.take(key) {
            None => {}
            Some(Value::String(text)) if key == "base64" => {
                let image = images::from_base64(text.as_bytes(), None, &path)?;
                return Ok(Part::Image(image));
            }
            Some(Value::String(text)) => {
                return Ok(Part::Image(images::from_address(&text, &path)?));
            }
            Some(value) => return Ok(Part::Image(listed(value, &path)?)),
        }
    }
    let at = part.path("source");
    let Some(source) = part.take("source") else {
        return Ok(Part::Next);
    };
    let mut source = Object::new(source, &at)?;
    match source.need_text("type")?.as_str() {
        "base64" => {
            let data = source.need_text("data")?;
            let image = images::from_base64(data.as_bytes(), None, &source.path("data"))?;
            Ok(Part::Image(image))
        }
        "url" => {
            let address = source.need_text("url")?;
            let image = images::from_address(&address, &source.path("url"))?;
            Ok(Part::Image(image))
        }
        other => Err(Refusal::new(UNSUPPORTED, format!("an image from `{other}`")).at(path)),
    }
}

/// One of a list of images: a path, an address, a data URL, or `{"bytes": .., "path": ..}`.
pub(crate) fn listed(value: Value, path: &[Step]) -> Fallible<Image> {
    match value {
        Value::String(address) => images::from_address(&address, path),
        Value::Object(map) => {
            let mut object = Object::new(Value::Object(map), path)?;
            let name = object.text("path")?;
            let at = object.path("bytes");
            match object.take("bytes") {
                Some(bytes) => {
                    let encoded = text(bytes, &at)?;
                    images::from_base64(encoded.as_bytes(), name, &at)
                }
                None => match name.or(object.text("url")?) {
                    Some(address) => images::from_address(&address, path),
                    None => Err(Refusal::new(
                        WRONG_TYPE,
                        "an image with neither `bytes` nor `path`",
                    )
                    .at(path)),
                },
            }
        }
        other => Err(wrong(path, "a path or an object with `bytes`", &other)),
    }
}

/// Completes the messages with the listed images.
pub(crate) fn close(open: Vec<Open>, listed: Vec<Image>, untold: Untold) -> Fallible<Vec<Turn>> {
    let roles: Vec<Role> = open.iter().map(|turn| turn.role).collect();
    let parts = open
        .into_iter()
        .map(|turn| (turn.role == Role::User, turn.parts))
        .collect();
    let contents = fill(parts, listed, untold)?;
    Ok(roles
        .into_iter()
        .zip(contents)
        .map(|(role, content)| Turn { role, content })
        .collect())
}
