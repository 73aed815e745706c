//! When do two file names mean the same document? A ladder of explained steps, each an equality
//! after one more normalisation. There is no step that compares beginnings: `inv_1` and `inv_10`
//! are two documents at every step.

use serde::{Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

/// The steps, the strictest first. A name is looked up step by step, and the first step that finds
/// something decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The alias file says so; no name is compared.
    Alias,
    /// The whole name is equal, its directory too if the label names one.
    Exact,
    /// Equal without the file extension. Page images end here at best: `a.pdf` and `a_1.jpg`.
    Stem,
    /// Equal in Unicode's composed form (macOS writes names decomposed).
    Unicode,
    /// Equal in lower case.
    Case,
    /// Equal in Unicode's compatible form: full-width letters, ligatures, hard spaces are plain ones.
    Compatible,
    /// Equal when each run of white space and underscores is one underscore.
    Spaces,
    /// Equal when a copy number at the end is written ` (1)`, `(1)` or `_1_`.
    CopyNumber,
    /// Equal without what a system writes when somebody copies a file: ` - Copy`, `Kopie von `,
    /// ` - 副本 (2)`. A copy shows what its original shows; a bare number may be another document.
    CopyWord,
    /// Equal when each run of other signs is one underscore; the copy number stays apart, so that
    /// `a (1)` is never page 1 of `a`.
    Punctuation,
}

pub(crate) const STEPS: [Step; 9] = [
    Step::Exact,
    Step::Stem,
    Step::Unicode,
    Step::Case,
    Step::Compatible,
    Step::Spaces,
    Step::CopyNumber,
    Step::CopyWord,
    Step::Punctuation,
];

impl Step {
    pub fn id(self) -> &'static str {
        match self {
            Step::Alias => "alias",
            Step::Exact => "exact",
            Step::Stem => "stem",
            Step::Unicode => "unicode",
            Step::Case => "case",
            Step::Compatible => "compatible",
            Step::Spaces => "spaces",
            Step::CopyNumber => "copy-number",
            Step::CopyWord => "copy-word",
            Step::Punctuation => "punctuation",
        }
    }

    /// What a name is compared by at this step. Names with an empty key match nothing.
    pub(crate) fn key(self, name: &str) -> String {
        match self {
            Step::Alias | Step::Exact => name.to_owned(),
            Step::Stem => stem(name).to_owned(),
            Step::Unicode => stem(name).nfc().collect(),
            Step::Case => lower(name),
            Step::Compatible => compatible(name),
            Step::Spaces => spaces(&compatible(name)),
            Step::CopyNumber => with_copy_number(&spaces(&compatible(name)), |base| {
                base.trim_end_matches('_').to_owned()
            }),
            Step::CopyWord => with_copy_number(&without_copy_word(name), |base| {
                base.trim_end_matches('_').to_owned()
            }),
            Step::Punctuation => with_copy_number(&without_copy_word(name), punctuation),
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// Extensions that name a kind of file and not a part of the name (`CO.LTD` keeps its `.LTD`).
const EXTENSIONS: [&str; 9] = [
    "pdf", "jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif",
];

/// The name without the extension of a document or an image, in any case of letters.
pub(crate) fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty() && EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e)) =>
        {
            stem
        }
        _ => name,
    }
}

/// Both separators are directories: labels may come from Windows.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn lower(name: &str) -> String {
    stem(name).nfc().collect::<String>().to_lowercase()
}

fn compatible(name: &str) -> String {
    let lower: String = lower(name).nfkc().collect::<String>().to_lowercase();
    lower.nfkc().collect()
}

fn spaces(name: &str) -> String {
    collapse(name.trim(), |c| c == '_' || c.is_whitespace())
}

fn punctuation(name: &str) -> String {
    collapse(name, |c| !c.is_alphanumeric())
        .trim_matches('_')
        .to_owned()
}

