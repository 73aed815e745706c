//! The processor of one model directory: record in, [`Sample`] out.
//!
//! Token ids, labels, positions, grids and pixels equal those of transformers' `Qwen3VLProcessor`.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use rayon::prelude::*;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::image_path::find;
use vlft_dataset::record::{Record, Role};
use vlft_dataset::smart_resize::smart_resize;
use vlft_dataset::token_counter::{ImageSize, Resize, TokenCount, TokenCounter};

use crate::chat_template::ChatTemplate;
use crate::contract::{Contract, RESAMPLE};
use crate::image_cache::{CacheReport, ImageCache};
use crate::image_file;
use crate::labels::{self, Conversation};
use crate::patchify::patchify;
use crate::position::{Run, position_ids};
pub use crate::preprocessor::Options;
use crate::preprocessor::Preprocessor;
use crate::resample::{Planes, resample};
use crate::sample::{IGNORED, PatchedImage, Sample};
use crate::show::Picture;
use crate::stop::stop_tokens;
use crate::token_count::Memo;
use crate::tokenizer::{Encoded, IM_END, Tokenizer};

/// Shared freely between threads; nothing in it changes.
pub struct Processor {
    preprocessor: Preprocessor,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
    cache: Option<ImageCache>,
    counted: Memo,
}

