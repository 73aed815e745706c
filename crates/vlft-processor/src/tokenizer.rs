//! The model's tokenizer, and the special tokens that the rest relies on, by name.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use vlft_base::digest::sha256;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result, input};

use crate::model_files::{get, read_json};

pub(crate) const IMAGE_PAD: &str = "<|image_pad|>";
pub(crate) const IM_END: &str = "<|im_end|>";

/// Tokens that give a conversation its structure. Text of a record that holds one of them would
/// change that structure, so it is refused.
pub(crate) const STRUCTURAL: [&str; 8] = [
    "<|im_start|>",
    IM_END,
    "<|vision_start|>",
    "<|vision_end|>",
    IMAGE_PAD,
    "<|vision_pad|>",
    "<|video_pad|>",
    "<|endoftext|>",
];

/// The first five of [`STRUCTURAL`]: without them there is no conversation with images.
const REQUIRED: usize = 5;

/// What `config.json` calls them.
const IN_CONFIG: [(&str, &str); 4] = [
    ("image_token_id", IMAGE_PAD),
    ("vision_start_token_id", "<|vision_start|>"),
    ("vision_end_token_id", "<|vision_end|>"),
    ("video_token_id", "<|video_pad|>"),
];

pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    sha256: String,
    /// Text before and after a structural token is tokenized as if it stood alone.
    pub(crate) splits: bool,
    pub(crate) image_pad: u32,
    /// Fills the ends of short rows in a batch.
    pub(crate) pad: u32,
}

pub(crate) struct Encoded {
    pub(crate) ids: Vec<u32>,
    /// Per token, the bytes of the text that it stands for.
    pub(crate) spans: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and checks it against `config.json` and `tokenizer_config.json`.
    pub(crate) fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let bytes = input::read(&path).map_err(|e| {
            if e.kind() == std::io::ErrorKind::NotFound {
                Diagnostic::error("model directory lacks `tokenizer.json`")
                    .at(dir)
                    .hint("copy it from where the model came from")
            } else {
                cannot("read", &path, e)
            }
        })?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| {
            Diagnostic::error("cannot use the tokenizer")
                .at(&path)
                .caused_by(e)
        })?;
        refuse_added_tokens(&bytes, &path)?;
        // It only trims the offsets of tokens, and labels need the untrimmed ones.
        inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| {
            Diagnostic::error("cannot use the tokenizer")
                .at(&path)
                .caused_by(e)
        })?;
        let image_pad = check_special_tokens(&inner, &path)?;
        check_against_config(&inner, dir)?;
        let pad = pad_token(&inner, dir)?;
        Ok(Self {
            splits: splits_at_structure(&inner, &bytes),
            inner,
            sha256: sha256(&bytes),
            image_pad,
            pad,
        })
    }

    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The special tokens, as text.
    pub(crate) fn control_tokens(&self) -> Vec<String> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.into_values().filter(|token| token.special);
        let mut tokens: Vec<String> = special.map(|token| token.content).collect();
        tokens.sort();
        tokens
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Encoded> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| Diagnostic::error("cannot tokenize text").caused_by(e))?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            spans: encoding
                .get_offsets()
                .iter()
                .map(|(start, end)| *start..*end)
                .collect(),
        })
    }

    /// As many ids as [`Tokenizer::encode`] gives, without their places.
    pub(crate) fn count(&self, text: &str) -> Result<usize> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| Diagnostic::error("cannot tokenize text").caused_by(e))?;
        Ok(encoding.len())
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, false)
            .map_err(|e| Diagnostic::error("cannot turn tokens into text").caused_by(e))
    }
}

/// A post-processor may add tokens around every text. Qwen's does not; others are not ours to guess.
fn refuse_added_tokens(bytes: &[u8], path: &Path) -> Result<()> {
    let json: Value = serde_json::from_slice(bytes).expect("the tokenizer was just read from it");
    match json["post_processor"]["type"].as_str() {
        None | Some("ByteLevel") => Ok(()),
        Some(other) => Err(Diagnostic::error(format!(
            "tokenizer post-processor `{other}` is not supported"
        ))
        .at(path)
        .detail("`post_processor`")
        .expected("`ByteLevel` or none, as in Qwen's tokenizers")),
    }
}

