//! `OpenAI`'s vision fine-tuning: typed parts, images as data URLs. The limits are those of its guide
//! ("Vision fine-tuning", 2025; research notes of this project): JPEG, PNG or WebP in RGB or RGBA, at
//! most 10 images and 10 MB each, only in user turns; 50 000 examples with images a file, 10 at least.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader};
use serde_json::{Value, json};
use std::io::Cursor;
use vlft_dataset::image_limits::decoder_limits;
use vlft_dataset::record::Role;

use super::{meta_text, weight};
use crate::chat::{self, Extra, OPENAI_ROLES, Spelling};
use crate::fields::{Fallible, Object};
use crate::images::{Finder, Kind};
use crate::rules::{ID_DROPPED, IMAGE_LIMIT, IMAGE_RECODED, IMAGE_UNREADABLE, META_DROPPED};
use crate::sample::{Image, Loss, Piece, Refusal, Sample};
use crate::tags::Untold;

/// Azure's page says 64.
pub(crate) const MAX_IMAGES: usize = 10;
pub(crate) const MAX_IMAGE_BYTES: usize = 10_000_000;
pub(crate) const MAX_EXAMPLES: u64 = 50_000;
pub(crate) const MIN_EXAMPLES: u64 = 10;

pub(crate) fn read(value: Value) -> Fallible<Sample> {
    let mut row = Object::new(value, &[])?;
    row.refuse(&["tools", "functions"])?;
    let mut sample = Sample::default();
    let path = row.path("messages");
    let spelling = Spelling {
        role: "role",
        content: "content",
        roles: OPENAI_ROLES,
        tags: false,
        extra: Extra::OpenAi,
    };
    let values = row.need_array("messages")?;
    let open = chat::messages(values, &path, &spelling, &mut sample)?;
    sample.turns = chat::close(open, Vec::new(), Untold::Refuse)?;
    row.besides(&mut sample);
    Ok(sample)
}

pub(crate) fn write(sample: &Sample, finder: &Finder, losses: &mut Vec<Loss>) -> Fallible<String> {
    let given = sample.images().count();
    if given > MAX_IMAGES {
        let reason = format!("{given} images; the service takes {MAX_IMAGES} an example");
        return Err(Refusal::new(IMAGE_LIMIT, reason));
    }
    // Written by hand: a data URL through a `Value` would be copied three times.
    let mut line = String::from(r#"{"messages":["#);
    for (index, turn) in sample.turns.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        line.push_str(&format!(r#"{{"role":"{}","content":"#, turn.role.as_str()));
        match turn.role {
            Role::User => parts(&turn.content, finder, &mut line, losses)?,
            Role::System | Role::Assistant => line.push_str(&json!(turn.text()).to_string()),
        }
        line.push('}');
    }
    line.push_str("]}");
    weight(sample, losses);
    if sample.id.is_some() {
        losses.push(Loss {
            rule: ID_DROPPED,
            reason: "the service takes no ids".into(),
        });
    }
    if meta_text(sample).is_some() {
        losses.push(Loss {
            rule: META_DROPPED,
            reason: "the service takes no `meta`".into(),
        });
    }
    Ok(line)
}

fn parts(
    content: &[Piece],
    finder: &Finder,
    line: &mut String,
    losses: &mut Vec<Loss>,
) -> Fallible<()> {
    line.push('[');
    for (index, piece) in content.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        match piece {
            Piece::Text(text) => {
                line.push_str(&json!({ "type": "text", "text": text }).to_string());
            }
            Piece::Image(image) => {
                line.push_str(r#"{"type":"image_url","image_url":{"url":"#);
                match image {
                    Image::Url(address) => line.push_str(&json!(address).to_string()),
                    image => data_url(image, finder, line, losses)?,
                }
                line.push_str("}}");
            }
        }
    }
    line.push(']');
    Ok(())
}

/// Appends the image as a quoted data URL.
fn data_url(
    image: &Image,
    finder: &Finder,
    line: &mut String,
    losses: &mut Vec<Loss>,
) -> Fallible<()> {
    let (bytes, kind) = finder.bytes(image)?;
    let recoded = in_colour(&bytes, kind)?;
    let (bytes, mime) = match &recoded {
        Some(png) => {
            losses.push(Loss {
                rule: IMAGE_RECODED,
                reason: "an image was not RGB or RGBA of 8 bits, and became an RGB PNG".into(),
            });
            (png.as_slice(), "image/png")
        }
        None => (&*bytes, kind.mime),
    };
    if bytes.len() > MAX_IMAGE_BYTES {
        let (size, limit) = (bytes.len() / 1_000_000, MAX_IMAGE_BYTES / 1_000_000);
        let reason = format!("an image of {size} MB; the service takes {limit} MB");
        return Err(Refusal::new(IMAGE_LIMIT, reason));
    }
    line.push_str(&format!("\"data:{mime};base64,"));
    STANDARD.encode_string(bytes, line);
    line.push('"');
    Ok(())
}

/// The image as an RGB or RGBA PNG of the same pixels, when it is something else; pages of scans are
/// often gray.
fn in_colour(bytes: &[u8], kind: Kind) -> Fallible<Option<Vec<u8>>> {
    let unreadable = |e: image::ImageError| {
        Refusal::new(IMAGE_UNREADABLE, format!("an image cannot be decoded: {e}"))
    };
    let reader = |bytes| {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), kind.format);
        reader.limits(decoder_limits());
        reader
    };
    let decoder = reader(bytes).into_decoder().map_err(unreadable)?;
    // As the file has it: palettes and gray are made RGB by the decoder already.
    let stored = decoder.original_color_type();
    if matches!(stored, ExtendedColorType::Rgb8 | ExtendedColorType::Rgba8) {
        return Ok(None);
    }
    let image = vlft_dataset::jpeg::pixels(decoder, bytes).map_err(unreadable)?;
    let image = match image.color().has_alpha() {
        true => DynamicImage::ImageRgba8(image.to_rgba8()),
        false => DynamicImage::ImageRgb8(image.to_rgb8()),
    };
    let mut png = Vec::new();
    image
        .write_to(&mut Cursor::new(&mut png), ImageFormat::Png)
        .map_err(unreadable)?;
    Ok(Some(png))
}
