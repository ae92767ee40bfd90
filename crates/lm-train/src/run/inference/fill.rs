//! `--fill`: the likeliest tokens for each mask of a text.

use std::io::{self, Write};

use anyhow::{Result, bail};
use lm_data::{Batch, IGNORE};
use lm_models::ops;

use super::language_model::LanguageModel;
use super::lines::{self, Line};
use crate::sys::escape;

/// Tokens shown for a mask, as by Python's pipeline `fill-mask`.
const SHOWN: usize = 5;

/// Prints each text with the likeliest tokens for its masks.
///
/// # Errors
/// If a text has no mask, or is too long.
pub fn run(model: &LanguageModel, text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    for (index, line) in lines::given("--fill", text).enumerate() {
        let line = line?;
        let masks = masks(model, &line)?;
        let mut shown = if index > 0 { "\n".to_owned() } else { String::new() };
        shown += &format!("{}\n", line.text);
        let several = masks.len() > 1;
        for (number, likeliest) in (1..).zip(masks) {
            if several {
                shown += &format!("  mask {number}\n");
            }
            for (token, probability) in likeliest {
                shown += &format!("  {probability:.4}  {}\n", spelled(model, token));
            }
        }
        out.write_all(escape::visible(&shown).as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// The likeliest tokens for each mask, the likeliest first, with their probabilities.
fn masks(model: &LanguageModel, line: &Line) -> Result<Vec<Vec<(u32, f64)>>> {
    let place = &line.place;
    let mask = model.mask("--fill")?;
    let ids = model.encode(&line.text, place)?;
    if !ids.contains(&mask) {
        let spelling = model.tokenizer.token(mask).unwrap_or_default();
        bail!("{place}: there is no mask in the text; write {spelling} where a token is missing");
    }
    let labels = ids.iter().map(|&id| if id == mask { 0 } else { IGNORE }).collect();
    let batch = Batch {
        batch_size: 1,
        seq_len: ids.len(),
        input_ids: ids.iter().map(|&id| id as i32).collect(),
        attention_mask: vec![1; ids.len()],
        labels,
        perm_mask: None,
        example_ids: vec![0],
    };
    let logits: Vec<f32> = ops::on_worker(&model.device, || -> Result<_> {
        let (_, rows) = model.predict(&batch)?;
        Ok(model.model.decoder().logits(rows, model.compute).into_data().iter::<f32>().collect())
    })?;
    let masks = batch.predicted();
    Ok(logits.chunks_exact(logits.len() / masks).map(likeliest).collect())
}

/// The largest of a row of logits as probabilities; equal ones in the order of ids.
fn likeliest(logits: &[f32]) -> Vec<(u32, f64)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from(logit - largest).exp();
    let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let mut tokens: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if tokens.len() > SHOWN {
        tokens.select_nth_unstable_by(SHOWN - 1, order);
        tokens.truncate(SHOWN);
    }
    tokens.sort_unstable_by(order);
    tokens.into_iter().map(|(token, logit)| (token, weight(logit) / sum)).collect()
}

/// A token as text; as the vocabulary spells it where it is none by itself, as a part of a character.
fn spelled(model: &LanguageModel, token: u32) -> String {
    let text = model.tokenizer.decode(&[token]).trim().to_owned();
    match text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER) {
        true => model.tokenizer.token(token).unwrap_or_default(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_with_their_probabilities() {
        let found = likeliest(&[0.0, 3f32.ln(), 0.0, 2f32.ln(), 0.0, 0.0]);
        let tokens: Vec<u32> = found.iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, [1, 3, 0, 2, 4]);
        for ((_, found), expected) in found.iter().zip([3.0, 2.0, 1.0, 1.0, 1.0]) {
            assert!((found - expected / 9.0).abs() < 1e-7, "{found}");
        }
        assert_eq!(likeliest(&[1e30, -1e30]), [(0, 1.0), (1, 0.0)]);
    }
}
