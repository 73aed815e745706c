//! What kind of document the i-th one is. Kinds take turns instead of being drawn, so that even a
//! small set has every layout, every form, a long table and a scan.

use super::layout::{LAYOUTS, Layout};
use crate::dice::Dice;
use crate::page::scan::Scanner;

pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) form: Form,
    pub(crate) containers: usize,
}

/// How the document reached us.
pub(crate) enum Form {
    /// A PDF with a text layer.
    BornDigital,
    /// A PDF of page images.
    Scanned(Scanner),
    /// No PDF any more: page images in a zip.
    PageImages(Scanner),
}

/// Forms repeat after this many documents: 4 scans, 2 page-image documents, 6 born digital.
pub(crate) const PERIOD: usize = 12;

/// The documents with long tables: 40 containers born digital, 24 and 31 scanned.
const LONG: [(usize, usize); 3] = [(8, 40), (25, 24), (36, 31)];

pub(crate) fn plan(index: usize, dice: &mut Dice) -> Plan {
    let form = match index % PERIOD {
        1 | 4 | 7 | 10 => Form::Scanned(Scanner {
            dpi: i64::from(*dice.pick(&[96, 100, 110])),
            quality: dice.between(26, 44) as u8,
            colour: dice.percent(30),
            worn: true,
        }),
        5 | 11 => Form::PageImages(Scanner {
            dpi: i64::from(*dice.pick(&[90, 100])),
            quality: dice.between(34, 56) as u8,
            colour: dice.percent(50),
            // Some were scanned, some exported from a PDF that is lost.
            worn: dice.percent(50),
        }),
        _ => Form::BornDigital,
    };
    let containers = match LONG.iter().find(|(at, _)| *at == index) {
        Some((_, count)) => *count,
        None => match dice.below(100) {
            0..=47 => 1,
            48..=69 => 2,
            70..=83 => 3,
            84..=94 => dice.between(4, 6) as usize,
            _ => dice.between(7, 12) as usize,
        },
    };
    Plan {
        layout: LAYOUTS[(index + index / PERIOD) % LAYOUTS.len()],
        form,
        containers,
    }
}
