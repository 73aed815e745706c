//! Images on both sides: what an address in a foreign file means, where its file is, and what becomes
//! of it in the target: a path relative to the output, a copy beside it named by its content, or bytes
//! inside the output.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use image::{ImageFormat, ImageReader};
use vlft_base::output::{Existing, PartialDir, cannot};
use vlft_base::{Diagnostic, Result, digest, input};
use vlft_dataset::image_limits::{MAX_FILE_BYTES, MAX_PIXELS, decoder_limits, is_accepted};
use vlft_dataset::image_path::{self, Relative};
use vlft_dataset::json::Step;
use vlft_dataset::jsonl::shown;

use crate::fields::Fallible;
use crate::rules::{IMAGE_MISSING, IMAGE_UNREADABLE, IMAGE_URL};
use crate::sample::{Image, Refusal};

/// A path, an address on the web, or a data URL, which is decoded.
pub(crate) fn from_address(address: &str, path: &[Step]) -> Fallible<Image> {
    let starts = |with: &str| {
        address
            .get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if starts("data:") {
        let Some((head, data)) = address.split_once(',') else {
            return Err(Refusal::new(IMAGE_UNREADABLE, "a data URL without a comma").at(path));
        };
        if !head.to_ascii_lowercase().ends_with(";base64") {
            return Err(Refusal::new(IMAGE_UNREADABLE, "a data URL that is not base64").at(path));
        }
        return from_base64(data.as_bytes(), None, path);
    }
    if let Some(local) = address.strip_prefix("file://") {
        return Ok(Image::Path(local.to_owned()));
    }
    match address.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Ok(Image::Url(address.to_owned()))
        }
        _ => Ok(Image::Path(address.to_owned())),
    }
}

pub(crate) fn from_base64(data: &[u8], name: Option<String>, path: &[Step]) -> Fallible<Image> {
    let data = data.trim_ascii_end();
    let bytes = STANDARD
        .decode(data)
        .or_else(|e| STANDARD_NO_PAD.decode(data).map_err(|_| e))
        .map_err(|e| {
            let reason = format!("the base64 of an image is damaged: {e}");
            Refusal::new(IMAGE_UNREADABLE, reason).at(path)
        })?;
    Ok(Image::Bytes { bytes, name })
}

/// What the first bytes say an image file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) format: ImageFormat,
    pub(crate) extension: &'static str,
    pub(crate) mime: &'static str,
}

/// PNG, JPEG or WebP of a size that the rest of the program takes; only the header is read.
pub(crate) fn kind(bytes: &[u8]) -> std::result::Result<Kind, String> {
    let format = match image::guess_format(bytes) {
        Ok(format) if is_accepted(format) => format,
        Ok(other) => {
            return Err(format!(
                "is {}, not PNG, JPEG or WebP",
                other.to_mime_type()
            ));
        }
        Err(_) if bytes.is_empty() => return Err("is empty".into()),
        Err(_) => return Err("is no PNG, JPEG or WebP".into()),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(decoder_limits());
    let (width, height) = reader
        .into_dimensions()
        .map_err(|e| format!("cannot be decoded: {e}"))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("is {width} x {height} pixels"));
    }
    let (extension, mime) = match format {
        ImageFormat::Jpeg => ("jpg", "image/jpeg"),
        ImageFormat::WebP => ("webp", "image/webp"),
        _ => ("png", "image/png"),
    };
    Ok(Kind {
        format,
        extension,
        mime,
    })
}

/// Where the files are that relative paths of the source mean.
pub(crate) struct Finder {
    base: PathBuf,
    folders: Vec<PathBuf>,
    /// Images that were found in the working directory only.
    elsewhere: AtomicU64,
}

impl Finder {
    /// Beside the source first, then in `folders`, then in the working directory.
    pub(crate) fn new(base: &Path, folders: &[PathBuf]) -> Self {
        Self {
            base: base.to_path_buf(),
            folders: folders.to_vec(),
            elsewhere: AtomicU64::new(0),
        }
    }

    pub(crate) fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Ordering::Relaxed)
    }

    pub(crate) fn file(&self, image: &str) -> Fallible<PathBuf> {
        self.look_for(image)
            .or_else(|| match image.contains('\\') {
                // Written on Windows.
                true => self.look_for(&image_path::slashed(image)),
                false => None,
            })
            .ok_or_else(|| {
                let mut reason = format!("image not found: `{image}`");
                if !self.folders.is_empty() {
                    reason.push_str(" (nor in `--images`)");
                }
                Refusal::new(IMAGE_MISSING, reason)
            })
    }

    fn look_for(&self, image: &str) -> Option<PathBuf> {
        // A NUL or an empty path names no file; joined, an empty one would name the folder.
        if image.is_empty() {
            return None;
        }
        let found = image_path::find(&self.base, image);
        if let Some(found) = found.as_ref().filter(|found| !found.elsewhere) {
            return Some(found.path.clone());
        }
        let inside = self.folders.iter().map(|folder| folder.join(image));
        if let Some(path) = inside.into_iter().find(|path| path.is_file()) {
            return Some(path);
        }
        let found = found?;
        self.elsewhere.fetch_add(1, Ordering::Relaxed);
        Some(found.path)
    }

    /// The image's bytes and what they are.
    pub(crate) fn bytes<'a>(&self, image: &'a Image) -> Fallible<(Cow<'a, [u8]>, Kind)> {
        match image {
            Image::Url(address) => Err(no_download(address)),
            Image::Bytes { bytes, name } => {
                let kind = kind(bytes).map_err(|why| {
                    let called = name.as_deref().map(|name| format!(" `{name}`"));
                    let called = called.unwrap_or_default();
                    Refusal::new(
                        IMAGE_UNREADABLE,
                        format!("an image inside the file{called} {why}"),
                    )
                })?;
                Ok((Cow::Borrowed(bytes), kind))
            }
            Image::Path(path) => {
                let file = self.file(path)?;
                let unreadable =
                    |why: String| Refusal::new(IMAGE_UNREADABLE, format!("image `{path}` {why}"));
                let bytes = read(&file).map_err(|e| unreadable(format!("cannot be read: {e}")))?;
                let kind = kind(&bytes).map_err(unreadable)?;
                Ok((Cow::Owned(bytes), kind))
            }
        }
    }
}

