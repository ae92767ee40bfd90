//! What operations are told and give back besides tensors: below their definitions and the engines' files, which share
//! these types.

use burn::tensor::{Gradients, Int, Tensor};

use crate::Sequences;

/// What kind of attention.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Number of heads that the columns of the queries are split into.
    pub heads: usize,
    /// Number of heads of the keys and values, a divisor of `heads`: as many neighbouring heads of queries share one
    /// (grouped-query attention, Ainslie et al., 2023).
    pub kv_heads: usize,
    /// Factor on the scores; 1/√head_dim as a rule.
    pub scale: f64,
    /// `cap · tanh(score / cap)` takes the place of a score, before bias and mask (Gemma 2).
    pub softcap: Option<f64>,
    /// Dropout probability of the attention weights.
    pub dropout: f64,
    /// Which keys a query sees.
    pub mask: AttentionMask,
    /// What is added to the scores.
    pub bias: AttentionBias,
    /// What becomes of a query that may see no key: padding behind a window.
    pub blind: Blind,
}

impl Attention {
    /// Attention of as many heads for queries as for keys, by its usual scale, without a bias.
    pub fn new(heads: usize, head_dim: usize, mask: AttentionMask, dropout: f64) -> Self {
        let scale = 1.0 / (head_dim as f64).sqrt();
        Self {
            heads,
            kv_heads: heads,
            scale,
            softcap: None,
            dropout,
            mask,
            bias: AttentionBias::None,
            blind: Blind::Mean,
        }
    }
}

/// Which keys a query sees, padding apart. Positions are those of rows within their sequence; where a sequence has fewer
/// queries than keys, the queries are its last rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionMask {
    /// All.
    Full,
    /// Those before it and its own.
    Causal,
    /// Those from position − left to position + right, both included.
    Window {
        /// How far back.
        left: usize,
        /// How far ahead.
        right: usize,
    },
}

impl AttentionMask {
    /// How far a query sees back and ahead; none for all the way.
    pub(super) fn reach(self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Full => (None, None),
            Self::Causal => (None, Some(0)),
            Self::Window { left, right } => (Some(left), Some(right)),
        }
    }
}

/// What a query gets that may see no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blind {
    /// The mean of all values, as if it saw all keys alike: what Python's own attention (`eager`) gives it.
    Mean,
    /// Zeros, as torch's `scaled_dot_product_attention` has it.
    Zeros,
}

/// What is added to the scores, after their scale and soft cap.
#[derive(Clone, Debug)]
pub enum AttentionBias {
    /// Nothing.
    None,
    /// A head's slope times the distance from query to key, negative for keys before the query (Press et al., 2022); see
    /// [`super::alibi_slopes`].
    Alibi(Vec<f32>),
    /// A head's value for the position of a key, whatever the query's, [heads, positions]: there are as many as the longest
    /// sequence has, or more. What [`Self::Alibi`] is, but for rounding (Falcon).
    Keys(Tensor<2>),
    /// Learned values by distance (T5, MPNet).
    Table {
        /// [heads, buckets]
        values: Tensor<2>,
        /// The bucket of each distance from query to key, from `1 - n` to `n - 1`, for an `n` that no sequence is longer
        /// than: `2 n - 1` in all.
        buckets: Vec<usize>,
    },
    /// Any values, for each place of the padded batch: [heads, queries, keys], the same for all sequences, or
    /// [batch · heads, queries, keys].
    PerHead(Tensor<3>),
}

/// What a layer's queries are compared with.
#[derive(Clone, Debug)]
pub struct RelativeKeys<'a> {
    /// How the rows of k and v form sequences.
    pub sequences: &'a Sequences,
    /// [rows, heads · head_dim]
    pub k: Tensor<2>,
    /// [rows, heads · head_dim]
    pub v: Tensor<2>,
    /// The projected encodings of the distances seq, seq - 1, …, 1 - seq, [2 · seq, heads · head_dim], or such a table
    /// for each sequence of the batch, one after the other.
    pub r: Tensor<2>,
    /// Added to queries that meet content, [heads, head_dim].
    pub r_w_bias: Tensor<2>,
    /// Added to queries that meet distances, [heads, head_dim].
    pub r_r_bias: Tensor<2>,
}

