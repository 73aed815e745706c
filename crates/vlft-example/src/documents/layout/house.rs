//! A forwarder's house bill on US Letter paper: one grid in a serif face, containers first.

use super::parts::{CAPTION, Column, Table, boxed, logo, number_pages, signature, stamp};
use crate::dice::Dice;
use crate::documents::bill::{Bill, Container, cubic_metres, kilograms, thousands};
use crate::page::{BLACK, Font, Ink, LETTER, Page, Style, area};

const LEFT: i32 = 420;
const WIDTH: i32 = LETTER.0 - 2 * LEFT;
const VALUE: Style = Style::new(Font::Serif, 98);

const ON_THE_FRONT: usize = 10;
const ON_A_SHEET: usize = 30;

pub(super) fn pages(bill: &Bill, dice: &mut Dice) -> Vec<Page> {
    let (first, rest) = bill
        .containers
        .split_at(bill.containers.len().min(ON_THE_FRONT));
    let mut pages = vec![front(bill, first, dice)];
    for (i, part) in rest.chunks(ON_A_SHEET).enumerate() {
        let mut page = Page::new(LETTER);
        let title = format!("Annex to House B/L {}", bill.number);
        page.text(LEFT, 500, Style::new(Font::Serif, 140), &title);
        containers(&mut page, 700, bill, part, ON_THE_FRONT + i * ON_A_SHEET);
        pages.push(page);
    }
    number_pages(&mut pages);
    pages
}

fn front(bill: &Bill, first: &[Container], dice: &mut Dice) -> Page {
    let mut page = Page::new(LETTER);
    let carrier = bill.carrier;
    logo(&mut page, LEFT, 300, 330, carrier);
    page.text(
        LEFT + 420,
        450,
        Style::new(Font::Serif, 170).ink(carrier.ink),
        carrier.name,
    );
    page.text(
        LEFT + 420,
        570,
        Style::new(Font::Serif, 76),
        carrier.address,
    );
    page.right_aligned(
        LEFT + WIDTH,
        790,
        Style::new(Font::SansBold, 110),
        "HOUSE BILL OF LADING",
    );

    let (half, quarter) = (WIDTH / 2, WIDTH / 4);
    let (vessel, date) = (format!("{} {}", bill.vessel, bill.voyage), bill.date.long());
    let top = 870;
    boxed(
        &mut page,
        area(LEFT, top, half, 280),
        "House B/L number",
        Style::new(Font::SansBold, 115),
        &[&bill.number],
    );
    boxed(
        &mut page,
        area(LEFT + half, top, quarter, 280),
        "Booking ref.",
        VALUE,
        &[&bill.booking],
    );
    boxed(
        &mut page,
        area(LEFT + half + quarter, top, quarter, 280),
        "Issued",
        VALUE,
        &[&date],
    );
    let top = top + 280;
    boxed(
        &mut page,
        area(LEFT, top, half, 560),
        "Exporter",
        VALUE,
        &[bill.shipper.name, bill.shipper.address],
    );
    boxed(
        &mut page,
        area(LEFT + half, top, half, 560),
        "Consigned to",
        VALUE,
        &[bill.consignee.name, bill.consignee.address],
    );
    let top = top + 560;
    boxed(
        &mut page,
        area(LEFT, top, half, 280),
        "Exporting vessel",
        VALUE,
        &[&vessel],
    );
    boxed(
        &mut page,
        area(LEFT + half, top, half, 280),
        "Loading port",
        VALUE,
        &[bill.loading],
    );
    let top = top + 280;
    boxed(
        &mut page,
        area(LEFT, top, half, 280),
        "Discharge port",
        VALUE,
        &[bill.discharge],
    );
    boxed(
        &mut page,
        area(LEFT + half, top, half, 280),
        "Freight / type of move",
        VALUE,
        &[&format!("{}, CY/CY", bill.freight())],
    );
    let top = top + 280;
    page.frame(area(LEFT, top, WIDTH, 620), 5, BLACK);
    page.text(
        LEFT + 30,
        top + 70,
        CAPTION,
        "Particulars furnished by shipper",
    );
    let total = format!(
        "{} {}  -  {} KGS  -  {} CBM",
        thousands(bill.packages()),
        bill.goods.package,
        kilograms(bill.kilograms()),
        cubic_metres(bill.litres()),
    );
    let y = page.lines(LEFT + 60, top + 190, VALUE, 120, bill.goods.lines);
    page.text(LEFT + 60, y, VALUE, &total);

    let mut y = containers(&mut page, top + 680, bill, first, 0);
    let more = bill.containers.len() - first.len();
    if more > 0 {
        y += 110;
        page.text(
            LEFT,
            y,
            VALUE,
            &format!("{more} further containers: see annex"),
        );
    }
    for sentence in bill.free_time.sentences() {
        y += 140;
        page.text(LEFT, y, VALUE, &sentence);
    }
    debug_assert!(y < 7000, "the house bill's front is too long: {y}");
    page.text(LEFT, 7350, CAPTION, "Issued subject to the forwarder's standard trading conditions, a copy of which is available on request.");
    page.line((3700, 7200), (LEFT + WIDTH, 7200), 6, BLACK);
    page.text(3700, 7290, CAPTION, "Authorised signature");
    signature(&mut page, 3900, 7130, dice);
    if dice.percent(40) {
        stamp(
            &mut page,
            LEFT + 300,
            6900,
            "EXPRESS RELEASE",
            Ink(20, 110, 70),
            dice,
        );
    }
    page
}

fn containers(page: &mut Page, y: i32, bill: &Bill, part: &[Container], before: usize) -> i32 {
    let column = |caption, width, right| Column {
        caption,
        width,
        right,
    };
    let table = Table {
        columns: &[
            column("Item", 420, true),
            column("Container", 1260, false),
            column("Equip.", 700, false),
            column("Seal", 1000, false),
            column(bill.goods.package, 900, true),
            column("Weight KGS", WIDTH - 4280, true),
        ],
        head: Style::new(Font::SansBold, 70),
        cell: VALUE,
        row_height: 200,
        head_fill: None,
        zebra: None,
        grid: true,
    };
    let rows: Vec<Vec<String>> = part
        .iter()
        .enumerate()
        .map(|(i, c)| {
            vec![
                (before + i + 1).to_string(),
                spaced(&c.number),
                format!("{} {}", c.size, c.kind),
                c.seal.clone(),
                thousands(c.packages),
                kilograms(c.kilograms),
            ]
        })
        .collect();
    table.draw(page, LEFT, y, &rows)
}

/// `ABCU1234567` as `ABCU 123456-7`, the way it stands on the box itself.
fn spaced(number: &str) -> String {
    format!("{} {}-{}", &number[..4], &number[4..10], &number[10..])
}