/// Each run of matching characters becomes one underscore.
fn collapse(name: &str, joins: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(name.len());
    let mut in_run = false;
    for c in name.chars() {
        if !joins(c) {
            out.push(c);
        } else if !in_run {
            out.push('_');
        }
        in_run = joins(c);
    }
    out
}

fn with_copy_number(name: &str, normalise: impl Fn(&str) -> String) -> String {
    match copy_number(name) {
        Some((base, number)) => format!("{}({number})", normalise(base)),
        None => normalise(name),
    }
}

/// `a(1)`, `a_(1)`, `a_1_` -> (`a`, 1), with what separates them left on the base.
fn copy_number(name: &str) -> Option<(&str, u32)> {
    let (rest, open) = match name.trim_end_matches('_').strip_suffix(')') {
        Some(rest) => (rest, '('),
        None => (name.strip_suffix('_')?, '_'),
    };
    let base = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &rest[base.len()..];
    // More than three digits are a year or a part number.
    if digits.len() > 3 {
        return None;
    }
    let base = base.strip_suffix(open)?;
    if base.trim_matches('_').is_empty() {
        return None;
    }
    Some((base, digits.parse().ok()?))
}

/// What Windows, macOS and Linux desktops append to the name of a copy, in lower case and with
/// underscores for spaces: English, German, French, Spanish, Italian, Portuguese, Dutch, Polish and
/// Swedish, Turkish, Indonesian and Malay, Vietnamese, Russian, Chinese, Japanese, Korean. Longer ones
/// stand before those that they end in.
const COPY_WORDS: [&str; 18] = [
    "의_사본",
    "のコピー",
    "copy",
    "kopie",
    "copie",
    "copia",
    "cópia",
    "kopia",
    "kopya",
    "salinan",
    "bản_sao",
    "копия",
    "副本",
    "复制",
    "拷贝",
    "コピー",
    "복사본",
    "사본",
];

/// The same words in front.
const COPY_PREFIXES: [&str; 11] = [
    "copy_of_",
    "kopie_von_",
    "copie_de_",
    "copia_de_",
    "copia_di_",
    "cópia_de_",
    "kopie_van_",
    "kopia_",
    "salinan_",
    "копия_",
    "复制_",
];

/// The name at step `copy-number` without `_-_copy`, `_copy_2`, `copy_of_` and their like. `copy` must
/// stand apart: `photocopy` is a name. `a_-_copy_(2)` is a copy too, whatever its number.
fn without_copy_word(name: &str) -> String {
    let name = spaces(&compatible(name));
    let numbered = with_copy_number(&name, |base| base.trim_end_matches('_').to_owned());
    let mut rest = numbered.as_str();
    for prefix in COPY_PREFIXES {
        if let Some(stripped) = rest.strip_prefix(prefix).filter(|s| !s.is_empty()) {
            rest = stripped;
            break;
        }
    }
    loop {
        // The number of the copy: `(2)` or `_2`.
        let base = copy_number(rest).map_or(rest, |(base, _)| base);
        let base = base.trim_end_matches('_');
        let unnumbered = base.trim_end_matches(|c: char| c.is_ascii_digit());
        let unnumbered = match base.len() - unnumbered.len() {
            1..=3 => unnumbered.strip_suffix('_').unwrap_or(base),
            _ => base,
        };
        let stripped = [base, unnumbered].into_iter().find_map(|base| {
            COPY_WORDS.iter().find_map(|word| {
                let before = base.strip_suffix(word)?;
                let apart = before.trim_end_matches(['_', '-', '–', '—']);
                // Chinese and Japanese put no space before it.
                let joins = word.chars().all(|c| c as u32 >= 0x2e80 || c == '_');
                let is_apart = joins || apart.len() < before.len();
                (is_apart && !apart.is_empty()).then_some(apart)
            })
        });
        match stripped {
            Some(stripped) => rest = stripped,
            None => return rest.to_owned(),
        }
    }
}

