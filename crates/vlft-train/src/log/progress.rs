//! The line a person watches: `step   10/776 | loss 1.8734 | lr 2.0e-5 | ..`.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use vlft_base::format::{bytes, clock, grouped};

use super::StepLine;

/// Speed and time left are means over this many steps: long enough to be calm, short enough to
/// notice a machine that slows down.
const RECENT_STEPS: usize = 20;

/// Follows the steps of a run and makes their progress lines.
#[derive(Clone, Debug)]
pub struct Pace {
    total_steps: u64,
    /// (tokens, seconds, of them waiting for data) of the last steps.
    recent: VecDeque<(u64, f64, f64)>,
}

impl Pace {
    pub fn new(total_steps: u64) -> Self {
        Self {
            total_steps,
            recent: VecDeque::new(),
        }
    }

    pub fn step(&mut self, step: &StepLine) -> ProgressLine {
        self.recent
            .push_back((step.tokens, step.seconds, step.data_seconds));
        if self.recent.len() > RECENT_STEPS {
            self.recent.pop_front();
        }
        let tokens: u64 = self.recent.iter().map(|(tokens, ..)| tokens).sum();
        let seconds: f64 = self.recent.iter().map(|(_, seconds, _)| seconds).sum();
        let data_seconds: f64 = self.recent.iter().map(|(_, _, waiting)| waiting).sum();
        let left = self.total_steps.saturating_sub(step.step) as f64;
        let eta = left * seconds / self.recent.len() as f64;
        ProgressLine {
            step: step.step,
            total_steps: self.total_steps,
            loss: step.loss,
            lr: step.lr,
            grad_norm: step.grad_norm,
            tokens_per_second: tokens as f64 / seconds.max(1e-9),
            memory_bytes: step.device_bytes.or_else(resident_bytes),
            eta: Duration::try_from_secs_f64(eta).unwrap_or_default(),
            waiting: waiting(data_seconds, seconds),
            eval: None,
            saved: None,
        }
    }
}

/// `waiting for data 12 %`, where that is worth a word.
pub(crate) fn waiting(data_seconds: f64, seconds: f64) -> Option<String> {
    const WORTH_A_WORD: f64 = 0.03;
    let share = data_seconds / seconds;
    (share >= WORTH_A_WORD).then(|| format!("waiting for data {:.0} %", 100.0 * share))
}

/// One line; `eval` and `saved` are filled in when the step also evaluated or saved.
#[derive(Clone, Debug)]
pub struct ProgressLine {
    pub step: u64,
    pub total_steps: u64,
    pub loss: f64,
    pub lr: f64,
    pub grad_norm: f64,
    pub tokens_per_second: f64,
    /// None where the system does not tell.
    pub memory_bytes: Option<u64>,
    pub eta: Duration,
    /// How much of the time the model waits for data, if that is worth a word.
    pub waiting: Option<String>,
    /// Loss on the validation set, and whether it is the lowest so far.
    pub eval: Option<(f64, bool)>,
    /// The step whose checkpoint was written.
    pub saved: Option<u64>,
}

impl fmt::Display for ProgressLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.total_steps.to_string().len() + 1;
        write!(f, "step {:>width$}/{}", self.step, self.total_steps)?;
        write!(f, " | loss {:.4}", self.loss)?;
        write!(f, " | lr {}", scientific(self.lr))?;
        write!(f, " | grad {}", short(self.grad_norm))?;
        write!(
            f,
            " | {} tok/s",
            grouped(self.tokens_per_second.round() as u64)
        )?;
        match self.memory_bytes {
            Some(memory) => write!(f, " | {}", bytes(memory))?,
            None => write!(f, " | - GiB")?,
        }
        write!(f, " | eta {}", clock(self.eta))?;
        if let Some(waiting) = &self.waiting {
            write!(f, " | {waiting}")?;
        }
        if let Some((loss, best)) = self.eval {
            write!(f, " | eval {loss:.4}{}", if best { " (best)" } else { "" })?;
        }
        if let Some(step) = self.saved {
            write!(f, " | saved step-{step}")?;
        }
        Ok(())
    }
}

