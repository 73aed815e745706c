//! `RUN/metrics.jsonl`: one JSON object per line, each written whole and flushed at once, so that a
//! reader (or a crash) sees at most one torn line, the last.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use vlft_base::output::{cannot, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_dataset::score::Score;

use super::METRICS_FILE;
use crate::plan::Measured;

/// One line, tagged with `"type"`: the shape is fixed, because people's scripts read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    Step(StepLine),
    Sample(SampleLine),
    Eval(EvalLine),
    Summary(SummaryLine),
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// 1-based: the number of finished steps.
    pub step: u64,
    #[serde(deserialize_with = "number_or_null")]
    pub loss: f64,
    /// Before clipping.
    #[serde(deserialize_with = "number_or_null")]
    pub grad_norm: f64,
    pub lr: f64,
    pub tokens: u64,
    /// Computed beside them, to make the rows of a micro-batch equally long.
    #[serde(default)]
    pub padding_tokens: u64,
    pub supervised_tokens: u64,
    pub seconds: f64,
    /// Of them, spent waiting for data.
    #[serde(default)]
    pub data_seconds: f64,
    /// What the GPU's memory pools hold after it: the most so far. None on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// Record ids, in the order of the stream.
    pub samples: Vec<String>,
    /// Ids of records that the step went on without; see `data.on_error`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

/// What the model answers to one record of the validation set after `step` finished steps. The
/// samples of an evaluation stand before its own line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLine {
    pub step: u64,
    pub id: String,
    pub target: String,
    pub answer: String,
    /// Of the answer.
    pub tokens: u64,
    /// Whether the model ended the answer itself; if not, it was cut off.
    pub ended: bool,
    pub score: Score,
}

/// The validation set, after `step` finished steps. Log it before the checkpoint of that step, so
/// that a resumed run has it too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalLine {
    pub step: u64,
    #[serde(deserialize_with = "number_or_null")]
    pub loss: f64,
    pub records: u64,
    /// Supervised ones.
    pub tokens: u64,
    pub seconds: f64,
    /// The best so far, by `eval.best_metric`.
    pub best: bool,
    /// The share of right fields, if records were answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_accuracy: Option<f64>,
    /// Of all answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
}

/// The end of a finished run; always the last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryLine {
    pub steps: u64,
    #[serde(deserialize_with = "number_or_null")]
    pub first_loss: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub last_loss: f64,
    pub eval_loss: Option<f64>,
    pub best_eval_loss: Option<f64>,
    /// After which `RUN/best` was saved: the best by `eval.best_metric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    /// Why the run ended before its last step; absent if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    pub tokens: u64,
    pub supervised_tokens: u64,
    pub seconds: f64,
    #[serde(default)]
    pub data_seconds: f64,
    /// Records that steps went on without.
    #[serde(default)]
    pub skipped: u64,
    /// The memory of the process that ended the run; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Measured>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// `eval.patience` evaluations brought no improvement.
    Patience,
}

impl Line {
    /// The number of finished steps this line belongs to; a summary belongs to the end.
    pub fn step(&self) -> Option<u64> {
        match self {
            Line::Step(line) => Some(line.step),
            Line::Sample(line) => Some(line.step),
            Line::Eval(line) => Some(line.step),
            Line::Summary(_) => None,
        }
    }
}

/// The open file, at its end.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

/// A log cut back to a checkpoint.
#[derive(Debug)]
pub struct Resumed {
    pub log: MetricsLog,
    /// What was kept: every step and evaluation up to the checkpoint.
    pub lines: Vec<Line>,
    /// Set when steps before the checkpoint are missing, which only a lost disk cache can cause.
    pub warning: Option<Diagnostic>,
}

impl MetricsLog {
    /// Starts an empty log, replacing what is there.
    pub fn create(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(METRICS_FILE);
        write_atomic(&path, b"")?;
        Self::open(path)
    }

    /// Cuts the log back to `step` finished steps: later lines, the summary and a torn last line go,
    /// and answers whose evaluation did not come to its end.
    /// The file is replaced as a whole, so being killed here leaves the old or the new one.
    pub fn resume(run_dir: &Path, step: u64) -> Result<Resumed> {
        let path = run_dir.join(METRICS_FILE);
        // The bytes that stay are not written anew: a number read and printed again could differ.
        let (mut lines, mut text) = (Vec::new(), Vec::new());
        // The answers of an evaluation stand before its own line, and are worth nothing without it.
        let mut waiting: Vec<(Line, Vec<u8>)> = Vec::new();
        each_line(&path, |line, bytes| {
            if line.step().is_none_or(|s| s > step) {
                return;
            }
            let is_answer = matches!(line, Line::Sample(_));
            if !is_answer && !matches!(line, Line::Eval(_)) {
                waiting.clear();
            }
            waiting.push((line, bytes.to_vec()));
            if !is_answer {
                for (line, bytes) in waiting.drain(..) {
                    lines.push(line);
                    text.extend(bytes);
                }
            }
        })?;
        write_atomic(&path, &text)?;
        let warning = missing_steps(&lines, step).map(|missing| {
            Diagnostic::warning("the log lacks steps that the checkpoint has")
                .at(&path)
                .expected(format!("{step} steps"))
                .found(format!("{}", step - missing))
                .hint("training goes on from the checkpoint; only the curves have a gap")
        });
        Ok(Resumed {
            log: Self::open(path)?,
            lines,
            warning,
        })
    }

