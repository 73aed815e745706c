//! Creating outputs so that nothing half-written is ever seen: write under a temporary name beside
//! the target, sync, rename. What is dropped before `commit` disappears.

mod partial_dir;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub use partial_dir::{PartialDir, clear_unmarked, is_mark, lock_folder, remove_aside, set_aside};

use crate::paths::nearest_sibling;
use crate::{Diagnostic, Result};

/// What to do with an output that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

impl Existing {
    /// As `--force` says.
    pub fn forced(force: bool) -> Self {
        match force {
            true => Self::Replace,
            false => Self::Refuse,
        }
    }
}

/// Refuses an existing output unless it may be replaced. Commands call it before any work.
pub fn check_free(path: &Path, existing: Existing) -> Result<()> {
    if existing == Existing::Refuse && path.exists() {
        return Err(Diagnostic::error("output exists already")
            .at(path)
            .hint("pass `--force` to replace it, or choose another `--out`"));
    }
    Ok(())
}

/// [`check_free`] for an output that is a file: a folder of that name is never replaced.
pub fn check_file(path: &Path, existing: Existing) -> Result<()> {
    if path.is_dir() {
        return Err(Diagnostic::error("the output is a folder, not a file")
            .at(path)
            .hint("name a file in it"));
    }
    check_free(path, existing)
}

/// An output that is a folder may be there, or be a link to one, but not a file.
pub fn check_folder(path: &Path) -> Result<()> {
    if path.is_symlink() && !path.exists() {
        return Err(Diagnostic::error("the output is a link that leads nowhere")
            .at(path)
            .hint("make the folder that it names, or remove the link"));
    }
    if path.exists() && !path.is_dir() {
        return Err(Diagnostic::error("the output is a file, not a folder")
            .at(path)
            .hint("choose another `--out`"));
    }
    Ok(())
}

/// A file being written as `NAME.partial`; [`PartialFile::commit`] gives it its name.
#[derive(Debug)]
pub struct PartialFile {
    target: PathBuf,
    partial: PathBuf,
    writer: Option<BufWriter<File>>,
    committed: bool,
}

/// Of bytes on their way to a file: few calls for many small lines.
const BUFFER: usize = 1 << 17;

impl PartialFile {
    pub fn create(target: &Path, existing: Existing) -> Result<Self> {
        check_file(target, existing)?;
        create_parent(target)?;
        let partial = partial_name(target);
        let file = File::create(&partial).map_err(|e| cannot("create", &partial, e))?;
        Ok(Self {
            target: target.to_path_buf(),
            partial,
            writer: Some(BufWriter::with_capacity(BUFFER, file)),
            committed: false,
        })
    }

    pub fn commit(mut self) -> Result<()> {
        // A full disk may show only now.
        let mut writer = self.writer.take().expect("taken only here and in drop");
        let written = writer.flush().and_then(|()| writer.get_ref().sync_all());
        written.map_err(|e| cannot("write", &self.target, e))?;
        drop(writer);
        fs::rename(&self.partial, &self.target).map_err(|e| cannot("rename", &self.partial, e))?;
        self.committed = true;
        sync_directory(parent_of(&self.target))
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer
            .as_mut()
            .expect("open until commit")
            .write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().expect("open until commit").flush()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // Closed first: Windows removes no open file.
        self.writer = None;
        if !self.committed {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Writes a whole small file atomically, replacing what was there.
pub fn write_atomic(target: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = PartialFile::create(target, Existing::Replace)?;
    file.write_all(bytes)
        .map_err(|e| cannot("write", target, e))?;
    file.commit()
}

fn create_parent(target: &Path) -> Result<()> {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            fs::create_dir_all(parent).map_err(|e| cannot("create", parent, e))
        }
        _ => Ok(()),
    }
}

/// After a rename the directory entry itself must reach the disk (a no-op where unsupported).
fn sync_directory(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir)
            .and_then(|f| f.sync_all())
            .map_err(|e| cannot("sync", dir, e))?;
    }
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

pub(crate) fn partial_name(target: &Path) -> PathBuf {
    with_suffix(target, ".partial")
}

/// `a/b.c` and `.x` make `a/b.c.x`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    // Without a slash at the end, as shells complete folders.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// "cannot VERB" with the system's reason, and the usual advice: for a full or read-only disk, a
/// folder where a file belongs, a name that is nearly there.
pub fn cannot(verb: &str, path: &Path, error: io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("cannot {verb} file or directory"))
        .at(path)
        .caused_by(&error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            diagnostic.hint("free some disk space, or choose another `--out`")
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            diagnostic.hint("choose a path that you may write to")
        }
        io::ErrorKind::IsADirectory => diagnostic.hint("this is a folder: name a file in it"),
        io::ErrorKind::AlreadyExists => diagnostic.hint("a file is there where a folder should be"),
        io::ErrorKind::NotADirectory => diagnostic.hint("a part of this path is a file"),
        // What is to be made has no name yet that could be misspelt.
        io::ErrorKind::NotFound if verb != "create" => match nearest_sibling(path) {
            Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
            None => diagnostic,
        },
        _ => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vlft-base-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_dropped_file_leaves_nothing_and_a_committed_one_its_bytes() {
        let dir = scratch("file");
        let target = dir.join("sub/a.txt");
        let mut file = PartialFile::create(&target, Existing::Refuse).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(!target.exists());
        assert_eq!(fs::read_dir(dir.join("sub")).unwrap().count(), 0);

        write_atomic(&target, b"whole").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        let refused = PartialFile::create(&target, Existing::Refuse).unwrap_err();
        assert_eq!(refused.message(), "output exists already");
        fs::remove_dir_all(dir).unwrap();
    }
}
