//! What a check found, for people and for programs.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use vlft_base::format::{count, grouped, one_line};

use super::flags::quoted;

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    Applied,
    /// Left out, and rightly so.
    Skipped,
    /// Applied, but not as it was trained.
    Wrong,
    /// Loaded and never used, without an error.
    Ignored,
    /// Makes vLLM refuse the whole adapter.
    Refused,
}

#[derive(Clone, Debug, Serialize)]
pub struct TensorFate {
    pub name: String,
    pub fate: Fate,
    pub rule: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The module's path in the published checkpoint.
    pub module: Option<String>,
    /// The name under which it would be applied.
    pub published: Option<String>,
}

/// Something that keeps the adapter from being applied as it was trained.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    pub rule: &'static str,
    pub fate: Fate,
    pub why: String,
    /// How many tensors or modules it hits; 0: the adapter as a whole.
    pub count: usize,
    /// The first of them.
    pub examples: Vec<String>,
    /// Whether `--rewrite` mends it.
    pub can_be_renamed: bool,
}

impl Problem {
    /// Of the adapter as a whole.
    pub(super) fn whole(rule: &'static str, fate: Fate, why: String) -> Self {
        Self {
            rule,
            fate,
            why,
            count: 0,
            examples: Vec::new(),
            can_be_renamed: false,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    pub total: usize,
    pub applied: usize,
    pub skipped: usize,
    pub wrong: usize,
    pub ignored: usize,
    pub refused: usize,
}

/// How to serve it.
#[derive(Clone, Debug, Serialize)]
pub struct Serve {
    /// What to run before, where the adapter is in an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpack: Option<String>,
    pub command: String,
    pub max_lora_rank: Option<usize>,
    pub tower: bool,
    pub mm_processor_kwargs: Option<Value>,
    pub chat_template: Option<PathBuf>,
}

/// The result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub adapter: PathBuf,
    pub vllm: &'static str,
    pub passes: bool,
    /// Whether vLLM would load it at all.
    pub loads: bool,
    pub made_by: &'static str,
    /// How its tensors are named.
    pub style: String,
    pub model: String,
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    pub tensors: Counts,
    pub modules_applied: usize,
    pub modules_expected: usize,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    pub serve: Serve,
    /// Every tensor and what becomes of it.
    pub fates: Vec<TensorFate>,
}

impl Report {
    pub(super) fn add(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
        self.passes = self.problems.is_empty();
        self.loads = self.problems.iter().all(|p| p.fate != Fate::Refused);
    }

    /// Whether new names would mend everything.
    pub fn can_be_renamed(&self) -> bool {
        !self.problems.is_empty() && self.problems.iter().all(|p| p.can_be_renamed)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Counts {
            total,
            applied,
            skipped,
            wrong,
            ignored,
            refused,
        } = &self.tensors;
        let kind = if self.rslora { ", rsLoRA" } else { "" };
        let (rank, alpha) = (self.rank, self.alpha);
        writeln!(
            f,
            "adapter   `{}`, made by {}",
            self.adapter.display(),
            self.made_by
        )?;
        writeln!(f, "names     {}", self.style)?;
        writeln!(f, "LoRA      rank {rank}, alpha {alpha}{kind}")?;
        writeln!(f, "model     {}", self.model)?;
        write!(f, "vLLM {} ", self.vllm)?;
        let skipped = match skipped {
            0 => String::new(),
            n => format!(", {} left out as it should be", count(*n as u64, "tensor")),
        };
        if self.passes {
            writeln!(
                f,
                "applies all of {} over {}{skipped}",
                count((total - self.tensors.skipped) as u64, "tensor"),
                count(self.modules_applied as u64, "module"),
            )?;
        } else {
            let verdict = match (self.loads, applied) {
                (false, _) => "refuses this adapter",
                (true, 0) => "loads this adapter and does nothing with it",
                (true, _) => "does not apply all of this adapter",
            };
            writeln!(f, "{verdict}")?;
            let or_would = if self.loads { "applied" } else { "would fit" };
            writeln!(
                f,
                "          of {}: {} {or_would}, {} wrong, {} ignored, {} refused{skipped}",
                count(*total as u64, "tensor"),
                grouped(*applied as u64),
                grouped(*wrong as u64),
                grouped(*ignored as u64),
                grouped(*refused as u64),
            )?;
            writeln!(
                f,
                "          {} of {} with both matrices",
                grouped(self.modules_applied as u64),
                count(self.modules_expected as u64, "module"),
            )?;
        }
        for problem in &self.problems {
            write_problem(f, problem)?;
        }
        for warning in &self.warnings {
            writeln!(f, "note      {warning}")?;
        }
        if self.can_be_renamed() {
            let adapter = quoted(&self.adapter.display().to_string());
            writeln!(
                f,
                "\nnew names mend it: vlft check-adapter {adapter} --rewrite OUT"
            )?;
        }
        if self.problems.iter().all(|p| p.fate != Fate::Refused) || self.passes {
            writeln!(f, "\nserve it with")?;
            if let Some(unpack) = &self.serve.unpack {
                writeln!(f, "  {unpack}")?;
            }
            writeln!(f, "  {}", self.serve.command)?;
        }
        Ok(())
    }
}

fn write_problem(f: &mut Formatter, problem: &Problem) -> fmt::Result {
    let fate = match problem.fate {
        Fate::Wrong => "wrong",
        Fate::Ignored => "ignored",
        _ => "refused",
    };
    let hits = match problem.count {
        0 => String::new(),
        n => format!(" ({})", grouped(n as u64)),
    };
    writeln!(f, "{fate:<9} [{}]{hits} {}", problem.rule, problem.why)?;
    for example in &problem.examples {
        writeln!(f, "            {}", one_line(example))?;
    }
    let hidden = problem.count.saturating_sub(problem.examples.len());
    if hidden > 0 && !problem.examples.is_empty() {
        writeln!(f, "            and {} more", grouped(hidden as u64))?;
    }
    Ok(())
}
