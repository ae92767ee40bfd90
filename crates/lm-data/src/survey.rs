//! What must be known of the text before it is tokenized: of each file the number of its rows, a digest of them, and where
//! some of them begin. It is found in one reading, several files at a time, and kept with what tells that a file has not
//! changed: only files that are new or changed are read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::config::DataConfig;
use crate::digest::Pieces;
use crate::memo::Stamp;
use crate::reading::{self, Row};
use crate::source::{Mark, RowPosition, SourceError, TextFiles, is_address};

/// What is known of the rows of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub count: u64,
    /// Of their texts and the lengths of these.
    digest: [u8; 32],
    /// Byte and line of the first row and of every so many rows after it.
    places: Vec<(u64, u64)>,
    every: u64,
}

/// The rows of a file as it was at a time.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    rows: Rows,
}

/// The rows of several files.
pub(crate) struct Survey(pub Vec<Rows>);

/// Rows between two places that are kept, at first: small files have one.
const EVERY: u64 = if cfg!(test) { 16 } else { 1 << 16 };
/// When there are so many, every second one is forgotten.
const PLACES: usize = 256;

impl Survey {
    /// What is known of these files; those are read that it is not known of, all with `--verify_data` or
    /// `--overwrite_cache`.
    pub fn of(files: &TextFiles, config: &DataConfig) -> Result<Self, DataError> {
        let purpose: [u8; 32] = Sha256::digest(files.reading()).into();
        let memo = config.cache_dir.join(format!("known-files-{}.json", hex(&purpose[..8])));
        let known = read(&memo);
        let stamps = files.stamps()?;
        let anew = config.overwrite_cache || config.verify_data;
        let found = |(path, stamp): &(PathBuf, Stamp)| {
            known.get(path).filter(|known| known.stamp == *stamp && !anew).map(|known| known.rows.clone())
        };
        let mut rows: Vec<Option<Rows>> = stamps.iter().map(found).collect();
        let missing: Vec<usize> = (0..files.len()).filter(|&file| rows[file].is_none()).collect();
        if missing.is_empty() {
            return Ok(Self(rows.into_iter().flatten().collect()));
        }
        let bar = crate::build::progress_bar("Reading", missing.iter().map(|&file| files.single(file).bytes()).sum());
        let pool = config.pool()?;
        // Where there are more threads than files, each file is read by several.
        let at_a_time = pool.current_num_threads().div_ceil(missing.len());
        let looked: Vec<Rows> = pool.install(|| {
            let look = |&file: &usize| {
                let single = files.single(file);
                let rows = Rows::of(&single, at_a_time, &bar)?;
                single.check_unchanged(&stamps[file..=file])?;
                Ok(rows)
            };
            missing.par_iter().map(look).collect::<Result<_, SourceError>>()
        })?;
        bar.finish_and_clear();
        let mut news = BTreeMap::new();
        for (&file, looked) in missing.iter().zip(looked) {
            let (path, stamp) = &stamps[file];
            if known.get(path).is_some_and(|known| known.stamp == *stamp && known.rows.digest != looked.digest) {
                tracing::warn!("{}: has changed, although its size and its times have not", path.display());
            }
            if stamp.is_settled() {
                news.insert(path.clone(), Known { stamp: *stamp, rows: looked.clone() });
            }
            rows[file] = Some(looked);
        }
        remember(&memo, news);
        Ok(Self(rows.into_iter().flatten().collect()))
    }

    /// SHA-256 over all rows and how they are read.
    pub fn digest(&self, files: &TextFiles) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(files.reading());
        self.0.iter().for_each(|file| digest.update(file.digest));
        digest.finalize().into()
    }
}

impl Rows {
    /// Reads a file, so many sections of it at a time.
    fn of(file: &TextFiles, at_a_time: usize, bar: &ProgressBar) -> Result<Self, SourceError> {
        let mut finding =
            Finding { file, bar, told: 0, digest: Pieces::default(), every: EVERY, count: 0, places: Vec::new() };
        if at_a_time > 1 && file.sections(RowPosition::default())?.len() > 1 {
            reading::in_order(file, RowPosition::default(), at_a_time, |Row { text, begin, .. }| {
                finding.add(&text, begin);
                true
            })?;
        } else {
            let (mut rows, mut text) = (file.rows(), String::new());
            loop {
                let begin = rows.next_position();
                if !rows.read(&mut text)? {
                    break;
                }
                finding.add(&text, begin);
            }
        }
        Ok(finding.end())
    }

