//! The rules of the record format: one table of their ids, what they find, what happens if it stays,
//! and what to do. Everything that speaks of rules is made from it: messages, `validate --help`,
//! `validate --explain`, `docs/rules.md`. Ids are stable; texts may change.

mod explain;
mod table;

use serde::{Serialize, Serializer};
use vlft_base::{Diagnostic, Result, Severity, did_you_mean};

pub use explain::{Explained, page};
pub use table::RULES;

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
