//! The rules about images: their paths, that they are there, that they can be used.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use vlft_base::did_you_mean;

use super::Decode;
use super::image_file;
use crate::image_limits::MAX_ASPECT_RATIO;
use crate::image_path::{base_of, beside, find, slashed};
use crate::json::Step;
use crate::jsonl::shown;
use crate::problem::{Finding, Rule};
use crate::record::{Part, Record};

/// Less than a merged patch of the model: it is blown up before anything is seen.
const SMALL_SIDE: u32 = 28;

pub(crate) struct ImageRules<'a> {
    base: &'a Path,
    decode: Decode,
    /// Hashes of paths that were found good: many records may share a page.
    good: Mutex<HashSet<u64>>,
    listings: Mutex<HashMap<PathBuf, Vec<String>>>,
    hints_left: AtomicUsize,
}

impl<'a> ImageRules<'a> {
    pub(crate) fn new(base: &'a Path, decode: Decode) -> Self {
        Self {
            base,
            decode,
            good: Mutex::default(),
            listings: Mutex::default(),
            // Looking for the nearest name in a folder of 100 000 is slow; a thousand times is enough.
            hints_left: AtomicUsize::new(1000),
        }
    }

    pub(crate) fn check(&self, record: &Record) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (message_index, message) in record.messages.iter().enumerate() {
            for (part_index, part) in message.content.iter().enumerate() {
                if let Part::Image(image) = part {
                    let path: [Step; 5] = [
                        "messages".into(),
                        message_index.into(),
                        "content".into(),
                        part_index.into(),
                        "image".into(),
                    ];
                    let found = self.path(image);
                    let at = |(rule, message, hint): Told| Finding {
                        rule,
                        path: path.to_vec(),
                        message,
                        hint,
                    };
                    findings.extend(found.into_iter().map(at));
                }
            }
        }
        findings
    }

    fn path(&self, image: &str) -> Vec<Told> {
        let told = |rule, message: String, hint: &str| vec![(rule, message, Some(hint.to_owned()))];
        if image.trim().is_empty() {
            return told(
                Rule::PathEmpty,
                "the image path is empty".into(),
                "leave the part out, or name the file",
            );
        }
        if image.starts_with("data:") || image.contains("://") {
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
        let mut usable = image.to_owned();
        // On Unix `\` may be part of a name; a file that is really called so is fine.
        if image.contains('\\') && find(self.base, image).is_none_or(|_| cfg!(windows)) {
            usable = slashed(image);
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
        match find(self.base, &usable) {
            None => findings.push(self.missing(&usable)),
            Some(found) => {
                if found.elsewhere {
                    findings.push((
                        Rule::ImageElsewhere,
                        format!("image found only relative to the working directory: `{usable}`"),
                        Some(
                            "paths are relative to the JSONL file; `--fix-out` rewrites them"
                                .to_owned(),
                        ),
                    ));
                }
                findings.extend(self.file(&found.path, &usable));
            }
        }
        findings
    }

    fn file(&self, path: &Path, image: &str) -> Vec<Told> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let key = hasher.finish();
        if lock(&self.good).contains(&key) {
            return Vec::new();
        }
        let mut findings = Vec::new();
        match image_file::check(path, self.decode) {
            Err(error) => {
                findings.push((
                    Rule::ImageUnreadable,
                    format!("image `{image}` {}", error.message),
                    error.hint,
                ));
            }
            Ok((width, height)) => {
                let (short, long) = (width.min(height), width.max(height));
                if u64::from(long) > u64::from(MAX_ASPECT_RATIO) * u64::from(short) {
                    findings.push((
                        Rule::ImageAspect,
                        format!("image `{image}` is {width} x {height}: more than {MAX_ASPECT_RATIO} times as long as wide"),
                        Some("cut it into pieces, or leave it out".to_owned()),
                    ));
                } else if short < SMALL_SIDE {
                    findings.push((
                        Rule::ImageSmall,
                        format!("image `{image}` is only {width} x {height} pixels"),
                        Some("rasterize the page at a higher resolution".to_owned()),
                    ));
                }
            }
        }
        if findings.is_empty() {
            lock(&self.good).insert(key);
        }
        findings
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
