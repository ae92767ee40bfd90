//! A few texts that the model fills in or continues, before and after training, for the log and the report.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use lm_data::collate::Collator;
use lm_data::example::Example;
use lm_data::tokenizer::{LmTokenizer, TokenizerError};
use lm_data::{Batch, IGNORE};
use lm_models::generate::{Sampling, check, generate};
use lm_models::ops::{self, Compute};
use lm_models::parameters::ParameterInfo;
use lm_models::{AutoModel, Mode, Task};

use crate::args::Arguments;
use crate::observe::history::{Mark, Text, joined as text_of};
use crate::train::batches::{joined, to_inputs};
use crate::train::pieces::pieces;

/// Texts taken from the data.
const COUNT: usize = 6;
/// Examples looked at for them, since nothing may be predicted in some.
pub const CANDIDATES: usize = 48;
/// Tokens of a text shown at most: a table's row, not a page.
const LONGEST: usize = 48;
/// Tokens of a text's beginning that is continued, if half of it is not shorter.
const BEGINNING: usize = 16;
/// Weights that may be read to continue texts which nobody asked for, each as often as there are new tokens: half a second.
const WEIGHTS_READ: usize = 2_000_000_000;
/// Tokens that are added all the same.
const FEWEST: usize = 8;

/// The texts, and the tokenizer that makes text of what is predicted.
pub struct Samples {
    tokenizer: Arc<LmTokenizer>,
    texts: Texts,
}

/// The texts, with what is to be predicted in them.
enum Texts {
    /// Texts with masks to fill in.
    Masked {
        /// One sequence each, without padding.
        batches: Vec<Batch>,
        /// What is predicted.
        task: Task,
    },
    /// Beginnings to continue.
    Prompts {
        /// Token ids of each.
        prompts: Vec<Vec<u32>>,
        /// How tokens are drawn; the number of the evaluation is filled in for each.
        sampling: Sampling,
        /// Whether `--sample_prompts` asks for them.
        asked: bool,
    },
}

impl Samples {
    /// The prompts of `--sample_prompts`, else texts made of the first of these examples.
    pub fn new(
        args: &Arguments,
        tokenizer: &Arc<LmTokenizer>,
        collator: &dyn Collator,
        examples: impl FnOnce() -> Result<Vec<(u64, Example)>>,
    ) -> Result<Self> {
        let texts = match args.task {
            Task::Clm => beginnings(args, tokenizer, collator, examples)?,
            task => Texts::Masked { batches: sequences(collator, examples()?)?, task },
        };
        Ok(Self { tokenizer: Arc::clone(tokenizer), texts })
    }

    /// Whether they are made at every evaluation: to fill in masks costs next to nothing, to continue texts is to be asked
    /// for (`--sample_prompts`).
    pub fn at_evaluations(&self) -> bool {
        match &self.texts {
            Texts::Masked { .. } => true,
            Texts::Prompts { asked, .. } => *asked,
        }
    }

    /// Whether every evaluation logs them: `--sample_prompts`.
    pub fn are_logged(&self) -> bool {
        matches!(&self.texts, Texts::Prompts { asked: true, .. })
    }

    /// What the model is given; the hidden tokens stand in it, marked.
    pub fn given(&self) -> Vec<Text> {
        let tokenizer = &self.tokenizer;
        match &self.texts {
            Texts::Masked { batches, .. } => {
                let hidden = |batch: &Batch| {
                    let seen = |place: usize| tokenizer.decode(&[batch.input_ids[place] as u32]).trim().to_owned();
                    let marks =
                        predicted(batch).map(|(place, truth)| (place, truth, Mark::Hidden { seen: seen(place) }));
                    filled(batch, tokenizer, marks)
                };
                batches.iter().map(hidden).collect()
            }
            Texts::Prompts { prompts, .. } => prompts.iter().map(|ids| pieces(tokenizer, ids, Vec::new())).collect(),
        }
    }

