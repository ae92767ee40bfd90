//! What formats that store columns share: a row has a number instead of a place in the file.

use std::path::{Path, PathBuf};

use super::column::{Cell, Column, Sample, listed};
use super::error::{LONGEST_ROW, SourceError};
use super::mark::Mark;

/// A file of columns, for messages about its rows and for how far it is read.
#[derive(Debug)]
pub(super) struct Table {
    pub path: PathBuf,
    /// Size of the file.
    pub bytes: u64,
    /// Rows of it.
    pub rows: u64,
}

/// Where a file can be divided: what is between two of these rows is read without what comes before.
#[derive(Debug)]
pub(super) struct Groups {
    pub table: Table,
    /// The first row of each group, and the number of all rows.
    pub starts: Vec<u64>,
    /// The byte from which each group is found; None if its number is enough.
    pub bytes: Option<Vec<u64>>,
    /// Whether a group needs what comes before it after all.
    pub together: bool,
}

impl Groups {
    /// Where a row lies, the first of which is 0.
    pub fn mark(&self, row: u64) -> Mark {
        let Some(bytes) = &self.bytes else { return self.table.position(row) };
        let group = self.starts.partition_point(|&start| start <= row).min(bytes.len()).saturating_sub(1);
        let batch = bytes.get(group).zip(self.starts.get(group));
        batch.map_or(Mark::at(0, row + 1), |(&byte, &start)| Mark { byte, line: row + 1, batch: Some(start) })
    }
}

impl Table {
    /// A row, the first of which is 0, that its number finds again; the byte tells how much of the file comes before, as if all
    /// rows were as long.
    pub fn position(&self, row: u64) -> Mark {
        let byte = u128::from(self.bytes) * u128::from(row) / u128::from(self.rows.max(1));
        Mark::at(u64::try_from(byte).unwrap_or(self.bytes), row + 1)
    }

    pub fn broken(&self, row: u64, reason: String) -> SourceError {
        broken(&self.path, row, reason)
    }
}

/// Appends the value of a row.
pub(super) fn push(path: &Path, text: &mut String, row: u64, column: &str, bytes: &[u8]) -> Result<(), SourceError> {
    if bytes.len() > LONGEST_ROW {
        let hint = "break it into rows, such as one per paragraph";
        return Err(SourceError::TooLong { path: path.into(), line: row + 1, what: "the text", hint });
    }
    let valid = std::str::from_utf8(bytes).map_err(|error| {
        let reason = format!("column `{column}` is not valid UTF-8 (byte {} of it)", error.valid_up_to() + 1);
        broken(path, row, reason)
    })?;
    text.push_str(valid);
    Ok(())
}

/// An error of a row, the first of which is 0.
pub(super) fn broken(path: &Path, row: u64, reason: String) -> SourceError {
    SourceError::Row { path: path.into(), line: row + 1, reason }
}

