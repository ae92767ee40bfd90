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
    /// one, [1, hidden]. Both arguments are `[tokens]`.
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

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::inputs::{HostBatch, Objective, Padding};
    use crate::{Mode, ModelConfig, ModelInputs};

    const POSITIONS: usize = 24;
    const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        max_new_tokens: 12,
        seed: 1,
        prompt_index: 0,
        evaluation: 0,
    };

    fn model(model_type: &str) -> Result<AutoModel, Box<dyn Error>> {
        let mut config = ModelConfig::from_model_type(model_type)?;
        config.apply_overrides(&format!(
            "vocab_size=50,n_positions={POSITIONS},n_embd=16,n_layer=3,n_head=2,initializer_range=0.3"
        ))?;
        Ok(AutoModel::from_config(&config, 7, &Device::flex())?)
    }

    /// The most likely next token by a forward pass over everything.
    fn next_without_cache(model: &AutoModel, ids: &[u32]) -> Result<u32, Box<dyn Error>> {
        let input_ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let mut labels = vec![-100; ids.len()];
        labels[ids.len() - 1] = 0;
        let host = HostBatch {
            batch: 1,
            seq: ids.len(),
            input_ids: &input_ids,
            attention_mask: &vec![1; ids.len()],
            labels: &labels,
            perm_mask: None,
        };
        let inputs = ModelInputs::new(host, Objective::Masked, Padding::Drop, &Device::flex())?;
        let logits: Vec<f32> =
            model.decoder().logits(model.forward(&inputs, &Mode::eval())).into_data().iter().collect();
        Ok(choose(&logits, &GREEDY, &mut Stream::new(0, Purpose::Sample, 0, 0)))
    }

    #[test]
    fn kept_keys_and_values_change_nothing() -> Result<(), Box<dyn Error>> {
        for model_type in ["gpt2", "openai-gpt"] {
            let model = model(model_type)?;
            for prompt in [vec![3], vec![1, 2, 3, 4, 5]] {
                let mut expected = prompt.clone();
                for _ in 0..GREEDY.max_new_tokens {
                    expected.push(next_without_cache(&model, &expected)?);
                }
                assert_eq!(generate(&model, &prompt, &GREEDY, None)?, expected[prompt.len()..], "{model_type}");
            }
        }
        Ok(())
    }

    #[test]
    fn sampling_is_a_function_of_its_arguments() -> Result<(), Box<dyn Error>> {
        let model = model("gpt2")?;
        let prompt = [1, 2, 3];
        let free = Sampling { temperature: 1.0, ..GREEDY };
        let text = generate(&model, &prompt, &free, None)?;
        assert_eq!(generate(&model, &prompt, &free, None)?, text);
        for other in
            [Sampling { seed: 2, ..free }, Sampling { prompt_index: 1, ..free }, Sampling { evaluation: 1, ..free }]
        {
            assert_ne!(generate(&model, &prompt, &other, None)?, text);
        }
        let greedy = generate(&model, &prompt, &GREEDY, None)?;
        for narrow in [Sampling { top_k: 1, ..free }, Sampling { top_p: 1e-6, ..free }] {
            assert_eq!(generate(&model, &prompt, &narrow, None)?, greedy);
        }
        Ok(())
    }

    #[test]
    fn where_a_continuation_ends() -> Result<(), Box<dyn Error>> {
        let model = model("gpt2")?;
        let prompt = [1, 2, 3];
        let greedy = generate(&model, &prompt, &GREEDY, None)?;
        assert_eq!(greedy.len(), GREEDY.max_new_tokens);
        let end = greedy.iter().position(|&id| id == greedy[4]).unwrap_or(4);
        assert_eq!(generate(&model, &prompt, &GREEDY, Some(greedy[4]))?, greedy[..end]);
        let long = Sampling { max_new_tokens: 1000, ..GREEDY };
        assert_eq!(generate(&model, &prompt, &long, None)?.len(), POSITIONS - prompt.len());
        assert_eq!(generate(&model, &[], &GREEDY, None), Err(GenerateError::EmptyPrompt));
        let full = GenerateError::TooLong { tokens: POSITIONS, max_positions: POSITIONS };
        assert_eq!(generate(&model, &[0; POSITIONS], &GREEDY, None), Err(full));
        let unknown = GenerateError::UnknownToken { token: 50, vocab_size: 50 };
        assert_eq!(generate(&model, &[1, 50], &GREEDY, None), Err(unknown));
        let mut bert = ModelConfig::from_model_type("bert")?;
        bert.apply_overrides("vocab_size=50,hidden_size=8,num_hidden_layers=1,num_attention_heads=2")?;
        let bert = AutoModel::from_config(&bert, 0, &Device::flex())?;
        assert_eq!(generate(&bert, &prompt, &GREEDY, None), Err(GenerateError::NotCausal));
        Ok(())
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        // Probabilities 0.5, 0.3, 0.15, 0.05, in another order.
        let logits = [0.15f32, 0.5, 0.05, 0.3].map(f32::ln);
        let shares = |sampling: Sampling| {
            let mut stream = Stream::new(3, Purpose::Sample, 0, 0);
            let mut counts = [0f64; 4];
            (0..20_000).for_each(|_| counts[choose(&logits, &sampling, &mut stream) as usize] += 1.0 / 20_000.0);
            counts
        };
        let free = Sampling { temperature: 1.0, ..GREEDY };
        let squares = [0.0225, 0.25, 0.0025, 0.09].map(|square| square / 0.365);
        let cases = [
            (free, [0.15, 0.5, 0.05, 0.3]),
            (Sampling { temperature: 0.5, ..free }, squares),
            (Sampling { top_k: 2, ..free }, [0.0, 0.625, 0.0, 0.375]),
            // 0.5 + 0.3 do not reach 0.9; the third does.
            (Sampling { top_p: 0.9, ..free }, [0.15 / 0.95, 0.5 / 0.95, 0.0, 0.3 / 0.95]),
            (Sampling { top_p: 0.4, ..free }, [0.0, 1.0, 0.0, 0.0]),
            // Of the two that top-k leaves, the first is 0.625 of the mass.
            (Sampling { top_k: 2, top_p: 0.6, ..free }, [0.0, 1.0, 0.0, 0.0]),
        ];
        for (sampling, expected) in cases {
            let found = shares(sampling);
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 0.015, "{sampling:?}: {found:?}, expected {expected:?}");
            }
        }
        assert_eq!(choose(&[f32::NAN; 3], &free, &mut Stream::new(0, Purpose::Sample, 0, 0)), 0);
    }
}
