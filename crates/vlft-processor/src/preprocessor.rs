//! The image settings of a model directory: `preprocessor_config.json`, or the part of
//! `processor_config.json` that transformers 5 writes.

use std::path::Path;

use serde_json::Value;
use vlft_base::{Diagnostic, Result, one_of};

use crate::model_files::{get, read_json};

/// Pixel limits that a config sets; `None` means the model's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Replaces `size.shortest_edge`, which despite its name is a number of pixels.
    pub min_pixels: Option<u64>,
    /// Replaces `size.longest_edge`. There is one resize only, never two.
    pub max_pixels: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Preprocessor {
    pub(crate) min_pixels: u64,
    pub(crate) max_pixels: u64,
    /// P
    pub(crate) patch_size: usize,
    /// T: how often a still image is repeated.
    pub(crate) temporal_patch_size: usize,
    /// M: M x M patches form one language model token.
    pub(crate) merge_size: usize,
    pub(crate) image_mean: [f64; 3],
    pub(crate) image_std: [f64; 3],
    pub(crate) rescale_factor: f64,
}

/// The names of one and the same class over the years. Another class means other arithmetic.
const KNOWN_TYPES: [&str; 3] = [
    "Qwen2VLImageProcessor",
    "Qwen2VLImageProcessorFast",
    "Qwen3VLImageProcessor",
];

/// Processors of near relatives, which have the same image processor with other patches and other tokens.
const OTHER_PROCESSORS: [(&str, &str); 4] = [
    ("Qwen2VLProcessor", "Qwen2-VL"),
    ("Qwen2_5_VLProcessor", "Qwen2.5-VL"),
    ("Qwen2_5OmniProcessor", "Qwen2.5-Omni"),
    ("Qwen3OmniMoeProcessor", "Qwen3-Omni"),
];

const USE_QWEN3_VL: &str = "use the folder of a Qwen3-VL";

/// PIL's number of bicubic resampling.
const BICUBIC: u64 = 3;

impl Preprocessor {
    /// Reads the settings. What a file leaves out has the default of transformers'
    /// `Qwen2VLImageProcessor`, as it would there.
    pub(crate) fn from_dir(dir: &Path, options: &Options) -> Result<Self> {
        let (nested, own) = (
            dir.join("processor_config.json"),
            dir.join("preprocessor_config.json"),
        );
        let mut whole = read_json(&nested)?;
        if let Some(json) = &whole {
            refuse_other_processor(json, &nested)?;
        }
        let in_nested = whole
            .as_mut()
            .and_then(|json| match json["image_processor"].take() {
                Value::Null => None,
                settings => Some(settings),
            });
        let (path, json) = match in_nested {
            Some(json) => (nested, json),
            None => match read_json(&own)? {
                Some(json) => (own, json),
                None => {
                    return Err(Diagnostic::error(
                        "model directory lacks `preprocessor_config.json`",
                    )
                    .at(dir)
                    .hint("copy it from where the model came from"));
                }
            },
        };
        refuse_other_processor(&json, &path)?;
        refuse_other_arithmetic(&json, &path)?;
        // `min_pixels` and `max_pixels` are the older spelling and win where both are given.
        let limit = |option: Option<u64>, old: &str, new: &str, default: u64| -> Result<u64> {
            Ok(match option {
                Some(pixels) => pixels,
                None => match get(&json, old, &path)? {
                    Some(pixels) => pixels,
                    None if json.get("size").is_none_or(Value::is_null) => default,
                    None => get(&json, new, &path)?.ok_or_else(|| {
                        Diagnostic::error("image size limits are incomplete")
                            .at(&path)
                            .expected(format!("`{new}`"))
                    })?,
                },
            })
        };
        let settings = Self {
            min_pixels: limit(
                options.min_pixels,
                "min_pixels",
                "size.shortest_edge",
                56 * 56,
            )?,
            max_pixels: limit(
                options.max_pixels,
                "max_pixels",
                "size.longest_edge",
                28 * 28 * 1280,
            )?,
            patch_size: get(&json, "patch_size", &path)?.unwrap_or(14),
            temporal_patch_size: get(&json, "temporal_patch_size", &path)?.unwrap_or(2),
            merge_size: get(&json, "merge_size", &path)?.unwrap_or(2),
            image_mean: get(&json, "image_mean", &path)?
                .unwrap_or([0.48145466, 0.4578275, 0.40821073]),
            image_std: get(&json, "image_std", &path)?
                .unwrap_or([0.26862954, 0.26130258, 0.27577711]),
            rescale_factor: get(&json, "rescale_factor", &path)?.unwrap_or(1.0 / 255.0),
        };
        settings.check(&path, options)?;
        Ok(settings)
    }

