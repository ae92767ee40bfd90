//! What a model is given: token rows, how they form sequences, which of them are predicted.
//!
//! Hidden states are `[rows, hidden]`, one row per token, the sequences laid end to end. Only attention needs to know
//! where one sequence ends; everything else treats rows alike, so a batch without its padding costs no more than its
//! tokens.

use std::cell::Cell;
use std::ops::Range;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use lm_random::{Purpose, Stream, key, philox};

use crate::ops::Compute;

/// The label of a position that the loss ignores, as in Python.
pub const IGNORE: i32 = -100;

/// A padded batch on the host, as collators make it; row-major.
#[derive(Clone, Copy, Debug)]
pub struct HostBatch<'a> {
    /// Number of sequences.
    pub batch: usize,
    /// Padded length.
    pub seq: usize,
    /// [batch, seq]
    pub input_ids: &'a [i32],
    /// [batch, seq], 1 = a token, 0 = padding.
    pub attention_mask: &'a [u8],
    /// [batch, seq], [`IGNORE`] = not predicted.
    pub labels: &'a [i32],
    /// [batch, seq, seq], 1 = query i may not see key j; XLNet's objective only.
    pub perm_mask: Option<&'a [u8]>,
}

/// What is predicted from which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// The label of a position is predicted from that position (masked and permutation language models).
    Masked,
    /// The label of the next position is predicted (causal language models): the shift happens here.
    Causal,
}

/// What to do with padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Padding becomes no row at all.
    Drop,
    /// Padding stays a row that no query sees, as in Python: its own hidden states exist.
    Mask,
    /// Padding stays and is seen, as Python's XLNet sees it in `run_plm`, which passes no attention mask.
    See,
}

/// How rows form sequences.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// Number of sequences.
    pub batch: usize,
    /// Length of the longest.
    pub seq: usize,
    /// Rows of each sequence, laid end to end.
    pub lengths: Vec<usize>,
    /// Column of each row in the padded batch: its position id.
    pub columns: Vec<i32>,
    /// [batch, seq], true = padding that no query may see; none when every row may be seen.
    pub key_padding: Option<Tensor<2, Bool>>,
    /// Row of each padded place ([batch * seq]; 0 where there is none) and padded place of each row (`[rows]`); none
    /// when rows and padded places are the same.
    pub packing: Option<(Tensor<1, Int>, Tensor<1, Int>)>,
}

impl Sequences {
    /// Sequences of these lengths, whose rows lie end to end and whose padding was dropped.
    pub fn end_to_end(lengths: Vec<usize>, device: &Device) -> Self {
        let (batch, seq) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        let columns: Vec<i32> = lengths.iter().flat_map(|&length| 0..length as i32).collect();
        let padded = lengths.iter().any(|&length| length < seq);
        let ints = |values: Vec<i32>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
        };
        let hidden = || {
            let hidden = lengths.iter().flat_map(|&length| (0..seq).map(move |place| place >= length));
            Tensor::from_data(TensorData::new(hidden.collect::<Vec<bool>>(), [batch, seq]), device)
        };
        let packing = || {
            let mut row_of_place = vec![0; batch * seq];
            let mut place_of_row = Vec::with_capacity(columns.len());
            let sequence_of_row = lengths.iter().enumerate().flat_map(|(i, &length)| std::iter::repeat_n(i, length));
            for (row, (sequence, &column)) in sequence_of_row.zip(&columns).enumerate() {
                let place = sequence * seq + column as usize;
                row_of_place[place] = row as i32;
                place_of_row.push(place as i32);
            }
            (ints(row_of_place), ints(place_of_row))
        };
        let (key_padding, packing) = (padded.then(hidden), padded.then(packing));
        Self { batch, seq, lengths, columns, key_padding, packing }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.len()
    }

    /// `x`, [rows, dim], with zeros in the rows of padding where it was kept.
    pub fn zero_padding(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.key_padding, &self.packing) {
            (Some(padding), None) => {
                let [rows, dim] = x.dims();
                x.mask_fill(padding.clone().reshape([rows, 1]).expand([rows, dim]), 0.0)
            }
            _ => x,
        }
    }

    /// `x` with the mean of all of its sequence's `values` in the rows of padding where it was kept, both [rows, dim]: what
    /// attention gives a query that sees nothing, padding included, as DeBERTa's padding does.
    pub fn mean_for_padding(&self, x: Tensor<2>, values: Tensor<2>) -> Tensor<2> {
        match (&self.key_padding, &self.packing) {
            (Some(padding), None) => {
                let [rows, dim] = x.dims();
                let means = values.reshape([self.batch, self.seq, dim]).mean_dim(1);
                let means = means.expand([self.batch, self.seq, dim]).reshape([rows, dim]);
                x.mask_where(padding.clone().reshape([rows, 1]).expand([rows, dim]), means)
            }
            _ => x,
        }
    }

    /// The rows of each sequence.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let ranges = self.lengths.iter().map(|&len| {
            start += len;
            start - len..start
        });
        ranges.collect()
    }
}

