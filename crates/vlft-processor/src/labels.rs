//! A record as one text, and which of its bytes are trained on: the text of every assistant turn
//! and the `<|im_end|>` that closes it.
//!
//! Where an answer stands is never found by looking for words such as "assistant", which may occur
//! anywhere. The template is rendered twice, once with a marker in place of each answer: the marker
//! shows the answer's place, and putting the answers back must give the first rendering again. If it
//! does not, the template rewrites answers (strips them, cuts out `<think>`), and we say so.
//!
//! What a template itself writes around an answer is prompt: the line break after `<|im_end|>`, or
//! the empty `<think>` block with which the Thinking models' template opens the last turn. Reasoning that
//! a record brings (`<think>\n..\n</think>\n\n` before the answer) is trained on with its answer, from
//! where the generation prompt ends: the Thinking models' prompt opens the block itself.

use std::ops::Range;

use vlft_base::format::count;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::record::{Message, Part, Record, Role};

use crate::chat_template::ChatTemplate;
use crate::tokenizer::{Encoded, IM_END, IMAGE_PAD, STRUCTURAL};

#[derive(Debug, PartialEq)]
pub(crate) struct Conversation {
    pub(crate) text: String,
    /// Bytes of `text` that are trained on, in order, not touching each other.
    pub(crate) trained: Vec<Range<usize>>,
}

pub(crate) fn render(template: &ChatTemplate, record: &Record) -> Result<Conversation> {
    let text = render_checked(template, record, false)?;
    let answers = Answers::of(record);
    let marked = template.render(&answers.marked, false)?;
    let mut trained = answers.locate(&marked, &text, record, template)?;
    if answers.have_reasoning() && !opens_reasoning(template, record)? {
        for range in &mut trained {
            if text[..range.start].ends_with(THINK) {
                range.start -= THINK.len();
            }
        }
    }
    Ok(Conversation { text, trained })
}

/// How reasoning stands before an answer, as the published templates write it.
const THINK: &str = "<think>\n";
const THOUGHT: &str = "\n</think>\n\n";

/// Reasoning and answer, if the text begins with reasoning in just that form.
fn reasoning(text: &str) -> Option<(&str, &str)> {
    let (thought, answer) = text.strip_prefix(THINK)?.split_once(THOUGHT)?;
    let plain = |text: &str| !text.contains("<think>") && !text.contains("</think>");
    (plain(thought) && plain(answer)).then_some((thought, answer))
}

/// Whether the generation prompt after the first question ends inside a block of reasoning.
fn opens_reasoning(template: &ChatTemplate, record: &Record) -> Result<bool> {
    let first = record
        .messages
        .iter()
        .position(|m| m.role == Role::Assistant);
    let before = &record.messages[..first.unwrap_or(0)];
    Ok(template.render(before, true)?.ends_with(THINK))
}

/// The conversation so far as one text, up to where the next answer begins.
pub(crate) fn render_prompt(template: &ChatTemplate, asked: &Record) -> Result<String> {
    render_checked(template, asked, true)
}

fn render_checked(
    template: &ChatTemplate,
    record: &Record,
    add_generation_prompt: bool,
) -> Result<String> {
    refuse_structure_in_text(record)?;
    let text = template.render(&record.messages, add_generation_prompt)?;
    let n_placeholders = text.matches(IMAGE_PAD).count();
    let n_images = record.images().count();
    if n_placeholders != n_images {
        return Err(Diagnostic::error(format!(
            "chat template writes {n_placeholders} image placeholders for the {} of record `{}`",
            count(n_images as u64, "image"),
            record.id
        ))
        .at(template.path())
        .expected(format!("one `{IMAGE_PAD}` per image")));
    }
    Ok(text)
}

/// Per token whether it is trained on.
pub(crate) fn trained_tokens(
    tokens: &Encoded,
    trained: &[Range<usize>],
    record: &Record,
) -> Result<Vec<bool>> {
    let mut ranges = trained.iter().peekable();
    let mut out = Vec::with_capacity(tokens.ids.len());
    for span in &tokens.spans {
        while ranges.next_if(|range| range.end <= span.start).is_some() {}
        let inside = match ranges.peek() {
            Some(range) if span.end > range.start => {
                if span.start < range.start || span.end > range.end {
                    return Err(Diagnostic::error(format!(
                        "tokenizer joins an answer of record `{}` with the text before it",
                        record.id
                    ))
                    .with_rule("answer-boundary")
                    .hint("remove the white space at the beginning of the answer"));
                }
                true
            }
            _ => false,
        };
        out.push(inside);
    }
    Ok(out)
}

/// The answers of a record: one per text part of an assistant message, two where it brings reasoning.
struct Answers<'a> {
    /// The record's messages with a marker in place of each answer.
    marked: Vec<Message>,
    markers: Vec<String>,
    texts: Vec<&'a str>,
    /// Per answer: the index of its message, and whether it is the last of that message.
    places: Vec<(usize, bool)>,
    /// Per answer: whether it is reasoning, and goes on to the next one.
    thoughts: Vec<bool>,
}