pub(crate) fn no_download(address: &str) -> Refusal {
    let start: String = address.chars().take(80).collect();
    Refusal::new(
        IMAGE_URL,
        format!("image `{start}` is on the web; download it first, nothing is fetched here"),
    )
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input::open(file)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How the images of a target that names files get their paths.
pub(crate) struct Paths {
    finder: Finder,
    relative: Mutex<Relative>,
    /// Every image is copied, not only those that were inside the source.
    copy: bool,
    folder: Folder,
}

/// `NAME-images` beside the output, made when the first image needs it.
struct Folder {
    target: PathBuf,
    name: String,
    existing: Existing,
    dry_run: bool,
    open: Mutex<Option<PartialDir>>,
    known: Mutex<HashSet<String>>,
    /// The first file that could not be written. It is no fault of a record, and ends the run.
    failure: Mutex<Option<Diagnostic>>,
}

impl Paths {
    /// `out` is the output file; its folder must exist, but not for a dry run.
    pub(crate) fn new(
        finder: Finder,
        out: &Path,
        copy: bool,
        existing: Existing,
        dry_run: bool,
    ) -> Result<Self> {
        let target = images_folder(out);
        let name = target.file_name().and_then(|name| name.to_str());
        let mut base = image_path::base_of(out);
        if dry_run {
            // Its paths are written nowhere: any folder on the way will do.
            let there = base.ancestors().find(|folder| folder.is_dir());
            base = there.unwrap_or(Path::new("."));
        }
        Ok(Self {
            relative: Mutex::new(Relative::to(base)?),
            finder,
            copy,
            folder: Folder {
                name: name.unwrap_or("images").to_owned(),
                target,
                existing,
                dry_run,
                open: Mutex::new(None),
                known: Mutex::new(HashSet::new()),
                failure: Mutex::new(None),
            },
        })
    }

    pub(crate) fn finder(&self) -> &Finder {
        &self.finder
    }

    /// The path to write for an image.
    pub(crate) fn path(&self, image: &Image) -> Fallible<String> {
        match image {
            Image::Path(path) if !self.copy => {
                let file = self.finder.file(path)?;
                let mut relative = self.relative.lock().expect("no thread panics with it");
                relative.path(&file).map_err(|problem| {
                    Refusal::new(IMAGE_MISSING, format!("image `{path}`: {problem}"))
                })
            }
            _ => {
                let (bytes, kind) = self.finder.bytes(image)?;
                Ok(self.folder.keep(&bytes, kind))
            }
        }
    }

    /// A full disk or the like, met while an image was copied.
    pub(crate) fn failure(&self) -> Option<Diagnostic> {
        let mut failure = self
            .folder
            .failure
            .lock()
            .expect("no thread panics with it");
        failure.take()
    }

    /// How many files were written beside the output.
    pub(crate) fn written(&self) -> u64 {
        self.folder
            .known
            .lock()
            .expect("no thread panics with it")
            .len() as u64
    }

    /// Gives the folder of images its name, and says which it is if there is one.
    pub(crate) fn commit(self) -> Result<Option<String>> {
        let open = self
            .folder
            .open
            .into_inner()
            .expect("no thread panics with it");
        let Some(open) = open else {
            return Ok(None);
        };
        open.commit()?;
        Ok(Some(shown(&self.folder.target)))
    }
}

/// The folder of images that belongs to an output: `a/train.jsonl` -> `a/train-images`.
pub(crate) fn images_folder(out: &Path) -> PathBuf {
    let mut name = out.file_stem().unwrap_or_default().to_owned();
    name.push("-images");
    out.with_file_name(name)
}

impl Folder {
    /// Writes the image under the hash of its bytes, once.
    fn keep(&self, bytes: &[u8], kind: Kind) -> String {
        let hash = digest::sha256(bytes);
        let file = format!("{}.{}", &hash[..32], kind.extension);
        let path = format!("{}/{file}", self.name);
        let new = self
            .known
            .lock()
            .expect("no thread panics with it")
            .insert(file.clone());
        if new
            && !self.dry_run
            && let Err(problem) = self.write(&file, bytes)
        {
            let mut failure = self.failure.lock().expect("no thread panics with it");
            failure.get_or_insert(problem);
        }
        path
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = {
            let mut open = self.open.lock().expect("no thread panics with it");
            if open.is_none() {
                *open = Some(PartialDir::create(&self.target, self.existing)?);
            }
            let folder = open.as_ref().expect("made above");
            folder.path().join(file)
        };
        fs::write(&path, bytes).map_err(|e| cannot("write", &path, e))
    }
}