/// What the model is fed to give the last answer of a record itself, and the answer it should give.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The messages before that answer and what the template puts in front of it; no labels.
    pub sample: Sample,
    pub target: String,
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
        let tokenizer = Tokenizer::from_dir(model_dir)?;
        let im_end = tokenizer.id(IM_END).expect("it was asked for by name");
        Ok(Self {
            preprocessor: Preprocessor::from_dir(model_dir, options)?,
            template: ChatTemplate::from_dir(model_dir)?,
            tokenizer,
            stop_tokens: stop_tokens(model_dir, im_end)?,
            cache: None,
            counted: Memo::default(),
        })
    }

    /// Keeps decoded and resized images in `dir`, and takes from there what is kept already. Samples
    /// are the same to the last bit.
    pub fn with_cache(mut self, dir: &Path) -> Result<Self> {
        let settings = &self.preprocessor;
        let (min, max) = (settings.min_pixels, settings.max_pixels);
        let contract = format!("{RESAMPLE}\n{} {min} {max}", settings.factor());
        self.cache = Some(ImageCache::open(dir, &contract)?);
        Ok(self)
    }

    /// What the cache was good for so far; None without one.
    pub fn cache_report(&self) -> Option<CacheReport> {
        self.cache.as_ref().map(ImageCache::report)
    }

    /// What went wrong with the cache since the last call. It costs time and nothing else.
    pub fn cache_warnings(&self) -> Vec<Diagnostic> {
        self.cache
            .as_ref()
            .map(ImageCache::warnings)
            .unwrap_or_default()
    }

    /// What the model is fed for one record. `base` is the directory of the JSONL file.
    ///
    /// Errors: an image that is missing or broken, special tokens in a text, a conversation that the
    /// template refuses or whose answers it changes. They name the record or the file, not the line.
    pub fn sample(&self, record: &Record, base: &Path) -> Result<Sample> {
        let outline = self.outline(record)?;
        let images = self.images(record, base, Self::image)?;
        Ok(self.expand(record, &outline, images))
    }

    /// What the model is fed to give the last answer of a record itself. Errors as for
    /// [`Processor::sample`], and for a record that does not end with an answer.
    pub fn prompt(&self, record: &Record, base: &Path) -> Result<Prompt> {
        let mut asked = record.clone();
        let answer = asked.messages.pop().filter(|m| m.role == Role::Assistant);
        let target = answer
            .map(|message| message.text().into_owned())
            .ok_or_else(|| {
                Diagnostic::error(format!(
                    "record `{}` does not end with an answer",
                    record.id
                ))
                .expected("a last message of the assistant")
            })?;
        let ids = self
            .tokenizer
            .encode(&labels::render_prompt(&self.template, &asked)?)?
            .ids;
        let trained = vec![false; ids.len()];
        let images = self.images(&asked, base, Self::image)?;
        let sample = self.expand(&asked, &Outline { ids, trained }, images);
        Ok(Prompt { sample, target })
    }

    /// What [`Processor::sample`] makes, but without pixels, and with every error that it has: images
    /// are decoded, unless the cache knows that they can be. Fills the cache.
    pub fn check(&self, record: &Record, base: &Path) -> Result<Sample> {
        let outline = self.outline(record)?;
        let images = self.images(record, base, Self::check_image)?;
        Ok(self.expand(record, &outline, images))
    }

    fn check_image(&self, path: &Path) -> Result<PatchedImage> {
        let (width, height) = match &self.cache {
            None => {
                let image = image_file::load(path)?;
                let size = self.resized(image.dimensions()).map_err(|e| e.at(path))?;
                (size.0 as usize, size.1 as usize)
            }
            Some(cache) => {
                let bytes = image_file::read(path)?;
                let entry = cache.entry(&bytes);
                match cache.size(&entry) {
                    Some(size) => size,
                    None => {
                        let planes = self.make_planes(&bytes, path)?;
                        cache.put(&entry, &planes);
                        (planes.width, planes.height)
                    }
                }
            }
        };
        let side = self.preprocessor.patch_size;
        Ok(PatchedImage {
            pixel_values: Vec::new().into(),
            grid_thw: [1, height / side, width / side],
        })
    }

    fn planes(&self, path: &Path) -> Result<Planes> {
        let Some(cache) = &self.cache else {
            let image = image_file::load(path)?;
            return self.resampled(&image).map_err(|e| e.at(path));
        };
        let bytes = image_file::read(path)?;
        let entry = cache.entry(&bytes);
        if let Some(planes) = cache.get(&entry) {
            return Ok(planes);
        }
        let planes = self.make_planes(&bytes, path)?;
        cache.put(&entry, &planes);
        Ok(planes)
    }

    fn make_planes(&self, bytes: &[u8], path: &Path) -> Result<Planes> {
        let image = image_file::decode(bytes, path)?;
        self.resampled(&image).map_err(|e| e.at(path))
    }

    /// One image file as patches.
    pub fn image(&self, path: &Path) -> Result<PatchedImage> {
        Ok(patchify(&self.planes(path)?, &self.preprocessor))
    }

    /// A decoded image as patches.
    pub fn patches(&self, image: &RgbImage) -> Result<PatchedImage> {
        Ok(patchify(&self.resampled(image)?, &self.preprocessor))
    }

    fn resampled(&self, image: &RgbImage) -> Result<Planes> {
        let (width, height) = self.resized(image.dimensions())?;
        Ok(resample(image, width as usize, height as usize))
    }

    /// One image file after the resize, before it is cut into patches.
    pub(crate) fn picture(&self, path: &Path) -> Result<Picture> {
        let planes = self.planes(path)?;
        let (width, height) = (planes.width as u32, planes.height as u32);
        let image = RgbImage::from_fn(width, height, |x, y| {
            let row = planes.row(y as usize);
            Rgb(std::array::from_fn(|c| row[c * planes.width + x as usize]))
        });
        Ok(Picture {
            image,
            patch: self.preprocessor.patch_size,
            token: self.preprocessor.factor(),
        })
    }

    /// Fills the ends of short rows in [`crate::collate::collate`].
    pub fn pad_token_id(&self) -> u32 {
        self.tokenizer.pad
    }

    /// Tokens at which an answer ends.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// The token that a word is by itself.
    pub fn word(&self, word: &str) -> Result<u32> {
        match self.tokenizer.encode(word)?.ids[..] {
            [id] => Ok(id),
            ref ids => Err(Diagnostic::error(format!(
                "the tokenizer has no token for the word `{word}`"
            ))
            .expected("one token")
            .found(format!("{}", ids.len()))
            .hint("is this the tokenizer of a Qwen3-VL?")),
        }
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

    /// Language model tokens of an image of (width, height) on disk, if images have at most `max_pixels`
    /// after the resize.
    pub fn tokens_below(&self, size: (u32, u32), max_pixels: u64) -> Result<usize> {
        let settings = &self.preprocessor;
        let factor = settings.factor() as u32;
        let resized = smart_resize(size, factor, settings.min_pixels, max_pixels)?;
        Ok(self.image_tokens(resized))
    }

    /// Pixels of an image that one token of the language model stands for.
    pub fn image_token_pixels(&self) -> u32 {
        let side = self.preprocessor.factor() as u32;
        side * side
    }

    /// The rendered text, each image one placeholder.
    pub(crate) fn conversation(&self, record: &Record) -> Result<Conversation> {
        labels::render(&self.template, record)
    }

    /// The rendered text as tokens, each image one placeholder.
    pub(crate) fn encode(&self, text: &str) -> Result<Encoded> {
        self.tokenizer.encode(text)
    }

    fn images(
        &self,
        record: &Record,
        base: &Path,
        make: impl Fn(&Self, &Path) -> Result<PatchedImage> + Sync,
    ) -> Result<Vec<PatchedImage>> {
        let paths: Vec<PathBuf> = record.images().map(|path| image_path(base, path)).collect();
        paths.par_iter().map(|path| make(self, path)).collect()
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
    fn resized(&self, size: (u32, u32)) -> Result<(u32, u32)> {
        let settings = &self.preprocessor;
        smart_resize(
            size,
            settings.factor() as u32,
            settings.min_pixels,
            settings.max_pixels,
        )
    }

    /// What [`Processor::outline`] would count: all tokens, and those that are trained on.
    fn outline_count(&self, record: &Record) -> Result<(usize, usize)> {
        let conversation = self.conversation(record)?;
        self.counted.count(&self.tokenizer, &conversation, record)
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
        let mut sizes = Vec::new();
        for path in record.images() {
            let path = image_path(base, path);
            let size = image_file::size(&path)?;
            // Arithmetic alone; done here too, because only here the file of a bad shape is known.
            self.resized(size).map_err(|e| e.at(&path))?;
            sizes.push(size);
        }
        self.count_sized(record, &sizes)
    }

    fn count_sized(&self, record: &Record, sizes: &[(u32, u32)]) -> Result<TokenCount> {
        let (tokens, supervised) = self.outline_count(record)?;
        let mut image = 0;
        let mut images = Vec::with_capacity(sizes.len());
        for &original in sizes {
            let resized = self.resized(original)?;
            image += self.image_tokens(resized);
            images.push(ImageSize { original, resized });
        }
        Ok(TokenCount {
            total: tokens - images.len() + image,
            image,
            supervised,
            images,
        })
    }

    fn resize(&self) -> Resize {
        Resize {
            factor: self.preprocessor.factor() as u32,
            min_pixels: self.preprocessor.min_pixels,
            max_pixels: self.preprocessor.max_pixels,
        }
    }

    fn learned(&self, record: &Record) -> Result<Vec<String>> {
        let conversation = self.conversation(record)?;
        let tokens = self.tokenizer.encode(&conversation.text)?;
        let trained = labels::trained_tokens(&tokens, &conversation.trained, record)?;
        let mut answers: Vec<Vec<u32>> = Vec::new();
        let mut before = false;
        for (id, trained) in tokens.ids.iter().zip(trained) {
            if trained && !before {
                answers.push(Vec::new());
            }
            if let Some(answer) = answers.last_mut().filter(|_| trained) {
                answer.push(*id);
            }
            before = trained;
        }
        let spelled = |ids: Vec<u32>| {
            let text = self.decode(&ids)?;
            Ok(text
                .strip_suffix(IM_END)
                .map_or(text.clone(), str::to_owned))
        };
        answers.into_iter().map(spelled).collect()
    }

    fn control_tokens(&self) -> Vec<String> {
        self.tokenizer.control_tokens()
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
mod tests;
