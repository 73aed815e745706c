//! Fifteen hundred names of the shapes that a real folder had, where an older script found no image
//! for nine hundred of them. Every label that has pages gets them, and none gets another's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::images::{Images, add_loose, document};
use super::matching::{Match, assign};

/// One document: how the labels name it, the names its images have, and which of them are its.
struct Case {
    label: String,
    /// `None`: it has no pages.
    images: Option<Vec<String>>,
    /// Rasterized under this name instead.
    rasterized: Option<String>,
}

struct Names {
    random: u64,
    cases: Vec<Case>,
}

impl Names {
    /// SplitMix64: the same names on every system and for ever.
    fn below(&mut self, n: u32) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed >> 33) % u64::from(n)) as u32
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u32) as usize]
    }

    /// A name as the documents had them, without its extension.
    fn name(&mut self, n: usize) -> String {
        let copy = self.below(3) + 1;
        match n % 10 {
            0 => format!("ABCDR2017{n:06}_C _{copy}_"),
            1 => format!("ABCDR2017{n:06}_C ({copy})"),
            2 => format!("XBL+SGNS2{n:07}-{copy}"),
            3 => format!("FWD_(S)SOME RICE CO.LTD.(C)A BUYER BERHAD_BKKB{n:05} ({copy})"),
            4 => format!("FWD_(S)RIZ & FILS S.A.(C)MÜLLER GMBH_HAM{n:05}"),
            5 => format!("Scan  {n:05} B-L No. {}", n * 7),
            6 => format!("inv_{n}"),
            7 => format!("BL {n:04}-{}", n + 1),
            8 => format!("OOLU{n:07}_DRAFT"),
            _ => format!("提单 {n:05}"),
        }
    }

    /// What zips, mail programs, desktops and other systems make of a name, and what must still be it.
    fn mangled(&mut self, name: &str) -> String {
        use unicode_normalization::UnicodeNormalization;
        match self.below(8) {
            0 => name.to_owned(),
            1 => name.replace(' ', "_"),
            2 => name.to_lowercase(),
            3 => name.nfd().collect(),
            4 => name.replace(' ', "\u{a0}"),
            5 => {
                let signs = ['+', '(', ')', '&', '.', ' '];
                name.replace(signs, "_")
            }
            // `a_2_ - Copy` is not told from `a_2 - Copy`, so it is rejected with a suggestion.
            6 if name.ends_with('_') => name.to_owned(),
            6 => {
                let copy = self.one_of(&[" - Copy", " - Kopie", " - コピー"]);
                format!("{name}{copy}")
            }
            _ => name.replace("  ", " "),
        }
    }

    fn add(&mut self, n: usize) {
        let name = self.name(n);
        let extension = self.one_of(&["pdf", "PDF", "Pdf"]);
        let label = format!("{name}.{extension}");
        let files = self.mangled(&name);
        let pages = self.below(3) + 1;
        let case = match self.below(10) {
            0 => Case {
                label,
                images: None,
                rasterized: None,
            },
            1 | 2 => Case {
                label,
                images: None,
                rasterized: Some(format!("{files}.pdf")),
            },
            3 => Case {
                label,
                images: Some(vec![format!("{files}_single_page.jpg")]),
                rasterized: None,
            },
            _ => {
                let marker = self.one_of(&["_", "-p00", "_page_"]);
                let images = (1..=pages).map(|page| format!("{files}{marker}{page}.jpg"));
                Case {
                    label,
                    images: Some(images.collect()),
                    rasterized: None,
                }
            }
        };
        self.cases.push(case);
    }
}

#[test]
fn all_that_have_pages_are_matched_and_none_wrongly() {
    const SEED: u64 = 2017;
    let mut names = Names {
        random: SEED,
        cases: Vec::new(),
    };
    (1..=1500).for_each(|n| names.add(n));
    let mut images = Images::default();
    let mut loose = Vec::new();
    for case in &names.cases {
        if let Some(name) = &case.rasterized {
            document(&mut images, name, 2);
        }
        let files = case.images.iter().flatten();
        loose.extend(files.map(|file| Path::new("d").join(file)));
    }
    add_loose(&mut images, 0, Path::new("d"), loose);
    let labels: Vec<String> = names.cases.iter().map(|c| c.label.clone()).collect();
    let unique: BTreeSet<&String> = labels.iter().collect();
    assert_eq!(unique.len(), 1500);

    let found = assign(&labels, &images, &BTreeMap::new());
    let mut by_step: BTreeMap<&str, u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, found) in names.cases.iter().zip(found) {
        let got: Option<BTreeSet<String>> = match &found {
            Match::Found { reading, step } => {
                *by_step.entry(step.id()).or_default() += 1;
                let reading = &images.readings[*reading];
                let files = reading.files.iter().map(|f| &images.files[*f]);
                let files = files.map(|f| f.file_name().unwrap().to_str().unwrap().to_owned());
                Some(files.collect())
            }
            _ => None,
        };
        let expected: Option<BTreeSet<String>> = match (&case.images, &case.rasterized) {
            (Some(files), _) => Some(files.iter().cloned().collect()),
            (None, Some(name)) => Some((1..=2).map(|page| format!("{name}-{page}")).collect()),
            (None, None) => None,
        };
        if got != expected {
            wrong.push(format!(
                "{}: {expected:?}, got {got:?} ({found:?})",
                case.label
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "seed {SEED}: {} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // The names are as untidy as they should be: every step is needed.
    for step in [
        "exact",
        "stem",
        "unicode",
        "case",
        "compatible",
        "spaces",
        "copy-word",
        "punctuation",
    ] {
        assert!(by_step.contains_key(step), "{step}: {by_step:?}");
    }
}
