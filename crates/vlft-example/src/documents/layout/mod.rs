//! The looks of the documents. Each layout turns a [`Bill`] into pages; none of them decides a fact.

mod house;
mod letter;
mod liner;
mod parts;
mod terms;
mod waybill;

use super::bill::Bill;
use crate::dice::Dice;
use crate::page::Page;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The classic liner bill of lading: boxes with tiny captions, typed values, riders.
    Liner,
    /// A letter with `KEY : VALUE` lines on a typewriter.
    Letter,
    /// A two-column sea waybill with a page of terms.
    Waybill,
    /// A forwarder's house bill on US Letter: one big grid in a serif face.
    House,
}

pub(crate) const LAYOUTS: [Layout; 4] = [
    Layout::Liner,
    Layout::Letter,
    Layout::Waybill,
    Layout::House,
];

impl Layout {
    /// `dice` decides only looks: stamps, wording of captions, a signature's strokes.
    pub(crate) fn pages(self, bill: &Bill, dice: &mut Dice) -> Vec<Page> {
        match self {
            Layout::Liner => liner::pages(bill, dice),
            Layout::Letter => letter::pages(bill, dice),
            Layout::Waybill => waybill::pages(bill, dice),
            Layout::House => house::pages(bill, dice),
        }
    }
}
