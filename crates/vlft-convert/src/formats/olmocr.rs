//! olmOCR's training pairs: `x.pdf` with one page and `x.md` with a YAML front matter and the page's
//! text (`olmocr/train/dataloader.py` there). The prompt is the trainer's own. The text is the answer;
//! the front matter is kept in `meta.olmocr`.

use std::collections::HashMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageDecoder, ImageFormat, ImageReader};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref};
use serde_json::{Map, Value, json};
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Result, digest};
use vlft_dataset::image_limits::decoder_limits;
use vlft_dataset::manifest::Manifest;
use vlft_dataset::record::Role;

use super::{meta_text, trimmed, weight};
use crate::fields::Fallible;
use crate::images::{Finder, Kind};
use crate::rules::{
    IMAGE_MISSING, IMAGE_RECODED, IMAGE_UNREADABLE, META_DROPPED, NO_LABEL, NOT_UTF8, ONE_PAGE,
    PROMPT_DROPPED, SYSTEM_IGNORED, TRIMMED, WRONG_TYPE,
};
use crate::sample::{Image, Loss, Piece, Refusal, Sample, Turn};

/// What the model is asked when nothing else is given: the words of `build_no_anchoring_v4_yaml_prompt`
/// without its sentence about the front matter, which is not in the answer here.
pub(crate) const PROMPT: &str = "Attached is one page of a document that you must process. Just \
return the plain text representation of this document as if you were reading it naturally. Convert \
equations to LateX and tables to HTML.\nReturn your output as markdown.";

/// All pairs of a folder and below, ordered by name: files of either kind whose partner may be missing.
pub(crate) fn pairs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).map_err(|e| cannot("read", &dir, e))? {
            let entry = entry.map_err(|e| cannot("read", &dir, e))?;
            let path = entry.path();
            // Links to folders are not followed: they may lead in a circle.
            let kind = entry.file_type().map_err(|e| cannot("read", &path, e))?;
            if kind.is_dir() {
                pending.push(path);
                continue;
            }
            let ends = |with: &str| {
                path.extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case(with))
            };
            if ends("md") || (ends("pdf") && !path.with_extension("md").exists()) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Page images that `vlft rasterize` drew, by the SHA-256 of their one-page PDF.
#[derive(Default)]
pub(crate) struct Drawn(HashMap<String, PathBuf>);

impl Drawn {
    pub(crate) fn read(folders: &[PathBuf]) -> Result<Self> {
        let mut drawn = HashMap::new();
        for folder in folders {
            for page in Manifest::read(folder)?.unwrap_or_default().pages {
                if page.pages == 1 {
                    drawn.insert(page.source_sha256, folder.join(page.file));
                }
            }
        }
        Ok(Self(drawn))
    }
}

/// `file` is the Markdown half, or a PDF without one.
pub(crate) fn read(
    folder: &Path,
    file: &Path,
    prompt: &str,
    drawn: &Drawn,
    finder: &Finder,
) -> Fallible<Sample> {
    if !file
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("md"))
    {
        return Err(Refusal::new(
            NO_LABEL,
            "a PDF without a Markdown file beside it",
        ));
    }
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::InvalidData => Refusal::new(NOT_UTF8, "the Markdown file is not UTF-8"),
        _ => Refusal::new(WRONG_TYPE, format!("cannot be read: {e}")),
    };
    let text = input::read_to_string(file).map_err(unreadable)?;
    let (front, body) = parse(&text)?;
    let image = page_image(folder, file, drawn, finder)?;
    let mut sample = Sample {
        id: name_below(folder, file),
        turns: vec![
            Turn::new(
                Role::User,
                vec![
                    Piece::Image(Image::Path(image)),
                    Piece::Text(prompt.to_owned()),
                ],
            ),
            Turn::says(Role::Assistant, body),
        ],
        ..Sample::default()
    };
    if !front.is_empty() {
        let mut meta = Map::new();
        meta.insert("olmocr".to_owned(), Value::Object(front));
        sample.meta = Some(meta);
    }
    Ok(sample)
}

/// The file's path below the folder, without `.md`.
fn name_below(folder: &Path, file: &Path) -> Option<String> {
    let below = file.strip_prefix(folder).ok()?.with_extension("");
    Some(below.to_str()?.replace('\\', "/"))
}

