//! A model's parameters by their Hugging Face names: visiting, mapping, initial values.
//!
//! A parameter's name is the path of field names down to it, with the few renames an architecture lists (`self` is no
//! Rust field name, `LayerNorm` no conventional one).

use std::collections::HashMap;
use std::convert::Infallible;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use lm_random::{Purpose, Stream};
use rayon::prelude::*;

use crate::models::AutoModel;

/// What is known of a parameter besides its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterInfo {
    /// The Hugging Face name, as in the safetensors file.
    pub name: String,
    /// The shape on disk and in memory.
    pub shape: Vec<usize>,
    /// Whether it is an embedding table, which Python leaves out of its count of floating-point operations.
    pub in_embedding: bool,
    /// Whether it belongs to a layer norm, which Python's `get_parameter_names` exempts from weight decay.
    pub in_layer_norm: bool,
}

impl ParameterInfo {
    /// Whether Python's Trainer (4.57, `get_decay_parameter_names`) applies weight decay: not to layer norms, and not
    /// to names that contain `bias`, `layernorm` or `rmsnorm` or have a part that is `norm` or ends in `_norm`.
    pub fn decays(&self) -> bool {
        let name = self.name.to_lowercase();
        let exempt = ["bias", "layernorm", "rmsnorm"].iter().any(|word| name.contains(word))
            || name.split('.').any(|part| part == "norm" || part.ends_with("_norm"));
        !(self.in_layer_norm || exempt)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Called for every parameter, in the order of the module's fields.
pub trait Visit {
    /// Sees one parameter. `tensor` is the leaf of the autodiff graph when the model trains.
    fn visit<const D: usize>(&mut self, info: ParameterInfo, tensor: Tensor<D>);
}

/// Replaces every parameter, in the same order. Takes and returns plain tensors without autodiff.
pub trait Map {
    /// Gives the new value of one parameter.
    fn map<const D: usize>(&mut self, info: ParameterInfo, tensor: Tensor<D>) -> Tensor<D>;
}

/// Follows the module tree and spells names.
struct Path<'a> {
    parts: Vec<String>,
    containers: Vec<String>,
    renames: &'a [(&'a str, &'a str)],
}

impl<'a> Path<'a> {
    fn new(model: &AutoModel) -> Path<'static> {
        Path { parts: Vec::new(), containers: Vec::new(), renames: model.renames() }
    }

    fn enter(&mut self, name: &str, container: &str) {
        // The variant of `AutoModel` is ours, not a part of any name.
        let part = if container == "Enum:AutoModel" {
            ""
        } else {
            self.renames.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| *theirs)
        };
        self.parts.push(part.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.parts.pop();
        self.containers.pop();
    }

    fn info(&self, shape: Vec<usize>) -> ParameterInfo {
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let is_in = |container: &str| self.containers.iter().any(|c| c == container);
        ParameterInfo {
            name: parts.join("."),
            shape,
            in_embedding: is_in("Struct:Embedding"),
            in_layer_norm: is_in("Struct:LayerNorm"),
        }
    }
}

struct Visitor<'a, V>(Path<'a>, &'a mut V);

impl<V: Visit> ModuleVisitor for Visitor<'_, V> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.0.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.1.visit(self.0.info(param.lazy_shape().to_vec()), param.val());
    }
}

struct Mapper<'a, M>(Path<'a>, &'a mut M);

impl<M: Map> ModuleMapper for Mapper<'_, M> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.0.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let info = self.0.info(param.lazy_shape().to_vec());
        let (id, tensor, mapper) = param.consume();
        let autodiff = tensor.is_autodiff();
        let mapped = self.1.map(info, if autodiff { tensor.inner() } else { tensor });
        let mapped = if autodiff { Tensor::from_inner(mapped).require_grad() } else { mapped };
        Param::from_mapped_value(id, mapped, mapper)
    }
}

/// Visits every parameter of the model.
pub fn visit(model: &AutoModel, visit: &mut impl Visit) {
    model.visit(&mut Visitor(Path::new(model), visit));
}

/// Replaces every parameter of the model.
pub fn map(model: AutoModel, map: &mut impl Map) -> AutoModel {
    let path = Path::new(&model);
    model.map(&mut Mapper(path, map))
}

