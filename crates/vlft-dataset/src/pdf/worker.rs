//! The worker process: takes a [`Setup`], then one [`Job`] after the other until its stdin ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use vlft_base::digest::{Hasher, sha256};
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

use super::draw::Refusal;
use super::encode::encode;
use super::engine::{Document, Ready};
use super::names::page_file;
use super::protocol::{Answer, Drawing, Job, Setup, Task, wants};
use super::reject::Rule;
use super::{limits, protocol};
use crate::manifest::{PageEntry, VERSION};
use crate::perceptual::PageHash;

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
    work(setup, input, output);
    Ok(())
}

fn work(setup: Setup, input: impl BufRead, output: impl Write) {
    let mut worker = Worker {
        setup,
        output,
        buffer: Vec::new(),
    };
    if let Err(Stop::Fatal(diagnostic)) = worker.work(input) {
        let _ = worker.say(&protocol::fatal(&diagnostic));
    }
}

fn not_for_people() -> Diagnostic {
    Diagnostic::error("this command is started by other commands only")
        .hint("`vlft rasterize --help` and `vlft inspect --help` show what to do with PDFs")
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
        let engine = Ready::start(&self.setup)?;
        self.say(&Answer::Ready)?;
        for line in input.lines() {
            let line = line.map_err(|_| Stop::NobodyListens)?;
            let job: Job = serde_json::from_str(&line)
                .map_err(|e| Diagnostic::error("a worker got a broken job").caused_by(e))?;
            match self.document(engine, &job)? {
                Ok(done) => self.say(&done)?,
                Err((rule, reason)) => self.say(&Answer::Failed { rule, reason })?,
            }
        }
        Ok(())
    }

    fn document(&mut self, engine: Ready, job: &Job) -> Result<Result<Answer, Refusal>, Stop> {
        let path = Path::new(&job.source);
        let mut skip: BTreeSet<u32> = job.skip.iter().copied().collect();
        let mut sha256 = String::new();
        if let Task::Draw(_) = self.setup.task {
            sha256 = match self.sha256(path)? {
                Ok(sha256) => sha256,
                Err(e) => return Ok(Err((Rule::Unreadable, e.to_string()))),
            };
            match &job.known {
                Some(known) if known.sha256 == sha256 => {
                    if known.has_all(self.setup.selected.as_ref()) {
                        return Ok(Ok(Answer::Unchanged));
                    }
                    skip.extend(&known.present);
                }
                Some(known) if known.is_foreign => {
                    let reason =
                        "another shard's manifest has pages of another file under this name";
                    return Ok(Err((Rule::Changed, reason.to_owned())));
                }
                Some(_) => self.say(&Answer::Changed)?,
                None => {}
            }
        }
        let (document, needed_password) = match engine.open(path, &self.setup.passwords) {
            Ok(opened) => opened,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let pages = document.pages();
        if pages == 0 {
            return Ok(Err((Rule::NoPages, "the PDF has no pages".to_owned())));
        }
        self.say(&Answer::Opened {
            pages,
            needed_password,
        })?;
        for number in 1..=pages {
            if skip.contains(&number) || !wants(self.setup.selected.as_ref(), number) {
                continue;
            }
            self.say(&Answer::At { page: number })?;
            let answer = match self.page(
                &document,
                job,
                (&sha256, engine.name(&self.setup)),
                (number, pages),
            )? {
                Ok(answer) => answer,
                Err((rule, reason)) => Answer::PageFailed {
                    page: number,
                    rule,
                    reason,
                },
            };
            self.say(&answer)?;
        }
        Ok(Ok(Answer::Done))
    }

    /// Does what the task says with page `number` of `pages`.
    fn page(
        &mut self,
        document: &Document<'_>,
        job: &Job,
        (source_sha256, rasterizer): (&str, String),
        (number, pages): (u32, u32),
    ) -> Result<Result<Answer, Refusal>> {
        let drawing = match &self.setup.task {
            Task::Draw(drawing) => drawing,
            Task::Inspect => {
                let looked = document.look(number);
                return Ok(looked.map(|page| Answer::Inspected(Box::new(page))));
            }
        };
        let Drawing {
            resolution, format, ..
        } = *drawing;
        let (drawn, content) = match document.draw(number, resolution, &mut self.buffer) {
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
            page: number,
            pages,
            selected: self.setup.selected.clone(),
            file: page_file(&job.stem, number, pages, format.extension()),
            width: drawn.pixels.width,
            height: drawn.pixels.height,
            dpi: drawn.dpi,
            requested: resolution,
            format,
            sha256: sha256(&bytes),
            bytes: bytes.len() as u64,
            text_chars: None,
            content,
            page_hash: PageHash::of(&drawn.pixels.to_image()).map(PageHash::to_hex),
            rasterizer,
        };
        write_image(&Path::new(&drawing.out).join(&entry.file), &bytes)?;
        Ok(Ok(Answer::Page(Box::new(entry))))
    }

    /// Says from time to time that it is alive: a large file on a slow disk takes minutes.
    fn sha256(&mut self, path: &Path) -> Result<io::Result<String>, Stop> {
        const CHUNK: usize = 1 << 20;
        const CHUNKS_PER_SIGN: u64 = 64;
        let mut file = match input::open(path) {
            Ok(file) => file,
            Err(e) => return Ok(Err(e)),
        };
        let mut hash = Hasher::default();
        // Most documents are smaller than a chunk, and clearing one costs more than reading them.
        let size = file.metadata().map_or(CHUNK as u64, |m| m.len() + 1);
        let mut chunk = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK)).max(512)];
        let mut read = 0u64;
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return Ok(Ok(hash.finish())),
                Ok(n) => hash.add(&chunk[..n]),
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

