//! LLaMA-Factory's `sharegpt` formatting: messages with `<image>` in their texts, and a list of
//! images. Which columns and roles a file uses is said in `dataset_info.json`
//! (`src/llamafactory/data/parser.py` and `converter.py` there).

use serde_json::{Value, json};
use vlft_dataset::record::Role;

use super::{carry, image_paths, weight};
use crate::chat::{self, Extra, Open, Spelling};
use crate::dataset_info::Entry;
use crate::fields::{Fallible, Object};
use crate::images::Paths;
use crate::sample::{Loss, Sample};
use crate::tags::{self, Untold};

pub(crate) fn read(value: Value, entry: Option<&Entry>) -> Fallible<Sample> {
    let mut row = Object::new(value, &[])?;
    let guessed;
    let entry = match entry {
        Some(entry) => entry,
        None => {
            guessed = match row.has("messages") {
                true => Entry::messages(),
                false => Entry::sharegpt(),
            };
            &guessed
        }
    };
    row.refuse(&entry.refused())?;
    let mut sample = Sample::default();
    let path = row.path(&entry.messages);
    let roles = entry.roles();
    let spelling = Spelling {
        role: &entry.role_tag,
        content: &entry.content_tag,
        roles: &roles,
        tags: true,
        extra: Extra::Nothing,
    };
    let values = row.need_array(&entry.messages)?;
    let mut open = chat::messages(values, &path, &spelling, &mut sample)?;
    // The system turn may be a column of its own; an empty one is none there.
    if let Some(key) = &entry.system
        && let Some(system) = row.text(key)?.filter(|text| !text.is_empty())
        && !open.first().is_some_and(Open::is_system)
    {
        open.insert(0, Open::says(Role::System, &system, false));
    }
    let images = images(&mut row, &entry.images)?;
    sample.turns = chat::close(open, images, Untold::Refuse)?;
    row.besides(&mut sample);
    Ok(sample)
}

/// A list of images, or one.
pub(crate) fn images(row: &mut Object, key: &str) -> Fallible<Vec<crate::sample::Image>> {
    let path = row.path(key);
    row.one_or_many(key)
        .into_iter()
        .map(|value| chat::listed(value, &path))
        .collect()
}

pub(crate) fn write(sample: &Sample, paths: &Paths, losses: &mut Vec<Loss>) -> Fallible<Value> {
    let mut messages = Vec::with_capacity(sample.turns.len());
    for turn in &sample.turns {
        let content = tags::join(turn)?;
        messages.push(json!({ "role": turn.role.as_str(), "content": content }));
    }
    let mut row = serde_json::Map::new();
    row.insert("messages".into(), Value::Array(messages));
    // Always there, because the loader asks every row for every column it was told of.
    row.insert("images".into(), Value::Array(image_paths(sample, paths)?));
    carry(&mut row, sample);
    weight(sample, losses);
    Ok(Value::Object(row))
}
