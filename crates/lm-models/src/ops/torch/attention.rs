//! `scaled_dot_product_attention`, whose kernel libtorch chooses by device, type and mask.

use burn::backend::LibTorch;
use burn::tensor::Tensor;
use tch::Kind;

use super::{Function, Recorded, apply, bools, ints, seeded};
use crate::Sequences;
use crate::inputs::DropoutKey;
use crate::ops::Attention;

#[derive(Debug)]
struct Sdpa {
    options: Attention,
    dropout: Option<(DropoutKey, f64)>,
    batch: i64,
    seq: i64,
    /// [batch, seq], true = padding that no query may see.
    padding: Option<tch::Tensor>,
    /// Row of each padded place, and padded place of each row.
    packing: Option<(tch::Tensor, tch::Tensor)>,
}

impl Sdpa {
    /// [rows, heads · head_dim] → [batch, heads, seq, head_dim]
    fn split(&self, x: &tch::Tensor) -> tch::Tensor {
        let padded = self.packing.as_ref().map(|(row_of_place, _)| x.index_select(0, row_of_place));
        let x = padded.as_ref().unwrap_or(x);
        let heads = self.options.heads as i64;
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

    /// Added to the scores where there is padding: 0 or the least finite number, so that a query that may see nothing
    /// sees everything alike.
    fn mask(&self, kind: Kind) -> Option<tch::Tensor> {
        let padding = self.padding.as_ref()?.view([self.batch, 1, 1, self.seq]);
        let hidden = if self.options.causal {
            let future = tch::Tensor::ones([self.seq, self.seq], (Kind::Bool, padding.device())).triu(1);
            padding.logical_or(&future)
        } else {
            padding
        };
        let least = match kind {
            Kind::Half => half::f16::MIN.to_f64(),
            Kind::BFloat16 => half::bf16::MIN.to_f64(),
            _ => f64::from(f32::MIN),
        };
        let zeros = tch::Tensor::zeros(hidden.size(), (kind, hidden.device()));
        Some(zeros.masked_fill(&hidden, least))
    }
}

impl Function<1> for Sdpa {
    fn compute(&self, [qkv]: [&tch::Tensor; 1]) -> tch::Tensor {
        let mask = self.mask(qkv.kind());
        let width = qkv.size()[1] / 3;
        let [q, k, v] = [0, 1, 2].map(|which| self.split(&qkv.narrow(1, which * width, width)));
        let run = |probability| {
            let causal = self.options.causal && mask.is_none();
            tch::Tensor::scaled_dot_product_attention(
                &q,
                &k,
                &v,
                mask.as_ref(),
                probability,
                causal,
                self.options.scale,
                false,
            )
        };
        let context = match self.dropout {
            Some((site, probability)) => seeded(site, || run(probability)),
            None => run(0.0),
        };
        self.merge(&context)
    }
}

/// See [`crate::ops::attention`]; `dropout` is the site and probability, if any.
pub fn attention(
    qkv: Tensor<2>,
    sequences: &Sequences,
    options: Attention,
    dropout: Option<(DropoutKey, f64)>,
) -> Tensor<2> {
    let sdpa = Sdpa {
        options,
        dropout,
        batch: sequences.batch as i64,
        seq: sequences.seq as i64,
        padding: sequences.key_padding.clone().map(bools),
        packing: sequences.packing.clone().map(|(row_of_place, place_of_row)| (ints(row_of_place), ints(place_of_row))),
    };
    apply::<LibTorch, _, 1, 2>(Recorded(sdpa), [qkv.into_dispatch()])
}
