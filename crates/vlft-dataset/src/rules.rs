//! The rules of the record format: one table of their ids, what they find, what happens if it stays,
//! and what to do. Everything that speaks of rules is made from it: messages, `validate --help`,
//! `validate --explain`, `docs/rules.md`. Ids are stable; texts may change.

use std::fmt;

use serde::{Serialize, Serializer};
use vlft_base::{Diagnostic, Result, Severity, did_you_mean};

/// One thing that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    NotJsonl,
    NotUtf8,
    ByteOrderMark,
    EmptyLine,
    BadJson,
    CutLine,
    UnknownKey,
    MissingKey,
    WrongType,
    DuplicateKey,
    MetaValue,
    EmptyId,
    DuplicateId,
    EmptyMessages,
    NoAssistant,
    RoleOrder,
    LastTurn,
    EmptyContent,
    EmptyTarget,
    ImageRole,
    SpecialToken,
    ControlCharacter,
    ReplacementCharacter,
    PathEmpty,
    PathBackslash,
    PathAbsolute,
    PathUrl,
    PathOutside,
    ImageElsewhere,
    ImageMissing,
    ImageUnreadable,
    ImageAspect,
    ImageSmall,
    ImageLarge,
    ImageRotated,
    ImageAlpha,
    TargetFence,
    TargetJson,
    TargetDuplicateKey,
    TargetNothing,
    TargetSchema,
    ConflictingAnswers,
    DuplicateRecord,
    DuplicateImage,
    NearImage,
    Uncountable,
    TooLong,
    AnswerChanged,
}

/// What a rule looks at. `validate --only` takes these names as well as ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    Lines,
    Schema,
    Turns,
    Texts,
    Images,
    Answers,
    Copies,
    Tokens,
}

