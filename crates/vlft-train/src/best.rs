//! Which evaluation is the best so far, and whether the run has stopped getting better. It is a
//! function of the evaluations in their order, so a resumed run finds it in its log.

use crate::config::{BestMetric, EvalConfig};
use crate::log::EvalLine;

#[derive(Clone, Debug)]
pub(crate) struct Best {
    metric: BestMetric,
    min_delta: f64,
    patience: u64,
    best: Option<Found>,
    /// What an improvement is measured from: the value of the last one.
    reference: Option<f64>,
    /// Evaluations since the last improvement.
    since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    step: u64,
    /// The higher the better.
    value: f64,
    loss: f64,
}

impl Best {
    pub(crate) fn new(config: &EvalConfig) -> Self {
        Self {
            metric: config.best_metric,
            min_delta: config.min_delta,
            patience: config.patience,
            best: None,
            reference: None,
            since: 0,
        }
    }

    /// Takes note of an evaluation, and says whether it is the best so far. What is no number is
    /// never the best. The best is any that is better, by however little; an improvement, for
    /// `patience`, is one by more than `min_delta`.
    pub(crate) fn see(&mut self, eval: &EvalLine) -> bool {
        let value = match self.metric {
            BestMetric::Loss => -eval.loss,
            BestMetric::FieldAccuracy => eval.field_accuracy.unwrap_or(f64::NAN),
        };
        let found = Found {
            step: eval.step,
            value,
            loss: eval.loss,
        };
        let improved = match self.reference {
            None => !value.is_nan(),
            Some(reference) => value > reference + self.min_delta,
        };
        if improved {
            self.reference = Some(value);
            self.since = 0;
        } else {
            self.since += 1;
        }
        let best = match self.best {
            None => !value.is_nan(),
            Some(best) => value > best.value || (value == best.value && eval.loss < best.loss),
        };
        if best {
            self.best = Some(found);
        }
        best
    }

    /// The step after which the best evaluation was made.
    pub(crate) fn step(&self) -> Option<u64> {
        self.best.map(|best| best.step)
    }

    /// Whether `patience` evaluations brought no improvement.
    pub(crate) fn is_given_up(&self) -> bool {
        self.patience > 0 && self.since >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(step: u64, loss: f64, field_accuracy: Option<f64>) -> EvalLine {
        EvalLine {
            step,
            loss,
            records: 1,
            tokens: 1,
            seconds: 0.0,
            best: false,
            field_accuracy,
            score: None,
        }
    }

    /// For each evaluation: whether it is the best, and whether the run is given up after it.
    fn follow(config: &EvalConfig, evals: &[(f64, Option<f64>)]) -> (Vec<(bool, bool)>, Best) {
        let mut best = Best::new(config);
        let seen = (1..)
            .zip(evals)
            .map(|(step, (loss, accuracy))| {
                (best.see(&eval(step, *loss, *accuracy)), best.is_given_up())
            })
            .collect();
        (seen, best)
    }

    #[test]
    fn the_lowest_loss_is_best_and_patience_counts_from_the_last_improvement() {
        let config = EvalConfig {
            patience: 2,
            ..EvalConfig::default()
        };
        let losses = [2.0, 1.0, 1.0, 0.9, 0.95, f64::NAN, 0.5].map(|loss| (loss, None));
        let (seen, best) = follow(&config, &losses);
        assert_eq!(
            seen,
            [
                (true, false),
                (true, false),
                (false, false),
                (true, false),
                (false, false),
                (false, true),
                (true, false),
            ]
        );
        assert_eq!(best.step(), Some(7));
    }

    #[test]
    fn small_steps_are_best_but_no_improvement_until_they_add_up() {
        let config = EvalConfig {
            patience: 2,
            min_delta: 0.1,
            ..EvalConfig::default()
        };
        let losses = [1.0, 0.95, 0.85, 0.8, 0.78].map(|loss| (loss, None));
        let (seen, best) = follow(&config, &losses);
        assert!(seen.iter().all(|(best, _)| *best));
        let given_up: Vec<bool> = seen.iter().map(|(_, given_up)| *given_up).collect();
        assert_eq!(given_up, [false, false, false, false, true]);
        assert_eq!(best.step(), Some(5));
    }

    #[test]
    fn equal_accuracies_are_told_apart_by_their_loss() {
        let config = EvalConfig {
            best_metric: BestMetric::FieldAccuracy,
            generate_records: 1,
            ..EvalConfig::default()
        };
        let evals = [
            (f64::NAN, None),
            (2.0, Some(0.0)),
            (1.0, Some(0.0)),
            (0.5, Some(0.4)),
            (0.2, Some(0.3)),
        ];
        let (seen, best) = follow(&config, &evals);
        let seen: Vec<bool> = seen.iter().map(|(best, _)| *best).collect();
        assert_eq!(seen, [false, true, true, true, false]);
        assert_eq!(best.step(), Some(4));
        // Without `patience` nothing is ever given up.
        assert!(!best.is_given_up());
    }
}