/// Front matter and text. The text is stripped, as it is there.
pub(crate) fn parse(text: &str) -> Fallible<(Map<String, Value>, String)> {
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n");
    let mut front = Map::new();
    let Some(rest) = text.strip_prefix("---\n") else {
        return Ok((front, text.trim().to_owned()));
    };
    // The closing line may follow at once.
    let (matter, body) = match rest.strip_prefix("---") {
        Some(body) => ("", body),
        None => rest.split_once("\n---").ok_or_else(|| {
            Refusal::new(WRONG_TYPE, "the front matter has no closing line `---`")
        })?,
    };
    for line in matter.lines().filter(|line| !line.trim().is_empty()) {
        let Some((key, value)) = line
            .split_once(':')
            .filter(|(key, _)| !key.starts_with(' '))
        else {
            let reason = format!("front matter `{line}`; expected `key: value`");
            return Err(Refusal::new(WRONG_TYPE, reason));
        };
        front.insert(key.trim().to_owned(), scalar(value.trim()));
    }
    Ok((front, body.trim().to_owned()))
}

/// The scalars of YAML 1.1 that olmOCR writes.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return json!(true),
        "false" | "False" | "FALSE" => return json!(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return json!(number);
    }
    for quote in ['"', '\''] {
        let inner = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return json!(inner);
        }
    }
    json!(text)
}

/// An image of the same name beside the pair, or the page that `vlft rasterize` drew of the PDF.
fn page_image(folder: &Path, file: &Path, drawn: &Drawn, finder: &Finder) -> Fallible<String> {
    let utf8 = |path: &Path| path.to_str().map(str::to_owned);
    for extension in ["png", "jpg", "jpeg", "webp"] {
        let beside = file.with_extension(extension);
        if beside.is_file() {
            let beside = beside.strip_prefix(folder).unwrap_or(&beside).to_path_buf();
            return utf8(&beside)
                .ok_or_else(|| Refusal::new(IMAGE_MISSING, "a name that is not Unicode"));
        }
    }
    let pdf = file.with_extension("pdf");
    let Ok(hash) = digest::sha256_file(&pdf) else {
        return Err(Refusal::new(
            IMAGE_MISSING,
            "a Markdown file without its PDF beside it",
        ));
    };
    if let Some(page) = drawn.0.get(&hash) {
        let page = page.canonicalize().ok().filter(|page| page.is_file());
        return page.as_deref().and_then(utf8).ok_or_else(|| {
            Refusal::new(
                IMAGE_MISSING,
                "the page that the manifest names is not there",
            )
        });
    }
    let name = name_below(folder, file).unwrap_or_default();
    for extension in ["png", "jpg", "webp"] {
        let image = format!("{name}.{extension}");
        if finder.file(&image).is_ok() {
            return Ok(image);
        }
    }
    Err(Refusal::new(
        IMAGE_MISSING,
        "no image of the page; `vlft rasterize` the folder and name its output with `--images`",
    ))
}

/// Both halves of a pair.
pub(crate) struct Pair {
    pub(crate) pdf: Vec<u8>,
    pub(crate) markdown: String,
}

pub(crate) fn write(sample: &Sample, finder: &Finder, losses: &mut Vec<Loss>) -> Fallible<Pair> {
    let dialogue = sample.dialogue();
    let [question, answer] = dialogue else {
        let reason = format!(
            "{} turns; a pair has one question and one answer",
            dialogue.len()
        );
        return Err(Refusal::new(ONE_PAGE, reason));
    };
    let images: Vec<&Image> = sample.images().collect();
    let [image] = images[..] else {
        let reason = format!("{} images; a pair has one page", images.len());
        return Err(Refusal::new(ONE_PAGE, reason));
    };
    let lose = |rule, reason: &str| Loss {
        rule,
        reason: reason.to_owned(),
    };
    if !question.text().is_empty() {
        losses.push(lose(
            PROMPT_DROPPED,
            "the question; its trainer asks with its own",
        ));
    }
    if sample.system().is_some() {
        losses.push(lose(
            SYSTEM_IGNORED,
            "the system text has no place in a pair",
        ));
    }
    let front = sample.meta.as_ref().and_then(|meta| meta.get("olmocr"));
    let others = sample
        .meta
        .as_ref()
        .is_some_and(|meta| meta.keys().any(|key| key != "olmocr"));
    if meta_text(sample).is_some() && others {
        losses.push(lose(META_DROPPED, "a pair has no place for `meta`"));
    }
    trimmed(sample, false, true, losses);
    if answer.text().contains('\r') {
        // Python reads every line end as a line feed.
        losses.push(lose(
            TRIMMED,
            "the answer's carriage returns become line feeds there",
        ));
    }
    weight(sample, losses);
    let (bytes, kind) = finder.bytes(image)?;
    let (pdf, redrawn) = pdf_of(&bytes, kind)?;
    if redrawn {
        losses.push(lose(
            IMAGE_RECODED,
            "the image was decoded and stored again in the PDF",
        ));
    }
    Ok(Pair {
        pdf,
        markdown: format!("{}{}\n", front_matter(front), answer.text()),
    })
}

