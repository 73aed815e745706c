//! The letter style: a letterhead, then `KEY : VALUE` lines on a typewriter, no boxes at all.

use super::parts::{logo, number_pages, signature, stamp};
use crate::dice::Dice;
use crate::documents::bill::{Bill, cubic_metres, kilograms, thousands};
use crate::page::{A4, BLACK, Font, Ink, Page, Style};

const LEFT: i32 = 560;
const RIGHT: i32 = 5390;
const TYPED: Style = Style::new(Font::Mono, 98);
const LEADING: i32 = 138;
const BOTTOM: i32 = 7600;

pub(super) fn pages(bill: &Bill, dice: &mut Dice) -> Vec<Page> {
    let mut sheet = Sheet::new(bill);
    for line in body(bill, dice) {
        sheet.line(&line);
    }
    sheet.close(bill, dice)
}

/// All lines of the letter; an empty string is an empty line.
fn body(bill: &Bill, dice: &mut Dice) -> Vec<String> {
    // Each office words its captions in its own way.
    let style = dice.below(3) as usize;
    let word = |choices: [&'static str; 3]| choices[style];
    let field = |key: &str, value: &str| format!("{key:<20}: {value}");

    let mut lines = vec![
        field(
            word(["B/L NUMBER", "BILL OF LADING NO", "OUR B/L REF"]),
            &bill.number,
        ),
        field("DATE OF ISSUE", &bill.date.long()),
        String::new(),
        field("SHIPPER", bill.shipper.name),
        field("", bill.shipper.address),
        field(
            word(["CONSIGNEE", "CONSIGNED TO", "CONSIGNEE"]),
            bill.consignee.name,
        ),
        field("", bill.consignee.address),
        field("NOTIFY PARTY", "SAME AS CONSIGNEE"),
        String::new(),
        field(
            word(["VESSEL / VOYAGE", "CARRYING VESSEL", "M.V. / VOY"]),
            &format!("{} / {}", bill.vessel, bill.voyage),
        ),
        field(
            word(["PORT OF LOADING", "LOADED AT", "P.O.L."]),
            bill.loading,
        ),
        field(
            word(["PORT OF DISCHARGE", "DISCHARGED AT", "P.O.D."]),
            bill.discharge,
        ),
        String::new(),
        field("GOODS", bill.goods.lines[0]),
    ];
    lines.extend(bill.goods.lines[1..].iter().map(|line| field("", line)));
    lines.push(field(
        "PACKAGES",
        &format!("{} {}", thousands(bill.packages()), bill.goods.package),
    ));
    lines.push(field(
        "GROSS WEIGHT",
        &format!("{} KGS", kilograms(bill.kilograms())),
    ));
    lines.push(field(
        "MEASUREMENT",
        &format!("{} CBM", cubic_metres(bill.litres())),
    ));
    lines.push(field("FREIGHT", bill.freight()));
    for (i, sentence) in bill.free_time.sentences().iter().enumerate() {
        lines.push(field(if i == 0 { "FREE TIME" } else { "" }, sentence));
    }
    lines.push(String::new());
    lines.push(format!("CONTAINERS ({}):", bill.equipment()));
    for (i, container) in bill.containers.iter().enumerate() {
        lines.push(format!(
            "{:>3}. {} / {}{} / SEAL {} / {} {}",
            i + 1,
            container.number,
            container.size,
            container.kind,
            container.seal,
            thousands(container.packages),
            bill.goods.package,
        ));
    }
    lines
}

/// Paper in a typewriter: a new page when the old one is full.
struct Sheet<'a> {
    bill: &'a Bill,
    pages: Vec<Page>,
    y: i32,
}

impl<'a> Sheet<'a> {
    fn new(bill: &'a Bill) -> Self {
        let mut page = Page::new(A4);
        let carrier = bill.carrier;
        logo(&mut page, A4.0 / 2 - 190, 300, 380, carrier);
        let middle = A4.0 / 2;
        page.centred(
            middle,
            850,
            Style::new(Font::Serif, 200).ink(carrier.ink),
            carrier.name,
        );
        page.centred(middle, 965, Style::new(Font::Serif, 84), carrier.address);
        page.line((LEFT, 1050), (RIGHT, 1050), 12, carrier.ink);
        page.centred(
            middle,
            1330,
            Style::new(Font::MonoBold, 130),
            "BILL OF LADING",
        );
        Self {
            bill,
            pages: vec![page],
            y: 1600,
        }
    }

    fn line(&mut self, text: &str) {
        // A long value goes on under itself; containers stand alone on their line.
        let continued = if text.get(20..22) == Some(": ") {
            22
        } else {
            6
        };
        let columns = ((RIGHT - LEFT) / TYPED.width("M")) as usize;
        let mut rest = text.to_owned();
        loop {
            if self.y > BOTTOM {
                self.turn_over();
            }
            if rest.len() <= columns {
                self.type_line(&rest);
                return;
            }
            let cut = rest[..columns]
                .rfind(' ')
                .filter(|at| *at > continued)
                .unwrap_or(columns);
            let tail = format!("{}{}", " ".repeat(continued), rest[cut..].trim_start());
            self.type_line(rest[..cut].trim_end());
            rest = tail;
        }
    }

    fn type_line(&mut self, text: &str) {
        let page = self
            .pages
            .last_mut()
            .expect("a sheet has a page from the start");
        // A value without a key leaves its colon out.
        let nameless = format!("{:20}: ", "");
        let text = match text.strip_prefix(&nameless) {
            Some(value) => format!("{:22}{value}", ""),
            None => text.to_owned(),
        };
        page.text(LEFT, self.y, TYPED, &text);
        self.y += LEADING;
    }

    fn turn_over(&mut self) {
        let mut page = Page::new(A4);
        page.text(
            LEFT,
            600,
            TYPED,
            &format!("B/L {} - CONTINUED", self.bill.number),
        );
        page.line((LEFT, 660), (RIGHT, 660), 6, BLACK);
        self.pages.push(page);
        self.y = 900;
    }

    fn close(mut self, bill: &Bill, dice: &mut Dice) -> Vec<Page> {
        if self.y + 900 > 8000 {
            self.turn_over();
        }
        let page = self
            .pages
            .last_mut()
            .expect("a sheet has a page from the start");
        let y = self.y + 250;
        page.text(LEFT, y, TYPED, "FOR AND ON BEHALF OF THE CARRIER");
        signature(page, LEFT + 200, y + 420, dice);
        page.line((LEFT, y + 560), (LEFT + 2200, y + 560), 6, BLACK);
        page.text(LEFT, y + 680, Style::new(Font::Mono, 84), bill.carrier.name);
        if dice.percent(45) {
            stamp(
                page,
                LEFT + 2500,
                y + 150,
                "ORIGINAL",
                Ink(170, 40, 60),
                dice,
            );
        }
        number_pages(&mut self.pages);
        self.pages
    }
}
