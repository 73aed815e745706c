//! Statements that all count, or none.

use std::ops::Deref;

use crate::connection::Connection;
use crate::error::Result;

/// When a transaction takes the database's lock.
#[derive(Clone, Copy, Debug)]
pub enum TransactionBehavior {
    /// At its first statement.
    Deferred,
    /// At once, for writing.
    Immediate,
}

/// Undone when it is dropped without [`commit`](Self::commit).
pub struct Transaction<'a> {
    connection: &'a Connection,
    open: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) fn begin(connection: &'a Connection, behavior: TransactionBehavior) -> Result<Self> {
        connection.0.execute_batch(match behavior {
            TransactionBehavior::Deferred => "BEGIN DEFERRED",
            TransactionBehavior::Immediate => "BEGIN IMMEDIATE",
        })?;
        Ok(Transaction {
            connection,
            open: true,
        })
    }

    /// # Errors
    ///
    /// What SQLite says; then nothing of it is stored.
    pub async fn commit(mut self) -> Result<()> {
        self.connection.0.execute_batch("COMMIT")?;
        self.open = false;
        Ok(())
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SQLite has ended it already where a full disk or the like made it; then this fails, rightly.
        if self.open {
            let _ = self.connection.0.execute_batch("ROLLBACK");
        }
    }
}
