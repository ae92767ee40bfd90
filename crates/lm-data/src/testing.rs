//! What several tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::example::{Example, ExampleStore};
use crate::source::{RowOptions, TextFiles};
use crate::tokenizer::LmTokenizer;
use crate::{Corpus, DataConfig, DataError, Reading};

/// The tokenized splits.
pub(crate) struct Datasets {
    pub train: Option<ExampleStore>,
    pub validation: Option<ExampleStore>,
}

/// Tokenizes both splits, or finds them tokenized.
pub(crate) fn prepare(config: &DataConfig, tokenizer: &LmTokenizer) -> Result<Datasets, DataError> {
    let corpus = Corpus::open(config)?;
    let train = corpus.train(config, tokenizer)?;
    Ok(Datasets { train, validation: corpus.validation(config, tokenizer, Reading::Whole)? })
}

/// The files of these names.
pub(crate) fn resolved(names: &[String]) -> TextFiles {
    let [files] = TextFiles::resolve([names], None, &RowOptions::default()).unwrap();
    files
}

/// Writes a Parquet file with groups of so many rows, `WORD 0`, `WORD 1` and so on in column `text` between two others; its
/// name.
pub(crate) fn parquet(path: &Path, groups: &[u64], word: &str) -> String {
    let schema = "message m { required int64 id; required binary text (UTF8); required int64 length; }";
    let options = WriterProperties::builder().set_dictionary_enabled(false).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(parse_message_type(schema).unwrap()), Arc::new(options)).unwrap();
    let mut first = 0;
    for rows in groups {
        let numbers: Vec<i64> = (first..first + *rows as i64).collect();
        let texts: Vec<ByteArray> = numbers.iter().map(|row| format!("{word} {row}").into_bytes().into()).collect();
        let mut group = writer.next_row_group().unwrap();
        let mut column = 0;
        while let Some(mut values) = group.next_column().unwrap() {
            match column {
                1 => values.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap(),
                _ => values.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap(),
            };
            values.close().unwrap();
            column += 1;
        }
        group.close().unwrap();
        first += *rows as i64;
    }
    writer.close().unwrap();
    path.display().to_string()
}

/// A file or folder of the fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(crate) fn tokenizer(name: &str) -> LmTokenizer {
    LmTokenizer::from_folder(&fixture("tokenizers").join(name)).unwrap()
}

/// An example of ordinary tokens.
pub(crate) fn example(ids: impl IntoIterator<Item = u32>) -> Example {
    let ids: Vec<u32> = ids.into_iter().collect();
    Example { special: vec![false; ids.len()], ids }
}

/// A store of examples of these lengths; the first token of each is its index.
pub(crate) fn store(lengths: &[usize]) -> ExampleStore {
    let examples: Vec<Vec<u32>> = (0..).zip(lengths).map(|(index, &length)| (index..).take(length).collect()).collect();
    ExampleStore::of(&examples)
}

/// Pearson's statistic.
pub(crate) fn chi_square(observed: &[f64], expected: &[f64]) -> f64 {
    observed.iter().zip(expected).map(|(o, e)| (o - e).powi(2) / e).sum()
}
