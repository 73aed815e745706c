//! The evaluations of a run: when there is one, and what it writes into the log.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::{Event, Observer, Trainer, is_due};
use crate::checkpoint::Progress;
use crate::dump;
use crate::eval::evaluate;
use crate::log::{EvalLine, Journal, Line};
use crate::stop::Stop;

impl Trainer<'_> {
    /// Whether the finished step number `step` is followed by an evaluation.
    pub(super) fn is_evaluated_after(&self, step: u64) -> bool {
        let due = is_due(step, self.config.eval.every_steps) || step == self.total_steps;
        due && step > 0 && self.val.is_some()
    }

    /// Loss on the validation set, answers to some of it, and whether it is the best so far.
    pub(super) fn evaluate(
        &self,
        progress: &Progress,
        journal: &mut Journal,
        observe: Observer,
        stop: &AtomicBool,
    ) -> Result<Option<(f64, bool)>, Stop> {
        let (Some(samples), asked) = (&self.val, &self.asked) else {
            return Ok(None);
        };
        let (start, step) = (Instant::now(), progress.step);
        let (model, adapters) = (&self.model, &progress.adapters);
        let (records, of) = (samples.len() as u64, (samples.len() + asked.len()) as u64);
        let evaluation = evaluate(model, adapters, samples, &self.workers, stop, |done| {
            observe(Event::Evaluating { done, of });
        });
        let evaluation = evaluation.map_err(Stop::Evaluation)?.ok_or(Stop::Signal)?;
        let answers = asked.answer(step, model, adapters, samples, stop, |done| {
            let done = records + done;
            observe(Event::Evaluating { done, of });
        });
        let answers = answers.map_err(Stop::Evaluation)?.ok_or(Stop::Signal)?;
        for sample in answers.samples {
            self.log(journal, Line::Sample(sample), observe)?;
        }
        let mut line = EvalLine {
            step,
            loss: evaluation.loss,
            records: evaluation.records,
            tokens: evaluation.tokens,
            seconds: start.elapsed().as_secs_f64(),
            best: false,
            field_accuracy: answers.score.and_then(|score| score.field_accuracy()),
            score: answers.score,
        };
        line.best = journal.best.see(&line);
        let (loss, best) = (line.loss, line.best);
        self.log(journal, Line::Eval(line), observe)?;
        if !loss.is_finite() {
            let rate = self.config.train.learning_rate;
            return Err(Stop::NotANumber(dump::no_eval_loss(step, loss, rate)));
        }
        Ok(Some((loss, best)))
    }
}
