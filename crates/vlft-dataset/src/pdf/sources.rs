//! Which documents there are, and what each is called.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use vlft_base::{Diagnostic, Result};
use walkdir::WalkDir;

use super::reject::{Reject, Rule};

pub(crate) struct Document {
    /// Relative to the deepest directory that holds all inputs, with `/`; unique.
    pub(crate) name: String,
    /// As given, for opening and for messages.
    pub(crate) path: PathBuf,
}

#[derive(Default)]
pub(crate) struct Sources {
    /// Sorted by name.
    pub(crate) documents: Vec<Document>,
    /// What looks like a document but cannot be read or named.
    pub(crate) rejects: Vec<Reject>,
    /// Files that are not PDFs.
    pub(crate) other_files: u64,
    /// Links that lead back to a folder above them. What is there is found without them.
    pub(crate) link_circles: u64,
}

/// Finds PDFs. A file that is named is taken whatever its extension; a directory is searched with
/// everything below it, following links. A link that leads back up is no document.
///
/// # Errors
/// Inputs that do not exist, all of them at once.
pub(crate) fn collect(inputs: &[PathBuf]) -> Result<Sources> {
    let roots = roots_of(inputs)?;
    let base = common_directory(&roots)?;
    let mut sources = Sources::default();
    let mut documents: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (input, root) in inputs.iter().zip(&roots) {
        for (path, below_root) in files_of(input, &mut sources) {
            let absolute = root.join(below_root);
            let below_base = absolute.strip_prefix(&base).expect("base holds every root");
            match name_of(below_base) {
                Some(name) => {
                    documents.entry(name).or_insert(path);
                }
                None => sources.rejects.push(Reject::new(
                    &below_base.to_string_lossy(),
                    &path.to_string_lossy(),
                    Rule::Name,
                    "the file name is not valid Unicode",
                )),
            }
        }
    }
    sources.documents = documents
        .into_iter()
        .map(|(name, path)| Document { name, path })
        .collect();
    Ok(sources)
}

/// The canonical directory of each input: itself, or the one that a file is in.
fn roots_of(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut missing: Option<Diagnostic> = None;
    let mut roots = Vec::new();
    for input in inputs {
        match fs::canonicalize(input) {
            Ok(path) if path.is_dir() => roots.push(path),
            Ok(path) => roots.push(
                path.parent()
                    .map_or_else(|| path.clone(), Path::to_path_buf),
            ),
            Err(e) => {
                let error = missing
                    .take()
                    .unwrap_or_else(|| Diagnostic::error("input not found"));
                missing = Some(error.at(input).detail(e.to_string()));
            }
        }
    }
    match missing {
        Some(error) => {
            Err(error.hint("check the paths; they are relative to the working directory"))
        }
        None => Ok(roots),
    }
}

fn common_directory(roots: &[PathBuf]) -> Result<PathBuf> {
    let mut common = roots.first().cloned().unwrap_or_default();
    for root in &roots[1..] {
        while !root.starts_with(&common) {
            if !common.pop() {
                return Err(Diagnostic::error("the inputs are on different drives")
                    .at(&roots[0])
                    .at(root)
                    .hint("rasterize each drive with a command of its own, into an `--out` of its own"));
            }
        }
    }
    Ok(common)
}

/// The PDFs of one input: (path as given, path below the input's root). What is no PDF is counted.
fn files_of(input: &Path, sources: &mut Sources) -> Vec<(PathBuf, PathBuf)> {
    if !input.is_dir() {
        let name = input.file_name().expect("a file that exists has a name");
        return vec![(input.to_path_buf(), PathBuf::from(name))];
    }
    let mut found = Vec::new();
    for entry in WalkDir::new(input).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if is_pdf(entry.path()) => {
                let below = entry
                    .path()
                    .strip_prefix(input)
                    .expect("the walk stays below");
                found.push((entry.path().to_path_buf(), below.to_path_buf()));
            }
            Ok(_) => sources.other_files += 1,
            Err(error) if error.loop_ancestor().is_some() => sources.link_circles += 1,
            Err(error) => {
                let path = error.path().unwrap_or(input).to_string_lossy().into_owned();
                let cause = error
                    .io_error()
                    .map_or_else(|| error.to_string(), |e| e.to_string());
                sources
                    .rejects
                    .push(Reject::new(&path, &path, Rule::Unreadable, cause));
            }
        }
    }
    found
}

/// `*.pdf` in any case; not the `._*.pdf` with which macOS accompanies files on foreign disks.
fn is_pdf(path: &Path) -> bool {
    let is_pdf = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("pdf"));
    let is_fork = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"._"));
    is_pdf && !is_fork
}

/// With `/` on every system; `None` if a part is not Unicode.
fn name_of(relative: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = relative
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    Some(parts?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        dir
    }

    fn names(inputs: &[PathBuf]) -> Vec<String> {
        collect(inputs)
            .unwrap()
            .documents
            .into_iter()
            .map(|d| d.name)
            .collect()
    }

    #[test]
    fn documents_are_named_from_the_deepest_common_directory() {
        let dir = tree(&["a/1.pdf", "a/x/2.PDF", "b/1.pdf", "b/n.txt", "b/._1.pdf"]);
        let at = |path: &str| dir.path().join(path);
        assert_eq!(names(&[at("a")]), ["1.pdf", "x/2.PDF"]);
        assert_eq!(names(&[at("a/x/../1.pdf")]), ["1.pdf"]);
        assert_eq!(
            names(&[at("a"), at("b")]),
            ["a/1.pdf", "a/x/2.PDF", "b/1.pdf"]
        );
        // The same file twice is one document; a named file needs no extension.
        assert_eq!(
            names(&[at("b"), at("b/1.pdf"), at("b/n.txt")]),
            ["1.pdf", "n.txt"]
        );
        assert_eq!(collect(&[at("b")]).unwrap().other_files, 2);
    }

    #[test]
    fn all_missing_inputs_are_named_at_once() {
        let dir = tree(&["a.pdf"]);
        let at = |path: &str| dir.path().join(path);
        let error = collect(&[at("no"), at("a.pdf"), at("neither")])
            .err()
            .unwrap();
        assert_eq!(error.places().len(), 2);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_unicode_are_rejected_not_mangled() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree(&["a.pdf"]);
        fs::write(
            dir.path().join(std::ffi::OsStr::from_bytes(b"b\xff.pdf")),
            b"x",
        )
        .unwrap();
        let sources = collect(&[dir.path().into()]).unwrap();
        assert_eq!(sources.documents.len(), 1);
        assert_eq!(
            (sources.rejects.len(), sources.rejects[0].rule),
            (1, Rule::Name)
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_circles_are_counted_apart() {
        let dir = tree(&["real/a.pdf", "in/b.pdf"]);
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(dir.path().join(to), dir.path().join(name)).unwrap()
        };
        link("real", "in/linked");
        link("in", "in/circle");
        let sources = collect(&[dir.path().join("in")]).unwrap();
        let names: Vec<_> = sources.documents.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["b.pdf", "linked/a.pdf"]);
        assert_eq!((sources.link_circles, sources.rejects.len()), (1, 0));
    }
}