impl Section {
    pub const ALL: [Self; 8] = [
        Self::Lines,
        Self::Schema,
        Self::Turns,
        Self::Texts,
        Self::Images,
        Self::Answers,
        Self::Copies,
        Self::Tokens,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Schema => "schema",
            Self::Turns => "turns",
            Self::Texts => "texts",
            Self::Images => "images",
            Self::Answers => "answers",
            Self::Copies => "copies",
            Self::Tokens => "tokens",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Lines => "The file and its lines",
            Self::Schema => "The shape of a record",
            Self::Turns => "Ids and turns",
            Self::Texts => "Texts",
            Self::Images => "Images",
            Self::Answers => "Answers",
            Self::Copies => "Records and images that are there twice",
            Self::Tokens => "With `--model`",
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct About {
    pub rule: Rule,
    pub section: Section,
    pub id: &'static str,
    pub severity: Severity,
    /// What is found, in one sentence.
    pub meaning: &'static str,
    /// What happens if it stays.
    pub why: &'static str,
    /// What to do.
    pub mend: &'static str,
}

use Section::{Answers, Copies, Images, Lines, Schema, Texts, Tokens, Turns};
use Severity::{Error, Warning};

macro_rules! rules {
    ($($rule:ident $section:ident $id:literal $severity:ident $meaning:literal $why:literal $mend:literal)*) => {
        &[$(About {
            rule: Rule::$rule,
            section: $section,
            id: $id,
            severity: $severity,
            meaning: $meaning,
            why: $why,
            mend: $mend,
        }),*]
    };
}

/// Every rule, in the order of the documentation.
#[rustfmt::skip]
pub const RULES: &[About] = rules! {
    NotJsonl Lines "not-jsonl" Error
        "the file is not JSON Lines: one object per line"
        "Nothing can be read; the command ends with exit code 2."
        "A JSON array becomes lines with `jq -c '.[]'`. A label export goes through `vlft build-jsonl`."
    NotUtf8 Lines "not-utf8" Error
        "a line holds bytes that are not UTF-8"
        "The record cannot be read. Guessing an encoding would put wrong characters into answers."
        "Save the file as UTF-8; in PowerShell `Out-File -Encoding utf8`."
    ByteOrderMark Lines "byte-order-mark" Warning
        "the file starts with a byte order mark, which other readers choke on"
        "vlft reads it; Python's `json` and most trainers refuse the first line."
        "Save the file as UTF-8 without BOM, or let `--fix-out` write it without."
    EmptyLine Lines "empty-line" Warning
        "a line is empty"
        "vlft skips it; other readers stop there."
        "Remove it, or let `--fix-out` do so."
    BadJson Lines "bad-json" Error
        "a line is not valid JSON"
        "The record cannot be read."
        "Write lines with a JSON library (`json.dumps`), never by printing. JSON has no NaN, no single quotes, no comma at the end."
    CutLine Lines "cut-line" Error
        "a line ends in the middle of its JSON"
        "The record cannot be read; the file was cut off or broken over several lines."
        "Write the file again, one whole record on each line."

    UnknownKey Schema "unknown-key" Error
        "a key that records do not have"
        "A misspelt key would be a key that is silently not there."
        "Correct the name. Facts of your own go into `meta`, whose keys are free."
    MissingKey Schema "missing-key" Error
        "a key that every record needs is not there"
        "The record cannot be used."
        "Records have `id` and `messages`, messages `role` and `content`, parts `type` and what it names. `schemas/record.schema.json` has it all."
    WrongType Schema "wrong-type" Error
        "a value has another type than the format asks for"
        "The record cannot be used."
        "`content` is an array of parts, even for one text: `[{\"type\":\"text\",\"text\":\"..\"}]`. `vlft convert` reads the formats of other tools."
    DuplicateKey Schema "duplicate-key" Error
        "one object has the same key twice"
        "One of the two values would win in silence, in most readers the last."
        "Keep one of the two."
    MetaValue Schema "meta-value" Error
        "a known key of `meta` has a value it cannot have"
        "Splits go by `meta.document`, training by `meta.weight`; with a wrong value they would do something else than meant."
        "`document`, `doc_type` and `source_sha256` are strings, `pages` an array of page numbers, `weight` a number from 0 to 1000000."

    EmptyId Turns "empty-id" Error
        "the id is empty"
        "Predictions, errors and `vlft why` name records by their ids."
        "Give every record its own id."
    DuplicateId Turns "duplicate-id" Error
        "an earlier record has the same id"
        "Predictions of the two could not be told apart; often it is the same document twice."
        "Give every record its own id, or remove the second one."
    EmptyMessages Turns "empty-messages" Error
        "the record has no messages"
        "There is nothing to learn."
        "Leave the record out."
    NoAssistant Turns "no-assistant" Error
        "no turn of the assistant: there is nothing to learn"
        "Only assistants' turns are trained on."
        "Add the answer as a turn with the role `assistant`, or leave the record out."
    RoleOrder Turns "role-order" Error
        "turns are not: at most one system first, then user and assistant in turn"
        "Chat templates merge, drop or refuse such turns; what is trained is not what was written."
        "Put the turns in order; two user turns in a row become one with two parts."
    LastTurn Turns "last-turn" Error
        "the last turn is not the assistant's"
        "What follows the last answer is never trained on; most often the answer is missing."
        "End with the answer."
    EmptyContent Turns "empty-content" Error
        "a message has no content"
        "The template would write an empty turn."
        "Leave the message out, or the record."
    EmptyTarget Turns "empty-target" Error
        "an answer has no text"
        "The model would learn to say nothing."
        "Leave the record out; for a page on which nothing is to be found, say so as JSON."
    ImageRole Turns "image-role" Error
        "an image outside a user turn; chat templates drop it"
        "The model would never see the image."
        "Move the image into the user's turn."

    SpecialToken Texts "special-token" Error
        "text that the tokenizer would read as a control token"
        "`<|im_end|>` in a text ends the turn, `<|image_pad|>` is an image that is not there."
        "Remove it, or write it otherwise; the chat template adds the real ones. With `--model` the tokens of that tokenizer are looked for, without one those of Qwen."
    ControlCharacter Texts "control-character" Error
        "a NUL or another control character in a text"
        "It comes from a broken export, and the model would learn to write it."
        "Remove it where the text is made; line breaks and tabs are fine."
    ReplacementCharacter Texts "replacement-character" Warning
        "U+FFFD in a text: it was decoded wrongly once"
        "The letter that stood there is lost, and the model learns to write the mark."
        "Export the text again as UTF-8."

    PathEmpty Images "path-empty" Error
        "an image path is empty"
        "There is no image to look at."
        "Leave the part out, or name the file."
    PathBackslash Images "path-backslash" Error
        "an image path with `\\`; paths use `/` on every system"
        "The dataset could be used on Windows only."
        "`--fix-out` rewrites them all."
    PathAbsolute Images "path-absolute" Error
        "an absolute image path, which holds on one machine only"
        "The folder cannot be moved, nor given to anyone."
        "Make paths relative to the JSONL file."
    PathUrl Images "path-url" Error
        "an image given as a URL; images are files"
        "What a server answers may change, and training does not go into the network."
        "Save the image beside the JSONL file and name its path; `vlft convert` does it for data URLs."
    PathOutside Images "path-outside" Warning
        "an image more than two folders above the JSONL file: they must be moved together"
        "Whoever copies the dataset's folder copies it without these images."
        "Keep images in or beside the folder of the JSONL file."
    ImageElsewhere Images "image-elsewhere" Warning
        "an image found only relative to the working directory"
        "From any other directory the image is missing."
        "`--fix-out` rewrites the path relative to the new file."
    ImageMissing Images "image-missing" Error
        "an image that is not there"
        "Training would stop, or other tools take another sample in silence."
        "Check the name, upper and lower case too. `--fix-out` leaves such records out."
    ImageUnreadable Images "image-unreadable" Error
        "an image that cannot be decoded to its last row"
        "Cut or damaged files become grey areas beside complete labels: the model learns to invent."
        "Copy or unpack it again; PNG, JPEG and WebP are read. `--decode header` finds only what the header shows."
    ImageAspect Images "image-aspect" Error
        "an image more than 200 times as long as wide, which the model refuses"
        "Training would stop there."
        "Cut it into pieces, or leave it out."
    ImageSmall Images "image-small" Warning
        "an image with a side under 28 pixels, which is blown up before the model sees it"
        "Nothing on it can be read."
        "Rasterize the page at a higher resolution."
    ImageLarge Images "image-large" Warning
        "an image of more than 50 million pixels, most of which the model never sees"
        "Decoding takes a second and 150 MB each time; it is then scaled down to a million pixels or so."
        "Rasterize with `--max-pixels`, or scale it down once."
    ImageRotated Images "image-rotated" Warning
        "an image whose EXIF data say that it is to be turned"
        "Training turns it upright; other programs and servers may show it lying on its side."
        "Save it upright: `mogrify -auto-orient`, or Pillow's `ImageOps.exif_transpose`."
    ImageAlpha Images "image-alpha" Warning
        "an image with transparent parts"
        "Training puts it on white; programs that drop the transparency show whatever colour lies beneath."
        "Save it without transparency."

    TargetFence Answers "target-fence" Error
        "an answer in a markdown fence; the fence would be learned"
        "The model would write the fence too, and whoever parses its answers fails."
        "`--fix-out` removes it."
    TargetJson Answers "target-json" Error
        "an answer that is not JSON"
        "The model learns what is there: cut or broken answers."
        "The assistant's text is only the target JSON. Check for a length limit where the labels were made."
    TargetDuplicateKey Answers "target-duplicate-key" Error
        "an answer whose JSON has a key twice"
        "Readers keep one of the two values; the model learns to write both."
        "Keep one of the two."
    TargetNothing Answers "target-nothing" Warning
        "an answer in which every value is empty or null"
        "A few teach that a page may hold nothing. Many teach to give up; often the labels were not found."
        "Check that the labels belong to these pages; leave the record out, or lower its `meta.weight`."
    TargetSchema Answers "target-schema" Error
        "an answer that the target schema refuses"
        "The model learns answers that whoever uses them refuses."
        "Mend the answer or the schema; `vlft build-jsonl` can make the types right."

    ConflictingAnswers Copies "conflicting-answers" Error
        "the same images and the same prompt as in another record, but another answer"
        "Nothing in the input tells which is right: the model learns to guess."
        "Compare the two labels and keep one. Where both are right, the prompt must say which is asked for."
    DuplicateRecord Copies "duplicate-record" Warning
        "the same images, prompt and answer as in an earlier record"
        "It counts twice in training, and on both sides of a split it is a leak (`vlft split` keeps such records together)."
        "Remove one; `--fix-out` keeps the first. To count a record twice, set `meta.weight`."
    DuplicateImage Copies "duplicate-image" Warning
        "two files of different documents with the same bytes"
        "Often one document under two names. `vlft split` keeps them on one side."
        "Remove one of the documents, or give both the same `meta.document`. The backs of forms are counted once."
    NearImage Copies "near-image" Warning
        "two images of different documents that look the same: saved again, scaled, or scanned twice"
        "Often one document under two names. `vlft split` keeps them on one side."
        "Look at both. Remove one, or give both the same `meta.document`."

    Uncountable Tokens "uncountable" Error
        "a record whose tokens the model directory's code cannot count"
        "Training would refuse the record."
        "The message has the cause: a template that changes answers, an image it cannot use."
    TooLong Tokens "too-long" Error
        "a record with more tokens than `--max-tokens`"
        "Training stops at it, or drops it and says so (`data.too_long`). Nothing is ever cut."
        "Lower `data.max_pixels`, raise `data.max_tokens`, or leave it out with `--fix-out`."
    AnswerChanged Tokens "answer-changed" Error
        "the tokens that are trained on do not spell the answer"
        "The model would learn another text than the record's. Tokenizers compose letters and accents, for one."
        "The message shows the first difference; write the answer as the tokenizer does (Unicode NFC)."
};

impl Rule {
    /// Its row of the table.
    pub fn about(self) -> &'static About {
        RULES
            .get(self as usize)
            .expect("a test checks that the table is in the order of the rules")
    }

    pub fn id(self) -> &'static str {
        self.about().id
    }