/// XLNet's permutation of one batch.
#[derive(Clone, Debug)]
pub struct Permutation {
    /// [batch, seq, seq], true = query i may not see key j.
    pub perm_mask: Tensor<3, Bool>,
}

/// One batch, ready for a model.
#[derive(Clone, Debug)]
pub struct ModelInputs {
    /// `[rows]`
    pub input_ids: Tensor<1, Int>,
    /// The same on the host, for what depends on single ids.
    pub host_ids: Vec<i32>,
    /// How the rows form sequences.
    pub sequences: Sequences,
    /// `[predicted]`, rows that are decoded, in order.
    pub predicted: Tensor<1, Int>,
    /// The same on the host.
    pub host_predicted: Vec<i32>,
    /// `[predicted]`, the token that each should yield.
    pub targets: Tensor<1, Int>,
    /// XLNet's objective only.
    pub permutation: Option<Permutation>,
    /// Where all of this lives, outside autodiff.
    pub device: Device,
}

/// Why a batch can't be given to a model.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// An array of the batch has the wrong length.
    #[error("a batch of {batch} x {seq} has {found} values of `{name}`, expected {expected}")]
    Length {
        /// Sequences.
        batch: usize,
        /// Padded length.
        seq: usize,
        /// Which array.
        name: &'static str,
        /// Values it has.
        found: usize,
        /// Values it should have.
        expected: usize,
    },
}

