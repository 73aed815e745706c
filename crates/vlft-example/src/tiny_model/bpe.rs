//! Learning the merges of a byte-level BPE, by the plain algorithm: count neighbouring pairs inside
//! words, merge the most frequent, repeat. A thousand distinct words make that a matter of milliseconds.

use std::collections::BTreeMap;

/// A pair of symbols that become one.
pub(super) type Merge = (String, String);

/// At most `count` merges, the most frequent first; equally frequent pairs in order of their text,
/// so that the result depends on nothing else. Pairs seen once are not worth a token.
pub(super) fn train(texts: &[String], count: usize) -> Vec<Merge> {
    let mut words = count_words(texts);
    let mut merges = Vec::new();
    while merges.len() < count {
        let Some(best) = most_frequent_pair(&words) else {
            break;
        };
        for (symbols, _) in &mut words {
            apply(symbols, &best);
        }
        merges.push(best);
    }
    merges
}

/// Each distinct word as its symbols, with how often it stands in the texts.
fn count_words(texts: &[String]) -> Vec<(Vec<String>, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in texts.iter().flat_map(|text| split(text)) {
        *counts.entry(word).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(word, count)| {
            let symbols = word.bytes().map(|b| byte_symbol(b).to_string()).collect();
            (symbols, count)
        })
        .collect()
}

fn most_frequent_pair(words: &[(Vec<String>, usize)]) -> Option<Merge> {
    let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (symbols, count) in words {
        for pair in symbols.windows(2) {
            *pairs.entry((&pair[0], &pair[1])).or_default() += count;
        }
    }
    let mut best: Option<(usize, (&str, &str))> = None;
    for (pair, count) in pairs {
        if count > best.map_or(1, |(most, _)| most) {
            best = Some((count, pair));
        }
    }
    best.map(|(_, (left, right))| (left.to_owned(), right.to_owned()))
}

fn apply(symbols: &mut Vec<String>, merge: &Merge) {
    let mut i = 0;
    while i + 1 < symbols.len() {
        if symbols[i] == merge.0 && symbols[i + 1] == merge.1 {
            let right = symbols.remove(i + 1);
            symbols[i].push_str(&right);
        }
        i += 1;
    }
}

/// Qwen2's split for ASCII text, which is all our texts are. In use the tokenizer splits with the
/// regular expression of `tokenizer.json`; here it decides only which pairs are counted.
fn split(text: &str) -> Vec<&str> {
    debug_assert!(text.is_ascii());
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let end = start + word_length(&bytes[start..]);
        words.push(&text[start..end]);
        start = end;
    }
    words
}

/// `[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+`
fn word_length(rest: &[u8]) -> usize {
    let run =
        |from: usize, test: fn(&u8) -> bool| rest[from..].iter().take_while(|b| test(b)).count();
    let letter = |b: &u8| b.is_ascii_alphabetic();
    let sign = |b: &u8| !b.is_ascii_alphanumeric() && !b.is_ascii_whitespace();
    let first = rest[0];

    let before_letters =
        usize::from(!first.is_ascii_alphanumeric() && first != b'\r' && first != b'\n');
    let letters = run(before_letters, letter);
    if letters > 0 {
        return before_letters + letters;
    }
    if first.is_ascii_digit() {
        return 1;
    }
    let space = usize::from(first == b' ');
    let signs = run(space, sign);
    if signs > 0 {
        let newlines = run(space + signs, |b| matches!(b, b'\r' | b'\n'));
        return space + signs + newlines;
    }
    run(0, |b| b.is_ascii_whitespace()).max(1)
}

/// GPT-2's printable stand-in for a byte: itself where it is visible Latin-1, else the next
/// character from U+0100 on.
pub(super) fn byte_symbol(byte: u8) -> char {
    let visible = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if visible(byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|b| !visible(*b)).count() as u32;
    char::from_u32(0x100 + hidden_before).expect("256 to 323 are characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_qwen_splits_them() {
        assert_eq!(
            split(r#"{"bl_number":"ABC2017"} free days: 14"#),
            [
                r#"{""#, "bl", "_number", r#"":""#, "ABC", "2", "0", "1", "7", r#""}"#, " free",
                " days", ":", " ", "1", "4"
            ]
        );
        assert_eq!(split("a  b\n\nc"), ["a", "  ", "b", "\n\n", "c"]);
    }

    #[test]
    fn bytes_have_gpt2_s_symbols() {
        assert_eq!(byte_symbol(b'A'), 'A');
        assert_eq!(byte_symbol(b' '), '\u{120}');
        assert_eq!(byte_symbol(b'\n'), '\u{10a}');
        assert_eq!(byte_symbol(0xad), '\u{143}');
        let mut all: Vec<char> = (0..=255).map(byte_symbol).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn the_most_frequent_pair_is_merged_first() {
        let texts = ["abab abab abc".to_owned()];
        let merges = train(&texts, 3);
        assert_eq!(merges[0], ("a".into(), "b".into()));
        assert_eq!(merges[1], ("ab".into(), "ab".into()));
        assert_eq!(merges.len(), 2, "pairs seen once are left alone");
        assert_eq!(train(&texts, 3), merges);
    }
}
