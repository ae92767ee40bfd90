//! A few texts that the model fills in or continues, before and after training, for the report.

use anyhow::Result;
use burn::tensor::Device;
use lm_data::tokenizer::LmTokenizer;
use lm_data::{Batch, IGNORE, Loader};
use lm_models::{AutoModel, Mode, Task};

use crate::batches::to_inputs;

/// Texts shown.
const COUNT: usize = 6;
/// Tokens of a text shown at most: a table's row, not a page.
const LONGEST: usize = 48;

/// The texts, with what is to be predicted in them.
pub struct Samples {
    batches: Vec<Batch>,
    task: Task,
}

impl Samples {
    /// Takes them from the beginning of the validation set.
    pub fn new(loader: &Loader, task: Task) -> Result<Self> {
        let mut batches = Vec::new();
        for index in 0..loader.batches_per_epoch().min(COUNT as u64) {
            let batch = loader.batch(0, index)?;
            batches.extend((0..batch.batch_size).filter_map(|row| shortened(&batch, row)));
            if batches.len() >= COUNT {
                break;
            }
        }
        batches.truncate(COUNT);
        Ok(Self { batches, task })
    }

    /// The texts with a mask in place of each token to predict.
    pub fn prompts(&self, tokenizer: &LmTokenizer) -> Vec<String> {
        let mask = tokenizer.special().mask;
        self.texts(tokenizer, |batch| predicted(batch).filter_map(|place| Some((place, mask? as i32))).collect())
    }

    /// The texts with the likeliest token in place of each mask.
    pub fn fill_in(&self, model: &AutoModel, tokenizer: &LmTokenizer, device: &Device) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for batch in &self.batches {
            let inputs = to_inputs(batch, self.task, device)?;
            let logits = model.decoder().logits(model.forward(&inputs, &Mode::eval()));
            let likeliest = logits.argmax(1).into_data();
            all.push(predicted(batch).zip(likeliest.iter::<i32>()).collect::<Vec<_>>());
        }
        let mut all = all.into_iter();
        Ok(self.texts(tokenizer, |_| all.next().unwrap_or_default()))
    }

    fn texts(&self, tokenizer: &LmTokenizer, mut replace: impl FnMut(&Batch) -> Vec<(usize, i32)>) -> Vec<String> {
        let text = |batch: &Batch| {
            let mut ids = batch.input_ids.clone();
            for (place, id) in replace(batch) {
                ids[place] = id;
            }
            let ends =
                [tokenizer.special().cls, tokenizer.special().sep, tokenizer.special().bos, tokenizer.special().eos];
            let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).filter(|id| !ends.contains(&Some(*id))).collect();
            tokenizer.decode(&ids).trim().to_owned()
        };
        self.batches.iter().map(text).collect()
    }
}

/// Places with a label.
fn predicted(batch: &Batch) -> impl Iterator<Item = usize> + '_ {
    batch.labels.iter().enumerate().filter(|(_, label)| **label != IGNORE).map(|(place, _)| place)
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
