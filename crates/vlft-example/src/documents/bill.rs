//! One bill of lading as facts: what is printed on its pages, and so what its labels say.

use super::container_number;
use super::vocabulary::{
    CARRIERS, CONSIGNEES, Carrier, DISCHARGE_PORTS, FREE_DAYS, GOODS, Goods, LOADING_PORTS, MONTHS,
    OWNERS, Party, SHIPPERS, VESSELS,
};
use crate::dice::Dice;

#[derive(Clone)]
pub(crate) struct Bill {
    pub(crate) carrier: &'static Carrier,
    pub(crate) number: String,
    pub(crate) booking: String,
    pub(crate) shipper: &'static Party,
    pub(crate) consignee: &'static Party,
    pub(crate) vessel: &'static str,
    pub(crate) voyage: String,
    pub(crate) loading: &'static str,
    pub(crate) discharge: &'static str,
    pub(crate) goods: &'static Goods,
    pub(crate) containers: Vec<Container>,
    pub(crate) free_time: FreeTime,
    pub(crate) prepaid: bool,
    pub(crate) date: Date,
}

#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) number: String,
    /// Feet: 20, 40, 45.
    pub(crate) size: i32,
    /// GP, HC, RF.
    pub(crate) kind: &'static str,
    pub(crate) seal: String,
    pub(crate) packages: i32,
    pub(crate) kilograms: i32,
    /// Thousandths of a cubic metre.
    pub(crate) litres: i32,
}

/// Free days at destination, as the document grants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FreeTime {
    NotStated,
    Combined(i32),
    Separate { detention: i32, demurrage: i32 },
}

#[derive(Clone, Copy)]
pub(crate) struct Date {
    pub(crate) year: i32,
    pub(crate) month: usize,
    pub(crate) day: i32,
}

impl Date {
    /// 07-MAR-2019
    pub(crate) fn long(self) -> String {
        format!("{:02}-{}-{}", self.day, MONTHS[self.month - 1], self.year)
    }
}

impl Bill {
    pub(crate) fn draw(containers: usize, dice: &mut Dice) -> Self {
        let carrier = dice.pick(&CARRIERS);
        let date = Date {
            year: dice.between(2017, 2021),
            month: dice.between(1, 12) as usize,
            day: dice.between(1, 28),
        };
        let number = if carrier.code.len() > 4 {
            format!("{}{}{:06}", carrier.code, date.year, dice.between(1, 400))
        } else {
            format!(
                "{}{}{:04}",
                carrier.code,
                dice.digits(4),
                dice.between(1, 400)
            )
        };
        let goods = dice.pick(&GOODS);
        let owner = *dice.pick(&OWNERS);
        let (size, kind) = if goods.reefer {
            *dice.pick(&[(20, "RF"), (40, "RF")])
        } else {
            *dice.pick(&[
                (20, "GP"),
                (20, "GP"),
                (40, "GP"),
                (40, "HC"),
                (40, "HC"),
                (45, "HC"),
            ])
        };
        let mixed = !goods.reefer && dice.percent(15);
        let containers = (0..containers)
            .map(|_| {
                let owner = if dice.percent(75) {
                    owner
                } else {
                    *dice.pick(&OWNERS)
                };
                let (size, kind) = if mixed && dice.percent(40) {
                    (20, "GP")
                } else {
                    (size, kind)
                };
                Container::draw(owner, size, kind, goods, dice)
            })
            .collect();
        let (shipper, consignee) = (dice.pick(&SHIPPERS), dice.pick(&CONSIGNEES));
        Self {
            carrier,
            number,
            booking: format!("{}{}", &carrier.code[..2], dice.digits(7)),
            shipper,
            consignee,
            vessel: *dice.pick(&VESSELS),
            voyage: format!("{}{}", dice.digits(3), dice.pick(&["N", "S", "E", "W"])),
            // Mostly the port next door, but not always: a model must look and not guess.
            loading: if dice.percent(60) {
                shipper.port
            } else {
                *dice.pick(&LOADING_PORTS)
            },
            discharge: if dice.percent(60) {
                consignee.port
            } else {
                *dice.pick(&DISCHARGE_PORTS)
            },
            goods,
            containers,
            free_time: FreeTime::draw(dice),
            prepaid: dice.percent(60),
            date,
        }
    }

