//! The processor of one model directory: record in, [`Sample`] out.
//!
//! Token ids, labels, positions, grids and pixels equal those of transformers' `Qwen3VLProcessor`.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::image_path::find;
use vlft_dataset::record::Record;
use vlft_dataset::token_counter::{ImageSize, TokenCount, TokenCounter};

use crate::chat_template::ChatTemplate;
use crate::contract::{Contract, RESAMPLE};
use crate::image_file;
use crate::labels::{self, Conversation};
use crate::patchify::patchify;
use crate::position::{Run, position_ids};
pub use crate::preprocessor::Options;
use crate::preprocessor::Preprocessor;
use crate::resample::resample;
use crate::sample::{IGNORED, PatchedImage, Sample};
use crate::smart_resize::smart_resize;
use crate::tokenizer::Tokenizer;

/// Shared freely between threads; nothing in it changes.
pub struct Processor {
    preprocessor: Preprocessor,
    template: ChatTemplate,
    tokenizer: Tokenizer,
}

/// A record as tokens, each image still one placeholder.
struct Outline {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

impl Processor {
    /// Reads `preprocessor_config.json`, the chat template, `tokenizer.json`, and what `config.json`
    /// says about them. An error names the file, and the key in it.
    pub fn from_dir(model_dir: &Path, options: &Options) -> Result<Self> {
        if !model_dir.is_dir() {
            return Err(Diagnostic::error("model directory not found")
                .at(model_dir)
                .expected("a directory with `config.json`, `tokenizer.json` and the like"));
        }
        Ok(Self {
            preprocessor: Preprocessor::from_dir(model_dir, options)?,
            template: ChatTemplate::from_dir(model_dir)?,
            tokenizer: Tokenizer::from_dir(model_dir)?,
        })
    }

    /// What the model is fed for one record. `base` is the directory of the JSONL file.
    ///
    /// Errors: an image that is missing or broken, special tokens in a text, a conversation that the
    /// template refuses or whose answers it changes. They name the record or the file, not the line.
    pub fn sample(&self, record: &Record, base: &Path) -> Result<Sample> {
        let outline = self.outline(record)?;
        let paths: Vec<PathBuf> = record.images().map(|path| image_path(base, path)).collect();
        let images = paths
            .par_iter()
            .map(|path| self.image(path))
            .collect::<Result<_>>()?;
        Ok(self.expand(record, &outline, images))
    }

    /// One image file as patches.
    pub fn image(&self, path: &Path) -> Result<PatchedImage> {
        let image = image_file::load(path)?;
        let (width, height) = self.resized(image.dimensions(), path)?;
        let planes = resample(&image, width as usize, height as usize);
        Ok(patchify(&planes, &self.preprocessor))
    }

    /// Fills the ends of short rows in [`crate::collate::collate`].
    pub fn pad_token_id(&self) -> u32 {
        self.tokenizer.pad
    }

    /// Tokens as text, special ones included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids)
    }

    pub fn contract(&self) -> Contract {
        let settings = &self.preprocessor;
        let file = self.template.path().file_name();
        Contract {
            min_pixels: settings.min_pixels,
            max_pixels: settings.max_pixels,
            patch_size: settings.patch_size,
            temporal_patch_size: settings.temporal_patch_size,
            merge_size: settings.merge_size,
            image_mean: settings.image_mean,
            image_std: settings.image_std,
            rescale_factor: settings.rescale_factor,
            resample: RESAMPLE.to_owned(),
            chat_template: file
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            chat_template_sha256: self.template.sha256().to_owned(),
            tokenizer_sha256: self.tokenizer.sha256().to_owned(),
        }
    }

    /// Language model tokens of an image that was resized to (width, height).
    pub(crate) fn image_tokens(&self, resized: (u32, u32)) -> usize {
        self.preprocessor.tokens(resized)
    }

    /// The rendered text, each image one placeholder.
    pub(crate) fn conversation(&self, record: &Record) -> Result<Conversation> {
        labels::render(&self.template, record)
    }