    /// Appends one line in one write.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        self.file
            .write_all(&bytes_of(line))
            .map_err(|e| cannot("write", &self.path, e))
    }

    /// Waits until everything is on the disk. Call it before a checkpoint is given its name, so
    /// that no checkpoint is ahead of its log even after a power cut.
    pub fn sync(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|e| cannot("write", &self.path, e))
    }

    fn open(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|e| cannot("open", &path, e))?;
        Ok(Self { path, file })
    }
}

/// The lines of a run, none if it has not begun. A torn last line (no line feed) is left out.
///
/// # Errors
/// A whole line that is not one of ours: then somebody else wrote into the file.
pub fn read_metrics(run_dir: &Path) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    each_line(&run_dir.join(METRICS_FILE), |line, _| lines.push(line))?;
    Ok(lines)
}

/// Each whole line with its bytes, line feed included. One is in memory at a time: a long run's log
/// must not be what its memory grows with.
fn each_line(path: &Path, mut see: impl FnMut(Line, &[u8])) -> Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cannot("read", path, e)),
    };
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        file.read_until(b'\n', &mut bytes)
            .map_err(|e| cannot("read", path, e))?;
        // The end, or a torn last line.
        if bytes.last() != Some(&b'\n') {
            break;
        }
        if bytes == b"\n" {
            continue;
        }
        let line = serde_json::from_slice(&bytes).map_err(|e| {
            Diagnostic::error("not a line of metrics")
                .at_line(path, number)
                .caused_by(e)
                .hint("choose another `--out`, or remove the run to start over")
        })?;
        see(line, &bytes);
    }
    Ok(())
}

/// JSON has no NaN: it is written as `null`, and a diverged run must stay readable.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn bytes_of(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("plain structs of numbers and strings");
    bytes.push(b'\n');
    bytes
}

