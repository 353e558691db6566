//! `.BTF.ext`: which line of the source an instruction is of. Read for the report, and its offsets moved along with
//! the code, since the kernel wants one for the beginning of each function.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Unusable;

/// Bytes of either header's beginning: magic, version, flags, its own length.
const BEGIN: usize = 8;
/// Bits of a line's number below it, which are the column.
const COLUMN: u32 = 10;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// As the compiler was told of it.
    pub file: String,
    /// From 1.
    pub number: u32,
}

/// Whose places the records of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Beginnings, of functions and of lines.
    Beginning,
    /// Instructions that the loader changes.
    Instruction,
}

/// Tables by offset and length in the header.
const TABLES: [(usize, Kind); 3] = [
    (8, Kind::Beginning),
    (16, Kind::Beginning),
    (24, Kind::Instruction),
];
/// Of [`TABLES`], that of lines.
const LINES: usize = 1;

/// Lines by section and offset of the first instruction, bytes.
pub(super) type Lines = BTreeMap<String, BTreeMap<u64, Line>>;

/// What is told of all sections.
///
/// # Errors
/// When it is cut off.
pub(super) fn lines(btf: &[u8], ext: &[u8]) -> Result<Lines, Unusable> {
    let strings = strings(btf)?;
    let mut lines = Lines::new();
    records(ext, LINES, |section, record| {
        let in_it = lines.entry(string(strings, section)?).or_default();
        let file = string(strings, word(ext, record.start + 4)?)?;
        let number = word(ext, record.start + 12)? >> COLUMN;
        in_it.insert(word(ext, record.start)?.into(), Line { file, number });
        Ok(())
    })?;
    Ok(lines)
}

/// The same tables with other offsets: `moved` says which, of a section by its name.
///
/// # Errors
/// Its own, and when a table is cut off.
pub(super) fn moved(
    btf: &[u8],
    ext: &[u8],
    moved: impl Fn(&str, u64, Kind) -> Result<u64, Unusable>,
) -> Result<Vec<u8>, Unusable> {
    let strings = strings(btf)?;
    let mut out = ext.to_vec();
    for (table, (_, kind)) in TABLES.into_iter().enumerate() {
        records(ext, table, |section, record| {
            let section = string(strings, section)?;
            let offset = moved(&section, word(ext, record.start)?.into(), kind)?;
            let offset = u32::try_from(offset).map_err(|_| cut_off())?;
            out[record.start..][..4].copy_from_slice(&offset.to_le_bytes());
            Ok(())
        })?;
    }
    Ok(out)
}

/// Every record of a table: its section's name, and where it is.
fn records(
    ext: &[u8],
    table: usize,
    mut record: impl FnMut(u32, Range<usize>) -> Result<(), Unusable>,
) -> Result<(), Unusable> {
    let header = word(ext, 4)? as usize;
    let (field, _) = TABLES[table];
    if field + 8 > header {
        // An older header, which has no such table.
        return Ok(());
    }
    let mut at = header + word(ext, field)? as usize;
    let end = at + word(ext, field + 4)? as usize;
    if at == end {
        return Ok(());
    }
    let size = word(ext, at)? as usize;
    at += 4;
    while at < end {
        let (section, many) = (word(ext, at)?, word(ext, at + 4)?);
        at += 8;
        for _ in 0..many {
            if size < 4 || at + size > ext.len() {
                return Err(cut_off());
            }
            record(section, at..at + size)?;
            at += size;
        }
    }
    Ok(())
}

/// The strings of `.BTF`.
fn strings(btf: &[u8]) -> Result<&[u8], Unusable> {
    let header = word(btf, 4)? as usize;
    let at = header + word(btf, BEGIN + 8)? as usize;
    let length = word(btf, BEGIN + 12)? as usize;
    btf.get(at..at + length).ok_or_else(cut_off)
}

fn string(strings: &[u8], at: u32) -> Result<String, Unusable> {
    let rest = strings.get(at as usize..).ok_or_else(cut_off)?;
    let end = rest.iter().position(|byte| *byte == 0);
    let text = &rest[..end.ok_or_else(cut_off)?];
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Unusable> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.copied().map(u32::from_le_bytes).ok_or_else(cut_off)
}

fn cut_off() -> Unusable {
    Unusable("its BTF is cut off".into())
}
