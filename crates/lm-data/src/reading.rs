//! Rows of files in their order, read by several threads: of files one after another, and of the groups of rows of a file.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::source::{Piece, RowPosition, Rows, SourceError, TextFiles};

/// Rows travel in chunks of at most so many bytes of text and so many rows, so memory is bounded.
pub(crate) const CHUNK_BYTES: usize = 4 << 20;
pub(crate) const CHUNK_ROWS: usize = if cfg!(test) { 1 << 8 } else { 1 << 14 };

/// Sections read at a time; each may have two chunks in memory.
const AT_A_TIME: usize = 8;

/// A row, and where it lies.
pub(crate) struct Row {
    pub text: String,
    pub begin: RowPosition,
    /// The place after it.
    pub after: RowPosition,
}

/// Gives the rows from a place on to `take`, in order, until it wants no more.
pub(crate) fn in_order(
    files: &TextFiles,
    from: RowPosition,
    at_a_time: usize,
    mut take: impl FnMut(Row) -> bool,
) -> Result<(), SourceError> {
    let at_a_time = at_a_time.clamp(1, AT_A_TIME);
    thread::scope(|scope| {
        let (mut unopened, mut sections, mut open) = (from.file..files.len(), VecDeque::new(), VecDeque::new());
        loop {
            while open.len() < at_a_time {
                let Some((file, piece)) = sections.pop_front() else {
                    let Some(file) = unopened.next() else { break };
                    let start = if file == from.file { from } else { RowPosition::start_of(file) };
                    sections.extend(files.sections(start)?.into_iter().map(|piece| (file, piece)));
                    continue;
                };
                let (sender, rows) = sync_channel(1);
                scope.spawn(move || read_section(files, file, piece, &sender));
                open.push_back(rows);
            }
            let Some(section) = open.front() else { return Ok(()) };
            // A reader is gone when it has read its section.
            let Ok(rows) = section.recv() else {
                open.pop_front();
                continue;
            };
            for row in rows? {
                if !take(row) {
                    return Ok(());
                }
            }
        }
    })
}

/// Reads a piece of a file, until nobody wants its rows.
fn read_section(files: &TextFiles, file: usize, piece: Piece, output: &SyncSender<Result<Vec<Row>, SourceError>>) {
    let mut begin = RowPosition { file, mark: piece.start };
    let mut rows = files.pieces(&[(file, piece)]).rows_from(RowPosition { file: 0, ..begin });
    loop {
        let (mut texts, mut places) = (Vec::new(), Vec::new());
        let more = read_chunk(&mut rows, &mut texts, u64::MAX, |after| {
            let after = RowPosition { file, ..after };
            places.push((begin, after));
            begin = after;
        });
        let read = texts.into_iter().zip(places).map(|(text, (begin, after))| Row { text, begin, after }).collect();
        // What was read before an error comes before it.
        let ended = output.send(Ok(read)).is_err();
        match more {
            Ok(true) if !ended => {}
            Ok(_) => return,
            Err(error) => {
                let _ = output.send(Err(error));
                return;
            }
        }
    }
}

/// Reads a bounded number of rows, `most` at the most, telling the position after each; false when there are no more.
pub(crate) fn read_chunk(
    rows: &mut Rows,
    chunk: &mut Vec<String>,
    most: u64,
    mut read: impl FnMut(RowPosition),
) -> Result<bool, SourceError> {
    let mut bytes = 0;
    while bytes < CHUNK_BYTES && chunk.len() < CHUNK_ROWS {
        let mut text = String::new();
        if chunk.len() as u64 == most || !rows.read(&mut text)? {
            return Ok(false);
        }
        read(rows.next_position());
        bytes += text.len();
        chunk.push(text);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{parquet, resolved};

    fn rows(files: &TextFiles, from: RowPosition, at_a_time: usize) -> Vec<(String, RowPosition, RowPosition)> {
        let mut rows = Vec::new();
        in_order(files, from, at_a_time, |Row { text, begin, after }| {
            rows.push((text, begin, after));
            true
        })
        .unwrap();
        rows
    }

    /// Sections are those of one reader, from any row on, however many are read at a time.
    #[test]
    fn groups_of_rows_are_read_side_by_side_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("b.txt");
        std::fs::write(&text, "one\ntwo\n").unwrap();
        let names = [
            parquet(&folder.path().join("a.parquet"), &[300, 1, 700, 2, 2, 2, 600, 500], "a"),
            text.display().to_string(),
            parquet(&folder.path().join("c.parquet"), &[10], "c"),
            parquet(&folder.path().join("d.parquet"), &[400, 400], "d"),
        ];
        let files = resolved(&names);
        let sections = files.sections(RowPosition::default()).unwrap();
        assert!((3..8).contains(&sections.len()), "small groups are read together: {sections:?}");
        let (mut reader, mut expected) = (files.rows(), Vec::new());
        while let (begin, Some(text)) = (reader.next_position(), reader.next()) {
            expected.push((text.unwrap(), begin, reader.next_position()));
        }
        assert_eq!(expected.len(), 2919);
        let texts = |rows: &[(String, RowPosition, RowPosition)]| -> Vec<(String, RowPosition)> {
            rows.iter().map(|(text, _, after)| (text.clone(), *after)).collect()
        };
        for at_a_time in [1, 2, 7] {
            assert_eq!(texts(&rows(&files, RowPosition::default(), at_a_time)), texts(&expected));
        }
        for row in [0, 1, 299, 300, 301, 1000, 2106, 2107, 2108, 2109, 2118, 2119, 2518, 2519, 2918] {
            let rest = rows(&files, expected[row].2, 3);
            assert_eq!(texts(&rest), texts(&expected[row + 1..]), "after row {row}");
        }
        // A part of a file ends where it does.
        let place = |row: usize| expected[row].1.mark;
        let part = files.pieces(&[(0, Piece { start: place(250), end: Some(place(1700)) })]);
        let read = rows(&part, RowPosition::default(), 3);
        assert!(read.iter().map(|row| &row.0).eq(expected[250..1700].iter().map(|row| &row.0)));
        assert!(rows(&part, read[1449].2, 3).is_empty(), "from its end on");
        let mut few = 0;
        in_order(&files, RowPosition::default(), 7, |_| {
            few += 1;
            few < 5
        })
        .unwrap();
        assert_eq!(few, 5, "no more than wanted");
    }

    /// What is damaged is told after the rows before it, by any number of readers.
    #[test]
    fn an_error_comes_after_what_is_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let names = [parquet(&path, &[1000, 1000, 1000], "a")];
        let mut bytes = std::fs::read(&path).unwrap();
        let second = bytes.windows(6).position(|at| at == b"a 1000").unwrap();
        bytes[second - 40..second].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        for at_a_time in [1, 3] {
            let mut count = 0;
            let error = in_order(&resolved(&names), RowPosition::default(), at_a_time, |_| {
                count += 1;
                true
            });
            let message = error.unwrap_err().to_string();
            assert!(
                message.contains("a.parquet:1001") && message.contains("row group 1 (rows 1001 to 2000)"),
                "{message}"
            );
            assert_eq!(count, 1000);
        }
    }
}
