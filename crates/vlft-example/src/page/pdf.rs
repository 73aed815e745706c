//! Pages as a PDF file: text in the base-14 fonts, or one JPEG filling each page. No dates and no
//! random ids, so equal pages are equal files.

use miniz_oxide::deflate::compress_to_vec_zlib;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::font::FONTS;
use super::scan::Scan;
use super::{Font, Ink, Mark, Page};

/// As zlib's own default.
const COMPRESSION: u8 = 6;

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const INFO: Ref = Ref::new(3);
/// The fonts take 4 to 8, the pages follow.
const FIRST_FONT: i32 = 4;
const FIRST_PAGE: i32 = 10;

/// A PDF with a text layer.
pub(crate) fn born_digital(pages: &[Page], producer: &str) -> Vec<u8> {
    let mut pdf = begin(pages.len(), 2, producer);
    for font in FONTS {
        let mut dict = pdf.type1_font(Ref::new(FIRST_FONT + font as i32));
        dict.base_font(Name(font.base14_name().as_bytes()));
        dict.encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (i, page) in pages.iter().enumerate() {
        let [page_id, content_id] = [0, 1].map(|k| Ref::new(FIRST_PAGE + 2 * i as i32 + k));
        let mut dict = pdf.page(page_id);
        dict.parent(PAGES)
            .media_box(media_box(page.width, page.height))
            .contents(content_id);
        let mut resources = dict.resources();
        let mut fonts = resources.fonts();
        for font in FONTS {
            fonts.pair(
                Name(resource_name(font)),
                Ref::new(FIRST_FONT + font as i32),
            );
        }
        fonts.finish();
        resources.finish();
        dict.finish();
        let content = compress_to_vec_zlib(&content(page), COMPRESSION);
        pdf.stream(content_id, &content).filter(Filter::FlateDecode);
    }
    pdf.finish()
}

/// A PDF as an office scanner writes it: a picture per page and nothing else. `size`: of the
/// paper, in tenths of a point.
pub(crate) fn scanned(pages: &[Scan], size: (i32, i32), producer: &str) -> Vec<u8> {
    let mut pdf = begin(pages.len(), 3, producer);
    for (i, scan) in pages.iter().enumerate() {
        let [page_id, content_id, image_id] =
            [0, 1, 2].map(|k| Ref::new(FIRST_PAGE + 3 * i as i32 + k));
        let mut dict = pdf.page(page_id);
        dict.parent(PAGES)
            .media_box(media_box(size.0, size.1))
            .contents(content_id);
        dict.resources().x_objects().pair(Name(b"Im0"), image_id);
        dict.finish();

        let mut content = Content::new();
        content.save_state();
        content.transform([points(size.0), 0.0, 0.0, points(size.1), 0.0, 0.0]);
        content.x_object(Name(b"Im0"));
        content.restore_state();
        pdf.stream(content_id, &content.finish());

        let mut image = pdf.image_xobject(image_id, &scan.jpeg);
        image.filter(Filter::DctDecode);
        image.width(scan.width as i32);
        image.height(scan.height as i32);
        image.bits_per_component(8);
        if scan.colour {
            image.color_space().device_rgb();
        } else {
            image.color_space().device_gray();
        }
    }
    pdf.finish()
}

fn begin(pages: usize, objects_per_page: i32, producer: &str) -> Pdf {
    let mut pdf = Pdf::new();
    pdf.catalog(CATALOG).pages(PAGES);
    pdf.pages(PAGES)
        .kids((0..pages as i32).map(|i| Ref::new(FIRST_PAGE + objects_per_page * i)))
        .count(pages as i32);
    pdf.document_info(INFO).producer(TextStr(producer));
    pdf
}

fn media_box(width: i32, height: i32) -> Rect {
    Rect::new(0.0, 0.0, points(width), points(height))
}

/// Tenths of a point to points. The division is correctly rounded, so the same everywhere.
fn points(tenths: i32) -> f32 {
    tenths as f32 / 10.0
}

fn resource_name(font: Font) -> &'static [u8] {
    match font {
        Font::Sans => b"F0",
        Font::SansBold => b"F1",
        Font::Serif => b"F2",
        Font::Mono => b"F3",
        Font::MonoBold => b"F4",
    }
}

/// The page's content stream. PDF counts y upwards from the lower edge.
fn content(page: &Page) -> Vec<u8> {
    let y_up = |y: i32| points(page.height - y);
    let mut content = Content::new();
    for mark in &page.marks {
        match mark {
            Mark::Text {
                x,
                y,
                style,
                turn,
                text,
            } => {
                fill_ink(&mut content, style.ink);
                // A thousandth is finer than anything seen at this size.
                let [sin, cos] = [turn.sin, turn.cos].map(|v| (v * 1000 / 65536) as f32 / 1000.0);
                content.begin_text();
                content.set_font(Name(resource_name(style.font)), points(style.size));
                content.set_text_matrix([cos, sin, -sin, cos, points(*x), y_up(*y)]);
                content.show(Str(text.as_bytes()));
                content.end_text();
            }
            Mark::Line {
                from,
                to,
                width,
                ink,
            } => {
                let [r, g, b] = unit_rgb(*ink);
                content.set_stroke_rgb(r, g, b);
                content.set_line_width(points(*width));
                content.move_to(points(from.0), y_up(from.1));
                content.line_to(points(to.0), y_up(to.1));
                content.stroke();
            }
            Mark::Shape {
                points: corners,
                ink,
            } => {
                fill_ink(&mut content, *ink);
                for (i, (x, y)) in corners.iter().enumerate() {
                    if i == 0 {
                        content.move_to(points(*x), y_up(*y));
                    } else {
                        content.line_to(points(*x), y_up(*y));
                    }
                }
                content.close_path();
                content.fill_nonzero();
            }
        }
    }
    content.finish().into_vec()
}

fn fill_ink(content: &mut Content, ink: Ink) {
    let [r, g, b] = unit_rgb(ink);
    content.set_fill_rgb(r, g, b);
}

/// Three decimals are enough for 256 steps.
fn unit_rgb(ink: Ink) -> [f32; 3] {
    [ink.0, ink.1, ink.2].map(|v| (u32::from(v) * 1000 / 255) as f32 / 1000.0)
}
