//! A Reranker checkpoint: is `yes` likelier than `no` after the question, where the answer is `yes`?
//!
//! The score of a record is the sigmoid of the logit of `yes` less that of `no`, after the messages
//! before its answer and the generation prompt, as in the code published with the checkpoints.

use std::fmt;

use serde::Serialize;
use vlft_base::{Diagnostic, Result, format};
use vlft_dataset::record::Message;
use vlft_model::{Adapters, Qwen3Vl};

use super::Event;
use crate::batch::{MicroBatch, Padding};
use crate::samples::Samples;

/// What `vlft eval --task reranker` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reranking {
    pub records: u64,
    /// Records whose answer is `yes`.
    pub yes: u64,
    /// Share of the records whose likelier word is the answer.
    pub accuracy: f64,
    /// Mean negative log-likelihood of the answer among the two words, in nats.
    pub loss: f64,
    /// Share of the pairs of a `yes` and a `no` record in which the first scores higher, ties half; None
    /// if all records have the same answer.
    pub auc: Option<f64>,
}

impl fmt::Display for Reranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = format::count(self.records, "record");
        let (yes, no) = (self.yes, self.records - self.yes);
        write!(
            f,
            "{records}, {} yes and {} no   right {:.1} %   loss {:.4}",
            format::grouped(yes),
            format::grouped(no),
            self.accuracy * 100.0,
            self.loss
        )?;
        match self.auc {
            Some(auc) => write!(f, "   AUC {auc:.4}"),
            None => Ok(()),
        }
    }
}

pub(super) fn evaluate(
    model: &Qwen3Vl,
    adapters: &Adapters,
    samples: &Samples,
    observe: &mut dyn FnMut(Event),
) -> Result<Reranking> {
    let (yes, no) = (
        samples.processor().word("yes")?,
        samples.processor().word("no")?,
    );
    let answers = answers(samples)?;
    let mut logits = Vec::new();
    for index in 0..samples.len() {
        let prompt = samples.prompt(index)?;
        let row = MicroBatch::padded(&[prompt.sample], &[1.0], Padding::NONE);
        logits.push(f64::from(model.preference(&row.inputs, yes, no, adapters)));
        observe(Event::Progress {
            done: index as u64 + 1,
            of: samples.len() as u64,
        });
    }
    Ok(score(&answers, &logits))
}

/// Whether each record's answer is `yes`; everything else but `no` is told, all at once.
fn answers(samples: &Samples) -> Result<Vec<bool>> {
    let (mut answers, mut problems) = (Vec::new(), Vec::new());
    for index in 0..samples.len() {
        let numbered = samples.record(index);
        let text = numbered.record.messages.last().map(Message::text);
        match text.as_deref() {
            Some("yes") => answers.push(true),
            Some("no") => answers.push(false),
            other => problems.push(
                Diagnostic::error("the answer is neither `yes` nor `no`")
                    .at_line(samples.path(), numbered.line)
                    .detail(format!("record `{}`", numbered.record.id))
                    .expected("`yes` or `no`")
                    .found(format!("`{}`", other.unwrap_or_default())),
            ),
        }
    }
    Diagnostic::all(problems).map_or(Ok(answers), Err)
}

/// `logits`: of `yes` less that of `no`.
fn score(answers: &[bool], logits: &[f64]) -> Reranking {
    let both = || answers.iter().zip(logits);
    let right = both()
        .filter(|(yes, logit)| **yes == (**logit > 0.0))
        .count();
    // ln(1 + e^-x), which does not overflow.
    let nll = |x: f64| (-x.abs()).exp().ln_1p() + (-x).max(0.0);
    let loss: f64 = both()
        .map(|(yes, logit)| nll(if *yes { *logit } else { -logit }))
        .sum();
    let of = |wanted: bool| {
        let logits = both().filter(move |(yes, _)| **yes == wanted);
        logits.map(|(_, logit)| *logit).collect::<Vec<f64>>()
    };
    let (positive, negative) = (of(true), of(false));
    let n = answers.len().max(1) as f64;
    Reranking {
        records: answers.len() as u64,
        yes: positive.len() as u64,
        accuracy: right as f64 / n,
        loss: loss / n,
        auc: area(&positive, negative),
    }
}

/// By ranks: for each `yes`, how many `no` lie below it.
fn area(positive: &[f64], mut negative: Vec<f64>) -> Option<f64> {
    if positive.is_empty() || negative.is_empty() {
        return None;
    }
    negative.sort_unstable_by(f64::total_cmp);
    let below = positive.iter().map(|x| {
        let less = negative.partition_point(|y| y < x);
        let not_more = negative.partition_point(|y| y <= x);
        (less + not_more) as f64 / 2.0
    });
    Some(below.sum::<f64>() / (positive.len() * negative.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_a_few_records() {
        let found = score(&[true, true, false, false], &[2.0, -1.0, -3.0, -1.0]);
        assert_eq!((found.records, found.yes), (4, 2));
        assert_eq!(found.accuracy, 0.75);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let expected =
            -(sigmoid(2.0).ln() + sigmoid(-1.0).ln() + sigmoid(3.0).ln() + sigmoid(1.0).ln()) / 4.0;
        assert!((found.loss - expected).abs() < 1e-12);
        // 2 is above both, -1 above one and beside the other.
        assert_eq!(found.auc, Some(3.5 / 4.0));
        assert_eq!(score(&[true], &[1.0]).auc, None);
        assert!(score(&[true], &[-2000.0]).loss.is_finite());
    }
}
