//! The classic liner bill of lading: boxes with tiny captions, values typed into them, and riders
//! for the containers that do not fit.

use super::parts::{
    CAPTION, Column, GRAY, TYPED, Table, boxed, logo, number_pages, signature, stamp,
};
use super::terms;
use crate::dice::Dice;
use crate::documents::bill::{Bill, Container, cubic_metres, kilograms, thousands};
use crate::documents::vocabulary::Party;
use crate::page::{A4, BLACK, Font, Ink, Page, Style, area};

const LEFT: i32 = 300;
const MIDDLE: i32 = 2975;
const RIGHT: i32 = 5650;

/// More containers than this go onto riders.
const ON_THE_FRONT: usize = 7;
const ON_A_RIDER: usize = 28;

pub(super) fn pages(bill: &Bill, dice: &mut Dice) -> Vec<Page> {
    let mut pages = vec![front(bill, dice)];
    if bill.containers.len() > ON_THE_FRONT {
        for (i, part) in bill.containers.chunks(ON_A_RIDER).enumerate() {
            pages.push(rider(bill, part, i * ON_A_RIDER));
        }
    }
    // The back of the front, if somebody turned the paper over: always for the longest ones.
    if dice.percent(20) || bill.containers.len() > ON_A_RIDER {
        pages.push(terms::page(A4, bill));
    }
    number_pages(&mut pages);
    pages
}

fn front(bill: &Bill, dice: &mut Dice) -> Page {
    let mut page = Page::new(A4);
    head(&mut page, bill);
    parties(&mut page, bill, dice);
    route(&mut page, bill);
    cargo(&mut page, bill);
    foot(&mut page, bill, dice);
    page
}

fn head(page: &mut Page, bill: &Bill) {
    let carrier = bill.carrier;
    logo(page, LEFT, 230, 400, carrier);
    let name = Style::new(Font::SansBold, 165).ink(carrier.ink);
    let name = name.fitting(carrier.name, 3150);
    page.text(LEFT + 480, 400, name, carrier.name);
    page.text(
        LEFT + 480,
        500,
        Style::new(Font::Sans, 70).ink(GRAY),
        carrier.tagline,
    );
    page.text(
        LEFT + 480,
        595,
        Style::new(Font::Sans, 62).ink(GRAY),
        carrier.address,
    );
    page.right_aligned(
        RIGHT,
        380,
        Style::new(Font::SansBold, 190),
        "BILL OF LADING",
    );
    page.right_aligned(
        RIGHT,
        490,
        CAPTION,
        "FOR COMBINED TRANSPORT OR PORT TO PORT SHIPMENT",
    );
}

fn parties(page: &mut Page, bill: &Bill, dice: &mut Dice) {
    let half = MIDDLE - LEFT;
    let Party { name, address, .. } = bill.shipper;
    boxed(
        page,
        area(LEFT, 690, half, 640),
        "Shipper / Exporter",
        TYPED,
        &[name, address],
    );
    let Party { name, address, .. } = bill.consignee;
    boxed(
        page,
        area(LEFT, 1330, half, 640),
        "Consignee (not negotiable unless consigned to order)",
        TYPED,
        &[name, address],
    );
    let notify = if dice.percent(60) {
        vec!["SAME AS CONSIGNEE"]
    } else {
        vec![*name, *address]
    };
    boxed(
        page,
        area(LEFT, 1970, half, 640),
        "Notify party",
        TYPED,
        &notify,
    );

    let number = Style::new(Font::MonoBold, 110);
    boxed(
        page,
        area(MIDDLE, 690, 1500, 320),
        "B/L No.",
        number,
        &[&bill.number],
    );
    boxed(
        page,
        area(MIDDLE + 1500, 690, half - 1500, 320),
        "Booking No.",
        TYPED,
        &[&bill.booking],
    );
    boxed(
        page,
        area(MIDDLE, 1010, half, 320),
        "Export references",
        TYPED,
        &["AS PER SALES CONTRACT"],
    );
    boxed(
        page,
        area(MIDDLE, 1330, half, 640),
        "For delivery of goods please apply to",
        TYPED,
        &["AGENT AT PORT OF DISCHARGE", bill.discharge],
    );
    page.frame(area(MIDDLE, 1970, half, 640), 5, BLACK);
    let clause = "RECEIVED by the carrier in apparent good order and condition, unless otherwise \
        noted herein, the total number of containers or packages said to contain the goods \
        specified below, to be transported to the place of delivery on the terms printed overleaf. \
        One original must be surrendered, duly endorsed, in exchange for the goods.";
    let small = Style::new(Font::Sans, 58);
    page.lines(MIDDLE + 40, 2070, small, 75, small.wrap(clause, half - 80));
}

