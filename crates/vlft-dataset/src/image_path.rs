//! Image paths of records: relative to the JSONL file, with `/` on every system. Finding the file
//! that one means, making one for a file, and moving one along when its JSONL file is written
//! somewhere else.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

use crate::jsonl::shown;
use crate::record::{Part, Record};

/// The file that an image path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    /// It is not there relative to the JSONL file, only relative to the working directory. Such a
    /// dataset breaks as soon as it is used from elsewhere: warn.
    pub elsewhere: bool,
    /// The size of the file.
    pub bytes: u64,
}

/// Looks beside the JSONL file first, then in the working directory. `base` is the directory of the
/// JSONL file.
pub fn find(base: &Path, image: &str) -> Option<Found> {
    let file = |path: PathBuf, elsewhere| {
        let is = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some(Found {
            path,
            elsewhere,
            bytes: is.len(),
        })
    };
    file(beside(base, image), false).or_else(|| {
        let here = PathBuf::from(image);
        here.is_relative().then(|| file(here, true)).flatten()
    })
}

/// The path of an image beside the JSONL file; in the working directory without `./` in front.
pub(crate) fn beside(base: &Path, image: &str) -> PathBuf {
    match base == Path::new(".") {
        true => PathBuf::from(image),
        false => base.join(image),
    }
}

/// A path for people: `splits/../pages/a.png` is `pages/a.png`. Not for opening files; a directory
/// that is a link leads elsewhere.
pub(crate) fn shown_short(path: &Path) -> String {
    let text = shown(path);
    let mut steps: Vec<&str> = Vec::new();
    for step in text.split('/') {
        match (step, steps.last()) {
            ("..", Some(last)) if !["..", ".", ""].contains(last) => {
                steps.pop();
            }
            _ => steps.push(step),
        }
    }
    steps.join("/")
}

/// The path as it should be written: with `/`.
pub fn slashed(image: &str) -> String {
    image.replace('\\', "/")
}

/// The directory that the image paths of a JSONL file are relative to.
pub fn base_of(jsonl: &Path) -> &Path {
    match jsonl.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes image paths for files, relative to one directory.
pub struct Relative {
    from: PathBuf,
    /// Directories of images, already made relative.
    known: HashMap<PathBuf, String>,
}

impl Relative {
    /// `from` must exist.
    pub fn to(from: &Path) -> Result<Self> {
        Ok(Self {
            from: from.canonicalize().map_err(|e| cannot("read", from, e))?,
            known: HashMap::new(),
        })
    }

    /// The image path of an existing file.
    pub fn path(&mut self, file: &Path) -> Result<String> {
        let unnameable = || {
            Diagnostic::error("the file name is not Unicode, so JSON cannot hold it")
                .at(file)
                .hint("rename the file")
        };
        let name = file
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(unnameable)?;
        let directory = base_of(file);
        if !self.known.contains_key(directory) {
            let whole = directory
                .canonicalize()
                .map_err(|e| cannot("read", directory, e))?;
            let relative = between(&self.from, &whole).ok_or_else(|| {
                Diagnostic::error("the image has no path relative to the output")
                    .at(file)
                    .hint("keep images and JSONL files on one drive, under Unicode names")
            })?;
            self.known.insert(directory.to_owned(), relative);
        }
        Ok(join(&self.known[directory], name))
    }
}

/// Rewrites the image paths of records for a JSONL file in another directory.
pub struct Rebase {
    same: bool,
    base: PathBuf,
    /// From the new directory to the old one.
    to_base: String,
    /// From the new directory to the working directory, for images that are only found there.
    to_here: String,
    /// There are none of those: nothing need be looked for.
    all_beside: bool,
}

impl Rebase {
    /// Both directories must exist.
    pub fn new(old: &Path, new: &Path) -> Result<Self> {
        let whole = |path: &Path| path.canonicalize().map_err(|e| cannot("read", path, e));
        let (old_whole, new_whole, here) = (whole(old)?, whole(new)?, whole(Path::new("."))?);
        let path = |to: &Path| {
            between(&new_whole, to).ok_or_else(|| {
                Diagnostic::error("no relative path leads from the new file to the images")
                    .at(new)
                    .hint("write it on the drive that holds the images")
            })
        };
        Ok(Self {
            same: old_whole == new_whole,
            base: old.to_path_buf(),
            to_base: path(&old_whole)?,
            to_here: path(&here)?,
            all_beside: false,
        })
    }

    /// For images of which it is known that none is found only from the working directory.
    pub(crate) fn all_beside(self) -> Self {
        Self {
            all_beside: true,
            ..self
        }
    }

    /// The path of the same image for the new file. Absolute paths and images that are nowhere stay.
    pub fn image(&self, image: &str) -> String {
        if Path::new(image).is_absolute() {
            return image.to_owned();
        }
        let found = (!self.all_beside).then(|| find(&self.base, image));
        match found.flatten() {
            Some(found) if found.elsewhere => join(&self.to_here, image),
            _ if self.same => image.to_owned(),
            _ => join(&self.to_base, image),
        }
    }

    pub fn record(&self, record: &mut Record) {
        for part in record.messages.iter_mut().flat_map(|m| &mut m.content) {
            if let Part::Image(path) = part {
                *path = self.image(path);
            }
        }
    }
}

/// The way from one absolute directory to another, with `/`; empty when they are the same. `None`
/// between drives, and when a name is not Unicode.
fn between(from: &Path, to: &Path) -> Option<String> {
    let from: Vec<Component<'_>> = from.components().collect();
    let to: Vec<Component<'_>> = to.components().collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return None;
    }
    let mut steps = vec![".."; from.len() - common];
    for component in &to[common..] {
        steps.push(component.as_os_str().to_str()?);
    }
    Some(steps.join("/"))
}

