//! What can go wrong, in the cases that `cubecl-environment` tells apart.

use std::fmt;

use rusqlite::ErrorCode;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub enum Error {
    /// Another connection holds the lock.
    Busy(String),
    /// Never made here: SQLite says `Busy`.
    BusySnapshot(String),
    /// Made by callers: what kind, and while doing what.
    IoError(std::io::ErrorKind, &'static str),
    /// Everything else, in SQLite's words.
    Error(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Busy(words) | Error::BusySnapshot(words) | Error::Error(words) => {
                f.write_str(words)
            }
            Error::IoError(kind, doing) => write!(f, "{doing}: {kind}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::Busy(error.to_string())
            }
            _ => Error::Error(error.to_string()),
        }
    }
}
