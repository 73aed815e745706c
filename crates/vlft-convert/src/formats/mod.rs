//! One file per format, reading above writing.

pub(crate) mod alpaca;
pub(crate) mod label_studio;
pub(crate) mod llama_factory;
pub(crate) mod olmocr;
pub(crate) mod openai;
pub(crate) mod parquet;
pub(crate) mod qwen;
pub(crate) mod swift;
pub(crate) mod vlft;

use serde_json::{Map, Value, json};

use crate::images::Paths;
use crate::rules::{TRIMMED, WEIGHT_IGNORED};
use crate::sample::{Image, Loss, Piece, Sample};

/// The id, and our `meta` as one text: the loaders of the other tools make tables of rows and refuse a
/// column whose values differ in type, which facts of records do. They read neither.
fn carry(object: &mut Map<String, Value>, sample: &Sample) {
    if let Some(id) = &sample.id {
        object.insert("id".to_owned(), json!(id));
    }
    if let Some(text) = meta_text(sample) {
        object.insert("meta".to_owned(), json!(text));
    }
}

fn meta_text(sample: &Sample) -> Option<String> {
    let meta = sample.meta.clone().filter(|meta| !meta.is_empty())?;
    Some(Value::Object(meta).to_string())
}

/// The images' paths in order.
fn image_paths(sample: &Sample, paths: &Paths) -> crate::fields::Fallible<Vec<Value>> {
    let path = |image: &Image| paths.path(image).map(Value::String);
    sample.images().map(path).collect()
}

/// No other format weighs whole records.
fn weight(sample: &Sample, losses: &mut Vec<Loss>) {
    let weight = sample.weight();
    if weight != 1.0 {
        losses.push(Loss {
            rule: WEIGHT_IGNORED,
            reason: format!("`meta.weight` is {weight}; there every record counts the same"),
        });
    }
}

/// Texts that the target's trainer would strip, if `user` and `answers` are stripped there.
fn trimmed(sample: &Sample, user: bool, answers: bool, losses: &mut Vec<Loss>) {
    use vlft_dataset::record::Role;
    let is_cut = |piece: &Piece| matches!(piece, Piece::Text(text) if text.trim() != text);
    let hit = sample.turns.iter().find(|turn| {
        let concerned = match turn.role {
            Role::User => user,
            Role::Assistant => answers,
            Role::System => false,
        };
        concerned && turn.content.iter().any(is_cut)
    });
    if let Some(turn) = hit {
        losses.push(Loss {
            rule: TRIMMED,
            reason: format!(
                "a text of the {} begins or ends in white space, which is cut there",
                turn.role.as_str()
            ),
        });
    }
}
