//! What a checkpoint is evaluated as. Embedding and Reranker checkpoints have the config of the models
//! they were trained from, so it is asked for, and a folder that looks like one is pointed out.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;
use vlft_base::{Diagnostic, Result, did_you_mean, one_of};
use vlft_checkpoint::{Checkpoint, Config as ModelConfig};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// The loss of the answers.
    #[default]
    Answers,
    /// Whether a question's nearest document is its answer.
    Embedding,
    /// Whether `yes` is likelier than `no` where the answer is `yes`.
    Reranker,
}

impl Task {
    pub const NAMES: [&'static str; 3] = ["answers", "embedding", "reranker"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The task that a model folder is made for, as far as its files or its name say.
    pub fn of_folder(dir: &Path, config: &ModelConfig, checkpoint: &Checkpoint) -> Self {
        let headless = !config.tie_word_embeddings && checkpoint.shape("lm_head.weight").is_none();
        let name = dir
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase());
        let named = |word: &str| name.as_ref().is_some_and(|name| name.contains(word));
        if named("reranker") {
            Self::Reranker
        } else if headless || named("embedding") || is_sentence_encoder(dir) {
            Self::Embedding
        } else {
            Self::Answers
        }
    }

    /// What is said when the folder looks made for another task.
    pub(crate) fn warning(self, asked: Self, dir: &Path) -> Option<Diagnostic> {
        if self == asked || self == Self::Answers {
            return None;
        }
        let what = match self {
            Self::Embedding => "an Embedding",
            _ => "a Reranker",
        };
        let error = Diagnostic::warning(format!("this looks like {what} checkpoint"))
            .at(dir)
            .hint(format!("`--task {}` measures what it is for", self.name()));
        Some(error)
    }
}

impl FromStr for Task {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Answers, Self::Embedding, Self::Reranker]
            .into_iter()
            .find(|task| task.name() == text)
            .ok_or_else(|| {
                let error = Diagnostic::error(format!("unknown task `{text}`"))
                    .expected(one_of(Self::NAMES));
                match did_you_mean(text, Self::NAMES) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error,
                }
            })
    }
}

/// `modules.json` of sentence-transformers lists a pooling.
fn is_sentence_encoder(dir: &Path) -> bool {
    fs::read_to_string(dir.join("modules.json")).is_ok_and(|text| text.contains("Pooling"))
}
