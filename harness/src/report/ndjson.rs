//! One JSON object a line: the form other programs read, and `gauntlet report` reads back.

use std::io::{self, BufRead, Write};

use super::Record;

/// Why a file is no run.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("line {line}: {source}")]
    Unreadable {
        /// The line, from 1.
        line: usize,
        /// Why.
        source: io::Error,
    },
    /// A line is no record.
    #[error("line {line}: not a record of a run: {source}")]
    NoRecord {
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// There is nothing in it.
    #[error("line 1: empty: not the NDJSON of a run")]
    Empty,
}

/// Writes one record, and flushes it: a reader follows a run as it goes.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Reads a run back.
///
/// # Errors
/// When a line is no record.
pub fn read(input: impl BufRead) -> Result<Vec<Record>, ReadError> {
    let mut records = Vec::new();
    for (index, text) in input.lines().enumerate() {
        let line = index + 1;
        let text = text.map_err(|source| ReadError::Unreadable { line, source })?;
        let record =
            serde_json::from_str(&text).map_err(|source| ReadError::NoRecord { line, source })?;
        records.push(record);
    }
    if records.is_empty() {
        Err(ReadError::Empty)
    } else {
        Ok(records)
    }
}
