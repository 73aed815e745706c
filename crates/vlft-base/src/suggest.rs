//! Spelling help: the nearest known name, and the list of known names.

/// The known name closest to `word`, if it is close enough to be what was meant.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// "one of `a`, `b`, `c`".
pub fn one_of<'a>(known: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    format!("one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["rank", "alpha", "dropout", "targets", "vision"];
        assert_eq!(did_you_mean("rnak", known), Some("rank"));
        assert_eq!(did_you_mean("target", known), Some("targets"));
        assert_eq!(did_you_mean("zzz", known), None);
    }
}
