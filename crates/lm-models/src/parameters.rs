//! What the parameters of a model are: each has a name, a shape, a kind and a way to start, and the block that makes it
//! says so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use lm_random::{Purpose, Stream};
use rayon::prelude::*;

/// What a parameter is for. The optimizer, the count of operations and adapters go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Of a projection; multiplied with hidden states.
    Weight,
    /// Added to something.
    Bias,
    /// Scale or shift of a normalisation.
    Norm,
    /// A table in which vectors are looked up.
    Embedding,
    /// The projection to the vocabulary, where it is not the word embeddings.
    Head,
    /// One of the two that adapt a weight (LoRA).
    LowRank,
}

/// Layers whose weight can be adapted, by how it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// [out, in], torch's `nn.Linear`.
    Linear,
    /// [in, out], GPT-2's `Conv1D`.
    Conv1D,
    /// [count, dim], torch's `nn.Embedding`.
    Embedding,
}

impl Kind {
    /// Whether weight decay applies, unless names mislead Python ([`Builder::without_decay`]).
    fn decays(self) -> bool {
        !matches!(self, Self::Bias | Self::Norm)
    }
}

/// How a new parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Normal with mean 0, but nothing further from it than `cutoff` times `std` (`torch.nn.init.trunc_normal_`).
    TruncatedNormal {
        /// Standard deviation of the normal distribution that is cut off.
        std: f64,
        /// Where it is cut off, in standard deviations.
        cutoff: f64,
    },
    /// Normal, but row `zero_row` (the padding token's) is zero.
    NormalExceptRow {
        /// Standard deviation.
        std: f64,
        /// The row left at zero.
        zero_row: usize,
    },
    /// Uniform between minus and plus this bound: torch's layers that `_init_weights` leaves alone.
    Uniform(f64),
    /// sin(p / 10000^(2i/d)) at column 2i of row p, the cosine at column 2i+1 (Vaswani et al., 2017, 3.5).
    Sinusoidal,
    /// The same with all sines before all cosines.
    SinusoidalHalves,
}

impl Initial {
    /// The initial values of the parameter called `name`: a function of the seed and the name alone, so the order in
    /// which a model lists its parameters, or which of them a checkpoint provides, changes nothing.
    pub fn values(self, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
        let len = shape.iter().product();
        let width = shape.last().copied().unwrap_or(1).max(1);
        match self {
            Self::Zeros => vec![0.0; len],
            Self::Ones => vec![1.0; len],
            Self::Normal(std) => normal(name, len, seed, std, f64::INFINITY),
            Self::TruncatedNormal { std, cutoff } => normal(name, len, seed, std, cutoff),
            Self::NormalExceptRow { std, zero_row } => {
                let mut values = normal(name, len, seed, std, f64::INFINITY);
                if let Some(row) = values.chunks_exact_mut(width).nth(zero_row) {
                    row.fill(0.0);
                }
                values
            }
            Self::Uniform(bound) => draws(name, len, seed, |stream| ((2.0 * stream.next_f64() - 1.0) * bound) as f32),
            Self::Sinusoidal => sinusoids(len, width, |column| (column - column % 2, column % 2 == 1)),
            Self::SinusoidalHalves => {
                let half = width.div_ceil(2);
                sinusoids(len, width, |column| (2 * (column % half), column >= half))
            }
        }
    }
}

/// `of_column` says the exponent of a column, times the width, and whether there is a cosine.
fn sinusoids(len: usize, width: usize, of_column: impl Fn(usize) -> (usize, bool)) -> Vec<f32> {
    let value = |index: usize| {
        let (exponent, cosine) = of_column(index % width);
        let angle = (index / width) as f64 / 10000f64.powf(exponent as f64 / width as f64);
        (if cosine { angle.cos() } else { angle.sin() }) as f32
    };
    (0..len).map(value).collect()
}

/// Normal values; those further than `cutoff` standard deviations from 0 are drawn again.
fn normal(name: &str, len: usize, seed: u64, std: f64, cutoff: f64) -> Vec<f32> {
    let draw = |stream: &mut Stream| loop {
        let value = stream.normal();
        if f64::from(value.abs()) <= cutoff {
            break value * std as f32;
        }
    };
    draws(name, len, seed, draw)
}

/// Independent draws, a function of seed and name.
fn draws(name: &str, len: usize, seed: u64, draw: impl Fn(&mut Stream) -> f32 + Sync) -> Vec<f32> {
    const CHUNK: usize = 4096;
    let index = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    let mut values = vec![0.0; len];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut stream = Stream::new(seed, Purpose::Init, chunk as u64, index);
        values.iter_mut().for_each(|value| *value = draw(&mut stream));
    });
    values
}

