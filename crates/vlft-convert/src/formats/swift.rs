//! ms-swift: messages with `<image>` and a list of images, typed parts as in `OpenAI`'s messages, or
//! query and response. Images that no `<image>` asks for stand first in the first user turn
//! (`swift/llm/template` there adds the missing tags).

use serde_json::{Map, Value, json};
use vlft_dataset::record::Role;

use super::alpaca::history;
use super::llama_factory::images;
use super::{carry, weight};
use crate::chat::{self, Extra, Open, Spelling};
use crate::fields::{Fallible, Object};
use crate::images::Paths;
use crate::rules::MISSING_KEY;
use crate::sample::{Image, Loss, Refusal, Sample};
use crate::tags::{self, Untold};

const ROLES: &[(&str, Role)] = &[
    ("system", Role::System),
    ("user", Role::User),
    ("human", Role::User),
    ("assistant", Role::Assistant),
    ("gpt", Role::Assistant),
    ("bot", Role::Assistant),
];

/// What training there depends on.
const REFUSED: [&str; 8] = [
    "videos",
    "audios",
    "tools",
    "objects",
    "rejected_response",
    "rejected_messages",
    "rejected_images",
    "loss_scale",
];

pub(crate) fn read(value: Value) -> Fallible<Sample> {
    let mut row = Object::new(value, &[])?;
    row.refuse(&REFUSED)?;
    let mut sample = Sample::default();
    let system = match row.text("system")? {
        Some(system) => Some(system),
        None => row.text("system_prompt")?,
    };
    let mut open: Vec<Open> = system
        .filter(|text| !text.is_empty())
        .map(|text| Open::says(Role::System, &text, false))
        .into_iter()
        .collect();
    let messages = ["messages", "conversations", "conversation"];
    match messages.into_iter().find(|key| row.has(key)) {
        Some(key) => {
            let path = row.path(key);
            let values = row.need_array(key)?;
            let says = |key: &str| values.first().is_some_and(|first| first.get(key).is_some());
            let spelling = Spelling {
                role: if says("from") { "from" } else { "role" },
                content: if says("value") { "value" } else { "content" },
                roles: ROLES,
                tags: true,
                extra: Extra::Swift,
            };
            let read = chat::messages(values, &path, &spelling, &mut sample)?;
            let own = read.first().is_some_and(Open::is_system);
            if own {
                open.clear();
            }
            open.extend(read);
        }
        None => {
            let path = row.path("history");
            open.extend(history(row.take("history"), &path)?);
            let query = row.text("query")?.ok_or_else(|| {
                Refusal::new(MISSING_KEY, "there are neither `messages` nor `query`")
            })?;
            open.push(Open::says(Role::User, &query, true));
            let response = row.need_text("response")?;
            open.push(Open::says(Role::Assistant, &response, true));
        }
    }
    let mut listed = images(&mut row, "images")?;
    listed.extend(images(&mut row, "image")?);
    sample.turns = chat::close(open, listed, Untold::First)?;
    row.besides(&mut sample);
    Ok(sample)
}

pub(crate) fn write(sample: &Sample, paths: &Paths, losses: &mut Vec<Loss>) -> Fallible<Value> {
    let mut messages = Vec::with_capacity(sample.turns.len());
    for turn in &sample.turns {
        let content = tags::join(turn)?;
        messages.push(json!({ "role": turn.role.as_str(), "content": content }));
    }
    let mut listed = Vec::new();
    for image in sample.images() {
        listed.push(match image {
            // The one target that fetches by itself.
            Image::Url(address) => json!(address),
            image => json!(paths.path(image)?),
        });
    }
    let mut row = Map::new();
    row.insert("messages".into(), Value::Array(messages));
    row.insert("images".into(), Value::Array(listed));
    carry(&mut row, sample);
    weight(sample, losses);
    Ok(Value::Object(row))
}
