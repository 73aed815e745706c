//! The five faces of the example. In a PDF they are the base-14 fonts that every viewer has; in a
//! bitmap their free twins of the same widths (`fonts/README.md`), so both look alike.

use std::sync::OnceLock;

use ttf_parser::{Face, OutlineBuilder};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Font {
    Sans,
    SansBold,
    Serif,
    Mono,
    MonoBold,
}

pub(crate) const FONTS: [Font; 5] = [
    Font::Sans,
    Font::SansBold,
    Font::Serif,
    Font::Mono,
    Font::MonoBold,
];

/// All five faces have 2048 units per em.
pub(crate) const UNITS_PER_EM: i64 = 2048;

/// A contour: points on the outline, curves already broken into short lines, in font units, y UP.
pub(crate) type Contour = Vec<(i64, i64)>;

pub(crate) struct Glyph {
    pub(crate) advance: i64,
    pub(crate) contours: Vec<Contour>,
}

impl Font {
    pub(crate) fn base14_name(self) -> &'static str {
        match self {
            Font::Sans => "Helvetica",
            Font::SansBold => "Helvetica-Bold",
            Font::Serif => "Times-Roman",
            Font::Mono => "Courier",
            Font::MonoBold => "Courier-Bold",
        }
    }

    fn file(self) -> &'static [u8] {
        match self {
            Font::Sans => include_bytes!("../../fonts/Arimo-Regular.ttf"),
            Font::SansBold => include_bytes!("../../fonts/Arimo-Bold.ttf"),
            Font::Serif => include_bytes!("../../fonts/Tinos-Regular.ttf"),
            Font::Mono => include_bytes!("../../fonts/Cousine-Regular.ttf"),
            Font::MonoBold => include_bytes!("../../fonts/Cousine-Bold.ttf"),
        }
    }

    /// The glyph of a printable ASCII character; anything else is drawn as `?`.
    pub(crate) fn glyph(self, character: char) -> &'static Glyph {
        static GLYPHS: [OnceLock<Vec<Glyph>>; 5] = [const { OnceLock::new() }; 5];
        let glyphs = GLYPHS[self as usize].get_or_init(|| read_glyphs(self.file()));
        let code = if character.is_ascii_graphic() || character == ' ' {
            character as usize
        } else {
            '?' as usize
        };
        &glyphs[code - 32]
    }

    /// Width of a line of text, in the unit of `size`.
    pub(crate) fn width(self, text: &str, size: i32) -> i32 {
        let units: i64 = text.chars().map(|c| self.glyph(c).advance).sum();
        (units * i64::from(size) / UNITS_PER_EM) as i32
    }
}

/// The glyphs of characters 32 to 126, in order.
fn read_glyphs(file: &'static [u8]) -> Vec<Glyph> {
    let face = Face::parse(file, 0).expect("the bundled fonts are well-formed");
    debug_assert_eq!(i64::from(face.units_per_em()), UNITS_PER_EM);
    (' '..='~')
        .map(|character| {
            let id = face
                .glyph_index(character)
                .expect("the bundled fonts hold all of printable ASCII");
            let mut outline = Outline::default();
            face.outline_glyph(id, &mut outline);
            Glyph {
                advance: i64::from(face.glyph_hor_advance(id).unwrap_or(0)),
                contours: outline.contours,
            }
        })
        .collect()
}

/// Lines per curve: at a scan's 10 to 30 pixels per em, four are closer than a pixel's tenth.
const LINES_PER_CURVE: i64 = 4;

/// TrueType coordinates are integers, so the conversions from `f32` are exact.
#[derive(Default)]
struct Outline {
    contours: Vec<Contour>,
}

impl Outline {
    fn push(&mut self, point: (i64, i64)) {
        self.contours
            .last_mut()
            .expect("an outline starts with move_to")
            .push(point);
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.contours.push(vec![(x as i64, y as i64)]);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.push((x as i64, y as i64));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let start = *self
            .contours
            .last()
            .and_then(|contour| contour.last())
            .expect("an outline starts with move_to");
        let (control, end) = ((x1 as i64, y1 as i64), (x as i64, y as i64));
        let n = LINES_PER_CURVE;
        for k in 1..=n {
            let at = |a: i64, b: i64, c: i64| {
                (a * (n - k) * (n - k) + 2 * b * k * (n - k) + c * k * k) / (n * n)
            };
            self.push((at(start.0, control.0, end.0), at(start.1, control.1, end.1)));
        }
    }

    fn curve_to(&mut self, _: f32, _: f32, _: f32, _: f32, x: f32, y: f32) {
        // TrueType outlines hold no cubic curves.
        self.line_to(x, y);
    }

    fn close(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Widths of Adobe's metrics files (Helvetica.afm, Times-Roman.afm, Courier.afm), per 1000 em.
    #[test]
    fn the_twins_have_the_widths_of_the_base_fonts() {
        for (font, text, expected) in [
            (Font::Sans, "A", 667),
            (Font::Sans, "i", 222),
            (Font::SansBold, "i", 278),
            (Font::Serif, "A", 722),
            (Font::Mono, "W", 600),
            (Font::MonoBold, ".", 600),
        ] {
            let width = font.width(text, 1000);
            assert!((width - expected).abs() <= 1, "{text}: {width}");
        }
    }

    #[test]
    fn every_printable_character_but_the_space_has_an_outline() {
        for font in FONTS {
            for character in '!'..='~' {
                assert!(!font.glyph(character).contours.is_empty());
            }
            assert!(font.glyph(' ').contours.is_empty());
        }
    }
}