/// How many of the steps 1..=step have no line.
fn missing_steps(lines: &[Line], step: u64) -> Option<u64> {
    let mut present: Vec<u64> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Step(line) => Some(line.step),
            Line::Sample(_) | Line::Eval(_) | Line::Summary(_) => None,
        })
        .collect();
    present.dedup();
    let missing = step.saturating_sub(present.len() as u64);
    (missing > 0).then_some(missing)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn step(step: u64) -> Line {
        Line::Step(StepLine {
            step,
            loss: 1.0 / step as f64,
            grad_norm: 0.1,
            lr: 1e-4,
            tokens: 100,
            padding_tokens: 7,
            supervised_tokens: 10,
            seconds: 0.5,
            data_seconds: 0.125,
            device_bytes: None,
            samples: vec![format!("doc \"{step}\"")],
            skipped: Vec::new(),
        })
    }

    fn eval(step: u64) -> Line {
        Line::Eval(EvalLine {
            step,
            loss: 0.7,
            records: 3,
            tokens: 30,
            seconds: 0.1,
            best: true,
            field_accuracy: None,
            score: None,
        })
    }

    fn summary() -> Line {
        Line::Summary(SummaryLine {
            steps: 4,
            first_loss: 1.0,
            last_loss: 0.25,
            eval_loss: None,
            best_eval_loss: None,
            best_step: None,
            stopped: None,
            tokens: 400,
            supervised_tokens: 40,
            seconds: 2.0,
            data_seconds: 0.5,
            skipped: 0,
            memory: None,
        })
    }

    #[test]
    fn a_step_has_the_shape_that_scripts_rely_on() {
        assert_eq!(
            String::from_utf8(bytes_of(&step(2))).unwrap(),
            "{\"type\":\"step\",\"step\":2,\"loss\":0.5,\"grad_norm\":0.1,\"lr\":0.0001,\"tokens\":100,\
             \"padding_tokens\":7,\"supervised_tokens\":10,\"seconds\":0.5,\"data_seconds\":0.125,\"samples\":[\"doc \\\"2\\\"\"]}\n"
        );
    }

    fn sample(step: u64) -> Line {
        Line::Sample(SampleLine {
            step,
            id: "b".to_owned(),
            target: r#"{"a":1}"#.to_owned(),
            answer: "{\"a\":\n".to_owned(),
            tokens: 4,
            ended: false,
            score: vlft_dataset::score::score(r#"{"a":1}"#, "{"),
        })
    }

    /// Scripts of today go on working: what is new is only there when it is asked for.
    #[test]
    fn without_answers_an_evaluation_has_the_shape_it_always_had() {
        assert_eq!(
            String::from_utf8(bytes_of(&eval(2))).unwrap(),
            "{\"type\":\"eval\",\"step\":2,\"loss\":0.7,\"records\":3,\"tokens\":30,\"seconds\":0.1,\
             \"best\":true}\n"
        );
        let text = String::from_utf8(bytes_of(&sample(2))).unwrap();
        assert_eq!(
            text,
            "{\"type\":\"sample\",\"step\":2,\"id\":\"b\",\"target\":\"{\\\"a\\\":1}\",\
             \"answer\":\"{\\\"a\\\":\\n\",\"tokens\":4,\"ended\":false,\
             \"score\":{\"answers\":1,\"unparsable\":1,\"exact\":0,\"fields\":1,\"correct\":0}}\n"
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), sample(2));
    }

    #[test]
    fn a_resumed_log_equals_an_uninterrupted_one() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            step(1),
            step(2),
            sample(2),
            eval(2),
            step(3),
            step(4),
            sample(4),
            eval(4),
            summary(),
        ];
        let mut log = MetricsLog::create(dir.path()).unwrap();
        for line in &lines {
            log.write(line).unwrap();
        }
        drop(log);
        let path = dir.path().join(METRICS_FILE);
        let whole = fs::read(&path).unwrap();

        // Cut as a kill would: at a line's end, beside it, and everywhere now and then.
        let at_end =
            |cut: usize| whole[cut.saturating_sub(2)..whole.len().min(cut + 2)].contains(&b'\n');
        for cut in (0..=whole.len()).filter(|cut| cut % 97 == 0 || at_end(*cut)) {
            for checkpoint in [0, 2] {
                let needed: usize = if checkpoint == 2 {
                    lines[..4].iter().map(|l| bytes_of(l).len()).sum()
                } else {
                    0
                };
                if cut < needed {
                    continue;
                }
                fs::write(&path, &whole[..cut]).unwrap();
                let mut resumed = MetricsLog::resume(dir.path(), checkpoint).unwrap();
                assert!(resumed.warning.is_none());
                let kept = if checkpoint == 2 { 4 } else { 0 };
                assert_eq!(resumed.lines, lines[..kept]);
                for line in &lines[kept..] {
                    resumed.log.write(line).unwrap();
                }
                assert_eq!(fs::read(&path).unwrap(), whole);
            }
        }
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    /// A checkpoint may be made in the middle of an evaluation, when a signal stops it there.
    #[test]
    fn answers_of_an_evaluation_that_was_cut_short_go() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [step(1), step(2), sample(2), eval(2), step(3), step(4)];
        let mut log = MetricsLog::create(dir.path()).unwrap();
        for line in whole.iter().chain(&[sample(4), sample(4)]) {
            log.write(line).unwrap();
        }
        drop(log);
        let resumed = MetricsLog::resume(dir.path(), 4).unwrap();
        assert_eq!(resumed.lines, whole);
        assert_eq!(read_metrics(dir.path()).unwrap(), whole);
    }

    #[test]
    fn a_gap_is_a_warning_and_a_foreign_line_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS_FILE);
        fs::write(&path, bytes_of(&step(1))).unwrap();
        let warning = MetricsLog::resume(dir.path(), 3).unwrap().warning.unwrap();
        assert_eq!(warning.expectation().unwrap(), "expected 3 steps, found 1");

        fs::write(&path, "{\"type\":\"step\"}\n").unwrap();
        let error = MetricsLog::resume(dir.path(), 3).unwrap_err();
        assert_eq!(error.message(), "not a line of metrics");
        assert_eq!(
            fs::read(&path).unwrap(),
            b"{\"type\":\"step\"}\n",
            "nothing was changed"
        );
    }

    #[test]
    fn a_diverged_step_stays_readable() {
        let Line::Step(mut line) = step(1) else {
            unreachable!()
        };
        line.loss = f64::NAN;
        let back = serde_json::from_slice(&bytes_of(&Line::Step(line))).unwrap();
        assert!(matches!(back, Line::Step(line) if line.loss.is_nan() && line.grad_norm == 0.1));
    }

    #[test]
    fn numbers_survive_the_round_trip_to_the_last_bit() {
        let mut bits: u64 = 0x3ff0_0000_0000_0000;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) >> 2;
            let line = Line::Eval(EvalLine {
                step: 1,
                loss: f64::from_bits(bits),
                records: 1,
                tokens: 1,
                seconds: f64::from(0.3f32),
                best: false,
                field_accuracy: None,
                score: None,
            });
            let back: Line = serde_json::from_slice(&bytes_of(&line)).unwrap();
            assert_eq!(back, line);
        }
    }
}
