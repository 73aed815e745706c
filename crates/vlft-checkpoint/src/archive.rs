//! Adapters as people send them: `.tgz` and `.tar.gz`, unpacked into a temporary folder. Only plain
//! files with plain names are taken out, and not more of them than an adapter has.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::Archive;
use tempfile::TempDir;
use vlft_base::format::bytes;
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

use crate::serving::quoted;

/// Where an adapter lies in an archive. What it was unpacked into for now goes away, and no server takes
/// archives: whoever serves it unpacks it again, to stay.
#[derive(Clone, Debug)]
pub struct Packed {
    pub archive: PathBuf,
    /// The folder in the archive; empty: its top.
    pub inside: PathBuf,
}

impl Packed {
    /// Where the adapter lies after [`Self::command`].
    pub fn unpacked(&self) -> PathBuf {
        match self.inside.as_os_str().is_empty() {
            true => self.beside(),
            false => self.beside().join(&self.inside),
        }
    }

    /// Unpacks all of it beside the archive, for a shell.
    pub fn command(&self) -> String {
        let (archive, folder) = (self.archive.display(), self.beside());
        let (archive, folder) = (archive.to_string(), folder.display().to_string());
        let (archive, folder) = (quoted(&archive), quoted(&folder));
        format!("mkdir -p {folder} && tar -xzf {archive} -C {folder}")
    }

    /// The archive's name without its ending.
    fn beside(&self) -> PathBuf {
        let name = self.archive.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let lower = name.to_lowercase();
        let ending = ENDINGS.into_iter().find(|end| lower.ends_with(end));
        let stem = &name[..name.len() - ending.map_or(0, str::len)];
        self.archive.with_file_name(stem)
    }
}

const ENDINGS: [&str; 2] = [".tgz", ".tar.gz"];

/// An adapter's folder; that of an archive goes away with this value.
pub struct Unpacked {
    path: PathBuf,
    archive: Option<Packed>,
    _temporary: Option<TempDir>,
}

impl Unpacked {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was unpacked from, if it was.
    pub fn archive(&self) -> Option<&Packed> {
        self.archive.as_ref()
    }

    /// An error about a file in here: where the temporary folder came from.
    pub fn told(&self, error: Diagnostic) -> Diagnostic {
        match &self.archive {
            Some(Packed { archive, .. }) => {
                error.caused_by(format!("it was unpacked from `{}`", archive.display()))
            }
            None => error,
        }
    }
}

/// The largest adapter that is unpacked: rank 512 on every layer of the 32B has 17 GB.
const MOST_BYTES: u64 = 32 << 30;
const MOST_ENTRIES: usize = 10_000;

/// The folder itself, or what an archive holds.
///
/// # Errors
/// An entry that would leave the folder, is a link, or stands twice; more than any adapter has; no
/// `adapter_config.json`, or several.
pub fn unpacked(path: &Path) -> Result<Unpacked> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let is_archive = ENDINGS.iter().any(|end| name.ends_with(end));
    if !path.is_file() || !is_archive {
        if path.is_file() {
            return Err(
                Diagnostic::error("an adapter is a folder or a `.tgz` of one")
                    .at(path)
                    .hint("name the folder with adapter_config.json"),
            );
        }
        return Ok(Unpacked {
            path: path.to_path_buf(),
            archive: None,
            _temporary: None,
        });
    }
    let temporary = tempfile::Builder::new().prefix("vlft-adapter-").tempdir();
    let temporary = temporary.map_err(|e| cannot("create", &std::env::temp_dir(), e))?;
    let mut configs = extract(path, temporary.path())?;
    let adapter = configs
        .pop()
        .filter(|_| configs.is_empty())
        .ok_or_else(|| {
            Diagnostic::error("the archive does not hold one adapter")
                .at(path)
                .expected("one `adapter_config.json`")
                .found(match configs.len() {
                    0 => "none".to_string(),
                    n => (n + 1).to_string(),
                })
        })?;
    let inside = adapter.strip_prefix(temporary.path()).unwrap_or(&adapter);
    // Without the `./` that many archives begin with.
    let parts = inside
        .components()
        .filter(|p| matches!(p, Component::Normal(_)));
    let packed = Packed {
        archive: path.to_path_buf(),
        inside: parts.collect(),
    };
    Ok(Unpacked {
        path: adapter,
        archive: Some(packed),
        _temporary: Some(temporary),
    })
}

/// Returns the folders that hold an `adapter_config.json`.
fn extract(path: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    let damaged = |e: io::Error| {
        Diagnostic::error("the archive is damaged or cut short")
            .at(path)
            .caused_by(e)
    };
    let bad = |message: &str, entry: &Path| {
        Err(Diagnostic::error(message.to_string())
            .at(path)
            .detail(format!("entry `{}`", entry.display())))
    };
    let file = input::open(path).map_err(|e| cannot("read", path, e))?;
    let mut archive = Archive::new(GzDecoder::new(io::BufReader::new(file)));
    let (mut left, mut configs) = (MOST_BYTES, Vec::new());
    for (index, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() || matches!(kind.as_byte(), b'g' | b'x') {
            continue;
        }
        if !kind.is_file() {
            return bad("the archive has an entry that is no file", &name);
        }
        let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if !name.components().all(plain) || name.file_name().is_none() {
            return bad("an entry leaves the output directory", &name);
        }
        if index >= MOST_ENTRIES || entry.size() > left {
            return Err(Diagnostic::error("the archive is larger than any adapter")
                .at(path)
                .expected(format!(
                    "at most {} in {MOST_ENTRIES} files",
                    bytes(MOST_BYTES)
                )));
        }
        left -= entry.size();
        let target = to.join(&name);
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent).map_err(|e| cannot("create", parent, e))?;
        let created = File::options().write(true).create_new(true).open(&target);
        let Ok(mut created) = created else {
            return bad("an entry stands twice in the archive", &name);
        };
        let size = entry.size();
        let copied = io::copy(&mut entry.by_ref().take(size), &mut created);
        if copied.map_err(damaged)? != size {
            return bad("the archive is cut short", &name);
        }
        if target
            .file_name()
            .is_some_and(|n| n == "adapter_config.json")
        {
            configs.push(parent.to_path_buf());
        }
    }
    // Whether it is whole, the checksum at the very end says.
    let mut rest = archive.into_inner().take(MOST_BYTES);
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
    Ok(configs)
}