/// What the block that makes a parameter says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) kind: Kind,
    pub(crate) decays: bool,
    pub(crate) initial: Initial,
    pub(crate) trainable: bool,
}

/// Makes the parameters of a new model, and keeps what is said of each. Blocks are built by it, so that no parameter is
/// without a kind and an initial value.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    device: Device,
    std: f64,
    /// Whether names let weights and embeddings decay.
    decays: bool,
    /// Where normal values are cut off, in standard deviations.
    cutoff: Option<f64>,
    /// By identity, which a parameter keeps when it is updated, cloned or moved to another device.
    made: Rc<RefCell<HashMap<ParamId, Made>>>,
}

impl Builder {
    /// For a model on `device` whose weights start with the standard deviation `initializer_range`.
    pub fn new(device: &Device, initializer_range: f64) -> Self {
        Self { device: device.clone(), std: initializer_range, decays: true, cutoff: None, made: Rc::default() }
    }

    /// The same builder for a part of the model whose weights start with another standard deviation.
    pub fn with_std(&self, std: f64) -> Self {
        Self { std, ..self.clone() }
    }

    /// The same builder for a part of the model that never decays, whatever its parameters are: Python's Trainer goes by
    /// names (`get_decay_parameter_names`), and takes `relative_attention_bias` for a bias and all of
    /// `roberta_prelayernorm` for norms.
    pub fn without_decay(&self) -> Self {
        Self { decays: false, ..self.clone() }
    }

    /// The same builder with weights that start no further from 0 than so many standard deviations.
    pub fn with_cutoff(&self, cutoff: f64) -> Self {
        Self { cutoff: Some(cutoff), ..self.clone() }
    }

    /// The usual start of a weight.
    pub fn normal(&self) -> Initial {
        let std = self.std;
        self.cutoff.map_or(Initial::Normal(std), |cutoff| Initial::TruncatedNormal { std, cutoff })
    }

    /// The start of torch's linear and convolutional layers, whose results have so many inputs.
    pub fn uniform_by_inputs(&self, inputs: usize) -> Initial {
        Initial::Uniform(1.0 / (inputs.max(1) as f64).sqrt())
    }

    /// The same, with zeros in the row of the padding token.
    pub fn normal_except_row(&self, zero_row: usize) -> Initial {
        Initial::NormalExceptRow { std: self.std, zero_row }
    }

    /// A weight that starts as usual.
    pub fn weight<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        self.parameter(shape, Kind::Weight, self.normal())
    }

    /// A bias that starts at zero.
    pub fn bias(&self, len: usize) -> Param<Tensor<1>> {
        self.parameter([len], Kind::Bias, Initial::Zeros)
    }

    /// Any parameter. It takes no memory until it gets its values, from a checkpoint or by `initial`.
    pub fn parameter<const D: usize>(&self, shape: [usize; D], kind: Kind, initial: Initial) -> Param<Tensor<D>> {
        let id = ParamId::new();
        let decays = self.decays && kind.decays();
        self.made.borrow_mut().insert(id, Made { kind, decays, initial, trainable: true });
        let zeros = move |device: &Device, require_grad| Tensor::zeros(shape, device).set_require_grad(require_grad);
        Param::uninitialized(id, zeros, self.device.clone(), true, shape.into())
    }

    /// What was said of all parameters so far.
    pub(crate) fn made(&self) -> HashMap<ParamId, Made> {
        self.made.borrow().clone()
    }
}

/// What is known of a parameter besides its value.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterInfo {
    /// The Hugging Face name, as in the safetensors file.
    pub name: String,
    /// The shape on disk and in memory.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: Kind,
    /// Whether weight decay applies: not to biases and norms, as in Python's Trainer.
    pub decays: bool,
    /// How it starts in a new model.
    pub initial: Initial,
    /// The layer whose weight it is, if that is one that can be adapted.
    pub layer: Option<Layer>,
    /// Whether training moves it; what is frozen has no gradient.
    pub trainable: bool,
}

impl ParameterInfo {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values it starts with.
    pub fn initial_values(&self, seed: u64) -> Vec<f32> {
        self.initial.values(&self.name, &self.shape, seed)
    }

    /// Values, row-major, in its shape.
    pub(crate) fn data(&self, values: Vec<f32>) -> TensorData {
        TensorData::new(values, self.shape.clone())
    }
}

/// A parameter's value at a moment; the training that goes on does not change it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Name and shape.
    pub info: ParameterInfo,
    /// The values, flattened, outside autodiff.
    pub tensor: Tensor<1>,
}
