//! Rejects in words: why a document has no record, with what is nearest to it.

use std::collections::BTreeSet;
use std::path::Path;

use super::Document;
use super::images::{Images, PageFault, Reading};
use super::labels::{Row, Unlabelled};
use super::matching::Match;
use super::names::{Pattern, base_name};
use super::nearest::Nearest;
use super::report::{Reason, Reject, What};
use super::target::{Fault, LabelFault};
use crate::jsonl::shown;

/// What was found for a label, with what is needed to say so.
pub(crate) struct Matched<'a> {
    pub(crate) found: &'a Match,
    pub(crate) labels: &'a [String],
    pub(crate) images: &'a Images,
}

/// A document whose labels or images are at fault; all of it is told. `page_fault`: why the page rule
/// cannot be followed.
pub(crate) fn document(
    document: &Document<'_>,
    faults: Vec<Fault>,
    page_fault: Option<String>,
    matched: Matched<'_>,
    nearest: &mut Nearest,
) -> Reject {
    let found = matched.found;
    let mut reasons: Vec<(Reason, String)> = Vec::new();
    let mut places: Vec<String> = Vec::new();
    for fault in faults {
        reasons.push((reason(fault.reason), fault.detail));
        places.extend(fault.places);
    }
    reasons.extend(page_fault.map(|why| (Reason::NoSuchPage, why)));
    reasons.extend(image_fault(found, matched.labels, matched.images));
    if places.is_empty() {
        places.extend(document.rows.first().map(|row| row.place()));
    }
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert(place.clone()));
    let candidates = match found {
        Match::Nothing => nearest.to(base_name(&document.name)),
        _ => Vec::new(),
    };
    if let (Match::Nothing, Some(nearest), Some(last)) =
        (found, candidates.first(), reasons.last_mut())
    {
        last.1 += &format!("; the nearest is `{nearest}`");
    }
    let mut reasons = reasons.into_iter();
    let (reason, detail) = reasons.next().expect("a document is rejected for a reason");
    Reject {
        what: What::Document,
        name: Some(document.name.clone()),
        reason,
        detail,
        also: reasons.map(|(_, detail)| detail).collect(),
        places,
        candidates,
        aliases: Vec::new(),
    }
}

pub(crate) fn unlabelled(task: &Unlabelled) -> Reject {
    Reject {
        what: What::Row,
        name: None,
        reason: Reason::NotAnnotated,
        detail: format!("the task in {}: {}", task.place, task.why),
        also: Vec::new(),
        places: vec![task.place.clone()],
        candidates: Vec::new(),
        aliases: Vec::new(),
    }
}

pub(crate) fn row(row: &Row) -> Reject {
    Reject {
        what: What::Row,
        name: None,
        reason: Reason::NoDocumentName,
        detail: format!("the row in {} names no document", row.place()),
        also: Vec::new(),
        places: vec![row.place()],
        candidates: Vec::new(),
        aliases: Vec::new(),
    }
}

/// `wanted`: a label had it among its images, but it is in no record.
pub(crate) fn image(path: &Path, wanted: bool) -> Reject {
    let (reason, detail) = if wanted {
        (Reason::NotUsed, "its document was rejected")
    } else {
        (Reason::NoLabel, "no label's document has these pages")
    };
    Reject {
        what: What::Image,
        name: Some(shown(path)),
        reason,
        detail: detail.into(),
        also: Vec::new(),
        places: Vec::new(),
        candidates: Vec::new(),
        aliases: Vec::new(),
    }
}

pub(crate) fn unnameable(path: &str) -> Reject {
    Reject {
        detail: "the file name is not Unicode, so JSON cannot hold it".into(),
        ..image(Path::new(path), true)
    }
}

fn reason(fault: LabelFault) -> Reason {
    match fault {
        LabelFault::ConflictingValues => Reason::ConflictingValues,
        LabelFault::ConflictingItems => Reason::ConflictingItems,
        LabelFault::BadValue => Reason::BadValue,
        LabelFault::MissingValue => Reason::MissingValue,
    }
}

fn image_fault(found: &Match, labels: &[String], images: &Images) -> Option<(Reason, String)> {
    match found {
        Match::Found { .. } => None,
        Match::Nothing => Some((Reason::NoImage, "no image has this name".into())),
        Match::Ambiguous {
            step,
            readings,
            rivals,
        } => {
            let files: Vec<String> = readings
                .iter()
                .map(|r| described(&images.readings[*r], images))
                .collect();
            let mut detail = match &files[..] {
                [one] => format!("{one} could be its pages"),
                _ => format!("{} could each be its pages", files.join(" and ")),
            };
            if !rivals.is_empty() {
                let rivals: Vec<String> =
                    rivals.iter().map(|r| format!("`{}`", labels[*r])).collect();
                detail += &format!(", or those of {}", rivals.join(" and "));
            }
            detail += &format!(" (by step `{}`)", step.id());
            Some((Reason::AmbiguousImage, detail))
        }
        Match::NotWhole { reading, fault } => {
            let reading = &images.readings[*reading];
            let what = match fault {
                PageFault::Twice { page } => format!("page {page} is there twice"),
                PageFault::Missing { missing, of } => {
                    format!("{} of {of} missing", numbers(missing))
                }
            };
            Some((
                Reason::IncompletePages,
                format!("{}: {what}", described(reading, images)),
            ))
        }
        Match::Taken { reading, by } => {
            let reading = &images.readings[*reading];
            let detail = format!(
                "{} is wanted by `{}`, whose name is nearer",
                described(reading, images),
                labels[*by]
            );
            Some((Reason::ImageTaken, detail))
        }
    }
}

/// `page 3`, `pages 3, 4, 5 and 17 more`
fn numbers(missing: &[u32]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = missing.iter().take(SHOWN).map(u32::to_string).collect();
    let word = if missing.len() == 1 { "page" } else { "pages" };
    match missing.len().saturating_sub(SHOWN) {
        0 => format!("{word} {}", shown.join(", ")),
        more => format!("{word} {} and {more} more", shown.join(", ")),
    }
}

/// A reading as a person would name it: the document, the file, or the first and the last page.
fn described(reading: &Reading, images: &Images) -> String {
    let name = |index: usize| format!("`{}`", shown(&images.files[index]));
    match (&reading.pattern, &reading.files[..]) {
        (Pattern::Manifest, _) if reading.folder.is_empty() => {
            format!("document `{}`", reading.name)
        }
        (Pattern::Manifest, _) => format!("document `{}/{}`", reading.folder, reading.name),
        (_, [only]) => name(*only),
        (_, [first, .., last]) => format!("{} to {}", name(*first), name(*last)),
        (_, []) => "nothing".into(),
    }
}
