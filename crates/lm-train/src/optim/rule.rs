//! What an update rule is.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, IntDType, Tensor, TensorData};
use lm_models::ops::{self, AdamWStep, Compute, Quantized};
use lm_models::parameters::Kind;

/// The numbers of an update rule, by Python's names.
#[derive(Clone, Copy, Debug)]
pub struct Hyperparameters {
    /// `--adam_beta1`
    pub adam_beta1: f64,
    /// `--adam_beta2`
    pub adam_beta2: f64,
    /// `--adam_epsilon`
    pub adam_epsilon: f64,
    /// `--weight_decay`, on the parameters that [`Kind::decays`] says.
    pub weight_decay: f64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self { adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// An update rule.
pub struct Rule {
    /// What is kept for a parameter of this shape and kind.
    pub slots: fn(&[usize], Kind) -> &'static [Slot],
    /// The parameter, flattened, moved against its gradient, whose slots are updated.
    pub update: fn(Tensor<1>, Tensor<1>, &mut Slots, &Update) -> Tensor<1>,
}

/// One step of one parameter.
pub struct Update<'a> {
    /// The parameter's shape.
    pub shape: &'a [usize],
    /// What the parameter is.
    pub kind: Kind,
    /// Steps of the parameter, this one counted.
    pub step: i32,
    /// What the gradient is multiplied with.
    pub factor: f64,
    pub learning_rate: f64,
    /// With the decay of this parameter.
    pub hyper: Hyperparameters,
    /// By which operations.
    pub compute: Compute,
    /// What AdamW does with all parameters of the step.
    pub adamw: &'a RefCell<AdamWStep>,
}

impl Update<'_> {
    /// The gradient times its factor.
    pub fn scaled(&self, g: Tensor<1>) -> Tensor<1> {
        if self.factor == 1.0 { g } else { g * self.factor }
    }

    /// Parameter, mean and mean square moved by AdamW, not to be looked at before the step ends.
    pub fn by_adamw(&self, [p, m, v, g]: [Tensor<1>; 4]) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        self.adamw.borrow_mut().add([p, m, v, g], self.numbers(), self.compute)
    }

    /// What AdamW goes by.
    pub fn numbers(&self) -> ops::AdamW {
        ops::AdamW {
            learning_rate: self.learning_rate,
            beta1: self.hyper.adam_beta1,
            beta2: self.hyper.adam_beta2,
            epsilon: self.hyper.adam_epsilon,
            weight_decay: self.hyper.weight_decay,
            step: self.step,
            factor: self.factor,
        }
    }

    /// The gradient times its factor, and the decay as a part of it, as torch's optimizers before AdamW have it.
    pub fn with_decay(&self, g: Tensor<1>, p: &Tensor<1>) -> Tensor<1> {
        let (g, decay) = (self.scaled(g), self.hyper.weight_decay);
        if decay == 0.0 { g } else { g + p.clone() * decay }
    }
}

/// A tensor that is kept for a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Its name in checkpoints, which is that in Python's.
    pub name: &'static str,
    /// What it is.
    pub layout: Layout,
}

impl Slot {
    /// A number for each of the parameter's values.
    pub const fn whole(name: &'static str) -> Self {
        Self { name, layout: Layout::Whole }
    }
}

/// Type and shape of what is kept for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// float32, of the parameter's shape.
    Whole,
    /// float32, one for each row of a matrix.
    Rows,
    /// float32, one for each column of a matrix.
    Columns,
    /// Unsigned bytes, of the parameter's shape.
    Codes,
    /// float32, one for each block of [`Layout::Codes`].
    Blocks,
}

impl Layout {
    /// As torch shapes it.
    pub fn shape(self, parameter: &[usize]) -> Vec<usize> {
        match (self, parameter) {
            (Self::Rows, [outer @ .., _]) => outer.to_vec(),
            (Self::Columns, [outer @ .., _, columns]) => [outer, &[*columns]].concat(),
            (Self::Blocks, _) => vec![Quantized::blocks(count(parameter))],
            _ => parameter.to_vec(),
        }
    }