    /// P * M: both sides of a resized image are multiples of it.
    pub(crate) fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    /// Values in one row of `pixel_values`.
    pub(crate) fn patch_len(&self) -> usize {
        3 * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Language model tokens of an image that was resized to (width, height).
    pub(crate) fn tokens(&self, (width, height): (u32, u32)) -> usize {
        (width as usize / self.factor()) * (height as usize / self.factor())
    }

    fn check(&self, path: &Path, options: &Options) -> Result<()> {
        let factor = self.factor();
        // The resampler moves 16 bytes at a time; every Qwen3-VL has 16 x 2.
        if factor == 0 || !factor.is_multiple_of(16) || self.temporal_patch_size == 0 {
            let error = Diagnostic::error("patch sizes are not those of a Qwen3-VL")
                .at(path)
                .expected("`patch_size` x `merge_size` to be a multiple of 16")
                .found(format!("{} x {}", self.patch_size, self.merge_size))
                .hint(USE_QWEN3_VL);
            return Err(match (self.patch_size, self.merge_size) {
                (14, 2) => error.caused_by("Qwen2-VL and Qwen2.5-VL have patches of 14 x 2"),
                _ => error,
            });
        }
        let one_token = (factor * factor) as u64;
        if self.min_pixels == 0 || self.min_pixels > self.max_pixels || self.max_pixels < one_token
        {
            // Whose limits they are is where they must be mended.
            let asked = match (options.min_pixels, options.max_pixels) {
                (None, None) => None,
                (Some(_), None) => Some("`data.min_pixels` (`--min-pixels`)"),
                (None, Some(_)) => Some("`data.max_pixels` (`--max-pixels`)"),
                (Some(_), Some(_)) => Some("`data.min_pixels` and `data.max_pixels`"),
            };
            let error = Diagnostic::error("pixel limits leave no room for an image");
            let error = match asked {
                None => error.at(path),
                Some(asked) => error.hint(format!(
                    "change {asked}; what is not set comes from `{}`",
                    path.display()
                )),
            };
            return Err(error
                .expected(format!(
                    "0 < min_pixels <= max_pixels, and max_pixels at least {one_token}"
                ))
                .found(format!("{} and {}", self.min_pixels, self.max_pixels)));
        }
        let usable = |x: &f64| x.is_finite() && *x != 0.0;
        if !self
            .image_std
            .iter()
            .chain([&self.rescale_factor])
            .all(usable)
        {
            return Err(
                Diagnostic::error("`image_std` and `rescale_factor` must not be zero").at(path),
            );
        }
        Ok(())
    }

    /// The published Qwen3-VL settings.
    #[cfg(test)]
    pub(crate) fn published() -> Self {
        Self {
            min_pixels: 65_536,
            max_pixels: 16_777_216,
            patch_size: 16,
            temporal_patch_size: 2,
            merge_size: 2,
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
            rescale_factor: 1.0 / 255.0,
        }
    }
}

fn refuse_other_processor(json: &Value, path: &Path) -> Result<()> {
    let Some(class) = get::<String>(json, "processor_class", path)? else {
        return Ok(());
    };
    match OTHER_PROCESSORS.iter().find(|(name, _)| *name == class) {
        None => Ok(()),
        Some((_, model)) => Err(Diagnostic::error(format!(
            "these are the image settings of {model}, not of a Qwen3-VL"
        ))
        .at(path)
        .detail("`processor_class`")
        .expected("`Qwen3VLProcessor`")
        .found(format!("`{class}`"))
        .hint(USE_QWEN3_VL)),
    }
}

fn refuse_other_arithmetic(json: &Value, path: &Path) -> Result<()> {
    if let Some(kind) = get::<String>(json, "image_processor_type", path)?
        && !KNOWN_TYPES.contains(&kind.as_str())
    {
        return Err(
            Diagnostic::error(format!("image processor `{kind}` is not supported"))
                .at(path)
                .detail("`image_processor_type`")
                .expected(one_of(KNOWN_TYPES))
                .hint("vlft trains Qwen3-VL; point `model.path` at such a model"),
        );
    }
    for key in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
        if get::<bool>(json, key, path)? == Some(false) {
            return Err(
                Diagnostic::error(format!("`{key}` switched off is not supported"))
                    .at(path)
                    .detail(format!("`{key}`"))
                    .expected("`true`"),
            );
        }
    }
    match get::<u64>(json, "resample", path)? {
        None | Some(BICUBIC) => Ok(()),
        Some(other) => Err(Diagnostic::error("only bicubic resampling is supported")
            .at(path)
            .detail("`resample`")
            .expected(format!("{BICUBIC}"))
            .found(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(files: &[(&str, &str)], options: &Options) -> Result<Preprocessor> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Preprocessor::from_dir(dir.path(), options)
    }

    const PUBLISHED: &str = r#"{"size":{"longest_edge":16777216,"shortest_edge":65536},"patch_size":16,
        "temporal_patch_size":2,"merge_size":2,"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5],
        "processor_class":"Qwen3VLProcessor","image_processor_type":"Qwen2VLImageProcessorFast"}"#;

    #[test]
    fn published_legacy_and_nested_spellings() {
        let options = Options::default();
        let own = "preprocessor_config.json";
        let published = read(&[(own, PUBLISHED)], &options).unwrap();
        assert_eq!(published, Preprocessor::published());

        let legacy = PUBLISHED.replacen('{', r#"{"min_pixels":4096,"max_pixels":65536,"#, 1);
        let limits = |p: Preprocessor| (p.min_pixels, p.max_pixels);
        assert_eq!(
            limits(read(&[(own, &legacy)], &options).unwrap()),
            (4096, 65_536)
        );

        let nested =
            format!(r#"{{"image_processor":{legacy},"processor_class":"Qwen3VLProcessor"}}"#);
        let both = [("processor_config.json", nested.as_str()), (own, PUBLISHED)];
        assert_eq!(limits(read(&both, &options).unwrap()), (4096, 65_536));

        let plain = [
            ("processor_config.json", r#"{"processor_class":"x"}"#),
            (own, PUBLISHED),
        ];
        assert_eq!(
            limits(read(&plain, &options).unwrap()),
            (65_536, 16_777_216)
        );

        let options = Options {
            min_pixels: None,
            max_pixels: Some(131_072),
        };
        assert_eq!(
            limits(read(&[(own, &legacy)], &options).unwrap()),
            (4096, 131_072)
        );
    }

    #[test]
    fn what_cannot_be_repeated_exactly_is_refused_by_name() {
        for (from, to, expected) in [
            (
                "Qwen2VLImageProcessorFast",
                "SiglipImageProcessor",
                "`SiglipImageProcessor`",
            ),
            ("Qwen3VLProcessor", "Qwen2_5_VLProcessor", "of Qwen2.5-VL"),
            ("{\"size\"", "{\"do_resize\":false,\"size\"", "`do_resize`"),
            ("{\"size\"", "{\"resample\":2,\"size\"", "bicubic"),
            ("\"longest_edge\":16777216,", "", "`size.longest_edge`"),
            ("16777216", "4096", "pixel limits"),
            ("\"patch_size\":16", "\"patch_size\":14", "patch sizes"),
            ("\"patch_size\":16", "\"patch_size\":\"16\"", "wrong type"),
            (
                "[0.5,0.5,0.5],\"image_std\"",
                "[0.5,0.5],\"image_std\"",
                "`image_mean`",
            ),
        ] {
            let json = PUBLISHED.replacen(from, to, 1);
            let error =
                read(&[("preprocessor_config.json", &json)], &Options::default()).unwrap_err();
            assert!(
                error.to_string().contains(expected),
                "{error} lacks {expected}"
            );
        }
        let missing = read(&[], &Options::default()).unwrap_err();
        assert!(missing.message().contains("preprocessor_config.json"));
    }
}
