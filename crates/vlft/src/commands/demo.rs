//! `vlft demo`: the whole road on the example, as the very commands a person would type. Each line
//! is shown, then run in this process; nothing here does what a command does not do.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};
use vlft_base::output::{Existing, PartialDir, cannot, check_folder, write_atomic};
use vlft_base::{Diagnostic, Result, format};
use vlft_checkpoint::{Storage, write_random_weights};
use vlft_dataset::pdfium;
use vlft_example::{documents, tiny_model};
use vlft_train::device::Device;
use vlft_train::eval::{self, Evaluation};
use vlft_train::log::{Line, SummaryLine, read_metrics};

use crate::cli::{self, Parsed};
use crate::exit::Exit;
use crate::terminal::Terminal;

const MAPPING: &str = include_str!("../../../../configs/bill-of-lading.mapping.toml");
const TARGET_SCHEMA: &str = include_str!("../../../../schemas/bill-of-lading.schema.json");
const CONFIG: &str = include_str!("../../../../configs/demo-tiny.toml");
/// The folder that `CONFIG` names; `--out` puts another in its place.
const DEFAULT_OUT: &str = "vlft-demo";
const FRACTIONS: [&str; 6] = ["--train", "0.7", "--val", "0.1", "--test", "0.2"];
/// Of the tiny model's random weights.
const SEED: u64 = 42;
/// Says that a folder is a demo's. Anything else that is full stays as it is.
const MARK: &str = "demo.json";

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft demo
  vlft demo --out /tmp/road --documents 96

Makes bills of lading (PDFs, scans, labels, zips), takes them all the way to a LoRA adapter of a tiny \
Qwen3-VL with random weights, and compares the loss on unseen documents with and without it. The same \
command again goes on where it stopped.")]
pub(crate) struct Args {
    /// Where everything goes
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    out: PathBuf,

    /// How many documents to make
    #[arg(long, value_name = "N", default_value_t = documents::Options::default().documents,
          value_parser = RangedU64ValueParser::<usize>::new().range(documents::FEWEST as u64..))]
    documents: usize,

    /// Where libpdfium is, if not in the usual places
    #[arg(long, value_name = "PATH")]
    pdfium: Option<PathBuf>,

    /// Throw away what is in DIR and start over
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let start = Instant::now();
    let road = Road::new(&args.out, terminal);
    road.claim(args.documents, args.force)?;
    let report = road.path("report.json");
    if report.exists() {
        return Err(Diagnostic::error("the demo is done already")
            .with_kind(vlft_base::Kind::NothingToDo)
            .at(&args.out)
            .hint("look around in that folder, or pass `--force` to see it all again"));
    }

    // What the user has: a folder of PDFs, page images in zips, a file of labels.
    road.step(
        "the documents, and the labels people typed",
        "example",
        |folder| {
            let options = documents::Options {
                documents: args.documents,
                ..documents::Options::default()
            };
            documents::generate(&options, folder).map(drop)
        },
    )?;
    install_pdfium(args.pdfium.as_deref(), terminal)?;

    // From documents to records.
    let pdfs = road.path("example").join(documents::PDF_FOLDER);
    let archives = documents::ARCHIVES.map(|zip| road.shown(&format!("example/{zip}")));
    let at = |path: &str| road.shown(path);
    let mut rasterize = words("rasterize", [&road.show(&pdfs), "--out", &at("pages")]);
    if let Some(pdfium) = &args.pdfium {
        rasterize.extend(["--pdfium".into(), road.show(pdfium)]);
    }
    road.command("pages", &rasterize)?;
    let [first, second] = &archives;
    road.command(
        "unpacked",
        &words("unpack", [first, second, "--out", &at("unpacked")]),
    )?;
    road.file("mapping.toml", MAPPING)?;
    road.file("target.schema.json", TARGET_SCHEMA)?;
    let labels = at(&format!("example/{}", documents::LABELS));
    let (pages, unpacked, all) = (at("pages"), at("unpacked"), at("data/all.jsonl"));
    let (mapping, schema) = (at("mapping.toml"), at("target.schema.json"));
    let build = words(
        "build-jsonl",
        ["--labels", &labels, "--images", &pages, &unpacked],
    );
    let build = [
        build,
        vec!["--mapping".into(), mapping, "--out".into(), all.clone()],
    ]
    .concat();
    road.command("data/all.jsonl", &build)?;

    // The tiny model comes before the checks: with a model they count tokens too.
    road.step("a tiny Qwen3-VL with random weights", "model", random_model)?;
    let model = at("model");
    let validate = ["--model", &model, "--target-schema", &schema];
    road.command(
        "",
        &[words("validate", [all.as_str()]), strings(validate)].concat(),
    )?;
    road.command(
        "data/splits",
        // A small set: the default tenth would leave too few unseen documents to judge by.
        &[
            words("split", [&all, "--out", &at("data/splits"), "--exact"]),
            strings(FRACTIONS),
        ]
        .concat(),
    )?;
    let train_data = at("data/splits/train.jsonl");
    road.command("", &words("stats", [&train_data, "--model", &model]))?;

    // From records to an adapter.
    road.file(
        "train.toml",
        &CONFIG.replace(DEFAULT_OUT, at("").trim_end_matches('/')),
    )?;
    road.command(
        "run/adapter",
        &words("train", [&at("train.toml"), "--out", &at("run")]),
    )?;
    let test_data = at("data/splits/test.jsonl");
    let base = road.evaluate(&model, None, &test_data)?;
    let adapted = road.evaluate(&model, Some(&at("run/adapter")), &test_data)?;

    let demo = Demo {
        out: args.out.clone(),
        training: road.training()?,
        test_loss_base: base.loss,
        test_loss_adapter: adapted.loss,
        test_records: base.records,
        seconds: start.elapsed().as_secs_f64(),
    };
    let json = serde_json::to_string_pretty(&demo).expect("plain values") + "\n";
    write_atomic(&report, json.as_bytes())?;
    terminal.report(&demo);
    terminal.note(format!("Everything is in `{}`", args.out.display()));
    Ok(Exit::Done)
}

