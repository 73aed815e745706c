//! An Embedding checkpoint: does each record's question lie nearest to its own answer, among all
//! answers of the file?
//!
//! Both are embedded as the code published with the checkpoints does it: an instruction as system
//! message, the content as the user's, the generation prompt, and the last token's final state scaled to
//! length 1. The question is a record's messages without the last answer; that answer is the document.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use vlft_base::{Diagnostic, Result, format};
use vlft_dataset::record::{Message, Part, Record, Role};
use vlft_model::{Adapters, Qwen3Vl};

use super::Event;
use crate::batch::{MicroBatch, Padding};
use crate::samples::Samples;

/// The instruction where a record has none.
const INSTRUCTION: &str = "Represent the user's input.";

/// What `vlft eval --task embedding` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retrieval {
    pub records: u64,
    /// Different answers.
    pub documents: u64,
    /// Numbers in an embedding.
    pub dimensions: u64,
    /// Share of the questions whose own document is the nearest.
    pub recall_at_1: f64,
    /// Share of the questions whose own document is among the ten nearest.
    pub recall_at_10: f64,
    /// Mean of 1 / rank of the own document.
    pub mean_reciprocal_rank: f64,
    /// Mean cosine of a question and its own document.
    pub mean_similarity: f64,
}

impl fmt::Display for Retrieval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = format::count(self.records, "question");
        let documents = format::count(self.documents, "document");
        write!(
            f,
            "{records}   {documents}   nearest is right {:.1} %   among ten {:.1} %   mean reciprocal rank {:.4}   similarity {:.4}",
            self.recall_at_1 * 100.0,
            self.recall_at_10 * 100.0,
            self.mean_reciprocal_rank,
            self.mean_similarity
        )
    }
}

pub(super) fn evaluate(
    model: &Qwen3Vl,
    adapters: &Adapters,
    samples: &Samples,
    observe: &mut dyn FnMut(Event),
) -> Result<Retrieval> {
    let mut documents: Vec<String> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut own = Vec::new();
    for index in 0..samples.len() {
        let document = last_answer(samples, index)?;
        let next = documents.len();
        let number = *numbers.entry(document.clone()).or_insert(next);
        if number == next {
            documents.push(document);
        }
        own.push(number);
    }
    let (mut done, of) = (0, (samples.len() + documents.len()) as u64);
    let mut embed = |record: &Record, at: usize| -> Result<Vec<f32>> {
        let prompt = samples.prompt_of(at, record)?;
        let row = MicroBatch::padded(&[prompt.sample], &[1.0], Padding::NONE);
        done += 1;
        observe(Event::Progress { done, of });
        Ok(model.embedding(&row.inputs, adapters))
    };
    let mut questions = Vec::new();
    for at in 0..samples.len() {
        let record = with_instruction(samples.record(at).record.clone());
        questions.push(embed(&record, at)?);
    }
    let mut of_documents = Vec::new();
    for (number, text) in documents.into_iter().enumerate() {
        let at = own.iter().position(|own| *own == number).unwrap_or(0);
        of_documents.push(embed(&document_record(samples.id(at), text), at)?);
    }
    Ok(score(&questions, &of_documents, &own))
}

/// `own`: the document of each question.
fn score(questions: &[Vec<f32>], documents: &[Vec<f32>], own: &[usize]) -> Retrieval {
    let cosine = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    let (mut first, mut ten, mut reciprocal, mut similarity) = (0u64, 0u64, 0.0, 0.0);
    for (question, own) in questions.iter().zip(own) {
        let right = cosine(question, &documents[*own]);
        // A document as near as the own one is in front of it: ties are no success.
        let nearer = documents
            .iter()
            .enumerate()
            .filter(|(number, document)| number != own && cosine(question, document) >= right);
        let rank = 1 + nearer.count();
        first += u64::from(rank == 1);
        ten += u64::from(rank <= 10);
        reciprocal += 1.0 / rank as f64;
        similarity += right;
    }
    let n = questions.len().max(1) as f64;
    Retrieval {
        records: questions.len() as u64,
        documents: documents.len() as u64,
        dimensions: questions.first().map_or(0, Vec::len) as u64,
        recall_at_1: first as f64 / n,
        recall_at_10: ten as f64 / n,
        mean_reciprocal_rank: reciprocal / n,
        mean_similarity: similarity / n,
    }
}

fn last_answer(samples: &Samples, index: usize) -> Result<String> {
    let numbered = samples.record(index);
    let last = numbered.record.messages.last();
    let answer = last.filter(|message| message.role == Role::Assistant);
    let text = answer.map(|answer| answer.text().into_owned());
    text.ok_or_else(|| {
        Diagnostic::error("record does not end with an answer")
            .at_line(samples.path(), numbered.line)
            .detail(format!("record `{}`", numbered.record.id))
            .expected("the document that belongs to the question as the last message")
    })
}

fn message(role: Role, text: &str) -> Message {
    Message {
        role,
        content: vec![Part::Text(text.to_string())],
    }
}

fn with_instruction(mut record: Record) -> Record {
    if record
        .messages
        .first()
        .is_none_or(|m| m.role != Role::System)
    {
        record
            .messages
            .insert(0, message(Role::System, INSTRUCTION));
    }
    record
}

fn document_record(id: &str, text: String) -> Record {
    Record {
        id: id.to_string(),
        messages: vec![
            message(Role::System, INSTRUCTION),
            message(Role::User, &text),
            message(Role::Assistant, ""),
        ],
        meta: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_counted_and_ties_are_no_success() {
        let questions = [vec![1.0, 0.0], vec![0.6, 0.8], vec![0.0, 1.0]];
        let documents = [vec![1.0, 0.0], vec![0.0, 1.0], vec![0.0, 1.0]];
        // The second asks for the first document, which is third from it.
        let found = score(&questions, &documents, &[0, 0, 1]);
        assert_eq!(
            (found.records, found.documents, found.dimensions),
            (3, 3, 2)
        );
        assert!((found.recall_at_1 - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.recall_at_10, 1.0);
        let expected = (1.0 + 1.0 / 3.0 + 0.5) / 3.0;
        assert!((found.mean_reciprocal_rank - expected).abs() < 1e-12);
        assert!((found.mean_similarity - (1.0 + 0.6 + 1.0) / 3.0).abs() < 1e-6);
    }
}
