//! What a model is, whatever its architecture: a way from a batch to logits, and parameters with names.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::cache::Causal;
use crate::inputs::{Mode, ModelInputs};
use crate::ops::Decoder;
use crate::parameters::{Builder, Made, ParameterInfo, Snapshot};
use crate::stages::Stages;

/// What an architecture is trained for, one binary each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Masked language modelling: `run_mlm`.
    Mlm,
    /// Causal language modelling: `run_clm`.
    Clm,
    /// Permutation language modelling: `run_plm`.
    Plm,
}

impl Task {
    /// All three.
    pub const ALL: &[Self] = &[Self::Mlm, Self::Clm, Self::Plm];

    /// The program that trains it.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Mlm => "run_mlm",
            Self::Clm => "run_clm",
            Self::Plm => "run_plm",
        }
    }

    /// "masked language" and so on, to stand before "model".
    pub fn noun(self) -> &'static str {
        match self {
            Self::Mlm => "masked language",
            Self::Clm => "causal language",
            Self::Plm => "permutation language",
        }
    }
}

/// What an architecture says of itself; all else follows from its being a module. A parameter's name is the path of field
/// names down to it.
pub(crate) trait Architecture: Module + Sync + 'static {
    /// Fields whose names differ from those in the files, `(field, name)`: `self` is no Rust field name, `LayerNorm` no
    /// conventional one. A name may be a path, or nothing where the files have no such part.
    const RENAMES: &'static [(&'static str, &'static str)] = &[];

    /// The way from a batch to the rows to decode. `mode` gives the random choices that all layers share; the others
    /// are made while the stages run.
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a>;

    /// The projection to the vocabulary.
    fn decoder(&self) -> Decoder;

    /// The model as one that can continue a text, if it is.
    fn causal(&self) -> Option<&dyn Causal> {
        None
    }
}

/// A parameter while it is visited.
pub trait Parameter {
    /// Name, shape, kind.
    fn info(&self) -> &ParameterInfo;

    /// Its values, flattened, outside autodiff.
    fn value(&self) -> Tensor<1>;

    /// Its gradient, flattened; none where the loss does not depend on it.
    fn take_gradient(&self, gradients: &mut Gradients) -> Option<Tensor<1>>;
}

/// Gives a parameter's new values from its present ones, flattened and outside autodiff.
type Update<'a> = &'a mut dyn FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>;

/// Gives a parameter's new values whatever it holds; none leaves it as it is.
type Fill<'a> = &'a mut dyn FnMut(&ParameterInfo) -> Option<Vec<f32>>;

/// An `Architecture` with its type erased.
pub trait Model: Debug + Send + Sync {
    /// See `Architecture::stages`.
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a>;

    /// See `Architecture::decoder`.
    fn decoder(&self) -> Decoder;

    /// See `Architecture::causal`.
    fn causal(&self) -> Option<&dyn Causal>;

    /// Shows every parameter, in the order of the module's fields.
    fn visit(&self, see: &mut dyn FnMut(&dyn Parameter));

    /// Replaces every parameter's values, in the same order.
    fn map(self: Box<Self>, update: Update) -> Box<dyn Model>;

    /// The same, where the present values do not matter: those never needed are not made.
    fn fill(self: Box<Self>, fill: Fill) -> Box<dyn Model>;

    /// The model without autodiff, for evaluation.
    fn valid(&self) -> Box<dyn Model>;

    /// The model on another device, a leaf of autodiff there.
    fn fork(self: Box<Self>, device: &Device) -> Box<dyn Model>;

    /// A copy; tensors are shared until one side changes.
    fn boxed(&self) -> Box<dyn Model>;
}

/// A model of any architecture.
#[derive(Debug)]
pub struct AutoModel(Box<dyn Model>);

impl Clone for AutoModel {
    fn clone(&self) -> Self {
        Self(self.0.boxed())
    }
}

impl Deref for AutoModel {
    type Target = dyn Model;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl AutoModel {
    /// A model whose parameters `builder` made.
    pub(crate) fn new(module: impl Architecture, builder: &Builder) -> Self {
        Self(Box::new(Erased { module, made: Arc::new(builder.made()) }))
    }

    /// The rows to decode, [predicted, dim], for [`Decoder::logits`] or [`crate::ops::cross_entropy`].
    pub fn forward(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        self.stages(inputs, mode).forward(mode)
    }

    /// Names, shapes and kinds of all parameters, in visiting order.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let mut parameters = Vec::new();
        self.visit(&mut |parameter| parameters.push(parameter.info().clone()));
        parameters
    }