impl ModelInputs {
    /// Lays out a padded batch for `device`. Predicted are the positions with a label. The tensors are constants: outside
    /// autodiff, whatever `device` says.
    pub fn new(host: HostBatch, objective: Objective, padding: Padding, device: &Device) -> Result<Self, InputError> {
        let HostBatch { batch, seq, input_ids, attention_mask, labels, perm_mask } = host;
        let device = &device.clone().inner();
        let size = batch * seq;
        let check = |name, found: usize, expected: usize| {
            if found == expected { Ok(()) } else { Err(InputError::Length { batch, seq, name, found, expected }) }
        };
        check("input_ids", input_ids.len(), size)?;
        check("attention_mask", attention_mask.len(), size)?;
        check("labels", labels.len(), size)?;
        check("perm_mask", perm_mask.map_or(size * seq, <[u8]>::len), size * seq)?;

        let padded = attention_mask.contains(&0);
        let keep = |place: usize| padding != Padding::Drop || attention_mask[place] != 0;
        let mut places = Vec::with_capacity(size);
        let mut row_of_place = vec![0i32; size];
        let mut lengths = Vec::with_capacity(batch);
        for sequence in 0..batch {
            let before = places.len();
            for place in (sequence * seq..(sequence + 1) * seq).filter(|&place| keep(place)) {
                row_of_place[place] = places.len() as i32;
                places.push(place);
            }
            lengths.push(places.len() - before);
        }

        let label_of = |place: usize| match objective {
            Objective::Masked => labels[place],
            Objective::Causal if (place + 1).is_multiple_of(seq) => IGNORE,
            Objective::Causal => labels[place + 1],
        };
        let (mut host_predicted, mut targets) = (Vec::new(), Vec::new());
        for (row, &place) in places.iter().enumerate() {
            if label_of(place) != IGNORE {
                host_predicted.push(row as i32);
                targets.push(label_of(place));
            }
        }

        let ints =
            |values: &[i32]| Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), device);
        let hidden = || TensorData::new(attention_mask.iter().map(|&m| m == 0).collect::<Vec<bool>>(), [batch, seq]);
        let packed = padded && padding == Padding::Drop;
        let host_ids: Vec<i32> = places.iter().map(|&place| input_ids[place]).collect();
        Ok(Self {
            input_ids: ints(&host_ids),
            sequences: Sequences {
                batch,
                seq,
                lengths,
                columns: places.iter().map(|&place| (place % seq) as i32).collect(),
                key_padding: (padded && padding != Padding::See).then(|| Tensor::from_data(hidden(), device)),
                packing: packed.then(|| {
                    let place_of_row: Vec<i32> = places.iter().map(|&place| place as i32).collect();
                    (ints(&row_of_place), ints(&place_of_row))
                }),
            },
            predicted: ints(&host_predicted),
            host_predicted,
            targets: ints(&targets),
            permutation: perm_mask.map(|mask| Permutation {
                perm_mask: Tensor::from_data(
                    TensorData::new(mask.iter().map(|&m| m != 0).collect::<Vec<bool>>(), [batch, seq, seq]),
                    device,
                ),
            }),
            host_ids,
            device: device.clone(),
        })
    }

    /// The same with rows for padding that was dropped, tokens of this id that no query sees.
    pub fn with_padding(&self, padding_id: i32) -> Self {
        let Sequences { batch, seq, lengths, columns, .. } = &self.sequences;
        if self.sequences.packing.is_none() {
            return self.clone();
        }
        let ints = |values: Vec<i32>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), &self.device)
        };
        let sequence_of_row = lengths.iter().enumerate().flat_map(|(i, &length)| std::iter::repeat_n(i, length));
        let place_of_row: Vec<usize> =
            sequence_of_row.zip(columns).map(|(sequence, &column)| sequence * seq + column as usize).collect();
        let mut host_ids = vec![padding_id; batch * seq];
        for (&place, &id) in place_of_row.iter().zip(&self.host_ids) {
            host_ids[place] = id;
        }
        let host_predicted: Vec<i32> =
            self.host_predicted.iter().map(|&row| place_of_row[row as usize] as i32).collect();
        let sequences = Sequences {
            lengths: vec![*seq; *batch],
            columns: (0..*batch).flat_map(|_| 0..*seq as i32).collect(),
            packing: None,
            ..self.sequences.clone()
        };
        let (input_ids, predicted) = (ints(host_ids.clone()), ints(host_predicted.clone()));
        Self { input_ids, host_ids, sequences, predicted, host_predicted, ..self.clone() }
    }

    /// The rows that are decoded; [rows, dim] → [predicted, dim].
    pub fn take_predicted(&self, x: Tensor<2>) -> Tensor<2> {
        x.select(0, self.predicted.clone())
    }

    /// Position ids of the rows, `[rows]`: the column of each in the padded batch.
    pub fn positions(&self) -> Tensor<1, Int> {
        let columns = &self.sequences.columns;
        Tensor::from_data(TensorData::new(columns.clone(), [columns.len()]), &self.device)
    }

    /// The same where positions count the tokens that are not padding, from `padding_idx + 1` on, and padding has position
    /// `padding_idx`, its id (RoBERTa's `create_position_ids_from_input_ids`).
    pub fn positions_from_padding(&self, padding_idx: usize) -> Tensor<1, Int> {
        let mut positions = Vec::with_capacity(self.host_ids.len());
        let mut ids = self.host_ids.iter();
        for &length in &self.sequences.lengths {
            let mut next = padding_idx;
            for &id in ids.by_ref().take(length) {
                let padding = id as usize == padding_idx;
                next += usize::from(!padding);
                positions.push(if padding { padding_idx } else { next } as i32);
            }
        }
        Tensor::from_data(TensorData::new(positions, [self.host_ids.len()]), &self.device)
    }
}

