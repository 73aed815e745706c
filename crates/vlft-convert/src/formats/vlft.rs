//! Our own records, with all the strictness of `vlft validate` about their shape.

use vlft_dataset::jsonl;
use vlft_dataset::problem::Problem;
use vlft_dataset::record::{Message, Part, Record};

use crate::fields::Fallible;
use crate::images::{self, Paths};
use crate::rules::BAD_JSON;
use crate::sample::{Piece, Refusal, Sample, Turn};

pub(crate) fn read(text: &str) -> Fallible<Sample> {
    let record = jsonl::parse(text, "", 1).map_err(|problems| refusal(&problems))?;
    let mut turns = Vec::with_capacity(record.messages.len());
    for message in record.messages {
        let mut content = Vec::with_capacity(message.content.len());
        for part in message.content {
            content.push(match part {
                Part::Text(text) => Piece::Text(text),
                Part::Image(path) => Piece::Image(images::from_address(&path, &[])?),
            });
        }
        turns.push(Turn::new(message.role, content));
    }
    Ok(Sample {
        id: Some(record.id),
        turns,
        meta: record.meta,
        losses: Vec::new(),
    })
}

fn refusal(problems: &[Problem]) -> Refusal {
    let Some(first) = problems.first() else {
        return Refusal::new(BAD_JSON, "not a record");
    };
    let mut reason = first.message.clone();
    if problems.len() > 1 {
        reason.push_str(&format!(" (and {} more)", problems.len() - 1));
    }
    let mut refusal = Refusal::new(first.rule.id(), reason);
    refusal.column = first.column;
    refusal
}

pub(crate) fn write(sample: &Sample, paths: &Paths) -> Fallible<String> {
    let mut messages = Vec::with_capacity(sample.turns.len());
    for turn in &sample.turns {
        let mut content = Vec::with_capacity(turn.content.len());
        for piece in &turn.content {
            content.push(match piece {
                Piece::Text(text) => Part::Text(text.clone()),
                Piece::Image(image) => Part::Image(paths.path(image)?),
            });
        }
        messages.push(Message {
            role: turn.role,
            content,
        });
    }
    let record = Record {
        id: sample.id.clone().unwrap_or_default(),
        messages,
        meta: sample.meta.clone(),
    };
    Ok(serde_json::to_string(&record).expect("records are JSON"))
}
