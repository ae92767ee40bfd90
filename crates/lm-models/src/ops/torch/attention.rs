//! `scaled_dot_product_attention`, whose kernel libtorch chooses by device, type and mask.

use burn::backend::LibTorch;
use burn::tensor::{Bool, Tensor};
use tch::Kind;

use super::{Function, Recorded, apply, bools, ints, seeded};
use crate::Sequences;
use crate::inputs::DropoutKey;
use crate::ops::options::Attention;

#[derive(Debug)]
struct Sdpa {
    heads: i64,
    kv_heads: i64,
    scale: f64,
    dropout: Option<(DropoutKey, f64)>,
    queries: Rows,
    keys: Rows,
    /// Leaves the mask to the kernel, which knows this one: as many queries as keys, each seeing those before it.
    causal: bool,
    /// True where a query may not see a key, [batch or 1, 1, queries or 1, keys].
    hidden: Option<tch::Tensor>,
}

/// How rows form sequences.
#[derive(Debug)]
struct Rows {
    batch: i64,
    seq: i64,
    /// Row of each padded place, and padded place of each row.
    packing: Option<(tch::Tensor, tch::Tensor)>,
}

impl Rows {
    fn new(sequences: &Sequences) -> Self {
        let packing = sequences.packing.clone();
        Self {
            batch: sequences.batch as i64,
            seq: sequences.seq as i64,
            packing: packing.map(|(row_of_place, place_of_row)| (ints(row_of_place), ints(place_of_row))),
        }
    }

    /// [rows, heads · head_dim] → [batch, heads, seq, head_dim]
    fn split(&self, x: &tch::Tensor, heads: i64) -> tch::Tensor {
        let padded = self.packing.as_ref().map(|(row_of_place, _)| x.index_select(0, row_of_place));
        let x = padded.as_ref().unwrap_or(x);
        x.reshape([self.batch, self.seq, heads, x.size()[1] / heads]).transpose(1, 2)
    }

    /// [batch, heads, seq, head_dim] → [rows, heads · head_dim]
    fn merge(&self, x: &tch::Tensor) -> tch::Tensor {
        let x = x.transpose(1, 2).reshape([self.batch * self.seq, -1]);
        match &self.packing {
            Some((_, place_of_row)) => x.index_select(0, place_of_row),
            None => x,
        }
    }
}

impl Sdpa {
    /// Added to the scores: the bias, and the least finite number where a key is hidden, so that a query that may see
    /// nothing sees everything alike.
    fn mask(&self, bias: Option<&tch::Tensor>, kind: Kind) -> Option<tch::Tensor> {
        let least = match kind {
            Kind::Half => half::f16::MIN.to_f64(),
            Kind::BFloat16 => half::bf16::MIN.to_f64(),
            _ => f64::from(f32::MIN),
        };
        match (bias, &self.hidden) {
            (Some(bias), Some(hidden)) => Some(bias.masked_fill(hidden, least)),
            (Some(bias), None) => Some(bias.shallow_clone()),
            (None, Some(hidden)) => {
                Some(tch::Tensor::zeros(hidden.size(), (kind, hidden.device())).masked_fill(hidden, least))
            }
            (None, None) => None,
        }
    }

    fn run(&self, [q, k, v]: [&tch::Tensor; 3], bias: Option<&tch::Tensor>) -> tch::Tensor {
        let mask = self.mask(bias, q.kind());
        let q = self.queries.split(q, self.heads);
        let [k, v] = [k, v].map(|x| self.keys.split(x, self.kv_heads));
        let run = |probability| {
            tch::Tensor::scaled_dot_product_attention(
                &q,
                &k,
                &v,
                mask.as_ref(),
                probability,
                self.causal,
                self.scale,
                self.heads != self.kv_heads,
            )
        };
        let context = match self.dropout {
            Some((site, probability)) => seeded(site, || run(probability)),
            None => run(0.0),
        };
        self.queries.merge(&context)
    }
}

impl Function<3> for Sdpa {
    fn compute(&self, qkv: [&tch::Tensor; 3]) -> tch::Tensor {
        self.run(qkv, None)
    }
}

impl Function<4> for Sdpa {
    fn compute(&self, [q, k, v, bias]: [&tch::Tensor; 4]) -> tch::Tensor {
        self.run([q, k, v], Some(bias))
    }
}

/// See [`crate::ops::attention()`]; `causal` leaves the mask to the kernel, otherwise `hidden` is true where a query may
/// not see a key; the bias is that of all scores, and `dropout` is the site and probability, if any.
pub fn attention(
    qkv: [Tensor<2>; 3],
    (queries, keys): (&Sequences, &Sequences),
    options: &Attention,
    (causal, hidden, bias): (bool, Option<Tensor<4, Bool>>, Option<Tensor<4>>),
    dropout: Option<(DropoutKey, f64)>,
) -> Tensor<2> {
    let sdpa = Sdpa {
        heads: options.heads as i64,
        kv_heads: options.kv_heads as i64,
        scale: options.scale,
        dropout,
        queries: Rows::new(queries),
        keys: Rows::new(keys),
        causal,
        hidden: hidden.map(bools),
    };
    let [q, k, v] = qkv.map(Tensor::into_dispatch);
    match bias {
        Some(bias) => apply::<LibTorch, _, 4, 2>(Recorded(sdpa), [q, k, v, bias.into_dispatch()]),
        None => apply::<LibTorch, _, 3, 2>(Recorded(sdpa), [q, k, v]),
    }
}
