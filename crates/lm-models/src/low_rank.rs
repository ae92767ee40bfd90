//! Low-rank adaptation (LoRA; Hu et al., 2021) of one weight: `W + s·B·A` with few rows in A and few columns in B.
//!
//! A pair is attached to the parameter that it adapts (Burn's reparameterization), so no architecture knows of it. Layers
//! add `s·B·A·dropout(x)` beside their own product; whatever else reads the parameter gets the sum.

use burn::module::{Module, Param, ParamId, Reparameterization, Reparameterizer};
use burn::tensor::{Device, Int, Tensor};

use crate::inputs::Mode;
use crate::ops;
use crate::parameters::{Initial, Kind, Layer, Made, ParameterInfo};

/// What a pair is like, said before it is attached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rank {
    /// Rows of A and columns of B.
    pub r: usize,
    /// Factor on their product: `alpha / r`, or `alpha / √r` for a rank-stabilized one.
    pub scale: f64,
    /// Of what A is given.
    pub dropout: f64,
    /// Whether A starts normal with standard deviation `1 / r` in place of torch's start of a linear layer.
    pub gaussian: bool,
}

/// The pair of one weight.
#[derive(Module, Debug)]
pub struct LowRank {
    /// [r, in]; of a table of `count` vectors, [r, count]
    lora_a: Param<Tensor<2>>,
    /// [out, r]
    lora_b: Param<Tensor<2>>,
    #[module(skip)]
    layer: Layer,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    dropout: f64,
}

/// What follows a module's path in the names of its pair, A's and B's, as peft has it.
fn suffixes(layer: Layer) -> [&'static str; 2] {
    match layer {
        Layer::Embedding => ["lora_embedding_A", "lora_embedding_B"],
        Layer::Linear | Layer::Conv1D => ["lora_A.weight", "lora_B.weight"],
    }
}

impl LowRank {
    /// A pair for the weight `of`, which belongs to a layer of this kind, and what is to be known of its two parameters.
    pub(crate) fn new(of: &ParameterInfo, layer: Layer, rank: Rank, device: &Device) -> (Self, [(ParamId, Made); 2]) {
        let (inputs, outputs) = match layer {
            Layer::Linear => (of.shape[1], of.shape[0]),
            Layer::Conv1D | Layer::Embedding => (of.shape[0], of.shape[1]),
        };
        // kaiming_uniform_ with a = √5 is uniform by the inputs.
        let down = match rank.gaussian {
            true => Initial::Normal(1.0 / rank.r as f64),
            false => Initial::Uniform(1.0 / (inputs as f64).sqrt()),
        };
        let starts = match layer {
            Layer::Embedding => [Initial::Zeros, Initial::Normal(1.0)],
            Layer::Linear | Layer::Conv1D => [down, Initial::Zeros],
        };
        let factor = |shape: [usize; 2], initial| {
            let id = ParamId::new();
            let zeros =
                move |device: &Device, require_grad| Tensor::zeros(shape, device).set_require_grad(require_grad);
            let made = Made { kind: Kind::LowRank, decays: true, initial, trainable: true };
            (Param::uninitialized(id, zeros, device.clone(), true, shape.into()), (id, made))
        };
        let (lora_a, of_a) = factor([rank.r, inputs], starts[0]);
        let (lora_b, of_b) = factor([outputs, rank.r], starts[1]);
        (Self { lora_a, lora_b, layer, scale: rank.scale, dropout: rank.dropout }, [of_a, of_b])
    }

    /// The pair that is attached to a parameter.
    pub fn of(weight: &Param<Tensor<2>>) -> Option<&Self> {
        weight.reparameterization()
    }

    /// `y + s·B·A·dropout(x)`; [rows, out] and [rows, in] → [rows, out]
    pub fn add(&self, y: Tensor<2>, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let down = ops::linear(ops::dropout(x, self.dropout, mode), self.lora_a.val(), None, mode);
        self.up(y, down, mode)
    }

    /// The same for several weights that are multiplied with the same x, which is kept for the backward pass once: their A
    /// are one matrix, unless each has a dropout of its own.
    pub fn add_each<const N: usize>(
        pairs: [Option<&Self>; N],
        y: [Tensor<2>; N],
        x: Tensor<2>,
        mode: &Mode,
    ) -> [Tensor<2>; N] {
        let all: Vec<&Self> = pairs.iter().copied().flatten().collect();
        let mut pairs = pairs.into_iter();
        if all.len() < 2 || all.iter().any(|pair| pair.dropout > 0.0) {
            return y.map(|y| match pairs.next().flatten() {
                Some(pair) => pair.add(y, x.clone(), mode),
                None => y,
            });
        }
        let a = Tensor::cat(all.iter().map(|pair| pair.lora_a.val()).collect(), 0);
        let down = ops::linear(x, a, None, mode);
        let mut first = 0;
        y.map(|y| match pairs.next().flatten() {
            Some(pair) => {
                let r = pair.lora_a.dims()[0];
                first += r;
                pair.up(y, down.clone().narrow(1, first - r, r), mode)
            }
            None => y,
        })
    }

    /// `y + s·B·down`
    fn up(&self, y: Tensor<2>, down: Tensor<2>, mode: &Mode) -> Tensor<2> {
        y + ops::linear(down * self.scale, self.lora_b.val(), None, mode)
    }

    /// Adds to vectors that were looked up what the pair has for them; [rows, dim] and `[rows]` → [rows, dim]
    pub fn add_looked_up(&self, vectors: Tensor<2>, ids: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let down = ops::embedding(self.lora_a.val().transpose(), ids, mode);
        let dtype = vectors.dtype();
        vectors + ops::linear(down * self.scale, self.lora_b.val(), None, mode).cast(dtype)
    }

    /// What the weight becomes larger by, in its own layout.
    fn delta(&self) -> Tensor<2> {
        let product = self.lora_b.val().matmul(self.lora_a.val()) * self.scale;
        match self.layer {
            Layer::Linear => product,
            Layer::Conv1D | Layer::Embedding => product.transpose(),
        }
    }
}

impl Reparameterization for LowRank {
    const NAME: &'static str = "low_rank";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.dims();
        ops::widen(base) + self.delta().reshape(shape)
    }
}

/// The name of a pair's parameter from the parts of its path, which ends in the weight's field, [`LowRank::NAME`] and the
/// pair's own field; none for any other parameter.
pub(crate) fn name_in_pair(parts: &[&str], layer: Option<Layer>) -> Option<String> {
    let [module @ .., _weight, LowRank::NAME, field] = parts else { return None };
    let [a, b] = suffixes(layer?);
    let own = if *field == "lora_a" { a } else { b };
    Some(module.iter().chain([&own]).copied().collect::<Vec<_>>().join("."))
}

/// Attaches pairs to the parameters with these identities.
pub(crate) struct Attach(pub std::collections::HashMap<ParamId, LowRank>);

impl Reparameterizer for Attach {
    type Reparam = LowRank;

    fn reparameterize<const D: usize>(
        &mut self,
        _path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRank>) {
        let pair = self.0.remove(&param.id);
        (param, pair)
    }
}