impl<'a> Answers<'a> {
    fn of(record: &'a Record) -> Self {
        let salt = unused_salt(record);
        let mut answers = Self {
            marked: record.messages.clone(),
            markers: Vec::new(),
            texts: Vec::new(),
            places: Vec::new(),
            thoughts: Vec::new(),
        };
        for (at, message) in record.messages.iter().enumerate() {
            if message.role != Role::Assistant {
                continue;
            }
            let texts: Vec<&str> = message
                .content
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.as_str(),
                    Part::Image(_) => unreachable!("images in answers were refused"),
                })
                .collect();
            // An empty message still is a turn, and its end is trained on.
            let texts = if texts.is_empty() { vec![""] } else { texts };
            answers.marked[at].content.clear();
            if let [text] = texts[..]
                && let Some((thought, answer)) = reasoning(text)
            {
                let markers = [
                    answers.push(thought, at, false, salt),
                    answers.push(answer, at, true, salt),
                ];
                if let Some(last) = answers.thoughts.iter_mut().rev().nth(1) {
                    *last = true;
                }
                let text = format!("{THINK}{}{THOUGHT}{}", markers[0], markers[1]);
                answers.marked[at].content.push(Part::Text(text));
                continue;
            }
            for (i, text) in texts.iter().enumerate() {
                let marker = answers.push(text, at, i + 1 == texts.len(), salt);
                answers.marked[at].content.push(Part::Text(marker));
            }
        }
        answers
    }

    /// Lists an answer of message `at`, and returns its marker.
    fn push(&mut self, text: &'a str, at: usize, is_last: bool, salt: usize) -> String {
        // Private-use characters around it: no template treats them in a special way.
        let marker = format!("\u{e000}{salt}.{}\u{e001}", self.markers.len());
        self.markers.push(marker.clone());
        self.texts.push(text);
        self.places.push((at, is_last));
        self.thoughts.push(false);
        marker
    }

    fn have_reasoning(&self) -> bool {
        self.thoughts.contains(&true)
    }

    /// Puts the answers back into `marked` and returns where they and their ends are.
    fn locate(
        &self,
        marked: &str,
        rendered: &str,
        record: &Record,
        template: &ChatTemplate,
    ) -> Result<Vec<Range<usize>>> {
        let problem = |answer: usize, what: &str| {
            Diagnostic::error(format!(
                "chat template {what} the answer in message {} of record `{}`",
                self.places[answer].0 + 1,
                record.id
            ))
            .with_rule("template-changes-answer")
            .at(template.path())
        };
        let mut text = String::with_capacity(rendered.len());
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut rest = marked;
        for (i, marker) in self.markers.iter().enumerate() {
            let (before, after) = rest.split_once(marker.as_str()).ok_or_else(|| {
                let error = problem(i, "leaves out or moves");
                match self.thoughts[i] {
                    true => error.hint("this template shows the reasoning of the last turn only"),
                    false => error,
                }
            })?;
            text.push_str(before);
            let follows_reasoning = i > 0 && self.thoughts[i - 1];
            if follows_reasoning && before != THOUGHT {
                return Err(problem(
                    i - 1,
                    "does not write `</think>` right after the reasoning of",
                ));
            }
            let start = text.len();
            text.push_str(self.texts[i]);
            let mut end = text.len();
            if self.places[i].1 {
                if !after.starts_with(IM_END) {
                    return Err(problem(
                        i,
                        &format!("does not write `{IM_END}` right after"),
                    ));
                }
                end += IM_END.len();
            }
            rest = after;
            match ranges.last_mut() {
                // The end of the reasoning is as much the model's as the rest.
                Some(last) if last.end == start || follows_reasoning => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        if let Some(i) = self
            .markers
            .iter()
            .position(|marker| rest.contains(marker.as_str()))
        {
            return Err(problem(i, "repeats"));
        }
        text.push_str(rest);
        if text != rendered {
            let same = text
                .bytes()
                .zip(rendered.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            let answer = ranges.iter().position(|range| same <= range.end);
            return Err(problem(answer.unwrap_or(0).min(self.places.len() - 1), "changes")
                .expected(excerpt(&text, same))
                .found(excerpt(rendered, same))
                .hint("answers must not begin or end with white space; reasoning is written `<think>\\n..\\n</think>\\n\\n` before the answer"));
        }
        Ok(ranges)
    }
}

/// What follows byte `at`, briefly, as it would stand in JSON.
fn excerpt(text: &str, at: usize) -> String {
    let start = text.floor_char_boundary(at);
    let head: String = text[start..].chars().take(24).collect();
    format!("`{}`", head.escape_debug())
}

fn texts(record: &Record) -> impl Iterator<Item = (usize, &str)> {
    record
        .messages
        .iter()
        .enumerate()
        .flat_map(|(at, message)| {
            message.content.iter().filter_map(move |part| match part {
                Part::Text(text) => Some((at, text.as_str())),
                Part::Image(_) => None,
            })
        })
}

/// A number that makes markers which occur nowhere in the record.
fn unused_salt(record: &Record) -> usize {
    (0..)
        .find(|salt| texts(record).all(|(_, text)| !text.contains(&format!("\u{e000}{salt}."))))
        .expect("a record is finite")
}

/// A special token in a text would be taken for the real one: an image that is not there, a turn
/// that nobody took.
fn refuse_structure_in_text(record: &Record) -> Result<()> {
    for (at, text) in texts(record) {
        if let Some(token) = STRUCTURAL.iter().find(|token| text.contains(**token)) {
            return Err(Diagnostic::error(format!(
                "message {} of record `{}` holds the special token `{token}` as text",
                at + 1,
                record.id
            ))
            .with_rule("special-token")
            .hint("images and turns have their own parts and messages; take the token out of the text"));
        }
    }
    for (at, message) in record.messages.iter().enumerate() {
        if message.role == Role::Assistant
            && message
                .content
                .iter()
                .any(|part| matches!(part, Part::Image(_)))
        {
            return Err(Diagnostic::error(format!(
                "message {} of record `{}` is an answer with an image",
                at + 1,
                record.id
            ))
            .with_rule("image-role")
            .expected("text only"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
