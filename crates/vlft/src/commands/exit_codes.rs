//! `vlft exit-codes`, reached as `vlft help exit-codes`: the table of `exit.rs`.

use std::fmt;

use serde::Serialize;
use vlft_base::Result;

use crate::exit::{CODES, Exit};
use crate::terminal::Terminal;

pub(crate) fn run(terminal: &Terminal) -> Result<Exit> {
    terminal.report(&Codes {
        exit_codes: CODES.map(|(code, meaning)| Code { code, meaning }),
    });
    Ok(Exit::Done)
}

/// The same as text, for the help.
pub(crate) fn explanation() -> String {
    let lines = CODES.map(|(code, meaning)| format!("{code:>5}  {meaning}"));
    format!("What the exit codes mean\n\n{}", lines.join("\n"))
}

#[derive(Serialize)]
struct Codes {
    exit_codes: [Code; CODES.len()],
}

#[derive(Serialize)]
struct Code {
    code: u8,
    meaning: &'static str,
}

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exit_codes
            .iter()
            .try_for_each(|c| writeln!(f, "{:>5}  {}", c.code, c.meaning))
    }
}
