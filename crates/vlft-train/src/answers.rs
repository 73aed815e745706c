//! What the model answers to some records of the validation set at each evaluation: a few of them to
//! be read by people, all of them scored field by field.

use std::sync::atomic::AtomicBool;

use vlft_base::Result;
use vlft_dataset::score::{Score, score};
use vlft_model::{Adapters, Qwen3Vl};

use crate::config::Config;
use crate::generate::{End, greedy};
use crate::log::SampleLine;
use crate::order::permutation;
use crate::samples::Samples;

/// Which records are answered; the same ones at every evaluation.
pub(crate) struct Asked {
    /// Those to be shown come first.
    records: Vec<usize>,
    shown: usize,
    max_new_tokens: usize,
}

/// The answers of one evaluation.
pub(crate) struct Answers {
    /// Of the records to be shown.
    pub(crate) samples: Vec<SampleLine>,
    /// Of all of them together; None if no record is answered.
    pub(crate) score: Option<Score>,
}

impl Asked {
    /// A choice that depends on the seed and the number of records in the validation set alone.
    /// Asking for more records adds to it.
    pub(crate) fn new(config: &Config, val_records: usize) -> Self {
        let records = config.eval.answers().min(val_records);
        let order = permutation(val_records as u64, config.train.seed, 0);
        Self {
            records: order.iter().take(records).map(|i| *i as usize).collect(),
            shown: config.eval.samples.min(records),
            max_new_tokens: config.eval.max_new_tokens,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Answers after `step` finished steps. `progress` is told how many are done. None: `stop` was
    /// raised before all were.
    pub(crate) fn answer(
        &self,
        step: u64,
        model: &Qwen3Vl,
        adapters: &Adapters,
        val: &Samples,
        stop: &AtomicBool,
        mut progress: impl FnMut(u64),
    ) -> Result<Option<Answers>> {
        let mut samples = Vec::new();
        let mut total = None;
        for (at, record) in self.records.iter().enumerate() {
            let prompt = val.prompt(*record)?;
            let end = End {
                tokens: val.processor().stop_tokens(),
                max_new_tokens: self.max_new_tokens,
                stop,
            };
            let Some(answer) = greedy(model, adapters, &prompt.sample, &end) else {
                return Ok(None);
            };
            let text = val.processor().decode(&answer.ids)?;
            let score = score(&prompt.target, &text);
            *total.get_or_insert_with(Score::default) += score;
            if at < self.shown {
                samples.push(SampleLine {
                    step,
                    id: prompt.sample.id,
                    target: prompt.target,
                    answer: text,
                    tokens: answer.ids.len() as u64,
                    ended: answer.stopped,
                    score,
                });
            }
            progress(at as u64 + 1);
        }
        Ok(Some(Answers {
            samples,
            score: total,
        }))
    }
}
