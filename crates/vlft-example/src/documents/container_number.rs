//! Container numbers with ISO 6346 check digits.

use crate::dice::Dice;

/// A number of the owner `prefix` (four letters, the last one U) whose check digit is valid.
pub(crate) fn draw(prefix: &str, dice: &mut Dice) -> String {
    loop {
        let body = format!("{prefix}{:06}", dice.below(1_000_000));
        // A remainder of 10 would share the digit 0 with a remainder of 0: owners avoid it.
        if let Some(digit) = check_digit(&body).filter(|digit| *digit < 10) {
            return format!("{body}{digit}");
        }
    }
}

/// The remainder, 0 to 10, for four letters and six digits. `None` if they are not that.
///
/// ISO 6346: letters count 10 to 38 without the multiples of 11, position i weighs 2^i, modulo 11.
pub fn check_digit(body: &str) -> Option<u32> {
    if body.len() != 10 {
        return None;
    }
    let mut sum = 0;
    for (i, byte) in body.bytes().enumerate() {
        let value = match byte {
            b'A'..=b'Z' if i < 4 => {
                let letter = u32::from(byte - b'A');
                // A = 10, B = 12, .. K = 21, L = 23, .. U = 32, V = 34.
                10 + letter + letter.div_ceil(10)
            }
            b'0'..=b'9' if i >= 4 => u32::from(byte - b'0'),
            _ => return None,
        };
        sum += value << i;
    }
    Some(sum % 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_numbers_have_their_digits() {
        // Examples of public texts about the standard.
        for (body, digit) in [("CSQU305438", 3), ("TOLU473478", 7)] {
            assert_eq!(check_digit(body), Some(digit), "{body}");
        }
        assert_eq!(check_digit("CSQ1305438"), None);
        assert_eq!(check_digit("CSQU30543"), None);
    }

    #[test]
    fn letters_skip_the_multiples_of_eleven() {
        let value = |letter: char| {
            // The first position weighs one; the rest is worth 10 each for A, times 14, and zeros.
            let sum = check_digit(&format!("{letter}AAA000000")).unwrap();
            (sum + 11 - (10 * 14) % 11) % 11
        };
        for (letter, expected) in [
            ('A', 10),
            ('B', 12),
            ('K', 21),
            ('L', 23),
            ('U', 32),
            ('Z', 38),
        ] {
            assert_eq!(value(letter), expected % 11, "{letter}");
        }
    }

    #[test]
    fn drawn_numbers_are_valid() {
        let mut dice = Dice::new(1, 1);
        for _ in 0..500 {
            let number = draw("ABCU", &mut dice);
            let digit = u32::from(number.as_bytes()[10] - b'0');
            assert_eq!(check_digit(&number[..10]), Some(digit), "{number}");
        }
    }
}
