//! The conversations of Qwen's own fine-tuning code (`qwen-vl-finetune/qwenvl/data/data_processor.py`):
//! `human` and `gpt` in turn, `<image>` in human texts, an array where several are packed together.
//! Its loader takes every other role for the assistant, so a system text stands in a key that it does
//! not read.

use serde_json::{Map, Value, json};
use vlft_dataset::record::Role;

use super::llama_factory::images;
use super::{carry, image_paths, trimmed, weight};
use crate::chat::{self, Extra, Open, Spelling};
use crate::fields::{Fallible, Object};
use crate::images::Paths;
use crate::rules::SYSTEM_IGNORED;
use crate::sample::{Loss, Sample};
use crate::tags::{self, Untold};

const ROLES: &[(&str, Role)] = &[("human", Role::User), ("gpt", Role::Assistant)];

pub(crate) fn read(value: Value) -> Fallible<Sample> {
    let mut row = Object::new(value, &[])?;
    row.refuse(&["video", "videos"])?;
    let mut sample = Sample::default();
    let path = row.path("conversations");
    let spelling = Spelling {
        role: "from",
        content: "value",
        roles: ROLES,
        tags: true,
        extra: Extra::Nothing,
    };
    let values = row.need_array("conversations")?;
    let mut open = chat::messages(values, &path, &spelling, &mut sample)?;
    // Only human texts are searched for tags there.
    open.iter_mut().for_each(Open::words_in_answers);
    if let Some(system) = row.text("system")? {
        open.insert(0, Open::says(Role::System, &system, false));
    }
    let mut listed = images(&mut row, "image")?;
    listed.extend(images(&mut row, "images")?);
    // Made by the packing tool from the lengths; of no use elsewhere.
    row.take("num_tokens");
    sample.turns = chat::close(open, listed, Untold::Refuse)?;
    row.besides(&mut sample);
    Ok(sample)
}

pub(crate) fn write(sample: &Sample, paths: &Paths, losses: &mut Vec<Loss>) -> Fallible<Value> {
    let mut row = Map::new();
    let images = image_paths(sample, paths)?;
    // The loader estimates lengths by whether the key is there.
    if !images.is_empty() {
        row.insert("image".into(), Value::Array(images));
    }
    let mut turns = Vec::new();
    for turn in sample.dialogue() {
        let from = match turn.role {
            Role::Assistant => "gpt",
            Role::User | Role::System => "human",
        };
        turns.push(json!({ "from": from, "value": tags::join(turn)? }));
    }
    row.insert("conversations".into(), Value::Array(turns));
    if let Some(system) = sample.system() {
        row.insert("system".into(), json!(system));
        losses.push(Loss {
            rule: SYSTEM_IGNORED,
            reason: "the system text is kept in `system`, which its trainer does not read".into(),
        });
    }
    carry(&mut row, sample);
    trimmed(sample, true, false, losses);
    weight(sample, losses);
    Ok(Value::Object(row))
}