    /// The texts as the model makes them: the likeliest token in place of each hidden one, or the continuation drawn for this
    /// `evaluation`, a number that only has to differ between evaluations. `model` is without autodiff.
    pub fn made(&self, model: &AutoModel, device: &Device, compute: Compute, evaluation: u64) -> Result<Vec<Text>> {
        let tokenizer = &self.tokenizer;
        match &self.texts {
            Texts::Masked { batches, task } => {
                if batches.is_empty() {
                    return Ok(Vec::new());
                }
                let inputs = to_inputs(&joined(batches), *task, device)?;
                let logits = model.decoder().logits(model.forward(&inputs, &Mode::eval(compute)), compute);
                let vocabulary = logits.dims()[1];
                let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
                let mut rows = logits.chunks(vocabulary);
                let fill_in = |batch| {
                    let marks = predicted(batch).zip(rows.by_ref()).map(|((place, truth), row)| {
                        let (likeliest, mark) = guess(row, truth, tokenizer);
                        (place, likeliest, mark)
                    });
                    filled(batch, tokenizer, marks)
                };
                Ok(batches.iter().map(fill_in).collect())
            }
            Texts::Prompts { prompts, sampling, asked } => {
                for (index, prompt) in prompts.iter().enumerate() {
                    check(model, prompt).with_context(|| format!("--sample_prompts: prompt {}", index + 1))?;
                }
                let mut sampling = Sampling { evaluation, ..*sampling };
                if !asked {
                    let weights: usize = model.parameters().iter().map(ParameterInfo::len).sum();
                    let affordable = WEIGHTS_READ / weights.max(1);
                    sampling.max_new_tokens = sampling.max_new_tokens.min(affordable.max(FEWEST));
                }
                let eos = tokenizer.special().eos;
                let added = ops::on_worker(device, || generate(model, prompts, &sampling, eos, compute, |_, _| ()))?;
                let continued = |(ids, added): (&Vec<u32>, Vec<u32>)| {
                    let (given, all) = (ids.len(), ids.len() + added.len());
                    let marks = if added.is_empty() { Vec::new() } else { vec![(given..all, Mark::Added)] };
                    pieces(tokenizer, &[ids.as_slice(), &added].concat(), marks)
                };
                Ok(prompts.iter().zip(added).map(continued).collect())
            }
        }
    }

    /// [`Self::made`] without marks.
    pub fn texts(&self, model: &AutoModel, device: &Device, compute: Compute, evaluation: u64) -> Result<Vec<String>> {
        Ok(self.made(model, device, compute, evaluation)?.iter().map(text_of).collect())
    }
}

/// The likeliest token of a row of logits, and how it compares with the true one.
fn guess(logits: &[f32], truth: i32, tokenizer: &LmTokenizer) -> (i32, Mark) {
    let (likeliest, most) = logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (token, &logit)| if logit > best.1 { (token, logit) } else { best });
    let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
    // Logits that are not finite give none.
    let share = |logit: &f32| Some((logit - most).exp() / sum).filter(|share| share.is_finite());
    let probability = |token: usize| logits.get(token).and_then(share).unwrap_or(0.0);
    let mark = if likeliest == truth as usize {
        Mark::Right { probability: probability(likeliest) }
    } else {
        let spelled = tokenizer.decode(&[truth as u32]).trim().to_owned();
        Mark::Wrong { probability: probability(likeliest), truth: spelled, of_truth: probability(truth as usize) }
    };
    (likeliest as i32, mark)
}

/// The prompts of `--sample_prompts`, else beginnings of the examples.
fn beginnings(
    args: &Arguments,
    tokenizer: &LmTokenizer,
    collator: &dyn Collator,
    examples: impl FnOnce() -> Result<Vec<(u64, Example)>>,
) -> Result<Texts> {
    let prompts = match &args.beyond.sample_prompts {
        Some(path) => read_prompts(path, tokenizer)?,
        None => {
            let beginning = |batch: Batch| {
                batch
                    .input_ids
                    .iter()
                    .take(BEGINNING.min(batch.seq_len / 2).max(1))
                    .map(|&id| id as u32)
                    .collect::<Vec<_>>()
            };
            sequences(collator, examples()?)?.into_iter().map(beginning).collect()
        }
    };
    Ok(Texts::Prompts { prompts, sampling: sampling(args), asked: args.beyond.sample_prompts.is_some() })
}

/// How tokens are drawn, as the flags say.
pub fn sampling(args: &Arguments) -> Sampling {
    let inference = &args.inference;
    Sampling {
        temperature: inference.temperature as f32,
        top_k: inference.top_k,
        top_p: inference.top_p as f32,
        max_new_tokens: inference.max_new_tokens,
        seed: args.training.seed,
        evaluation: 0,
    }
}

/// One prompt per line; blank lines are passed over.
fn read_prompts(path: &Path, tokenizer: &LmTokenizer) -> Result<Vec<Vec<u32>>> {
    let show = format!("--sample_prompts {}", path.display());
    let text = lm_files::read_to_string(path, lm_files::SMALL).with_context(|| show.clone())?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(!lines.is_empty(), "{show}: no prompt in it; write one per line");
    let prompts = prompt_ids(tokenizer, &lines).with_context(|| show.clone())?;
    Ok(prompts.into_iter().filter(|ids| !ids.is_empty()).collect())
}

