//! How many rows files have and where each begins. What has an index is not read for it.

use crate::DataError;
use crate::config::DataConfig;
use crate::source::{Mark, Numbered, RowPosition, SourceError, TextFiles};
use crate::survey::{Rows, Survey};

/// The rows of several files.
pub(crate) struct Counts(Vec<Count>);

enum Count {
    /// As the file's index has them.
    Numbered(Numbered),
    /// As they were found when the file was read.
    Read(Rows),
}

impl Counts {
    /// Of these files; those without an index are read, if they were not before.
    pub fn of(files: &TextFiles, config: &DataConfig) -> Result<Self, DataError> {
        let numbered = (0..files.len()).map(|file| files.numbered(file)).collect::<Result<Vec<_>, _>>()?;
        let others: Vec<usize> = (0..files.len()).filter(|&file| numbered[file].is_none()).collect();
        let mut read = Survey::of(&files.only(&others), config)?.0.into_iter().map(Count::Read);
        let counts = numbered.into_iter().filter_map(|found| found.map(Count::Numbered).or_else(|| read.next()));
        Ok(Self(counts.collect()))
    }

    /// Number of rows of all files.
    pub fn rows(&self) -> u64 {
        self.0.iter().map(Count::rows).sum()
    }

    /// Number of rows of a file.
    pub fn rows_of(&self, file: usize) -> u64 {
        self.0.get(file).map_or(0, Count::rows)
    }

    /// Where the row of this number starts, counted from 0; the end, if there are not so many.
    pub fn position(&self, files: &TextFiles, mut row: u64) -> Result<RowPosition, SourceError> {
        let Some(file) = self.0.iter().position(|file| {
            row < file.rows() || {
                row -= file.rows();
                false
            }
        }) else {
            return Ok(RowPosition::start_of(self.0.len()));
        };
        if row == 0 {
            return Ok(RowPosition { file, mark: Mark::at(0, u64::from(file > 0)) });
        }
        match &self.0[file] {
            Count::Numbered(rows) => Ok(RowPosition { file, mark: rows.place(row) }),
            Count::Read(rows) => rows.place(files, file, row),
        }
    }
}

impl Count {
    fn rows(&self) -> u64 {
        match self {
            Self::Numbered(rows) => rows.count(),
            Self::Read(rows) => rows.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Piece, RowOptions};
    use crate::testing::{parquet, resolved};

    /// Every row of files of all formats, at and beside every place that is kept, and more places than are kept.
    #[test]
    fn rows_are_counted_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let numbers = || 0..9_000;
        let text: String = numbers().map(|i| format!("line {i}\n")).collect();
        let csv: String = numbers().map(|i| format!("\"row {i}\",{i}\n")).collect();
        let json: String = numbers().map(|i| format!("{{\"text\": \"object {i}\"}} ")).collect();
        let write = |name: &str, content: &str| {
            std::fs::write(folder.path().join(name), content).unwrap();
            folder.path().join(name).display().to_string()
        };
        let names = [
            write("a.txt", &text),
            write("b.csv", &format!("text,n\n{csv}")),
            write("c.json", &json),
            write("d.json", &format!("[{}]", json.trim_end().replace("} ", "}, "))),
            parquet(&folder.path().join("e.parquet"), &[5000, 1, 3999], "value"),
            write("f.txt", "last"),
        ];
        let config = DataConfig { cache_dir: folder.path().join("cache"), ..DataConfig::default() };
        let files = resolved(&names);
        let counts = Counts::of(&files, &config).unwrap();
        assert_eq!((counts.rows(), counts.rows_of(4)), (45_001, 9_000));
        let row = |row| files.rows_from(counts.position(&files, row).unwrap()).next().map(Result::unwrap);
        for file in 0..5 {
            let kind = ["line", "row", "object", "object", "value"][file as usize];
            for i in [0, 1, 15, 16, 17, 63, 64, 65, 640, 4_999, 5_000, 5_001, 8_998, 8_999] {
                assert_eq!(row(9_000 * file + i).unwrap(), format!("{kind} {i}"), "of file {file}");
            }
        }
        assert_eq!(row(45_000).unwrap(), "last");
        assert_eq!((row(45_001), row(50_000)), (None, None));
        assert_eq!(counts.position(&files, 0).unwrap(), RowPosition::default());

        // Of a part of a file with an index.
        let place = |row| files.numbered(4).unwrap().map(|rows| rows.place(row));
        let part = files.pieces(&[(4, Piece { start: place(4000).unwrap(), end: place(7000) })]);
        let counts = Counts::of(&part, &config).unwrap();
        let at = counts.position(&part, 1500).unwrap();
        assert_eq!((counts.rows(), part.rows_from(at).next().unwrap().unwrap().as_str()), (3000, "value 5500"));
    }

    /// Files with an index are not read to be counted, and nothing is remembered of them.
    #[test]
    fn an_index_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let names = [parquet(&path, &[100, 100], "row")];
        // Damaged where the texts are.
        let mut bytes = std::fs::read(&path).unwrap();
        let text = bytes.windows(6).position(|at| at == b"row 50").unwrap();
        bytes[text] = 0xff;
        std::fs::write(&path, bytes).unwrap();
        let config = DataConfig { cache_dir: folder.path().join("cache"), ..DataConfig::default() };
        let [files] = TextFiles::resolve([&names], Some("text"), &RowOptions::default()).unwrap();
        assert_eq!(Counts::of(&files, &config).unwrap().rows(), 200);
        assert!(files.rows().any(|row| row.is_err()), "where reading would tell");
        assert!(!config.cache_dir.exists());
    }
}