/// The five keys that olmOCR's parser insists on, with what a person did not say left at its default.
fn front_matter(known: Option<&Value>) -> String {
    let value = |key: &str, default: &str| -> String {
        match known.and_then(|known| known.get(key)) {
            Some(Value::Bool(true)) => "True".to_owned(),
            Some(Value::Bool(false)) => "False".to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) if text.chars().all(|c| c.is_alphanumeric() || c == '-') => {
                text.clone()
            }
            Some(Value::Null) => "null".to_owned(),
            _ => default.to_owned(),
        }
    };
    let mut text = "---\n".to_owned();
    for (key, default) in [
        ("primary_language", "null"),
        ("is_rotation_valid", "True"),
        ("rotation_correction", "0"),
        ("is_table", "False"),
        ("is_diagram", "False"),
    ] {
        text += &format!("{key}: {}\n", value(key, default));
    }
    text + "---\n"
}

/// The resolution at which a page image is taken to have been drawn, where nothing says it: the default
/// of `vlft rasterize`.
const DPI: f32 = 150.0;

/// One page that shows the image and nothing else. JPEG goes in as it is; other formats are decoded and
/// deflated, pixel for pixel, with transparency on white. Also whether that was so.
fn pdf_of(bytes: &[u8], kind: Kind) -> Fallible<(Vec<u8>, bool)> {
    let unreadable = |e: image::ImageError| {
        Refusal::new(IMAGE_UNREADABLE, format!("an image cannot be decoded: {e}"))
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind.format);
    reader.limits(decoder_limits());
    let decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let plain = matches!(
        decoder.original_color_type(),
        ExtendedColorType::L8 | ExtendedColorType::Rgb8
    );
    let is_gray = decoder.original_color_type() == ExtendedColorType::L8;
    if kind.format == ImageFormat::Jpeg && plain {
        let page = Page {
            width,
            height,
            is_gray,
        };
        return Ok((page.pdf(bytes, Filter::DctDecode), false));
    }
    let image = vlft_dataset::jpeg::pixels(decoder, bytes).map_err(unreadable)?;
    let is_gray = !image.color().has_color();
    let pixels = match (is_gray, image.color().has_alpha()) {
        (true, false) => image.into_luma8().into_raw(),
        (false, false) => image.into_rgb8().into_raw(),
        (_, true) => {
            let on_white = |channel: u8, alpha: u8| {
                let (channel, alpha) = (u32::from(channel), u32::from(alpha));
                ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
            };
            let channels = if is_gray { 1 } else { 3 };
            let pixels = image.into_rgba8().into_raw();
            let (pixels, _) = pixels.as_chunks::<4>();
            pixels
                .iter()
                .flat_map(|[r, g, b, a]| {
                    [*r, *g, *b]
                        .map(|c| on_white(c, *a))
                        .into_iter()
                        .take(channels)
                })
                .collect()
        }
    };
    let page = Page {
        width,
        height,
        is_gray,
    };
    let deflated = miniz_oxide::deflate::compress_to_vec_zlib(&pixels, 6);
    Ok((page.pdf(&deflated, Filter::FlateDecode), true))
}

struct Page {
    width: u32,
    height: u32,
    is_gray: bool,
}

impl Page {
    fn pdf(&self, data: &[u8], filter: Filter) -> Vec<u8> {
        let [catalog, tree, page, image, content] = [1, 2, 3, 4, 5].map(Ref::new);
        let (width, height) = (
            self.width as f32 * 72.0 / DPI,
            self.height as f32 * 72.0 / DPI,
        );
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(tree);
        pdf.pages(tree).kids([page]).count(1);
        let mut leaf = pdf.page(page);
        leaf.media_box(Rect::new(0.0, 0.0, width, height))
            .parent(tree)
            .contents(content);
        leaf.resources().x_objects().pair(Name(b"Im1"), image);
        leaf.finish();
        let mut object = pdf.image_xobject(image, data);
        object.filter(filter);
        // Sides beyond i32 do not pass the limits of images.
        object.width(self.width as i32).height(self.height as i32);
        match self.is_gray {
            true => object.color_space().device_gray(),
            false => object.color_space().device_rgb(),
        }
        object.bits_per_component(8);
        object.finish();
        let mut shown = Content::new();
        shown.save_state();
        shown.transform([width, 0.0, 0.0, height, 0.0, 0.0]);
        shown.x_object(Name(b"Im1"));
        shown.restore_state();
        pdf.stream(content, &shown.finish());
        pdf.finish()
    }
}