/// The one thing that may be missing on a machine with a Rust toolchain and Python. A path that
/// somebody gave is not replaced.
fn install_pdfium(given: Option<&Path>, terminal: &Terminal) -> Result<()> {
    let library = match pdfium::find(given) {
        Err(_) if given.is_none() => {
            terminal.note("\nlibpdfium is not here yet: fetching it with pip, once");
            pdfium::install()?
        }
        found => found?,
    };
    terminal.detail(format!("libpdfium: `{}`", library.path.display()));
    Ok(())
}

fn random_model(folder: &Path) -> Result<()> {
    let dir = PartialDir::create(folder, Existing::Replace)?;
    tiny_model::write_files(dir.path(), &tiny_model::Size::default())?;
    let config = vlft_checkpoint::Config::from_dir(dir.path())?;
    write_random_weights(dir.path(), &config, SEED, Storage::F32, u64::MAX)?;
    dir.commit()
}

fn words<'a>(command: &'a str, rest: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    strings(std::iter::once(command).chain(rest))
}

fn strings<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    words.into_iter().map(String::from).collect()
}

/// The output folder and the way there.
struct Road<'a> {
    out: PathBuf,
    terminal: &'a Terminal,
    /// Where the commands of the road write.
    commands: Terminal,
}

impl<'a> Road<'a> {
    fn new(out: &Path, terminal: &'a Terminal) -> Self {
        Self {
            out: out.to_path_buf(),
            terminal,
            commands: terminal.for_inner_commands(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A path below the output as it is typed.
    fn shown(&self, name: &str) -> String {
        self.show(&self.path(name))
    }

    fn show(&self, path: &Path) -> String {
        path.display().to_string().replace('\\', "/")
    }

    /// Takes the folder: a new one, an empty one, or one of an earlier demo with as many documents.
    fn claim(&self, documents: usize, force: bool) -> Result<()> {
        check_folder(&self.out)?;
        let mark = self.path(MARK);
        let mut entries = match fs::read_dir(&self.out) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return self.mark(documents);
            }
            Err(e) => return Err(cannot("use", &self.out, e)),
        };
        if entries.next().is_none() {
            return self.mark(documents);
        }
        let Ok(text) = fs::read_to_string(&mark) else {
            return Err(Diagnostic::error("the output folder holds something else")
                .at(&self.out)
                .expected("no folder, an empty one, or one that `vlft demo` made")
                .hint("choose another `--out`"));
        };
        if force {
            self.clear()?;
            return self.mark(documents);
        }
        // A mark that cannot be read was cut short before anything was made.
        let begun = serde_json::from_str::<Mark>(&text).map_or(documents, |mark| mark.documents);
        if begun != documents {
            return Err(
                Diagnostic::error("the demo in this folder has other documents")
                    .at(&self.out)
                    .expected(format!("`--documents {begun}`"))
                    .found(format!("`--documents {documents}`"))
                    .hint("choose another `--out`, or pass `--force` to start over"),
            );
        }
        Ok(())
    }

    fn mark(&self, documents: usize) -> Result<()> {
        let mark = serde_json::to_string(&Mark { documents }).expect("plain values") + "\n";
        write_atomic(&self.path(MARK), mark.as_bytes())
    }

    /// Only what a demo makes is removed.
    fn clear(&self) -> Result<()> {
        let names = ["example", "pages", "unpacked", "data", "model", "run"];
        let files = [
            "report.json",
            "mapping.toml",
            "target.schema.json",
            "train.toml",
        ];
        for path in names.map(|name| self.path(name)) {
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|e| cannot("remove", &path, e))?;
            }
        }
        for path in files.map(|name| self.path(name)) {
            if path.exists() {
                fs::remove_file(&path).map_err(|e| cannot("remove", &path, e))?;
            }
        }
        Ok(())
    }

    /// Something a real user has already and the demo makes.
    fn step(&self, what: &str, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.path(name);
        self.terminal
            .note(format!("\n# {what}: `{}`", self.show(&path)));
        if path.exists() { Ok(()) } else { make(&path) }
    }

    fn file(&self, name: &str, text: &str) -> Result<()> {
        write_atomic(&self.path(name), text.as_bytes())
    }

    /// Shows a command line and runs it, unless what it makes is there from an earlier demo.
    fn command(&self, makes: &str, line: &[String]) -> Result<()> {
        self.show_command(line);
        if !makes.is_empty() && self.path(makes).exists() {
            self.terminal.note("there already");
            return Ok(());
        }
        let args = std::iter::once("vlft".into()).chain(line.iter().map(Into::into));
        let Parsed::Run(cli) = cli::parse(args) else {
            return Err(Diagnostic::error(format!(
                "the demo cannot run `{}`",
                line.join(" ")
            )));
        };
        match cli.command.run(&self.commands)? {
            Exit::Done => Ok(()),
            _ => Err(
                Diagnostic::error(format!("`vlft {}` says no", line.join(" ")))
                    .with_kind(vlft_base::Kind::Verdict),
            ),
        }
    }

    fn show_command(&self, line: &[String]) {
        self.terminal.note(format!("\n$ vlft {}", line.join(" ")));
    }

    fn evaluate(&self, model: &str, adapter: Option<&str>, data: &str) -> Result<Evaluation> {
        let mut line = words("eval", ["--model", model, "--data", data]);
        if let Some(adapter) = adapter {
            line.extend(strings(["--adapter", adapter]));
        }
        self.show_command(&line);
        let options = eval::Options {
            task: eval::Task::Answers,
            model: model.into(),
            adapter: adapter.map(Into::into),
            data: data.into(),
            device: Device::Cpu,
            base: None,
            compute: None,
            min_pixels: None,
            max_pixels: None,
        };
        let outcome = eval::run(&options, &mut |_| {})?;
        self.commands.report(&outcome);
        match outcome {
            eval::Outcome::Answers(evaluation) => Ok(evaluation),
            _ => unreachable!("the loss of answers was asked for"),
        }
    }

    fn training(&self) -> Result<SummaryLine> {
        match read_metrics(&self.path("run"))?.pop() {
            Some(Line::Summary(summary)) => Ok(summary),
            _ => Err(Diagnostic::error("the demo's training has no summary").at(self.path("run"))),
        }
    }
}