/// The place of a column among those of a file, which must hold strings: `kinds` says of each what else it holds.
pub(super) fn place_of(
    path: &Path,
    column: &Column,
    names: &[String],
    kinds: &[Option<&'static str>],
) -> Result<usize, SourceError> {
    let at = names.iter().position(|name| *name == column.name).ok_or_else(|| SourceError::Column {
        path: path.into(),
        line: 1,
        column: column.name.clone(),
        columns: listed(names),
    })?;
    match kinds.get(at).copied().flatten() {
        Some(kind) => Err(broken(path, 0, format!("column `{}` is {kind}, not a string", column.name))),
        None => Ok(at),
    }
}

/// The columns, and of the first, where it may be the text, its first values, which `rows` gives.
pub(super) fn sample(
    names: Vec<String>,
    kinds: &[Option<&'static str>],
    rows: impl FnOnce(&Column) -> Result<Vec<Cell>, SourceError>,
) -> Result<Sample, SourceError> {
    let mut sample = Sample { line: 1, columns: names, ..Sample::default() };
    if !sample.has("text")
        && let Some(name) = sample.columns.first()
    {
        sample.first = match kinds.first().copied().flatten() {
            Some(kind) => vec![Cell::Other(kind)],
            None => rows(&Column { name: name.clone(), is_first: true })?,
        };
    }
    Ok(sample)
}

/// The first values that `read` gives, enough to tell what they are.
pub(super) fn first_cells(
    mut read: impl FnMut(&mut String) -> Result<bool, SourceError>,
) -> Result<Vec<Cell>, SourceError> {
    let (mut cells, mut bytes, mut text) = (Vec::new(), 0, String::new());
    while !Sample::is_full(cells.len(), bytes) && read(&mut text)? {
        bytes += text.len();
        cells.push(Cell::Text(std::mem::take(&mut text)));
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::source::{RowOptions, RowPosition, TextFiles};
    use crate::testing::fixture;

    fn files(path: &Path, column: Option<&str>) -> Result<TextFiles, SourceError> {
        TextFiles::resolve([&[path.display().to_string()]], column, &RowOptions::default()).map(|[files]| files)
    }

    fn rows(path: &Path) -> Result<Vec<String>, SourceError> {
        files(path, None)?.rows().collect()
    }

    /// What pyarrow reads from each file, from any row on; a text that is missing is an empty one.
    #[test]
    fn every_kind_of_file_is_read_from_any_row() {
        let folder = fixture("columns");
        let expected: BTreeMap<String, Vec<Option<String>>> =
            serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
        for (name, texts) in expected {
            let texts: Vec<String> = texts.into_iter().map(Option::unwrap_or_default).collect();
            let files = files(&folder.join(&name), None).unwrap();
            let mut reading = files.rows();
            for row in 0..=texts.len() {
                let position = reading.next_position();
                let rest: Vec<String> = files.rows_from(position).map(Result::unwrap).collect();
                assert_eq!(rest, texts[row..], "{name} from row {row}");
                let line = u64::from(row > 0) * (row as u64 + 1);
                assert!(position.mark.line == line || row == texts.len() && position.file == 1, "{name} {position:?}");
                assert!(files.offset(position) <= files.bytes(), "{name} {position:?}");
                assert_eq!(reading.next().map(Result::unwrap), texts.get(row).cloned(), "{name} row {row}");
            }
            assert_eq!(files.offset(reading.next_position()), files.bytes(), "{name}");
        }
    }

    /// Around the borders of what is decoded at a time, and of row groups.
    #[test]
    fn many_rows_are_read_from_any_row() {
        let files = files(&fixture("columns/many.parquet"), None).unwrap();
        for row in [0, 1, 1023, 1024, 1025, 2047, 2048, 2499, 2500, 2501, 2999, 3000] {
            let position = RowPosition { file: 0, mark: Mark::at(0, row + 1) };
            let rest: Vec<String> = files.rows_from(position).map(Result::unwrap).collect();
            assert!(rest.iter().cloned().eq((row..3000).map(|row| format!("r{row}"))), "from {row}");
        }
    }

    #[test]
    fn columns_are_told_apart() {
        let path = fixture("columns/snappy.parquet");
        let fails = |column: &str| {
            let rows = files(&path, Some(column)).and_then(|files| files.rows().collect::<Result<Vec<_>, _>>());
            rows.unwrap_err().to_string().replace(&path.display().to_string(), "a.parquet")
        };
        assert_eq!(fails("none"), "a.parquet:1: no column `none`; the columns are: id, tags, text, meta");
        assert_eq!(fails("id"), "a.parquet:1: column `id` is a number, not a string");
        assert_eq!(fails("tags"), "a.parquet:1: column `tags` is an array, not a string");
        assert_eq!(fails("meta"), "a.parquet:1: column `meta` is an object, not a string");
    }

    /// What decodes well may still not be what was written.
    #[test]
    fn a_page_that_differs_from_its_checksum_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, damaged) = (fs::read(fixture("columns/checked.parquet")).unwrap(), folder.path().join("a.parquet"));
        let texts = whole.windows(5).enumerate().filter(|(_, text)| *text == b" said").map(|(at, _)| at);
        let (expected, mut found) = (rows(&fixture("columns/checked.parquet")).unwrap(), 0);
        for at in texts {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&damaged, bytes).unwrap();
            match rows(&damaged).map_err(|error| error.to_string()) {
                // The largest text of a page stands beside it, too.
                Ok(rows) => assert_eq!(rows, expected),
                Err(line) => {
                    assert!(line.contains("a.parquet") && line.contains("checksum"), "{line}");
                    found += 1;
                }
            }
        }
        assert!(found >= 4, "{found}");
    }

    /// Cut off anywhere, or with any byte changed: rows or one line that names the file, and never a panic.
    #[test]
    fn damaged_files_end_in_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture("columns")).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if !["parquet", "arrow"].contains(&extension.as_str()) || path.ends_with("many.parquet") {
                continue;
            }
            let whole = fs::read(&path).unwrap();
            let damaged = folder.path().join(format!("a.{extension}"));
            let read = |bytes: &[u8]| {
                fs::write(&damaged, bytes).unwrap();
                let rows = rows(&damaged);
                if let Err(error) = &rows {
                    let message = error.to_string();
                    assert!(message.contains(&format!("a.{extension}")) && !message.contains('\n'), "{message}");
                }
                rows.is_err()
            };
            assert!(!read(&whole));
            for end in (0..whole.len()).step_by(83) {
                assert!(read(&whole[..end]) || extension == "arrow", "{} cut off at {end}", path.display());
            }
            for at in (0..whole.len()).step_by(11) {
                let mut bytes = whole.clone();
                bytes[at] ^= [0xff, 0x80, 0x01][at % 3];
                read(&bytes);
            }
        }
    }
}
