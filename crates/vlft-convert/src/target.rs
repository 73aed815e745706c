//! The output: records go in one after the other and come out under the output's name when all are
//! there. With a dry run everything is made and nothing is kept.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use vlft_base::output::{Existing, PartialDir, PartialFile, cannot};
use vlft_base::{Result, digest};
use vlft_dataset::image_path;

use crate::dataset_info::Update;
use crate::fields::Fallible;
use crate::format::Format;
use crate::formats::{alpaca, llama_factory, olmocr, openai, parquet as hf, qwen, swift, vlft};
use crate::images::{Finder, Paths};
use crate::rules::ID_CHANGED;
use crate::sample::{Loss, Sample};
use crate::source::source_base;

/// One record, ready for the output.
pub(crate) enum Piece {
    Line(String),
    Row(hf::Row),
    Pair {
        name: Option<String>,
        pair: olmocr::Pair,
    },
}

/// Makes pieces, on any thread.
pub(crate) struct Making {
    format: Format,
    images: Images,
}

/// Inside the output, or beside it.
enum Images {
    Inside(Finder),
    Beside(Box<Paths>),
}

pub(crate) struct MakingOptions<'a> {
    pub(crate) format: Format,
    pub(crate) source: &'a Path,
    pub(crate) source_format: Format,
    pub(crate) folders: &'a [PathBuf],
    pub(crate) out: &'a Path,
    pub(crate) copy_images: bool,
    pub(crate) existing: Existing,
    pub(crate) dry_run: bool,
}

impl Making {
    pub(crate) fn new(options: &MakingOptions<'_>) -> Result<Self> {
        let base = source_base(options.source, options.source_format);
        let finder = Finder::new(base, options.folders);
        let images = match options.format.embeds_images() {
            true => Images::Inside(finder),
            false => Images::Beside(Box::new(Paths::new(
                finder,
                options.out,
                options.copy_images,
                options.existing,
                options.dry_run,
            )?)),
        };
        Ok(Self {
            format: options.format,
            images,
        })
    }

    fn finder(&self) -> &Finder {
        match &self.images {
            Images::Inside(finder) => finder,
            Images::Beside(paths) => paths.finder(),
        }
    }

    /// The record in the target's words, and what it loses there.
    pub(crate) fn piece(&self, sample: &Sample) -> Fallible<(Piece, Vec<Loss>)> {
        let mut losses = Vec::new();
        let lost = &mut losses;
        let piece = match (&self.images, self.format) {
            (Images::Beside(paths), Format::Vlft) => Piece::Line(vlft::write(sample, paths)?),
            (Images::Beside(paths), format) => Piece::Line(
                match format {
                    Format::Alpaca => alpaca::write(sample, paths, lost)?,
                    Format::Swift => swift::write(sample, paths, lost)?,
                    Format::Qwen => qwen::write(sample, paths, lost)?,
                    _ => llama_factory::write(sample, paths, lost)?,
                }
                .to_string(),
            ),
            (Images::Inside(finder), Format::OlmOcr) => Piece::Pair {
                name: sample.id.clone(),
                pair: olmocr::write(sample, finder, lost)?,
            },
            (Images::Inside(finder), Format::Trl) => {
                Piece::Row(hf::row(sample, hf::Shape::PromptCompletion, finder, lost)?)
            }
            (Images::Inside(finder), Format::TrlMessages) => {
                Piece::Row(hf::row(sample, hf::Shape::Messages, finder, lost)?)
            }
            (Images::Inside(finder), _) => Piece::Line(openai::write(sample, finder, lost)?),
        };
        Ok((piece, losses))
    }

    /// A failure that is no record's.
    pub(crate) fn failure(&self) -> Option<vlft_base::Diagnostic> {
        match &self.images {
            Images::Inside(_) => None,
            Images::Beside(paths) => paths.failure(),
        }
    }

    pub(crate) fn elsewhere(&self) -> u64 {
        self.finder().elsewhere()
    }

    /// Image files written beside the output, and the folder they are in.
    pub(crate) fn commit(self) -> Result<(u64, Option<String>)> {
        match self.images {
            Images::Inside(_) => Ok((0, None)),
            Images::Beside(paths) => {
                let written = paths.written();
                Ok((written, paths.commit()?))
            }
        }
    }
}

/// Takes the pieces in order.
pub(crate) struct Target {
    out: PathBuf,
    sink: Sink,
    info: Option<Update>,
    records: u64,
}

enum Sink {
    Nowhere,
    /// One per line; `array`: as one JSON array, because the file is called `.json`.
    Lines {
        file: PartialFile,
        array: bool,
    },
    Parquet(Box<hf::Writer>),
    Folder {
        folder: PartialDir,
        names: HashSet<String>,
    },
}

