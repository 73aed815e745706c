//! The road of a conversion, top to bottom.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use vlft_base::output::{Existing, cannot, check_file, check_folder, check_free};
use vlft_base::paths::not_an_input;
use vlft_base::{Diagnostic, Kind, Result};
use vlft_dataset::jsonl::{Writer, shown};
use vlft_dataset::lineage::{self, Lineage};

use crate::check::check;
use crate::detect::detect;
use crate::elements::Elements;
use crate::fields::Fallible;
use crate::format::Format;
use crate::formats::parquet as hf;
use crate::images::images_folder;
use crate::report::{Hits, Line, Report};
use crate::rules::{ID_CHANGED, RuleId};
use crate::sample::{Loss, Refusal, Sample};
use crate::source::{Found, Raw, Reading, Source};
use crate::target::{Making, MakingOptions, Piece, Target};

#[derive(Clone, Debug)]
pub struct Options {
    /// A file, or a folder of olmOCR's pairs.
    pub input: PathBuf,
    /// `None`: by the first example.
    pub from: Option<Format>,
    pub to: Format,
    pub out: PathBuf,
    /// Where relative image paths may start besides the input's folder; for olmOCR also what
    /// `vlft rasterize` wrote.
    pub images: Vec<PathBuf>,
    /// Put all images into `NAME-images` beside the output, named by their content.
    pub copy_images: bool,
    /// What the model is asked, for sources that do not say.
    pub prompt: Option<String>,
    pub strict: bool,
    pub existing: Existing,
    /// Do everything and write nothing.
    pub dry_run: bool,
}

