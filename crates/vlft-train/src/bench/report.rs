//! How a bench is shown to a person.

use std::fmt;
use std::time::Duration;

use vlft_base::format::{bytes, grouped};
use vlft_kernels::profile::Family;

use super::Bench;
use crate::log::StepLine;

/// Seconds per step of each family that was at work, the largest first; then waiting for data, and all
/// that is in no family.
pub(super) fn by_family(
    times: &[(Family, Duration)],
    counted: &[StepLine],
) -> Vec<(&'static str, f64)> {
    let count = counted.len() as f64;
    let total: f64 = counted.iter().map(|line| line.seconds).sum();
    let waited: f64 = counted.iter().map(|line| line.data_seconds).sum();
    let spent = times.iter().map(|(_, time)| time.as_secs_f64());
    let rest = (total - waited - spent.sum::<f64>()).max(0.0);
    let mut families: Vec<(&'static str, f64)> = times
        .iter()
        .filter(|(_, time)| !time.is_zero())
        .map(|(family, time)| (family.name(), time.as_secs_f64() / count))
        .collect();
    families.sort_by(|a, b| b.1.total_cmp(&a.1));
    families.extend([("other", rest / count), ("data_wait", waited / count)]);
    families
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let base = name(serde_json::to_value(self.base).expect("a plain name"));
        let compute = name(serde_json::to_value(self.compute).expect("a plain name"));
        let tera = |operations: f64| match operations {
            1e12.. => format!("{:.1} T", operations / 1e12),
            _ => format!("{:.2} G", operations / 1e9),
        };
        writeln!(
            f,
            "model       {}, {base} base, computing in {compute} on {}",
            self.model, self.device
        )?;
        writeln!(
            f,
            "steps       {} after {} of warm-up, {} tokens each",
            self.steps,
            self.warm_up,
            grouped(self.tokens_per_step.round() as u64)
        )?;
        writeln!(
            f,
            "speed       {:.3} s per step (median; mean {:.3}), {} tok/s, {:.2} samples/s, {:.1} % waiting for data",
            self.seconds_per_step,
            self.mean_seconds_per_step,
            grouped(self.tokens_per_second.round() as u64),
            self.samples_per_second,
            100.0 * self.data_wait
        )?;
        writeln!(
            f,
            "start       {:.1} s to the end of the first step, {:.1} s of them until the model was loaded",
            self.first_step_seconds, self.loaded_after_seconds
        )?;
        let (operations, share) = (self.operations, self.utilisation);
        let how = match self.matmul.side {
            Some(side) => format!("measured, {side} x {side} x {side}"),
            None => "given".to_owned(),
        };
        writeln!(
            f,
            "products    {}op/s ({how})",
            tera(self.matmul.operations_per_second)
        )?;
        write!(
            f,
            "utilisation {:.1} % of that with 4N a token ({}op a step)",
            100.0 * share.necessary,
            tera(operations.necessary)
        )?;
        match self.gradient_checkpointing {
            true => writeln!(
                f,
                ", {:.1} % with 6N, the forward made again counted",
                100.0 * share.computed
            )?,
            false => writeln!(f)?,
        }
        self.memory_lines(f)?;
        if !self.profile.is_empty() {
            write!(f, "\nwhere the time goes, per step")?;
            let total: f64 = self.profile.iter().map(|(_, seconds)| seconds).sum();
            for (name, seconds) in &self.profile {
                let share = 100.0 * seconds / total;
                write!(f, "\n  {name:<14} {seconds:>9.4} s  {share:>5.1} %")?;
            }
        }
        Ok(())
    }
}

impl Bench {
    fn memory_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        write!(
            f,
            "memory      {} at most: {} before, {} with the model, {} between steps",
            bytes(memory.peak_bytes),
            bytes(memory.before_bytes),
            bytes(memory.loaded_bytes),
            bytes(memory.between_steps_bytes)
        )?;
        let Some(predicted) = &memory.predicted else {
            return Ok(());
        };
        write!(
            f,
            "\nplanned     {} {}",
            bytes(predicted.total_bytes),
            predicted.phase
        )?;
        for (part, size) in &predicted.parts {
            write!(f, "\n  {:<28}{:>10}", part.to_string(), bytes(*size))?;
        }
        Ok(())
    }
}
