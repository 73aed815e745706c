//! Statements on an open database.

use std::time::Duration;

use rusqlite::Params;

use crate::error::Result;
use crate::rows::{Row, Rows};
use crate::transaction::{Transaction, TransactionBehavior};

/// An open database file.
#[derive(Debug)]
pub struct Connection(pub(crate) rusqlite::Connection);

impl Connection {
    pub(crate) fn new(connection: rusqlite::Connection) -> Self {
        Connection(connection)
    }

    /// How long a statement waits for a lock before it ends as [`Busy`](crate::Error::Busy).
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn busy_timeout(&self, duration: Duration) -> Result<()> {
        Ok(self.0.busy_timeout(duration)?)
    }

    /// The number of rows that `sql` changed.
    ///
    /// # Errors
    ///
    /// What SQLite says; that `sql` answers with rows, too.
    pub async fn execute(&self, sql: impl AsRef<str>, params: impl Params) -> Result<u64> {
        Ok(self.0.execute(sql.as_ref(), params)? as u64)
    }

    /// The rows of `sql`, all read at once: a row does not hold the database's lock.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub async fn query(&self, sql: impl AsRef<str>, params: impl Params) -> Result<Rows> {
        let mut statement = self.0.prepare(sql.as_ref())?;
        Rows::read(statement.query(params)?)
    }

    /// `PRAGMA name`, whether it answers with rows or not.
    ///
    /// # Errors
    ///
    /// What SQLite or `visit` says.
    pub async fn pragma_query(
        &self,
        name: &str,
        visit: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.0.prepare(&format!("PRAGMA {name}"))?;
        Rows::read(statement.query(())?)?.iter().try_for_each(visit)
    }

    /// # Errors
    ///
    /// What SQLite says.
    pub async fn transaction_with_behavior(
        &mut self,
        behavior: TransactionBehavior,
    ) -> Result<Transaction<'_>> {
        Transaction::begin(self, behavior)
    }
}
