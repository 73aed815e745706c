//! The rules by which records are refused or lose something. Ids are stable, texts are not. A record
//! of ours that cannot be read is refused under `validate`'s own id, which is not repeated here.

/// A stable id such as `image-missing`.
pub type RuleId = &'static str;

/// What a rule does to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is not written, and stands in `F.rejects.jsonl`.
    Rejects,
    /// It is written without something, and stands in `F.losses.jsonl`.
    Loses,
}

pub(crate) const BAD_JSON: RuleId = "bad-json";
pub(crate) const NOT_UTF8: RuleId = "not-utf8";
pub(crate) const WRONG_TYPE: RuleId = "wrong-type";
pub(crate) const MISSING_KEY: RuleId = "missing-key";
pub(crate) const UNKNOWN_ROLE: RuleId = "unknown-role";
pub(crate) const UNSUPPORTED: RuleId = "unsupported";
pub(crate) const TURNS: RuleId = "turns";
pub(crate) const EMPTY_TURN: RuleId = "empty-turn";
pub(crate) const IMAGE_ROLE: RuleId = "image-role";
pub(crate) const IMAGE_COUNT: RuleId = "image-count";
pub(crate) const IMAGE_TAG_TEXT: RuleId = "image-tag-text";
pub(crate) const IMAGE_URL: RuleId = "image-url";
pub(crate) const IMAGE_MISSING: RuleId = "image-missing";
pub(crate) const IMAGE_AMBIGUOUS: RuleId = "image-ambiguous";
pub(crate) const IMAGE_UNREADABLE: RuleId = "image-unreadable";
pub(crate) const IMAGE_LIMIT: RuleId = "image-limit";
pub(crate) const NO_LABEL: RuleId = "no-label";
pub(crate) const ONE_PAGE: RuleId = "one-page";

pub(crate) const ID_DROPPED: RuleId = "id-dropped";
pub(crate) const ID_CHANGED: RuleId = "id-changed";
pub(crate) const META_DROPPED: RuleId = "meta-dropped";
pub(crate) const WEIGHT_IGNORED: RuleId = "weight-ignored";
pub(crate) const SYSTEM_IGNORED: RuleId = "system-ignored";
pub(crate) const TRIMMED: RuleId = "whitespace-trimmed";
pub(crate) const TURN_TRAINED: RuleId = "turn-trained";
pub(crate) const TURN_WEIGHT: RuleId = "turn-weight-dropped";
pub(crate) const IMAGE_DETAIL: RuleId = "image-detail-dropped";
pub(crate) const IMAGE_RECODED: RuleId = "image-recoded";
pub(crate) const PROMPT_DROPPED: RuleId = "prompt-dropped";
pub(crate) const BOXES_DROPPED: RuleId = "boxes-dropped";
pub(crate) const ANNOTATIONS_DROPPED: RuleId = "annotations-dropped";
pub(crate) const COLUMN_DROPPED: RuleId = "column-dropped";

use Effect::{Loses, Rejects};

/// Every rule with what it does and means, in the order of the documentation.
#[rustfmt::skip]
pub const RULES: &[(RuleId, Effect, &str)] = &[
    (BAD_JSON, Rejects, "not valid JSON, cut off, or an object with one key twice"),
    (NOT_UTF8, Rejects, "bytes that are not UTF-8"),
    (WRONG_TYPE, Rejects, "a value has another type than the format asks for"),
    (MISSING_KEY, Rejects, "a key that the format needs is not there"),
    (UNKNOWN_ROLE, Rejects, "a role that records do not have, such as a tool's"),
    (UNSUPPORTED, Rejects, "what training there depends on and records do not have: video, audio, tools, boxes, preferences"),
    (TURNS, Rejects, "turns are not: at most one system first, then user and assistant in turn, an answer last"),
    (EMPTY_TURN, Rejects, "a turn says nothing and shows nothing"),
    (IMAGE_ROLE, Rejects, "an image outside a user turn; chat templates drop it"),
    (IMAGE_COUNT, Rejects, "as many `<image>` in the text as images there must be, and are not"),
    (IMAGE_TAG_TEXT, Rejects, "a text holds `<image>` (or `<video>`, `<audio>`) as words, which the target would read as an image"),
    (IMAGE_URL, Rejects, "an image given as a web address; nothing is downloaded"),
    (IMAGE_MISSING, Rejects, "an image that is not there"),
    (IMAGE_AMBIGUOUS, Rejects, "several files have the image's name"),
    (IMAGE_UNREADABLE, Rejects, "an image that is no PNG, JPEG or WebP, or whose base64 is damaged"),
    (IMAGE_LIMIT, Rejects, "more or larger images than the target's service takes"),
    (NO_LABEL, Rejects, "a task without an annotation to learn from"),
    (ONE_PAGE, Rejects, "the target holds one page and its text, and nothing else"),
    (ID_DROPPED, Loses, "the target has no ids"),
    (ID_CHANGED, Loses, "the id was used before, so the record got another"),
    (META_DROPPED, Loses, "the target has no place for `meta`"),
    (WEIGHT_IGNORED, Loses, "`meta.weight` is not 1, and the target trains on every record alike"),
    (SYSTEM_IGNORED, Loses, "the target's trainer does not read a system turn"),
    (TRIMMED, Loses, "the target's trainer cuts white space around texts"),
    (TURN_TRAINED, Loses, "an answer is trained on here and not there, or the other way round"),
    (TURN_WEIGHT, Loses, "a weight of a single turn; records have one for all"),
    (IMAGE_DETAIL, Loses, "how closely the service should look at an image"),
    (IMAGE_RECODED, Loses, "the image file was made anew: the target takes no such pixels or files"),
    (PROMPT_DROPPED, Loses, "the target's trainer asks with a prompt of its own"),
    (BOXES_DROPPED, Loses, "where on the page a label stands; records hold what it says"),
    (ANNOTATIONS_DROPPED, Loses, "further annotations of the same task"),
    (COLUMN_DROPPED, Loses, "a column of bytes that no image is made of"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_look_like_ids() {
        let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.0).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(ids.iter().all(|id| id.chars().all(fits)));
    }
}
