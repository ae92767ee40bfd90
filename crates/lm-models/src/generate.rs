//! Continuing a text with a causal model: sampling, with the keys and values of what was read kept.

use lm_random::{Purpose, Stream};
use rayon::prelude::*;

use crate::cache::{Cache, ints};
use crate::inputs::Mode;
use crate::model::AutoModel;
use crate::ops::Compute;

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

/// What [`generate`] needs of a prompt.
pub fn check(model: &AutoModel, prompt_ids: &[u32]) -> Result<(), GenerateError> {
    let max_positions = model.causal().ok_or(GenerateError::NotCausal)?.max_positions();
    let vocab_size = model.decoder().weight.dims()[0];
    if prompt_ids.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt_ids.len() >= max_positions {
        return Err(GenerateError::TooLong { tokens: prompt_ids.len(), max_positions });
    }
    match prompt_ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&token) => Err(GenerateError::UnknownToken { token, vocab_size }),
        None => Ok(()),
    }
}

/// A text that grows.
struct Continuation {
    stream: Stream,
    /// Tokens read, and those to read next; none when it has ended.
    read: usize,
    unread: Vec<u32>,
    /// The tokens added, and how many may be.
    added: Vec<u32>,
    room: usize,
}

/// The tokens that follow each prompt, without it. A continuation ends before `eos`, after `max_new_tokens`, or where the
/// model's positions end. Equal arguments give equal tokens. All prompts grow together, so that the weights are read
/// once for all of them. `on_token` is given the index of a prompt and each token that is added to it, as soon as there is
/// one.
pub fn generate(
    model: &AutoModel,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    eos: Option<u32>,
    compute: Compute,
    mut on_token: impl FnMut(usize, u32),
) -> Result<Vec<Vec<u32>>, GenerateError> {
    prompts.iter().try_for_each(|prompt| check(model, prompt))?;
    let causal = model.causal().ok_or(GenerateError::NotCausal)?;
    let (decoder, mode) = (model.decoder(), Mode::eval(compute));
    let device = decoder.weight.device();
    let begin = |(index, prompt): (usize, &Vec<u32>)| {
        let room = sampling.max_new_tokens.min(causal.max_positions() - prompt.len());
        Continuation {
            stream: Stream::new(sampling.seed, Purpose::Sample, sampling.evaluation, index as u64),
            read: 0,
            unread: if room > 0 { prompt.clone() } else { Vec::new() },
            added: Vec::new(),
            room,
        }
    };
    let mut texts: Vec<Continuation> = prompts.iter().enumerate().map(begin).collect();
    let mut cache = Cache::new(texts.len(), &device);
    while texts.iter().any(|text| !text.unread.is_empty()) {
        let counts: Vec<usize> = texts.iter().map(|text| text.unread.len()).collect();
        cache.read(&counts, &device);
        let ids = texts.iter().flat_map(|text| text.unread.iter().map(|&id| id as i32));
        let positions = texts.iter().flat_map(|text| text.read as i32..(text.read + text.unread.len()) as i32);
        let rows = causal.extend(ints(ids, &device), ints(positions, &device), &mut cache, &mode);
        let logits: Vec<f32> = decoder.logits(rows, compute).into_data().iter::<f32>().collect();
        let growing: Vec<_> = texts.iter_mut().enumerate().filter(|(_, text)| !text.unread.is_empty()).collect();
        let chosen = growing.into_par_iter().zip(logits.par_chunks_exact(decoder.weight.dims()[0]));
        let chosen = chosen.filter_map(|((index, text), logits)| {
            let next = choose(logits, sampling, &mut text.stream);
            text.read += text.unread.len();
            text.unread.clear();
            if Some(next) == eos {
                return None;
            }
            text.added.push(next);
            if text.added.len() < text.room {
                text.unread.push(next);
            }
            Some((index, next))
        });
        chosen.collect::<Vec<_>>().into_iter().for_each(|(index, token)| on_token(index, token));
    }
    Ok(texts.into_iter().map(|text| text.added).collect())
}

