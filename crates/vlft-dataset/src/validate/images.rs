//! The rules about images: their paths, that they are there, that they can be used. And what tells an
//! image from others, for the rules about copies.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;
use vlft_base::did_you_mean;

use super::Decode;
use super::image_file::{self, Looked};
use crate::image_limits::MAX_ASPECT_RATIO;
use crate::image_path::{Found, base_of, beside, find, slashed};
use crate::json::Step;
use crate::jsonl::shown;
use crate::known_pages::{KnownPages, Nearby};
use crate::perceptual::PageHash;
use crate::problem::Finding;
use crate::record::{Part, Record};
use crate::rules::{Rule, Section, Selection};
use crate::seen::hash_path;

/// Less than a merged patch of the model: it is blown up before anything is seen.
const SMALL_SIDE: u32 = 28;

/// More pixels than this are a burden to decode and mostly thrown away.
const LARGE_PIXELS: u64 = 50_000_000;

pub(crate) struct ImageRules<'a> {
    base: &'a Path,
    decode: Decode,
    rules: &'a Selection,
    known: KnownPages,
    /// Images that were opened and found good: many records may share a page.
    good: Mutex<HashMap<u64, Option<u128>>>,
    listings: Mutex<HashMap<PathBuf, Vec<String>>>,
    hints_left: AtomicUsize,
}

/// What tells an image from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageId {
    /// Of its path.
    pub(crate) path: u64,
    /// The first half of its SHA-256, where it is known.
    pub(crate) sha256: Option<u128>,
    /// Where the image was opened, and for the first time.
    pub(crate) looks: Option<Box<PageHash>>,
}

/// Mostly one.
pub(crate) type ImageIds = SmallVec<[ImageId; 1]>;

impl ImageId {
    /// Whether two records show the same image here. By bytes where both are known.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.sha256, other.sha256) {
            (Some(a), Some(b)) => a == b,
            _ => self.path == other.path,
        }
    }
}

impl<'a> ImageRules<'a> {
    pub(crate) fn new(base: &'a Path, decode: Decode, rules: &'a Selection) -> Self {
        Self {
            base,
            decode,
            rules,
            known: KnownPages::default(),
            good: Mutex::default(),
            listings: Mutex::default(),
            // Looking for the nearest name in a folder of 100 000 is slow; a thousand times is enough.
            hints_left: AtomicUsize::new(1000),
        }
    }

    /// What is wrong with the images of a record, and what they are, in order.
    pub(crate) fn check(&self, record: &Record, near: &mut Nearby) -> (Vec<Finding>, ImageIds) {
        let mut findings = Vec::new();
        let mut ids = ImageIds::new();
        for (message_index, message) in record.messages.iter().enumerate() {
            for (part_index, part) in message.content.iter().enumerate() {
                if let Part::Image(image) = part {
                    let (found, id) = self.path(image, near);
                    ids.push(id);
                    findings.extend(found.into_iter().map(|(rule, message, hint)| Finding {
                        rule,
                        path: vec![
                            "messages".into(),
                            message_index.into(),
                            "content".into(),
                            part_index.into(),
                            "image".into(),
                        ],
                        message,
                        hint,
                    }));
                }
            }
        }
        (findings, ids)
    }

    /// What the images of a record are, for a second look at it.
    pub(crate) fn ids(&self, record: &Record) -> ImageIds {
        let near = &mut Nearby::default();
        let images = record.images();
        images.map(|image| self.path(image, near).1).collect()
    }

    /// The name and the place of the image whose path has this hash.
    pub(crate) fn named(&self, record: &Record, path: u64) -> Option<(String, Vec<Step>)> {
        let near = &mut Nearby::default();
        record.messages.iter().enumerate().find_map(|(m, message)| {
            message
                .content
                .iter()
                .enumerate()
                .find_map(|(p, part)| match part {
                    Part::Image(image) if self.path(image, near).1.path == path => Some((
                        image.clone(),
                        vec![
                            "messages".into(),
                            m.into(),
                            "content".into(),
                            p.into(),
                            "image".into(),
                        ],
                    )),
                    _ => None,
                })
        })
    }

