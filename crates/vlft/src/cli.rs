//! The command line: what may be typed, and what is said when it was typed wrongly.

use std::ffi::OsString;

use anstream::ColorChoice;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};
use vlft_base::{Diagnostic, one_of};

use crate::commands::Command;
use crate::terminal::Look;

/// From a folder of PDFs and a zip of labels to a LoRA adapter of Qwen3-VL that vLLM serves
#[derive(Debug, Parser)]
#[command(
    name = "vlft",
    version,
    arg_required_else_help = true,
    args_override_self = true,
    max_term_width = 100,
    after_help = "`vlft help COMMAND` explains a command, `vlft help exit-codes` the exit codes.",
    after_long_help = "Examples:\n  vlft demo\n  vlft help exit-codes"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// What stdout carries: `text`, or `json` (one object, or JSON Lines)
    // Several may be given because `rasterize` has image formats under the same flag; that
    // command declares an argument of the same id and type.
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"],
          action = ArgAction::Append, help_heading = "Global options")]
    format: Vec<String>,

    /// Only the result and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,

    /// More detail on stderr
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet",
          help_heading = "Global options")]
    verbose: u8,

    /// When to use colour (`NO_COLOR` is obeyed too)
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    color: Color,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Cli {
    pub(crate) fn look(&self) -> Look {
        let format = self
            .format
            .iter()
            .rfind(|f| matches!(f.as_str(), "text" | "json"));
        Look {
            json: format.is_some_and(|f| f == "json"),
            quiet: self.quiet,
            verbose: self.verbose,
            color: match self.color {
                Color::Auto => ColorChoice::Auto,
                Color::Always => ColorChoice::Always,
                Color::Never => ColorChoice::Never,
            },
        }
    }
}

/// What the arguments ask for.
pub(crate) enum Parsed {
    Run(Box<Cli>),
    /// Help or version was asked for.
    Help(String),
    /// No command was given; the short help.
    NoCommand(String),
    Wrong(Diagnostic),
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Parsed {
    // A negative number is a value, and wrong as such; it is no option.
    let command = Cli::command().mut_subcommands(|command| command.allow_negative_numbers(true));
    let parsed = command
        .try_get_matches_from(without_help_on_help(args))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Parsed::Help(error.render().ansi().to_string())
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Parsed::NoCommand(error.render().ansi().to_string())
            }
            _ => Parsed::Wrong(explain(&error)),
        },
    }
}

/// `vlft help --help` is `vlft help`: clap would take `--help` for a command's name.
fn without_help_on_help(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|first| first == "help") {
        args.retain(|arg| arg != "--help" && arg != "-h");
    }
    args
}

/// clap knows what is wrong; we say it in the shape of every other message.
fn explain(error: &clap::Error) -> Diagnostic {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(s)) => Some(s.clone()),
        Some(ContextValue::Strings(all)) => Some(all.join(", ")),
        Some(ContextValue::StyledStr(s)) => Some(s.to_string()),
        Some(ContextValue::Number(n)) => Some(n.to_string()),
        _ => None,
    };
    let list = |kind| match error.get(kind) {
        Some(ContextValue::Strings(all)) => all.clone(),
        Some(ContextValue::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    // clap marks options that may be repeated with dots.
    let plain = |name: String| name.trim_end_matches("...").to_owned();
    let argument = plain(text(ContextKind::InvalidArg).unwrap_or_default());
    let value = text(ContextKind::InvalidValue).unwrap_or_default();

    let mut diagnostic = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let known = Command::names();
            Diagnostic::error(format!("unknown command `{name}`"))
                .expected(one_of(known.iter().map(String::as_str)))
        }
        ErrorKind::UnknownArgument => Diagnostic::error(if argument.starts_with('-') {
            format!("unknown option `{argument}`")
        } else {
            format!("unexpected argument `{argument}`")
        }),
        ErrorKind::InvalidValue if value.is_empty() => {
            let missing = Diagnostic::error(format!("missing value for `{argument}`"));
            match list(ContextKind::ValidValue) {
                known if known.is_empty() => missing,
                known => missing.expected(one_of(known.iter().map(String::as_str))),
            }
        }
        ErrorKind::InvalidValue => {
            let known = list(ContextKind::ValidValue);
            Diagnostic::error(format!("invalid value for `{argument}`"))
                .expected(one_of(known.iter().map(String::as_str)))
                .found(format!("`{value}`"))
        }
        ErrorKind::ValueValidation => {
            let invalid = Diagnostic::error(format!("invalid value `{value}` for `{argument}`"));
            match std::error::Error::source(error).map(ToString::to_string) {
                Some(cause) => match allowed(&cause) {
                    Some(range) => invalid.expected(range),
                    None => invalid.caused_by(cause),
                },
                None => invalid,
            }
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<String> = list(ContextKind::InvalidArg)
                .iter()
                .map(|a| format!("`{a}`"))
                .collect();
            let noun = if missing.len() == 1 {
                "argument"
            } else {
                "arguments"
            };
            Diagnostic::error(format!("missing {noun} {}", missing.join(", ")))
        }
        ErrorKind::ArgumentConflict => {
            let other = plain(text(ContextKind::PriorArg).unwrap_or_default());
            if other == argument || other.is_empty() {
                Diagnostic::error(format!("`{argument}` may be given only once"))
            } else {
                Diagnostic::error(format!(
                    "`{argument}` cannot be used together with `{other}`"
                ))
            }
        }
        _ => Diagnostic::error(first_line(&error.to_string())),
    };

    let suggested = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|kind| list(kind).into_iter().last());
    if let Some(suggested) = suggested {
        diagnostic = diagnostic.hint(format!("did you mean `{suggested}`?"));
    } else if let Some(usage) = text(ContextKind::Usage)
        && error.kind() != ErrorKind::InvalidSubcommand
        && error.kind() != ErrorKind::ArgumentConflict
    {
        let usage = usage.replace("Usage: ", "").replace('\n', " ");
        diagnostic = diagnostic.hint(format!("usage is `{}`", usage.trim()));
    } else if error.kind() == ErrorKind::ArgumentConflict {
        diagnostic = diagnostic.hint("leave one of them out");
    } else {
        diagnostic = diagnostic.hint("`vlft --help` lists the commands and options");
    }
    diagnostic
}