    /// All parameters as they are now, in visiting order. Tensors are shared, not copied, until one side changes.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let mut taken = Vec::new();
        self.visit(&mut |parameter| {
            taken.push(Snapshot { info: parameter.info().clone(), tensor: parameter.value() });
        });
        taken
    }

    /// Replaces every parameter's values, flattened and outside autodiff.
    pub fn map(self, mut update: impl FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>) -> Self {
        Self(self.0.map(&mut update))
    }

    /// Gives every parameter its values. What it held before is not looked at, nor made if it was never needed.
    pub fn fill<E>(self, mut values: impl FnMut(&ParameterInfo) -> Result<Vec<f32>, E>) -> Result<Self, E> {
        let mut failed = None;
        let filled = self.0.fill(&mut |info| match failed {
            Some(_) => None,
            None => values(info).map_err(|error| failed = Some(error)).ok(),
        });
        failed.map_or(Ok(Self(filled)), Err)
    }

    /// The model without autodiff, for evaluation.
    pub fn valid(&self) -> Self {
        Self(self.0.valid())
    }

    /// The model on another device, a leaf of autodiff there.
    pub fn fork(self, device: &Device) -> Self {
        Self(self.0.fork(device))
    }
}

/// An architecture, and what was said of its parameters when they were made.
#[derive(Clone, Debug)]
struct Erased<M> {
    module: M,
    made: Arc<HashMap<ParamId, Made>>,
}

impl<M: Architecture> Erased<M> {
    fn path(&self) -> Path {
        Path { parts: Vec::new(), renames: M::RENAMES, made: Arc::clone(&self.made) }
    }

    fn with(self, change: impl FnOnce(M) -> M) -> Box<dyn Model> {
        Box::new(Self { module: change(self.module), made: self.made })
    }
}

impl<M: Architecture> Model for Erased<M> {
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a> {
        self.module.stages(inputs, mode)
    }

    fn decoder(&self) -> Decoder {
        self.module.decoder()
    }

    fn causal(&self) -> Option<&dyn Causal> {
        self.module.causal()
    }

    fn visit(&self, see: &mut dyn FnMut(&dyn Parameter)) {
        self.module.visit(&mut Visitor { path: self.path(), see });
    }

    fn map(self: Box<Self>, update: Update) -> Box<dyn Model> {
        let path = self.path();
        self.with(|module| module.map(&mut Updater { path, update }))
    }

    fn fill(self: Box<Self>, fill: Fill) -> Box<dyn Model> {
        let path = self.path();
        self.with(|module| module.map(&mut Filler { path, fill }))
    }

    fn valid(&self) -> Box<dyn Model> {
        Box::new(Self { module: self.module.valid(), made: Arc::clone(&self.made) })
    }

    fn fork(self: Box<Self>, device: &Device) -> Box<dyn Model> {
        self.with(|module| module.fork(device))
    }

    fn boxed(&self) -> Box<dyn Model> {
        Box::new(self.clone())
    }
}

/// Follows the module tree and spells names.
struct Path {
    parts: Vec<String>,
    renames: &'static [(&'static str, &'static str)],
    made: Arc<HashMap<ParamId, Made>>,
}

impl Path {
    fn enter(&mut self, name: &str) {
        let theirs = self.renames.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| *theirs);
        self.parts.push(theirs.to_owned());
    }

    fn exit(&mut self) {
        self.parts.pop();
    }

    fn info<const D: usize>(&self, param: &Param<Tensor<D>>) -> ParameterInfo {
        let Some(&Made { kind, decays, initial }) = self.made.get(&param.id) else {
            unreachable!("every parameter is made by the model's builder: {}", self.parts.join("."))
        };
        // The shape alone: a value that was never needed is not made for this.
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        ParameterInfo { name: parts.join("."), shape: param.lazy_shape().to_vec(), kind, decays, initial }
    }
}

struct Visited<'a, const D: usize> {
    info: ParameterInfo,
    param: &'a Param<Tensor<D>>,
}

impl<const D: usize> Parameter for Visited<'_, D> {
    fn info(&self) -> &ParameterInfo {
        &self.info
    }

    fn value(&self) -> Tensor<1> {
        let tensor = self.param.val();
        let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
        tensor.flatten(0, D - 1)
    }

    fn take_gradient(&self, gradients: &mut Gradients) -> Option<Tensor<1>> {
        Some(self.param.val().grad_remove(gradients)?.flatten(0, D - 1))
    }
}

struct Visitor<'a> {
    path: Path,
    see: &'a mut dyn FnMut(&dyn Parameter),
}

impl ModuleVisitor for Visitor<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        (self.see)(&Visited { info: self.path.info(param), param });
    }
}

struct Updater<'a> {
    path: Path,
    update: Update<'a>,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let info = self.path.info(&param);
        let (id, tensor, mapper) = param.consume();
        let (autodiff, shape) = (tensor.is_autodiff(), tensor.dims());
        let tensor = if autodiff { tensor.inner() } else { tensor };
        let updated = (self.update)(&info, tensor.flatten(0, D - 1)).reshape(shape);
        let updated = if autodiff { Tensor::from_inner(updated).require_grad() } else { updated };
        Param::from_mapped_value(id, updated, mapper)
    }
}

struct Filler<'a> {
    path: Path,
    fill: Fill<'a>,
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let info = self.path.info(&param);
        let Some(values) = (self.fill)(&info) else { return param };
        let device = param.lazy_device();
        let tensor = Tensor::from_data(TensorData::new(values, info.shape), &device);
        Param::initialized(param.id, tensor.set_require_grad(device.is_autodiff()))
    }
}