    fn path(&self, image: &str, near: &mut Nearby) -> (Vec<Told>, ImageId) {
        let unknown = |path: &Path| ImageId {
            path: hash_path(path),
            sha256: None,
            looks: None,
        };
        let told = |rule, message: String, hint: &str| {
            let findings = vec![(rule, message, Some(hint.to_owned()))];
            (findings, unknown(Path::new(image)))
        };
        if image.trim().is_empty() {
            return told(
                Rule::PathEmpty,
                "the image path is empty".into(),
                "leave the part out, or name the file",
            );
        }
        if image.contains(':') && (image.starts_with("data:") || image.contains("://")) {
            let start: String = image.chars().take(40).collect();
            return told(
                Rule::PathUrl,
                format!("the image is a URL: `{start}`"),
                "save the image beside the JSONL file and name its path",
            );
        }
        if is_absolute(image) {
            return told(
                Rule::PathAbsolute,
                format!("absolute image path: `{image}`"),
                "paths are relative to the JSONL file, so that the folder can be moved",
            );
        }
        let mut findings = Vec::new();
        let mut usable = Cow::Borrowed(image);
        // On Unix `\` may be part of a name; a file that is really called so is fine.
        if image.contains('\\') && find(self.base, image).is_none_or(|_| cfg!(windows)) {
            usable = slashed(image).into();
            findings.push((
                Rule::PathBackslash,
                format!("backslash in the image path `{image}`"),
                Some("paths use `/` on every system; `--fix-out` rewrites them all".to_owned()),
            ));
        }
        if depth(&usable) < -2 {
            findings.push((
                Rule::PathOutside,
                format!("the image lies more than two folders above the JSONL file: `{usable}`"),
                Some("whoever moves the dataset must move that folder too".to_owned()),
            ));
        }
        let Some(found) = find(self.base, &usable) else {
            findings.push(self.missing(&usable));
            return (findings, unknown(Path::new(&*usable)));
        };
        if found.elsewhere {
            findings.push((
                Rule::ImageElsewhere,
                format!("image found only relative to the working directory: `{usable}`"),
                Some("paths are relative to the JSONL file; `--fix-out` rewrites them".to_owned()),
            ));
        }
        let (faults, id) = self.file(&found, &usable, near);
        findings.extend(faults);
        (findings, id)
    }

    fn file(&self, found: &Found, image: &str, near: &mut Nearby) -> (Vec<Told>, ImageId) {
        let path = found.path.as_path();
        let mut id = ImageId {
            path: hash_path(path),
            sha256: None,
            looks: None,
        };
        let rules = self.rules;
        if self.decode == Decode::None
            || !rules.any_of(Section::Images) && !rules.any_of(Section::Copies)
        {
            id.sha256 = self.known_sha256(found, near);
            return (Vec::new(), id);
        }
        if let Some(sha256) = lock(&self.good).get(&id.path) {
            id.sha256 = *sha256;
            return (Vec::new(), id);
        }
        let looked = match image_file::look(path, self.decode) {
            Ok(looked) => looked,
            Err(error) => {
                let message = format!("image `{image}` {}", error.message);
                return (vec![(Rule::ImageUnreadable, message, error.hint)], id);
            }
        };
        id.sha256 = match looked.content {
            Some(content) => Some(content.sha256),
            None => self.known_sha256(found, near),
        };
        id.looks = looked
            .content
            .and_then(|content| content.looks)
            .map(Box::new);
        let faults = faults(image, &looked);
        if faults.is_empty() {
            lock(&self.good).insert(id.path, id.sha256);
        }
        (faults, id)
    }

    /// What manifests say of pages' looks, by the first half of the image's SHA-256.
    /// Asked when all records have been seen: of other images no bytes are known from then on.
    pub(crate) fn each_look(&self, take: impl FnMut(u128, PageHash)) {
        self.known.forget_bytes();
        self.known.each_look(take);
    }

