//! `--score`: how likely a model finds each line of a file.
//!
//! - A causal model: Σ log p(xᵢ | x₁ … xᵢ₋₁) over all tokens but the first, those that the tokenizer adds included: Python's
//!   loss with `labels=input_ids`, times their number.
//! - A masked model: the pseudo-log-likelihood of Salazar et al. (2020), Σ log p(xᵢ | all others), over the tokens of the text
//!   itself, each masked alone.
//! - XLNet: the log-likelihood from left to right, one of the orders that it was trained for: the tokens of the text itself,
//!   each seeing those before it. The first of all tokens sees none, and is not scored.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use lm_data::tokenizer::Encoded;
use lm_data::{Batch, IGNORE};
use lm_files::NewFile;
use lm_models::{Task, ops};
use serde_json::{Value, json};

use super::language_model::LanguageModel;
use super::lines::{self, Line, Lines};
use crate::args::{Arguments, DataTrainingArguments};
use crate::observe::format::count;
use crate::observe::{console, json};
use crate::run::resolve;
use crate::sys::escape;
use crate::train::batches::joined;

/// Lines that are tokenized together, and whose sequences share batches.
const GROUP: usize = 64;

/// Writes a JSON object for each line of a file, in order.
///
/// # Errors
/// If a line cannot be read, or the result not be written.
pub fn run(model: &LanguageModel, args: &Arguments, path: &Path) -> Result<()> {
    let scorer = Scorer {
        model,
        mask: if model.task == Task::Mlm { Some(model.mask("--score")?) } else { None },
        length: resolve::sequence_length(args, &model.tokenizer, Some(&model.config))?,
        batch_size: args.training.per_device_eval_batch_size,
    };
    let lines = lines::of_file(path).context("--score")?;
    let total = match &args.inference.score_output {
        None => scorer.write(lines, &mut io::stdout())?,
        Some(output) => {
            let _busy = console::busy("scoring");
            let context = || format!("--score_output {}", output.display());
            let mut new = NewFile::create(output).with_context(context)?;
            let mut file = BufWriter::new(new.file());
            let total = scorer.write(lines, &mut file)?;
            file.flush().with_context(context)?;
            drop(file);
            new.publish().with_context(context)?;
            total
        }
    };
    total.tell(args);
    Ok(())
}

/// Σ log p of the scored tokens of some text, and their number.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    tokens: usize,
    log_likelihood: f64,
}

impl Score {
    fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.log_likelihood += other.log_likelihood;
    }

    /// exp(-mean); none of no token.
    fn perplexity(self) -> Option<f64> {
        (self.tokens > 0).then(|| (-self.log_likelihood / self.tokens as f64).exp())
    }
}

/// The score of all lines.
#[derive(Default)]
struct Total {
    lines: u64,
    truncated: u64,
    score: Score,
}

impl Total {
    fn tell(&self, args: &Arguments) {
        let name = names(args.task)[1].replace('_', "-");
        let perplexity = self.score.perplexity().map_or("none".to_owned(), |perplexity| format!("{perplexity:.4}"));
        let (lines, tokens) = (count(self.lines), count(self.score.tokens as u64));
        tracing::info!("scored {lines} lines, {tokens} tokens: {name} {perplexity}");
        if self.truncated > 0 {
            let flag = DataTrainingArguments::length_flag(args.task);
            tracing::warn!(
                "{} of {lines} lines were too long and are scored in part: see {flag}",
                count(self.truncated)
            );
        }
    }
}

/// What a score's log-likelihood and perplexity are called: those of a masked model are no probabilities of a text.
fn names(task: Task) -> [&'static str; 2] {
    match task {
        Task::Mlm => ["pseudo_log_likelihood", "pseudo_perplexity"],
        Task::Clm | Task::Plm => ["log_likelihood", "perplexity"],
    }
}

/// Scores lines with a model.
struct Scorer<'a> {
    model: &'a LanguageModel,
    /// Takes the place of a token that a masked model predicts.
    mask: Option<u32>,
    /// The most tokens of a line.
    length: usize,
    /// Sequences of a batch.
    batch_size: usize,
}

