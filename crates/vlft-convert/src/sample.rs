//! One training example on its way from one format to another. It differs from a
//! [`vlft_dataset::record::Record`] in what foreign files hold: images inside the file, addresses on
//! the web, and rows without an id.

use vlft_dataset::json::Step;
use vlft_dataset::record::{Meta, Role};

use crate::rules::RuleId;

/// A conversation, what is known about it, and what was already lost when it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// `None`: the source has none, and one is made of its file and number.
    pub id: Option<String>,
    pub turns: Vec<Turn>,
    pub meta: Option<Meta>,
    pub losses: Vec<Loss>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    pub role: Role,
    /// In the order the model sees it.
    pub content: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Image(Image),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// As the source has it: relative to its file, to a media folder, or absolute.
    Path(String),
    /// `http:` and the like. Never fetched.
    Url(String),
    /// Inside the file. `name` is what the file calls it.
    Bytes {
        bytes: Vec<u8>,
        name: Option<String>,
    },
}

/// Something of a record that the target does not hold, or holds and does not heed. The record is
/// written all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub rule: RuleId,
    pub reason: String,
}

/// Why a record cannot be read, or cannot be written in the target format at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub rule: RuleId,
    pub reason: String,
    /// Where in the JSON of the source, when it is JSON.
    pub path: Vec<Step>,
    /// 1-based, where the source's own reader told it.
    pub column: Option<u64>,
    /// The record's id, where it could be read.
    pub id: Option<String>,
}

impl Refusal {
    pub(crate) fn new(rule: RuleId, reason: impl Into<String>) -> Self {
        Self {
            rule,
            reason: reason.into(),
            path: Vec::new(),
            column: None,
            id: None,
        }
    }

    pub(crate) fn at(mut self, path: &[Step]) -> Self {
        self.path = path.to_vec();
        self
    }
}

impl Sample {
    pub(crate) fn lose(&mut self, rule: RuleId, reason: impl Into<String>) {
        self.losses.push(Loss {
            rule,
            reason: reason.into(),
        });
    }

    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.turns
            .iter()
            .flat_map(|turn| &turn.content)
            .filter_map(|piece| match piece {
                Piece::Image(image) => Some(image),
                Piece::Text(_) => None,
            })
    }

    /// The system turn's text, if there is one.
    pub(crate) fn system(&self) -> Option<String> {
        self.turns
            .first()
            .filter(|turn| turn.role == Role::System)
            .map(Turn::text)
    }

    /// All turns but the system's.
    pub(crate) fn dialogue(&self) -> &[Turn] {
        let skipped = self
            .turns
            .first()
            .is_some_and(|turn| turn.role == Role::System);
        &self.turns[usize::from(skipped)..]
    }

    /// How much the record counts in training: `meta.weight`, or 1.
    pub(crate) fn weight(&self) -> f64 {
        let meta = self.meta.as_ref();
        meta.and_then(|meta| meta.get("weight")?.as_f64())
            .unwrap_or(1.0)
    }

    /// Joins texts that stand side by side and drops empty ones: no chat template and no model can
    /// tell the difference, and most formats cannot hold it.
    pub(crate) fn normalise(&mut self) {
        for turn in &mut self.turns {
            turn.content = normal(std::mem::take(&mut turn.content));
        }
    }
}

impl Turn {
    pub fn new(role: Role, content: Vec<Piece>) -> Self {
        Self { role, content }
    }

    pub(crate) fn says(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, vec![Piece::Text(text.into())])
    }

    /// All its texts, joined.
    pub fn text(&self) -> String {
        self.content
            .iter()
            .filter_map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Image(_) => None,
            })
            .collect()
    }

    pub(crate) fn has_image(&self) -> bool {
        self.content
            .iter()
            .any(|piece| matches!(piece, Piece::Image(_)))
    }
}

/// See [`Sample::normalise`].
pub(crate) fn normal(content: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(content.len());
    for piece in content {
        match (out.last_mut(), piece) {
            (_, Piece::Text(text)) if text.is_empty() => {}
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
            (_, piece) => out.push(piece),
        }
    }
    out
}
