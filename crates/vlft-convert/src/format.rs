//! The formats, by the names a person types.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A tool's way to write a dataset down. `docs/formats.md` shows each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Our own records.
    Vlft,
    /// LLaMA-Factory's `sharegpt` formatting.
    LlamaFactory,
    /// LLaMA-Factory's `alpaca` formatting.
    Alpaca,
    Swift,
    /// The `conversations` of Qwen's own fine-tuning code.
    Qwen,
    /// `OpenAI`'s vision fine-tuning.
    OpenAi,
    /// Hugging Face parquet with `prompt` and `completion`.
    Trl,
    /// Hugging Face parquet with `messages`.
    TrlMessages,
    /// Pairs of a one-page PDF and a Markdown file.
    OlmOcr,
    LabelStudio,
}

impl Format {
    pub const ALL: [Format; 10] = [
        Format::Vlft,
        Format::LlamaFactory,
        Format::Alpaca,
        Format::Swift,
        Format::Qwen,
        Format::OpenAi,
        Format::Trl,
        Format::TrlMessages,
        Format::OlmOcr,
        Format::LabelStudio,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Format::Vlft => "vlft",
            Format::LlamaFactory => "llama-factory",
            Format::Alpaca => "alpaca",
            Format::Swift => "ms-swift",
            Format::Qwen => "qwen",
            Format::OpenAi => "openai",
            Format::Trl => "trl",
            Format::TrlMessages => "trl-messages",
            Format::OlmOcr => "olmocr",
            Format::LabelStudio => "label-studio",
        }
    }

    /// One line for the help.
    pub fn about(self) -> &'static str {
        match self {
            Format::Vlft => "our records (JSONL)",
            Format::LlamaFactory => "LLaMA-Factory `sharegpt`, with its entry in dataset_info.json",
            Format::Alpaca => "LLaMA-Factory `alpaca`, with its entry in dataset_info.json",
            Format::Swift => "ms-swift (JSONL)",
            Format::Qwen => "the conversations of Qwen's own fine-tuning code",
            Format::OpenAi => "OpenAI vision fine-tuning, images as data URLs",
            Format::Trl => "parquet for TRL and `datasets`: images, prompt, completion",
            Format::TrlMessages => "the same with `messages` instead",
            Format::OlmOcr => "a folder of one-page PDFs and Markdown beside them",
            Format::LabelStudio => "a Label Studio export (only read)",
        }
    }

    /// What [`crate::convert`] can make.
    pub fn is_written(self) -> bool {
        self != Format::LabelStudio
    }

    /// Images lie in the output, not beside it.
    pub(crate) fn embeds_images(self) -> bool {
        matches!(
            self,
            Format::OpenAi | Format::Trl | Format::TrlMessages | Format::OlmOcr
        )
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Format::name);
                match vlft_base::did_you_mean(text, names) {
                    Some(near) => format!("unknown format; did you mean `{near}`?"),
                    None => format!("unknown format; expected {}", vlft_base::one_of(names)),
                }
            })
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
