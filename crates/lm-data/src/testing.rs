//! What several tests share.

use std::path::{Path, PathBuf};

use crate::example::{Example, ExampleStore};
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