/// The queries of one stream.
#[derive(Clone, Debug)]
pub struct RelativeQueries {
    /// How their rows form sequences.
    pub sequences: Sequences,
    /// For each head of each query, which of the 2 · seq distances lies between it and each key,
    /// [batch · heads · queries, seq]; none when query i stands at position i.
    pub distances: Option<Tensor<2, Int>>,
    /// Added to the scores, [batch, 1, queries, seq]: 0 or, where the query may not see the key, -1e30. A query that
    /// may see nothing sees everything alike, as in Python.
    pub mask: Option<Tensor<4>>,
}

/// What content and distance have to say to each other (DeBERTa, He et al., 2021).
#[derive(Clone, Debug)]
pub struct Disentangled {
    /// What queries meet: the keys of distances, [distances, heads · head_dim]; none without content to position.
    pub pos_key: Option<Tensor<2>>,
    /// What keys meet: the queries of distances, likewise; none without position to content.
    pub pos_query: Option<Tensor<2>>,
    /// The row of both for each distance from key to query, from `1 - n` to `n - 1`, for an `n` that no sequence is longer
    /// than: `2 n - 1` in all.
    pub buckets: Vec<usize>,
    /// Factor on both products.
    pub scale: f64,
}

/// How the weight of an affine map is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// [out, in], as torch's `nn.Linear`.
    OutIn,
    /// [in, out], as GPT-2's `Conv1D`.
    InOut,
}

/// How the halves of a gated feed-forward layer are made into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `gate σ(gate) · up` (Llama)
    Silu,
    /// `gate Φ(gate) · up` (Shazeer, 2020)
    Gelu,
    /// The same with Φ by tanh (Gemma).
    GeluTanh,
}

/// Which columns of a head rotary embeddings turn against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Column i of the first half with column i of the second (GPT-NeoX, Llama).
    Halves,
    /// Columns 2i and 2i + 1 (GPT-J).
    Interleaved,
}

/// The last layer: `logits = rows · weightᵀ + bias`, capped where that is asked for.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// [vocab, dim]; the input embeddings when the two are tied.
    pub weight: Tensor<2>,
    /// `[vocab]`
    pub bias: Option<Tensor<1>>,
    /// `cap · tanh(logit / cap)` takes the place of a logit (Gemma 2).
    pub softcap: Option<f64>,
    /// Whether nobody asks for the weight's gradient, a product as large as that of the logits.
    pub frozen: bool,
}

impl Decoder {
    /// A projection without a cap.
    pub fn new(weight: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        Self { weight, bias, softcap: None, frozen: false }
    }

    /// Rows whose logits fit the piece size.
    pub(super) fn piece(&self) -> usize {
        const VALUES: usize = 1 << 24;
        (VALUES / self.weight.dims()[0].max(1)).clamp(1, 4096)
    }
}

/// What an evaluation wants to know of predicted rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Sum of the cross-entropies, in nats; smoothed where that was asked for.
    pub loss_sum: f64,
    /// Rows whose most likely token is the target.
    pub correct: usize,
    /// Rows in all.
    pub count: usize,
}

/// A loss whose gradients are known already.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The loss, `[1]`, outside autodiff.
    pub value: Tensor<1>,
    /// A tensor `[1]` with the gradients; its value means nothing, and nothing may be computed from it.
    pub(super) carrier: Tensor<1>,
}

impl Loss {
    /// The loss, and the gradients of what it was computed from.
    pub fn backward(self) -> (Tensor<1>, Gradients) {
        let gradients = self.carrier.backward();
        (self.value, gradients)
    }
}

/// The numbers of one AdamW update, by Python's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Rate of the step.
    pub learning_rate: f64,
    /// Decay of the mean.
    pub beta1: f64,
    /// Decay of the mean square.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Decoupled weight decay, times the rate.
    pub weight_decay: f64,
    /// Number of the step, from 1.
    pub step: i32,
    /// Factor on the gradient, of clipping.
    pub factor: f64,
}