/// Draws a token: temperature, then top-k, then top-p, as Python's logits warpers.
fn choose(logits: &[f32], sampling: &Sampling, stream: &mut Stream) -> u32 {
    let mut candidates: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    // Equal logits by id, so that the order is a total one.
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let wanted = match sampling.top_k {
        _ if sampling.temperature <= 0.0 => 1,
        0 => candidates.len(),
        top_k => top_k,
    };
    if wanted < candidates.len() {
        candidates.select_nth_unstable_by(wanted, order);
        candidates.truncate(wanted);
    }
    candidates.sort_unstable_by(order);
    let Some(&(most_likely, largest)) = candidates.first() else { return 0 };
    if sampling.temperature <= 0.0 {
        return most_likely;
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
    use std::collections::BTreeSet;
    use std::error::Error;
    use std::path::Path;

    use burn::tensor::Device;

    use super::*;
    use crate::inputs::{HostBatch, Objective, Padding};
    use crate::models::FAMILIES;
    use crate::{ModelConfig, ModelInputs, Task, pretrained};

    const POSITIONS: usize = 24;
    const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, max_new_tokens: 12, seed: 1, evaluation: 0 };

    fn model(model_type: &str) -> Result<AutoModel, Box<dyn Error>> {
        let mut config = ModelConfig::from_model_type(model_type)?;
        config.apply_overrides(&format!(
            "vocab_size=50,n_positions={POSITIONS},n_embd=16,n_layer=3,n_head=2,initializer_range=0.3"
        ))?;
        Ok(AutoModel::from_config(&config, 7, &Device::flex())?)
    }

    fn generate(
        model: &AutoModel,
        prompts: &[Vec<u32>],
        sampling: &Sampling,
        eos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>, GenerateError> {
        let mut seen = vec![Vec::new(); prompts.len()];
        let made = super::generate(model, prompts, sampling, eos, Compute::default(), |index, token| {
            seen[index].push(token);
        })?;
        assert_eq!(seen, made, "every token is shown when it is made");
        Ok(made)
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
        let compute = Compute::default();
        let logits: Vec<f32> =
            model.decoder().logits(model.forward(&inputs, &Mode::eval(compute)), compute).into_data().iter().collect();
        Ok(choose(&logits, &GREEDY, &mut Stream::new(0, Purpose::Sample, 0, 0)))
    }

    #[test]
    fn kept_keys_and_values_change_nothing() -> Result<(), Box<dyn Error>> {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
        let mut without: BTreeSet<_> =
            FAMILIES.iter().filter(|family| family.task == Task::Clm).map(|f| f.model_type).collect();
        for folder in std::fs::read_dir(folders)? {
            let folder = folder?.path();
            let Ok(config) = ModelConfig::from_path(&folder) else { continue };
            if config.family().task != Task::Clm {
                continue;
            }
            without.remove(config.model_type());
            let model = pretrained::load(&folder, &config, config.vocab_size(), 0, &Device::flex())?.model;
            let positions = model.causal().ok_or("a causal model")?.max_positions().min(2 * POSITIONS);
            // The second reaches the end of the positions before the others are done.
            let prompts = [vec![3], (0..positions as u32 - 4).map(|id| id % 20).collect(), vec![1, 2, 3, 4, 5]];
            let together = generate(&model, &prompts, &GREEDY, None)?;
            for (prompt, continuation) in prompts.iter().zip(together) {
                let mut expected = prompt.clone();
                for _ in 0..continuation.len().max(4) {
                    expected.push(next_without_cache(&model, &expected)?);
                }
                assert_eq!(continuation, expected[prompt.len()..], "{}", folder.display());
            }
        }
        assert!(without.is_empty(), "no fixture for {without:?}");
        Ok(())
    }

    #[test]
    fn sampling_is_a_function_of_its_arguments() -> Result<(), Box<dyn Error>> {
        let model = model("gpt2")?;
        let prompt = vec![1, 2, 3];
        let twice = [prompt.clone(), prompt.clone()];
        let one = [prompt];
        let free = Sampling { temperature: 1.0, ..GREEDY };
        let text = generate(&model, &one, &free, None)?;
        assert_eq!(generate(&model, &one, &free, None)?, text);
        let of_two = generate(&model, &twice, &free, None)?;
        assert_eq!(of_two[0], text[0]);
        assert_ne!(of_two[1], text[0]);
        for other in [Sampling { seed: 2, ..free }, Sampling { evaluation: 1, ..free }] {
            assert_ne!(generate(&model, &one, &other, None)?, text);
        }
        let greedy = generate(&model, &one, &GREEDY, None)?;
        for narrow in [Sampling { top_k: 1, ..free }, Sampling { top_p: 1e-6, ..free }] {
            assert_eq!(generate(&model, &one, &narrow, None)?, greedy);
        }
        Ok(())
    }

    #[test]
    fn where_a_continuation_ends() -> Result<(), Box<dyn Error>> {
        let model = model("gpt2")?;
        let generate = |model: &AutoModel, prompt: &[u32], sampling: &Sampling, eos| {
            generate(model, &[prompt.to_vec()], sampling, eos).map(|mut texts| texts.remove(0))
        };
        let prompt = [1, 2, 3];
        let greedy = generate(&model, &prompt, &GREEDY, None)?;
        assert_eq!(greedy.len(), GREEDY.max_new_tokens);
        let end = greedy.iter().position(|&id| id == greedy[4]).unwrap_or(4);
        assert_eq!(generate(&model, &prompt, &GREEDY, Some(greedy[4]))?, greedy[..end]);
        let long = Sampling { max_new_tokens: 1000, ..GREEDY };
        assert_eq!(generate(&model, &prompt, &long, None)?.len(), POSITIONS - prompt.len());
        assert_eq!(generate(&model, &prompt, &Sampling { max_new_tokens: 0, ..GREEDY }, None)?, [0u32; 0]);
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