/// What [`MARK`] holds: what a demo must be asked for again to go on.
#[derive(Serialize, Deserialize)]
struct Mark {
    documents: usize,
}

/// What the demo ends with.
#[derive(Serialize)]
struct Demo {
    out: PathBuf,
    training: SummaryLine,
    test_records: u64,
    test_loss_base: f64,
    test_loss_adapter: f64,
    seconds: f64,
}

impl fmt::Display for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = self.out.display().to_string().replace('\\', "/");
        let training = &self.training;
        writeln!(f)?;
        writeln!(
            f,
            "training loss       {:.3} -> {:.3}   ({}, {:.0} s)",
            training.first_loss,
            training.last_loss,
            format::count(training.steps, "step"),
            training.seconds
        )?;
        writeln!(
            f,
            "unseen documents    {:.3} -> {:.3}   ({}, without and with the adapter)",
            self.test_loss_base,
            self.test_loss_adapter,
            format::count(self.test_records, "record"),
        )?;
        writeln!(f, "the whole road      {:.0} s", self.seconds)?;
        writeln!(f)?;
        writeln!(f, "adapter             {out}/run/adapter")?;
        writeln!(f, "curves              {out}/run/report.html")?;
        writeln!(
            f,
            "records             {out}/data/splits/{{train,val,test}}.jsonl"
        )?;
        writeln!(
            f,
            "a record            vlft show {out}/data/splits/test.jsonl --model {out}/model"
        )?;
        writeln!(f)?;
        writeln!(f, "Next, with your own documents and Qwen3-VL-8B:")?;
        writeln!(f, "  vlft rasterize YOUR_PDFS --out data/pages")?;
        writeln!(
            f,
            "  vlft build-jsonl --labels results.json --images data/pages \
             --mapping configs/bill-of-lading.mapping.toml --out data/all.jsonl"
        )?;
        writeln!(
            f,
            "  vlft validate data/all.jsonl && vlft split data/all.jsonl --out data/splits"
        )?;
        write!(
            f,
            "  vlft train configs/qwen3-vl-8b-lora.toml --out runs/bol-01"
        )
    }
}