impl Scorer<'_> {
    fn write(&self, mut lines: Lines, out: &mut dyn Write) -> Result<Total> {
        let mut total = Total::default();
        loop {
            let group = lines.by_ref().take(GROUP).collect::<Result<Vec<Line>>>()?;
            let Some(first) = group.first() else { return Ok(total) };
            let texts: Vec<&str> = group.iter().map(|line| line.text.as_str()).collect();
            let encoded = self.model.tokenizer.encode_batch(&texts, Some(self.length));
            let encoded = encoded.with_context(|| format!("from {} on", first.place))?;
            for ((text, encoded), score) in texts.iter().zip(&encoded).zip(self.scores(&encoded)?) {
                writeln!(out, "{}", self.row(text, encoded.truncated, score)?)?;
                total.lines += 1;
                total.truncated += u64::from(encoded.truncated);
                total.score.add(score);
            }
            out.flush()?;
        }
    }

    /// The JSON of a line.
    fn row(&self, text: &str, truncated: bool, score: Score) -> Result<String> {
        let number = |value: f64| json::stand_in(value).map_or(json!(value), Value::from);
        let [log_likelihood, perplexity] = names(self.model.task);
        let mut row = json!({
            "text": text,
            "tokens": score.tokens,
            log_likelihood: number(score.log_likelihood),
            perplexity: score.perplexity().map(number),
        });
        if truncated {
            row["truncated"] = true.into();
        }
        Ok(escape::json(&json::to_string(&row, "")?))
    }

    fn scores(&self, lines: &[Encoded]) -> Result<Vec<Score>> {
        let mut scores = vec![Score::default(); lines.len()];
        let mut sequences = lines.iter().enumerate().flat_map(|(index, line)| self.sequences(index, line)).peekable();
        // What ESM makes of a text depends on the padding beside it, in Python too: a masked model gets none.
        let padded = self.model.task != Task::Mlm;
        while let Some(first) = sequences.next() {
            let length = first.seq_len;
            let mut batch = vec![first];
            while batch.len() < self.batch_size
                && let Some(next) = sequences.next_if(|next| padded || next.seq_len == length)
            {
                batch.push(next);
            }
            let found = ops::on_worker(&self.model.device, || self.score_batch(&batch))?;
            found.into_iter().for_each(|(line, score)| scores[line].add(score));
        }
        Ok(scores)
    }

    /// The sequences that predict a line's tokens, as batches of one: a masked model reads the line once for each of them.
    fn sequences<'a>(&self, index: usize, line: &'a Encoded) -> Box<dyn Iterator<Item = Batch> + 'a> {
        let ids: Vec<i32> = line.ids.iter().map(|&id| id as i32).collect();
        let length = ids.len();
        let sequence = move |input_ids: Vec<i32>, labels: Vec<i32>, perm_mask: Option<Vec<u8>>| Batch {
            batch_size: 1,
            seq_len: length,
            input_ids,
            attention_mask: vec![1; length],
            labels,
            perm_mask,
            example_ids: vec![index as u64],
        };
        let of_text = |place: &usize| line.special_tokens_mask[*place] == 0;
        match (self.model.task, self.mask) {
            (Task::Mlm, Some(mask)) => {
                // A mask that stands in the text is no token that could be right.
                let places = (0..length).filter(of_text).filter(move |&place| line.ids[place] != mask);
                Box::new(places.map(move |place| {
                    let (mut masked, mut labels) = (ids.clone(), vec![IGNORE; length]);
                    masked[place] = mask as i32;
                    labels[place] = ids[place];
                    sequence(masked, labels, None)
                }))
            }
            (Task::Plm, _) => {
                let mut labels = vec![IGNORE; length];
                (1..length).filter(of_text).for_each(|place| labels[place] = ids[place]);
                let perm_mask = (0..length).flat_map(|i| (0..length).map(move |j| u8::from(j >= i)));
                let whole = sequence(ids, labels, Some(perm_mask.collect()));
                Box::new(std::iter::once(whole).filter(|one| one.predicted() > 0))
            }
            _ => Box::new((length > 1).then(|| sequence(ids.clone(), ids, None)).into_iter()),
        }
    }

    /// What a batch of sequences says of each line that one of them is of.
    fn score_batch(&self, sequences: &[Batch]) -> Result<Vec<(usize, Score)>> {
        let (inputs, rows) = self.model.predict(&joined(sequences))?;
        let (decoder, compute) = (self.model.model.decoder(), self.model.compute);
        // The first token of a causal model's text is not predicted.
        let first = usize::from(self.model.task == Task::Clm);
        let mut start = 0;
        let of_lines = sequences.chunk_by(|one, next| one.example_ids == next.example_ids).map(|of_line| {
            let tokens = of_line.iter().map(|one| one.predicted() - first).sum();
            let (rows, targets) =
                (rows.clone().narrow(0, start, tokens), inputs.targets.clone().narrow(0, start, tokens));
            start += tokens;
            let loss_sum = ops::predictions(rows, &decoder, targets, 0.0, compute).loss_sum;
            (of_line[0].example_ids[0] as usize, Score { tokens, log_likelihood: -loss_sum })
        });
        Ok(of_lines.collect())
    }
}
