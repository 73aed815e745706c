//! `vlft`: from a folder of PDFs to a LoRA adapter of Qwen3-VL that vLLM serves.
//!
//! The binary holds no logic. It parses arguments (`cli`), calls one library function per command
//! (`commands/<name>.rs`), shows the report (`terminal`) and ends with a code (`exit`). To
//! understand the trainer, read `commands/train.rs` and then `vlft-train/src/recipe.rs`.

mod cli;
mod commands;
#[cfg(feature = "train")]
mod device;
mod exit;
#[cfg(feature = "train")]
mod signals;
mod terminal;

use std::process::ExitCode;

use cli::Parsed;
use exit::Exit;
use terminal::Terminal;

fn main() -> ExitCode {
    exit::explain_panics();
    let exit = match cli::parse(std::env::args_os()) {
        Parsed::Run(cli) => run(*cli),
        Parsed::Help(text) => {
            Terminal::plain().help(&text);
            Exit::Done
        }
        Parsed::NoCommand(help) => {
            Terminal::plain().note(help.trim_end());
            Exit::CannotRun
        }
        Parsed::Wrong(diagnostic) => {
            Terminal::plain().diagnostic(&diagnostic);
            Exit::CannotRun
        }
    };
    exit.into()
}

fn run(cli: cli::Cli) -> Exit {
    let terminal = Terminal::new(cli.look());
    let outcome = cli.command.run(&terminal);
    // A result that could not be shown is a failure even if the work went well.
    let outcome = outcome.and_then(|exit| terminal.finish().map(|()| exit));
    match outcome {
        Ok(exit) => exit,
        Err(diagnostic) => {
            terminal.diagnostic(&diagnostic);
            Exit::from(diagnostic.kind())
        }
    }
}
