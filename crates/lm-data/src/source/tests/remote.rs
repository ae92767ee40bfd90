//! Files on other machines: the rows of the same files on the disk, from as few bytes as these take.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::Folder;
use crate::source::{Mark, RemoteFile, RemoteFiles, RowOptions, RowPosition, SourceError, TextFiles};
use crate::testing::{fixture, parquet};

/// A file that another machine has, and what was asked of it.
#[derive(Default)]
struct Elsewhere {
    bytes: Vec<u8>,
    asked: Mutex<Vec<(u64, u64)>>,
    /// From here on nothing comes.
    ends: Option<u64>,
}

impl RemoteFile for Elsewhere {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn open(&self, from: u64, to: u64) -> io::Result<Box<dyn Read + Send>> {
        self.asked.lock().unwrap().push((from, to));
        assert!(from <= to && to <= self.bytes(), "{from} to {to}");
        let end = self.ends.map_or(to, |end| end.clamp(from, to));
        let error = (end < to).then(|| io::Error::other("the line is dead"));
        let bytes = Cursor::new(self.bytes[from as usize..end as usize].to_vec());
        Ok(Box::new(bytes.chain(Failing(error))))
    }
}

struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

fn elsewhere(path: &Path) -> Arc<Elsewhere> {
    Arc::new(Elsewhere { bytes: fs::read(path).unwrap(), ..Elsewhere::default() })
}

fn resolved(files: &[(&str, &Arc<Elsewhere>)], column: Option<&str>) -> Result<TextFiles, SourceError> {
    let names: Vec<String> = files.iter().map(|(name, _)| format!("hf://datasets/a/b@c/{name}")).collect();
    let those = names.iter().zip(files).map(|(name, (_, file))| {
        let file: Arc<dyn RemoteFile> = Arc::clone(file) as _;
        (name.clone(), file)
    });
    let remote = RemoteFiles::new(those.collect::<BTreeMap<_, _>>());
    TextFiles::resolve_with([&names[..]], &remote, column, &RowOptions::default()).map(|[files]| files)
}

/// Every format, also compressed and in an archive, from any row on.
#[test]
fn rows_are_those_of_the_same_file_on_the_disk() {
    let folder = Folder::new();
    folder.write("a.txt", "one\ntwo\r\n\nthree");
    folder.write("a.csv", "n,text\n1,\"a\nb\"\n2,c\n3,d\n");
    folder.write("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \"y\"}\n");
    folder.write("b.json", "[{\"text\": \"x\"}, {\"text\": \"y\"}]");
    let mut paths: Vec<_> = ["a.txt", "a.csv", "a.jsonl", "b.json"].iter().map(|name| folder.path(name)).collect();
    for fixtures in ["columns", "compressed"] {
        let found = fs::read_dir(fixture(fixtures)).unwrap().map(|entry| entry.unwrap().path());
        let endings = ["parquet", "arrow", "gz", "bz2", "xz", "zst", "lz4", "zip", "txt"];
        paths
            .extend(found.filter(|path| endings.iter().any(|ending| path.extension().is_some_and(|it| it == *ending))));
    }
    let mut read = 0;
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Ok([here]) = TextFiles::resolve([&[path.display().to_string()]], None, &RowOptions::default()) else {
            continue;
        };
        let Ok(expected) = here.rows().collect::<Result<Vec<_>, _>>() else { continue };
        let there = resolved(&[(name, &elsewhere(&path))], None).unwrap();
        assert_eq!(there.bytes(), here.bytes(), "{name}");
        let mut rows = there.rows();
        let step = expected.len() / 40 + 1;
        for row in 0..=expected.len() {
            if row % step == 0 || row + 1 >= expected.len() {
                let rest: Vec<String> = there.rows_from(rows.next_position()).map(Result::unwrap).collect();
                assert!(rest == expected[row..], "{name} from row {row}");
            }
            assert_eq!(rows.next().map(Result::unwrap), expected.get(row).cloned(), "{name} row {row}");
        }
        read += 1;
    }
    assert!(read > 30, "{read} files");
}

/// Of a Parquet file its index and the pages of the one column, of the groups that are wanted.
#[test]
fn only_the_column_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    parquet(&path, &[500, 500, 500], "row");
    let file = elsewhere(&path);
    let column = |from: &str, to: &str| {
        let at = |text: &str| file.bytes.windows(text.len()).position(|bytes| bytes == text.as_bytes()).unwrap() as u64;
        (at(from), at(to))
    };
    // Before the last eight bytes, of which four say how long it is.
    let (tail, whole) = (&file.bytes[file.bytes.len() - 8..], file.bytes());
    let index = whole - 8 - u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let columns = [column("row 0", "row 499"), column("row 500", "row 999"), column("row 1000", "row 1499")];
    let files = resolved(&[("a.parquet", &file)], None).unwrap();
    let asked = || std::mem::take(&mut *file.asked.lock().unwrap());
    // The page's header comes before its texts, and the last text is short.
    let in_column = |(from, to): (u64, u64), (first, last): (u64, u64)| from + 100 >= first && to <= last + 20;
    asked();
    for (start, groups) in [(0, 0..3), (501, 1..3), (1400, 2..3)] {
        let rows: Vec<String> =
            files.rows_from(RowPosition { file: 0, mark: Mark::at(0, start + 1) }).map(Result::unwrap).collect();
        assert_eq!(rows.len() as u64, 1500 - start);
        let mut bytes = 0;
        for range in asked().into_iter().filter(|range| *range != (0, 16) && range.0 < index) {
            assert!(groups.clone().any(|group| in_column(range, columns[group])), "{range:?} of {columns:?}");
            bytes += range.1 - range.0;
        }
        let column: u64 = groups.map(|group| columns[group].1 - columns[group].0 + 100).sum();
        assert!(bytes <= column, "none twice: {bytes} of {column}");
    }
}