#[cfg(test)]
#[path = "../../../../tests/support/pdf.rs"]
mod pdf;

#[cfg(test)]
mod tests {
    use super::pdf::{Page, first_more, form_with, pdf, stream};
    use super::*;
    use crate::manifest::Verdict;
    use crate::manifest::{ImageFormat, Resolution};

    /// Lets a worker of this process do one job; returns what it says after `ready`.
    fn answers(
        dir: &Path,
        setup: impl FnOnce(&mut Setup),
        job: impl FnOnce(&mut Job),
    ) -> Vec<Answer> {
        let library = crate::pdfium::find(None)
            .unwrap_or_else(|e| panic!("{e}\nhint: {}", e.hint_text().unwrap_or_default()));
        let mut the_setup = Setup {
            library: Some(library),
            task: Task::Draw(Drawing {
                out: dir.join("out").to_str().unwrap().to_owned(),
                resolution: Resolution::Dpi(72),
                format: ImageFormat::Png,
            }),
            selected: None,
            passwords: Vec::new(),
            memory_bytes: u64::MAX,
        };
        setup(&mut the_setup);
        let mut the_job = Job {
            document: "d.pdf".into(),
            source: dir.join("d.pdf").to_str().unwrap().to_owned(),
            stem: "sub/d".into(),
            known: None,
            skip: Vec::new(),
        };
        job(&mut the_job);
        let mut said = Vec::new();
        let line = serde_json::to_string(&the_job).unwrap();
        work(the_setup, line.as_bytes(), &mut said);
        let mut answers = said.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        assert_eq!(answers.next(), Some(&b"\"ready\""[..]));
        answers
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn pages_of(answers: &[Answer]) -> Vec<&PageEntry> {
        fn page(answer: &Answer) -> Option<&PageEntry> {
            match answer {
                Answer::Page(entry) => Some(entry),
                _ => None,
            }
        }
        answers.iter().filter_map(page).collect()
    }

    #[test]
    fn pages_are_drawn_the_right_way_round_in_their_colours() {
        let dir = tempfile::tempdir().unwrap();
        // PDF counts from the bottom left: red at the bottom left, black text at the top.
        let colour = Page::new(
            200,
            100,
            "1 0 0 rg 0 0 50 20 re f 0 g BT /F1 20 Tf 120 70 Td (Hi) Tj ET",
        );
        let gray = Page::new(203, 100, "0.5 g 0 0 203 100 re f");
        let turned = Page::new(200, 100, "1 0 0 rg 0 0 50 20 re f").rotated(90);
        fs::write(dir.path().join("d.pdf"), pdf(&[colour, gray, turned])).unwrap();
        let answers = answers(dir.path(), |_| {}, |_| {});
        let pages = pages_of(&answers);
        assert_eq!(pages.len(), 3);
        assert!(matches!(answers.last(), Some(Answer::Done)));

        let open = |i: usize| image::open(dir.path().join("out").join(&pages[i].file)).unwrap();
        let first = open(0).into_rgb8();
        assert_eq!(first.dimensions(), (200, 100));
        assert_eq!(first.get_pixel(10, 95).0, [255, 0, 0]);
        assert_eq!(first.get_pixel(10, 5).0, [255, 255, 255]);
        let text = first
            .enumerate_pixels()
            .filter(|(x, y, p)| *x > 110 && *y < 40 && p.0[0] < 100);
        assert!(text.count() > 20);

        let second = open(1);
        assert!(matches!(second, image::DynamicImage::ImageLuma8(_)));
        let shade = second.into_luma8().get_pixel(100, 50).0[0];
        assert!((126..=129).contains(&shade), "{shade}");

        // A quarter turn clockwise brings the bottom left to the top left.
        let third = open(2).into_rgb8();
        assert_eq!(third.dimensions(), (100, 200));
        assert_eq!(third.get_pixel(5, 5).0, [255, 0, 0]);

        assert_eq!(pages[0].file, "sub/d-p001.png");
        let content = |i: usize| pages[i].content.as_ref().unwrap();
        assert_eq!((content(0).text_chars, content(1).text_chars), (2, 0));
        assert_eq!(content(0).verdict, Verdict::BornDigital);
        assert_eq!(content(2).verdict, Verdict::Drawn);
        assert_eq!(
            (pages[2].width, pages[2].height, pages[2].pages),
            (100, 200, 3)
        );
        let file = fs::read(dir.path().join("out/sub/d-p001.png")).unwrap();
        assert_eq!(pages[0].sha256, sha256(&file));
        assert_eq!(pages[0].bytes, file.len() as u64);
        assert!(pages[0].rasterizer.starts_with("pdfium"));
        for (index, page) in pages.iter().enumerate() {
            let of_file = PageHash::of(&open(index)).map(PageHash::to_hex);
            assert_eq!(page.page_hash, of_file, "{page:?}");
        }
        assert!(pages[0].page_hash.is_some());
        assert_eq!(
            pages[1].page_hash, None,
            "one shade everywhere is a blank page"
        );
    }

    #[test]
    fn annotations_and_form_fields_are_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let page = || Page::new(100, 50, "");
        let first = first_more(&[page()]);
        let page = page().annotations(&format!("{first} 0 R {} 0 R", first + 1));
        let drawn = |kind: &str, left: u32, appearance: usize| {
            format!(
                "<< /Type /Annot {kind} /F 4 /Rect [{left} 10 {} 40] /AP << /N {appearance} 0 R >> >>",
                left + 30
            )
        };
        let square = |colour: &str| {
            stream(
                "/Type /XObject /Subtype /Form /BBox [0 0 30 30]",
                &format!("{colour} rg 0 0 30 30 re f"),
            )
        };
        let more = [
            drawn("/Subtype /Stamp", 10, first + 2),
            drawn("/Subtype /Widget /FT /Tx /T (a) /V (b)", 60, first + 3),
            square("1 0 0"),
            square("0 0 1"),
        ];
        let fields = format!("{} 0 R", first + 1);
        fs::write(dir.path().join("d.pdf"), form_with(&[page], &more, &fields)).unwrap();
        let answers = answers(dir.path(), |_| {}, |_| {});
        let pages = pages_of(&answers);
        let image = image::open(dir.path().join("out").join(&pages[0].file)).unwrap();
        let image = image.into_rgb8();
        assert_eq!(image.get_pixel(25, 25).0, [255, 0, 0], "the stamp");
        assert_eq!(image.get_pixel(75, 25).0, [0, 0, 255], "the field");
        assert_eq!(image.get_pixel(50, 25).0, [255, 255, 255]);
        let content = pages[0].content.as_ref().unwrap();
        assert_eq!((content.annotations, content.form_fields), (1, 1));
    }

