//! `vlft completions` and `vlft man`: what a shell and a manual know about the command line.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;
use vlft_base::format::count;
use vlft_base::output::{cannot, check_folder, write_atomic};
use vlft_base::{Diagnostic, Result};

use crate::cli::Cli;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft completions bash > ~/.local/share/bash-completion/completions/vlft
  vlft completions zsh > ~/.zfunc/_vlft
  vlft completions powershell > vlft.ps1      # and `. vlft.ps1` in your profile")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.script)
    }
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vlft", &mut script);
    terminal.report(&Script {
        shell: args.shell.to_string(),
        script: String::from_utf8(script).expect("names and help texts are UTF-8"),
    });
    Ok(Exit::Done)
}

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft man --out ~/.local/share/man/man1
  vlft man --out man                          # then: man man/vlft-split.1")]
pub(crate) struct ManArgs {
    /// Where `vlft.1` and `vlft-COMMAND.1` go; pages of an earlier version are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Pages {
    out: PathBuf,
    pages: Vec<String>,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pages.join("\n"))
    }
}

pub(crate) fn manual(args: ManArgs, terminal: &Terminal) -> Result<Exit> {
    check_folder(&args.out)?;
    fs::create_dir_all(&args.out).map_err(|e| cannot("create", &args.out, e))?;
    let mut command = Cli::command();
    command.build();
    let mut pages = vec![page(&args.out, "vlft", command.clone())?];
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("vlft-{}", sub.get_name());
        pages.push(page(&args.out, &name, sub.clone())?);
    }
    let report = Pages {
        out: args.out,
        pages,
    };
    terminal.report(&report);
    terminal.note(format!(
        "Wrote {} to `{}`",
        count(report.pages.len() as u64, "page"),
        report.out.display()
    ));
    Ok(Exit::Done)
}

fn page(out: &std::path::Path, name: &str, command: clap::Command) -> Result<String> {
    let mut roff = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut roff)
        .map_err(|e| Diagnostic::error("cannot render a manual page").caused_by(e))?;
    let file = format!("{name}.1");
    write_atomic(&out.join(&file), &roff)?;
    Ok(file)
}
