//! What a query gave.

use std::collections::VecDeque;

use rusqlite::types::{FromSql, Value};

use crate::error::{Error, Result};

/// The rows of a query, in its order.
#[derive(Debug)]
pub struct Rows(VecDeque<Row>);

impl Rows {
    pub(crate) fn read(mut rows: rusqlite::Rows<'_>) -> Result<Self> {
        let mut read = VecDeque::new();
        while let Some(row) = rows.next()? {
            let columns = row.as_ref().column_count();
            read.push_back(Row((0..columns)
                .map(|column| row.get(column))
                .collect::<rusqlite::Result<_>>()?));
        }
        Ok(Rows(read))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.0.iter()
    }

    /// The next row, `None` after the last.
    ///
    /// # Errors
    ///
    /// None here.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        Ok(self.0.pop_front())
    }
}

/// The values of one row.
#[derive(Debug)]
pub struct Row(Vec<Value>);

impl Row {
    /// The value of a column, counted from 0.
    ///
    /// # Errors
    ///
    /// That there is no such column, or that it holds another type.
    pub fn get<T: FromSql>(&self, column: usize) -> Result<T> {
        let value = self
            .0
            .get(column)
            .ok_or_else(|| Error::Error(format!("no column {column}")))?;
        T::column_result(value.into())
            .map_err(|error| Error::Error(format!("column {column}: {error}")))
    }
}