    fn outline(&self, record: &Record) -> Result<Outline> {
        let conversation = self.conversation(record)?;
        let tokens = self.tokenizer.encode(&conversation.text)?;
        let trained = labels::trained_tokens(&tokens, &conversation.trained, record)?;
        Ok(Outline {
            ids: tokens.ids,
            trained,
        })
    }

    /// (width, height) on disk -> (width, height) as the model sees it.
    fn resized(&self, size: (u32, u32), path: &Path) -> Result<(u32, u32)> {
        let settings = &self.preprocessor;
        smart_resize(
            size,
            settings.factor() as u32,
            settings.min_pixels,
            settings.max_pixels,
        )
        .map_err(|e| e.at(path))
    }

    /// Replaces each placeholder by as many tokens as its image has.
    fn expand(&self, record: &Record, outline: &Outline, images: Vec<PatchedImage>) -> Sample {
        let merge = self.preprocessor.merge_size;
        let mut sizes = images.iter().map(|image| {
            let [_, grid_h, grid_w] = image.grid_thw;
            (grid_h / merge, grid_w / merge)
        });
        let (mut input_ids, mut labels, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let mut runs = Vec::new();
        for (&id, &trained) in outline.ids.iter().zip(&outline.trained) {
            let (n, kind) = if id == self.tokenizer.image_pad {
                let (rows, columns) = sizes.next().expect("as many placeholders as images");
                runs.push(Run::Image { rows, columns });
                (rows * columns, 1)
            } else {
                runs.push(Run::Text(1));
                (1, 0)
            };
            let label = if trained { id as i32 } else { IGNORED };
            input_ids.extend(std::iter::repeat_n(id, n));
            labels.extend(std::iter::repeat_n(label, n));
            kinds.extend(std::iter::repeat_n(kind, n));
        }
        Sample {
            id: record.id.clone(),
            input_ids,
            labels,
            position_ids: position_ids(runs),
            mm_token_type_ids: kinds,
            images,
        }
    }
}

impl TokenCounter for Processor {
    fn count(&self, record: &Record, base: &Path) -> Result<TokenCount> {
        let outline = self.outline(record)?;
        let mut image = 0;
        let mut images = Vec::new();
        for path in record.images() {
            let path = image_path(base, path);
            let original = image_file::size(&path)?;
            let resized = self.resized(original, &path)?;
            image += self.image_tokens(resized);
            images.push(ImageSize { original, resized });
        }
        Ok(TokenCount {
            total: outline.ids.len() - images.len() + image,
            image,
            // The first token of a row is never predicted.
            supervised: outline
                .trained
                .iter()
                .skip(1)
                .filter(|trained| **trained)
                .count(),
            images,
        })
    }
}

/// Where the image is, or where it should be. (`validate` warns of one that is only found relative to
/// the working directory.)
pub(crate) fn image_path(base: &Path, image: &str) -> PathBuf {
    match find(base, image) {
        Some(found) => found.path,
        None => base.join(image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::fs;
    use std::sync::LazyLock;
    use vlft_dataset::record::Role;

    fn tiny_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny")
    }

    static TINY: LazyLock<Processor> =
        LazyLock::new(|| Processor::from_dir(&tiny_dir(), &Options::default()).unwrap());

    /// As the published vocabulary has it, two line breaks are one token.
    static MERGING: LazyLock<Processor> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "config.json",
            "chat_template.json",
            "preprocessor_config.json",
            "tokenizer_config.json",
        ] {
            fs::copy(tiny_dir().join(name), dir.path().join(name)).unwrap();
        }
        let tokenizer = fs::read_to_string(tiny_dir().join("tokenizer.json")).unwrap();
        let merging = tokenizer.replacen("\"ĠĠĠĠĠ\":", "\"ĊĊ\":", 1).replacen(
            "[\"ĠĠ\",\"ĠĠĠ\"]",
            "[\"Ċ\",\"Ċ\"]",
            1,
        );
        fs::write(dir.path().join("tokenizer.json"), merging).unwrap();
        Processor::from_dir(dir.path(), &Options::default()).unwrap()
    });

    fn record(messages: serde_json::Value) -> Record {
        serde_json::from_value(json!({"id": "r", "messages": messages})).unwrap()
    }

    fn text(role: &str, text: &str) -> serde_json::Value {
        json!({"role": role, "content": [{"type": "text", "text": text}]})
    }

    /// What generation starts from must be what training put before the answer, token for token.
    /// An answer for which that fails must be refused.
    fn prompt_is_a_token_prefix(processor: &Processor, question: &str, answer: &str) {
        let record = record(json!([text("user", question), text("assistant", answer)]));
        let sample = match processor.sample(&record, Path::new("")) {
            Ok(sample) => sample,
            Err(e) => return assert_eq!(e.rule(), Some("answer-boundary"), "{e}"),
        };
        let prompt = processor
            .template
            .render(&record.messages[..1], true)
            .unwrap();
        let prompt = processor.tokenizer.encode(&prompt).unwrap().ids;
        let trained = sample
            .labels
            .iter()
            .position(|label| *label != IGNORED)
            .unwrap();
        assert_eq!(
            sample.input_ids[..trained],
            prompt,
            "{question:?} {answer:?}"
        );
        let end = sample
            .labels
            .iter()
            .rposition(|label| *label != IGNORED)
            .unwrap();
        assert!(
            sample.labels[trained..=end]
                .iter()
                .all(|label| *label != IGNORED)
        );
        let answer_again = processor.decode(&sample.input_ids[trained..end]).unwrap();
        // The tokenizer composes accents (NFC); otherwise nothing is lost.
        if answer.is_ascii() {
            assert_eq!(answer_again, answer);
        }
        assert_eq!(
            processor.decode(&[sample.input_ids[end]]).unwrap(),
            "<|im_end|>"
        );
    }

    proptest! {
        #[test]
        fn the_prompt_is_a_token_prefix_or_the_answer_is_refused(
            question in "[ \n\t{}a-zA-Z0-9éß你'\"\u{301}]{0,12}",
            answer in "[ \n\r\t{}:a-zA-Z0-9éß你'\"\u{301}]{0,12}",
        ) {
            prompt_is_a_token_prefix(&TINY, &question, &answer);
            prompt_is_a_token_prefix(&MERGING, &question, &answer);
        }
    }

    #[test]
    fn answers_that_begin_with_a_line_break_are_refused_others_are_not() {
        for (answer, fine) in [
            ("{}", true),
            (" {}", true),
            ("\t{}", true),
            ("\n{}", false),
            ("\n\n{}", false),
        ] {
            let record = record(json!([text("user", "?"), text("assistant", answer)]));
            assert_eq!(
                MERGING.sample(&record, Path::new("")).is_ok(),
                fine,
                "{answer:?}"
            );
            prompt_is_a_token_prefix(&MERGING, "?", answer);
        }
    }

    #[test]
    fn under_every_template_the_trained_tokens_are_the_answers_and_their_ends() {
        let fixtures = tiny_dir().join("..");
        for template in ["plain.jinja", "tools.jinja"] {
            let dir = tempfile::tempdir().unwrap();
            for name in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
                fs::copy(tiny_dir().join(name), dir.path().join(name)).unwrap();
            }
            let source = fixtures.join("templates").join(template);
            fs::copy(source, dir.path().join("chat_template.jinja")).unwrap();
            let processor = Processor::from_dir(dir.path(), &Options::default()).unwrap();
            let data = fs::read_to_string(fixtures.join("data/train.jsonl")).unwrap();
            for line in data.lines() {
                let record: Record = serde_json::from_str(line).unwrap();
                let sample = processor.sample(&record, &fixtures.join("data")).unwrap();
                let trained: Vec<u32> = (sample.labels.iter())
                    .filter(|label| **label != IGNORED)
                    .map(|label| *label as u32)
                    .collect();
                let answers: String = (record.messages.iter())
                    .filter(|message| message.role == Role::Assistant)
                    .map(|message| message.text() + "<|im_end|>")
                    .collect();
                assert_eq!(processor.decode(&trained).unwrap(), answers, "{template}");
            }
        }
    }

    #[test]
    fn images_that_are_missing_or_of_an_impossible_shape_are_named() {
        let dir = tempfile::tempdir().unwrap();
        image::RgbImage::new(1, 9000)
            .save(dir.path().join("tall.png"))
            .unwrap();
        let with = |name: &str| {
            let image = json!({"type": "image", "image": name});
            record(json!([{"role": "user", "content": [image]}, text("assistant", "{}")]))
        };
        for (name, rule) in [("tall.png", "image-aspect"), ("no.png", "image-missing")] {
            let sample = TINY.sample(&with(name), dir.path()).unwrap_err();
            let count = TINY.count(&with(name), dir.path()).unwrap_err();
            assert_eq!((sample.rule(), count.rule()), (Some(rule), Some(rule)));
            assert_eq!(sample.places()[0].file, dir.path().join(name));
        }
    }

    #[test]
    fn a_conversation_that_stops_before_an_answer_has_nothing_to_train_on() {
        let record = record(json!([text("system", "a"), text("user", "b")]));
        assert_eq!(record.messages[1].role, Role::User);
        let sample = TINY.sample(&record, Path::new("")).unwrap();
        assert_eq!(sample.supervised(), 0);
        assert_eq!(
            TINY.count(&record, Path::new("")).unwrap().total,
            sample.len()
        );
    }

    #[test]
    fn a_model_directory_with_a_fault_is_refused_by_file_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "config.json",
            "preprocessor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        let restore = || {
            for name in names {
                fs::copy(tiny_dir().join(name), dir.path().join(name)).unwrap();
            }
        };
        restore();
        Processor::from_dir(dir.path(), &Options::default()).unwrap();
        for (name, from, to, expected) in [
            (
                "config.json",
                "\"image_token_id\": ",
                "\"image_token_id\": 1",
                "`image_token_id`",
            ),
            (
                "config.json",
                "\"vocab_size\": ",
                "\"vocab_size\": 0.",
                "`text_config.vocab_size`",
            ),
            ("config.json", "{", "{,", "not valid JSON"),
            (
                "tokenizer.json",
                "<|image_pad|>",
                "<|image_bad|>",
                "`<|image_pad|>`",
            ),
            (
                "tokenizer.json",
                "\"type\":\"BPE\"",
                "\"type\":\"XPE\"",
                "cannot use the tokenizer",
            ),
            (
                "tokenizer_config.json",
                "\"pad_token\": \"<|endoftext|>\"",
                "\"pad_token\": \"<pad>\"",
                "`<pad>`",
            ),
            (
                "tokenizer_config.json",
                "\"content\": \"<|im_start|>\"",
                "\"content\": \"<|im_end|>\"",
                "disagree",
            ),
        ] {
            restore();
            let path = dir.path().join(name);
            let whole = fs::read_to_string(&path).unwrap();
            let broken = whole.replacen(from, to, 1);
            assert_ne!(whole, broken, "{name} has no {from}");
            fs::write(&path, broken).unwrap();
            let Err(error) = Processor::from_dir(dir.path(), &Options::default()) else {
                panic!("{name} with {to} was accepted");
            };
            assert!(
                error.to_string().contains(expected),
                "{error} lacks {expected}"
            );
        }
        for name in ["preprocessor_config.json", "tokenizer.json"] {
            restore();
            fs::remove_file(dir.path().join(name)).unwrap();
            let Err(error) = Processor::from_dir(dir.path(), &Options::default()) else {
                panic!("a directory without {name} was accepted");
            };
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn the_contract_tells_what_changed() {
        let own = TINY.contract();
        let json = serde_json::to_string(&own).unwrap();
        let read: Contract = serde_json::from_str(&json).unwrap();
        assert_eq!(read, own);
        let options = Options {
            min_pixels: None,
            max_pixels: Some(8192),
        };
        let other = Processor::from_dir(&tiny_dir(), &options)
            .unwrap()
            .contract();
        assert_eq!(own.differences(&own), Vec::<String>::new());
        assert_eq!(
            own.differences(&other),
            [format!(
                "max_pixels: {} in the contract, 8192 now",
                own.max_pixels
            )]
        );
        let repeated = Processor::from_dir(&tiny_dir(), &other.options()).unwrap();
        assert_eq!(repeated.contract(), other);
    }
}
