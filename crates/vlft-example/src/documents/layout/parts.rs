//! Pieces that several layouts share: logos, stamps, signatures, captioned boxes, tables.

use crate::dice::Dice;
use crate::documents::vocabulary::Carrier;
use crate::page::{Area, BLACK, Font, Ink, Page, Style, Turn, WHITE, area};

pub(super) const GRAY: Ink = Ink(90, 90, 90);
pub(super) const TYPED: Style = Style::new(Font::Mono, 84);
pub(super) const CAPTION: Style = Style::new(Font::Sans, 56);

/// The carrier's sign in a square of `side` whose upper left corner is (x, y).
pub(super) fn logo(page: &mut Page, x: i32, y: i32, side: i32, carrier: &Carrier) {
    let at = |u: i32, v: i32| (x + side * u / 100, y + side * v / 100);
    match carrier.logo {
        // A ship's bow over two waves.
        0 => {
            page.shape(
                vec![at(8, 40), at(92, 40), at(76, 68), at(24, 68)],
                carrier.ink,
            );
            page.shape(
                vec![at(38, 14), at(66, 14), at(66, 36), at(30, 36)],
                carrier.ink,
            );
            for v in [76, 88] {
                page.shape(
                    vec![
                        at(0, v),
                        at(25, v + 4),
                        at(50, v),
                        at(75, v + 4),
                        at(100, v),
                        at(100, v + 5),
                        at(75, v + 9),
                        at(50, v + 5),
                        at(25, v + 9),
                        at(0, v + 5),
                    ],
                    carrier.ink,
                );
            }
        }
        // A disc's octagon with a bar.
        1 => {
            page.shape(
                vec![
                    at(30, 4),
                    at(70, 4),
                    at(96, 30),
                    at(96, 70),
                    at(70, 96),
                    at(30, 96),
                    at(4, 70),
                    at(4, 30),
                ],
                carrier.ink,
            );
            page.shape(vec![at(20, 44), at(80, 44), at(80, 56), at(20, 56)], WHITE);
            page.shape(vec![at(44, 20), at(56, 20), at(56, 80), at(44, 80)], WHITE);
        }
        // Two chevrons.
        _ => {
            for u in [0, 40] {
                page.shape(
                    vec![
                        at(u, 8),
                        at(u + 24, 8),
                        at(u + 60, 50),
                        at(u + 24, 92),
                        at(u, 92),
                        at(u + 34, 50),
                    ],
                    carrier.ink,
                );
            }
        }
    }
}

/// A frame with a small caption in its corner and typed lines below it. What does not fit the
/// width is wrapped; what does not fit the height is a bug of the layout.
pub(super) fn boxed(page: &mut Page, at: Area, caption: &str, typed: Style, lines: &[&str]) {
    page.frame(at, 5, BLACK);
    page.text(at.x + 30, at.y + 70, CAPTION, caption);
    let leading = typed.size * 118 / 100;
    let mut y = at.y + 75 + leading;
    for line in lines {
        for wrapped in typed.wrap(line, at.w - 60) {
            debug_assert!(y <= at.y + at.h, "`{wrapped}` leaves the box `{caption}`");
            page.text(at.x + 40, y, typed, &wrapped);
            y += leading;
        }
    }
}

/// Columns of a table: caption, x of the left edge, right-aligned or not.
pub(super) struct Column {
    pub(super) caption: &'static str,
    pub(super) width: i32,
    pub(super) right: bool,
}

impl Column {
    fn write(&self, page: &mut Page, left: i32, y: i32, style: Style, text: &str) {
        if self.right {
            page.right_aligned(left + self.width - 35, y, style, text);
        } else {
            page.text(left + 35, y, style, text);
        }
    }
}

pub(super) struct Table<'a> {
    pub(super) columns: &'a [Column],
    pub(super) head: Style,
    pub(super) cell: Style,
    pub(super) row_height: i32,
    pub(super) head_fill: Option<Ink>,
    pub(super) zebra: Option<Ink>,
    pub(super) grid: bool,
}