/// Which progress lines a person is shown: the first, every tenth, what evaluated or saved, the
/// last, and in any case one now and then, so that slow steps do not look like a standstill.
#[derive(Debug, Default)]
pub struct Cadence {
    last: Option<Instant>,
}

impl Cadence {
    pub fn is_due(&mut self, line: &ProgressLine) -> bool {
        const EVERY_STEPS: u64 = 10;
        const AT_LEAST_EVERY: Duration = Duration::from_secs(15);
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= AT_LEAST_EVERY)
            || line.step.is_multiple_of(EVERY_STEPS)
            || line.step == line.total_steps
            || line.eval.is_some()
            || line.saved.is_some();
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

fn scientific(number: f64) -> String {
    if number == 0.0 {
        "0".to_owned()
    } else {
        format!("{number:.1e}")
    }
}

/// Two decimals, unless they would hide a small number.
fn short(number: f64) -> String {
    if number == 0.0 || number.abs() >= 0.095 {
        format!("{number:.2}")
    } else {
        scientific(number)
    }
}

/// What the process occupies in memory now; on the CPU that is what training costs.
pub fn resident_bytes() -> Option<u64> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> ProgressLine {
        ProgressLine {
            step: 10,
            total_steps: 776,
            loss: 1.87344,
            lr: 2e-5,
            grad_norm: 0.9071,
            tokens_per_second: 4119.6,
            memory_bytes: Some(33_500_000_000),
            eta: Duration::from_secs(4550),
            waiting: None,
            eval: None,
            saved: None,
        }
    }

    #[test]
    fn the_line_reads_as_in_the_style_guide() {
        assert_eq!(
            line().to_string(),
            "step   10/776 | loss 1.8734 | lr 2.0e-5 | grad 0.91 | 4 120 tok/s | 31.2 GiB | eta 1:15:50"
        );
        let saved = ProgressLine {
            step: 100,
            eval: Some((0.59871, true)),
            saved: Some(100),
            ..line()
        };
        assert!(saved.to_string().starts_with("step  100/776 | "));
        assert!(
            saved
                .to_string()
                .ends_with(" | eval 0.5987 (best) | saved step-100")
        );
        let flat = ProgressLine {
            lr: 0.0,
            grad_norm: 0.0012,
            ..line()
        };
        assert!(flat.to_string().contains(" | lr 0 | grad 1.2e-3 | "));
    }

    #[test]
    fn the_time_left_follows_the_recent_pace() {
        let step = |step, seconds| StepLine {
            step,
            loss: 1.0,
            grad_norm: 1.0,
            lr: 1.0,
            tokens: 100,
            padding_tokens: 0,
            supervised_tokens: 1,
            seconds,
            data_seconds: if step > 40 { seconds / 8.0 } else { 0.0 },
            device_bytes: None,
            samples: Vec::new(),
            skipped: Vec::new(),
        };
        let mut pace = Pace::new(100);
        for i in 1..=50 {
            // A slow first step (loading) is soon forgotten.
            let line = pace.step(&step(i, if i == 1 { 60.0 } else { 2.0 }));
            if i == 50 {
                assert_eq!(line.eta, Duration::from_secs(100));
                assert_eq!(line.tokens_per_second, 50.0);
                assert_eq!(line.waiting.as_deref(), Some("waiting for data 6 %"));
            }
        }
    }

    #[test]
    fn a_person_sees_the_first_every_tenth_and_the_special_lines() {
        let mut cadence = Cadence::default();
        let shown: Vec<u64> = (1..=33)
            .filter(|step| {
                let saved = (*step == 25).then_some(*step);
                cadence.is_due(&ProgressLine {
                    step: *step,
                    total_steps: 33,
                    saved,
                    ..line()
                })
            })
            .collect();
        assert_eq!(shown, [1, 10, 20, 25, 30, 33]);
    }

    #[test]
    fn this_process_occupies_some_memory() {
        assert!(resident_bytes().is_none_or(|bytes| bytes > 100_000));
    }
}
