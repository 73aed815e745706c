//! `vlft show --html`: the record on one page that needs nothing else: no script, no font, no
//! network. Each image is drawn as the model gets it, under the grid of its patches.

use std::fmt::Write;
use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};
use vlft_base::format::{count, escape_html, grouped, printable};
use vlft_base::{Diagnostic, Result};

use super::Shown;
use super::mask::{ImagePiece, Piece, TextPiece};

/// With a policy that lets the page load nothing and run nothing.
const HEAD: &str = include_str!("page.head.html");
const STYLE: &str = include_str!("page.css");

/// An image after the resize, and its grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub(crate) image: RgbImage,
    /// Sides of a patch and of a token, in pixels.
    pub(crate) patch: usize,
    pub(crate) token: usize,
}

/// The page. `shown` has its mask and its pictures.
pub fn page(shown: &Shown) -> Result<String> {
    let mut body = String::new();
    let mut shade = false;
    for piece in &shown.mask {
        match piece {
            Piece::Text(text) => {
                push_token(&mut body, text, shade);
                shade = !shade;
            }
            Piece::Image(image) => body += &figure(shown, image)?,
        }
    }
    let id = text(&shown.id);
    Ok(format!(
        "{HEAD}<title>{id}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{id}</h1>\n\
         <p class=\"place\">{file}:{line}</p>\n{facts}\
         <p class=\"legend\"><span class=\"token trained\">trained on</span> \
         <span class=\"token\">not trained on</span> (hover a token for its id) \
         <label><input type=\"checkbox\" id=\"grid\" checked> patches (thin) and tokens (thick) of images</label></p>\n\
         <div class=\"row\">{body}</div>\n</body>\n</html>\n",
        file = text(&shown.file),
        line = shown.line,
        facts = facts(shown),
    ))
}

/// Foreign text inside a page.
fn text(foreign: &str) -> String {
    escape_html(&printable(foreign))
}

fn facts(shown: &Shown) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(tokens) = &shown.tokens {
        let number = |n: usize| grouped(n as u64);
        rows.push(("tokens", number(tokens.total)));
        rows.push(("of images", number(tokens.image)));
        rows.push(("of text", number(tokens.total - tokens.image)));
        let share = 100.0 * tokens.supervised as f64 / tokens.total.max(1) as f64;
        let trained = format!("{} ({share:.1} %)", number(tokens.supervised));
        rows.push(("trained on", trained));
    }
    rows.push(("images", number_of_images(shown)));
    if let Some(meta) = &shown.meta {
        if let Some(weight) = meta.get("weight") {
            rows.push(("weight", text(&weight.to_string())));
        }
        let json = serde_json::Value::Object(meta.clone()).to_string();
        rows.push(("meta", format!("<code>{}</code>", text(&json))));
    }
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<tr><th>{name}</th><td>{value}</td></tr>\n"))
        .collect();
    format!("<table>\n{rows}</table>\n")
}

fn number_of_images(shown: &Shown) -> String {
    grouped(shown.images.len() as u64)
}

/// A token as a span. Line ends are drawn and stay.
fn push_token(out: &mut String, piece: &TextPiece, shade: bool) {
    let ids: Vec<String> = piece.ids.iter().map(u32::to_string).collect();
    let trained = if piece.trained { " trained" } else { "" };
    let shade = if shade { " odd" } else { "" };
    let title = match piece.ids.len() {
        1 => format!("token {}, id {}", grouped(piece.at as u64), ids[0]),
        n => format!(
            "tokens {} to {}, ids {}: one character",
            grouped(piece.at as u64),
            grouped((piece.at + n - 1) as u64),
            ids.join(" ")
        ),
    };
    let shown = text(&piece.text).replace('\n', "<i>⏎</i>\n");
    // Writing to a `String` cannot fail.
    let _ = write!(
        out,
        "<span class=\"token{trained}{shade}\" title=\"{title}\">{shown}</span>"
    );
}

/// The resized picture under two grids, thin lines for patches and thick ones for tokens.
fn figure(shown: &Shown, piece: &ImagePiece) -> Result<String> {
    let (Some(image), Some(picture)) = (
        shown.images.get(piece.image),
        shown.pictures.get(piece.image),
    ) else {
        return Ok(String::new());
    };
    let (width, height) = picture.image.dimensions();
    let (patch, token) = (picture.patch, picture.token);
    let number = piece.image + 1;
    let columns = width as usize / patch;
    let rows = height as usize / patch;
    let place = match piece.tokens {
        0 => String::new(),
        1 => format!(", number {}", grouped(piece.at as u64)),
        n => format!(
            ", numbers {} to {}",
            grouped(piece.at as u64),
            grouped((piece.at + n - 1) as u64)
        ),
    };
    Ok(format!(
        "<figure><svg viewBox=\"0 0 {width} {height}\" style=\"max-width:{shown_width}px\">\
         <defs><pattern id=\"p{number}\" width=\"{patch}\" height=\"{patch}\" patternUnits=\"userSpaceOnUse\">\
         <path d=\"M{patch} 0H0V{patch}\" class=\"patch\"/></pattern>\
         <pattern id=\"t{number}\" width=\"{token}\" height=\"{token}\" patternUnits=\"userSpaceOnUse\">\
         <path d=\"M{token} 0H0V{token}\" class=\"merged\"/></pattern></defs>\
         <image width=\"{width}\" height=\"{height}\" href=\"data:image/png;base64,{png}\"/>\
         <g class=\"grid\"><rect width=\"{width}\" height=\"{height}\" fill=\"url(#p{number})\"/>\
         <rect width=\"{width}\" height=\"{height}\" fill=\"url(#t{number})\"/></g></svg>\
         <figcaption>image {number}: {image}; {columns} x {rows} patches, {tokens}{place}</figcaption></figure>",
        image = text(&image.to_string()),
        tokens = count(piece.tokens as u64, "token"),
        // Small pictures are blown up until a patch can be seen, large ones fill the page.
        shown_width = (width * 4).clamp(320, 1100),
        png = STANDARD.encode(png(&picture.image)?),
    ))
}

fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image
        .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
        .map_err(|e| Diagnostic::error("cannot encode the picture for the page").caused_by(e))?;
    Ok(bytes)
}