    pub fn severity(self) -> Severity {
        self.about().severity
    }

    /// One sentence for people.
    pub fn meaning(self) -> &'static str {
        self.about().meaning
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// The rule with this id.
pub fn find(id: &str) -> Result<&'static About> {
    RULES.iter().find(|about| about.id == id).ok_or_else(|| {
        let error = Diagnostic::error(format!("there is no rule `{id}`"));
        match did_you_mean(id, RULES.iter().map(|about| about.id)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`vlft validate --help` lists all rules"),
        }
    })
}

/// Which rules are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection([bool; RULES.len()]);

impl Default for Selection {
    fn default() -> Self {
        Self([true; RULES.len()])
    }
}

impl Selection {
    /// `only` and `skip` hold ids of rules and names of sections; an empty `only` means all. That a
    /// file is JSON Lines at all is always looked at.
    pub fn new(only: &[String], skip: &[String]) -> Result<Self> {
        let mut selection = Self([only.is_empty(); RULES.len()]);
        for (names, value) in [(only, true), (skip, false)] {
            for name in names {
                let section = Section::ALL
                    .into_iter()
                    .find(|section| section.name() == name);
                match section {
                    Some(section) => RULES
                        .iter()
                        .filter(|about| about.section == section)
                        .for_each(|about| selection.0[about.rule as usize] = value),
                    None => selection.0[named(name)?.rule as usize] = value,
                }
            }
        }
        Ok(selection)
    }

