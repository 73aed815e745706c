//! Names in zips are bytes in whatever encoding the program of another country had. UTF-8 is taken
//! for what it is; anything else is guessed for the whole archive at once, and the guess is told.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

/// An entry's name as text.
pub(super) struct Name {
    pub(super) name: String,
    /// How it was read, if not as UTF-8.
    pub(super) read_as: Option<String>,
}

/// How names that are not UTF-8 are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    /// What DOS and the Windows Explorer wrote in the West; the standard names it.
    Cp437,
    Other(&'static encoding_rs::Encoding),
}

impl Encoding {
    /// `shift_jis`, `gbk`, `windows-1252`, .. as browsers name them, or `cp437`.
    pub fn named(label: &str) -> Option<Self> {
        let is_dos = ["cp437", "ibm437", "437"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(label.trim()));
        match is_dos {
            true => Some(Encoding::Cp437),
            false => encoding_rs::Encoding::for_label(label.as_bytes()).map(Encoding::Other),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Cp437 => "code page 437",
            Encoding::Other(encoding) => encoding.name(),
        }
    }

    /// `None` where the bytes mean nothing in it.
    fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Encoding::Cp437 => Some(bytes.iter().map(|byte| cp437(*byte)).collect()),
            Encoding::Other(encoding) => encoding
                .decode_without_bom_handling_and_without_replacement(bytes)
                .map(|text| text.into_owned()),
        }
    }
}

/// The encoding of one archive.
pub(super) struct Encodings {
    encoding: Encoding,
    is_guessed: bool,
}

impl Default for Encodings {
    fn default() -> Self {
        Self {
            encoding: Encoding::Cp437,
            is_guessed: true,
        }
    }
}

impl Encodings {
    /// `wanted`: what a person says it is.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a [u8]>, wanted: Option<Encoding>) -> Self {
        match wanted {
            Some(encoding) => Self {
                encoding,
                is_guessed: false,
            },
            None => Self {
                encoding: guess(names),
                is_guessed: true,
            },
        }
    }

    pub(super) fn read(&self, raw: &[u8]) -> Name {
        if let Ok(name) = std::str::from_utf8(raw) {
            return Name {
                name: name.to_owned(),
                read_as: None,
            };
        }
        let how = match self.is_guessed {
            true => ", which is a guess (`--encoding` says otherwise)",
            false => "",
        };
        match self.encoding.decode(raw) {
            Some(name) => Name {
                name,
                read_as: Some(format!(
                    "is not UTF-8; read as {}{how}",
                    self.encoding.name()
                )),
            },
            None => Name {
                name: raw.iter().map(|byte| cp437(*byte)).collect(),
                read_as: Some(format!(
                    "is neither UTF-8 nor {}; read as code page 437",
                    self.encoding.name()
                )),
            },
        }
    }
}

/// Names of several bytes a letter show their encoding by themselves, if they are long enough. Of the
/// two that the West wrote, the one in which all foreign signs are letters: `\x82` is `é` or a low
/// quotation mark. Where neither is, a short name in Japanese or Chinese is more likely.
fn guess<'a>(names: impl Iterator<Item = &'a [u8]>) -> Encoding {
    let foreign: Vec<&[u8]> = names.filter(|n| std::str::from_utf8(n).is_err()).collect();
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    for name in &foreign {
        detector.feed(name, false);
        detector.feed(b"\n", false);
    }
    detector.feed(b"", true);
    let found = detector.guess(None, Utf8Detection::Deny);
    let all = |encoding: Encoding, is: fn(char) -> bool| {
        foreign.iter().all(|name| {
            let text = encoding.decode(name);
            text.is_some_and(|text| text.chars().all(|c| c.is_ascii() || is(c)))
        })
    };
    let is_latin = |c: char| c < '\u{370}' && c.is_alphabetic() && !['ª', 'º'].contains(&c);
    let is_wide = |c: char| c >= '\u{2e80}' && c.is_alphabetic();
    let bytes = || foreign.iter().copied().flatten().copied();
    let high = || bytes().filter(|byte| !byte.is_ascii());
    // An umlaut in a Western name also begins a letter of two bytes.
    if high().count() * 4 < bytes().count() {
        let western = [Encoding::Cp437, Encoding::Other(encoding_rs::WINDOWS_1252)];
        if let Some(encoding) = western.into_iter().find(|e| all(*e, is_latin)) {
            return encoding;
        }
    }
    let wide = match high().all(|byte| byte > 0xa0) {
        true => [encoding_rs::GBK, encoding_rs::SHIFT_JIS],
        false => [encoding_rs::SHIFT_JIS, encoding_rs::GBK],
    };
    let is_single = found.is_single_byte();
    let found = Encoding::Other(found);
    match is_single {
        false if all(found, |_| true) => found,
        _ if all(Encoding::Cp437, is_latin) => Encoding::Cp437,
        _ if all(found, char::is_alphabetic) => found,
        _ => {
            let mut wide = wide.into_iter().map(Encoding::Other);
            wide.find(|encoding| all(*encoding, is_wide))
                .unwrap_or(Encoding::Cp437)
        }
    }
}

/// The upper half of code page 437.
const CP437: &str = "\
ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

fn cp437(byte: u8) -> char {
    match byte {
        0..0x80 => char::from(byte),
        _ => CP437
            .chars()
            .nth(usize::from(byte - 0x80))
            .unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_page_437_is_whole() {
        assert_eq!(CP437.chars().count(), 128);
        let decoded: String = [0x81, 0x94, 0xe1, 0xff].map(cp437).iter().collect();
        assert_eq!(decoded, "üöß\u{a0}");
    }

    #[test]
    fn names_are_guessed_for_the_whole_archive() {
        for (raw, name, read_as) in [
            ("東京.png".as_bytes(), "東京.png", None),
            (
                b"\x93\xfa\x96\x7b\x8c\xea.png",
                "日本語.png",
                Some("Shift_JIS"),
            ),
            (
                b"Rechnung M\x81ller.pdf",
                "Rechnung Müller.pdf",
                Some("code page 437"),
            ),
            (
                b"Rechnung M\xfcller.pdf",
                "Rechnung Müller.pdf",
                Some("windows-1252"),
            ),
        ] {
            let found = Encodings::of([raw].into_iter(), None).read(raw);
            assert_eq!(found.name, name);
            match (read_as, found.read_as) {
                (Some(expected), Some(told)) => assert!(told.contains(expected), "{told}"),
                (None, None) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        let wanted = Encoding::named("shift_jis");
        let told = Encodings::of([].into_iter(), wanted)
            .read(b"\xff\xff")
            .read_as;
        assert!(told.is_some_and(|t| t.contains("neither UTF-8 nor Shift_JIS")));
        assert_eq!(Encoding::named("CP437"), Some(Encoding::Cp437));
        assert_eq!(Encoding::named("klingon"), None);
    }
}
