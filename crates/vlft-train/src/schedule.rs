//! The learning rate of a step. Steps are 0-based here, so with a warm-up the first one runs at 0:
//! that is what transformers does, and the reference curves show it.

use std::f64::consts::PI;

use crate::config::{Schedule, TrainConfig};

/// The learning rate of step `step0` (0-based) of `total_steps`. The warm-up is the same straight
/// line for every schedule; transformers calls ours `constant` `constant_with_warmup`.
///
/// Written in the order of transformers/optimization.py, so that it is equal to the last bit.
pub fn learning_rate(config: &TrainConfig, step0: u64, total_steps: u64) -> f64 {
    let (step, warmup, total) = (step0 as f64, config.warmup_steps as f64, total_steps as f64);
    if step0 < config.warmup_steps {
        return config.learning_rate * (step / warmup);
    }
    let decaying = (total - warmup).max(1.0);
    let factor = match config.schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => ((total - step) / decaying).max(0.0),
        Schedule::Cosine => (0.5 * (1.0 + (PI * ((step - warmup) / decaying)).cos())).max(0.0),
    };
    config.learning_rate * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, warmup_steps: u64, total: u64) -> Vec<f64> {
        let config = TrainConfig {
            learning_rate: 0.002,
            schedule,
            warmup_steps,
            ..TrainConfig::default()
        };
        (0..total)
            .map(|step| learning_rate(&config, step, total))
            .collect()
    }

    /// Printed by transformers 5.23 `get_scheduler` (tests/fixtures/generate/lora_train.py).
    #[test]
    fn the_rates_are_those_of_transformers() {
        let cosine = [
            0.0,
            0.002,
            0.001900968867902419,
            0.0016234898018587336,
            0.0012225209339563144,
            0.0007774790660436857,
            0.0003765101981412665,
            9.903113209758097e-05,
        ];
        for (ours, theirs) in rates(Schedule::Cosine, 1, 8).iter().zip(cosine) {
            // The system's cosine may differ in the last bit.
            assert!((ours - theirs).abs() <= 1e-18, "{ours} {theirs}");
        }
        let linear = [
            0.0,
            0.001,
            0.002,
            0.0018000000000000002,
            0.0016,
            0.0014,
            0.0012,
            0.001,
            0.0008,
            0.0006,
            0.0004,
            0.0002,
        ];
        assert_eq!(rates(Schedule::Linear, 2, 12), linear);
        assert_eq!(rates(Schedule::Constant, 0, 3), [0.002; 3]);
        assert_eq!(rates(Schedule::Constant, 2, 4), [0.0, 0.001, 0.002, 0.002]);
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_only_warms_up() {
        assert_eq!(rates(Schedule::Cosine, 10, 3), [0.0, 0.0002, 0.0004]);
        assert_eq!(rates(Schedule::Linear, 0, 1), [0.002]);
    }
}