impl Table<'_> {
    /// Draws the rows below (x, y); returns the y after the last.
    pub(super) fn draw(&self, page: &mut Page, x: i32, y: i32, rows: &[Vec<String>]) -> i32 {
        let width: i32 = self.columns.iter().map(|c| c.width).sum();
        let base = |row_y: i32, style: Style| row_y + (self.row_height + style.size * 7 / 10) / 2;
        if let Some(ink) = self.head_fill {
            page.fill(area(x, y, width, self.row_height), ink);
        }
        let mut left = x;
        for column in self.columns {
            column.write(page, left, base(y, self.head), self.head, column.caption);
            left += column.width;
        }
        let mut row_y = y + self.row_height;
        for (i, row) in rows.iter().enumerate() {
            if let Some(ink) = self.zebra.filter(|_| i % 2 == 1) {
                page.fill(area(x, row_y, width, self.row_height), ink);
            }
            let mut left = x;
            for (column, text) in self.columns.iter().zip(row) {
                column.write(page, left, base(row_y, self.cell), self.cell, text);
                left += column.width;
            }
            row_y += self.row_height;
        }
        if self.grid {
            for line in 0..=rows.len() as i32 + 1 {
                let at = y + line * self.row_height;
                page.line((x, at), (x + width, at), 4, BLACK);
            }
            let mut left = x;
            page.line((x, y), (x, row_y), 4, BLACK);
            for column in self.columns {
                left += column.width;
                page.line((left, y), (left, row_y), 4, BLACK);
            }
        }
        row_y
    }
}

/// A rubber stamp: words in a crooked frame.
pub(super) fn stamp(page: &mut Page, x: i32, y: i32, words: &str, ink: Ink, dice: &mut Dice) {
    let style = Style::new(Font::SansBold, 170).ink(ink);
    let turn = Turn::from_sine(i64::from(dice.between(-9000, 13000)));
    let (w, h) = (style.width(words) + 200, 290);
    let corner = |u: i32, v: i32| {
        let (dx, dy) = turn.apply(i64::from(u), i64::from(v));
        (x + dx as i32, y + dy as i32)
    };
    for inset in [0, 35] {
        let corners = [
            corner(inset, inset),
            corner(w - inset, inset),
            corner(w - inset, h - inset),
            corner(inset, h - inset),
        ];
        for i in 0..4 {
            page.line(
                corners[i],
                corners[(i + 1) % 4],
                if inset == 0 { 22 } else { 8 },
                ink,
            );
        }
    }
    let (tx, ty) = corner(100, 205);
    page.turned_text(tx, ty, style, turn, words);
}

/// A scribble of a pen, about 1300 wide, its base line at y.
pub(super) fn signature(page: &mut Page, x: i32, y: i32, dice: &mut Dice) {
    let ink = *dice.pick(&[Ink(20, 30, 120), Ink(25, 25, 30), Ink(10, 40, 140)]);
    let mut from = (x, y - dice.between(0, 120));
    let strokes = dice.between(7, 11);
    for i in 0..strokes {
        let tall = if i == 0 || i == strokes / 2 { 420 } else { 180 };
        let to = (
            from.0 + dice.between(20, 190),
            y - if i % 2 == 0 {
                dice.between(tall / 2, tall)
            } else {
                dice.between(-80, 40)
            },
        );
        let bend = (
            from.0 + dice.between(-60, 200),
            to.1 + dice.between(-60, 60),
        );
        curve(page, from, bend, to, ink);
        from = to;
    }
    curve(page, from, (from.0 + 300, y + 140), (x + 200, y + 90), ink);
}

fn curve(page: &mut Page, from: (i32, i32), bend: (i32, i32), to: (i32, i32), ink: Ink) {
    const STEPS: i32 = 8;
    let mut last = from;
    for k in 1..=STEPS {
        let at = |a: i32, b: i32, c: i32| {
            (a * (STEPS - k) * (STEPS - k) + 2 * b * k * (STEPS - k) + c * k * k) / (STEPS * STEPS)
        };
        let next = (at(from.0, bend.0, to.0), at(from.1, bend.1, to.1));
        page.line(last, next, 13, ink);
        last = next;
    }
}

/// `Page 2 of 3`, small, at the lower right.
pub(super) fn number_pages(pages: &mut [Page]) {
    let count = pages.len();
    if count < 2 {
        return;
    }
    for (i, page) in pages.iter_mut().enumerate() {
        let (x, y) = (page.width - 300, page.height - 170);
        page.right_aligned(x, y, CAPTION, &format!("Page {} of {count}", i + 1));
    }
}