    /// Number of values.
    pub fn len(self, parameter: &[usize]) -> usize {
        count(&self.shape(parameter))
    }

    /// Bytes of all values.
    pub fn bytes(self, parameter: &[usize]) -> u64 {
        let each = if self == Self::Codes { 1 } else { 4 };
        (self.len(parameter) as u64).saturating_mul(each)
    }
}

/// Values of a tensor, however large.
pub(super) fn count(shape: &[usize]) -> usize {
    shape.iter().fold(1, |len, &size| len.saturating_mul(size))
}

/// A tensor of the state, `[values]`.
#[derive(Clone)]
pub enum Kept {
    /// float32
    Float(Tensor<1>),
    /// Unsigned bytes.
    Codes(Tensor<1, Int>),
}

impl Kept {
    /// What a checkpoint has of a tensor of this layout.
    pub fn new(data: TensorData, layout: Layout, device: &Device) -> Self {
        match layout {
            Layout::Codes => Self::Codes(Tensor::from_data(data, (device, IntDType::U8.into()))),
            _ => Self::Float(Tensor::from_data(data, device)),
        }
    }

    /// Out of the bytes that [`Self::to_data`] has.
    pub fn from_bytes(bytes: Vec<u8>, is_codes: bool, device: &Device) -> Self {
        let (layout, dtype) = if is_codes { (Layout::Codes, DType::U8) } else { (Layout::Whole, DType::F32) };
        let len = bytes.len() / dtype.size();
        Self::new(TensorData::from_bytes_vec(bytes, [len], dtype), layout, device)
    }

    /// The values.
    pub fn to_data(&self) -> TensorData {
        match self {
            Self::Float(tensor) => tensor.to_data(),
            Self::Codes(tensor) => tensor.to_data(),
        }
    }
}

/// The state's tensors of one parameter.
#[derive(Clone, Default)]
pub struct Slots(BTreeMap<&'static str, Kept>);

impl Slots {
    /// Takes the tensor out: zeros before the parameter's first step.
    pub fn take(&mut self, name: &'static str, layout: Layout, update: &Update, device: &Device) -> Tensor<1> {
        match self.0.remove(name) {
            Some(Kept::Float(tensor)) => tensor,
            _ => ops::zeros(layout.len(update.shape), device, update.compute),
        }
    }

    /// Takes a tensor of the parameter's size out.
    pub fn take_whole(&mut self, name: &'static str, update: &Update, device: &Device) -> Tensor<1> {
        self.take(name, Layout::Whole, update, device)
    }

    /// Takes a tensor of 8 bits out, whose parts have these names.
    pub fn take_quantized(
        &mut self,
        [codes, absmax]: [&'static str; 2],
        update: &Update,
        device: &Device,
    ) -> Quantized {
        match (self.0.remove(codes), self.0.remove(absmax)) {
            (Some(Kept::Codes(codes)), Some(Kept::Float(absmax))) => Quantized { codes, absmax },
            _ => Quantized::zeros(count(update.shape), device),
        }
    }

    /// Keeps it for the next step.
    pub fn put(&mut self, name: &'static str, tensor: Tensor<1>) {
        self.insert(name, Kept::Float(tensor));
    }

    /// Keeps a tensor of 8 bits.
    pub fn put_quantized(&mut self, [codes, absmax]: [&'static str; 2], tensor: Quantized) {
        self.insert(codes, Kept::Codes(tensor.codes));
        self.put(absmax, tensor.absmax);
    }

    /// Keeps what a checkpoint has.
    pub fn insert(&mut self, name: &'static str, kept: Kept) {
        self.0.insert(name, kept);
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Kept> {
        self.0.get(name)
    }
}