/// Whether a text may be tokenized piece by piece between structural tokens. These are cut out before
/// anything else happens, unless one of them swallows white space or goes through the normalizer;
/// and nothing after may treat the beginning of a text in its own way, as `Metaspace` does.
fn splits_at_structure(inner: &tokenizers::Tokenizer, bytes: &[u8]) -> bool {
    let added = inner.get_added_tokens_decoder();
    let plain = |token: &&str| {
        added.values().any(|added| {
            added.content == **token
                && !(added.lstrip || added.rstrip || added.single_word || added.normalized)
        })
    };
    let mut known = STRUCTURAL
        .into_iter()
        .filter(|token| inner.token_to_id(token).is_some());
    let json: Value = serde_json::from_slice(bytes).expect("the tokenizer was just read from it");
    let (before, normalizer) = (
        json["pre_tokenizer"].to_string(),
        &json["normalizer"]["type"],
    );
    known.all(|token| plain(&token))
        && !before.contains("Metaspace")
        && !before.contains("\"add_prefix_space\":true")
        && matches!(normalizer.as_str(), None | Some("NFC"))
}

/// Returns the id of the image placeholder.
fn check_special_tokens(inner: &tokenizers::Tokenizer, path: &Path) -> Result<u32> {
    let missing: Vec<String> = STRUCTURAL[..REQUIRED]
        .iter()
        .filter(|token| inner.token_to_id(token).is_none())
        .map(|token| format!("`{token}`"))
        .collect();
    if !missing.is_empty() {
        return Err(
            Diagnostic::error("tokenizer lacks special tokens of Qwen3-VL")
                .at(path)
                .expected(missing.join(", "))
                .hint("is this the tokenizer of a Qwen3-VL model?"),
        );
    }
    // A token that is in the vocabulary but not among the added ones would be cut into pieces.
    let whole: String = STRUCTURAL[..REQUIRED].concat();
    let expected: Vec<u32> = STRUCTURAL[..REQUIRED]
        .iter()
        .filter_map(|token| inner.token_to_id(token))
        .collect();
    let encoding = inner.encode(whole, false).map_err(|e| {
        Diagnostic::error("cannot use the tokenizer")
            .at(path)
            .caused_by(e)
    })?;
    if encoding.get_ids() != expected {
        return Err(
            Diagnostic::error("tokenizer does not keep special tokens whole")
                .at(path)
                .detail("`added_tokens`")
                .expected("an entry for each special token"),
        );
    }
    Ok(inner.token_to_id(IMAGE_PAD).expect("checked above"))
}

fn check_against_config(inner: &tokenizers::Tokenizer, dir: &Path) -> Result<()> {
    let path = dir.join("config.json");
    let Some(config) = read_json(&path)? else {
        return Ok(());
    };
    for (key, token) in IN_CONFIG {
        let (expected, found) = (get::<u32>(&config, key, &path)?, inner.token_to_id(token));
        if let (Some(expected), Some(found)) = (expected, found)
            && expected != found
        {
            return Err(Diagnostic::error("tokenizer and model disagree")
                .at(&path)
                .detail(format!("`{key}`"))
                .expected(format!("{found} (`{token}` in `tokenizer.json`)"))
                .found(expected.to_string())
                .hint("the files come from different models: copy them again from one place"));
        }
    }
    let rows: Option<usize> = get(&config, "text_config.vocab_size", &path)?;
    let largest = inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
    if let Some(rows) = rows
        && largest >= rows
    {
        return Err(
            Diagnostic::error("tokenizer has ids beyond the model's vocabulary")
                .at(&path)
                .detail("`text_config.vocab_size`")
                .expected(format!("more than {largest}"))
                .found(rows.to_string())
                .hint("the files come from different models: copy them again from one place"),
        );
    }
    Ok(())
}

/// `pad_token` of `tokenizer_config.json`, else `<|endoftext|>`. Also checks that the two tokenizer
/// files number the added tokens alike.
fn pad_token(inner: &tokenizers::Tokenizer, dir: &Path) -> Result<u32> {
    let path = dir.join("tokenizer_config.json");
    let config = read_json(&path)?.unwrap_or(Value::Null);
    let added: HashMap<String, Value> =
        get(&config, "added_tokens_decoder", &path)?.unwrap_or_default();
    for (id, token) in &added {
        let Some(content) = token["content"].as_str() else {
            continue;
        };
        if inner.token_to_id(content).map(|id| id.to_string()).as_ref() != Some(id) {
            return Err(
                Diagnostic::error("`tokenizer.json` and `tokenizer_config.json` disagree")
                    .at(&path)
                    .detail(format!("`added_tokens_decoder.{id}`"))
                    .expected(format!("`{content}` to have the same id in both"))
                    .hint("the files come from different models: copy them again from one place"),
            );
        }
    }
    let name = match &config["pad_token"] {
        Value::Object(token) => token.get("content").and_then(Value::as_str),
        token => token.as_str(),
    };
    let name = name.unwrap_or("<|endoftext|>");
    inner.token_to_id(name).ok_or_else(|| {
        Diagnostic::error(format!("padding token `{name}` is not in the tokenizer"))
            .at(&path)
            .detail("`pad_token`")
    })
}
