//! How a plan is shown to a person.

use std::fmt;
use std::time::Duration;

use vlft_base::format::{bytes, clock, count, grouped};

use super::{Distribution, OnGpu, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let base = name(serde_json::to_value(self.base).expect("a plain name"));
        let compute = name(serde_json::to_value(self.compute).expect("a plain name"));
        writeln!(f, "{}, {base} base, computing in {compute}", self.model)?;
        self.records(f)?;
        self.parts(f)?;
        if let Some(time) = &self.time {
            writeln!(
                f,
                "time        {}, {} tok/s, {:.1} s per step, if {:.0} % of the peak are reached (assumed)",
                clock(Duration::from_secs_f64(time.seconds)),
                grouped(time.tokens_per_second.round() as u64),
                time.seconds_per_step,
                100.0 * time.utilisation,
            )?;
            if let (Some(cost), Some(price)) = (time.cost, time.price_per_hour) {
                writeln!(f, "cost        ${cost:.2} at ${price:.2} an hour")?;
            }
        }
        if !self.gpus.is_empty() {
            gpus(f, &self.gpus)?;
        }
        self.verdict(f)
    }
}

impl Plan {
    fn records(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = &self.data;
        write!(f, "data        {}", count(data.records, "record"))?;
        if data.too_long > 0 {
            write!(f, " ({} too long)", grouped(data.too_long))?;
        }
        writeln!(
            f,
            ", {} over {:.2} epochs",
            count(self.steps, "step"),
            self.epochs
        )?;
        writeln!(
            f,
            "            {:>9} {:>9} {:>9} {:>9}",
            "p5", "p50", "p95", "max"
        )?;
        let mut row = |name: &str, values: &Distribution| {
            let [p5, p50, p95, max] = [values.p5, values.p50, values.p95, values.max].map(grouped);
            writeln!(f, "{name:<12}{p5:>9} {p50:>9} {p95:>9} {max:>9}")
        };
        row("tokens", &data.tokens)?;
        row("image tok", &data.image_tokens)?;
        row("trained", &data.supervised)
    }

    fn parts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        writeln!(
            f,
            "memory      {}, with a micro-batch of {} tokens, {} of images",
            memory.phase,
            grouped(self.largest.tokens),
            grouped(self.largest.image_tokens),
        )?;
        for (part, size) in &memory.parts {
            writeln!(f, "  {:<28}{:>10}", part.to_string(), bytes(*size))?;
        }
        writeln!(
            f,
            "  {:<28}{:>10} of {} on {}",
            "together",
            bytes(memory.total_bytes),
            bytes(self.available_bytes),
            self.on
        )
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.memory.total_bytes as f64 / self.available_bytes.max(1) as f64;
        if self.fits {
            return write!(f, "fits        {share:.0} % of the memory");
        }
        write!(f, "does not fit: {share:.0} % of the memory")?;
        match &self.change {
            None => write!(f, "; no single change is enough"),
            Some(change) => {
                let set: Vec<String> = change.set.iter().map(|set| format!("`{set}`")).collect();
                write!(
                    f,
                    "\nwith        {} it does: {}",
                    set.join(" and "),
                    bytes(change.total_bytes)
                )?;
                match change.price.is_empty() {
                    true => Ok(()),
                    false => write!(f, "; {}", change.price),
                }
            }
        }
    }
}

fn gpus(f: &mut fmt::Formatter<'_>, gpus: &[OnGpu]) -> fmt::Result {
    writeln!(
        f,
        "on a GPU    {:>10} {:>10}  {:>9}  {:>8}",
        "needs", "has", "time", "cost"
    )?;
    for gpu in gpus {
        write!(
            f,
            "  {:<10}{:>10} {:>10}",
            gpu.name,
            bytes(gpu.total_bytes),
            bytes(gpu.available_bytes)
        )?;
        if !gpu.fits {
            writeln!(f, "  does not fit")?;
            continue;
        }
        let cost = gpu
            .cost
            .map_or("-".to_owned(), |cost| format!("${cost:.2}"));
        let time = clock(Duration::from_secs_f64(gpu.seconds));
        writeln!(f, "  {time:>9}  {cost:>8}")?;
    }
    Ok(())
}
