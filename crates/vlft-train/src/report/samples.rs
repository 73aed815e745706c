//! What the model answers to the same records as it trains, each answer beside what it should be.

use std::fmt::Write;

use similar::{Algorithm, DiffOp, capture_diff_slices};
use vlft_base::format::grouped;

use super::chart::escape;
use crate::log::{EvalLine, SampleLine};

/// More answers than this would only make a long page: of each record the first one, the newest ones
/// and the one of the best evaluation are shown.
const SHOWN: usize = 8;

/// One block per record; nothing without samples.
pub(super) fn section(samples: &[SampleLine], evals: &[EvalLine]) -> String {
    let mut ids: Vec<&str> = Vec::new();
    for sample in samples {
        if !ids.contains(&sample.id.as_str()) {
            ids.push(&sample.id);
        }
    }
    if ids.is_empty() {
        return String::new();
    }
    let best = evals.iter().rfind(|eval| eval.best).map(|eval| eval.step);
    let records: String = ids
        .iter()
        .map(|id| {
            let answers: Vec<&SampleLine> = samples.iter().filter(|s| s.id == *id).collect();
            record(id, &answers, best)
        })
        .collect();
    format!(
        "<section><h2>Answers</h2><p>Records of the validation set, answered greedily at each \
         evaluation, the newest first. <ins>Only the answer</ins> has what is marked so, \
         <del>only the target</del> has what is struck through.</p>\n{records}</section>\n"
    )
}

/// `answers` are of one record, in the order of the run, at least one.
fn record(id: &str, answers: &[&SampleLine], best: Option<u64>) -> String {
    let mut html = format!("<article><h3>{}</h3>\n", visible(id));
    let newest = answers.len().saturating_sub(SHOWN - 2);
    let mut left_out = 0;
    for (at, answer) in answers.iter().enumerate().rev() {
        let is_best = best == Some(answer.step);
        if at >= newest || at == 0 || is_best {
            let open = if at + 1 == answers.len() { " open" } else { "" };
            let _ = writeln!(
                html,
                "<details{open}><summary>after step {}: {}</summary><pre>{}</pre></details>",
                answer.step,
                verdict(answer, is_best),
                differences(&answer.target, &answer.answer)
            );
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        let _ = writeln!(
            html,
            "<p>{left_out} more between these are in <code>metrics.jsonl</code>.</p>"
        );
    }
    // The target is the same at every evaluation.
    let _ = writeln!(
        html,
        "<details><summary>target</summary><pre>{}</pre></details></article>",
        visible(&answers[0].target)
    );
    html
}

fn verdict(answer: &SampleLine, is_best: bool) -> String {
    let score = &answer.score;
    let mut verdict = match (score.unparsable, score.exact) {
        (0, 0) => format!(
            "{} of {} fields right",
            grouped(score.correct),
            grouped(score.fields)
        ),
        (0, _) => "all right".to_owned(),
        _ => "not JSON".to_owned(),
    };
    if !answer.ended {
        let _ = write!(verdict, ", cut off after {} tokens", grouped(answer.tokens));
    }
    if is_best {
        verdict += " (best evaluation)";
    }
    verdict
}

/// The answer, with what the target has instead of it.
fn differences(target: &str, answer: &str) -> String {
    let (old, new) = (words(target), words(answer));
    let mut html = String::new();
    let mut marked = |tag: &str, words: &[&str]| {
        let text = visible(&words.concat());
        let _ = match (tag, text.is_empty()) {
            (_, true) => Ok(()),
            ("", _) => write!(html, "{text}"),
            _ => write!(html, "<{tag}>{text}</{tag}>"),
        };
    };
    for operation in capture_diff_slices(Algorithm::Myers, &old, &new) {
        if let DiffOp::Equal { .. } = operation {
            marked("", &new[operation.new_range()]);
        } else {
            marked("del", &old[operation.old_range()]);
            marked("ins", &new[operation.new_range()]);
        }
    }
    html
}

/// Runs of letters and digits, and every other character by itself: JSON has few spaces to cut at.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        if !c.is_alphanumeric() {
            if start < at {
                words.push(&text[start..at]);
            }
            let end = at + c.len_utf8();
            words.push(&text[at..end]);
            start = end;
        }
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

/// Escaped, and with a sign in place of each control character: a model may answer anything.
fn visible(text: &str) -> String {
    let signs: String = text
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or(c),
            // Also what would turn the direction of all text after it.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                '\u{fffd}'
            }
            c => c,
        })
        .collect();
    escape(&signs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_marked_and_nothing_gets_through_unescaped() {
        for (target, answer, expected) in [
            (r#"{"a":1}"#, r#"{"a":1}"#, "{&quot;a&quot;:1}"),
            (
                r#"{"a":"x y"}"#,
                r#"{"a":"x z"}"#,
                "{&quot;a&quot;:&quot;x <del>y</del><ins>z</ins>&quot;}",
            ),
            ("12", "12\n", "12<ins>\n</ins>"),
            ("ab", "", "<del>ab</del>"),
            ("", "", ""),
            (
                "a",
                "<script>\u{0}\u{202e}",
                "<del>a</del><ins>&lt;script&gt;\u{2400}\u{fffd}</ins>",
            ),
            ("Maß 你", "Maß 好", "Maß <del>你</del><ins>好</ins>"),
        ] {
            assert_eq!(differences(target, answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_text_is_its_words() {
        for text in ["", "a", "{\"é1\": [-2.50]}\n", " \u{1f600}x "] {
            assert_eq!(words(text).concat(), text);
        }
        assert_eq!(words("ab12-c"), ["ab12", "-", "c"]);
    }
}
