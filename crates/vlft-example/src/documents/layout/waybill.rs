//! The sea waybill: two columns of shaded captions, a striped container table, and the terms on a
//! page of their own.

use super::parts::{Column, GRAY, Table, logo, number_pages, signature, stamp};
use super::terms;
use crate::dice::Dice;
use crate::documents::bill::{Bill, Container, cubic_metres, kilograms, thousands};
use crate::documents::vocabulary::Party;
use crate::page::{A4, Font, Ink, Page, Style, WHITE, area};

const LEFT: i32 = 380;
const RIGHT: i32 = 5570;
const COLUMN: i32 = 2520;
const SHADE: Ink = Ink(228, 233, 240);
const VALUE: Style = Style::new(Font::Sans, 92);
const SMALL: Style = Style::new(Font::Sans, 72);

const ON_THE_FRONT: usize = 12;
const ON_A_SHEET: usize = 34;

pub(super) fn pages(bill: &Bill, dice: &mut Dice) -> Vec<Page> {
    let (first, rest) = bill
        .containers
        .split_at(bill.containers.len().min(ON_THE_FRONT));
    let mut pages = vec![front(bill, first, dice)];
    for (i, part) in rest.chunks(ON_A_SHEET).enumerate() {
        let mut page = Page::new(A4);
        title_bar(&mut page, bill, "SEA WAYBILL - CONTINUATION SHEET");
        table(&mut page, 950, bill, part, ON_THE_FRONT + i * ON_A_SHEET);
        pages.push(page);
    }
    pages.push(terms::page(A4, bill));
    number_pages(&mut pages);
    pages
}

fn title_bar(page: &mut Page, bill: &Bill, title: &str) {
    page.fill(area(LEFT, 330, RIGHT - LEFT, 330), bill.carrier.ink);
    page.text(
        LEFT + 90,
        545,
        Style::new(Font::SansBold, 150).ink(WHITE),
        title,
    );
    let number = format!("No. {}", bill.number);
    page.right_aligned(
        RIGHT - 90,
        540,
        Style::new(Font::SansBold, 120).ink(WHITE),
        &number,
    );
    let name = format!("{}  |  {}", bill.carrier.name, bill.carrier.tagline);
    page.text(LEFT, 770, SMALL.ink(GRAY), &name);
}

fn front(bill: &Bill, containers: &[Container], dice: &mut Dice) -> Page {
    let mut page = Page::new(A4);
    title_bar(&mut page, bill, "SEA WAYBILL");
    logo(&mut page, RIGHT - 330, 690, 300, bill.carrier);

    let second = RIGHT - COLUMN;
    let Party { name, address, .. } = bill.consignee;
    let mut left = 950;
    for (caption, lines) in [
        ("SHIPPER", vec![bill.shipper.name, bill.shipper.address]),
        ("CONSIGNEE", vec![*name, *address]),
        ("NOTIFY ADDRESS", vec!["SAME AS CONSIGNEE"]),
    ] {
        left = block(&mut page, LEFT, left, caption, &lines);
    }
    let mut right = 1050;
    let voyage = format!("{} / VOY {}", bill.vessel, bill.voyage);
    let issued = format!("{} ({})", bill.date.long(), bill.booking);
    for (caption, value) in [
        ("VESSEL AND VOYAGE", voyage.as_str()),
        ("PORT OF LOADING", bill.loading),
        ("PORT OF DISCHARGE", bill.discharge),
        ("DATE OF ISSUE / BOOKING", &issued),
        ("FREIGHT", bill.freight()),
    ] {
        right = block(&mut page, second, right, caption, &[value]);
    }

    let mut y = left.max(right) + 60;
    y = block_wide(
        &mut page,
        y,
        "PARTICULARS OF GOODS (DECLARED BY SHIPPER, NOT CHECKED BY CARRIER)",
        bill.goods.lines,
    );
    y = table(&mut page, y + 60, bill, containers, 0);
    let more = bill.containers.len() - containers.len();
    if more > 0 {
        page.text(
            LEFT,
            y + 110,
            SMALL,
            &format!("... and {more} more containers on the continuation sheet"),
        );
        y += 110;
    }
    let free_time = bill.free_time.sentences();
    if !free_time.is_empty() {
        let lines: Vec<&str> = free_time.iter().map(String::as_str).collect();
        y = block_wide(&mut page, y + 90, "ADDITIONAL CLAUSES", &lines);
    }
    debug_assert!(y < 7500, "the waybill's front is too long: {y}");

    page.text(
        LEFT,
        7980,
        SMALL.ink(GRAY),
        "This waybill is not a document of title. Terms and conditions on the following page.",
    );
    page.right_aligned(
        RIGHT,
        7800,
        SMALL,
        &format!("{}, as carrier", bill.carrier.name),
    );
    signature(&mut page, RIGHT - 1500, 7560, dice);
    if dice.percent(40) {
        stamp(
            &mut page,
            LEFT + 300,
            7330,
            "NON NEGOTIABLE",
            Ink(60, 70, 140),
            dice,
        );
    }
    page
}

/// A shaded caption over its lines, in one of the two columns; returns where the next one starts.
fn block(page: &mut Page, x: i32, y: i32, caption: &str, lines: &[&str]) -> i32 {
    caption_bar(page, x, y, COLUMN, caption);
    let mut at = y + 240;
    for line in lines {
        at = page.lines(x + 60, at, VALUE, 120, VALUE.wrap(line, COLUMN - 100));
    }
    at
}

fn block_wide(page: &mut Page, y: i32, caption: &str, lines: &[&str]) -> i32 {
    caption_bar(page, LEFT, y, RIGHT - LEFT, caption);
    page.lines(LEFT + 60, y + 240, VALUE, 120, lines)
}

fn caption_bar(page: &mut Page, x: i32, y: i32, width: i32, caption: &str) {
    page.fill(area(x, y, width, 120), SHADE);
    page.text(x + 60, y + 85, Style::new(Font::SansBold, 64), caption);
}

fn table(page: &mut Page, y: i32, bill: &Bill, containers: &[Container], before: usize) -> i32 {
    let column = |caption, width, right| Column {
        caption,
        width,
        right,
    };
    let table = Table {
        columns: &[
            column("#", 260, true),
            column("CONTAINER", 1150, false),
            column("SIZE", 430, false),
            column("TYPE", 430, false),
            column("SEAL", 900, false),
            column(bill.goods.package, 640, true),
            column("GROSS KG", 770, true),
            column("CBM", 610, true),
        ],
        head: Style::new(Font::SansBold, 68),
        cell: Style::new(Font::Sans, 88),
        row_height: 190,
        head_fill: Some(SHADE),
        zebra: Some(Ink(244, 246, 249)),
        grid: false,
    };
    let rows: Vec<Vec<String>> = containers
        .iter()
        .enumerate()
        .map(|(i, c)| {
            vec![
                (before + i + 1).to_string(),
                c.number.clone(),
                c.size.to_string(),
                c.kind.to_owned(),
                c.seal.clone(),
                thousands(c.packages),
                kilograms(c.kilograms),
                cubic_metres(c.litres),
            ]
        })
        .collect();
    table.draw(page, LEFT, y, &rows)
}