/// A row of an Arrow file is found from where its batch begins: the last one of many takes no more than the first.
#[test]
fn a_record_batch_is_found_without_those_before_it() {
    let few = elsewhere(&fixture("columns/stream.arrow"));
    let files = resolved(&[("a.arrow", &few)], None).unwrap();
    let (mut rows, mut places) = (files.rows(), Vec::new());
    while rows.next().is_some() {
        places.push(rows.next_position());
    }
    let texts: Vec<String> = files.rows().map(Result::unwrap).collect();
    // All batches again and again.
    let at = |row: usize| places[row].mark.byte as usize;
    let (start, end, times) = (at(0), at(texts.len() - 1), 3000);
    let many = [&few.bytes[..start], &few.bytes[start..end].repeat(times), &few.bytes[end..]].concat();
    let many = Arc::new(Elsewhere { bytes: many, ..Elsewhere::default() });
    let asked = || {
        let asked = std::mem::take(&mut *many.asked.lock().unwrap());
        (asked.len(), asked.iter().map(|(from, to)| to - from).sum::<u64>())
    };
    let files = resolved(&[("b.arrow", &many)], None).unwrap();
    let all = (texts.len() * times) as u64;
    let mut rows = files.rows();
    let (mut early, mut late) = (rows.next_position(), rows.next_position());
    for row in 0..all {
        if row == 30 {
            early = rows.next_position();
        } else if row == all - 10 {
            late = rows.next_position();
        }
        assert_eq!(rows.next().unwrap().unwrap(), texts[row as usize % texts.len()]);
    }
    let first = |position: RowPosition| {
        asked();
        let text = files.rows_from(position).next().unwrap().unwrap();
        (text, asked())
    };
    let ((text, of_early), (last, of_late)) = (first(early), first(late));
    assert_eq!((&text, &last), (&texts[30 % texts.len()], &texts[texts.len() - 10]));
    assert!(of_late.0 <= of_early.0 + 1 && of_late.0 < 8, "{of_early:?} {of_late:?}");
    assert!(of_late.1 < 1 << 20 && many.bytes() > 5 << 20, "{of_late:?} of {}", many.bytes());
    // By its number alone, as an earlier version kept it.
    let numbered = RowPosition { file: 0, mark: Mark::at(late.mark.byte, late.mark.line) };
    let (text, by_number) = first(numbered);
    assert!(text == last && by_number.0 > 20, "{by_number:?}");
}

/// At the start one file of each kind is looked at, however many there are; what another lacks is told when it is read.
#[test]
fn files_are_looked_at_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c"].map(|name| {
        parquet(&folder.path().join(format!("{name}.parquet")), &[10], name);
        format!("{name}.parquet")
    });
    let files: Vec<_> = names.iter().map(|name| elsewhere(&folder.path().join(name))).collect();
    let named: Vec<(&str, &Arc<Elsewhere>)> = names.iter().map(String::as_str).zip(&files).collect();
    let found = resolved(&named, None).unwrap();
    found.quick_digest().unwrap();
    assert!(!files[0].asked.lock().unwrap().is_empty());
    assert!(files[1..].iter().all(|file| file.asked.lock().unwrap().is_empty()));
    assert_eq!(
        found.rows().map(Result::unwrap).filter(|row| row.ends_with(" 9")).collect::<Vec<_>>(),
        ["a 9", "b 9", "c 9"]
    );

    let csv = |text: &str| Arc::new(Elsewhere { bytes: text.into(), ..Elsewhere::default() });
    let (first, second) = (csv("text,n\na,1\n"), csv("words,n\nb,2\n"));
    let rows: Vec<_> = resolved(&[("a.csv", &first), ("b.csv", &second)], None).unwrap().rows().collect();
    assert_eq!(rows[0].as_ref().unwrap(), "a");
    let message = rows[1].as_ref().unwrap_err().to_string();
    assert_eq!(message, "hf://datasets/a/b@c/b.csv:1: no column `text`; the columns are: words, n");
    let empty = Arc::new(Elsewhere::default());
    for files in [vec![("a.csv", &empty)], vec![("a.csv", &first), ("b.csv", &empty)]] {
        let message = resolved(&files, None).unwrap_err().to_string();
        assert!(message.ends_with(".csv: the file is empty"), "{message}");
    }
}

/// A line that breaks is an error that names the file.
#[test]
fn what_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    parquet(&folder.path().join("a.parquet"), &[500, 500, 500], "row");
    fs::write(folder.path().join("b.txt"), "a line\n".repeat(100_000)).unwrap();
    for (name, ends) in [("a.parquet", 30_000), ("b.txt", 400_000)] {
        let whole = elsewhere(&folder.path().join(name));
        // The index can be read.
        let files = resolved(&[(name, &whole)], None).unwrap();
        let position = files.rows().next_position();
        let cut = Arc::new(Elsewhere { bytes: whole.bytes.clone(), ends: Some(ends), ..Elsewhere::default() });
        let error = resolved(&[(name, &cut)], Some("text"))
            .and_then(|files| files.rows_from(position).collect::<Result<Vec<_>, _>>())
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("hf://datasets/a/b@c/{name}: cannot read: the line is dead"));
    }
}
