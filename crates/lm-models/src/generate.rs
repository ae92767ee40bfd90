//! Continuing a text with a causal model: sampling, with the keys and values of what was read kept.

use burn::tensor::{Device, Int, Tensor, TensorData};
use lm_random::{Purpose, Stream};

use crate::auto::AutoModel;

/// Keys and values of the tokens that a model has read so far.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// By layer, each [tokens, hidden].
    layers: Vec<(Tensor<2>, Tensor<2>)>,
}

impl Cache {
    /// Adds the keys and values of new tokens to a layer's and returns all of them. Layers come in order.
    pub(crate) fn append(&mut self, layer: usize, key: Tensor<2>, value: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        match self.layers.get_mut(layer) {
            None => self.layers.push((key.clone(), value.clone())),
            Some((keys, values)) => {
                *keys = Tensor::cat(vec![keys.clone(), key.clone()], 0);
                *values = Tensor::cat(vec![values.clone(), value.clone()], 0);
            }
        }
        self.layers.get(layer).cloned().unwrap_or((key, value))
    }
}

/// A model that reads from left to right and can go on where it stopped.
pub trait CausalModel {
    /// The most tokens of a sequence.
    fn max_positions(&self) -> usize;

    /// Where its parameters live.
    fn device(&self) -> Device;

    /// Reads more tokens, at least one, after those in the cache; returns the row to decode for what follows the last
    /// one, [1, hidden]. Both arguments are [tokens].
    fn extend(&self, ids: Tensor<1, Int>, positions: Tensor<1, Int>, cache: &mut Cache) -> Tensor<2>;
}

/// How the next token is chosen, as in Python's `generate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability (Holtzman et al., 2019); 1 for all.
    pub top_p: f32,
    /// The most tokens to add.
    pub max_new_tokens: usize,
    /// The run's seed.
    pub seed: u64,
    /// Number of the prompt.
    pub prompt_index: u64,
    /// Number of the evaluation that asks.
    pub evaluation: u64,
}

/// Why a text can't be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// The model is not a causal one.
    #[error("only a causal language model can continue a text")]
    NotCausal,
    /// Nothing to continue.
    #[error("an empty prompt can't be continued: give at least one token")]
    EmptyPrompt,
    /// No room for a continuation.
    #[error("the prompt has {tokens} tokens and a sequence of this model at most {max_positions}: shorten the prompt")]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The model's limit.
        max_positions: usize,
    },
    /// The prompt comes from another tokenizer.
    #[error("token {token} of the prompt is outside of the model's vocabulary of {vocab_size}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
}

/// The tokens that follow the prompt, without it. Ends before `eos`, after `max_new_tokens`, or where the model's
/// positions end. Equal arguments give equal tokens.
pub fn generate(
    model: &AutoModel,
    prompt_ids: &[u32],
    sampling: &Sampling,
    eos: Option<u32>,
) -> Result<Vec<u32>, GenerateError> {
    let causal = model.causal().ok_or(GenerateError::NotCausal)?;
    let decoder = model.decoder();
    let (max_positions, vocab_size) = (causal.max_positions(), decoder.weight.dims()[0]);
    if prompt_ids.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt_ids.len() >= max_positions {
        return Err(GenerateError::TooLong { tokens: prompt_ids.len(), max_positions });
    }
    if let Some(&token) = prompt_ids.iter().find(|&&id| id as usize >= vocab_size) {
        return Err(GenerateError::UnknownToken { token, vocab_size });
    }

    let device = causal.device();
    let mut stream = Stream::new(sampling.seed, Purpose::Sample, sampling.evaluation, sampling.prompt_index);
    let mut cache = Cache::default();
    let mut read = 0;
    let mut unread = prompt_ids.to_vec();
    let mut continuation = Vec::new();
    let room = sampling.max_new_tokens.min(max_positions - prompt_ids.len());
    while continuation.len() < room {
        let ids = ints(unread.iter().map(|&id| id as i32), &device);
        let positions = ints((read..read + unread.len()).map(|position| position as i32), &device);
        let row = causal.extend(ids, positions, &mut cache);
        let logits: Vec<f32> = decoder.logits(row).into_data().iter::<f32>().collect();
        let next = choose(&logits, sampling, &mut stream);
        if Some(next) == eos {
            break;
        }
        read += unread.len();
        unread = vec![next];
        continuation.push(next);
    }
    Ok(continuation)
}

fn ints(values: impl Iterator<Item = i32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Draws a token: temperature, then top-k, then top-p, as Python's logits warpers.
fn choose(logits: &[f32], sampling: &Sampling, stream: &mut Stream) -> u32 {
    let mut candidates: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    // Equal logits by id, so that the order is a total one.
    candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let Some(&(most_likely, largest)) = candidates.first() else { return 0 };
    if sampling.temperature <= 0.0 {
        return most_likely;
    }
    if sampling.top_k > 0 {
        candidates.truncate(sampling.top_k);
    }
    let weights: Vec<f64> =
        candidates.iter().map(|(_, logit)| f64::from((logit - largest) / sampling.temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    // The nucleus: the shortest prefix that reaches top_p; at least one.
    let mut mass = 0.0;
    let nucleus = weights.iter().take_while(|&&weight| {
        let inside = mass == 0.0 || mass < f64::from(sampling.top_p) * sum;
        mass += weight;
        inside
    });
    let nucleus: Vec<f64> = nucleus.copied().collect();
    let mut point = stream.next_f64() * nucleus.iter().sum::<f64>();
    for (&(token, _), weight) in candidates.iter().zip(&nucleus) {
        point -= weight;
        if point < 0.0 {
            return token;
        }
    }
    // Rounding, or logits that are no numbers.
    most_likely
}
