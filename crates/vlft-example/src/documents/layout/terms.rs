//! A page of small print in two columns, in our own words.

use crate::documents::bill::Bill;
use crate::page::{Font, Page, Style};

const CLAUSES: [(&str, &str); 16] = [
    (
        "Definitions",
        "\"Carrier\" means the party on whose behalf this document was signed. \"Merchant\" includes the shipper, the holder, the consignee, the receiver of the goods and any person owning or entitled to their possession. \"Container\" includes any trailer, flat, tank or similar article used to consolidate goods.",
    ),
    (
        "Carrier's tariff",
        "The terms of the carrier's applicable tariff are part of this contract. Copies may be had from the carrier on request. Where the tariff and this document differ, this document prevails.",
    ),
    (
        "Sub-contracting",
        "The carrier may sub-contract the whole or any part of the carriage on any terms. Every servant, agent and sub-contractor has the benefit of all provisions herein as if they were made for his benefit.",
    ),
    (
        "Period of responsibility",
        "The carrier is liable for loss of or damage to the goods between the moment he takes them in charge and the moment of delivery, to the extent set out below, and at no other time.",
    ),
    (
        "Package limitation",
        "Compensation shall not exceed the amount per package or per kilogram laid down by the law that applies, unless the shipper has declared a higher value and paid the additional freight.",
    ),
    (
        "Shipper-packed containers",
        "If a container was not packed by the carrier, this document is a receipt for the container only. The shipper warrants that it is suitable and that the goods are packed to withstand the ordinary risks of carriage.",
    ),
    (
        "Inspection",
        "The carrier may at any time open and inspect any container or package. If the goods cannot safely be carried further, he may abandon or store them at the merchant's risk and expense.",
    ),
    (
        "Free time, demurrage and detention",
        "Demurrage is payable for each day a loaded container stays on the terminal beyond the free time; detention is payable until the empty container has been returned. Days stated on the face of this document replace those of the tariff. Where a combined period is stated, it covers both.",
    ),
    (
        "Dangerous goods",
        "Goods of a dangerous nature must be declared in writing before shipment. The merchant bears all loss that results from goods shipped without such declaration.",
    ),
    (
        "Temperature",
        "The carrier does not undertake to carry goods at a given temperature unless it is stated on the face hereof. A refrigerated container is designed to keep, not to change, the temperature of its contents.",
    ),
    (
        "Freight",
        "Freight is earned on receipt of the goods and is payable whether or not the vessel or the goods are lost. It is calculated from the particulars furnished by the shipper, which the carrier may verify.",
    ),
    (
        "Lien",
        "The carrier has a lien on the goods and on any documents for all sums due under this or any other contract, and may sell the goods by auction without notice.",
    ),
    (
        "General average",
        "General average shall be adjusted at any port chosen by the carrier. The merchant shall give such security as the carrier may require before delivery.",
    ),
    (
        "Deviation",
        "The vessel may proceed by any route, call at any port in any order, tow and assist other vessels, and carry goods on deck, without this being a deviation.",
    ),
    (
        "Delivery",
        "If the merchant fails to take delivery in time, the goods may be stored in the open or under cover at his sole risk, and the carrier's liability ends.",
    ),
    (
        "Law and jurisdiction",
        "Disputes shall be decided by the courts at the carrier's principal place of business and under its law. No servant or agent has power to waive or vary these terms.",
    ),
];

/// The foot names the bill, as carriers print it: otherwise the same sheet would stand in many documents,
/// and a split that keeps equal pages together would keep those documents together.
pub(super) fn page(size: (i32, i32), bill: &Bill) -> Page {
    let mut page = Page::new(size);
    let title = Style::new(Font::SansBold, 120);
    page.centred(size.0 / 2, 480, title, "TERMS AND CONDITIONS OF CARRIAGE");
    let heading = Style::new(Font::SansBold, 80);
    let body = Style::new(Font::Serif, 94);
    let width = (size.0 - 900) / 2;
    let mut y = 720;
    for (i, (name, text)) in CLAUSES.iter().enumerate() {
        let column = i as i32 / 8;
        if i == 8 {
            y = 720;
        }
        let x = 380 + column * (width + 140);
        page.text(x, y, heading, &format!("{}. {name}", i + 1));
        y = page.lines(x, y + 115, body, 116, body.wrap(text, width)) + 90;
    }
    page.centred(
        size.0 / 2,
        size.1 - 300,
        body,
        &format!(
            "(c) {} - terms form 07 - B/L {}",
            bill.carrier.name, bill.number
        ),
    );
    page
}
