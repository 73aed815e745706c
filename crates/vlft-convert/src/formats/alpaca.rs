//! LLaMA-Factory's `alpaca` formatting: instruction, input and output, with earlier turns in `history`.

use serde_json::{Map, Value, json};
use vlft_dataset::record::Role;

use super::llama_factory::images;
use super::{carry, image_paths, weight};
use crate::chat::{self, Open};
use crate::dataset_info::Entry;
use crate::fields::{Fallible, Object, below, text, wrong};
use crate::images::Paths;
use crate::rules::TURNS;
use crate::sample::{Loss, Refusal, Sample};
use crate::tags::{self, Untold};

pub(crate) fn read(value: Value, entry: Option<&Entry>) -> Fallible<Sample> {
    let standard = Entry::alpaca();
    let entry = entry.unwrap_or(&standard);
    let mut row = Object::new(value, &[])?;
    row.refuse(&entry.refused())?;
    let mut sample = Sample::default();
    let mut open = Vec::new();
    let system = match &entry.system {
        Some(key) => row.text(key)?,
        None => None,
    };
    if let Some(system) = system.filter(|text| !text.is_empty()) {
        open.push(Open::says(Role::System, &system, false));
    }
    if let Some(key) = &entry.history {
        let path = row.path(key);
        open.extend(history(row.take(key), &path)?);
    }
    // The loader joins the two with a line feed when both say something.
    let asked: Vec<String> = [&entry.prompt, &entry.query]
        .into_iter()
        .map(|key| row.text(key))
        .filter_map(|said| said.transpose())
        .collect::<Fallible<_>>()?;
    let asked: Vec<String> = asked.into_iter().filter(|said| !said.is_empty()).collect();
    open.push(Open::says(Role::User, &asked.join("\n"), true));
    open.push(Open::says(
        Role::Assistant,
        &row.need_text(&entry.response)?,
        true,
    ));
    let listed = images(&mut row, &entry.images)?;
    sample.turns = chat::close(open, listed, Untold::Refuse)?;
    row.besides(&mut sample);
    Ok(sample)
}

/// `[["question", "answer"], ..]`
pub(crate) fn history(
    value: Option<Value>,
    path: &[vlft_dataset::json::Step],
) -> Fallible<Vec<Open>> {
    let mut open = Vec::new();
    let Some(value) = value else {
        return Ok(open);
    };
    for (index, pair) in crate::fields::array(value, path)?.into_iter().enumerate() {
        let path = below(path, index);
        match pair {
            Value::Array(pair) if pair.len() == 2 => {
                for (index, said) in pair.into_iter().enumerate() {
                    let role = [Role::User, Role::Assistant][index];
                    let said = text(said, &below(&path, index))?;
                    open.push(Open::says(role, &said, true));
                }
            }
            other => return Err(wrong(&path, "a pair of question and answer", &other)),
        }
    }
    Ok(open)
}

pub(crate) fn write(sample: &Sample, paths: &Paths, losses: &mut Vec<Loss>) -> Fallible<Value> {
    let mut texts = Vec::new();
    for turn in sample.dialogue() {
        texts.push(tags::join(turn)?);
    }
    // The turns were checked: question and answer, and never none.
    let (Some(answer), Some(question)) = (texts.pop(), texts.pop()) else {
        return Err(Refusal::new(TURNS, "no question and answer"));
    };
    let history: Vec<&[String]> = texts.chunks(2).collect();
    let mut row = Map::new();
    row.insert("instruction".into(), json!(question));
    row.insert("input".into(), json!(""));
    row.insert("output".into(), json!(answer));
    // The loader asks every row for every column it was told of.
    row.insert("system".into(), json!(sample.system().unwrap_or_default()));
    row.insert("history".into(), json!(history));
    row.insert("images".into(), Value::Array(image_paths(sample, paths)?));
    carry(&mut row, sample);
    weight(sample, losses);
    Ok(Value::Object(row))
}
