//! `vlft show`: one record as the model sees it.

use std::io::Write;
use std::path::{Path, PathBuf};

use vlft_base::Result;
use vlft_base::format::bytes;
use vlft_base::output::{Existing, PartialFile, cannot, check_file};
use vlft_base::paths::not_an_input;
use vlft_checkpoint::Family;
use vlft_dataset::image_path::{base_of, find};
use vlft_processor::processor::Options as Limits;
use vlft_processor::show::{self, Detail, Marks, Masked, Options, Shown};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft show data/splits/train.jsonl
  vlft show data/splits/train.jsonl invoice-0117 --model models/Qwen3-VL-8B-Instruct
  vlft show data/splits/train.jsonl :240 --model models/Qwen3-VL-8B-Instruct --max-pixels 1310720
  vlft show data/splits/train.jsonl --model models/Qwen3-VL-8B-Instruct --mask --html record.html

With `--model` the conversation is rendered by that model's own chat template and counted by its \
tokenizer; image tokens are shown as a number. `>` in the margin marks what is trained on. `--mask` \
marks it token by token, and `--html` shows it as a page: every token with its id, every image as \
the model gets it under the grid of its patches.")]
pub(crate) struct Args {
    /// The records
    #[arg(value_name = "F.jsonl")]
    file: PathBuf,

    /// An id, or `:N` for line N [default: the first record]
    #[arg(value_name = "ID")]
    which: Option<String>,

    /// The model whose eyes to look through
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Images have at least this many pixels after resizing, instead of the model's
    #[arg(long, value_name = "N", requires = "model")]
    min_pixels: Option<u64>,

    /// Images have at most this many pixels after resizing, instead of the model's
    #[arg(long, value_name = "N", requires = "model")]
    max_pixels: Option<u64>,

    /// Token by token, what is trained on in colour (without colour in `⟦ ⟧`)
    #[arg(long, requires = "model")]
    mask: bool,

    /// Write a page to look at: every token, and every image under its patches
    #[arg(long, value_name = "OUT.html", requires = "model")]
    html: Option<PathBuf>,

    /// Replace `--html`
    #[arg(long, requires = "html")]
    force: bool,

    /// Make the page, but write none
    #[arg(long, requires = "html")]
    dry_run: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let without_model = args.model.is_none();
    if let Some(model) = &args.model {
        Family::check_dir(model)?;
    }
    let shown_file = args.file.clone();
    // Taken before the work, so that a name that cannot be used is told at once.
    let page = match args.html {
        Some(out) => Some(Page::begin(out, &args.file, args.force, args.dry_run)?),
        None => None,
    };
    let shown = show::show(&Options {
        file: args.file,
        which: args.which,
        model: args.model,
        limits: Limits {
            min_pixels: args.min_pixels,
            max_pixels: args.max_pixels,
        },
        detail: match (&page, args.mask) {
            (Some(_), _) => Detail::Pictures,
            (None, true) => Detail::Mask,
            (None, false) => Detail::Conversation,
        },
    })?;
    if args.mask {
        let marks = match terminal.has_colour() {
            true => Marks::Colour,
            false => Marks::Brackets,
        };
        let shown = &shown;
        terminal.report(&Masked { shown, marks });
    } else {
        terminal.report(&shown);
    }
    if let Some(page) = page {
        let base = base_of(&shown_file);
        let found = shown
            .images
            .iter()
            .filter_map(|image| find(base, &image.path));
        let images: Vec<PathBuf> = found.map(|found| found.path).collect();
        not_an_input("--html", &page.out, images.iter().map(PathBuf::as_path))?;
        terminal.note(page.finish(&shown)?);
    }
    if without_model {
        terminal.note("Pass `--model DIR` to see tokens and the chat template");
    }
    Ok(Exit::Done)
}

/// A page that is being made.
struct Page {
    out: PathBuf,
    /// None where nothing is to be written.
    file: Option<PartialFile>,
}

impl Page {
    fn begin(out: PathBuf, records: &Path, force: bool, dry_run: bool) -> Result<Self> {
        not_an_input("--html", &out, [records])?;
        let existing = Existing::forced(force);
        let file = match dry_run {
            true => {
                check_file(&out, existing)?;
                None
            }
            false => Some(PartialFile::create(&out, existing)?),
        };
        Ok(Self { out, file })
    }

    /// What was done, in words.
    fn finish(self, shown: &Shown) -> Result<String> {
        let page = show::page(shown)?;
        let (out, size) = (self.out.display(), bytes(page.len() as u64));
        let Some(mut file) = self.file else {
            return Ok(format!("`{out}` would hold {size}; nothing was written"));
        };
        file.write_all(page.as_bytes())
            .map_err(|e| cannot("write", &self.out, e))?;
        file.commit()?;
        Ok(format!("Wrote `{out}`"))
    }
}
