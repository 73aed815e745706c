//! A page as a list of marks, and the two ways to make it real: as PDF text and lines (`pdf`), or
//! drawn into a bitmap and worn like a scan (`raster`, `scan`). All lengths are tenths of a
//! point, x to the right and y DOWN from the upper left corner.

mod font;
pub(crate) mod pdf;
pub(crate) mod raster;
pub(crate) mod scan;

pub(crate) use font::Font;

/// A4 and US Letter.
pub(crate) const A4: (i32, i32) = (5950, 8420);
pub(crate) const LETTER: (i32, i32) = (6120, 7920);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ink(pub(crate) u8, pub(crate) u8, pub(crate) u8);

pub(crate) const BLACK: Ink = Ink(0, 0, 0);
pub(crate) const WHITE: Ink = Ink(255, 255, 255);

/// Sine and cosine of an angle, in 1/65536. Positive turns counter-clockwise as one looks at the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) sin: i64,
    pub(crate) cos: i64,
}

impl Turn {
    pub(crate) const NONE: Turn = Turn { sin: 0, cos: 65536 };

    /// From the sine alone, in 1/65536 (1144 is one degree); between -90 and 90 degrees.
    pub(crate) fn from_sine(sin: i64) -> Self {
        let cos = ((65536 * 65536 - sin * sin) as u64).isqrt() as i64;
        Self { sin, cos }
    }

    /// The vector (x, y), y down, after turning.
    pub(crate) fn apply(self, x: i64, y: i64) -> (i64, i64) {
        (
            (x * self.cos + y * self.sin) >> 16,
            (y * self.cos - x * self.sin) >> 16,
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// `x, y`: the left end of the base line.
    Text {
        x: i32,
        y: i32,
        style: Style,
        turn: Turn,
        text: String,
    },
    Line {
        from: (i32, i32),
        to: (i32, i32),
        width: i32,
        ink: Ink,
    },
    /// A filled polygon.
    Shape { points: Vec<(i32, i32)>, ink: Ink },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) font: Font,
    pub(crate) size: i32,
    pub(crate) ink: Ink,
}

impl Style {
    pub(crate) const fn new(font: Font, size: i32) -> Self {
        Self {
            font,
            size,
            ink: BLACK,
        }
    }

    pub(crate) const fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }

    /// Width of one line of text.
    pub(crate) fn width(self, text: &str) -> i32 {
        self.font.width(text, self.size)
    }

    /// As large as it is, or so much smaller that `text` is at most `width` wide.
    pub(crate) fn fitting(self, text: &str, width: i32) -> Self {
        let size = (self.size * width / self.width(text).max(1)).min(self.size);
        Self { size, ..self }
    }

    /// Breaks text at spaces so that each line is at most `width` wide, a longer word on its own line.
    pub(crate) fn wrap(self, text: &str, width: i32) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if self.width(line) + self.width(" ") + self.width(word) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) marks: Vec<Mark>,
}

impl Page {
    pub(crate) fn new((width, height): (i32, i32)) -> Self {
        Self {
            width,
            height,
            marks: Vec::new(),
        }
    }

    pub(crate) fn text(&mut self, x: i32, y: i32, style: Style, text: &str) {
        self.turned_text(x, y, style, Turn::NONE, text);
    }

    pub(crate) fn turned_text(&mut self, x: i32, y: i32, style: Style, turn: Turn, text: &str) {
        // The fonts hold printable ASCII; anything else would be a hole in the page.
        debug_assert!(text.bytes().all(|b| (32..127).contains(&b)), "{text}");
        if !text.is_empty() {
            self.marks.push(Mark::Text {
                x,
                y,
                style,
                turn,
                text: text.to_owned(),
            });
        }
    }

    pub(crate) fn centred(&mut self, x: i32, y: i32, style: Style, text: &str) {
        self.text(x - style.width(text) / 2, y, style, text);
    }

    pub(crate) fn right_aligned(&mut self, x: i32, y: i32, style: Style, text: &str) {
        self.text(x - style.width(text), y, style, text);
    }

    /// Lines of text, `leading` apart; returns the base line after the last.
    pub(crate) fn lines<S: AsRef<str>>(
        &mut self,
        x: i32,
        mut y: i32,
        style: Style,
        leading: i32,
        lines: impl IntoIterator<Item = S>,
    ) -> i32 {
        for line in lines {
            self.text(x, y, style, line.as_ref());
            y += leading;
        }
        y
    }

    pub(crate) fn line(&mut self, from: (i32, i32), to: (i32, i32), width: i32, ink: Ink) {
        self.marks.push(Mark::Line {
            from,
            to,
            width,
            ink,
        });
    }

    pub(crate) fn shape(&mut self, points: Vec<(i32, i32)>, ink: Ink) {
        self.marks.push(Mark::Shape { points, ink });
    }

    pub(crate) fn fill(&mut self, area: Area, ink: Ink) {
        let Area { x, y, w, h } = area;
        self.shape(vec![(x, y), (x + w, y), (x + w, y + h), (x, y + h)], ink);
    }

    pub(crate) fn frame(&mut self, area: Area, width: i32, ink: Ink) {
        let Area { x, y, w, h } = area;
        self.line((x, y), (x + w, y), width, ink);
        self.line((x, y + h), (x + w, y + h), width, ink);
        self.line((x, y), (x, y + h), width, ink);
        self.line((x + w, y), (x + w, y + h), width, ink);
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) w: i32,
    pub(crate) h: i32,
}

pub(crate) const fn area(x: i32, y: i32, w: i32, h: i32) -> Area {
    Area { x, y, w, h }
}