/// The way from one absolute directory to a file or directory elsewhere, as [`between`].
pub(crate) fn way_to(from: &Path, to: &Path) -> Option<String> {
    between(from, to).map(|way| match way.is_empty() {
        true => ".".to_owned(),
        false => way,
    })
}

/// Joins with `/` and lets `a/..` vanish where the two meet: what stands before is a real directory.
fn join(before: &str, path: &str) -> String {
    let mut head: Vec<&str> = before.split('/').filter(|s| !s.is_empty()).collect();
    let mut tail = path;
    loop {
        if let Some(rest) = tail.strip_prefix("./") {
            tail = rest;
        } else if let (Some(rest), Some(last)) = (tail.strip_prefix("../"), head.last())
            && *last != ".."
        {
            head.pop();
            tail = rest;
        } else {
            break;
        }
    }
    head.push(tail);
    head.join("/")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn paths_lead_from_the_jsonl_file_to_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("data/pages")).unwrap();
        fs::create_dir_all(root.join("scans")).unwrap();
        for file in ["data/pages/a.png", "scans/b ä.png", "data/c.png"] {
            fs::write(root.join(file), b"x").unwrap();
        }
        let mut relative = Relative::to(&root.join("data")).unwrap();
        for (file, expected) in [
            ("data/pages/a.png", "pages/a.png"),
            ("data/pages/../c.png", "c.png"),
            ("scans/b ä.png", "../scans/b ä.png"),
        ] {
            assert_eq!(relative.path(&root.join(file)).unwrap(), expected);
        }
        let found = find(&root.join("data"), "../scans/b ä.png").unwrap();
        assert!(!found.elsewhere);
        assert_eq!(find(&root.join("data"), "a.png"), None);

        fs::create_dir_all(root.join("data/splits")).unwrap();
        let down = Rebase::new(&root.join("data"), &root.join("data/splits")).unwrap();
        assert_eq!(down.image("pages/a.png"), "../pages/a.png");
        assert_eq!(down.image("../scans/b ä.png"), "../../scans/b ä.png");
        let up = Rebase::new(&root.join("data/splits"), &root.join("data")).unwrap();
        assert_eq!(up.image("../pages/a.png"), "pages/a.png");
        assert_eq!(up.image("../../scans/b ä.png"), "../scans/b ä.png");
        let same = Rebase::new(&root.join("data"), &root.join("scans/../data")).unwrap();
        assert_eq!(same.image("./pages/a.png"), "./pages/a.png");
        assert_eq!(down.image("/x/a.png"), "/x/a.png");

        for (path, short) in [
            ("a/b/../c.png", "a/c.png"),
            ("../a/../../c.png", "../../c.png"),
            ("/../c", "/../c"),
        ] {
            assert_eq!(shown_short(Path::new(path)), short);
        }
    }
}
