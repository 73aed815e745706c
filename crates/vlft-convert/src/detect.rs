//! `--from auto`: which format a file is in, and by what one sees it.

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Kind, Result};

use crate::dataset_info;
use crate::elements::Elements;
use crate::format::Format;

/// A format and why it is that one.
pub(crate) type Guess = (Format, String);

/// So many broken examples are passed over.
const BROKEN: usize = 100;

/// By the first example that is JSON; the others must follow it.
pub(crate) fn detect(path: &Path) -> Result<Guess> {
    let metadata = path.metadata().map_err(|e| cannot("read", path, e))?;
    if metadata.is_dir() {
        let reason = "it is a folder; only olmOCR's pairs come as one";
        return Ok((Format::OlmOcr, reason.to_owned()));
    }
    let mut start = [0; 4];
    let mut file = input::open(path).map_err(|e| cannot("open", path, e))?;
    if file.read(&mut start).map_err(|e| cannot("read", path, e))? == 4 && &start == b"PAR1" {
        let reason = "it is a parquet file";
        return Ok((Format::Trl, reason.to_owned()));
    }
    if let Some((name, entry)) = dataset_info::entry_of(path)? {
        let format = match entry.is_alpaca {
            true => Format::Alpaca,
            false => Format::LlamaFactory,
        };
        return Ok((
            format,
            format!("dataset_info.json beside it calls it `{name}`"),
        ));
    }
    let mut elements = Elements::open(path)?;
    let mut first_line = None;
    let unknown = |message: &str, line: u64| {
        Diagnostic::error(message)
            .at_line(path, line)
            .hint(format!("name it: `--from {}`", names().join("|")))
    };
    for passed in 0..=BROKEN {
        let Some(example) = elements.next()? else {
            break;
        };
        first_line.get_or_insert(example.line);
        let text = example.text.ok();
        let Some(value) = text.and_then(|text| serde_json::from_str::<Value>(&text).ok()) else {
            continue;
        };
        let (format, reason) = by_keys(&value).ok_or_else(|| {
            let message = "cannot tell the format of the file by its first example";
            unknown(message, example.line)
                .expected("`messages`, `conversations`, `instruction`, `query` or `annotations`")
        })?;
        let reason = match passed {
            0 => reason,
            _ => reason.replace("the first example", "the first that is JSON"),
        };
        return Ok((format, reason));
    }
    Err(match first_line {
        Some(line) => unknown(
            "cannot tell the format of the file: its examples are not JSON",
            line,
        ),
        None => Diagnostic::error("the file has no records")
            .at(path)
            .with_kind(Kind::NothingToDo),
    })
}

pub(crate) fn names() -> Vec<&'static str> {
    Format::ALL.into_iter().map(Format::name).collect()
}

fn by_keys(value: &Value) -> Option<Guess> {
    if let Value::Array(packed) = value {
        let inner = packed.first().filter(|inner| inner.is_object())?;
        return by_keys(inner).filter(|(format, _)| *format == Format::Qwen);
    }
    let has = |key: &str| value.get(key).is_some();
    let told = |format, reason: &str| Some((format, format!("the first example has {reason}")));
    if has("annotations") && has("data") {
        return told(Format::LabelStudio, "`data` and `annotations`");
    }
    if has("instruction") && has("output") {
        return told(Format::Alpaca, "`instruction` and `output`");
    }
    if has("query") && has("response") {
        return told(Format::Swift, "`query` and `response`");
    }
    if let Some(first) = value.get("conversations").and_then(|turns| turns.get(0)) {
        let tagged = first.get("from").is_some();
        return match (tagged, has("image"), has("images")) {
            (true, _, false) => told(Format::Qwen, "`conversations` with `from`, and no `images`"),
            (true, false, true) => told(Format::LlamaFactory, "`conversations` and `images`"),
            _ => told(Format::Swift, "`conversations`"),
        };
    }
    let messages = value.get("messages")?.as_array()?;
    let mut parts = messages
        .iter()
        .filter_map(|message| message.get("content")?.as_array())
        .flatten();
    let kind = |part: &Value| part.get("type").and_then(Value::as_str).map(str::to_owned);
    if parts
        .clone()
        .any(|part| kind(part).as_deref() == Some("image_url"))
    {
        return match has("images") {
            true => told(
                Format::Swift,
                "parts of type `image_url` and `images` beside them",
            ),
            false => told(Format::OpenAi, "parts of type `image_url`"),
        };
    }
    let all_parts = messages
        .iter()
        .all(|m| m.get("content").is_some_and(Value::is_array));
    if all_parts && value.get("id").is_some_and(Value::is_string) && !has("images") {
        return told(Format::Vlft, "an `id`, and parts in every message");
    }
    if parts.any(|part| kind(part).as_deref() == Some("image")) || has("images") {
        return told(
            Format::Swift,
            "`messages` and images beside or in them (LLaMA-Factory's look the same, but no \
             dataset_info.json names this file)",
        );
    }
    told(Format::OpenAi, "`messages` of texts only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_keys() {
        for (text, expected) in [
            (
                r#"{"id":"a","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}"#,
                Some(Format::Vlft),
            ),
            (
                r#"{"messages":[{"role":"user","content":"<image>x"}],"images":["a"]}"#,
                Some(Format::Swift),
            ),
            (
                r#"{"messages":[{"role":"user","content":"x"}]}"#,
                Some(Format::OpenAi),
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":"x"}]}]}"#,
                Some(Format::OpenAi),
            ),
            (
                r#"{"image":"a","conversations":[{"from":"human","value":"x"}]}"#,
                Some(Format::Qwen),
            ),
            (
                r#"[{"conversations":[{"from":"human","value":"x"}]}]"#,
                Some(Format::Qwen),
            ),
            (
                r#"{"images":["a"],"conversations":[{"from":"human","value":"x"}]}"#,
                Some(Format::LlamaFactory),
            ),
            (r#"{"instruction":"a","output":"b"}"#, Some(Format::Alpaca)),
            (r#"{"query":"a","response":"b"}"#, Some(Format::Swift)),
            (
                r#"{"id":1,"data":{},"annotations":[]}"#,
                Some(Format::LabelStudio),
            ),
            (r#"{"text":"x"}"#, None),
            ("7", None),
            ("[7]", None),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                by_keys(&value).map(|(format, _)| format),
                expected,
                "{text}"
            );
        }
    }
}