/// Names, shapes and kinds of all parameters, in visiting order.
pub fn list(model: &AutoModel) -> Vec<ParameterInfo> {
    struct List(Path<'static>, Vec<ParameterInfo>);
    impl ModuleVisitor for List {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.0.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // The shape alone: a value that was never needed is not made for this.
            self.1.push(self.0.info(param.lazy_shape().to_vec()));
        }
    }
    let mut list = List(Path::new(model), Vec::new());
    model.visit(&mut list);
    list.1
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
    /// Normal, but row `zero_row` (the padding token's) is zero.
    NormalExceptRow {
        /// Standard deviation.
        std: f64,
        /// The row left at zero.
        zero_row: usize,
    },
    /// sin(p / 10000^(2i/d)) at column 2i of row p, the cosine at column 2i+1 (Vaswani et al., 2017, 3.5).
    Sinusoidal,
}

impl Initial {
    /// The initial values of the parameter called `name`: a function of the seed and the name alone, so the order in
    /// which a model lists its parameters, or which of them a checkpoint provides, changes nothing.
    pub fn values(self, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
        let len = shape.iter().product();
        match self {
            Self::Zeros => vec![0.0; len],
            Self::Ones => vec![1.0; len],
            Self::Normal(std) => normal(name, len, seed, std),
            Self::NormalExceptRow { std, zero_row } => {
                let mut values = normal(name, len, seed, std);
                let width = shape.last().copied().unwrap_or(1);
                if let Some(row) = values.chunks_exact_mut(width.max(1)).nth(zero_row) {
                    row.fill(0.0);
                }
                values
            }
            Self::Sinusoidal => {
                let width = shape.last().copied().unwrap_or(1).max(1);
                let value = |index: usize| {
                    let (position, column) = (index / width, index % width);
                    let angle = position as f64 / 10000f64.powf((column - column % 2) as f64 / width as f64);
                    (if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
                };
                (0..len).map(value).collect()
            }
        }
    }
}

fn normal(name: &str, len: usize, seed: u64, std: f64) -> Vec<f32> {
    const CHUNK: usize = 4096;
    let index = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    let mut values = vec![0.0; len];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut stream = Stream::new(seed, Purpose::Init, chunk as u64, index);
        values.iter_mut().for_each(|v| *v = stream.normal() * std as f32);
    });
    values
}

/// Gives every parameter its values. What it held before is not looked at, nor made if it was never needed.
pub fn fill<E>(model: AutoModel, values: impl FnMut(&ParameterInfo) -> Result<Vec<f32>, E>) -> Result<AutoModel, E> {
    struct Fill<'a, F, E>(Path<'a>, F, Option<E>);
    impl<F: FnMut(&ParameterInfo) -> Result<Vec<f32>, E>, E> ModuleMapper for Fill<'_, F, E> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.0.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.2.is_some() {
                return param;
            }
            let info = self.0.info(param.lazy_shape().to_vec());
            match self.1(&info) {
                Ok(values) => {
                    let device = param.lazy_device();
                    let tensor = Tensor::from_data(TensorData::new(values, info.shape), &device);
                    Param::initialized(param.id, tensor.set_require_grad(device.is_autodiff()))
                }
                Err(error) => {
                    self.2 = Some(error);
                    param
                }
            }
        }
    }
    let mut fill = Fill(Path::new(&model), values, None);
    let model = model.map(&mut fill);
    fill.2.map_or(Ok(model), Err)
}

/// Gives every parameter the initial value that Python's `_init_weights` would draw it from.
pub fn initialize(model: AutoModel, seed: u64) -> AutoModel {
    let kinds = initial_values(&model);
    let filled = fill(model, |info| Ok::<_, Infallible>(kinds[&info.name].values(&info.name, &info.shape, seed)));
    filled.unwrap_or_else(|never| match never {})
}

/// How each parameter starts, by name.
pub fn initial_values(model: &AutoModel) -> HashMap<String, Initial> {
    list(model).into_iter().map(|info| (info.name.clone(), model.initial_value(&info))).collect()
}

/// A parameter's value at a moment; the training that goes on does not change it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Name and shape.
    pub info: ParameterInfo,
    /// The values, flattened, outside autodiff.
    pub tensor: Tensor<1>,
}

/// All parameters as they are now, in visiting order. Tensors are shared, not copied, until one side changes.
pub fn snapshot(model: &AutoModel) -> Vec<Snapshot> {
    struct Take(Vec<Snapshot>);
    impl Visit for Take {
        fn visit<const D: usize>(&mut self, info: ParameterInfo, tensor: Tensor<D>) {
            let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
            self.0.push(Snapshot { info, tensor: tensor.flatten(0, D - 1) });
        }
    }
    let mut take = Take(Vec::new());
    visit(model, &mut take);
    take.0
}