    pub fn has(&self, rule: Rule) -> bool {
        self.0[rule as usize]
    }

    /// Whether any rule of a section is looked at.
    pub fn any_of(&self, section: Section) -> bool {
        let of_section = RULES.iter().filter(|about| about.section == section);
        of_section
            .map(|about| about.rule)
            .any(|rule| self.has(rule))
    }

    /// The ids of the rules; `None` for all of them.
    pub(crate) fn names(&self) -> Option<Vec<&'static str>> {
        let names = RULES.iter().filter(|about| self.has(about.rule));
        (!self.is_all()).then(|| names.map(|about| about.id).collect())
    }

    pub fn is_all(&self) -> bool {
        self.0.iter().all(|on| *on)
    }
}

fn named(name: &str) -> Result<&'static About> {
    find(name).map_err(|_| {
        let sections = Section::ALL.map(Section::name);
        let known = || {
            sections
                .into_iter()
                .chain(RULES.iter().map(|about| about.id))
        };
        let error =
            Diagnostic::error(format!("there is no rule or section `{name}`")).expected(format!(
                "a rule's id, or one of {}",
                sections.map(|s| format!("`{s}`")).join(", ")
            ));
        match did_you_mean(name, known()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`vlft validate --help` lists all rules"),
        }
    })
}