fn route(page: &mut Page, bill: &Bill) {
    let half = MIDDLE - LEFT;
    let quarter = half / 2;
    let voyage = format!("{}  V.{}", bill.vessel, bill.voyage);
    let row = 320;
    for (column, y, caption, value) in [
        (0, 2610, "Pre-carriage by", "TRUCK"),
        (1, 2610, "Place of receipt", bill.loading),
        (0, 2930, "Ocean vessel / Voyage No.", voyage.as_str()),
        (1, 2930, "Port of loading", bill.loading),
        (0, 3250, "Port of discharge", bill.discharge),
        (1, 3250, "Place of delivery", bill.discharge),
        (
            2,
            2610,
            "Freight payable at",
            if bill.prepaid {
                "ORIGIN"
            } else {
                "DESTINATION"
            },
        ),
        (3, 2610, "Number of original B/Ls", "THREE (3)"),
        (2, 2930, "Type of movement", "FCL / FCL"),
        (3, 2930, "Service", "CY - CY"),
    ] {
        boxed(
            page,
            area(LEFT + column * quarter, y, quarter, row),
            caption,
            TYPED,
            &[value],
        );
    }
    boxed(
        page,
        area(MIDDLE, 3250, half, row),
        "Equipment",
        TYPED,
        &[&bill.equipment()],
    );
}

/// The five columns of the cargo table: x of their left edges.
const COLUMNS: [(i32, &str); 5] = [
    (LEFT, "Container No. / Seal No."),
    (1750, "Quantity"),
    (2400, "Kind of packages; description of goods"),
    (4250, "Gross weight (KGS)"),
    (4980, "Measurement (CBM)"),
];
const TABLE_TOP: i32 = 3570;
const TABLE_END: i32 = 6700;

fn cargo(page: &mut Page, bill: &Bill) {
    page.frame(
        area(LEFT, TABLE_TOP, RIGHT - LEFT, TABLE_END - TABLE_TOP),
        5,
        BLACK,
    );
    page.line((LEFT, TABLE_TOP + 130), (RIGHT, TABLE_TOP + 130), 5, BLACK);
    for (x, caption) in COLUMNS {
        page.text(x + 30, TABLE_TOP + 88, CAPTION, caption);
        if x > LEFT {
            page.line((x, TABLE_TOP), (x, TABLE_END), 5, BLACK);
        }
    }

    let [x_box, x_quantity, x_goods, x_weight, x_measure] = COLUMNS.map(|(x, _)| x + 40);
    let mut y = TABLE_TOP + 260;
    let rider = bill.containers.len() > ON_THE_FRONT;
    if rider {
        page.text(
            x_box,
            y,
            TYPED,
            &format!("{} CONTAINERS", bill.containers.len()),
        );
        page.text(x_box, y + 105, TYPED, "AS PER ATTACHED");
        page.text(x_box, y + 210, TYPED, "RIDER");
    }
    let shown = if rider { &[][..] } else { &bill.containers };
    for (i, container) in shown.iter().enumerate() {
        let at = y + i as i32 * 255;
        page.text(x_box, at, TYPED, &container.number);
        page.text(
            x_box,
            at + 95,
            TYPED.small(),
            &format!("{}'{} / {}", container.size, container.kind, container.seal),
        );
        page.right_aligned(
            x_quantity + 560,
            at,
            TYPED.small(),
            &thousands(container.packages),
        );
        page.right_aligned(
            x_weight + 650,
            at,
            TYPED.small(),
            &kilograms(container.kilograms),
        );
        page.right_aligned(
            x_measure + 590,
            at,
            TYPED.small(),
            &cubic_metres(container.litres),
        );
    }

    let total = format!("{} {}", thousands(bill.packages()), bill.goods.package);
    y = page.lines(
        x_goods,
        y,
        TYPED,
        105,
        TYPED.wrap("SHIPPER'S LOAD, COUNT AND SEAL, SAID TO CONTAIN:", 1780),
    );
    y = page.lines(x_goods, y + 40, TYPED, 105, TYPED.wrap(&total, 1780));
    for line in bill.goods.lines {
        y = page.lines(x_goods, y, TYPED, 105, TYPED.wrap(line, 1780));
    }
    y = page.lines(x_goods, y + 60, TYPED, 105, [bill.freight()]);
    for sentence in bill.free_time.sentences() {
        y = page.lines(x_goods, y + 40, TYPED, 105, TYPED.wrap(&sentence, 1780));
    }

    let total_y = TABLE_END - 90;
    page.line(
        (x_weight - 40, total_y - 130),
        (RIGHT, total_y - 130),
        4,
        BLACK,
    );
    page.right_aligned(
        x_weight + 650,
        total_y,
        TYPED.small(),
        &kilograms(bill.kilograms()),
    );
    page.right_aligned(
        x_measure + 590,
        total_y,
        TYPED.small(),
        &cubic_metres(bill.litres()),
    );
}