    /// Byte and line of the row of this number, the first of a file being 0.
    pub fn place(&self, files: &TextFiles, file: usize, row: u64) -> Result<RowPosition, SourceError> {
        let Self { places, every, .. } = self;
        let before = (row / every).min(places.len().saturating_sub(1) as u64);
        let (byte, line) = places.get(before as usize).copied().unwrap_or_default();
        let (mut rows, mut text) = (files.rows_from(RowPosition { file, mark: Mark::at(byte, line) }), String::new());
        for _ in before * every..row {
            rows.read(&mut text)?;
        }
        Ok(rows.next_position())
    }
}

/// What is found so far of a file that is read.
struct Finding<'a> {
    file: &'a TextFiles,
    bar: &'a ProgressBar,
    /// Bytes that the bar was told of.
    told: u64,
    digest: Pieces,
    count: u64,
    places: Vec<(u64, u64)>,
    every: u64,
}

impl Finding<'_> {
    fn add(&mut self, text: &str, begin: RowPosition) {
        if self.count.is_multiple_of(self.every) {
            self.places.push((begin.mark.byte, begin.mark.line));
            let read = self.file.offset(begin);
            self.bar.inc(read - self.told);
            self.told = read;
        }
        if self.places.len() == PLACES {
            self.places = std::mem::take(&mut self.places).into_iter().step_by(2).collect();
            self.every *= 2;
        }
        self.digest.update(text.as_bytes());
        self.digest.update(&(text.len() as u64).to_le_bytes());
        self.count += 1;
    }

    fn end(self) -> Rows {
        self.bar.inc(self.file.bytes() - self.told);
        Rows { count: self.count, digest: self.digest.finish(), places: self.places, every: self.every }
    }
}