/// What a value may be, from the words of clap and of Rust's own parsers.
fn allowed(cause: &str) -> Option<String> {
    match cause {
        "invalid digit found in string" => Some("a whole number".to_owned()),
        "invalid float literal" => Some("a number".to_owned()),
        "number would be zero for non-zero type" => Some("at least 1".to_owned()),
        _ => allowed_range(cause),
    }
}

/// `0 is not in 1..18446744073709551615` -> `at least 1`. clap writes every upper end as excluded
/// (`..`) or included (`..=`), also where it is only the largest number of the type.
fn allowed_range(cause: &str) -> Option<String> {
    let (_, range) = cause.split_once(" is not in ")?;
    let (low, high) = range.split_once("..")?;
    let (high, excluded) = match high.strip_prefix('=') {
        Some(high) => (high, 0),
        None => (high, 1),
    };
    let low: u64 = low.parse().ok()?;
    match high.parse::<u64>() {
        Ok(high) if ![u64::MAX, u32::MAX.into(), i64::MAX as u64].contains(&high) => {
            Some(format!("{low} to {}", high - excluded))
        }
        _ => Some(format!("at least {low}")),
    }
}

/// `error: Something is wrong\n\nFor more ..` -> `something is wrong`.
fn first_line(rendered: &str) -> String {
    let line = rendered.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_two_examples_and_a_short_help_of_one_screen() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            if name == "help" || command.is_hide_set() {
                continue;
            }
            let long = command.render_long_help().to_string();
            let examples = long.matches(&format!("\n  vlft {name}")).count();
            assert!(
                examples >= 2,
                "`vlft {name} --help` shows {examples} examples"
            );
            let lines = command.render_help().to_string().lines().count();
            assert!(lines <= 40, "`vlft {name} -h` has {lines} lines");
        }
    }

    /// Promised in config headers for a later version; a name leaves this list when it exists.
    #[cfg(feature = "train")]
    const LATER: [&str; 1] = ["pull"];

    /// Whoever copies a command from the README, a config or a help text must not be refused.
    #[cfg(feature = "train")]
    #[test]
    fn every_command_that_is_shown_can_be_typed() {
        let mut pages = vec![include_str!("../../../README.md").to_owned()];
        let configs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        for entry in std::fs::read_dir(configs).unwrap() {
            pages.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
        }
        for command in Cli::command().get_subcommands_mut() {
            pages.push(command.render_long_help().to_string());
        }
        let mut typed = 0;
        for page in &pages {
            for line in commands_in(page) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let known = !LATER.contains(&words[1]);
                let parsed = Cli::try_parse_from(&words);
                match parsed {
                    Ok(_) => assert!(known, "`{line}` exists now"),
                    Err(e) => assert!(!known, "`{line}` cannot be typed: {e}"),
                }
                typed += 1;
            }
        }
        assert!(typed > 30, "{typed}");
    }

    /// Lines that are `vlft COMMAND ..`: in fences of Markdown, in comments of configs, indented in
    /// help texts. Continued lines are joined.
    #[cfg(feature = "train")]
    fn commands_in(page: &str) -> Vec<String> {
        let page = page.replace("\\\n#", " ").replace("\\\n", " ");
        let (mut commands, mut fenced) = (Vec::new(), false);
        for line in page.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
            }
            let command = line.trim_start_matches(['#', ' ']);
            if command.starts_with("vlft ") && (fenced || line.starts_with(['#', ' '])) {
                let ends = [" #", "  (", " > ", " | "];
                let end = ends.iter().filter_map(|mark| command.find(mark)).min();
                commands.push(command[..end.unwrap_or(command.len())].to_owned());
            }
        }
        commands
    }
}
