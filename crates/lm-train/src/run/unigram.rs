//! What guessing by frequency alone achieves: the line that a language model has to get below.

use std::ops::Range;

use anyhow::Result;
use lm_data::example::{Example, ExampleStore};

/// Tokens looked at of a split at most, so that a large corpus costs no more than a small one.
const MOST_TOKENS: u64 = 1 << 20;

/// Perplexity of the text of `of` for a guess by how often each of `vocabulary` tokens stands in that of `train`, one added to
/// each count (Laplace). Tokens that the tokenizer put around the text are never predicted and don't count. None if
/// there is no text.
pub fn perplexity(train: &ExampleStore, of: &ExampleStore, vocabulary: usize) -> Result<Option<f64>> {
    let mut counts = vec![1_u64; vocabulary];
    let mut total = vocabulary as u64;
    for id in text(&examples(train)?) {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
            total += 1;
        }
    }
    let (mut nats, mut tokens) = (0.0, 0_u64);
    for id in text(&examples(of)?) {
        let count = counts.get(id as usize).copied().unwrap_or(1);
        nats += (total as f64 / count as f64).ln();
        tokens += 1;
    }
    Ok((tokens > 0).then(|| (nats / tokens as f64).exp()))
}

/// Places of a store that examples are taken from, so that a slow disk seeks few times.
const PLACES: u64 = 64;

/// Examples from all over the store.
fn examples(store: &ExampleStore) -> Result<Vec<Example>> {
    let (length, tokens) = (store.len() as u64, store.total_tokens()?.max(1));
    if tokens <= MOST_TOKENS {
        return of_range(store, 0..length);
    }
    let each = (u128::from(length) * u128::from(MOST_TOKENS) / u128::from(tokens * PLACES)).max(1) as u64;
    let mut examples = Vec::new();
    for place in 0..PLACES {
        let begin = place * (length / PLACES);
        examples.extend(of_range(store, begin..(begin + each).min(length))?);
    }
    Ok(examples)
}

fn of_range(store: &ExampleStore, range: Range<u64>) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    for index in range {
        examples.extend(store.get(index as usize)?);
    }
    Ok(examples)
}

/// The tokens of the text itself.
fn text(examples: &[Example]) -> impl Iterator<Item = u32> {
    let tokens = |example: &Example| {
        let text = example.ids.iter().zip(&example.special).filter(|(_, special)| !**special);
        text.map(|(id, _)| *id).collect::<Vec<_>>()
    };
    examples.iter().flat_map(tokens)
}
