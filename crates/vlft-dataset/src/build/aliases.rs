//! The alias file: which pages a document of the labels has, where its name does not say. A person
//! writes it, from the lines that an earlier run suggested.
//!
//! ```toml
//! version = 1
//! [aliases]
//! "INV 17 copy.pdf" = "INV_0017"                        # the document as the images are named
//! "INV 18.pdf" = ["scans/x1.png", "scans/x2.png"]       # these images, in this order
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

use super::images::{Images, PageFault, Reading};
use super::mapping::explain_toml;
use super::names::{Pattern, stem};
use crate::jsonl::shown;

/// The version of the format that this program reads.
pub const VERSION: u32 = 1;

/// The file as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aliases {
    /// The version of this format: 1.
    pub version: u32,
    /// A document as the labels name it -> its pages: the name of a document as the manifest or the
    /// images have it (with folders in front if needed), one image, or a list of images in page
    /// order. Images are named by the end of their path.
    #[serde(default)]
    pub aliases: BTreeMap<String, Alias>,
}

/// One name, or a list of images.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Alias {
    Name(String),
    Images(Vec<String>),
}

/// By hand: what `untagged` says of a wrong value names no key.
impl<'de> Deserialize<'de> for Alias {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Alias;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a document or a list of images")
            }
            fn visit_str<E>(self, name: &str) -> Result<Alias, E> {
                Ok(Alias::Name(name.to_owned()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Alias, A::Error> {
                let mut images = Vec::new();
                while let Some(image) = seq.next_element()? {
                    images.push(image);
                }
                Ok(Alias::Images(images))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Aliases {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = input::read_to_string(path).map_err(|e| cannot("read", path, e))?;
        Self::parse(&text, path)
    }

    /// `path` is only named in messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let aliases: Self = toml::from_str(text).map_err(|e| explain_toml(&e, text, path))?;
        match aliases.version {
            VERSION => Ok(aliases),
            other => Err(Diagnostic::error(
                "the aliases have a version that this vlft does not read",
            )
            .at(path)
            .expected(format!("`version = {VERSION}`"))
            .found(format!("`version = {other}`"))),
        }
    }

    /// The reading that each alias means, by the index of its label; what cannot be followed is told,
    /// all of it at once. Readings that only an alias makes are added to `images`.
    pub(crate) fn resolve(
        &self,
        path: &Path,
        labels: &[String],
        images: &mut Images,
    ) -> Result<BTreeMap<usize, usize>> {
        let mut resolved = BTreeMap::new();
        let mut problems = Vec::new();
        let mut users: BTreeMap<usize, &String> = BTreeMap::new();
        for (label, alias) in &self.aliases {
            let problem =
                |why: String| Diagnostic::error(why).at(path).detail(format!("`{label}`"));
            let Some(index) = labels.iter().position(|known| known == label) else {
                problems.push(
                    problem("an alias of no document of the labels".to_owned())
                        .hint("the name must be written as in the labels, to the letter"),
                );
                continue;
            };
            let reading = match alias {
                Alias::Name(name) => named(name, images),
                Alias::Images(names) => listed(names, images),
            };
            match reading {
                Ok(reading) => {
                    let taken = images.readings[reading].files.iter();
                    let other = taken.clone().find_map(|file| users.get(file));
                    if let Some(other) = other {
                        problems.push(problem(format!("an alias for the pages of `{other}`")));
                    }
                    users.extend(taken.map(|file| (*file, label)));
                    resolved.insert(index, reading);
                }
                Err(why) => problems.push(problem(why)),
            }
        }
        match Diagnostic::all(problems) {
            Some(error) => Err(error),
            None => Ok(resolved),
        }
    }
}

/// A document by its name, or an image by the end of its path. There must be one, and it must be
/// whole.
fn named(name: &str, images: &mut Images) -> Result<usize, String> {
    let found: Vec<usize> = (0..images.readings.len())
        .filter(|&r| is_called(&images.readings[r], name))
        .collect();
    // `a` as a name beats `a` as what is left of `a_1`: an alias is meant to the letter.
    let whole: Vec<usize> = found
        .iter()
        .copied()
        .filter(|&r| images.readings[r].is_whole())
        .collect();
    match (&whole[..], &found[..]) {
        ([one], _) => Ok(*one),
        ([], []) => listed(&[name.to_owned()], images)
            .map_err(|_| format!("no document and no image is called `{name}`")),
        ([], _) => Err(format!("the pages of `{name}` are not whole")),
        (several, _) => {
            let files: Vec<String> = several
                .iter()
                .filter_map(|&r| images.readings[r].files.first())
                .map(|&file| format!("`{}`", shown(&images.files[file])))
                .collect();
            Err(format!(
                "`{name}` could be {}; list the images instead",
                files.join(" or ")
            ))
        }
    }
}

fn is_called(reading: &Reading, name: &str) -> bool {
    let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
    let lies = folder.is_empty()
        || reading.folder == folder
        || reading.folder.ends_with(&format!("/{folder}"));
    let named = reading.name == base
        || (reading.pattern == Pattern::Manifest && stem(&reading.name) == base);
    lies && named
}

/// These images as a document of their own.
fn listed(names: &[String], images: &mut Images) -> Result<usize, String> {
    let mut files = Vec::new();
    for name in names {
        let wanted = Path::new(name);
        let found: Vec<usize> = (0..images.files.len())
            .filter(|&file| images.files[file].ends_with(wanted))
            .collect();
        match found[..] {
            [file] if files.contains(&file) => return Err(format!("`{name}` is listed twice")),
            [file] => files.push(file),
            [] => return Err(format!("no image is called `{name}`")),
            _ => {
                return Err(format!(
                    "{} images are called `{name}`; write more of the path",
                    found.len()
                ));
            }
        }
    }
    let Some(&first) = files.first() else {
        return Err("an alias with an empty list".to_owned());
    };
    // Pages that a manifest knows keep their numbers and their source.
    let known = images
        .readings
        .iter()
        .find(|r| r.pattern == Pattern::Manifest && files.iter().all(|f| r.files.contains(f)));
    let pages = match known {
        Some(known) => {
            let page = |file| known.files.iter().position(|f| f == file);
            files
                .iter()
                .filter_map(page)
                .map(|at| known.pages[at])
                .collect()
        }
        None => (1..=files.len() as u32).collect(),
    };
    let reading = Reading {
        name: images.files[first]
            .file_stem()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default(),
        folder: String::new(),
        root: 0,
        pattern: Pattern::Listed,
        pages,
        source_sha256: known.and_then(|k| k.source_sha256.clone()),
        fault: None::<PageFault>,
        files,
    };
    images.readings.push(reading);
    Ok(images.readings.len() - 1)
}

/// A line for the alias file.
pub(crate) fn line(label: &str, alias: &str) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    format!("{} = {}", quoted(label), quoted(alias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::images::{add_loose, document};

    fn images() -> Images {
        let mut images = Images::default();
        document(&mut images, "INV_0017.pdf", 2);
        let loose = ["x/b_1.png", "y/b_1.png", "x/c_1.png", "x/c_3.png", "d.png"];
        let loose = loose.iter().map(|f| Path::new("p").join(f)).collect();
        add_loose(&mut images, 0, Path::new("p"), loose);
        images
    }

    fn resolved(text: &str) -> Result<Vec<Vec<String>>> {
        let path = Path::new("a.toml");
        let aliases = Aliases::parse(&format!("version = 1\n[aliases]\n{text}"), path)?;
        let mut images = images();
        let labels = ["A.pdf".to_owned(), "B.pdf".to_owned()];
        let found = aliases.resolve(path, &labels, &mut images)?;
        let files = |reading: &usize| {
            let files = images.readings[*reading].files.iter();
            files.map(|f| shown(&images.files[*f])).collect()
        };
        Ok(found.values().map(files).collect())
    }

    #[test]
    fn an_alias_means_one_document_or_these_images() {
        for (text, expected) in [
            (
                "'A.pdf' = 'INV_0017'",
                &["INV_0017.pdf-1", "INV_0017.pdf-2"][..],
            ),
            (
                "'A.pdf' = 'INV_0017.pdf'",
                &["INV_0017.pdf-1", "INV_0017.pdf-2"],
            ),
            ("'A.pdf' = 'x/b'", &["p/x/b_1.png"]),
            ("'A.pdf' = 'y/b_1.png'", &["p/y/b_1.png"]),
            ("'A.pdf' = 'd'", &["p/d.png"]),
            (
                "'A.pdf' = ['x/c_3.png', 'c_1.png']",
                &["p/x/c_3.png", "p/x/c_1.png"],
            ),
        ] {
            assert_eq!(resolved(text).unwrap(), [expected], "{text}");
        }
        for (text, expected) in [
            ("'Z.pdf' = 'd'", "an alias of no document of the labels"),
            (
                "'A.pdf' = 'INV_001'",
                "no document and no image is called `INV_001`",
            ),
            ("'A.pdf' = 'c'", "the pages of `c` are not whole"),
            (
                "'A.pdf' = 'b'",
                "`b` could be `p/x/b_1.png` or `p/y/b_1.png`; list the images instead",
            ),
            (
                "'A.pdf' = ['b_1.png']",
                "2 images are called `b_1.png`; write more of the path",
            ),
            ("'A.pdf' = ['d.png', 'd.png']", "`d.png` is listed twice"),
            ("'A.pdf' = []", "an alias with an empty list"),
            (
                "'A.pdf' = 'd'\n'B.pdf' = 'd.png'",
                "an alias for the pages of `A.pdf`",
            ),
            ("'A.pdf' = 7", "invalid type: integer `7`"),
        ] {
            assert_eq!(resolved(text).unwrap_err().message(), expected, "{text}");
        }
        let newer = Aliases::parse("version = 2", Path::new("a.toml")).unwrap_err();
        assert!(newer.message().contains("a version"));
    }

    #[test]
    fn a_suggested_line_can_be_fed_back() {
        for (label, alias) in [("a \"b\".pdf", "x\\y"), ("é.PDF", "(S)A CO.LTD.")] {
            let text = format!("version = 1\n[aliases]\n{}\n", line(label, alias));
            let aliases = Aliases::parse(&text, Path::new("a.toml")).unwrap();
            assert_eq!(aliases.aliases[label], Alias::Name(alias.to_owned()));
        }
    }
}
