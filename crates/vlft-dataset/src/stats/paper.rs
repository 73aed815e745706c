//! The resolution of a page image that no manifest speaks of, from the shape of the page. It is an
//! assumption, and reports call it by its name.

/// Sheets by their shorter side in inches and their sides' ratio.
const SHEETS: [(Sheet, f64, f64); 3] = [
    (Sheet::A4, 210.0 / 25.4, 297.0 / 210.0),
    (Sheet::Letter, 8.5, 11.0 / 8.5),
    (Sheet::Legal, 8.5, 14.0 / 8.5),
];

/// How far a page's ratio may be from a sheet's: a scanner cuts a little off. A4 and Letter are 9 %
/// apart.
const TOLERANCE: f64 = 0.02;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sheet {
    A4,
    Letter,
    Legal,
}

impl Sheet {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Sheet::A4 => "A4",
            Sheet::Letter => "Letter",
            Sheet::Legal => "Legal",
        }
    }
}

/// The sheet that has this shape, upright or not, and the dots per inch if it is one.
pub(crate) fn assumed((width, height): (u32, u32)) -> Option<(Sheet, f64)> {
    let (short, long) = (width.min(height), width.max(height));
    let ratio = f64::from(long) / f64::from(short);
    SHEETS
        .iter()
        .find(|(_, _, of_sheet)| (ratio / of_sheet - 1.0).abs() <= TOLERANCE)
        .map(|(sheet, inches, _)| (*sheet, f64::from(short) / inches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_are_known_by_their_shape() {
        for (size, expected) in [
            ((1654, 2339), Some((Sheet::A4, 200))),
            ((2339, 1654), Some((Sheet::A4, 200))),
            ((1240, 1740), Some((Sheet::A4, 150))),
            ((1700, 2200), Some((Sheet::Letter, 200))),
            ((850, 1400), Some((Sheet::Legal, 100))),
            ((1000, 1000), None),
            ((1000, 1350), None),
        ] {
            let found = assumed(size).map(|(sheet, dpi)| (sheet, dpi.round() as u32));
            assert_eq!(found, expected, "{size:?}");
        }
    }
}