    pub(crate) fn packages(&self) -> i32 {
        self.containers.iter().map(|c| c.packages).sum()
    }

    pub(crate) fn kilograms(&self) -> i32 {
        self.containers.iter().map(|c| c.kilograms).sum()
    }

    pub(crate) fn litres(&self) -> i32 {
        self.containers.iter().map(|c| c.litres).sum()
    }

    pub(crate) fn freight(&self) -> &'static str {
        if self.prepaid {
            "FREIGHT PREPAID"
        } else {
            "FREIGHT COLLECT"
        }
    }

    /// `2 X 40'HC, 1 X 20'GP`, in order of first appearance.
    pub(crate) fn equipment(&self) -> String {
        let mut kinds: Vec<(i32, &str, usize)> = Vec::new();
        for container in &self.containers {
            match kinds
                .iter_mut()
                .find(|(size, kind, _)| *size == container.size && *kind == container.kind)
            {
                Some((_, _, count)) => *count += 1,
                None => kinds.push((container.size, container.kind, 1)),
            }
        }
        let parts: Vec<String> = kinds
            .iter()
            .map(|(size, kind, count)| format!("{count} X {size}'{kind}"))
            .collect();
        parts.join(", ")
    }
}

impl Container {
    fn draw(owner: &str, size: i32, kind: &'static str, goods: &Goods, dice: &mut Dice) -> Self {
        let full = if size == 20 { 100 } else { 108 };
        let packages = (goods.packages_per_box * full / 100 * dice.between(85, 100) / 100).max(1);
        let kilograms = packages * goods.kilograms_per_package;
        Self {
            number: container_number::draw(owner, dice),
            size,
            kind,
            seal: format!("{}{}", dice.pick(&["TH", "VN", "AB", "ML"]), dice.digits(6)),
            packages,
            kilograms: kilograms + kilograms / 80,
            litres: if size == 20 { 21_000 } else { 52_000 } + dice.between(0, 9_999),
        }
    }
}

impl FreeTime {
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0..=3 => Self::Combined(*dice.pick(&FREE_DAYS)),
            4..=7 => Self::Separate {
                detention: *dice.pick(&FREE_DAYS),
                demurrage: *dice.pick(&FREE_DAYS),
            },
            _ => Self::NotStated,
        }
    }

    pub(crate) fn detention(self) -> Option<i32> {
        match self {
            Self::Separate { detention, .. } => Some(detention),
            _ => None,
        }
    }

    pub(crate) fn demurrage(self) -> Option<i32> {
        match self {
            Self::Separate { demurrage, .. } => Some(demurrage),
            _ => None,
        }
    }

    pub(crate) fn combined(self) -> Option<i32> {
        match self {
            Self::Combined(days) => Some(days),
            _ => None,
        }
    }

    /// As carriers type it into the body of the document.
    pub(crate) fn sentences(self) -> Vec<String> {
        match self {
            Self::NotStated => Vec::new(),
            Self::Combined(days) => vec![format!(
                "{days:02} DAYS COMBINED FREE TIME (DEMURRAGE + DETENTION) AT DESTINATION"
            )],
            Self::Separate {
                detention,
                demurrage,
            } => vec![
                format!("{demurrage:02} DAYS FREE DEMURRAGE AT PORT OF DISCHARGE"),
                format!("{detention:02} DAYS FREE DETENTION AT DESTINATION"),
            ],
        }
    }
}

/// `24500` kilograms -> `24,500.00`.
pub(crate) fn kilograms(value: i32) -> String {
    format!("{}.00", thousands(value))
}

/// `26420` litres -> `26.420`.
pub(crate) fn cubic_metres(litres: i32) -> String {
    format!("{}.{:03}", thousands(litres / 1000), litres % 1000)
}

pub(crate) fn thousands(value: i32) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