/// How a forward pass computes, whether it trains, and if so where its dropout masks come from.
#[derive(Clone, Debug)]
pub struct Mode {
    compute: Compute,
    dropout: Option<DropoutSource>,
    neftune_noise_alpha: Option<f64>,
}

#[derive(Clone, Debug)]
struct DropoutSource {
    seed: u64,
    micro_batch: u64,
    next_site: Cell<u32>,
}

/// Names one dropout mask of a run: see [`lm_random::Purpose::Dropout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// Number of the forward pass since the run began.
    pub micro_batch: u64,
    /// Number of the dropout within the forward pass.
    pub site: u32,
}

impl DropoutKey {
    /// A seed for a generator that draws this mask and no other.
    pub fn seed(&self) -> u64 {
        let counter = [0, self.site, self.micro_batch as u32, (self.micro_batch >> 32) as u32];
        let [low, high, ..] = philox(counter, key(self.seed, Purpose::Dropout));
        u64::from(high) << 32 | u64::from(low)
    }
}

impl Mode {
    /// Evaluation: no dropout, no gradients.
    pub fn eval(compute: Compute) -> Self {
        Self { compute, dropout: None, neftune_noise_alpha: None }
    }

    /// Training: dropout masks, and the noise on the embeddings (Python's `--neftune_noise_alpha`), are a function of
    /// the seed and of the number of the forward pass.
    pub fn train(compute: Compute, seed: u64, micro_batch: u64, neftune_noise_alpha: Option<f64>) -> Self {
        let dropout = Some(DropoutSource { seed, micro_batch, next_site: Cell::new(0) });
        Self { compute, dropout, neftune_noise_alpha }
    }

    /// In what precision, and by which operations.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Adds NEFTune's noise (Jain et al., 2023) to the embeddings of tokens, [rows, dim]: uniform in ±α/√(length · dim),
    /// the length being the padded one as in Python's hook.
    pub fn neftune(&self, embedded: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        let (Some(alpha), Some(source)) = (self.neftune_noise_alpha, &self.dropout) else { return embedded };
        let [rows, dim] = embedded.dims();
        let size = (alpha / ((sequences.seq * dim) as f64).sqrt()) as f32;
        let mut noise = Vec::with_capacity(rows * dim);
        for row in 0..rows {
            let mut stream = Stream::new(source.seed, Purpose::Neftune, row as u64, source.micro_batch);
            noise.extend((0..dim).map(|_| (2.0 * stream.next_f32() - 1.0) * size));
        }
        let noise = Tensor::from_data(TensorData::new(noise, [rows, dim]), &embedded.device());
        embedded + noise
    }

    /// Whether this pass trains.
    pub fn is_training(&self) -> bool {
        self.dropout.is_some()
    }

    /// Whether what happens with this probability, and never in evaluation, happens now: a choice like that of a dropout.
    pub fn happens(&self, probability: f64) -> bool {
        let drawn = |key: DropoutKey| (key.seed() >> 11) as f64 / (1u64 << 53) as f64;
        self.next_dropout(probability).is_some_and(|(key, probability)| drawn(key) < probability)
    }

    /// The key of the next dropout in this pass, and its probability; none when nothing is to be dropped.
    pub fn next_dropout(&self, probability: f64) -> Option<(DropoutKey, f64)> {
        let source = self.dropout.as_ref()?;
        let site = source.next_site.get();
        source.next_site.set(site + 1);
        (probability > 0.0)
            .then_some((DropoutKey { seed: source.seed, micro_batch: source.micro_batch, site }, probability))
    }
}