    /// From the manifest; only needed to know copies.
    fn known_sha256(&self, found: &Found, near: &mut Nearby) -> Option<u128> {
        let wanted = self.rules.any_of(Section::Copies);
        wanted
            .then(|| self.known.sha256(&found.path, found.bytes, near))
            .flatten()
    }

    fn missing(&self, image: &str) -> Told {
        let hint = self
            .hints_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .ok()
            .and_then(|_| self.nearest(image));
        (
            Rule::ImageMissing,
            format!("image not found: `{image}`"),
            hint,
        )
    }

    /// The nearest name beside the missing file, or the directory that is missing.
    fn nearest(&self, image: &str) -> Option<String> {
        let path = beside(self.base, image);
        let name = path.file_name()?.to_str()?;
        let directory = base_of(&path);
        if !directory.is_dir() {
            return Some(format!(
                "there is no directory `{}`; paths are relative to the JSONL file",
                shown(directory)
            ));
        }
        let mut listings = lock(&self.listings);
        let names = listings
            .entry(directory.to_owned())
            .or_insert_with(|| list(directory));
        let near = did_you_mean(name, names.iter().map(String::as_str))?;
        let before = &image[..image.len() - image.rsplit('/').next().map_or(0, str::len)];
        Some(format!("did you mean `{before}{near}`?"))
    }
}

/// What is wrong with an image that can be read.
fn faults(image: &str, looked: &Looked) -> Vec<Told> {
    let (width, height) = looked.size;
    let (short, long) = (width.min(height), width.max(height));
    let pixels = u64::from(width) * u64::from(height);
    let mut faults = Vec::new();
    let mut told =
        |rule, message: String, hint: &str| faults.push((rule, message, Some(hint.to_owned())));
    if u64::from(long) > u64::from(MAX_ASPECT_RATIO) * u64::from(short) {
        told(
            Rule::ImageAspect,
            format!(
                "image `{image}` is {width} x {height}: more than {MAX_ASPECT_RATIO} times as long as wide"
            ),
            "cut it into pieces, or leave it out",
        );
    } else if short < SMALL_SIDE {
        told(
            Rule::ImageSmall,
            format!("image `{image}` is only {width} x {height} pixels"),
            "rasterize the page at a higher resolution",
        );
    } else if pixels > LARGE_PIXELS {
        told(
            Rule::ImageLarge,
            format!(
                "image `{image}` has {} million pixels ({width} x {height})",
                pixels / 1_000_000
            ),
            "the model sees a million or so: rasterize with `--max-pixels`, or scale it down once",
        );
    }
    if looked.is_rotated {
        told(
            Rule::ImageRotated,
            format!("image `{image}` is to be turned before it is shown, by its EXIF data"),
            "training does so, other programs may not: save it upright",
        );
    }
    if looked
        .content
        .is_some_and(|content| content.has_transparent_parts)
    {
        told(
            Rule::ImageAlpha,
            format!("image `{image}` has transparent parts"),
            "training puts it on white, other programs may not: save it without transparency",
        );
    }
    faults
}

/// What a rule says: the rule, the message, a hint.
type Told = (Rule, String, Option<String>);

fn list(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// On any system: a Windows path in a file that is read on Linux is absolute too.
fn is_absolute(image: &str) -> bool {
    let drive = image.as_bytes().get(1) == Some(&b':') && image.as_bytes()[0].is_ascii_alphabetic();
    image.starts_with(['/', '\\']) || drive
}

/// How far below its start a path stays: -1 when it leads one directory up at some point.
fn depth(path: &str) -> i32 {
    let mut now = 0;
    let mut lowest = 0;
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => now -= 1,
            _ => now += 1,
        }
        lowest = lowest.min(now);
    }
    lowest
}

/// A thread that panicked while holding it left a plain collection behind: still usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