fn foot(page: &mut Page, bill: &Bill, dice: &mut Dice) {
    let half = MIDDLE - LEFT;
    boxed(
        page,
        area(LEFT, TABLE_END, half, 420),
        "Total number of containers or packages (in words)",
        TYPED,
        &[&format!("SAY: {} CONTAINER(S) ONLY", bill.containers.len())],
    );
    boxed(
        page,
        area(LEFT, TABLE_END + 420, half, 420),
        "Freight and charges",
        TYPED,
        &[bill.freight(), "AS ARRANGED"],
    );
    let place = bill.loading.split(',').next().unwrap_or(bill.loading);
    boxed(
        page,
        area(MIDDLE, TABLE_END, half, 320),
        "Place and date of issue",
        TYPED,
        &[&format!("{place}  {}", bill.date.long())],
    );
    page.frame(area(MIDDLE, TABLE_END + 320, half, 520), 5, BLACK);
    page.text(
        MIDDLE + 30,
        TABLE_END + 390,
        CAPTION,
        "Signed for the carrier",
    );
    page.text(
        MIDDLE + 40,
        TABLE_END + 780,
        Style::new(Font::Sans, 66),
        &format!("{}, AS CARRIER", bill.carrier.name),
    );
    signature(page, MIDDLE + 700, TABLE_END + 640, dice);
    if dice.percent(55) {
        let (words, ink) = *dice.pick(&[
            ("ORIGINAL", Ink(180, 40, 50)),
            ("SHIPPED ON BOARD", Ink(40, 60, 150)),
            ("COPY NON NEGOTIABLE", Ink(70, 70, 90)),
            ("SURRENDERED", Ink(160, 30, 90)),
        ]);
        stamp(
            page,
            LEFT + dice.between(100, 1700),
            dice.between(5650, 6150),
            words,
            ink,
            dice,
        );
    }
}

fn rider(bill: &Bill, containers: &[Container], before: usize) -> Page {
    let mut page = Page::new(A4);
    let title = Style::new(Font::SansBold, 140);
    page.centred(A4.0 / 2, 420, title, "ATTACHED SHEET / CONTAINER RIDER");
    page.text(LEFT, 640, TYPED, &format!("B/L NO. : {}", bill.number));
    page.text(
        LEFT,
        760,
        TYPED,
        &format!("VESSEL  : {} V.{}", bill.vessel, bill.voyage),
    );
    page.right_aligned(RIGHT, 640, TYPED, &format!("DATE : {}", bill.date.long()));
    let column = |caption, width, right| Column {
        caption,
        width,
        right,
    };
    let table = Table {
        columns: &[
            column("No.", 350, true),
            column("Container No.", 1300, false),
            column("Size/Type", 800, false),
            column("Seal No.", 1000, false),
            column(bill.goods.package, 600, true),
            column("KGS", 700, true),
            column("CBM", 600, true),
        ],
        head: Style::new(Font::SansBold, 72),
        cell: Style::new(Font::Mono, 82),
        row_height: 205,
        head_fill: Some(Ink(226, 226, 226)),
        zebra: None,
        grid: true,
    };
    let rows: Vec<Vec<String>> = containers
        .iter()
        .enumerate()
        .map(|(i, c)| {
            vec![
                (before + i + 1).to_string(),
                c.number.clone(),
                format!("{}'{}", c.size, c.kind),
                c.seal.clone(),
                thousands(c.packages),
                thousands(c.kilograms),
                cubic_metres(c.litres),
            ]
        })
        .collect();
    table.draw(&mut page, LEFT, 920, &rows);
    page
}

impl Style {
    /// For figures in narrow columns.
    fn small(self) -> Self {
        Self { size: 74, ..self }
    }
}