impl Target {
    pub(crate) fn create(
        out: &Path,
        format: Format,
        existing: Existing,
        dry_run: bool,
    ) -> Result<Self> {
        let info = match format {
            Format::LlamaFactory | Format::Alpaca => Some(Update::prepare(out, format, existing)?),
            _ => None,
        };
        let sink = match format {
            _ if dry_run => Sink::Nowhere,
            Format::Trl => Sink::Parquet(Box::new(hf::Writer::create(
                out,
                hf::Shape::PromptCompletion,
                existing,
            )?)),
            Format::TrlMessages => Sink::Parquet(Box::new(hf::Writer::create(
                out,
                hf::Shape::Messages,
                existing,
            )?)),
            Format::OlmOcr => Sink::Folder {
                folder: PartialDir::create(out, existing)?,
                names: HashSet::new(),
            },
            _ => Sink::Lines {
                file: PartialFile::create(out, existing)?,
                array: out
                    .extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case("json")),
            },
        };
        Ok(Self {
            out: out.to_path_buf(),
            sink,
            info,
            records: 0,
        })
    }

    /// `Some`: what the output itself could not hold as it is.
    pub(crate) fn write(&mut self, piece: Piece) -> Result<Option<Loss>> {
        let first = self.records == 0;
        self.records += 1;
        match (&mut self.sink, piece) {
            (Sink::Lines { file, array }, Piece::Line(line)) => {
                let (before, after): (&[u8], &[u8]) = match (*array, first) {
                    (false, _) => (b"", b"\n"),
                    (true, true) => (b"[\n", b""),
                    (true, false) => (b",\n", b""),
                };
                let written = [before, line.as_bytes(), after]
                    .into_iter()
                    .try_for_each(|bytes| file.write_all(bytes));
                written.map_err(|e| cannot("write", &self.out, e))?;
                Ok(None)
            }
            (Sink::Parquet(writer), Piece::Row(row)) => writer.write(row).map(|()| None),
            (Sink::Folder { folder, names }, Piece::Pair { name, pair }) => {
                let (name, loss) = file_name(name.as_deref(), &pair, names);
                let base = folder.path().join(&name);
                for (extension, bytes) in [("pdf", &pair.pdf[..]), ("md", pair.markdown.as_bytes())]
                {
                    let mut path = base.clone().into_os_string();
                    path.push(format!(".{extension}"));
                    fs::write(&path, bytes).map_err(|e| cannot("write", Path::new(&path), e))?;
                }
                Ok(loss)
            }
            // A dry run.
            _ => Ok(None),
        }
    }

    /// Gives the output its name; without a record there is none. The name in `dataset_info.json` is
    /// returned where there is one.
    pub(crate) fn commit(self) -> Result<(bool, Option<String>)> {
        if self.records == 0 {
            return Ok((false, None));
        }
        match self.sink {
            Sink::Nowhere => return Ok((false, None)),
            Sink::Lines { mut file, array } => {
                if array {
                    let end = file.write_all(b"\n]\n");
                    end.map_err(|e| cannot("write", &self.out, e))?;
                }
                file.commit()?;
            }
            Sink::Parquet(writer) => writer.commit()?,
            Sink::Folder { folder, .. } => folder.commit()?,
        }
        if let Some(info) = &self.info {
            info.write()?;
        }
        Ok((true, self.info.as_ref().map(|info| info.name().to_owned())))
    }
}

/// The id, where it is fit for a file on every system and new; else a name made of the content.
fn file_name(
    id: Option<&str>,
    pair: &olmocr::Pair,
    names: &mut HashSet<String>,
) -> (String, Option<Loss>) {
    let id = id.unwrap_or_default();
    if is_file_name(id) && names.insert(id.to_lowercase()) {
        return (id.to_owned(), None);
    }
    let mut hasher = digest::Hasher::default();
    hasher.add(id);
    hasher.add(&pair.pdf);
    hasher.add(&pair.markdown);
    let hash = hasher.finish();
    let mut name = format!("page-{}", &hash[..16]);
    let mut copy = 1;
    while !names.insert(name.clone()) {
        copy += 1;
        name = format!("page-{}-{copy}", &hash[..16]);
    }
    let reason =
        format!("the id is no file name on every system, or is there; the pair is called `{name}`");
    let loss = Loss {
        rule: ID_CHANGED,
        reason,
    };
    (name, Some(loss))
}

fn is_file_name(id: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.() +,=@~".contains(c);
    let stem = id
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let device = ["con", "prn", "aux", "nul"].contains(&stem.trim_end())
        || ["com", "lpt"]
            .iter()
            .any(|port| stem.starts_with(port) && stem.len() == 4);
    (1..=150).contains(&id.len())
        && id.chars().all(fits)
        && !id.starts_with(['.', ' ', '-'])
        && !id.ends_with(['.', ' '])
        && !device
}

/// Where the output's images are relative to.
pub(crate) fn base_of(out: &Path) -> &Path {
    image_path::base_of(out)
}
