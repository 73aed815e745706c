//! `--pages 1-3,7`: which pages of each document.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ranges of 1-based pages, sorted and apart. Written and read as `1-3,7,10-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Selection(Vec<(u32, u32)>);

impl Selection {
    pub fn has(&self, page: u32) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&page))
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.trim().split_once('-') {
                None => (part.trim(), part.trim()),
                Some((first, "")) => (first, "4294967295"),
                Some((first, last)) => (first, last.trim()),
            };
            match (first.trim().parse(), last.parse()) {
                (Ok(0), _) => return Err("pages are counted from 1".to_owned()),
                (Ok(first), Ok(last)) if first <= last => ranges.push((first, last)),
                (Ok(first), Ok(last)) => {
                    return Err(format!("`{first}-{last}` runs backwards"));
                }
                _ => return Err("pages are written `1-3,7` or `2-`".to_owned()),
            }
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => merged.push((first, last)),
            }
        }
        Ok(Self(merged))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            match (first, last) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, &u32::MAX) => write!(f, "{first}-")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Selection {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> Self {
        selection.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for (text, written) in [
            ("1-3,7", "1-3,7"),
            (" 7 , 1 - 3 ", "1-3,7"),
            ("2-", "2-"),
            ("5,1-4,3-6", "1-6"),
            ("4294967295", "4294967295"),
        ] {
            let selection: Selection = text.parse().unwrap();
            assert_eq!(selection.to_string(), written);
            assert_eq!(written.parse(), Ok(selection));
        }
        let selection: Selection = "1-3,7".parse().unwrap();
        let has: Vec<u32> = (0..10).filter(|page| selection.has(*page)).collect();
        assert_eq!(has, [1, 2, 3, 7]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, expected) in [
            ("", "are written"),
            ("0", "counted from 1"),
            ("3-1", "runs backwards"),
            ("1,,2", "are written"),
            ("-3", "are written"),
            ("1-2-3", "are written"),
            ("99999999999", "are written"),
            ("one", "are written"),
        ] {
            let error = text.parse::<Selection>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