/// The token ids of texts that are to be continued: what the tokenizer adds at the end, such as a separator, would end them.
///
/// # Errors
/// If a text cannot be encoded.
pub fn prompt_ids(tokenizer: &LmTokenizer, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizerError> {
    let bare = tokenizer.encode_batch(texts, None)?.into_iter().map(|encoded| {
        let mut ids = encoded.ids;
        let added = encoded.special_tokens_mask.iter().rev().take_while(|added| **added == 1).count();
        ids.truncate(ids.len() - added);
        ids
    });
    Ok(bare.collect())
}

/// The first of the examples in which anything is predicted, one per batch.
fn sequences(collator: &dyn Collator, examples: Vec<(u64, Example)>) -> Result<Vec<Batch>> {
    let mut sequences = Vec::new();
    for example in examples {
        if sequences.len() == COUNT {
            break;
        }
        sequences.extend(shortened(&collator.collate(&[example], 0)?, 0));
    }
    Ok(sequences)
}

/// The text of a sequence with some of its tokens replaced and marked, without the tokens that only frame it.
fn filled(batch: &Batch, tokenizer: &LmTokenizer, replace: impl Iterator<Item = (usize, i32, Mark)>) -> Text {
    let special = tokenizer.special();
    let frame = [special.cls, special.sep, special.bos, special.eos];
    let mut replace = replace.peekable();
    let (mut ids, mut marks) = (Vec::new(), Vec::new());
    for (place, &id) in batch.input_ids.iter().enumerate() {
        if let Some((_, id, mark)) = replace.next_if(|(at, ..)| *at == place) {
            marks.push((ids.len()..ids.len() + 1, mark));
            ids.push(id as u32);
        } else if !frame.contains(&Some(id as u32)) {
            ids.push(id as u32);
        }
    }
    pieces(tokenizer, &ids, marks)
}

/// Places with a label, and the label.
fn predicted(batch: &Batch) -> impl Iterator<Item = (usize, i32)> + '_ {
    batch.labels.iter().copied().enumerate().filter(|(_, label)| *label != IGNORE)
}

/// One row of a batch without its padding, cut short; none if nothing is predicted in what is left.
fn shortened(batch: &Batch, row: usize) -> Option<Batch> {
    let seq = batch.seq_len;
    let cells = row * seq..(row + 1) * seq;
    let start = batch.attention_mask[cells.clone()].iter().position(|&mask| mask == 1)?;
    let tokens = batch.attention_mask[cells.clone()].iter().filter(|&&mask| mask == 1).count();
    let len = tokens.min(LONGEST);
    let cut = |values: &[i32]| values[cells.clone()][start..start + len].to_vec();
    let perm_mask = batch.perm_mask.as_ref().map(|mask| {
        let mask = &mask[row * seq * seq..(row + 1) * seq * seq];
        (start..start + len).flat_map(|i| mask[i * seq + start..i * seq + start + len].to_vec()).collect()
    });
    let short = Batch {
        batch_size: 1,
        seq_len: len,
        input_ids: cut(&batch.input_ids),
        attention_mask: vec![1; len],
        labels: cut(&batch.labels),
        perm_mask,
        example_ids: vec![batch.example_ids.get(row).copied().unwrap_or_default()],
    };
    let any = predicted(&short).next().is_some();
    any.then_some(short)
}

#[cfg(test)]
mod tests {
    use lm_models::ModelConfig;

    use super::*;

    /// What a model of this type predicts at the labels of a batch.
    fn logits(model: &AutoModel, task: Task, batch: &Batch) -> anyhow::Result<Vec<f32>> {
        let inputs = to_inputs(batch, task, &Device::flex())?;
        let compute = Compute::default();
        let logits = model.decoder().logits(model.forward(&inputs, &Mode::eval(compute)), compute);
        Ok(logits.into_data().iter::<f32>().collect())
    }

    #[test]
    fn sequences_predict_together_what_they_predict_alone() -> anyhow::Result<()> {
        let sizes = [
            ("bert", "num_hidden_layers=2,num_attention_heads=2,intermediate_size=32"),
            ("xlnet", "n_layer=2,n_head=2,d_inner=32"),
        ];
        for ((model_type, sizes), task) in sizes.into_iter().zip([Task::Mlm, Task::Plm]) {
            let mut config = ModelConfig::from_model_type(model_type)?;
            let width = if model_type == "bert" { "hidden_size" } else { "d_model" };
            config.apply_overrides(&format!("vocab_size=50,{width}=16,initializer_range=0.3,{sizes}"))?;
            let model = AutoModel::from_config(&config, 7, &Device::flex())?;
            let sequence = |len: usize| Batch {
                batch_size: 1,
                seq_len: len,
                input_ids: (0..len as i32).map(|i| 5 + i * 7 % 43).collect(),
                attention_mask: vec![1; len],
                labels: (0..len).map(|i| if i % 3 == 1 { 9 } else { IGNORE }).collect(),
                perm_mask: (task == Task::Plm).then(|| (0..len * len).map(|i| u8::from(i % 5 == 0)).collect()),
                example_ids: vec![len as u64],
            };
            let sequences = [sequence(5), sequence(12), sequence(8)];
            let together = logits(&model, task, &joined(&sequences))?;
            let mut alone = Vec::new();
            for one in &sequences {
                alone.extend(logits(&model, task, one)?);
            }
            assert_eq!(together.len(), alone.len());
            let difference = together.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 1e-4, "{model_type}: {difference}");
        }
        Ok(())
    }
}
