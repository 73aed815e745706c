//! The worker process: takes a [`Setup`], then one [`Job`] after the other until its stdin ends.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use pdfium_render::prelude::{PdfDocument, Pdfium};
use sha2::{Digest, Sha256};
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

use super::draw::{self, Refusal};
use super::encode::encode;
use super::names::page_file;
use super::protocol::{Answer, Job, Setup};
use super::reject::Rule;
use super::{limits, protocol};
use crate::manifest::{PageEntry, VERSION};
use crate::pdfium;

/// Ends when `input` does, or when nobody listens to `output` any more.
///
/// # Errors
/// A first line that is no setup, which means that a person started this and not `rasterize`.
pub fn serve(mut input: impl BufRead, output: impl Write) -> Result<()> {
    let mut line = String::new();
    let setup: Setup = match input.read_line(&mut line) {
        Ok(1..) => serde_json::from_str(&line).map_err(|e| not_for_people().caused_by(e))?,
        _ => return Err(not_for_people()),
    };
    limits::confine(setup.memory_bytes);
    let mut worker = Worker {
        setup,
        output,
        buffer: Vec::new(),
    };
    match worker.work(input) {
        Ok(()) | Err(Stop::NobodyListens) => Ok(()),
        Err(Stop::Fatal(diagnostic)) => {
            let _ = worker.say(&protocol::fatal(&diagnostic));
            Ok(())
        }
    }
}

fn not_for_people() -> Diagnostic {
    Diagnostic::error("this command is started by `vlft rasterize` only")
        .hint("`vlft rasterize --help` shows how to rasterize PDFs")
}

struct Worker<W> {
    setup: Setup,
    output: W,
    /// Pixels of one page; kept, so that it is allocated once.
    buffer: Vec<u8>,
}

/// Why the worker ends before its input does.
enum Stop {
    NobodyListens,
    Fatal(Diagnostic),
}

impl From<Diagnostic> for Stop {
    fn from(diagnostic: Diagnostic) -> Self {
        Stop::Fatal(diagnostic)
    }
}

impl<W: Write> Worker<W> {
    fn work(&mut self, input: impl BufRead) -> Result<(), Stop> {
        let pdfium = pdfium::bind(&self.setup.library)?;
        self.say(&Answer::Ready)?;
        for line in input.lines() {
            let line = line.map_err(|_| Stop::NobodyListens)?;
            let job: Job = serde_json::from_str(&line)
                .map_err(|e| Diagnostic::error("a worker got a broken job").caused_by(e))?;
            match self.document(pdfium, &job)? {
                Ok(done) => self.say(&done)?,
                Err((rule, reason)) => self.say(&Answer::Failed { rule, reason })?,
            }
        }
        Ok(())
    }

    fn document(&mut self, pdfium: &Pdfium, job: &Job) -> Result<Result<Answer, Refusal>, Stop> {
        let path = Path::new(&job.source);
        let sha256 = match self.sha256(path)? {
            Ok(sha256) => sha256,
            Err(e) => return Ok(Err((Rule::Unreadable, e.to_string()))),
        };
        let mut skip = job.skip.clone();
        if let Some(known) = &job.known {
            if known.sha256 != sha256 {
                let reason = "the output has pages of another file under this name";
                return Ok(Err((Rule::Changed, reason.to_owned())));
            }
            if known.is_complete() {
                return Ok(Ok(Answer::Unchanged));
            }
            skip.extend(&known.present);
        }
        let document = match draw::open(pdfium, path, &self.setup.passwords) {
            Ok(document) => document,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let pages = u32::try_from(document.pages().len()).unwrap_or(0);
        if pages == 0 {
            return Ok(Err((Rule::NoPages, "the PDF has no pages".to_owned())));
        }
        self.say(&Answer::Opened { pages })?;
        for page in (1..=pages).filter(|page| !skip.contains(page)) {
            self.say(&Answer::Drawing { page })?;
            let answer = match self.page(&document, job, &sha256, (page, pages))? {
                Ok(entry) => Answer::Page(Box::new(entry)),
                Err((rule, reason)) => Answer::PageFailed { page, rule, reason },
            };
            self.say(&answer)?;
        }
        Ok(Ok(Answer::Done))
    }

    /// Draws, encodes and writes page `page` of `pages`.
    fn page(
        &mut self,
        document: &PdfDocument,
        job: &Job,
        source_sha256: &str,
        (page, pages): (u32, u32),
    ) -> Result<Result<PageEntry, Refusal>> {
        let (resolution, format) = (self.setup.resolution, self.setup.format);
        let drawn = match draw::draw(document, page - 1, resolution, &mut self.buffer) {
            Ok(drawn) => drawn,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let bytes = match encode(&drawn.pixels, format) {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(Err((Rule::Page, reason))),
        };
        let entry = PageEntry {
            version: VERSION,
            document: job.document.clone(),
            source_sha256: source_sha256.to_owned(),
            page,
            pages,
            file: page_file(&job.stem, page, pages, format.extension()),
            width: drawn.pixels.width,
            height: drawn.pixels.height,
            dpi: drawn.dpi,
            requested: resolution,
            format,
            sha256: hex(&Sha256::digest(&bytes)),
            bytes: bytes.len() as u64,
            text_chars: drawn.text_chars,
            rasterizer: self.setup.library.name(),
        };
        write_image(&Path::new(&self.setup.out).join(&entry.file), &bytes)?;
        Ok(Ok(entry))
    }

    /// Says from time to time that it is alive: a large file on a slow disk takes minutes.
    fn sha256(&mut self, path: &Path) -> Result<io::Result<String>, Stop> {
        const CHUNK: usize = 1 << 20;
        const CHUNKS_PER_SIGN: u64 = 64;
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) => return Ok(Err(e)),
        };
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut read = 0u64;
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return Ok(Ok(hex(&hash.finalize()))),
                Ok(n) => hash.update(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Ok(Err(e)),
            }
            read += 1;
            if read.is_multiple_of(CHUNKS_PER_SIGN) {
                self.say(&Answer::Reading)?;
            }
        }
    }

    fn say(&mut self, answer: &Answer) -> Result<(), Stop> {
        let mut line = serde_json::to_string(answer).expect("an answer is plain data");
        line.push('\n');
        self.output
            .write_all(line.as_bytes())
            .and_then(|()| self.output.flush())
            .map_err(|_| Stop::NobodyListens)
    }
}

/// Under a temporary name first. Not synced: a power failure leaves a file of another size, which
/// the next run notices.
fn write_image(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path
        .parent()
        .expect("an image lies in the output directory");
    fs::create_dir_all(folder).map_err(|e| cannot("create", folder, e))?;
    let partial = partial_of(path);
    fs::write(&partial, bytes).map_err(|e| {
        let _ = fs::remove_file(&partial);
        cannot("write", &partial, e)
    })?;
    fs::rename(&partial, path).map_err(|e| cannot("rename", &partial, e))
}

pub(super) fn partial_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
