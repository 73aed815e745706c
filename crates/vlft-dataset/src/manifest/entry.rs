//! One line of the manifest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::PageContent;
use crate::pdf::Selection;

/// The version this program writes. It reads this one and 1, and refuses newer ones by number.
pub const VERSION: u32 = 2;

/// One page image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageEntry {
    pub version: u32,
    /// The source PDF, relative to the deepest directory that holds all inputs, with `/`.
    pub document: String,
    /// SHA-256 of the PDF, lower-case hex.
    pub source_sha256: String,
    /// 1-based.
    pub page: u32,
    /// Pages of the document, failed ones included.
    pub pages: u32,
    /// The pages that `--pages` asked for, such as `1-3,7`; absent when it was all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Selection>,
    /// The image, relative to the manifest's directory, with `/`.
    pub file: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// What the size in pixels comes to; below the request where a cap made the page smaller.
    pub dpi: f64,
    /// What was asked for.
    pub requested: Resolution,
    pub format: ImageFormat,
    /// SHA-256 of the image file, lower-case hex.
    pub sha256: String,
    /// Size of the image file.
    pub bytes: u64,
    /// In version 1 only: characters of the text layer that are not white space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_chars: Option<u32>,
    /// What the page is made of; since version 2. Absent when it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<PageContent>,
    /// What the page looks like, to find near copies without opening an image: 128 hexadecimal
    /// digits (see `perceptual`); since version 2. Absent for a blank page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_hash: Option<String>,
    /// What drew it: `pdfium 8149`, or another engine where one was asked for.
    pub rasterizer: String,
}

/// How large a page is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    Dpi(u32),
    /// At most this many pixels a page.
    MaxPixels(u64),
    /// Exactly the size that the model's image processor would resize the page to, with this as its
    /// `max_pixels`.
    ModelPixels(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    Png,
    Jpeg,
    Webp,
}

impl ImageFormat {
    pub fn extension(self) -> &'static str {
        match self {
            ImageFormat::Png => "png",
            ImageFormat::Jpeg => "jpg",
            ImageFormat::Webp => "webp",
        }
    }
}

impl PageEntry {
    /// Characters of the text layer that are not white space, from a line of any version.
    pub fn text_chars(&self) -> Option<u32> {
        let content = self.content.as_ref();
        content
            .map(|content| content.text_chars)
            .or(self.text_chars)
    }

    /// Whether the run that drew this page wanted page `page` of the document too.
    pub fn is_wanted(&self, page: u32) -> bool {
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.has(page))
    }
}