    #[test]
    fn bad_documents_are_refused_by_rule() {
        let good = pdf(&[Page::new(100, 100, "")]);
        let encrypted = include_bytes!("../../../../tests/fixtures/pdf/encrypted.pdf").to_vec();
        for (bytes, rule) in [
            (Vec::new(), Rule::Broken),
            (b"hello".to_vec(), Rule::Broken),
            (good[..40].to_vec(), Rule::Broken),
            (pdf(&[]), Rule::NoPages),
            (encrypted, Rule::Password),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("d.pdf"), &bytes).unwrap();
            match &answers(dir.path(), |_| {}, |_| {})[..] {
                [Answer::Failed { rule: found, .. }] => assert_eq!(*found, rule),
                other => panic!("{rule:?}: {other:?}"),
            }
            assert!(!dir.path().join("out").exists());
        }
        let dir = tempfile::tempdir().unwrap();
        let missing = answers(dir.path(), |_| {}, |_| {});
        assert!(matches!(
            missing[..],
            [Answer::Failed {
                rule: Rule::Unreadable,
                ..
            }]
        ));
    }

    #[test]
    fn every_password_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let encrypted = include_bytes!("../../../../tests/fixtures/pdf/encrypted.pdf");
        fs::write(dir.path().join("d.pdf"), encrypted).unwrap();
        let with = |passwords: &[&str]| {
            let passwords = passwords.iter().map(|p| (*p).to_owned()).collect();
            answers(dir.path(), |setup| setup.passwords = passwords, |_| {})
        };
        assert_eq!(pages_of(&with(&["wrong", "schlüssel"])).len(), 1);
        let answers = with(&["wrong", "also wrong"]);
        let [Answer::Failed { reason, .. }] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!(
            reason,
            "encrypted, and none of the 2 passwords that were given opens it"
        );
    }

    #[test]
    fn pages_that_cannot_be_drawn_leave_the_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let pages = [
            Page::new(100, 100, ""),
            Page::new(3, 2000, ""),
            Page::new(100, 100, "this is ( no content stream >> BT Q Q Q"),
            Page::missing(),
            Page::new(100, 100, ""),
        ];
        fs::write(dir.path().join("d.pdf"), pdf(&pages)).unwrap();
        let answers = answers(dir.path(), |_| {}, |_| {});
        let drawn: Vec<u32> = pages_of(&answers).iter().map(|p| p.page).collect();
        assert_eq!(drawn, [1, 3, 5], "{answers:?}");
        let failed: Vec<(u32, Rule)> = answers
            .iter()
            .filter_map(|answer| match answer {
                Answer::PageFailed { page, rule, .. } => Some((*page, *rule)),
                _ => None,
            })
            .collect();
        assert_eq!(failed, [(2, Rule::PageShape), (4, Rule::Page)]);
    }

    #[test]
    fn what_is_known_is_not_drawn_again_and_a_changed_source_is_noticed() {
        use super::super::protocol::Known;
        let dir = tempfile::tempdir().unwrap();
        let file = pdf(&[Page::new(50, 50, ""), Page::new(50, 50, "")]);
        fs::write(dir.path().join("d.pdf"), &file).unwrap();
        let known = |present: &[u32]| Known {
            sha256: sha256(&file),
            pages: 2,
            present: present.to_vec(),
            is_foreign: false,
        };
        let with = |known: Known| answers(dir.path(), |_| {}, |job| job.known = Some(known));
        assert!(matches!(with(known(&[1, 2]))[..], [Answer::Unchanged]));
        assert_eq!(pages_of(&with(known(&[1])))[0].page, 2);
        let other = |is_foreign| Known {
            sha256: "00".into(),
            is_foreign,
            ..known(&[1, 2])
        };
        assert!(matches!(
            with(other(true))[..],
            [Answer::Failed {
                rule: Rule::Changed,
                ..
            }]
        ));
        let drawn_anew = with(other(false));
        assert!(matches!(drawn_anew[0], Answer::Changed));
        assert_eq!(pages_of(&drawn_anew).len(), 2);
        // Of a page that is not asked for nothing is missing.
        let only = |present: &[u32]| {
            let known = known(present);
            answers(
                dir.path(),
                |setup| setup.selected = Some("2-".parse().unwrap()),
                |job| job.known = Some(known),
            )
        };
        assert!(matches!(only(&[2])[..], [Answer::Unchanged]));
        assert_eq!(pages_of(&only(&[1]))[0].page, 2);
    }

    #[test]
    fn a_full_disk_stops_the_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("d.pdf"), pdf(&[Page::new(50, 50, "")])).unwrap();
        // A file where the directory should be stands for everything that keeps us from writing.
        fs::write(dir.path().join("out"), "").unwrap();
        let answers = answers(dir.path(), |_| {}, |_| {});
        assert!(
            matches!(answers.last(), Some(Answer::Fatal { .. })),
            "{answers:?}"
        );
    }

    #[test]
    fn a_person_who_starts_a_worker_is_told() {
        for input in ["", "hello\n"] {
            let error = serve(input.as_bytes(), Vec::new()).unwrap_err();
            assert!(
                error.message().contains("started by other commands"),
                "{error}"
            );
        }
    }
}