/// What a memo holds; nothing, if it is damaged.
fn read(memo: &Path) -> BTreeMap<PathBuf, Known> {
    let text = lm_files::read(memo, MEMO).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// The most bytes of a memo: about a million files.
const MEMO: u64 = 1 << 30;

/// Adds to a memo, and leaves out files that are gone.
fn remember(memo: &Path, news: BTreeMap<PathBuf, Known>) {
    if news.is_empty() {
        return;
    }
    let mut known = read(memo);
    known.extend(news);
    // A member of an archive lies below a file; what lies on other machines is not asked for.
    known.retain(|path, _| is_address(path) || path.ancestors().any(Path::is_file));
    let written = serde_json::to_vec(&known).map_err(std::io::Error::from).and_then(|text| {
        memo.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        lm_files::write(memo, &text)
    });
    if let Err(error) = written {
        tracing::warn!("{}: cannot be written, so the next start reads the text again: {error}", memo.display());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::counts::Counts;
    use crate::source::RowOptions;

    impl Survey {
        fn rows(&self) -> u64 {
            self.0.iter().map(|file| file.count).sum()
        }
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Writes a file that is old enough for its stamp to be relied on.
        fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
            let path = self.0.path().join(name);
            fs::write(&path, content).unwrap();
            let then = SystemTime::now() - Duration::from_secs(60);
            File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
            path.display().to_string()
        }

        fn config(&self) -> DataConfig {
            DataConfig { cache_dir: self.0.path().join("cache"), ..DataConfig::default() }
        }

        fn survey(&self, names: &[String]) -> (TextFiles, Survey) {
            let [files] = TextFiles::resolve([names], None, &RowOptions::default()).unwrap();
            let survey = Survey::of(&files, &self.config()).unwrap();
            (files, survey)
        }

        fn memo(&self) -> PathBuf {
            let mut entries = fs::read_dir(self.0.path().join("cache")).unwrap();
            entries.next().unwrap().unwrap().path()
        }
    }

    #[test]
    fn only_what_is_new_or_changed_is_read() {
        let folder = Folder::new();
        let names = vec![folder.write("a.txt", "1\n2\n"), folder.write("b.txt", "1\n2\n3\n")];
        let first = folder.survey(&names).1;
        assert_eq!(first.rows(), 5);
        let text = fs::read_to_string(folder.memo()).unwrap();
        fs::write(folder.memo(), text.replace("\"count\":2", "\"count\":200").replace("\"count\":3", "\"count\":300"))
            .unwrap();
        assert_eq!(folder.survey(&names).1.rows(), 500, "taken from the memo");
        let more = [&names[..], &[folder.write("c.txt", "1\n")]].concat();
        assert_eq!(folder.survey(&more).1.rows(), 501, "only the new one is read");
        folder.write("a.txt", "1\n2\n3\n4\n");
        assert_eq!(folder.survey(&more).1.rows(), 305, "only the changed one is read");
        fs::remove_file(&names[0]).unwrap();
        folder.write("b.txt", "1\n");
        assert_eq!(folder.survey(&more[1..]).1.rows(), 2);
        assert!(!fs::read_to_string(folder.memo()).unwrap().contains("a.txt"), "what is gone is forgotten");

        // All is read again when that is asked for, and whatever a damaged memo says.
        let text = fs::read_to_string(folder.memo()).unwrap();
        fs::write(folder.memo(), text.replace("\"count\":1", "\"count\":7")).unwrap();
        assert_eq!(folder.survey(&more[1..]).1.rows(), 14);
        let [files] = TextFiles::resolve([&more[1..]], None, &RowOptions::default()).unwrap();
        let verified = DataConfig { verify_data: true, ..folder.config() };
        assert_eq!(Survey::of(&files, &verified).unwrap().rows(), 2);
        assert_eq!(folder.survey(&more[1..]).1.rows(), 2, "and that is kept");
        fs::write(folder.memo(), "{").unwrap();
        assert_eq!(folder.survey(&more[1..]).1.rows(), 2);
    }

    #[test]
    fn a_file_that_may_still_change_is_read_each_time() {
        let folder = Folder::new();
        let names = [folder.write("a.txt", "1\n")];
        fs::write(&names[0], "1\n2\n").unwrap();
        assert_eq!(folder.survey(&names).1.rows(), 2);
        assert!(!folder.config().cache_dir.exists());
    }

    /// Somebody touches a file again and again while it is read.
    #[test]
    fn a_file_that_changes_while_it_is_read_is_named() {
        let folder = Folder::new();
        let names = [folder.write("a.txt", "one two three\n".repeat(100_000))];
        let [files] = TextFiles::resolve([&names], None, &RowOptions::default()).unwrap();
        let (file, ended) = (File::options().write(true).open(&names[0]).unwrap(), AtomicBool::new(false));
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                for second in 0.. {
                    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let error = (0..1000).find_map(|_| Survey::of(&files, &folder.config()).err());
            ended.store(true, Ordering::Relaxed);
            error
        });
        let message = error.unwrap().to_string();
        assert!(message.contains("a.txt: was changed while it was read"), "{message}");
    }

    /// The digest is of the rows, whatever their names, and of where files end.
    #[test]
    fn the_digest_tells_rows_apart() {
        let folder = Folder::new();
        let digest = |contents: &[&str]| {
            let write = |(i, content): (usize, &&str)| folder.write(&format!("{i}-{}.txt", content.len()), content);
            let names: Vec<String> = contents.iter().enumerate().map(write).collect();
            let (files, survey) = folder.survey(&names);
            survey.digest(&files)
        };
        let one = digest(&["ab\ncd\n"]);
        assert_eq!(one, digest(&["ab\r\ncd"]), "the same rows");
        for other in [&["abc\nd\n"][..], &["ab\ncd\n\n"], &["ab\n", "cd\n"], &["cd\nab\n"]] {
            assert_ne!(one, digest(other), "{other:?}");
        }
    }

    /// Small files cost one memo, not one each, and their rows are found like those of a large one.
    #[test]
    fn many_small_files_have_one_memo() {
        let folder = Folder::new();
        let names: Vec<String> =
            (0..600).map(|i| folder.write(&format!("{i:03}.txt"), format!("a{i}\nb{i}"))).collect();
        let (files, survey) = folder.survey(&names);
        let counts = Counts::of(&files, &folder.config()).unwrap();
        let place = counts.position(&files, 601).unwrap();
        assert_eq!((survey.rows(), files.rows_from(place).next().unwrap().unwrap().as_str()), (1200, "b300"));
        assert_eq!(fs::read_dir(folder.config().cache_dir).unwrap().count(), 1);
    }
}
