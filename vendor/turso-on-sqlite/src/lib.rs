//! The part of the interface of `turso` 0.8 that `cubecl-environment` uses on a file system, on SQLite.
//!
//! CubeCL keeps what it has compiled and measured in one small database file. `turso` is a database engine
//! of its own: minutes of build time and an eighth of the program for three statements. SQLite reads and
//! writes the same files.
//!
//! The functions that `turso` declares `async` are so here too; each does its work at its first poll.
//! A file is written through a write-ahead log, as `turso` does it: readers and a writer do not wait for each
//! other. Where that cannot be (a file system without shared memory) SQLite's rollback journal stays.

mod connection;
mod error;
mod rows;
pub mod transaction;

use std::path::PathBuf;

use rusqlite::OpenFlags;

pub use connection::Connection;
pub use error::{Error, Result};
pub use rows::{Row, Rows};

/// How a database file is opened.
pub struct Builder {
    path: PathBuf,
    read_only: bool,
}

impl Builder {
    /// A database in the file `path`, made where there is none.
    pub fn new_local(path: &str) -> Self {
        Builder {
            path: path.into(),
            read_only: false,
        }
    }

    /// Never writes, and refuses a file that is not there.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// SQLite's files are always safe among processes.
    pub fn experimental_multiprocess_wal(self, _enabled: bool) -> Self {
        self
    }

    /// SQLite always knows `VACUUM`.
    pub fn experimental_vacuum(self, _enabled: bool) -> Self {
        self
    }

    /// # Errors
    ///
    /// What opening the file says: it is not there, may not be written, is no database.
    pub async fn build(self) -> Result<Database> {
        let access = match self.read_only {
            true => OpenFlags::SQLITE_OPEN_READ_ONLY,
            false => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let database = Database {
            path: self.path,
            flags: access | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        };
        // SQLite opens lazily: a first look at the file, so that a wrong one is told of here.
        let connection = database.open()?;
        connection.query_row("SELECT COUNT(*) FROM sqlite_schema", (), |_| Ok(()))?;
        if !self.read_only {
            // Stays as it was where it may not be written, or has no shared memory: both are served.
            let _ = connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()));
        }
        Ok(database)
    }
}

/// A database file; every connection to it opens the file anew.
#[derive(Clone, Debug)]
pub struct Database {
    path: PathBuf,
    flags: OpenFlags,
}

impl Database {
    /// # Errors
    ///
    /// What opening the file says.
    pub fn connect(&self) -> Result<Connection> {
        Ok(Connection::new(self.open()?))
    }

    fn open(&self) -> Result<rusqlite::Connection> {
        Ok(rusqlite::Connection::open_with_flags(
            &self.path, self.flags,
        )?)
    }
}