/// How an image's name says which page it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pattern {
    /// `rasterize` wrote it down; nothing is guessed from the name.
    Manifest,
    /// The whole name is the document's: its only page.
    Whole,
    /// An alias lists its images.
    Listed,
    /// `name_single_page`.
    SinglePage,
    /// What stands between the document's name and the page number: `_`, `-`, `-p`, `_page_`..
    Numbered(String),
}

/// Everything that may stand between a document's name and a page number. After white space a bare
/// number is part of the name: `Rotterdam 2` is a document.
const BEFORE_PAGE_NUMBER: [&str; 13] = [
    "_page_", "-page-", " page ", "_page", "-page", " page", "_pg", "-pg", "_p", "-p", " p", "_",
    "-",
];

const SINGLE_PAGE: [&str; 3] = ["_single_page", "-single-page", " single page"];

/// All ways to read the stem of an image's file name: (document, page, pattern). The first is
/// always the whole name. Never empty.
pub(crate) fn readings(stem: &str) -> Vec<(&str, u32, Pattern)> {
    let mut found = vec![(stem, 1, Pattern::Whole)];
    for suffix in SINGLE_PAGE {
        if let Some(document) = strip_suffix_ignoring_case(stem, suffix) {
            found.push((document, 1, Pattern::SinglePage));
        }
    }
    let before = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &stem[before.len()..];
    if let (1..=4, Ok(page)) = (digits.len(), digits.parse::<u32>()) {
        // The longest marker is the page marker; a shorter one would leave `_p` on the name.
        let longest = BEFORE_PAGE_NUMBER
            .iter()
            .find_map(|m| Some((*m, strip_suffix_ignoring_case(before, m)?)));
        if let Some((marker, document)) = longest {
            found.push((document, page, Pattern::Numbered(marker.to_owned())));
        }
    }
    found
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len())?;
    let (head, tail) = (text.get(..at)?, text.get(at..)?);
    (!head.is_empty() && tail.eq_ignore_ascii_case(suffix)).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first step at which two names are equal.
    fn meets(a: &str, b: &str) -> Option<&'static str> {
        STEPS
            .into_iter()
            .find(|s| s.key(a) == s.key(b))
            .map(Step::id)
    }

    #[test]
    fn untidy_names_meet_at_the_step_that_explains_them() {
        for (a, b, step) in [
            ("a.pdf", "a.pdf", Some("exact")),
            ("a.PDF", "a.pdf", Some("stem")),
            ("a.pdf", "a", Some("stem")),
            ("Caf\u{e9}.pdf", "Cafe\u{301}.pdf", Some("unicode")),
            ("ABC_C.PDF", "abc_c.pdf", Some("case")),
            ("a b.pdf", "a_b", Some("spaces")),
            (
                "ABCDR2017000001_C _2_.PDF",
                "ABCDR2017000001_C__2_",
                Some("spaces"),
            ),
            (
                "ABCDR2017000001_C _2_.PDF",
                "abcdr2017000001_c (2).pdf",
                Some("copy-number"),
            ),
            ("inv (1).pdf", "inv_1_.pdf", Some("copy-number")),
            ("inv(1).pdf", "inv (1).pdf", Some("copy-number")),
            (
                "XBL+SGNS20000001-1.pdf",
                "XBL_SGNS20000001_1",
                Some("punctuation"),
            ),
            (
                "FWD_(S)SOME RICE CO.LTD.(C)A BUYER BERHAD_BKKB00001 (1).pdf",
                "FWD_S_SOME_RICE_CO_LTD_C_A_BUYER_BERHAD_BKKB00001_1_",
                Some("punctuation"),
            ),
            ("SOME CO.LTD", "SOME CO", None),
            ("inv_1.pdf", "inv_10.pdf", None),
            ("inv_1.pdf", "inv.pdf", None),
            ("inv (1).pdf", "inv_1.pdf", None),
            ("inv (1).pdf", "inv.pdf", None),
            ("inv (1).pdf", "inv (2).pdf", None),
            ("report_2017_.pdf", "report (2017).pdf", Some("punctuation")),
            ("ＩＮＶ\u{3000}７.pdf", "inv 7.pdf", Some("compatible")),
            ("INV\u{a0}7.pdf", "INV 7.pdf", Some("compatible")),
            ("inv 7 - Copy.pdf", "inv 7.pdf", Some("copy-word")),
            ("inv 7 - Copy (2).pdf", "inv_7", Some("copy-word")),
            ("Copy of inv 7.pdf", "inv 7.pdf", Some("copy-word")),
            (
                "inv 7 - Kopie.pdf",
                "Kopie von inv 7.pdf",
                Some("copy-word"),
            ),
            ("inv 7 copy 2.pdf", "inv 7.pdf", Some("copy-word")),
            ("inv 7 - 副本.pdf", "inv 7.pdf", Some("copy-word")),
            ("inv 7のコピー.pdf", "inv 7.pdf", Some("copy-word")),
            (
                "inv 7 - Copia (3).pdf",
                "inv 7 - Copie.pdf",
                Some("copy-word"),
            ),
            ("inv (1) - Copy.pdf", "inv_1_.pdf", Some("copy-word")),
            ("inv (1) - Copy.pdf", "inv.pdf", None),
            ("inv 7 - Copy.pdf", "inv 70.pdf", None),
            ("photocopy.pdf", "photo.pdf", None),
            ("copy.pdf", "kopie.pdf", None),
            ("inv copy 2017.pdf", "inv.pdf", None),
            ("a_1.pdf", "a_01.pdf", None),
        ] {
            assert_eq!(meets(a, b), step, "{a} and {b}");
        }
    }

    #[test]
    fn page_suffixes_are_a_closed_list() {
        let numbered = |m: &str| Pattern::Numbered(m.into());
        for (name, expected) in [
            ("a_1", Some(("a", 1, numbered("_")))),
            ("a-12", Some(("a", 12, numbered("-")))),
            ("a-p001", Some(("a", 1, numbered("-p")))),
            ("a_Page_3", Some(("a", 3, numbered("_page_")))),
            ("a page 3", Some(("a", 3, numbered(" page ")))),
            ("a_1__2", Some(("a_1_", 2, numbered("_")))),
            ("a_single_page", Some(("a", 1, Pattern::SinglePage))),
            ("a (1)", None),
            ("Rotterdam 2", None),
            ("a1", None),
            ("_1", None),
            ("a_20170001", None),
        ] {
            let found = readings(name);
            assert_eq!(found[0], (name, 1, Pattern::Whole));
            assert_eq!(found.get(1).cloned(), expected, "{name}");
        }
    }

    proptest! {
        /// A name and the same name with something more are never one document, unless what is more
        /// is only signs or white space.
        #[test]
        fn a_longer_name_is_another_document(name in "[a-zA-Z0-9 ._()+-]{1,20}", more in "[a-zA-Z0-9 _()-]{0,4}[a-zA-Z0-9]") {
            let longer = format!("{name}{more}");
            // `a.pdf` and `a.pdf1`: an extension that is none.
            prop_assume!(stem(&name) == name && stem(&longer) == longer);
            // `a` and `a copy` are one.
            let lower = longer.to_lowercase();
            prop_assume!(!lower.contains("cop") && !lower.contains("kop"));
            prop_assert_eq!(meets(&name, &longer), None);
        }

        /// Each step only adds to what the one before joins.
        #[test]
        fn a_later_step_joins_no_less(a in "[aA1 _()+.-]{1,8}", b in "[aA1 _()+.-]{1,8}") {
            for pair in STEPS[1..].windows(2) {
                if pair[0].key(&a) == pair[0].key(&b) {
                    prop_assert_eq!(pair[1].key(&a), pair[1].key(&b), "{} {}", pair[0].id(), pair[1].id());
                }
            }
        }

        #[test]
        fn any_name_is_read_without_panic(name in "\\PC{0,30}") {
            for step in STEPS { let _ = step.key(&name); }
            prop_assert!(!readings(&name).is_empty());
        }
    }
}