/// Converts what can be converted. Rejected records are in the report and in `OUT.rejects.jsonl`, losses
/// in `OUT.losses.jsonl`; neither makes this an error. `progress` gets how many bytes were read of how
/// many.
///
/// # Errors
/// An input that does not exist, is of no known format or breaks off beyond repair; an output that is
/// there, or cannot be written; nothing to read ([`Kind::NothingToDo`]).
pub fn convert(options: &Options, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Report> {
    let start = Instant::now();
    let (from, recognised_by) = match options.from {
        Some(format) => (format, None),
        None => {
            let (format, reason) = detect(&options.input)?;
            (format, Some(reason))
        }
    };
    check_options(options, from)?;
    let rejects_path = beside(&options.out, "rejects.jsonl");
    let losses_path = beside(&options.out, "losses.jsonl");
    let lineage_path = match options.to {
        Format::OlmOcr => None,
        _ => Some(lineage::beside(&options.out)),
    };
    for path in [&rejects_path, &losses_path]
        .into_iter()
        .chain(&lineage_path)
    {
        check_file(path, options.existing)?;
        not_an_input("--out", path, [options.input.as_path()])?;
    }

    // Before anything is written: the hash is that of what was read.
    let lineage = match options.dry_run {
        true => None,
        false => Some(lineage_of(options, from)?),
    };
    let reading = Reading::new(
        &options.input,
        from,
        options.prompt.clone(),
        &options.images,
    )?;
    let mut source = Source::open(&options.input, from)?;
    let mut target = Target::create(&options.out, options.to, options.existing, options.dry_run)?;
    let making = Making::new(&MakingOptions {
        format: options.to,
        source: &options.input,
        source_format: from,
        folders: &options.images,
        out: &options.out,
        copy_images: options.copy_images,
        existing: options.existing,
        dry_run: options.dry_run,
    })?;
    let mut lists = Lists::create(options, &rejects_path, &losses_path)?;
    let mut tally = Tally::default();
    let mut ids = Ids::new(&options.input);
    // Images in memory are what a batch costs; texts alone may come by the hundred.
    let heavy = options.to.embeds_images() || options.copy_images;
    let most = if heavy {
        4 * rayon::current_num_threads()
    } else {
        1024
    };
    let size = bytes_at(&options.input);
    loop {
        let batch = source.batch(most)?;
        if batch.is_empty() {
            break;
        }
        let found: Vec<Found> = batch
            .into_par_iter()
            .flat_map_iter(|raw| reading.samples(raw))
            .map(normalised)
            .collect();
        let found = found
            .into_iter()
            .map(|found| ids.give(found))
            .collect::<Vec<_>>();
        let made: Vec<Made> = found
            .into_par_iter()
            .map(|found| make(&making, found))
            .collect();
        if let Some(failure) = making.failure() {
            return Err(failure);
        }
        for made in made {
            settle(made, &mut target, &mut lists, &mut tally)?;
        }
        progress(source.position(size), size);
    }
    if tally.read == 0 {
        return Err(Diagnostic::error("there is nothing to convert")
            .at(&options.input)
            .with_kind(Kind::NothingToDo));
    }

    let elsewhere = making.elsewhere();
    // Images first: a file whose images are not there yet would be a broken one.
    let (images_copied, images_folder) = match tally.written {
        0 => (0, None),
        _ => making.commit()?,
    };
    let (is_written, dataset_info) = target.commit()?;
    let (rejects_file, losses_file) = lists.commit(&tally)?;
    if let Some(lineage) = lineage.filter(|_| is_written) {
        match options.to {
            Format::OlmOcr => lineage.save_in(&options.out)?,
            _ => {
                let lineage = lineage.output("records", &options.out)?;
                lineage.save_beside(&options.out)?;
            }
        }
    }
    let out = is_written.then(|| shown(&options.out));
    Ok(Report {
        from,
        recognised_by,
        to: options.to,
        read: tally.read,
        written: tally.written,
        rejected: tally.rejected,
        with_losses: tally.with_losses,
        ids_made: ids.made,
        images: tally.images,
        images_copied,
        images_elsewhere: elsewhere,
        bytes_read: size,
        bytes_written: out.as_ref().map_or(0, |_| bytes_at(&options.out)),
        rejects: tally.rejects,
        losses: tally.losses,
        seconds: start.elapsed().as_secs_f64(),
        dry_run: options.dry_run,
        strict: options.strict,
        out,
        images_folder,
        rejects_file,
        losses_file,
        dataset_info,
        file: shown(&options.input),
    })
}

fn check_options(options: &Options, from: Format) -> Result<()> {
    if !options.to.is_written() {
        return Err(Diagnostic::error(format!("`{}` is only read", options.to))
            .hint("choose another `--to`"));
    }
    let is_folder = options.input.is_dir();
    if is_folder != (from == Format::OlmOcr) {
        let (expected, found) = match is_folder {
            true => ("a file", "a folder"),
            false => ("a folder with pairs of PDF and Markdown", "a file"),
        };
        return Err(
            Diagnostic::error(format!("`{from}` is another kind of input"))
                .at(&options.input)
                .expected(expected)
                .found(found),
        );
    }
    for folder in &options.images {
        if !folder.is_dir() {
            return Err(Diagnostic::error("the folder of images is not there").at(folder));
        }
    }
    match options.to {
        Format::OlmOcr => {
            check_folder(&options.out)?;
            check_free(&options.out, options.existing)?;
        }
        _ => check_file(&options.out, options.existing)?,
    }
    not_an_input("--out", &options.out, [options.input.as_path()])?;
    if !options.to.embeds_images() {
        let images = images_folder(&options.out);
        let is_input = options.images.iter().any(|folder| same(folder, &images));
        if is_input {
            return Err(
                Diagnostic::error("`--out` would replace a folder of `--images`")
                    .at(&images)
                    .hint("choose another `--out`"),
            );
        }
    }
    if options.dry_run {
        return Ok(());
    }
    let parent = crate::target::base_of(&options.out);
    fs::create_dir_all(parent).map_err(|e| cannot("create", parent, e))
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn lineage_of(options: &Options, from: Format) -> Result<Lineage> {
    let lineage = Lineage::new("convert")
        .option("from", from)
        .option("to", options.to)
        .option("copy_images", options.copy_images)
        .option("prompt", &options.prompt)
        .input("records", &options.input)?;
    let mut folders = options.images.iter();
    folders.try_fold(lineage, |all, folder| all.input("images", folder))
}

/// `a/all.jsonl` -> `a/all.ENDING`; other names keep their extension, as the lineage's does.
fn beside(out: &Path, ending: &str) -> PathBuf {
    match out.extension() {
        Some(extension) if extension == "jsonl" => out.with_extension(ending),
        _ => {
            let mut name = out.as_os_str().to_owned();
            name.push(".");
            name.push(ending);
            PathBuf::from(name)
        }
    }
}

/// Of a file, or of the files in a folder.
fn bytes_at(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).map_or(0, |metadata| metadata.len());
    };
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    files
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

fn normalised(mut found: Found) -> Found {
    found.sample = found.sample.and_then(|mut sample| {
        sample.normalise();
        match check(&sample) {
            Ok(()) => Ok(sample),
            Err(mut refusal) => {
                refusal.id = sample.id;
                Err(refusal)
            }
        }
    });
    found
}

/// A record on its way out, or why it is none.
struct Made {
    place: String,
    id: Option<String>,
    images: u64,
    result: Fallible<(Piece, Vec<Loss>)>,
}

fn make(making: &Making, found: Found) -> Made {
    let (id, images, result) = match found.sample {
        Err(refusal) => (refusal.id.clone(), 0, Err(refusal)),
        Ok(mut sample) => {
            let result = making.piece(&sample).map(|(piece, losses)| {
                let mut all = std::mem::take(&mut sample.losses);
                all.extend(losses);
                (piece, all)
            });
            let images = sample.images().count() as u64;
            (sample.id, images, result)
        }
    };
    Made {
        place: found.place,
        id,
        images,
        result,
    }
}

/// Writes one record, and says what it lost or why it is not there.
fn settle(made: Made, target: &mut Target, lists: &mut Lists, tally: &mut Tally) -> Result<()> {
    tally.read += 1;
    let line = |rule: RuleId, reason: String| Line {
        rule,
        id: made.id.clone(),
        place: made.place.clone(),
        reason,
    };
    match made.result {
        Err(Refusal { rule, reason, .. }) => {
            tally.rejected += 1;
            let line = line(rule, reason);
            count(&mut tally.rejects, &line);
            lists.reject(&line)
        }
        Ok((piece, mut losses)) => {
            losses.extend(target.write(piece)?);
            tally.written += 1;
            tally.images += made.images;
            tally.with_losses += u64::from(!losses.is_empty());
            let mut counted = HashSet::new();
            for Loss { rule, reason } in losses {
                let line = line(rule, reason);
                // A record counts once under a rule, however often it was hit.
                if counted.insert(rule) {
                    count(&mut tally.losses, &line);
                }
                lists.lose(&line)?;
            }
            Ok(())
        }
    }
}

fn count(hits: &mut BTreeMap<RuleId, Hits>, line: &Line) {
    let entry = hits.entry(line.rule).or_insert_with(|| Hits {
        records: 0,
        example: format!("{}: {}", line.place, line.reason),
    });
    entry.records += 1;
}

#[derive(Default)]
struct Tally {
    read: u64,
    written: u64,
    rejected: u64,
    with_losses: u64,
    images: u64,
    rejects: BTreeMap<RuleId, Hits>,
    losses: BTreeMap<RuleId, Hits>,
}

/// `OUT.rejects.jsonl` and `OUT.losses.jsonl`.
struct Lists {
    open: Option<[(Writer, PathBuf); 2]>,
    existing: Existing,
}

impl Lists {
    fn create(options: &Options, rejects: &Path, losses: &Path) -> Result<Self> {
        let writer = |path: &Path| -> Result<(Writer, PathBuf)> {
            Ok((Writer::create(path, options.existing)?, path.to_path_buf()))
        };
        Ok(Self {
            open: match options.dry_run {
                true => None,
                false => Some([writer(rejects)?, writer(losses)?]),
            },
            existing: options.existing,
        })
    }

    fn reject(&mut self, line: &Line) -> Result<()> {
        self.write(0, line)
    }

    fn lose(&mut self, line: &Line) -> Result<()> {
        self.write(1, line)
    }

    fn write(&mut self, list: usize, line: &impl Serialize) -> Result<()> {
        match &mut self.open {
            Some(lists) => lists[list].0.write(line),
            None => Ok(()),
        }
    }

    /// Those that have a line; one of an earlier run that has none any more would tell lies.
    fn commit(self, tally: &Tally) -> Result<(Option<String>, Option<String>)> {
        let Some([rejects, losses]) = self.open else {
            return Ok((None, None));
        };
        let finish = |(writer, path): (Writer, PathBuf), lines: u64| -> Result<Option<String>> {
            if lines > 0 {
                writer.commit()?;
                return Ok(Some(shown(&path)));
            }
            drop(writer);
            if self.existing == Existing::Replace && path.is_file() {
                fs::remove_file(&path).map_err(|e| cannot("remove", &path, e))?;
            }
            Ok(None)
        };
        Ok((
            finish(rejects, tally.rejected)?,
            finish(losses, tally.with_losses)?,
        ))
    }
}

/// Gives every record an id of its own.
struct Ids {
    stem: String,
    /// 128-bit hashes: two of a million ids meet with a probability of 1e-27.
    seen: HashSet<u128>,
    made: u64,
}

impl Ids {
    fn new(input: &Path) -> Self {
        let stem = input
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        Self {
            stem: stem.unwrap_or_default(),
            seen: HashSet::new(),
            made: 0,
        }
    }

    fn give(&mut self, mut found: Found) -> Found {
        let Ok(sample) = &mut found.sample else {
            return found;
        };
        match sample.id.take() {
            Some(id) if self.seen.insert(hash(&id)) => sample.id = Some(id),
            Some(id) => {
                let new = self.new_id(&id);
                sample.lose(
                    ID_CHANGED,
                    format!("the id `{id}` was used before; this one is `{new}`"),
                );
                sample.id = Some(new);
            }
            None => {
                self.made += 1;
                let first = format!("{}-{}", self.stem, found.number);
                sample.id = Some(match self.seen.insert(hash(&first)) {
                    true => first,
                    false => self.new_id(&first),
                });
            }
        }
        found
    }

    fn new_id(&mut self, id: &str) -> String {
        (2u64..)
            .map(|number| format!("{id}-{number}"))
            .find(|id| self.seen.insert(hash(id)))
            .expect("there are more numbers than records")
    }
}

fn hash(id: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, id).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// Reads bytes as a file of a format, without any file: every example as a sample or as the reason why
/// it is none. Relative image paths are not looked for, except by Label Studio's, which need them.
/// olmOCR's pairs are read as the Markdown of one pair.
///
/// # Errors
/// The bytes are no file of this kind at all.
pub fn read_bytes(
    format: Format,
    bytes: &[u8],
) -> Result<Vec<std::result::Result<Sample, Refusal>>> {
    let path = Path::new("bytes");
    let reading = Reading::of_bytes(format);
    let mut samples = Vec::new();
    match format {
        Format::OlmOcr => {
            let text = String::from_utf8_lossy(bytes);
            samples.push(
                crate::formats::olmocr::parse(&text).map(|(front, body)| Sample {
                    meta: Some(front),
                    turns: vec![crate::sample::Turn::says(
                        vlft_dataset::record::Role::Assistant,
                        body,
                    )],
                    ..Sample::default()
                }),
            );
        }
        Format::Trl | Format::TrlMessages => {
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            let mut rows = hf::Rows::new(bytes, path)?;
            let mut number = 0;
            while let Some(row) = rows.next()? {
                number += 1;
                samples.extend(
                    reading
                        .samples(Raw::Row(number, row))
                        .into_iter()
                        .map(|f| normalised(f).sample),
                );
            }
        }
        _ => {
            let mut elements = Elements::new(Cursor::new(bytes), path)?;
            while let Some(element) = elements.next()? {
                let found = reading.samples(Raw::Json(element)).into_iter();
                samples.extend(found.map(|found| normalised(found).sample));
            }
        }
    }
    Ok(samples)
}