/// `validate --explain`: all that is known of one rule.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Explained {
    pub id: &'static str,
    pub severity: Severity,
    pub section: &'static str,
    pub meaning: &'static str,
    pub why: &'static str,
    pub mend: &'static str,
}

impl From<&About> for Explained {
    fn from(about: &About) -> Self {
        Self {
            id: about.id,
            severity: about.severity,
            section: about.section.name(),
            meaning: about.meaning,
            why: about.why,
            mend: about.mend,
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = word(self.severity);
        write!(
            f,
            "{severity}[{}]: {}\n\n{}\n\nWhat to do: {}\n\nSection `{}`; see also `vlft validate --only {}`",
            self.id, self.meaning, self.why, self.mend, self.section, self.section
        )
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Error => "error",
        Warning => "warning",
    }
}

/// `docs/rules.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# The rules of `vlft validate`\n\n\
         Made from `crates/vlft-dataset/src/rules.rs`; do not edit. `vlft validate --explain ID` shows one of\n\
         them. Ids are stable, texts may change. Errors make a record invalid (exit code 1), warnings do not.\n\
         `--only` and `--skip` take ids and the names of sections.\n",
    );
    for section in Section::ALL {
        page += &format!("\n## {} (`{}`)\n", section.about(), section.name());
        for about in RULES.iter().filter(|about| about.section == section) {
            page += &format!(
                "\n### `{}` ({})\n\n{}.\n\n{}\n\n*What to do:* {}\n",
                about.id,
                word(about.severity),
                capital(about.meaning),
                about.why,
                about.mend
            );
        }
    }
    page
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_rules_and_its_ids_are_unique() {
        for (index, about) in RULES.iter().enumerate() {
            assert_eq!(about.rule as usize, index, "{}", about.id);
        }
        // `AnswerChanged` is the last rule, so none is left out.
        assert_eq!(RULES.len(), Rule::AnswerChanged as usize + 1);
        assert!(
            RULES
                .windows(2)
                .all(|pair| pair[0].section <= pair[1].section)
        );
        let names = RULES.iter().map(|about| about.id);
        let mut names: Vec<&str> = names.chain(Section::ALL.map(Section::name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for about in RULES {
            assert!(
                about.why.ends_with(['.', ')']) && about.mend.ends_with('.'),
                "{}",
                about.id
            );
            assert!(!about.meaning.ends_with('.'), "{}", about.id);
        }
    }

    /// Write it again with `VLFT_UPDATE=1 cargo test -p vlft-dataset rules`.
    #[test]
    fn the_page_of_the_documentation_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules.md");
        if std::env::var_os("VLFT_UPDATE").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let written = written.replace("\r\n", "\n");
        assert!(
            written == page(),
            "docs/rules.md is stale: VLFT_UPDATE=1 cargo test -p vlft-dataset rules"
        );
    }

    #[test]
    fn selections_take_ids_and_sections() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let all = Selection::new(&[], &[]).unwrap();
        assert!(all.is_all() && all == Selection::default());
        let some =
            Selection::new(&names(&["schema", "empty-id"]), &names(&["meta-value"])).unwrap();
        assert!(some.has(Rule::UnknownKey) && some.has(Rule::EmptyId));
        assert!(!some.has(Rule::MetaValue) && !some.any_of(Section::Images));
        let error = Selection::new(&names(&["image"]), &[]).unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean `images`?"));
        assert_eq!(
            find("image-mising").unwrap_err().hint_text(),
            Some("did you mean `image-missing`?")
        );
    }
}
